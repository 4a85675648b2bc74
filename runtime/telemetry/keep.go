package telemetry

import (
	"slices"
	"sync/atomic"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// Why a request that was not sampled was kept: exchange.Trace.Kept.
const (
	keptError = "error"
	keptSlow  = "slow"
)

var keptReasons = [...]string{keptError, keptSlow}

// keeper says which requests that were not sampled are kept when they have ended. The zero value keeps none.
type keeper struct {
	errors bool
	slow   int64 // ns; 0: none for that
	rate   *limiter
}

func newKeeper(o *Traces) keeper {
	if o.KeepRate <= 0 {
		return keeper{}
	}
	return keeper{errors: o.KeepErrors, slow: int64(o.Slow), rate: newLimiter(o.KeepRate)}
}

// on says whether any request may be kept.
func (k *keeper) on() bool { return k.errors || k.slow > 0 }

// why says why a request is to be kept; "": it is not.
func (k *keeper) why(x *exchange.Exchange) string {
	status := x.StatusSent
	if a := x.Attempt(); a != nil && x.Plugin != "" { // nobody is sent anything of a plugin's own request
		status = a.Status
	}
	switch {
	case k.errors && (x.Err != nil || status >= 500 || rpcFailed(&x.RPC)):
		return keptError
	case k.slow > 0 && x.Ended-x.Started > k.slow && x.StatusSent != 101: // a tunnel is as long as it is
		return keptSlow
	}
	return ""
}

// keep decides at the end of a request that was not sampled. Errors that are the client's doing leave half of the rate
// to all others: anybody can make as many as he likes.
func (r *Recorder) keep(x *exchange.Exchange) {
	why := r.keeper.why(x)
	if why == "" {
		return
	}
	if r.affords(x.Ended, x.Err, why) {
		x.Trace.Kept = why
	}
}

// keepSession is keep for a session of TCP mode; of those only errors are kept, since they are as long as they are.
func (r *Recorder) keepSession(s *exchange.Session, t *exchange.Trace) {
	if r.keeper.errors && s.Err != nil && r.affords(s.Ended, s.Err, keptError) {
		t.Kept, t.TraceID, t.Server = keptError, r.ids.trace(), r.ids.span()
	}
}

// affords counts what is kept, or cannot be.
func (r *Recorder) affords(now int64, err *fault.Error, why string) bool {
	share := int64(time.Second)
	if err != nil && err.Source == fault.Client {
		share /= 2
	}
	if !r.keeper.rate.allow(now, share) {
		r.cells.spansLimited.Add(1)
		return false
	}
	r.cells.kept[slices.Index(keptReasons[:], why)].Add(1)
	return true
}

// limiter bounds how often something happens in a second, for all loops together (the generic cell rate algorithm): so
// often at once at most, and then evenly. It is asked only about what is rare, or what there is too much of, and then a
// look is enough.
type limiter struct {
	interval int64
	next     atomic.Int64 // when the last one that was allowed would have been, had they come evenly
}

func newLimiter(perSecond int) *limiter {
	return &limiter{interval: int64(time.Second) / int64(perSecond)}
}

// allow takes one, if there is one within share, of a second at most, of what there is.
func (l *limiter) allow(now, share int64) bool {
	for {
		was := l.next.Load()
		next := max(was, now) + l.interval
		if next-now > max(share, l.interval) {
			return false
		}
		if l.next.CompareAndSwap(was, next) {
			return true
		}
	}
}
