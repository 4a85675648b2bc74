package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Queue is where requests wait for a connection of any pool of an upstream, in the order in which they came. Its lock is
// held for looking at the waiters and never while anything is waited for; nobody takes it as long as nobody waits.
type Queue struct {
	pools   atomic.Pointer[[]*Pool] // copied on write
	waiting atomic.Int64
	mu      sync.Mutex // guards what follows, and Pool.only
	any     list       // who waits for no pool in particular
	last    uint64
}

// waiter is a request that waits. What it was given is written on its own loop.
type waiter struct {
	task    *netloop.Task
	request Request
	only    *Pool
	accept  func(*Pool) bool
	number  uint64 // the order of arrival
	newer   *waiter
	older   *waiter
	queued  bool // guarded by the queue

	expired bool
	shared  bool // conn is in use, and this request is one of its users already
	done    bool
	pool    *Pool
	conn    *Conn
	why     string
	err     *fault.Error
}

// list has who came first in front. The queue's lock guards all of it but the count, which anybody may read.
type list struct {
	oldest, newest *waiter
	count          atomic.Int64
}

// NewQueue makes a queue in which nobody waits.
func NewQueue() *Queue {
	q := &Queue{}
	q.pools.Store(&[]*Pool{})
	return q
}

// Waiting is how many requests wait.
func (q *Queue) Waiting() int { return int(q.waiting.Load()) }

// Wait parks until a pool hands over a connection, c, or leave to open one, for which the caller must call p.Opened or
// p.GiveUp and which why explains as that of Pool.Try does. The request waits for the pool only, or if that is nil, for
// any that accept, which is called under the queue's lock and must be quick, says may serve it; nil: all. Pools that are
// parked or drained serve nobody.
//
// It waits for limit at most; 0 does not wait, but takes what is free. No more than most requests wait at once. The error's
// status is 503; it is Retryable if the only pool no longer takes requests, so that another should be chosen.
func (q *Queue) Wait(t *netloop.Task, r Request, only *Pool, accept func(*Pool) bool, limit time.Duration, most int) (p *Pool, c *Conn, why string, err *fault.Error) {
	l := t.Loop()
	w := &waiter{task: t, request: r, only: only, accept: accept}
	if l.Closing() {
		return nil, nil, "", stopping()
	}
	if !q.enter(w, most) {
		return nil, nil, "", q.exhausted(w, "and the queue is full", "queue.max")
	}
	if only != nil && only.Parked() && q.leave(w) {
		return nil, nil, "", gone()
	}
	q.search(w, l) // what became free before w stood in the queue would not be offered to it
	if limit > 0 {
		timer := l.AfterFunc(limit, func() { w.expired = true; t.Wake() })
		defer timer.Stop()
	}
	for !w.done {
		if (w.expired || limit <= 0 || l.Closing()) && q.leave(w) {
			if l.Closing() {
				return nil, nil, "", stopping()
			}
			return nil, nil, "", q.exhausted(w, "for "+limit.String(), "pool.max_connections")
		}
		t.Park() // also when it was given something that is on its way
	}
	return w.receive(l)
}

// receive takes what w was given. A connection that did not survive its way to w leaves w its place.
func (w *waiter) receive(l *netloop.Loop) (p *Pool, c *Conn, why string, err *fault.Error) {
	p, c, why = w.pool, w.conn, w.why
	switch {
	case w.err != nil:
		return nil, nil, "", w.err
	case l.Closing():
		if c != nil {
			c.close(l, facts.CloseShutdown)
		} else {
			p.left(l)
		}
		return nil, nil, "", stopping()
	case c == nil:
		p.opens(l)
		return p, nil, why, nil
	case w.shared:
		return p, c, "", nil
	}
	if bad := c.spoilt(l, w.request); bad != "" {
		c.end(l, bad)
		p.opens(l)
		return p, nil, p.whyNew(w.request, whyNot(bad)), nil
	}
	c.taken(l)
	return p, c, "", nil
}

func stopping() *fault.Error {
	return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
}

func gone() *fault.Error {
	e := fault.New(fault.PoolExhausted, fault.Gateway, 503, "the address takes no new requests")
	e.Retryable = true
	return e
}

