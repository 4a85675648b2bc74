package proxywasm

import (
	"fmt"
	"slices"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// sideCalls are the callbacks of a side and what they are called in logs and traces.
type sideCalls struct {
	headers, body, trailers                callback
	headersPhase, bodyPhase, trailersPhase string
	tooLarge                               int // the status
	what                                   string
}

var sides = [...]sideCalls{
	{onRequestHeaders, onRequestBody, onRequestTrailers, "request", "request_body", "request_trailers", 413, "request"},
	{onResponseHeaders, onResponseBody, onResponseTrailers, "response", "response_body", "response_trailers", 500, "answer"},
	{body: onDownstreamData, bodyPhase: "downstream_data", trailers: callbacks, what: "client"},
	{body: onUpstreamData, bodyPhase: "upstream_data", trailers: callbacks, what: "upstream"},
}

// callsOf are the callbacks for a side of the stream.
func (s *stream) callsOf(d *side) *sideCalls {
	i := 0
	if d.answer {
		i = 1
	}
	if s.tcp {
		i += 2
	}
	return &sides[i]
}

// empty says whether a message has no body, and no trailers.
func empty(b exchange.Body, f http1.Framing) bool {
	if b == nil {
		return true
	}
	if !b.Ended() {
		return f.Kind == http1.NoBody || f.Kind == http1.Length && f.Length == 0
	}
	held, _, _ := b.Hold(0)
	t := b.Trailers()
	return len(held) == 0 && (t == nil || t.Len() == 0)
}

// showHead shows the guest a message, and waits as long as it is paused.
func (s *stream) showHead(t *netloop.Task, d *side, b exchange.Body, f http1.Framing) *fault.Error {
	c := s.callsOf(d)
	none := empty(b, f)
	end := uint64(0)
	if none {
		end = 1
	}
	d.resumed = false
	action, err := s.call(t, c.headersPhase, c.headers, uint64(s.id), uint64(s.fields(d)), end) //nolint:gosec // a few
	if err != nil || s.answered() {
		return err
	}
	held := false
	if action != actionContinue && action != actionEndStream && !d.resumed {
		if held = !s.stopsAll(action); !held {
			if err := s.wait(t, d, false); err != nil || s.answered() {
				return err
			}
		}
	}
	if !none && (s.vm.has(c.body) || s.vm.has(c.trailers)) {
		return s.showBody(t, d, b, f, held)
	}
	if held {
		return s.wait(t, d, false)
	}
	return nil
}

// showBody shows the guest a body: what is held of it at once, the rest on its way. held: the head waits for it.
func (s *stream) showBody(t *netloop.Task, d *side, b exchange.Body, f http1.Framing, held bool) *fault.Error {
	short := f.Kind == http1.Length && f.Length <= wholeBody
	if d.answer && !held && !short && !b.Ended() {
		b.Stage(s.newStage(d, f))
		return nil
	}
	most, left := 0, 0
	if short {
		most = wholeBody
	}
	for {
		data, whole, err := b.Hold(most)
		if err != nil {
			return err
		}
		if d.paused && d.resumed { // by a tick, or another stream's callback, while we waited for more
			d.skip, d.paused = left, false
			b.Stage(s.newStage(d, f))
			return nil
		}
		d.body, d.shown, d.changed = data, true, false
		goOn, err := s.showHeld(t, d, b, whole)
		left = len(d.body)
		d.hide()
		switch {
		case err != nil || s.answered():
			return err
		case !goOn:
			d.paused = true
			if most = left; most > s.plugin.core.options.MaxBody {
				return s.tooLarge(d)
			}
		default:
			if !whole {
				d.skip = left
				b.Stage(s.newStage(d, f))
			}
			return nil
		}
	}
}

// hide ends the time in which the body can be seen.
func (d *side) hide() {
	d.body, d.shown, d.changed, d.own, d.trailers = nil, false, false, d.own[:0], nil
}

func (s *stream) tooLarge(d *side) *fault.Error {
	c := s.callsOf(d)
	if s.tcp {
		return fault.New(fault.BodyTooLarge, fault.Plugin, 0, "the plugin pauses, and more than %d bytes from the %s wait", s.plugin.core.options.MaxBody, c.what)
	}
	return fault.New(fault.BodyTooLarge, fault.Plugin, c.tooLarge, "the plugin pauses, and the %s's body is over %d bytes", c.what, s.plugin.core.options.MaxBody)
}

// showHeld shows the guest what is held, waits as long as that makes sense, and has the changes sent. It says whether the
// message goes on; if not, more of the body shall be read.
func (s *stream) showHeld(t *netloop.Task, d *side, b exchange.Body, whole bool) (goOn bool, err *fault.Error) {
	var trailers *http1.Head
	if whole {
		trailers = b.Trailers()
	}
	goOn, err = s.showPiece(t, d, whole, trailers)
	if d.changed && err == nil {
		b.Replace(d.body)
	}
	return goOn, err
}

// showPiece shows the guest the piece of the body in d.body, and the trailers if it is the last one.
func (s *stream) showPiece(t *netloop.Task, d *side, last bool, trailers *http1.Head) (goOn bool, err *fault.Error) {
	c := s.callsOf(d)
	behind := last && trailers != nil && trailers.Len() > 0 && s.vm.has(c.trailers)
	end := uint64(0)
	if last && !behind {
		end = 1
		d.trailers = trailers // there are none yet, and some can be added
	}
	action := uint64(actionContinue)
	d.resumed = false
	if s.vm.has(c.body) && (len(d.body) > 0 || end == 1) {
		if action, err = s.call(t, c.bodyPhase, c.body, uint64(s.id), uint64(len(d.body)), end); err != nil || s.answered() {
			return false, err
		}
		if action == actionStopNoBuffer {
			d.set(nil)
		}
	}
	if behind {
		d.trailers, d.resumed = trailers, false
		if action, err = s.call(t, c.trailersPhase, c.trailers, uint64(s.id), uint64(trailers.Len()), 0); err != nil || s.answered() { //nolint:gosec // a few
			return false, err
		}
	}
	switch {
	case action == actionContinue || d.resumed:
		return true, nil
	case last:
		err = s.wait(t, d, false)
		return true, err
	case s.calls > 0: // what they answer may decide; the rest is read when they have
		err = s.wait(t, d, true)
		return d.resumed, err
	}
	return false, nil
}

// set makes the body that callbacks see another one. b must not be part of it.
func (d *side) set(b []byte) {
	d.own = append(d.own[:0], b...)
	d.body, d.changed = d.own, true
}

// splice replaces n bytes at start by b, which must not be part of the body. Beyond the end it appends.
func (d *side) splice(start, n int, b []byte) {
	if !d.changed {
		d.own = append(d.own[:0], d.body...)
	}
	start = min(start, len(d.own))
	d.own = slices.Replace(d.own, start, start+min(n, len(d.own)-start), b...)
	d.body, d.changed = d.own, true
}

// stage shows the guest a body on its way.
type stage struct {
	stream *stream
	id     uint32 // of the stream, which may be another by now
	side   *side

	measured bool  // the body's length is announced, and the plugin has not taken that back
	promised bool  // and somebody has been told
	more     int64 // bytes that came in and did not go out
}

// newStage makes the stage for what of a body is not held.
func (s *stream) newStage(d *side, f http1.Framing) *stage {
	h := &s.x.Request.Head
	if d.answer {
		h = &s.x.Response.Head
	}
	_, announced := h.GetID(http1.FieldContentLength)
	return &stage{stream: s, id: s.id, side: d, measured: announced && f.Kind == http1.Length}
}

// Measured is exchange.Measured's: a plugin that changes the body removes content-length before.
func (g *stage) Measured() bool { return g.measured }

// Promise is exchange.Measured's.
func (g *stage) Promise() { g.promised = true }

// Chunk is exchange.Stage's.
func (g *stage) Chunk(t *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	before := len(dst)
	g.more += int64(len(data))
	dst, err := g.chunk(t, dst, data, last, trailers)
	g.more -= int64(len(dst) - before)
	if err == nil && g.promised && (last && g.more != 0 || g.more < 0) {
		return dst[:before], fault.New(fault.PluginAnswer, fault.Plugin, 503,
			"the plugin changed the length of a body that was announced: it must remove content-length when it sees the headers")
	}
	return dst, err
}

func (g *stage) chunk(t *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	s, d := g.stream, g.side
	if s.id != g.id || s.over {
		return append(dst, data...), nil
	}
	if n := min(d.skip, len(data)); n > 0 {
		dst, data, d.skip = append(dst, data[:n]...), data[n:], d.skip-n
		if len(data) == 0 && !last {
			return dst, nil
		}
	}
	if d.paused && d.resumed { // meanwhile
		dst = append(dst, d.own...)
		d.hide()
	}
	d.paused = false
	if s.failed == nil && s.vm.dead == nil {
		d.own = append(d.own, data...)
		d.body, d.shown, d.changed, data = d.own, true, true, nil
		if len(d.own) > s.plugin.core.options.MaxBody {
			return dst, s.tooLarge(d)
		}
		goOn, err := s.showPiece(t, d, last, trailers)
		switch {
		case s.id != g.id || s.over: // it ended while we waited
			return dst, fault.New(fault.ShuttingDown, fault.Gateway, 0, "the exchange is over")
		case err == nil && !s.answered():
			if !goOn {
				d.paused = true
				return dst, nil
			}
			dst = append(dst, d.own...)
			d.hide()
			return dst, nil
		case err == nil && s.failed == nil:
			return dst, s.instead(t)
		case err != nil && s.failed == nil:
			s.failed = err
		}
	}
	if _, err := s.fail(t, s.lost()); err != nil {
		return dst, fault.From(err)
	}
	dst = append(append(dst, d.own...), data...)
	d.hide()
	return dst, nil
}

// instead is the error of a body whose stream was closed or answered otherwise.
func (s *stream) instead(t *netloop.Task) *fault.Error {
	if s.closed {
		_, err := s.verdict(t, nil)
		return fault.From(err)
	}
	f := fault.New(fault.Denied, fault.Plugin, s.local.status, "the plugin answers instead")
	f.Plugin, f.Err = s.plugin.core.options.Name, &EarlyAnswer{stream: s, id: s.id}
	return f
}

// EarlyAnswer is the cause of an error by which a stage ends a request's body: the plugin answers the request, which was
// on its way to the upstream. Who finds it in an error's chain, and has sent nothing to the client, lets it answer.
type EarlyAnswer struct {
	stream *stream
	id     uint32
}

// Error says what it is.
func (e *EarlyAnswer) Error() string {
	return fmt.Sprintf("an answer with status %d", e.stream.local.status)
}

// Answer makes the plugin's answer the exchange's local one. It runs on the exchange's task, before its end.
func (e *EarlyAnswer) Answer(x *exchange.Exchange) {
	if s := e.stream; s.id == e.id && !s.over && s.local.set {
		s.local.apply(x)
		s.local.set = false
	}
}

var _ exchange.Measured = (*stage)(nil)

// outputLine is wasm.Sys.Log: a line on the guest's standard output or error.
func outputLine(in *wasm.Instance, stream int, line []byte, suppressed int64) {
	level := wasm.LogInfo
	if stream == 2 {
		level = wasm.LogError
	}
	in.Owner.(*vm).line(level, line, suppressed)
}

// line takes a line of the guest's.
func (v *vm) line(level uint32, text []byte, held int64) {
	k, loop, now := v.starter, wasm.NoLoop, int64(0)
	if c := v.effectiveContext(); c != nil && c.root != nil {
		k = c.root.core
	}
	if v.loop != nil {
		loop, now = v.loop.Index(), v.loop.Now()
	}
	phase := v.phase
	if phase == "" {
		phase = "start"
	}
	k.report.Guest(loop, now, phase, level, text, held)
}
