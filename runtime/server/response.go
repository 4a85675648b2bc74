package server

import (
	"errors"
	"io"
	"strconv"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// relay sends the upstream's answer to the client. It says whether the connection can carry another request.
func (s *session) relay(t *netloop.Task, w *work, snap *Snapshot, r *Route) bool {
	x, f := &w.x, &w.flight
	resp := &x.Response
	if resp.Status == 101 {
		return s.tunnel(t, w, snap, r)
	}
	f.StartBody()
	resp.StripHopByHop()
	if r.Rewrite.Reverse { // plugins see, and change, what the client would
		s.reverse(w, snap, r)
	}
	source := f.Output()
	if len(r.Chain)+len(snap.Filters) > 0 {
		w.answer.Init(t, source, resp.Framing, resp.Framing.Kind == http1.NoBody)
		x.ResponseBody = &w.answer
	}
	status := resp.Status
	_, err := w.show()
	w.letGo() // from here on writing to the client tells
	if err != nil {
		fe, why := fault.From(err), facts.CloseNotDrained
		if fe.Source == fault.Client {
			why = facts.CloseClientAborted
		}
		f.Abandon(why)
		f.Finish(t)
		return s.refuse(t, w, fe)
	}
	if x.Local.Set { // a filter answers in the upstream's place
		f.Finish(t)
		return s.respond(t, w, snap, r)
	}
	if x.ResponseBody != nil && w.answer.Touched() {
		source, resp.Framing = &w.answer, w.answer.Framing()
	}
	if resp.Status != status {
		source = w.reframe(t, status, source)
	}
	if x.Target.Upstream >= 0 {
		w.tell(&snap.Upstreams[x.Target.Upstream].Affinity)
	}
	r.Response.apply(&resp.Head)
	framing, keep := s.frame(w, snap)
	x.StatusSent = resp.Status
	w.out = http1.AppendResponse(w.compose(t.Loop()), resp, http1.ResponseOut{
		Minor: x.Request.Minor, Framing: framing, Close: !keep, Advertise: snap.KeepAlive.Advertise, KeepAlive: s.stays(&snap.KeepAlive),
	})
	whole, failed := s.relayBody(t, w, snap, source, framing.Kind == http1.Chunked)
	if failed != nil {
		x.Err = failed
		if failed.Source == fault.Client {
			f.Abandon(facts.CloseClientAborted)
		}
		f.Finish(t)
		s.conn.Abort() // the client must not take a cut-off answer for a whole one
		return false
	}
	if !whole {
		f.Finish(t)
	}
	if !keep || !w.in.Body.Done() {
		s.linger(t, w)
		return false
	}
	return true
}

// bodiless says whether an answer with this status has no body (RFC 9110 sections 15.3.5 and 15.4.5).
func bodiless(status int) bool { return status == 204 || status == 304 }

// reframe follows a filter that has changed the status, where that says whether there is a body.
func (w *work) reframe(t *netloop.Task, was int, source body.Source) body.Source {
	resp, f := &w.x.Response, &w.flight
	switch {
	case bodiless(resp.Status) && resp.Framing.Kind != http1.NoBody:
		for out := f.Output(); !out.Done(); { // what is not at hand costs the connection
			if data, err := out.Ready(); err != nil || len(data) == 0 {
				break
			}
		}
		resp.Framing = http1.Framing{Kind: http1.NoBody, Length: -1}
		w.answer.InitHeld(t, nil, http1.NoBody)
		return &w.answer
	case bodiless(was) && !bodiless(resp.Status) && resp.Framing.Kind == http1.NoBody && string(w.x.Request.Method) != "HEAD":
		resp.Framing = http1.Framing{Kind: http1.Length}
	}
	return source
}

// frame decides how the answer's body is delimited towards the client, and whether the connection stays.
func (s *session) frame(w *work, snap *Snapshot) (http1.Framing, bool) {
	x := &w.x
	framing, keep := x.Response.Framing, s.mayKeep(w, snap)
	if framing.Kind == http1.Chunked || framing.Kind == http1.UntilClose {
		if x.Request.Minor == 0 {
			return http1.Framing{Kind: http1.UntilClose}, false
		}
		return http1.Framing{Kind: http1.Chunked}, keep
	}
	return framing, keep
}

// show lets the filters that the request has passed see the answer: those of the route, then those of the listener. A
// filter that fails, or answers in its turn, does not see what comes of that.
func (w *work) show() (filter.Verdict, error) {
	x, route, listener := &w.x, filter.Chain(nil), w.snap.Filters[:w.passed.listener]
	if w.entered != nil {
		route = w.entered.Chain[:w.passed.route]
	}
	w.passed.listener, w.passed.route = 0, 0
	v, err := route.Response(x, w.snap.chainPlace())
	if err == nil && v == filter.Continue {
		v, err = listener.Response(x, 0)
	}
	return v, err
}

// showLocal is show for an answer of our own.
func (w *work) showLocal(t *netloop.Task) error {
	x := &w.x
	if w.passed.listener+w.passed.route == 0 {
		return nil
	}
	x.Response.Status, x.Response.Minor = x.Local.Status, 1
	w.answer.InitHeld(t, x.Local.Body, http1.Length)
	w.answer.Trailers().CopyFrom(&x.Local.Trailers)
	x.Local.Trailers.Reset()
	x.ResponseBody = &w.answer
	if v, err := w.show(); err != nil || v == filter.Respond { // with another one in its place
		return err
	}
	x.Local.Status, x.Local.Body = x.Response.Status, x.Local.Body[:0]
	for {
		data, err := w.answer.Next(t)
		if err == io.EOF {
			x.Local.Trailers.CopyFrom(w.answer.Trailers())
			return nil
		}
		if err != nil {
			return err
		}
		x.Local.Body = append(x.Local.Body, data...)
	}
}

// relayBody sends w.out, which holds the head, and the body. What has arrived already goes out in the same write as
// the head, and if that is all, the upstream's connection is free before the client has its answer: then finished.
func (s *session) relayBody(t *netloop.Task, w *work, snap *Snapshot, from body.Source, chunked bool) (finished bool, err *fault.Error) {
	f := &w.flight
	for len(w.out) < netloop.BufferSize {
		data, err := from.Ready()
		if err != nil {
			return false, s.bodyFailed(w, err)
		}
		if len(data) == 0 {
			break
		}
		w.addBody(data, chunked)
	}
	for !from.Done() {
		if err := s.write(t, w.out, snap); err != nil {
			return false, err
		}
		w.out = w.out[:0]
		data, err := from.Next(t)
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fault.From(err)
		}
		if chunked || from.Done() {
			w.addBody(data, chunked)
			continue
		}
		w.x.BytesOut += int64(len(data))
		if err := s.write(t, data, snap); err != nil {
			return false, err
		}
	}
	if chunked {
		w.out = http1.AppendLastChunk(w.out, from.Trailers())
	}
	f.Finish(t)
	return true, s.write(t, w.out, snap)
}

