package proxy

import (
	"errors"
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Idempotent says whether a request with this method may be sent twice (RFC 9110 section 9.2.2).
func Idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// again is the one retry decision. It is asked after attempt n has failed with err; nothing of an answer has been
// sent to the client then.
func (f *Flight) again(l *netloop.Loop, err *fault.Error, n int) bool {
	switch {
	case !err.Retryable:
		return false // the client's fault, a refusal, or an answer had begun
	case n >= max(f.Options.Attempts, 1):
		return false // as often as allowed
	case f.pastDeadline(l) || l.Closing():
		return false // no time left
	case !f.replay:
		return false // a part of the body is gone, and cannot be sent again
	case f.sentBytes > 0 && !Idempotent(f.X.Request.Method):
		return false // the upstream may have acted on what it got (RFC 9110 section 9.2.2)
	}
	return true
}

// fail closes the connection of an attempt that failed.
func (f *Flight) fail(t *netloop.Task, err *fault.Error) *fault.Error {
	f.up.Facts.BytesIn += f.Answer.Total()
	f.Answer.Close()
	f.pump.stop(t, f)
	if f.pump.err != nil {
		err = f.pump.err // what the client did is the cause, the upstream's error its consequence
	}
	reason := facts.CloseError
	switch err.Kind {
	case fault.HeaderTimeout, fault.RequestTimeout, fault.IdleTimeout:
		reason = facts.CloseTimeout
	case fault.Malformed, fault.HeadTooLarge:
		reason = facts.CloseProtocol
	case fault.UpstreamClosed:
		reason = facts.ClosePeer
	}
	if err.Source == fault.Client {
		reason = facts.CloseClientAborted
	}
	err.Upstream, err.Host, err.Address = f.Upstream.Name(), f.up.Facts.Host, f.up.Facts.Address.String()
	f.up.Facts.Err = err
	f.X.Attempt().WhyClosed = reason
	f.up.Release(reason)
	return err
}

func (f *Flight) writeError(err error) *fault.Error {
	if errors.Is(err, netloop.ErrDeadline) {
		return &fault.Error{Kind: fault.IdleTimeout, Source: fault.Upstream, Status: 504, Detail: "the upstream did not take the request in time"}
	}
	if errors.Is(err, netloop.ErrClosed) {
		return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
	}
	return &fault.Error{Kind: fault.WriteFailed, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
}

// headError says what a failed read of the answer's head means.
func (f *Flight) headError(l *netloop.Loop, err error) *fault.Error {
	switch {
	case errors.Is(err, netloop.ErrDeadline) && f.pastDeadline(l):
		return fault.New(fault.RequestTimeout, fault.Upstream, 504, "the request took longer than its whole time (timeouts.request)")
	case errors.Is(err, netloop.ErrDeadline):
		return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer within %s (timeouts.response_header)", f.Options.ResponseHeader)
	case errors.Is(err, netloop.ErrClosed):
		return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
	}
	e := &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: err, Detail: "closed before the head of its answer was whole"}
	if errors.Is(err, io.EOF) {
		e.Err = nil
	}
	if e.Retryable = len(f.Answer.Buffered()) == 0; e.Retryable {
		e.Detail = "closed without an answer"
		if f.up.WhyNew == "" {
			e.Detail = "a pooled connection was closed while the request was on its way"
		}
	}
	return e
}

// bodyError says what a failed read of the answer's body means. The client has got the head already.
func (f *Flight) bodyError(l *netloop.Loop, err error) *fault.Error {
	var fe *fault.Error
	switch {
	case errors.As(err, &fe):
	case errors.Is(err, netloop.ErrDeadline) && f.pastDeadline(l):
		fe = fault.New(fault.RequestTimeout, fault.Upstream, 504, "the request took longer than its whole time (timeouts.request)")
	case errors.Is(err, netloop.ErrDeadline):
		fe = fault.New(fault.IdleTimeout, fault.Upstream, 504, "no byte of the answer's body for %s (timeouts.idle_read)", f.Options.IdleRead)
	default:
		fe = &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: err, Detail: "the answer's body was cut off"}
	}
	reason := facts.CloseError
	if fe.Status == 504 {
		reason = facts.CloseTimeout
	}
	f.Abandon(reason)
	fe.Upstream, fe.Host, fe.Address = f.Upstream.Name(), f.up.Facts.Host, f.up.Facts.Address.String()
	f.up.Facts.Err = fe
	return fe
}
