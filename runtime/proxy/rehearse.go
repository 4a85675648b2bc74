package proxy

import (
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
)

// Rehearsal is what Forward would have done first.
type Rehearsal struct {
	Wanted     upstream.Request // what the upstream would be asked for
	Choice     upstream.Preview // what it would choose among
	Sent       []byte           // the request as it would be written to a connection that was opened for it; of HTTP/2 as people write it
	Head       int              // so many bytes of Sent are the head
	Repeatable bool             // method and body allow that it is sent again although an upstream may have got it
}

// Rehearse is Forward up to the moment in which it acquires a connection: it asks nothing of the upstream, and changes nothing
// there. The body is taken whole. With the upstream's refusal comes the rehearsal too.
func (f *Flight) Rehearse(t *netloop.Task) (*Rehearsal, *fault.Error) {
	f.reason, f.pump.state, f.hedge, f.noPing, f.tried = "", pumpIdle, nil, false, f.tried[:0]
	if err := f.takeBody(t); err != nil {
		return nil, err
	}
	r := &Rehearsal{Wanted: f.wanted(1), Repeatable: f.replay && Idempotent(f.X.Request.Method)}
	r.Choice = f.Upstream.Preview(t.Loop(), &r.Wanted)
	a := f.X.AddAttempt()
	a.Upstream, a.Started = f.Upstream.Name(), t.Loop().Now()
	if f.Observer != nil {
		f.Observer.AttemptStarted(f.X, a)
	}
	r.Sent = f.appendHead(nil, r.Choice.TLS)
	r.Head = len(r.Sent)
	r.Sent = append(r.Sent, f.body...)
	if f.replay || r.Choice.Err != nil { // what is left of the body stays with the client
		return r, r.Choice.Err
	}
	var err *fault.Error
	r.Sent, err = f.appendRest(t, r.Sent)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// appendHead appends the request's head.
func (f *Flight) appendHead(dst []byte, secure bool) []byte {
	x := f.X
	if !f.Options.HTTP2 {
		return http1.AppendRequest(dst, &x.Request, f.outgoing(false))
	}
	return http2.AppendText(dst, &x.Request, f.outgoing2(secure))
}

// appendRest appends the rest of the body, as the pump would send it.
func (f *Flight) appendRest(t *netloop.Task, dst []byte) ([]byte, *fault.Error) {
	chunked := f.framing.Kind == http1.Chunked && !f.Options.HTTP2
	for {
		data, err := f.source.Next(t)
		switch {
		case err == io.EOF && chunked:
			return http1.AppendLastChunk(dst, f.source.Trailers()), nil
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, fault.From(err)
		}
		dst = appendBody(dst, data, chunked)
	}
}
