package proxywasm

import (
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// stream is an exchange as the guest sees it: a context. It is used again after its end.
type stream struct {
	context
	vm     *vm
	plugin *Plugin
	x      *exchange.Exchange // nil: it is over
	place  int

	tcp       bool // it is a connection: its sides are what comes from the client and from the upstream
	sni       string
	created   bool
	failed    *fault.Error // the VM's end, or the stream's own
	reported  bool         // and it was counted
	req, resp side
	calls     int // http_calls and gRPC calls of it that are under way
	closed    bool
	gone      bool // the client, while the stream was paused
	edited    int  // bytes of header changes
	phase     string
	over      bool // the exchange has ended; what is in x is a copy
	lingers   bool
	until     int64

	local      answer
	properties *properties
	// What routes were matched by.
	authority, path []byte
	headersChanged  bool
	cleared         bool // clear_route_cache was called
}

// side is one of the two messages of a stream.
type side struct {
	answer  bool // it is the response
	open    bool // its head can still be changed
	begun   bool // there is a head
	resumed bool // since the last callback
	paused  bool // the last callback for the body kept it, and nothing waits for it
	waiter  *netloop.Task
	body    []byte // that callbacks see; of the exchange, or own
	own     []byte
	shown   bool // body is there
	changed bool // body is own, and differs
	skip    int  // bytes at the front of what the stage will get that were shown already
	// The trailers, while they can be seen.
	trailers *http1.Head
}

// newStream makes a context for an exchange.
func (v *vm) newStream(p *Plugin, r *root, x *exchange.Exchange, place int) (*stream, *fault.Error) {
	if v.streams >= maxContexts {
		return nil, fault.New(fault.Overloaded, fault.Plugin, 503, "the plugin has %d streams on this loop", v.streams)
	}
	c := &p.core.cells[v.loop.Index()]
	var s *stream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		s = &stream{}
		s.resp.answer = true
	}
	s.id = v.newID()
	s.context.root, s.context.stream = r, s
	s.vm, s.plugin, s.x, s.place = v, p, x, place
	v.contexts[s.id] = &s.context
	v.streams++
	c.streams.Add(1)
	return s, nil
}

// release makes the stream ready for another exchange.
func (s *stream) release() {
	v := s.vm
	c := &s.plugin.core.cells[v.loop.Index()]
	c.streams.Add(-1)
	v.streams--
	if v.contexts[s.id] == &s.context {
		delete(v.contexts, s.id)
	}
	const keep, most = 64 << 10, 256
	own, other := s.req.own, s.resp.own
	if cap(own) > keep {
		own = nil
	}
	if cap(other) > keep {
		other = nil
	}
	s.local.reset()
	*s = stream{local: s.local, authority: s.authority[:0], path: s.path[:0]}
	s.req.own, s.resp.own, s.resp.answer = own[:0], other[:0], true
	if len(c.free) < most {
		c.free = append(c.free, s)
	}
}

// call calls the guest about the stream, and notes that for the trace.
func (s *stream) call(t *netloop.Task, phase string, cb callback, args ...uint64) (uint64, *fault.Error) {
	v, x := s.vm, s.x
	if !v.has(cb) {
		return callbackTypes[cb].otherwise, nil
	}
	s.phase = phase
	recorded := x != nil && x.Trace.Recorded()
	var begun int64
	if recorded {
		begun = v.loop.Tick()
	}
	var answer uint64
	var err *fault.Error
	var fuel int64
	if v.enter(t) {
		answer, err = v.run(&s.context, phase, cb, args...)
		fuel = v.in.FuelUsed()
	} else {
		err = v.dead
	}
	v.leave()
	if recorded && s.x == x {
		word := "ok"
		switch {
		case err != nil:
			word = "error"
		case s.local.set:
			word = "respond"
		case answer == actionPause && cb >= onRequestHeaders && cb <= onResponseTrailers:
			word = "pause"
		case cb >= onRequestHeaders && cb <= onResponseTrailers:
			word = "continue"
		}
		x.AddCall(exchange.PluginCall{
			Plugin: s.plugin.core.options.Name, Phase: phase, Started: begun, Took: time.Duration(v.loop.Tick() - begun), Fuel: fuel, Outcome: word, Err: err,
		})
	}
	return answer, err
}