func (s *session) bodyFailed(w *work, err error) *fault.Error {
	fe := fault.From(err)
	w.flight.Abandon(facts.CloseProtocol)
	return fe
}

// compose begins an answer. composed gives its memory back, when it was sent or never will be.
func (w *work) compose(l *netloop.Loop) []byte {
	if w.out != nil {
		return w.out[:0]
	}
	return w.memory.Take(l)
}

func (w *work) composed(l *netloop.Loop) {
	if w.out != nil {
		w.memory.Give(l, w.out)
		w.out = nil
	}
}

func (w *work) addBody(data []byte, chunked bool) {
	w.x.BytesOut += int64(len(data))
	if !chunked {
		w.out = append(w.out, data...)
		return
	}
	w.out = append(append(http1.AppendChunkHeader(w.out, len(data)), data...), '\r', '\n')
}

func (s *session) write(t *netloop.Task, b []byte, snap *Snapshot) *fault.Error {
	if len(b) == 0 || s.conn == nil {
		return nil
	}
	s.conn.SetWriteDeadline(t.Loop().Now() + int64(snap.BodyIdle))
	if _, err := s.conn.Write(t, b); err != nil {
		return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err, Detail: "the client did not take the answer"}
	}
	return nil
}

// setLocal makes an answer of the configuration the exchange's.
func setLocal(x *exchange.Exchange, r *Response) {
	x.Local.Set, x.Local.Status = true, r.Status
	x.Local.Body = append(x.Local.Body[:0], r.Body...)
	x.Local.Trailers.Reset()
	x.Response.Reset()
	for i := range r.Fields {
		x.Response.AddBytes(r.Fields[i].Name, r.Fields[i].Value)
	}
}

