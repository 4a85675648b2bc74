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
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// relay sends the upstream's answer to the client.
func (s *Session) relay(t *netloop.Task, w *work, snap *Snapshot, r *Route) outcome {
	x, f := &w.x, &w.flight
	resp := &x.Response
	if err := w.notOpened(); err != nil {
		return s.refuseTunnel(t, w, err)
	}
	if resp.Status == 101 {
		return s.openTunnel(t, w, snap, r)
	}
	f.StartBody()
	resp.StripHopByHop()
	s.hideAltSvc(resp)
	if r.Rewrite.Reverse { // plugins see, and change, what the client would
		s.reverse(w, snap, r)
	}
	source := f.Output()
	if len(r.Chain)+len(snap.Filters) > 0 {
		from := w.plainAnswer(t.Loop(), r, source)
		w.answer.Init(t, from, resp.Framing, resp.Framing.Kind == http1.NoBody)
		x.ResponseBody = &w.answer
	}
	status := resp.Status
	if w.call.web {
		w.answerInWeb(t, source)
	}
	_, err := w.show()
	if !x.RPC.Is {
		w.letGo() // from here on writing to the client tells
	}
	if err != nil {
		return s.refuseAnswered(t, w, fault.From(err))
	}
	if x.Local.Set { // a filter answers in the upstream's place
		f.Finish(t)
		return s.respond(t, w, snap, r)
	}
	source = s.settle(t, w, snap, r, source, status)
	framing, keep := s.frame(w, snap)
	x.StatusSent = resp.Status
	w.side.Head(resp, http1.ResponseOut{
		Minor: x.Request.Minor, Framing: framing, Close: !keep, Advertise: snap.KeepAlive.Advertise, KeepAlive: s.stays(&snap.KeepAlive),
	})
	whole, failed := s.relayBody(t, w, snap, source)
	if failed != nil {
		x.Err = failed
		if !whole {
			if failed.Source == fault.Client {
				f.Abandon(facts.CloseClientAborted)
			}
			f.Finish(t)
		}
		w.abort(failed) // the client must not take a cut-off answer for a whole one
		return broken
	}
	if !whole {
		f.Finish(t)
	}
	return keptIf(w.side.Drained() && keep)
}

// refuseAnswered answers with an error where the upstream has answered, and a filter has failed.
func (s *Session) refuseAnswered(t *netloop.Task, w *work, err *fault.Error) outcome {
	why := facts.CloseNotDrained
	if err.Source == fault.Client {
		why = facts.CloseClientAborted
	}
	w.flight.Abandon(why)
	w.flight.Finish(t)
	return s.refuse(t, w, err)
}