// wake lets who waits for the stream look again.
func (s *stream) wake() {
	for _, d := range [...]*side{&s.req, &s.resp} {
		if d.waiter != nil {
			d.waiter.Wake()
		}
	}
}

// answered says whether the stream's fate is no longer that of its message.
func (s *stream) answered() bool { return s.local.set || s.closed || s.failed != nil || s.x == nil }

// wait parks until the side is continued, or has nothing to wait for any more. With calls it also returns when no call of
// the stream is under way.
func (s *stream) wait(t *netloop.Task, d *side, calls bool) *fault.Error {
	l := t.Loop()
	most := s.plugin.core.options.MaxPause
	until := l.Now() + int64(most)
	timer := l.AfterFunc(most, t.Wake)
	x, w := s.x, exchange.Watch{Gone: func() {
		s.gone = true
		t.Wake()
	}}
	x.Watch(&w)
	d.waiter = t
	for !d.resumed && !s.answered() && !s.gone && (!calls || s.calls > 0) && l.Now() < until && !l.Closing() {
		t.Park()
	}
	d.waiter = nil
	x.Unwatch(&w)
	timer.Stop()
	switch {
	case s.gone:
		return exchange.ClientGone("plugin " + s.plugin.Name() + " paused the stream")
	case l.Closing():
		return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway stops")
	case d.resumed || s.answered() || calls && s.calls == 0:
		return nil
	}
	return fault.New(fault.PluginAnswer, fault.Plugin, 504, "the stream was paused, and not continued within %v", most)
}

// stopsAll says whether a callback for headers that answered with this action wants nothing to come before the stream is
// continued.
func (s *stream) stopsAll(action uint64) bool {
	if action != actionPause {
		return true
	}
	switch s.plugin.core.options.StopIteration {
	case StopAll:
		return true
	case StopHeaders:
		return false
	}
	return s.vm.group.version != versionHigress && (s.calls > 0 || s.vm.background())
}

// request is the request phase.
func (s *stream) request(t *netloop.Task, role filter.Role) (filter.Verdict, error) {
	x, d := s.x, &s.req
	d.begun, d.open = true, true
	s.authority, s.path = append(s.authority[:0], x.Request.Authority...), appendTarget(s.path[:0], &x.Request)
	err := s.create(t)
	if err == nil {
		err = s.showHead(t, d, x.RequestBody, x.Request.Framing)
	}
	d.open = false
	if err != nil || s.answered() {
		return s.verdict(t, err)
	}
	if role == filter.Route && s.rematches() {
		return filter.Rematch, nil
	}
	return filter.Continue, nil
}

// response is the response phase.
func (s *stream) response(t *netloop.Task) (filter.Verdict, error) {
	x, d := s.x, &s.resp
	if s.failed != nil || s.vm.dead != nil {
		return s.verdict(t, s.lost())
	}
	if s.local.set { // by a callback that came when the request was on its way
		return s.verdict(t, nil)
	}
	d.begun, d.open = true, true
	err := s.showHead(t, d, x.ResponseBody, x.Response.Framing)
	d.open = false
	if err != nil || s.answered() {
		return s.verdict(t, err)
	}
	return filter.Continue, nil
}

// lost is why the stream's VM cannot be called.
func (s *stream) lost() *fault.Error {
	if s.failed != nil {
		return s.failed
	}
	return s.vm.dead
}

// create tells the guest of the stream.
func (s *stream) create(t *netloop.Task) *fault.Error {
	s.created = true
	phase := "request"
	if s.tcp {
		phase = "connection"
	}
	_, err := s.call(t, phase, onContextCreate, uint64(s.id), uint64(s.root.id))
	return err
}

// verdict is what comes of a phase that ended otherwise than by going on.
func (s *stream) verdict(t *netloop.Task, err *fault.Error) (filter.Verdict, error) {
	if err == nil && s.failed != nil {
		err = s.failed
	}
	switch {
	case err != nil:
		return s.fail(t, err)
	case s.closed:
		return filter.Continue, s.plugin.core.named(fault.New(fault.Denied, fault.Plugin, 0, "the plugin closed the stream"), "")
	case s.local.set:
		s.local.apply(s.x)
		s.local.set = false
		return filter.Respond, nil
	}
	return filter.Continue, nil
}

