package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
)

// Idempotent says whether a request with this method may be sent twice (RFC 9110 section 9.2.2).
func Idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// RetryOn says after what a request is sent again, if it may be.
type RetryOn struct {
	Connect bool // no connection: name, dial, handshake
	Reset   bool // closed or broken before the head of an answer
	Timeout bool // no head of an answer in time
	Status  health.Ranges
	Calls   uint32 // of gRPC: a bit for each status of an answer without messages
}

// has says whether the error is one after which a request is sent again.
func (o *RetryOn) has(err *fault.Error) bool {
	switch err.Kind {
	case fault.DNS, fault.Connect, fault.ConnectTimeout, fault.TLS:
		return o.Connect && err.Retryable
	case fault.WriteFailed, fault.UpstreamClosed:
		return o.Reset && err.Retryable
	case fault.HeaderTimeout:
		return o.Timeout
	}
	return false
}

// raced says whether the attempt met a pooled connection that its peer had just closed: no answer came, and it is the
// connection's fault alone. The next attempt opens one, so this can happen once for a request.
func (f *Flight) raced(err *fault.Error) bool {
	return err != nil && err.Retryable && (err.Kind == fault.UpstreamClosed || err.Kind == fault.WriteFailed) &&
		f.X.Attempt().Reused && f.mayRepeat() && !f.reset
}

// mayRepeat says whether the request may be sent again as far as its method and its body are concerned (RFC 9110
// section 9.2.2).
func (f *Flight) mayRepeat() bool {
	return f.whole() && (f.sentBytes == 0 || Idempotent(f.X.Request.Method))
}

// again is the one retry decision. It is asked after attempt n has failed with err; nothing of an answer has been
// sent to the client then.
func (f *Flight) again(l *netloop.Loop, err *fault.Error, n int) bool {
	refused := ""
	switch {
	case !f.Options.RetryOn.has(err):
		refused = exchange.RefusedKind // the client's fault, a refusal, an answer had begun, or the config says no
	case n >= max(f.Options.Attempts, 1):
		refused = exchange.RefusedAttempts
	case f.pastDeadline(l) || l.Closing():
		refused = exchange.RefusedTime
	case !f.mayRepeat():
		refused = exchange.RefusedUnsafe
	default:
		return f.affords(err)
	}
	f.X.Attempt().Refused = refused
	return false
}

// affords takes what it costs to send the request again from the budget; a request that was not sent costs nothing.
func (f *Flight) affords(err *fault.Error) bool {
	if f.sentBytes == 0 || f.withdraw() {
		return true
	}
	err.Detail += "; not sent again: the budget for that is used up (retries.budget)"
	return false
}

// withdraw takes a request from the budget. That there was none left is noted at the request, whose answer may be the
// upstream's own and not say it.
func (f *Flight) withdraw() bool {
	if f.Upstream.Budget().Withdraw() {
		return true
	}
	f.X.Attempt().Refused = exchange.RefusedBudget
	f.X.Tags = append(f.X.Tags, exchange.Tag{Key: "wasmgate.retry.refused", Value: "budget"})
	return false
}

// better says whether the answer that is there is one after which the request is sent again.
func (f *Flight) better(t *netloop.Task, n int) bool {
	status := f.X.Response.Status
	return (f.Options.RetryOn.Status.Has(status) && f.mayRepeat() || f.unwanted()) && n < max(f.Options.Attempts, 1) &&
		!f.pastDeadline(t.Loop()) && !t.Loop().Closing() && f.withdraw()
}

// drop gives up an answer in favour of another attempt. Its connection is kept if the whole answer is there already.
func (f *Flight) drop() {
	f.StartBody()
	for out := f.Output(); !out.Done(); {
		if data, err := out.Ready(); err != nil || len(data) == 0 {
			break
		}
	}
	f.tried = append(f.tried, f.up.Member)
	f.pump.stop(f.X.Task, f)
	f.finish(f.X.Task.Loop())
	f.reason, f.pump.state = "", pumpIdle
}

