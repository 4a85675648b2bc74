package pool

import (
	"net/netip"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Missing is how many connections should be opened ahead: as many as are idle or being opened ahead below
// Options.MinIdle, within MaxConnections. It is 0 for a pool that takes no newcomer.
func (p *Pool) Missing() int {
	o := p.options.Load()
	if p.state.Load() != accepting || o.MinIdle <= 0 || o.Reuse == Never {
		return 0
	}
	n := o.MinIdle - p.Idle() - int(p.ahead.Load())
	if o.MaxConnections > 0 {
		n = min(n, o.MaxConnections-p.Open())
	}
	return max(n, 0)
}

// TryAhead takes leave to open one connection ahead, if one is Missing. The caller must call OpenedIdle or GiveUpAhead.
func (p *Pool) TryAhead() bool {
	if p.Missing() == 0 {
		return false
	}
	ahead := int(p.ahead.Add(1)) // counted first, so that two callers do not open what one is to open
	if p.options.Load().MinIdle-p.Idle() < ahead || !p.reserve() {
		p.ahead.Add(-1)
		return false
	}
	return true
}

// OpenedIdle makes a connection that was opened with leave from TryAhead an idle one of the pool. It is no longer the
// caller's.
func (p *Pool) OpenedIdle(c *Conn) {
	p.adopt(c)
	c.Facts.Requests = 0
	c.idleSince = c.opened
	p.everOpen.Store(true)
	if p.state.Load() == drained {
		p.ahead.Add(-1)
		c.Close(*p.draining.Load())
		return
	}
	p.putIdle(c)
	p.ahead.Add(-1)
}

// OpeningAhead says whether connections are being opened ahead.
func (p *Pool) OpeningAhead() bool { return p.ahead.Load() > 0 }

// GiveUpAhead returns the leave of TryAhead: opening the connection failed.
func (p *Pool) GiveUpAhead(l *netloop.Loop) {
	p.ahead.Add(-1)
	p.left(l)
}

// ClientGone closes the idle connections of one Owner: nobody else may use them. It is called on the client's loop, which is
// theirs.
func (p *Pool) ClientGone(l *netloop.Loop, owner netip.AddrPort) {
	s := &p.shards[l.Index()]
	for c := s.owned[owner]; c != nil; c = s.owned[owner] {
		c.Close(facts.CloseClientGone)
	}
}

// Full says that there is neither an idle connection nor a place for another one.
func (p *Pool) Full() bool { return !p.room() }

// Park closes the pool for newcomers. Requests that have a connection finish; their connections, and those that are idle,
// stay until they expire, Drain, or Unpark. Those who wait for this pool and no other get an error that is Retryable.
func (p *Pool) Park() {
	if p.state.CompareAndSwap(accepting, parked) {
		p.queue.dismiss(p)
	}
}

// Unpark takes newcomers again. It does nothing after Drain.
func (p *Pool) Unpark() {
	if p.state.CompareAndSwap(parked, accepting) {
		p.queue.kick(p)
	}
}

// Parked says whether the pool takes no newcomer, because of Park or Drain.
func (p *Pool) Parked() bool { return p.state.Load() != accepting }

// Drain ends the pool: it closes the idle connections with reason, and the busy ones as they become free. It may be
// called anywhere, also on a loop.
func (p *Pool) Drain(g *netloop.Group, reason string) {
	p.draining.CompareAndSwap(nil, &reason)
	if p.state.Swap(drained) != drained {
		p.queue.drop(p)
	}
	p.CloseIdle(g, reason)
}

// Condemn closes the connection for a reason of package facts: at once if it is idle, and else when it becomes free. It says
// whether it is closed. It runs on the connection's loop.
func (c *Conn) Condemn(reason string) (closed bool) {
	switch {
	case c.pooled:
		c.Close(reason)
	case c.Session != nil:
		c.leave(reason)
	case c.condemned == "":
		c.condemned = reason
	}
	return c.closed
}

// IdleSince says since when, on the loop's clock, the connection has been idle; 0: it is in use. It runs on the connection's loop.
func (c *Conn) IdleSince() int64 {
	if !c.pooled {
		return 0
	}
	return c.idleSince
}

// Condemned says whether the connection is closed when it becomes free.
func (c *Conn) Condemned() bool { return c.condemned != "" || c.leaving != "" }

// Retiring says that the connection takes no further request only since it has served enough, by the pool's own rules: those
// that use it may go on as long as they like.
func (c *Conn) Retiring() bool {
	switch c.leaving {
	case facts.CloseMaxAge, facts.CloseMaxRequests, facts.CloseNeverReuse, facts.CloseAboveKeepIdle:
		return c.condemned == ""
	}
	return false
}

// CloseIdle closes the connections that are idle now. It may be called anywhere, also on a loop.
func (p *Pool) CloseIdle(g *netloop.Group, reason string) {
	for _, l := range g.Loops() {
		l.Post(func() {
			s := &p.shards[l.Index()]
			for n := s.count.Load(); n > 0 && s.oldest != nil; n-- {
				s.oldest.Close(reason)
			}
		})
	}
}