// fail is what becomes of the exchange after an error.
func (s *stream) fail(t *netloop.Task, err *fault.Error) (filter.Verdict, error) {
	switch err.Source {
	case fault.Client, fault.Upstream:
		return filter.Continue, err // the body's, which is not the plugin's doing
	}
	k, l := s.plugin.core, t.Loop()
	if err.Phase == "" {
		err = k.named(err, s.phase)
	}
	s.failed = err
	if !s.reported {
		s.reported = true
		f := k.named(err, err.Phase)
		k.count(l, f)
		if s.vm.dead == nil {
			k.report.Failed(l.Now(), f)
		}
	}
	if k.options.OnError == wasm.FailOpen && err.Kind != fault.BodyTooLarge && err.Kind != fault.ShuttingDown {
		return filter.Continue, nil
	}
	return filter.Continue, k.named(err, err.Phase)
}

// rematches says whether the routes must be matched again.
func (s *stream) rematches() bool {
	r := &s.x.Request
	s.local.body = appendTarget(s.local.body[:0], r)
	changed := string(s.authority) != string(r.Authority) || string(s.path) != string(s.local.body)
	s.local.body = s.local.body[:0]
	return changed || s.cleared && s.headersChanged
}

// appendTarget appends path and query as :path has them.
func appendTarget(dst []byte, r *http1.Request) []byte {
	dst = append(dst, r.Path...)
	if r.HasQuery() {
		dst = append(append(dst, '?'), r.Query()...)
	}
	return dst
}

// end is the exchange's end: on_done, on_log, on_delete. It does not park: where the guest is busy, or known to take long
// over it, a copy of the exchange is kept for a task that comes later.
func (s *stream) end() {
	v := s.vm
	s.over = true
	for _, c := range v.calls {
		if c.stream == s {
			c.stream = nil
			if s.gone {
				c.Cancel() // the guest learns that it failed
			}
		}
	}
	for _, c := range v.grpc {
		if c.stream == s {
			c.abort()
		}
	}
	switch {
	case !s.created || v.dead != nil:
		s.x = nil
		s.release()
	case v.running || v.cell.slowEnd:
		s.x = keep(s.x)
		v.later(s.finish)
	default:
		s.finish(nil)
	}
}

// finish tells the guest that the stream is over. With a nil task nobody is in the VM.
func (s *stream) finish(t *netloop.Task) {
	v := s.vm
	done, err := s.call(t, "done", onDone, uint64(s.id))
	if err == nil && t == nil && v.in.FuelUsed() > slowEnd {
		v.cell.slowEnd = true
	}
	if err == nil && done == 0 { // it will call done
		s.x = nil
		s.lingers, s.until = true, v.loop.Now()+int64(lingerFor)
		return
	}
	s.bury(t)
}

// bury is the end of finish, also when the guest says that it is done.
func (s *stream) bury(t *netloop.Task) {
	v := s.vm
	if v.dead == nil {
		_, _ = s.call(t, "log", onLog, uint64(s.id))
		if v.dead == nil && t == nil && v.in.FuelUsed() > slowEnd {
			v.cell.slowEnd = true
		}
	}
	s.x = nil
	if v.dead == nil {
		_, _ = s.call(t, "delete", onDelete, uint64(s.id))
	}
	s.release()
}

// keep copies what of an exchange can be asked for after its end.
func keep(x *exchange.Exchange) *exchange.Exchange {
	k := &exchange.Exchange{
		Client: x.Client, Target: exchange.Target{Upstream: x.Target.Upstream}, Route: x.Route, Started: x.Started, HeadRead: x.HeadRead,
		Routed: x.Routed, FirstByte: x.FirstByte, Ended: x.Ended, BytesIn: x.BytesIn, BytesOut: x.BytesOut, StatusSent: x.StatusSent,
		WallStarted: x.WallStarted, Err: x.Err, Attempts: append([]exchange.Attempt(nil), x.Attempts...),
	}
	k.Client.Line = nil
	r := &k.Request
	r.CopyFrom(&x.Request.Head)
	r.Minor, r.Form, r.Framing = x.Request.Minor, x.Request.Form, x.Request.Framing
	r.SetMethod(x.Request.Method)
	r.SetAuthority(x.Request.Authority)
	r.SetPath(x.Request.Path)
	if x.Request.HasQuery() {
		r.SetQuery(x.Request.Query())
	}
	k.Response.CopyFrom(&x.Response.Head)
	k.Response.Status, k.Response.Minor, k.Response.Framing = x.Response.Status, x.Response.Minor, x.Response.Framing
	return k
}
