package pool

import (
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Got says what Try has got.
type Got uint8

// The values of Got.
const (
	Full  Got = iota // nothing: the limit is reached, others wait already, or the pool takes no newcomer
	Idle             // a connection that was idle, or that takes one more request (Session); the caller's until Release
	Leave            // leave to open a connection: the caller must call Opened or GiveUp
)

// Try takes an idle connection, or leave to open one; why says then why none was used. It never waits for the limit. It
// parks only while another loop hands over an idle connection; a connection of its own loop is taken without a lock and
// without allocation.
func (p *Pool) Try(t *netloop.Task, r Request) (c *Conn, why string, got Got) {
	l := t.Loop()
	if p.state.Load() != accepting || l.Closing() || p.wanted() && p.queue.wants(p) {
		return nil, "", Full
	}
	reusable, why := p.options.Load().allows(r)
	if reusable {
		if c = p.share(l, r); c != nil {
			c.join(l.Now())
			return c, "", Idle
		}
		if p.options.Load().Shared {
			if c = p.await(t, r); c != nil {
				return c, "", Idle
			}
		}
		if c, why = p.take(l, r); c != nil {
			return c, "", Idle
		}
		if c = p.steal(t, r); c != nil {
			return c, "", Idle
		}
	}
	if p.reserve() {
		p.opens(l)
		return nil, p.whyNew(r, why), Leave
	}
	switch c, place := p.evict(t, r, reusable); {
	case c != nil:
		return c, "", Idle
	case place:
		p.opens(l)
		return nil, p.whyNew(r, why), Leave
	}
	return nil, "", Full
}

// take returns a usable idle connection of the loop, the one that was used last: its congestion window is open, and
// the others grow old enough to be closed. why tells what was wrong with those that were not usable.
func (p *Pool) take(l *netloop.Loop, r Request) (c *Conn, why string) {
	s := &p.shards[l.Index()]
	for c = s.first(r); c != nil; {
		switch {
		case c.Owner != r.Owner:
			c = c.older
			continue
		case !r.Repeatable && c.doubtful(l):
			why = facts.NewSafeOnly
			c = c.next(r)
			continue
		}
		bad := c.spoilt(l, r)
		if bad == "" {
			s.remove(c)
			c.taken(l)
			return c, ""
		}
		why = whyNot(bad)
		c.Close(bad)
		c = s.first(r)
	}
	return nil, why
}

// first and next go through the idle connections that may suit a request, those that were used last first.
func (s *shard) first(r Request) *Conn {
	if r.Owner.IsValid() {
		return s.owned[r.Owner]
	}
	return s.newest
}

func (c *Conn) next(r Request) *Conn {
	if r.Owner.IsValid() {
		return c.kin
	}
	return c.older
}

// whyNot is why a request did not get a connection that was closed for a reason.
func whyNot(closed string) string {
	switch closed {
	case facts.CloseMaxAge, facts.CloseMaxRequests, facts.CloseLearnedIdle:
		return facts.NewRetired
	}
	return facts.NewDeadWhenTaken
}

// idleCheck is how long a connection may have been idle before it is worth a system call to see whether the peer has
// closed it in this very turn of the loop.
const idleCheck = int64(50 * time.Millisecond)

// spoilt says why an idle connection cannot carry a request, if so.
func (c *Conn) spoilt(l *netloop.Loop, r Request) string {
	now := l.Now()
	idle := now - c.idleSince
	limit := c.idleLimit(now)
	switch {
	case c.Net.Closed():
		if l.Closing() {
			return facts.CloseShutdown
		}
		return facts.CloseMoveFailed
	case c.retireAt != 0 && now >= c.retireAt:
		return facts.CloseMaxAge
	case limit > 0 && idle >= limit:
		return facts.CloseLearnedIdle
	case c.Session != nil:
		if !c.Session.Alive() {
			return facts.ClosePeer
		}
		return ""
	case !c.Net.Quiet():
		if bad := c.whyDead(l); bad != "" {
			return bad
		}
	}
	// A request that cannot be repeated is worth the system call also when the connection was used just now. The loop
	// that a connection has just moved to knows nothing of it yet.
	if c.moved || c.pool.options.Load().Ping == PingSocket && (idle > idleCheck || !r.Repeatable) {
		if bad := c.unhealthy(l); bad != "" {
			return bad
		}
		c.moved = false
	}
	return ""
}

// unhealthy asks the kernel.
func (c *Conn) unhealthy(l *netloop.Loop) string {
	if c.Net.Healthy() {
		return ""
	}
	if bad := c.whyDead(l); bad != "" {
		return bad
	}
	c.closedByPeer(l) // in this very turn: the loop has not been told yet, and does not read
	return facts.ClosePeer
}

// whyDead says why a connection on which something has happened cannot be used, if so: nothing has if the last read took
// exactly what there was. It tells a peer that closed from one that sent what nobody had asked for. A peer that closed
// because the connection had been idle for too long teaches how long that is; some say 408 first.
func (c *Conn) whyDead(l *netloop.Loop) string {
	if l.Closing() {
		return facts.CloseShutdown
	}
	var b [1]byte
	n, err := c.Net.TryRead(b[:])
	ended := err != nil || c.Net.HungUp()
	switch {
	case ended || n > 0 && c.Facts.TLS:
		c.closedByPeer(l)
	case n == 0:
		return ""
	}
	if n > 0 && !c.Facts.TLS {
		return facts.CloseUnexpectedBytes
	}
	return facts.ClosePeer
}

// taken makes the connection the request's that has just got it.
func (c *Conn) taken(l *netloop.Loop) {
	now := l.Now()
	if c.Session == nil {
		c.Net.OnEvent(nil)
		c.Net.SetReadDeadline(0)
	} else {
		c.users = 1
		c.inUse(l)
	}
	c.lastIdle = time.Duration(now - c.idleSince)
	c.outlived(now)
	c.Facts.IdleTotal += c.lastIdle
	c.ageAtTaken = time.Duration(now - c.opened)
	c.unused = c.Facts.Requests == 0
	c.Facts.Requests++
}

// theft is what one loop asks of another: an idle connection, or the place of one. Only the loop of the thief uses it.
type theft struct {
	task  *netloop.Task
	conn  *Conn
	place bool
	done  bool
	gone  bool // nobody waits for it any more
}

// steal takes an idle connection from another loop, which gives it away in its own time.
func (p *Pool) steal(t *netloop.Task, r Request) *Conn {
	if r.Owner.IsValid() || p.sessions.Load() {
		return nil // connections of one client are on the client's loop, and those with a Session on theirs
	}
	l := t.Loop()
	for n := range p.shards {
		i := (l.Index() + n) % len(p.shards)
		for i != l.Index() && p.shards[i].count.Load() > 0 && !l.Closing() {
			c := p.rob(t, i, func(from *netloop.Loop) (*Conn, bool) { return p.spare(from, r), false }).conn
			if c == nil { // it was used meanwhile; and so may one of our own have become idle
				if c, _ = p.take(l, r); c != nil {
					return c
				}
				break
			}
			if bad := c.spoilt(l, r); bad != "" {
				c.close(l, bad)
				continue
			}
			c.taken(l)
			return c
		}
	}
	return nil
}

// spare takes a connection out of a loop's list for a request of another loop: the oldest that will do, since its owner
// keeps the warm ones.
func (p *Pool) spare(l *netloop.Loop, r Request) *Conn {
	s := &p.shards[l.Index()]
	for c := s.oldest; c != nil; {
		switch {
		case c.Owner != r.Owner, !r.Repeatable && c.doubtful(l), c.Session != nil:
			c = c.newer
			continue
		}
		if bad := c.spoilt(l, r); bad != "" {
			c.Close(bad)
			c = s.oldest
			continue
		}
		s.remove(c)
		return c
	}
	return nil
}

// evict takes over the place of an idle connection at the limit, which the request must not use itself; or the
// connection, if it became idle just now and the request may.
func (p *Pool) evict(t *netloop.Task, r Request, reusable bool) (c *Conn, place bool) {
	l := t.Loop()
	if reusable {
		if c, _ := p.take(l, r); c != nil {
			return c, false
		}
	}
	if p.makePlace(l) {
		return nil, true
	}
	take := func(from *netloop.Loop) (*Conn, bool) {
		if reusable {
			if c := p.spare(from, r); c != nil {
				return c, false
			}
		}
		return nil, p.makePlace(from)
	}
	for i := range p.shards {
		if i == l.Index() || p.shards[i].count.Load() == 0 || l.Closing() {
			continue
		}
		switch got := p.rob(t, i, take); {
		case got.place:
			return nil, true
		case got.conn != nil:
			if bad := got.conn.spoilt(l, r); bad != "" {
				got.conn.end(l, bad)
				return nil, true
			}
			got.conn.taken(l)
			return got.conn, false
		}
	}
	return nil, false
}

// makePlace closes the loop's oldest idle connection without giving its place back.
func (p *Pool) makePlace(l *netloop.Loop) bool {
	c := p.shards[l.Index()].oldest
	if c == nil {
		return false
	}
	c.end(l, facts.CloseMadePlace)
	return true
}

// rob runs take on loop i and returns what it has taken, parking meanwhile.
func (p *Pool) rob(t *netloop.Task, i int, take func(*netloop.Loop) (*Conn, bool)) *theft {
	to := t.Loop()
	from := to.Group().Loop(i)
	got := &theft{task: t}
	from.Post(func() {
		if from.Closing() {
			to.Post(func() { p.stolen(to, got, nil, false) })
			return
		}
		c, place := take(from)
		if c == nil {
			to.Post(func() { p.stolen(to, got, nil, place) })
			return
		}
		c.Net.OnEvent(nil)
		c.leaves(from)
		c.Net.MoveTo(to, func(*netloop.Conn) {
			c.arrived(to)
			p.stolen(to, got, c, false)
		})
	})
	for !got.done && !to.Closing() {
		t.Park()
	}
	got.gone = true
	return got
}

// stolen ends rob, on the thief's loop.
func (p *Pool) stolen(l *netloop.Loop, got *theft, c *Conn, place bool) {
	switch {
	case got.gone && c != nil:
		c.close(l, facts.CloseShutdown)
	case got.gone && place:
		p.left(l)
	case !got.gone:
		got.conn, got.place, got.done = c, place, true
		got.task.Wake()
	}
}

func (c *Conn) leaves(l *netloop.Loop) {
	if m := c.pool.mover; m != nil {
		m.ConnLeaves(l, &c.Facts)
	}
	if k := c.pool.keeper; k != nil {
		k.ConnLeft(l, c)
	}
}

func (c *Conn) arrived(l *netloop.Loop) {
	c.Facts.MovedBetweenLoops++
	c.moved = true
	if m := c.pool.mover; m != nil {
		m.ConnArrived(l, &c.Facts)
	}
	if k := c.pool.keeper; k != nil {
		k.ConnJoined(l, c)
	}
}
