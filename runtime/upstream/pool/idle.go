package pool

import (
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

func (p *Pool) putIdle(c *Conn) {
	l := c.Net.Loop()
	p.shards[l.Index()].push(c)
	c.armIdle(p.options.Load(), l.Now())
	c.Net.OnEvent(c.onIdle)
	if p.waiting.Load() > 0 { // somebody began to wait after we looked
		p.serveQueue(l)
	}
}

func (c *Conn) armIdle(o *Options, now int64) {
	at := c.retireAt
	if o.IdleTimeout > 0 && (at == 0 || now+int64(o.IdleTimeout) < at) {
		at = now + int64(o.IdleTimeout)
	}
	c.Net.SetReadDeadline(at)
}

// idleEvent is called when something happens to an idle connection: its end, bytes, or its time is up.
func (c *Conn) idleEvent(*netloop.Conn) {
	p, now := c.pool, c.Net.Loop().Now()
	o := p.options.Load()
	switch {
	case !c.Net.Quiet():
		c.Close(c.whyDead())
	case c.retireAt != 0 && now >= c.retireAt:
		c.Close(facts.CloseMaxAge)
	case o.IdleTimeout > 0 && now-c.idleSince >= int64(o.IdleTimeout) && p.Idle() > o.KeepIdle:
		c.Close(facts.CloseIdleTimeout)
	default:
		c.armIdle(o, now)
		c.Net.OnEvent(c.onIdle)
	}
}

// Close closes the connection for a reason of package facts.
func (c *Conn) Close(reason string) {
	if c.closed {
		return
	}
	c.closed = true
	p, l := c.pool, c.Net.Loop()
	if c.pooled {
		p.shards[l.Index()].remove(c)
	}
	_ = c.Net.Close()
	c.Facts.WhyClosed, c.Facts.Closed = reason, l.WallNow()
	if p.hooks != nil {
		p.hooks.ConnClosed(l, &c.Facts)
	}
	p.open.Add(-1)
	if p.waiting.Load() > 0 {
		p.serveQueue(l)
	}
}

// evictIdle closes an idle connection to make place for one that may not be reused.
func (p *Pool) evictIdle(l *netloop.Loop) {
	if c := p.shards[l.Index()].oldest; c != nil {
		c.Close(facts.CloseAboveKeepIdle)
		return
	}
	if other := p.otherIdle(l); other != nil {
		other.Post(func() {
			if c := p.shards[other.Index()].oldest; c != nil {
				c.Close(facts.CloseAboveKeepIdle)
			}
		})
	}
}

// Drain closes the idle connections with reason, and the busy ones as they become free. It must run on no loop.
func (p *Pool) Drain(g *netloop.Group, reason string) {
	p.draining.Store(true)
	for _, l := range g.Loops() {
		l.Post(func() {
			s := &p.shards[l.Index()]
			for s.newest != nil {
				s.newest.Close(reason)
			}
		})
	}
}

func (s *shard) push(c *Conn) {
	c.pooled = true
	c.older, c.newer = s.newest, nil
	if s.newest != nil {
		s.newest.newer = c
	} else {
		s.oldest = c
	}
	s.newest = c
	s.count.Store(s.count.Load() + 1)
}

func (s *shard) remove(c *Conn) {
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		s.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		s.oldest = c.newer
	}
	c.newer, c.older, c.pooled = nil, nil, false
	s.count.Store(s.count.Load() - 1)
}
