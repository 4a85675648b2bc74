package upstream

import (
	"time"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// Acquired is a connection and how it was got. Whoever has it tells once how it went, by Report or Cancel, and gives it
// back by Release.
type Acquired struct {
	*pool.Conn
	Member *Member
	WhyNew string         // "" if the connection was used before; otherwise a reason of package facts
	Chosen string         // how the member was: a word of package facts
	Passed int            // members that were tried in vain, or were full, before it
	Queued time.Duration  // in the queue for a connection; known of a failure too
	Failed []*fault.Error // of those tried in vain, the first maxFailed; without the error that Acquire returns

	breaker *breaker.Shared // nil: it was told
	state   balance.State   // of the member, when it was chosen
	moved   uint64          // bytes on the connection before
	begun   int64           // loop time
}

// take gives the connection to a request.
func (m *Member) take(c *pool.Conn, why string) Acquired {
	m.load.Start()
	return Acquired{state: m.choice.Load().State, Conn: c, Member: m, WhyNew: why, Chosen: facts.ChosenBalance, moved: c.Facts.BytesIn + c.Facts.BytesOut, begun: c.Net.Loop().Now()}
}

// Report tells the member, and the upstream's breaker, how an attempt went, and says whether that has ejected the member. A
// second report of the same is the member's alone.
func (a *Acquired) Report(l *netloop.Loop, o health.Outcome) (ejected bool) {
	if a.breaker != nil {
		a.breaker.Done(l.Index(), l.Now(), o.Good())
		a.breaker = nil
	}
	return a.Member.report(l, o, a.begun)
}

// Leaving says that the connection, or its member, is to be taken out of service, and that this was decided after the connection
// was acquired: an operator or the peer closes it, or the member's target was drained, disabled or removed, or its upstream has
// ended. A use that may last is to end then; not because the connection has served enough.
func (a *Acquired) Leaving() bool {
	if a.Condemned() && !a.Retiring() || a.Member.ended.Load() {
		return true
	}
	now := a.Member.choice.Load().State
	return now != a.state && (now == balance.Drain || now == balance.Disabled)
}

// Answered tells the upstream's breaker that there is an answer; how it was is told later, by Report, to the member alone.
func (a *Acquired) Answered(l *netloop.Loop) {
	if a.breaker != nil {
		a.breaker.Done(l.Index(), l.Now(), true)
		a.breaker = nil
	}
}

// Cancel tells that the attempt says nothing about the member: the client went away, or it was not needed.
func (a *Acquired) Cancel() {
	if a.breaker != nil {
		a.breaker.Cancel()
		a.breaker = nil
	}
}

// Release ends the request's use of the connection. reason, of package facts, says why it cannot be used again; "" gives
// it back to its pool. It returns why the connection was closed; "" if the pool keeps it.
func (a *Acquired) Release(reason string) (why string) {
	a.Cancel()
	a.Member.load.End()
	if a.Member.cluster.upstream.config.Load().Balance.Algorithm == balance.LeastBytes { // nobody else asks
		a.Member.load.AddBytes(a.Facts.BytesIn + a.Facts.BytesOut - a.moved)
	}
	return a.Conn.Release(reason)
}
