package proxy

import (
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Abandon makes Finish close the connection for this reason instead of giving it back. The first reason stays.
func (f *Flight) Abandon(reason string) {
	if f.reason == "" {
		f.reason = reason
	}
}

// Finish ends the flight: the connection goes back to its pool if the answer was read to its end and nothing speaks
// against it; otherwise it is closed, with the reason. It must be called once after a Forward that returned nil.
func (f *Flight) Finish(t *netloop.Task) {
	f.pump.stop(t, f)
	f.finish(t.Loop())
	f.call.is = false
}

func (f *Flight) finish(l *netloop.Loop) {
	a := f.X.Attempt()
	a.Ended = l.Now()
	if f.pump.state == pumpDone {
		a.BodySent = f.pump.doneAt
	}
	if f.stream != nil {
		a.WhyClosed = f.endStream()
		return
	}
	f.up.Facts.BytesIn += f.Answer.Total()
	reason := f.why()
	f.Answer.Close()
	a.WhyClosed = f.up.Release(reason)
	f.up.Conn = nil
}

// why says why the connection cannot go back to its pool, or nothing if it can.
func (f *Flight) why() string {
	resp := &f.X.Response
	switch {
	case f.reason != "":
		return f.reason
	case f.pump.state == pumpFailed || f.pump.state == pumpStopped:
		return facts.CloseRequestNotSent
	case resp.Framing.Kind == http1.UntilClose:
		return facts.CloseDelimited
	case !f.Answer.Body.Done():
		return facts.CloseNotDrained
	case len(f.Answer.Buffered()) > 0:
		return facts.CloseUnexpectedBytes
	case !resp.KeepAlive && resp.Minor == 0:
		return facts.CloseHTTP10
	case !resp.KeepAlive:
		return facts.CloseUpstreamSaidClose
	}
	return ""
}
