package httpwasm

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

const (
	// keep bounds the memory that a guest keeps for the next exchange, in bytes.
	keep = 64 << 10
	// readAway is how much of a body the guest has read, without keeping it, before it is let go.
	readAway = 32 << 10
	// peek is how much of a body is looked at that is replaced, to know whether that is all of it.
	peek = 16 << 10

	eof = 1 << 32 // of read_body
)

// message is the body of a message as the guest handles it, and its trailers.
type message struct {
	body  exchange.Body // nil: there is none to be had
	pos   int           // how much of what is held the guest has read
	lost  bool          // it has read more that is not held any more
	wrote bool
	out   []byte     // what it wrote
	fresh bool       // that was in handle_request, and stands for the answer's body now: what it writes next comes in its place
	tail  edits      // of trailers
	view  http1.Head // trailers as the guest sees them
}

func (m *message) begin(b exchange.Body) {
	m.body, m.pos, m.lost, m.wrote, m.out, m.fresh = b, 0, false, false, m.out[:0], false
	m.tail.reset()
}

func (m *message) end() {
	m.body = nil
	if cap(m.out) > keep {
		m.out = nil
	}
}

// hold returns the whole body, or ends the guest's call.
func (g *guest) hold(m *message) []byte {
	held, whole, err := m.body.Hold(g.plugin.options.MaxBody)
	switch {
	case err != nil:
		g.outer = err
		g.in.Fail(err)
	case !whole || len(held) > g.plugin.options.MaxBody:
		g.tooLarge = g.over(m)
		g.in.Fail(g.tooLarge)
	}
	return held
}

// over is the error of a body that is not taken.
func (g *guest) over(m *message) *fault.Error {
	what, status := "the request's", 413
	if m == &g.response {
		what, status = "the answer's", 502
	}
	return fault.New(fault.BodyTooLarge, fault.Plugin, status, "%s body is over %d bytes, which is what is held for the plugin (limits.body)", what, g.plugin.options.MaxBody)
}

// read fills dst with what the guest has not read yet of a body that is kept.
func (g *guest) read(m *message, dst []byte) uint64 {
	var held []byte
	switch {
	case m.fresh:
		held = m.out
	case m.body != nil:
		held = g.hold(m)
	}
	n := copy(dst, held[min(m.pos, len(held)):])
	if m.pos += n; m.pos >= len(held) {
		return eof | uint64(n)
	}
	return uint64(n)
}

// readOn is read of a body that is not kept: what was read goes, once it is much.
func (g *guest) readOn(m *message, dst []byte) uint64 {
	if m.body == nil {
		return eof
	}
	for n := 0; ; {
		held, whole, err := m.body.Hold(m.pos)
		if err != nil {
			g.outer = err
			g.in.Fail(err)
		}
		k := copy(dst[n:], held[min(m.pos, len(held)):])
		n, m.pos = n+k, m.pos+k
		switch all := m.pos >= len(held); {
		case all && whole:
			return eof | uint64(n) //nolint:gosec // not negative
		case all && m.pos >= readAway:
			m.body.Replace(nil)
			m.pos, m.lost = 0, true
		}
		if n == len(dst) {
			return uint64(n) //nolint:gosec // not negative
		}
	}
}

// write adds to what stands in place of the body.
func (g *guest) write(m *message, b []byte) {
	if m.fresh {
		m.fresh, m.out = false, m.out[:0]
	}
	if len(m.out)+len(b) > g.plugin.options.MaxBody {
		g.in.Failf(fault.PluginAnswer, "write_body: a body of more than %d bytes (limits.body)", g.plugin.options.MaxBody)
	}
	m.wrote = true
	m.out = append(m.out, b...)
}

// commitRequest does to the request's body and trailers what the guest wants.
func (g *guest) commitRequest() error {
	m := &g.request
	switch {
	case m.wrote:
		if err := g.replace(m); err != nil {
			return err
		}
	case m.body != nil && g.features&bufferRequest == 0 && (m.pos > 0 || m.lost):
		held, _, err := m.body.Hold(0)
		if err != nil {
			g.outer = err
			return err
		}
		m.lost = true
		m.body.Replace(held[min(m.pos, len(held)):])
	}
	m.trail()
	return nil
}

// commitResponse is the same for the answer, which had another status before.
func (g *guest) commitResponse(was int) error {
	m, x := &g.response, g.x
	now := x.Response.Status
	if !x.Local.Set && bodiless(now) != bodiless(was) && string(x.Request.Method) != "HEAD" {
		// The upstream's answer cannot be sent with that status: as one of our own it can.
		x.Local.Set, x.Local.Status, x.Local.Body = true, now, x.Local.Body[:0]
		if m.wrote && !bodiless(now) {
			x.Local.Body = append(x.Local.Body, m.out...)
		}
		return nil
	}
	if m.wrote {
		if err := g.replace(m); err != nil {
			return err
		}
	}
	m.trail()
	return nil
}

// replace has what the guest wrote sent in place of the body.
func (g *guest) replace(m *message) error {
	if m.body == nil {
		if m == &g.request && g.phase == phaseRequest {
			return fault.New(fault.PluginAnswer, fault.Plugin, 503, "write_body: the request's body is not to be had here")
		}
		return nil
	}
	_, whole, err := m.body.Hold(peek)
	if err != nil {
		g.outer = err
		return err
	}
	if whole {
		m.body.Replace(m.out)
		return nil
	}
	m.body.Replace(nil)
	m.body.Stage(&instead{data: append([]byte(nil), m.out...)})
	return nil
}

// trail does to the trailers what the guest wants, now or when they come.
func (m *message) trail() {
	if !m.tail.any() || m.body == nil {
		return
	}
	if t := m.body.Trailers(); t != nil {
		m.tail.apply(t)
		m.tail.reset()
		return
	}
	s := &trailing{}
	s.edits.copyFrom(&m.tail)
	m.body.Stage(s)
	m.tail.reset()
}

// instead is a stage that sends something else.
type instead struct{ data []byte }

// Chunk is exchange.Stage's.
func (s *instead) Chunk(_ *netloop.Task, dst, _ []byte, _ bool, _ *http1.Head) ([]byte, *fault.Error) {
	dst = append(dst, s.data...)
	s.data = nil
	return dst, nil
}

// trailing is a stage that changes trailers.
type trailing struct{ edits edits }

// Chunk is exchange.Stage's.
func (s *trailing) Chunk(_ *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	if last && trailers != nil {
		s.edits.apply(trailers)
	}
	return append(dst, data...), nil
}

// edits are changes of fields that are not there yet.
type edits struct {
	drop, add http1.Head // names of which all fields go, in the values' absence; then what is added
}

func (e *edits) reset() {
	e.drop.Reset()
	e.add.Reset()
}

func (e *edits) any() bool { return e.drop.Len()+e.add.Len() > 0 }

func (e *edits) copyFrom(from *edits) {
	e.drop.CopyFrom(&from.drop)
	e.add.CopyFrom(&from.add)
}

func (e *edits) set(name, value []byte) {
	e.drop.SetBytes(name, nil)
	e.add.SetBytes(name, value)
}

func (e *edits) del(name []byte) {
	e.drop.SetBytes(name, nil)
	e.add.DelBytes(name)
}

func (e *edits) apply(h *http1.Head) {
	for i := range e.drop.Len() {
		h.DelBytes(e.drop.Name(i))
	}
	for i := range e.add.Len() {
		h.AddBytes(e.add.Name(i), e.add.Value(i))
	}
}