// settle makes the answer what the client gets, after the filters have seen it: the status was another one before them. It
// returns where the body comes from.
func (s *Session) settle(t *netloop.Task, w *work, snap *Snapshot, r *Route, source body.Source, was int) body.Source {
	x, resp := &w.x, &w.x.Response
	touched := x.ResponseBody != nil && w.answer.Touched()
	if w.answerShown(t.Loop(), r, touched); touched {
		source, resp.Framing = &w.answer, w.answer.Framing()
	}
	if resp.Status != was {
		source = w.reframe(t, was, source)
	}
	if x.Target.Upstream >= 0 {
		w.tell(&snap.Upstreams[x.Target.Upstream].Affinity)
	}
	r.Response.apply(&resp.Head)
	if r.Compression != nil && w.call.kind != grpc.GRPC { // whose messages have codings of their own
		source = w.compress(t.Loop(), r, source)
	}
	s.tellAltSvc(x)
	return source
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
func (s *Session) frame(w *work, snap *Snapshot) (http1.Framing, bool) {
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

// relayBody sends the head, which is collected already, and the body. What has arrived already goes out in the same write as
// the head, and if that is all, the upstream's connection is free before the client has its answer: then finished.
func (s *Session) relayBody(t *netloop.Task, w *work, snap *Snapshot, from body.Source) (finished bool, err *fault.Error) {
	for room := true; room; {
		data, err := from.Ready()
		if err != nil {
			return false, s.bodyFailed(w, err)
		}
		if len(data) == 0 {
			break
		}
		w.x.BytesOut += int64(len(data))
		room = w.side.Add(data)
	}
	for !from.Done() {
		if err := s.flush(t, w, snap); err != nil {
			return false, err
		}
		data, err := from.Next(t)
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fault.From(err)
		}
		w.x.BytesOut += int64(len(data))
		if from.Done() {
			w.side.Add(data)
			break
		}
		w.side.SetWriteDeadline(t.Loop().Now() + int64(snap.BodyIdle))
		if err := w.side.Write(t, data); err != nil {
			return false, notTaken(err)
		}
	}
	if w.x.RPC.Is {
		w.call.ended(&w.x, w.flight.Output().Trailers())
	}
	w.side.End(from.Trailers())
	w.flight.Finish(t)
	return true, s.flush(t, w, snap)
}

func (s *Session) bodyFailed(w *work, err error) *fault.Error {
	fe := fault.From(err)
	w.flight.Abandon(facts.CloseProtocol)
	return fe
}

// flush sends what was collected of the answer.
func (s *Session) flush(t *netloop.Task, w *work, snap *Snapshot) *fault.Error {
	w.side.SetWriteDeadline(t.Loop().Now() + int64(snap.BodyIdle))
	if err := w.side.Flush(t); err != nil {
		return notTaken(err)
	}
	return nil
}

func notTaken(err error) *fault.Error {
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err, Detail: "the client did not take the answer"}
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

// respond sends the exchange's local answer.
func (s *Session) respond(t *netloop.Task, w *work, snap *Snapshot, r *Route) outcome {
	x := &w.x
	if r != nil {
		r.Response.apply(&x.Response.Head)
	}
	if x.RPC.Is {
		w.answerCall()
	}
	s.tellAltSvc(x)
	if s.server.observers != nil {
		if o, ok := s.server.observers[t.Loop().Index()].(Answerer); ok {
			o.Answer(x)
		}
	}
	w.deny()
	keep := s.mayKeep(w, snap) && w.side.Drained()
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
	if r != nil && r.Compression != nil {
		framing, body = w.compressLocal(t, r, framing, body)
	}
	if framing.Kind == http1.Length && x.Local.Trailers.Len() > 0 && x.Request.Minor > 0 {
		framing.Kind = http1.Chunked
	}
	w.side.Head(resp, http1.ResponseOut{
		Minor: x.Request.Minor, Framing: framing, Close: !keep, Date: s.date(t.Loop(), w),
		Advertise: snap.KeepAlive.Advertise, KeepAlive: s.stays(&snap.KeepAlive),
	})
	if len(body) > 0 {
		x.BytesOut += int64(len(body))
		w.side.Add(body)
	}
	w.side.End(&x.Local.Trailers)
	x.FirstByte = t.Loop().Now()
	if err := s.flush(t, w, snap); err != nil {
		if x.Err == nil {
			x.Err = err
		}
		return broken
	}
	return keptIf(keep)
}

// date is the value of a Date field of now, in storage of w.
func (s *Session) date(l *netloop.Loop, w *work) []byte {
	w.scratch = time.Unix(0, l.WallNow()).UTC().AppendFormat(w.scratch[:0], "Mon, 02 Jan 2006 15:04:05 GMT")
	return w.scratch
}

// refuse answers a request that failed with the error's status and a line of text, and remembers the error. Details
// of an upstream stay in the log; what is our own or the client's doing is said.
func (s *Session) refuse(t *netloop.Task, w *work, err error) outcome {
	x, fe := &w.x, fault.From(err)
	x.Err = fe
	if fe.Status == 0 || w.side.Gone() {
		return broken
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
