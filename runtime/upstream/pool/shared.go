package pool

import (
	"slices"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Session is what a connection carries that serves several requests at once, as HTTP/2 does. It reads while nobody uses the
// connection too; so a connection that has one stays on its loop for life. Its methods run on that loop.
type Session interface {
	Room(users int) bool // it takes one more request, beside so many
	Alive() bool         // it takes requests at all
	Close()              // ends it and the connection; the peer is told as far as that needs no waiting
}

// share finds a connection in use on the loop that takes another request: the one that is oldest, so that those above what is
// needed become idle.
func (p *Pool) share(l *netloop.Loop, r Request) *Conn {
	s := &p.shards[l.Index()]
	for i := 0; i < len(s.shared); i++ {
		c := s.shared[i]
		if c.Owner != r.Owner {
			continue
		}
		if bad := c.retire(l); bad != "" {
			c.leave(bad)
			i--
			continue
		}
		if c.Session.Room(c.users) {
			return c
		}
	}
	return nil
}

// join makes the request one of those that use the connection.
func (c *Conn) join(now int64) {
	c.users++
	c.lastIdle, c.ageAtTaken = 0, time.Duration(now-c.opened)
	c.unused = false
	c.Facts.Requests++
}

// inUse puts the connection where those are that take more requests. Some may wait.
func (c *Conn) inUse(l *netloop.Loop) {
	if c.leaving != "" {
		return
	}
	p := c.pool
	s := &p.shards[l.Index()]
	s.shared = append(s.shared, c)
	if p.wanted() {
		p.queue.serveShared(p, l)
	}
}

// joiner is a request that waits for a connection that another one of its loop opens.
type joiner struct {
	task   *netloop.Task
	come   bool
	failed bool
}

// opens notes that a request of the loop has leave to open a connection.
func (p *Pool) opens(l *netloop.Loop) {
	if p.options.Load().Shared {
		p.shards[l.Index()].opening++
	}
}

// cameOpen is the end of opens: those who wait look again, or, if it failed, open one themselves.
func (p *Pool) cameOpen(l *netloop.Loop, ok bool) {
	s := &p.shards[l.Index()]
	if s.opening > 0 {
		s.opening--
	}
	for i, j := range s.joiners {
		j.come, j.failed = true, !ok
		j.task.Wake()
		s.joiners[i] = nil
	}
	s.joiners = s.joiners[:0]
}

// await waits while connections are being opened on the loop, and joins one of them: nil if none takes the request.
func (p *Pool) await(t *netloop.Task, r Request) *Conn {
	l := t.Loop()
	s := &p.shards[l.Index()]
	for s.opening > 0 && s.newest == nil && !r.Owner.IsValid() && p.state.Load() == accepting {
		j := &joiner{task: t}
		s.joiners = append(s.joiners, j)
		for !j.come {
			if l.Closing() {
				return nil // who opens one is still there, and finds nobody parked
			}
			t.Park()
		}
		if c := p.share(l, r); c != nil {
			c.join(l.Now())
			return c
		}
		if j.failed {
			return nil
		}
	}
	return nil
}

// leave has the connection take no further request, and be closed for the reason when the last has ended.
func (c *Conn) leave(reason string) {
	if c.leaving != "" {
		return
	}
	c.leaving = reason
	c.unshare()
}

func (c *Conn) unshare() {
	s := &c.pool.shards[c.Net.Loop().Index()]
	if i := slices.Index(s.shared, c); i >= 0 {
		s.shared = slices.Delete(s.shared, i, i+1)
	}
}

// Gone tells that the connection's Session takes no further request, and why. It may be called at any time after the connection
// was made, on its loop.
func (c *Conn) Gone(reason string) {
	switch {
	case c.closed:
	case c.pool == nil: // it is being opened
		c.leaving = reason
	case c.pooled:
		l := c.Net.Loop()
		if reason == facts.ClosePeer {
			c.closedByPeer(l)
		}
		c.Close(reason)
	default:
		c.leave(reason)
	}
}

// Limited tells that the Session takes more or fewer requests at a time than before: some may wait for that, and one that takes none,
// and carries none, is of no use. It runs on the connection's loop.
func (c *Conn) Limited() {
	l := c.Net.Loop()
	switch {
	case c.closed || c.pool == nil:
	case c.pooled && !c.Session.Room(0):
		c.Close(facts.CloseMaxRequests)
	case !c.pooled && c.leaving == "" && c.pool.wanted():
		c.pool.queue.serveShared(c.pool, l)
	}
}

// releaseShare is Release where others may use the connection too.
func (c *Conn) releaseShare(reason string) (why string) {
	p, l := c.pool, c.Net.Loop()
	if c.users--; reason == "" && c.leaving == "" {
		if reason = c.retire(l); reason == "" && c.users == 0 && !c.Session.Room(0) {
			reason = facts.CloseMaxRequests
		}
	}
	if reason != "" {
		c.leave(reason)
	}
	c.idleSince = l.Now()
	if c.users == 0 && c.leaving != "" {
		c.Close(c.leaving)
		return c.leaving
	}
	if p.hooks != nil {
		p.hooks.ConnReleased(l, &c.Facts)
	}
	if c.users == 0 {
		c.unshare()
		p.putIdle(c)
		return ""
	}
	if p.wanted() && c.leaving == "" {
		p.queue.serveShared(p, l)
	}
	return ""
}

// serveShared gives what connections in use on a loop take of further requests to those of that loop who wait.
func (q *Queue) serveShared(p *Pool, l *netloop.Loop) {
	for {
		q.mu.Lock()
		w := q.firstOn(p, l)
		var c *Conn
		if w != nil {
			if ok, _ := p.options.Load().allows(w.request); ok {
				c = p.share(l, w.request)
			}
		}
		if c == nil {
			q.mu.Unlock()
			return
		}
		q.unlink(w)
		q.mu.Unlock()
		c.join(l.Now())
		w.shared = true
		l.Post(func() { w.end(p, c, "", nil) })
	}
}

// firstOn is who has waited for the pool longest, of those of a loop; the lock is held.
func (q *Queue) firstOn(p *Pool, l *netloop.Loop) *waiter {
	for _, list := range [...]*list{&p.only, &q.any} {
		for w := list.oldest; w != nil; w = w.newer {
			if w.task.Loop() == l && w.accepts(p) {
				return w
			}
		}
	}
	return nil
}

// watch has idleEvent look at an idle connection at a time, and, where nobody reads it, when something happens to it.
func (c *Conn) watch(at int64) {
	if c.Session == nil {
		c.Net.SetReadDeadline(at)
		c.Net.OnEvent(c.onIdle)
		return
	}
	if at == 0 || c.timerAt != 0 && c.timerAt <= at {
		return // it looks earlier, and then again
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	l := c.Net.Loop()
	c.timer, c.timerAt = l.AfterFunc(time.Duration(at-l.Now()), func() {
		if c.timerAt = 0; c.pooled && !c.closed {
			c.idleEvent(c.Net)
		}
	}), at
}
