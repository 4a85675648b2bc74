package pool

import (
	"io"
	"net/netip"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

func (p *Pool) putIdle(c *Conn) {
	l := c.Net.Loop()
	c.whole = false // pooled says so now
	p.shards[l.Index()].push(c)
	c.armIdle(p.options.Load(), l.Now())
	p.queue.offer(p, l)
}

// armIdle has idleEvent look at the connection when something is due, or happens to it.
func (c *Conn) armIdle(o *Options, now int64) {
	at := c.retireAt
	if o.IdleTimeout > 0 {
		idle := c.idleSince + int64(o.IdleTimeout)
		if idle <= now { // kept, for now
			idle = now + int64(o.IdleTimeout)
		}
		at = earlier(at, idle)
	}
	if limit := c.idleLimit(now); limit > 0 {
		at = earlier(at, c.idleSince+limit)
	}
	c.watch(at)
}

// earlier is the earlier of two times of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

// idleEvent is called when something happens to an idle connection: its end, bytes, or its time is up.
func (c *Conn) idleEvent(*netloop.Conn) {
	p, l := c.pool, c.Net.Loop()
	now := l.Now()
	o := p.options.Load()
	limit := c.idleLimit(now)
	bad := ""
	if c.Session == nil && !c.Net.Quiet() {
		bad = c.whyDead(l)
	}
	switch {
	case bad != "":
		c.Close(bad)
	case c.retireAt != 0 && now >= c.retireAt:
		c.Close(facts.CloseMaxAge)
	case limit > 0 && now-c.idleSince >= limit:
		c.Close(facts.CloseLearnedIdle)
	case o.IdleTimeout > 0 && now-c.idleSince >= int64(o.IdleTimeout):
		c.outlived(now)
		c.expire(o, now)
	default:
		c.armIdle(o, now)
	}
}

// expire closes a connection that was idle for the whole idle timeout, unless it is one of those that are kept. One loop
// at a time decides, so that no two of them close the same surplus.
func (c *Conn) expire(o *Options, now int64) {
	p := c.pool
	if !p.reaping.CompareAndSwap(false, true) {
		c.watch(now + int64(time.Millisecond))
		return
	}
	if p.Idle() > max(o.KeepIdle, o.MinIdle) {
		c.end(c.Net.Loop(), facts.CloseIdleTimeout)
		p.reaping.Store(false)
		p.left(c.Net.Loop())
		return
	}
	p.reaping.Store(false)
	c.armIdle(o, now)
}

// Close closes the connection for a reason of package facts.
func (c *Conn) Close(reason string) { c.close(c.Net.Loop(), reason) }

// close closes the connection on the loop that runs: that of Net, unless moving it failed.
func (c *Conn) close(l *netloop.Loop, reason string) {
	if c.closed {
		return
	}
	c.end(l, reason)
	c.pool.left(l)
}

// end closes the connection and keeps its place.
func (c *Conn) end(l *netloop.Loop, reason string) {
	c.closed = true
	p, free := c.pool, c.pooled || c.whole
	if c.pooled {
		c.Facts.IdleTotal += time.Duration(max(0, l.Now()-c.idleSince))
		p.shards[l.Index()].remove(c)
	}
	if c.Session != nil {
		c.unshare()
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	c.HangUp(free && l == c.Net.Loop())
	if p.keeper != nil {
		p.keeper.ConnLeft(l, c)
	}
	c.Facts.WhyClosed, c.Facts.Closed = reason, l.WallNow()
	if p.hooks != nil {
		p.hooks.ConnClosed(l, &c.Facts)
	}
}

// HangUp closes the socket. If nobody uses the connection (free), the peer is told before, as far as that needs no waiting: TLS says
// that it ends (close_notify), so that nobody takes it for cut off. A Session tells in any case.
func (c *Conn) HangUp(free bool) {
	switch b, ok := c.Stream.(io.Closer); {
	case c.Session != nil:
		c.Session.Close()
	case ok && free && !c.Net.HungUp():
		_ = b.Close()
	default:
		_ = c.Net.Close()
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
	if c.Owner.IsValid() {
		if s.owned == nil {
			s.owned = map[netip.AddrPort]*Conn{}
		}
		c.kin = s.owned[c.Owner]
		s.owned[c.Owner] = c
	}
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
	if c.Owner.IsValid() {
		s.disown(c)
	}
	c.newer, c.older, c.pooled = nil, nil, false
	s.count.Store(s.count.Load() - 1)
}

// disown takes c out of the list of its Owner's connections, which is short: a client asks one thing at a time.
func (s *shard) disown(c *Conn) {
	switch first := s.owned[c.Owner]; {
	case first != c:
		for ; first.kin != c; first = first.kin {
		}
		first.kin = c.kin
	case c.kin != nil:
		s.owned[c.Owner] = c.kin
	default:
		delete(s.owned, c.Owner)
	}
	c.kin = nil
}
