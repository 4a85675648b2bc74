package upstream

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
)

// tend starts what is done for a member beside requests, as far as the configuration asks for it. What runs already ends
// by itself when that does not any more, or when the member has ended.
func (m *Member) tend() {
	u := m.cluster.upstream
	cfg := u.config.Load()
	l := u.group.Loop(int(m.number) % len(u.group.Loops())) // each has to do with some of the members
	if cfg.Health.Active != nil && m.tending.CompareAndSwap(false, true) {
		l.Post(func() { l.Go(m.check) })
	}
	if cfg.Pool.MinIdle > 0 && m.warming.CompareAndSwap(false, true) {
		l.Post(func() { l.Go(m.warm) })
	}
}

// rest ends one of the two tasks since there is nothing to do; if the configuration has just been changed, another begins.
func (m *Member) rest(running *atomic.Bool) {
	running.Store(false)
	m.tend()
}

// check asks the member again and again whether it is well; not while it is disabled, or its address is gone.
func (m *Member) check(t *netloop.Task) {
	l := t.Loop()
	for !m.ended.Load() && !l.Closing() {
		c := m.cluster.upstream.config.Load().Health.Active
		if c == nil {
			m.rest(&m.tending)
			return
		}
		if !m.pool.Parked() && m.choice.Load().State != balance.Disabled {
			failure := failureOf(m.probe(t, c))
			if m.ended.Load() || l.Closing() {
				return
			}
			if m.tracker.Probe(failure, l.Now()) {
				m.apply(l)
			}
		}
		t.Sleep(c.Interval - time.Duration(rand.Int64N(int64(c.Interval)/10+1))) // so that not all are asked at once
	}
}

// failureOf says what was wrong with a check, to people who know which address it was of.
func failureOf(err *fault.Error) string {
	switch {
	case err == nil:
		return ""
	case err.Detail != "":
		return err.Detail
	case err.Err != nil:
		return err.Kind.String() + ": " + err.Err.Error()
	}
	return err.Kind.String()
}

// probe asks once, over a connection of its own.
func (m *Member) probe(t *netloop.Task, check *Check) *fault.Error {
	l := t.Loop()
	c, err := m.dial(t, facts.OpenHealthCheck, &Request{}, 0, 0)
	if err != nil {
		return err
	}
	m.opened(l, c)
	c.Facts.WhyClosed = facts.CloseHealthCheckEnded
	if check.Probe != nil {
		c.Facts.Requests = 1
		c.Net.SetReadDeadline(deadline(l, check.Timeout))
		c.Net.SetWriteDeadline(deadline(l, check.Timeout))
		if e := check.Probe(t, c, m.target.host); e != nil {
			err = m.blame(fault.From(e))
			if !l.Closing() { // else we have broken it off ourselves, and nothing was wrong with the target
				c.Facts.Err = err
			}
		}
	}
	c.HangUp(err == nil)
	c.Facts.Closed = l.WallNow()
	if hooks := m.cluster.upstream.hooks; hooks != nil {
		hooks.ConnClosed(l, &c.Facts)
	}
	return err
}

// How often it is looked whether connections are to be opened ahead, and how long to leave a member alone that
// could not be connected to.
const (
	warmEvery = 100 * time.Millisecond
	warmAgain = time.Second
)

// warm opens connections ahead, so that pool.min_idle are idle. Each has been connected, and its TLS handshake been
// made, before it counts.
func (m *Member) warm(t *netloop.Task) {
	u, l := m.cluster.upstream, t.Loop()
	loops := u.group.Loops()
	for next := 0; !m.ended.Load() && !l.Closing(); {
		if u.config.Load().Pool.MinIdle <= 0 {
			m.rest(&m.warming)
			return
		}
		until := m.coldUntil.Load()
		if rest := until - l.Now(); rest > 0 {
			t.Sleep(time.Duration(rest))
			continue
		}
		for m.welcome() && m.pool.TryAhead() {
			next++
			on := loops[next%len(loops)]
			on.Post(func() { on.Go(m.openAhead) })
			if until != 0 { // the last one failed: this one says whether it is worth while again
				break
			}
		}
		t.Sleep(warmEvery)
	}
}

// welcome says whether the member may be given requests that are no session's.
func (m *Member) welcome() bool { return m.load.Usable() && m.choice.Load().State != balance.Drain }

// openAhead opens a connection that no request has asked for, with leave of the pool.
func (m *Member) openAhead(t *netloop.Task) {
	l := t.Loop()
	c, err := m.dial(t, facts.OpenPrewarm, &Request{}, 0, 0)
	if err != nil {
		m.coldUntil.Store(l.Now() + int64(warmAgain))
		m.pool.GiveUpAhead(l)
		return
	}
	m.coldUntil.Store(0)
	m.opened(l, c)
	m.pool.OpenedIdle(c)
	m.warmed()
}

// warmed says whether the member has had as many idle connections as Pool.MinIdle asks for, or those that it may have were
// in use. That requests take them afterwards makes nobody less ready.
func (m *Member) warmed() bool {
	want := int64(m.cluster.upstream.config.Load().Pool.MinIdle)
	if m.warmth.Load() >= want {
		return true
	}
	if m.pool.OpeningAhead() || m.pool.Missing() > 0 {
		return false
	}
	m.warmth.Store(want)
	return true
}

// Warm says whether every member that can be chosen has had as many idle connections as Pool.MinIdle asks for, since it
// became one.
func (u *Upstream) Warm() bool {
	v := u.own.current.Load()
	if v == nil {
		return u.own.empty.Load()
	}
	for _, m := range v.members {
		if m.welcome() && !m.warmed() {
			return false
		}
	}
	return true
}
