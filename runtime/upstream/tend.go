package upstream

import (
	"math/rand/v2"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// tend starts what is done for a member beside requests, as far as the configuration asks for it.
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

// check asks the member again and again whether it is well.
func (m *Member) check(t *netloop.Task) {
	defer m.tending.Store(false)
	l := t.Loop()
	for !m.ended.Load() && !l.Closing() {
		c := m.cluster.upstream.config.Load().Health.Active
		if c == nil {
			return
		}
		if !m.pool.Parked() {
			if changed := m.tracker.Probe(m.probe(t, c) == nil, l.Now()); changed {
				m.apply(l)
			}
		}
		t.Sleep(c.Interval - time.Duration(rand.Int64N(int64(c.Interval)/10+1))) // so that not all are asked at once
	}
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
			c.Facts.Err = err
		}
	}
	_ = c.Net.Close()
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
	defer m.warming.Store(false)
	u := m.cluster.upstream
	loops := u.group.Loops()
	for next := 0; !m.ended.Load() && !t.Loop().Closing() && u.config.Load().Pool.MinIdle > 0; {
		pause := warmEvery
		for m.load.Usable() && m.pool.TryAhead() {
			next++
			l := loops[next%len(loops)]
			l.Post(func() { l.Go(m.openAhead) })
		}
		if m.coldUntil.Load() > t.Loop().Now() {
			pause = warmAgain
		}
		t.Sleep(pause)
	}
}

// openAhead opens a connection that no request has asked for, with leave of the pool.
func (m *Member) openAhead(t *netloop.Task) {
	l := t.Loop()
	c, err := m.dial(t, facts.OpenPrewarm, &Request{}, 0, 0)
	if err != nil {
		m.pool.GiveUpAhead(l)
		m.coldUntil.Store(l.Now() + int64(warmAgain))
		return
	}
	m.opened(l, c)
	m.pool.OpenedIdle(c)
}

// Warm says whether every member that can be chosen has as many idle connections as Pool.MinIdle asks for, or the
// connections that it may have are in use.
func (u *Upstream) Warm() bool {
	v := u.own.current.Load()
	if v == nil {
		return u.own.empty.Load()
	}
	for _, m := range v.members {
		if m.load.Usable() && m.pool.Missing() > 0 {
			return false
		}
	}
	return true
}