// backoff is how long to wait before attempt n + 1: doubled each time, and half of it at random, so that those who
// failed together do not come back together.
func backoff(base time.Duration, n int) time.Duration {
	d := base << min(n-1, 6)
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// fail closes the connection of an attempt that failed.
func (f *Flight) fail(t *netloop.Task, err *fault.Error) *fault.Error {
	f.up.Facts.BytesIn += f.Answer.Total()
	f.Answer.Close()
	f.loseHedge(t)
	f.pump.stop(t, f)
	if f.cancelled {
		err = f.gone() // whatever came of what it was about
	}
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
	if err.Source == fault.Client || f.cancelled {
		reason = facts.CloseClientAborted
	}
	if f.up.Facts.WhyClosed == facts.CloseOperator {
		reason = facts.CloseOperator
	}
	err.Upstream, err.Host, err.Address = f.Upstream.Name(), f.up.Facts.Host, unixaddr.Text(f.up.Facts.Address)
	if !f.raced(err) {
		f.tried = append(f.tried, f.up.Member)
	}
	f.report(t.Loop(), err)
	if f.Options.HTTP2 {
		f.X.Attempt().WhyClosed = f.failStream(err)
		return err
	}
	f.up.Facts.Err = err
	f.X.Attempt().WhyClosed = reason
	f.up.Release(reason)
	f.up.Conn = nil
	return err
}

// report tells the member what failed, if that was its doing: not the client's, and not that of the moment in which a
// pooled connection was closed and used at once.
func (f *Flight) report(l *netloop.Loop, err *fault.Error) {
	a := f.X.Attempt()
	switch {
	case err.Source != fault.Upstream || f.raced(err):
		f.up.Cancel()
	case err.Status == 504:
		a.Ejected = f.up.Report(l, health.Timeout) || a.Ejected
	default:
		a.Ejected = f.up.Report(l, health.Reset) || a.Ejected
	}
}

func (f *Flight) writeError(err error) *fault.Error {
	if errors.Is(err, netloop.ErrDeadline) {
		return &fault.Error{Kind: fault.IdleTimeout, Source: fault.Upstream, Status: 504, Detail: "the upstream did not take the request in time"}
	}
	if errors.Is(err, netloop.ErrClosed) {
		return f.closedHere()
	}
	return &fault.Error{Kind: fault.WriteFailed, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
}

// closedHere says what it means that the connection was closed on our side while the request was on its way.
func (f *Flight) closedHere() *fault.Error {
	if f.up.Facts.WhyClosed != facts.CloseOperator {
		return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
	}
	e := fault.New(fault.UpstreamClosed, fault.Gateway, 502, "an operator closed the connection")
	e.Retryable = len(f.Answer.Buffered()) == 0
	return e
}

// headError says what a failed read of the answer's head means.
func (f *Flight) headError(l *netloop.Loop, err error) *fault.Error {
	switch {
	case errors.Is(err, netloop.ErrDeadline) && f.pastDeadline(l):
		return f.tooLong()
	case errors.Is(err, netloop.ErrDeadline) && f.pastTry(l):
		return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer within %s (retries.per_try_timeout)", f.Options.PerTry)
	case errors.Is(err, netloop.ErrDeadline):
		return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer within %s (timeouts.response_header)", f.Options.ResponseHeader)
	case errors.Is(err, netloop.ErrClosed):
		return f.closedHere()
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
	case f.cancelled:
		fe = f.gone()
	case errors.As(err, &fe):
		fe = f.inTime(l, fe)
	case errors.Is(err, netloop.ErrDeadline) && f.pastDeadline(l):
		fe = f.tooLong()
	case errors.Is(err, netloop.ErrDeadline):
		fe = fault.New(fault.IdleTimeout, fault.Upstream, 504, "no byte of the answer's body for %s (timeouts.idle_read)", f.Options.IdleRead)
	default:
		fe = &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: err, Detail: "the answer's body was cut off"}
	}
	reason := facts.CloseError
	switch {
	case fe.Status == 504:
		reason = facts.CloseTimeout
	case f.cancelled:
		reason = facts.CloseClientAborted
	}
	f.Abandon(reason)
	fe.Upstream, fe.Host, fe.Address = f.Upstream.Name(), f.up.Facts.Host, unixaddr.Text(f.up.Facts.Address)
	if f.stream == nil {
		f.up.Facts.Err = fe
	}
	f.report(l, fe)
	return fe
}