// exhausted says what is full: the pools that may serve w.
func (q *Queue) exhausted(w *waiter, how, see string) *fault.Error {
	busy, most, pools := 0, 0, 0
	q.mu.Lock()
	for _, p := range *q.pools.Load() {
		if p.state.Load() == accepting && w.accepts(p) {
			pools++
			busy += p.Open() - p.Idle()
			most += p.options.Load().MaxConnections
		}
	}
	q.mu.Unlock()
	if pools == 0 {
		return fault.New(fault.PoolExhausted, fault.Gateway, 503, "no target takes requests, %s, %d waiting; see queue.timeout and queue.max", how, q.Waiting())
	}
	return fault.New(fault.PoolExhausted, fault.Gateway, 503, "pool exhausted: %d of %d busy %s, %d waiting; see %s", busy, most, how, q.Waiting(), see)
}

// accepts says whether w waits for p; the queue's lock is held.
func (w *waiter) accepts(p *Pool) bool {
	if w.only != nil {
		return w.only == p
	}
	return w.accept == nil || w.accept(p)
}

// Kick offers what is free to those who wait. The owner calls it when a pool may be accepted that was not before. It may
// be called anywhere.
func (q *Queue) Kick() {
	for _, p := range *q.pools.Load() {
		q.kick(p)
	}
}

// kick is Kick for one pool: each loop gives away its idle connections, and then free places.
func (q *Queue) kick(p *Pool) {
	if !p.wanted() {
		return
	}
	q.mu.Lock()
	w := q.first(p)
	q.mu.Unlock()
	if w == nil {
		return
	}
	g, idle := w.task.Loop().Group(), false
	for i := range p.shards {
		if p.shards[i].count.Load() > 0 {
			l := g.Loop(i)
			l.Post(func() { q.serve(p, g, l, 0) })
			idle = true
		}
	}
	if !idle {
		q.serve(p, g, nil, 0)
	}
}

// wanted says whether somebody may wait for the pool, by what can be seen without a lock.
func (p *Pool) wanted() bool { return p.queue.any.count.Load() > 0 || p.only.count.Load() > 0 }

// wants says whether somebody waits for the pool.
func (q *Queue) wants(p *Pool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first(p) != nil
}

// offer serves those who wait for a pool in which something became free.
func (q *Queue) offer(p *Pool, l *netloop.Loop) {
	if p.wanted() {
		q.serve(p, l.Group(), l, len(p.shards))
	}
}

// search looks for something that is free for w.
func (q *Queue) search(w *waiter, l *netloop.Loop) {
	if w.only != nil {
		q.offer(w.only, l)
		return
	}
	for _, p := range *q.pools.Load() {
		if p.room() {
			q.offer(p, l)
		}
	}
}

// serve gives the pool's idle connections of loop l, on which it runs, and then its free places to those who wait. l may
// be nil. Connections that other loops have idle come before places, as long as hops allows to ask them.
func (q *Queue) serve(p *Pool, g *netloop.Group, l *netloop.Loop, hops int) {
	for p.wanted() && p.state.Load() == accepting {
		if l != nil && p.shards[l.Index()].newest != nil {
			w := q.pop(p, false)
			if w == nil {
				return
			}
			p.give(w, l)
			continue
		}
		other := p.otherIdle(g, l)
		if other == nil || hops == 0 {
			if w := q.pop(p, true); w != nil {
				w.grant(p, p.whyNew(w.request, w.why))
				continue
			}
		}
		if other != nil && q.wants(p) {
			other.Post(func() { q.serve(p, g, other, max(hops-1, 0)) })
		}
		return
	}
}

func (p *Pool) otherIdle(g *netloop.Group, l *netloop.Loop) *netloop.Loop {
	for i := range p.shards {
		if p.shards[i].count.Load() > 0 && (l == nil || i != l.Index()) {
			return g.Loop(i)
		}
	}
	return nil
}

