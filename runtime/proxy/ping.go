package proxy

import (
	"errors"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// mayPing says whether the upstream is asked before a body is sent to it: a request that must not be sent twice, on a
// connection that may just have been closed. Without the body nothing can have been acted upon (RFC 9110 section 10.1.1).
func (f *Flight) mayPing() bool {
	r := &f.X.Request
	return f.Options.Ping > 0 && !f.noPing && f.up.WhyNew == "" && !Idempotent(r.Method) && r.Upgrade == nil && !f.Options.HTTP10 && !f.Options.HTTP2 &&
		(f.framing.Kind == http1.Chunked || f.framing.Kind == http1.Length && f.framing.Length > 0)
}

// ping waits for the upstream to say that it wants the body, and sends what is at hand of it. A connection on which
// nothing is said for so long is dead: the next attempt opens one. answered: a final answer came instead, and is in
// f.Answer still.
func (f *Flight) ping(t *netloop.Task) (answered bool, fe *fault.Error) {
	x, l := f.X, t.Loop()
	f.Answer.Open(f.up.Stream, l, f.Options.Limits)
	until := f.until(l, f.Options.Ping)
	for wanted := false; !wanted; {
		if b := f.Answer.Buffered(); len(b) > 0 {
			x.Response.Reset()
			n, err := x.Response.Parse(b, f.Options.Limits, x.Request.Method)
			if err != nil {
				return false, fault.From(err)
			}
			switch {
			case n > 0 && x.Response.Status >= 200:
				if x.Response.Status == 417 { // it does not know the question: the same again, without
					f.noPing, f.sentBytes = true, 0
					return false, &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Retryable: true, Detail: "417 to Expect: 100-continue; see pool.ping"}
				}
				f.pump.state = pumpStopped // the body stays unsent
				return true, nil
			case n > 0:
				f.Answer.Consume(n)
				wanted = x.Response.Status == 100
				continue
			}
		}
		f.up.Net.SetReadDeadline(until)
		if err := f.Answer.Fill(t); err != nil {
			f.sentBytes = 0 // the head alone: nothing was asked for yet
			if errors.Is(err, netloop.ErrDeadline) && !f.pastDeadline(l) {
				return false, &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Retryable: true,
					Detail: "a pooled connection did not answer 100 within " + f.Options.Ping.String() + " (pool.ping_timeout)"}
			}
			return false, f.headError(l, err)
		}
	}
	f.up.Net.SetWriteDeadline(f.until(l, f.Options.IdleRead))
	n, err := f.up.Stream.Write(t, f.body)
	f.sentBytes += uint64(n)
	f.up.Facts.BytesOut += uint64(n)
	if err != nil {
		return false, f.writeError(err)
	}
	return false, nil
}