// respond sends the exchange's local answer. It says whether the connection can carry another request.
func (s *session) respond(t *netloop.Task, w *work, snap *Snapshot, r *Route) bool {
	x := &w.x
	if r != nil {
		r.Response.apply(&x.Response.Head)
	}
	if s.server.observers != nil {
		if o, ok := s.server.observers[t.Loop().Index()].(Answerer); ok {
			o.Answer(x)
		}
	}
	keep := s.mayKeep(w, snap) && s.drained(w)
	resp := &x.Response
	resp.Status, resp.Minor, x.StatusSent = x.Local.Status, 1, x.Local.Status
	resp.Reason = nil
	framing := http1.Framing{Kind: http1.Length, Length: int64(len(x.Local.Body))}
	body := x.Local.Body
	if resp.Status == 204 || resp.Status == 304 {
		framing, body = http1.Framing{Kind: http1.NoBody, Length: -1}, nil
	}
	if string(x.Request.Method) == "HEAD" {
		framing, body = http1.Framing{Kind: http1.NoBody, Length: framing.Length}, nil
	}
	if framing.Kind == http1.Length && x.Local.Trailers.Len() > 0 && x.Request.Minor > 0 {
		framing.Kind = http1.Chunked
	}
	w.out = http1.AppendResponse(w.compose(t.Loop()), resp, http1.ResponseOut{
		Minor: x.Request.Minor, Framing: framing, Close: !keep, Date: s.date(t.Loop(), w),
		Advertise: snap.KeepAlive.Advertise, KeepAlive: s.stays(&snap.KeepAlive),
	})
	if len(body) > 0 {
		w.addBody(body, framing.Kind == http1.Chunked)
	}
	if framing.Kind == http1.Chunked {
		w.out = http1.AppendLastChunk(w.out, &x.Local.Trailers)
	}
	x.FirstByte = t.Loop().Now()
	if err := s.write(t, w.out, snap); err != nil {
		if x.Err == nil {
			x.Err = err
		}
		return false
	}
	if !keep {
		s.linger(t, w)
	}
	return keep
}

// drained says whether the request's body has been taken off the connection, as far as it needs no waiting.
func (s *session) drained(w *work) bool {
	for !w.in.Body.Done() {
		data, err := w.in.BufferedBody()
		if err != nil || len(data) == 0 && !w.in.Body.Done() {
			return false
		}
	}
	return true
}

// date is the value of a Date field of now, in storage of w.
func (s *session) date(l *netloop.Loop, w *work) []byte {
	w.scratch = time.Unix(0, l.WallNow()).UTC().AppendFormat(w.scratch[:0], "Mon, 02 Jan 2006 15:04:05 GMT")
	return w.scratch
}

// refuse answers a request that failed with the error's status and a line of text, and remembers the error. Details
// of an upstream stay in the log; what is our own or the client's doing is said.
func (s *session) refuse(t *netloop.Task, w *work, err error) bool {
	x, fe := &w.x, fault.From(err)
	x.Err = fe
	if fe.Status == 0 || s.conn != nil && s.conn.Closed() {
		return false
	}
	x.Response.Reset()
	x.Local.Trailers.Reset()
	if own := ownAnswer(nil); errors.As(fe, &own) { // a plugin answers, when the request was on its way already
		own.Answer(x)
		return s.respond(t, w, w.snap, nil)
	}
	x.Local.Set, x.Local.Status = true, fe.Status
	b := strconv.AppendInt(x.Local.Body[:0], int64(fe.Status), 10)
	b = append(append(append(append(b, ' '), http1.StatusText(fe.Status)...), ": "...), fe.Kind.String()...)
	if fe.Detail != "" && fe.Source != fault.Upstream && fe.Source != fault.Plugin {
		b = append(append(b, ": "...), fe.Detail...)
	}
	x.Local.Body = append(b, '\n')
	x.Response.Add("Content-Type", "text/plain; charset=utf-8")
	if fe.Status == 503 || fe.RetryAfter > 0 {
		w.scratch = strconv.AppendInt(w.scratch[:0], retryAfter(fe.RetryAfter), 10)
		x.Response.AddID(http1.FieldRetryAfter, w.scratch)
	}
	if fe.Source == fault.Client && fe.Kind != fault.NoRoute && fe.Kind != fault.Denied {
		x.Request.KeepAlive = false // what follows on the connection is not to be trusted
	}
	if err := w.showLocal(t); err != nil {
		return s.refuse(t, w, err)
	}
	return s.respond(t, w, w.snap, nil)
}

// ownAnswer is an error that is answered in a way of its own.
type ownAnswer interface {
	error
	Answer(x *exchange.Exchange) // makes the answer the exchange's local one
}

// retryAfter is in whole seconds, at least one and at most an hour: a client that stays away longer has gone.
func retryAfter(d time.Duration) int64 {
	return int64((min(max(d, time.Second), time.Hour) + time.Second - 1) / time.Second)
}

// linger ends our side and reads on for a moment: closing a socket with unread bytes resets it, and the reset may
// overtake the answer.
func (s *session) linger(t *netloop.Task, w *work) {
	const most, patience = 1 << 20, int64(time.Second)
	if s.conn == nil || s.conn.CloseWrite() != nil {
		return
	}
	s.conn.SetReadDeadline(t.Loop().Now() + patience)
	for read := 0; read < most; {
		w.in.Consume(len(w.in.Buffered()))
		if w.in.Fill(t) != nil {
			return
		}
		read += len(w.in.Buffered())
	}
}