// give serves w, which has left the queue, by one of the loop's idle connections: with that, or with its place.
func (p *Pool) give(w *waiter, l *netloop.Loop) {
	s := &p.shards[l.Index()]
	if ok, why := p.options.Load().allows(w.request); !ok {
		w.why = why
	} else {
		for c := s.first(w.request); c != nil; c = c.next(w.request) {
			switch {
			case c.Owner != w.request.Owner, c.Session != nil && w.task.Loop() != l:
				continue
			case !w.request.Repeatable && c.doubtful(l):
				w.why = facts.NewSafeOnly
				continue
			}
			if bad := c.spoilt(l, w.request); bad != "" {
				c.end(l, bad)
				w.grant(p, p.whyNew(w.request, whyNot(bad)))
				return
			}
			s.remove(c)
			w.hand(p, c, l)
			return
		}
	}
	if !p.reserve() {
		p.makePlace(l)
	}
	w.grant(p, p.whyNew(w.request, w.why))
}

// hand moves a connection to the waiter's loop and gives it to the waiter.
func (w *waiter) hand(p *Pool, c *Conn, from *netloop.Loop) {
	to := w.task.Loop()
	if c.Session == nil {
		c.Net.OnEvent(nil)
	}
	if to == from {
		to.Post(func() { w.end(p, c, "", nil) })
		return
	}
	from.Post(func() { // not inside an event of the connection itself, such as the end of its dial
		c.leaves(from)
		c.Net.MoveTo(to, func(*netloop.Conn) {
			c.arrived(to)
			w.end(p, c, "", nil)
		})
	})
}

// grant gives the waiter leave to open a connection, whose place is reserved.
func (w *waiter) grant(p *Pool, why string) {
	w.task.Loop().Post(func() { w.end(p, nil, why, nil) })
}

// end runs on the waiter's loop.
func (w *waiter) end(p *Pool, c *Conn, why string, err *fault.Error) {
	w.pool, w.conn, w.why, w.err, w.done = p, c, why, err, true
	w.task.Wake()
}

// listOf is where w stands.
func (q *Queue) listOf(w *waiter) *list {
	if w.only != nil {
		return &w.only.only
	}
	return &q.any
}

// enter puts w at the end of the queue, unless max requests wait already.
func (q *Queue) enter(w *waiter, most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Load() >= int64(most) {
		return false
	}
	q.last++
	w.number, w.queued = q.last, true
	in := q.listOf(w)
	w.older = in.newest
	if in.newest != nil {
		in.newest.newer = w
	} else {
		in.oldest = w
	}
	in.newest = w
	in.count.Add(1)
	q.waiting.Add(1)
	return true
}

// leave takes w out of the queue, if it was given nothing yet.
func (q *Queue) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.queued {
		return false
	}
	q.unlink(w)
	return true
}

// unlink takes w out of its list; the lock is held.
func (q *Queue) unlink(w *waiter) {
	in := q.listOf(w)
	if w.older != nil {
		w.older.newer = w.newer
	} else {
		in.oldest = w.newer
	}
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		in.newest = w.older
	}
	w.newer, w.older, w.queued = nil, nil, false
	in.count.Add(-1)
	q.waiting.Add(-1)
}

// first is who has waited for the pool longest; the lock is held.
func (q *Queue) first(p *Pool) *waiter {
	own := p.only.oldest
	for w := q.any.oldest; w != nil && (own == nil || w.number < own.number); w = w.newer {
		if w.accepts(p) {
			return w
		}
	}
	return own
}

// pop takes who has waited for the pool longest out of the queue; with reserve only if a place is free, which is
// reserved then.
func (q *Queue) pop(p *Pool, reserve bool) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.first(p)
	if w == nil || reserve && !p.reserve() {
		return nil
	}
	q.unlink(w)
	if reserve {
		_, w.why = p.options.Load().allows(w.request)
	}
	return w
}

// dismiss ends the waiting of those who wait for a pool that takes no newcomer.
func (q *Queue) dismiss(p *Pool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := p.only.oldest; w != nil; w = p.only.oldest {
		q.unlink(w)
		w.task.Loop().Post(func() { w.end(p, nil, "", gone()) })
	}
}

func (q *Queue) add(p *Pool) {
	q.mu.Lock()
	pools := append(slices.Clone(*q.pools.Load()), p)
	q.pools.Store(&pools)
	q.mu.Unlock()
	q.kick(p)
}

// drop forgets a pool that serves nobody any more.
func (q *Queue) drop(p *Pool) {
	q.mu.Lock()
	pools := slices.DeleteFunc(slices.Clone(*q.pools.Load()), func(o *Pool) bool { return o == p })
	q.pools.Store(&pools)
	q.mu.Unlock()
	q.dismiss(p)
}
