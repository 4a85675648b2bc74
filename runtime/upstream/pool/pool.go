// Package pool keeps the connections to one address: idle ones for each loop, a limit for the whole process, and the
// queue of those who wait.
//
// A loop takes its own idle connection without a lock. If it has none, it takes one from another loop before anything
// is dialled: per-thread pools that do not share are how proxies lose reuse on many cores. At the limit, requests wait
// in the order in which they came, and a connection that becomes free is handed to the first of them on whatever loop.
//
// The pool knows neither HTTP nor names nor TLS: Get returns an idle connection, or leave to open one, which the caller
// does and then gives it to Opened. It writes the facts of its connections (package facts), with a reason for each
// connection that was closed and for each request that found none.
package pool

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Reuse says which requests may be sent on a connection that has carried one before.
type Reuse uint8

// The values of Reuse.
const (
	Always Reuse = iota // every request
	Safe                // only requests that can be sent again if the connection turns out dead (RFC 9110 section 9.2.2)
	Never               // none: one request for each connection
)

// Options are the limits of a pool. They may be changed while it is used.
type Options struct {
	MaxConnections int           // open or being opened in the whole process; 0: no limit
	KeepIdle       int           // how many idle connections outlive IdleTimeout
	IdleTimeout    time.Duration // idle connections above KeepIdle are closed after it; 0: never
	AcquireTimeout time.Duration // how long a request waits for a connection at the limit
	Queue          int           // how many requests may wait at once
	Reuse          Reuse
	MaxRequests    uint64        // requests for each connection; 0: no limit
	MaxAge         time.Duration // 0: no limit
	MaxAgeJitter   float64       // the share of MaxAge by which each connection's is shortened at random, 0 to 1
}

// Hooks are told what happens to connections. They run on the connection's loop and must not park.
type Hooks interface {
	ConnReleased(*netloop.Loop, *facts.Connection) // it has served another request
	ConnClosed(*netloop.Loop, *facts.Connection)
}

// Stream carries bytes; Read and Write park the task.
type Stream interface {
	Read(t *netloop.Task, b []byte) (int, error)
	Write(t *netloop.Task, b []byte) (int, error)
}

// Conn is a connection of a pool. It belongs to the loop of Net; a request that has got it owns it until Release.
type Conn struct {
	Net    *netloop.Conn
	Stream Stream // what a request is written to and its answer read from: Net itself, or TLS on top of it
	Facts  facts.Connection

	pool       *Pool
	retireAt   int64 // loop time; 0: never
	opened     int64
	idleSince  int64
	newer      *Conn // neighbours in the loop's list of idle connections
	older      *Conn
	pooled     bool
	closed     bool
	onIdle     func(*netloop.Conn) // made once, so that becoming idle does not allocate
	lastIdle   time.Duration
	ageAtTaken time.Duration
}

// Pool is the connections to one address. Get, Opened and Release run on loops; the other methods anywhere.
type Pool struct {
	hooks    Hooks
	options  atomic.Pointer[Options]
	shards   []shard
	open     atomic.Int64
	everOpen atomic.Bool
	draining atomic.Bool
	waiting  atomic.Int64
	mu       sync.Mutex // guards queue
	queue    []*waiter
}

// shard is what one loop has idle. Only its loop changes it; others read the count.
type shard struct {
	newest, oldest *Conn
	count          atomic.Int64
	_              [40]byte // a cache line of its own
}

type waiter struct {
	task    *netloop.Task
	conn    *Conn // handed over
	slot    bool  // leave to open one
	expired bool
}

// New makes an empty pool for a group of so many loops. hooks may be nil.
func New(loops int, o Options, hooks Hooks) *Pool {
	p := &Pool{hooks: hooks, shards: make([]shard, loops)}
	p.options.Store(&o)
	return p
}

// SetOptions changes the limits; connections above them are closed as they become free.
func (p *Pool) SetOptions(o Options) { p.options.Store(&o) }

// Open is how many connections are open or being opened.
func (p *Pool) Open() int { return int(p.open.Load()) }

// Waiting is how many requests wait for a connection.
func (p *Pool) Waiting() int { return int(p.waiting.Load()) }

// Idle is how many connections are idle.
func (p *Pool) Idle() int {
	n := int64(0)
	for i := range p.shards {
		n += p.shards[i].count.Load()
	}
	return int(n)
}

// Request is what the pool must know of a request.
type Request struct {
	Repeatable bool // it may be sent again if the connection turns out dead
	Fresh      bool // it wants a connection that nobody has used
}

// Get returns an idle connection, or nil with leave to open one: then why says why none was used, and the caller must
// call Opened or GiveUp. It parks while the limit is reached, at most for Options.AcquireTimeout.
func (p *Pool) Get(t *netloop.Task, r Request) (c *Conn, why string, err *fault.Error) {
	o := p.options.Load()
	l := t.Loop()
	reusable := o.Reuse != Never && !r.Fresh && (o.Reuse == Always || r.Repeatable)
	if !reusable {
		why = facts.NewNeverReuse
		if r.Fresh {
			why = facts.NewRetry
		} else if o.Reuse == Safe {
			why = facts.NewSafeOnly
		}
	}
	var deadline int64
	for {
		if reusable && p.waiting.Load() == 0 { // those who wait come first
			if c, why = p.take(l, why); c != nil {
				return c, "", nil
			}
			if c = p.steal(t); c != nil {
				return c, "", nil
			}
		}
		if p.reserve(o.MaxConnections) {
			return nil, p.whyNew(why), nil
		}
		if deadline == 0 {
			deadline = l.Now() + int64(o.AcquireTimeout)
		}
		if l.Closing() {
			return nil, "", fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
		}
		if !reusable {
			p.evictIdle(l) // at the limit with idle connections that this request must not use: one makes place
		}
		w, err := p.wait(t, o, deadline)
		switch {
		case err != nil:
			return nil, "", err
		case w.conn != nil && !reusable:
			w.conn.Close(facts.CloseNeverReuse) // frees a place, which the next turn takes
		case w.conn != nil && w.conn.usable(l):
			w.conn.taken(l)
			return w.conn, "", nil
		case w.slot:
			return nil, p.whyNew(why), nil
		}
	}
}

func (p *Pool) whyNew(why string) string {
	first := !p.everOpen.Swap(true)
	switch {
	case why != "":
		return why
	case first || p.open.Load() == 1:
		return facts.NewFirst
	}
	return facts.NewNoIdle
}

// reserve counts a connection that is about to be opened.
func (p *Pool) reserve(limit int) bool {
	for {
		n := p.open.Load()
		if limit > 0 && n >= int64(limit) {
			return false
		}
		if p.open.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// take returns a usable idle connection of the loop, the one that was used last: its congestion window is open, and
// the others grow old enough to be closed.
func (p *Pool) take(l *netloop.Loop, why string) (*Conn, string) {
	s := &p.shards[l.Index()]
	for c := s.newest; c != nil; c = s.newest {
		if !c.usable(l) {
			why = facts.NewDeadWhenTaken
			if c.Facts.WhyClosed == facts.CloseMaxAge || c.Facts.WhyClosed == facts.CloseMaxRequests {
				why = facts.NewRetired
			}
			continue // usable has closed it
		}
		s.remove(c)
		c.taken(l)
		return c, ""
	}
	return nil, why
}

// idleCheck is how long a connection may have been idle before it is worth a system call to see whether the peer has
// closed it in this very turn of the loop.
const idleCheck = int64(50 * time.Millisecond)

// usable says whether an idle connection can carry a request; if not, it closes it.
func (c *Conn) usable(l *netloop.Loop) bool {
	now := l.Now()
	switch {
	case c.closed:
		return false
	case c.retireAt != 0 && now >= c.retireAt:
		c.Close(facts.CloseMaxAge)
		return false
	case !c.Net.Quiet() || now-c.idleSince > idleCheck && !c.Net.Healthy():
		c.Close(c.whyDead())
		return false
	}
	return true
}

// whyDead tells a peer that closed from one that sent what nobody had asked for.
func (c *Conn) whyDead() string {
	var b [1]byte
	if n, _ := c.Net.TryRead(b[:]); n > 0 && !c.Facts.TLS {
		return facts.CloseUnexpectedBytes
	}
	return facts.ClosePeer
}

// taken makes the connection the request's that has just got it.
func (c *Conn) taken(l *netloop.Loop) {
	now := l.Now()
	c.Net.OnEvent(nil)
	c.Net.SetReadDeadline(0)
	c.lastIdle = time.Duration(now - c.idleSince)
	c.Facts.IdleTotal += c.lastIdle
	c.ageAtTaken = time.Duration(now - c.opened)
	c.Facts.Requests++
}

// Age is how old the connection was when the request got it, and Idle how long it had been idle.
func (c *Conn) Age() time.Duration { return c.ageAtTaken }

// Idle is how long the connection had been idle when the request got it.
func (c *Conn) Idle() time.Duration { return c.lastIdle }

// steal takes an idle connection from another loop, which gives it away in its own time.
func (p *Pool) steal(t *netloop.Task) *Conn {
	l := t.Loop()
	for i := range p.shards {
		for i != l.Index() && p.shards[i].count.Load() > 0 && !l.Closing() {
			c := p.stealFrom(t, l.Group().Loop(i))
			if c == nil {
				break // it was used meanwhile
			}
			if c.usable(l) {
				c.Facts.MovedBetweenLoops++
				c.taken(l)
				return c
			}
		}
	}
	return nil
}

func (p *Pool) stealFrom(t *netloop.Task, from *netloop.Loop) *Conn {
	var got *Conn
	to, done := t.Loop(), false
	from.Post(func() {
		s := &p.shards[from.Index()]
		c := s.oldest // its owner keeps the warm ones
		if c == nil || from.Closing() {
			to.Post(func() { done = true; t.Wake() })
			return
		}
		s.remove(c)
		c.Net.MoveTo(to, func(*netloop.Conn) {
			c.arrived()
			got, done = c, true
			t.Wake()
		})
	})
	for !done && !to.Closing() {
		t.Park()
	}
	return got
}

// arrived accounts for a connection that could not be registered with its new loop.
func (c *Conn) arrived() {
	if c.Net.Closed() {
		c.Close(facts.CloseMoveFailed)
	}
}

// wait queues until a connection or a place becomes free.
func (p *Pool) wait(t *netloop.Task, o *Options, deadline int64) (*waiter, *fault.Error) {
	l := t.Loop()
	w := &waiter{task: t}
	p.mu.Lock()
	if len(p.queue) >= o.Queue {
		p.mu.Unlock()
		return nil, p.exhausted(o, "and the queue is full")
	}
	p.queue = append(p.queue, w)
	p.waiting.Add(1)
	p.mu.Unlock()
	p.serveQueue(l) // what became free before we stood in the queue would not be offered to us

	timer := l.AfterFunc(time.Duration(deadline-l.Now()), func() { w.expired = true; t.Wake() })
	defer timer.Stop()
	for {
		p.mu.Lock()
		served := w.conn != nil || w.slot
		if !served && (w.expired || l.Closing()) {
			p.leave(w)
			p.mu.Unlock()
			return nil, p.exhausted(o, "for "+o.AcquireTimeout.String())
		}
		p.mu.Unlock()
		if served {
			return w, nil
		}
		t.Park()
	}
}

func (p *Pool) exhausted(o *Options, how string) *fault.Error {
	e := fault.New(fault.PoolExhausted, fault.Gateway, 503, "pool exhausted: %d of %d busy %s, %d waiting; see pool.max_connections",
		p.Open()-p.Idle(), o.MaxConnections, how, p.Waiting())
	return e
}

// leave takes w out of the queue; p.mu is held.
func (p *Pool) leave(w *waiter) {
	for i, other := range p.queue {
		if other == w {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.waiting.Add(-1)
			return
		}
	}
}

// first takes the first waiter out of the queue.
func (p *Pool) first() *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil
	}
	w := p.queue[0]
	p.queue = p.queue[1:]
	p.waiting.Add(-1)
	return w
}

// serveQueue gives free places, and this loop's idle connections, to those who wait.
func (p *Pool) serveQueue(l *netloop.Loop) {
	for p.waiting.Load() > 0 {
		if c := p.shards[l.Index()].newest; c != nil {
			if !c.usable(l) {
				continue
			}
			p.shards[l.Index()].remove(c)
			c.Net.OnEvent(nil)
			if !p.handOver(c) {
				p.putIdle(c)
				return
			}
			continue
		}
		if other := p.otherIdle(l); other != nil {
			other.Post(func() { p.serveQueue(other) })
			return
		}
		if !p.reserve(p.options.Load().MaxConnections) {
			return
		}
		w := p.first()
		if w == nil {
			p.open.Add(-1)
			return
		}
		p.grant(w, nil)
	}
}

func (p *Pool) otherIdle(l *netloop.Loop) *netloop.Loop {
	for i := range p.shards {
		if i != l.Index() && p.shards[i].count.Load() > 0 {
			return l.Group().Loop(i)
		}
	}
	return nil
}

// grant serves a waiter: with a connection of its own loop, or with leave to open one.
func (p *Pool) grant(w *waiter, c *Conn) {
	p.mu.Lock()
	w.conn, w.slot = c, c == nil
	p.mu.Unlock()
	w.task.Loop().Post(w.task.Wake)
}

// handOver gives a free connection to the first waiter, on whatever loop that is.
func (p *Pool) handOver(c *Conn) bool {
	w := p.first()
	if w == nil {
		return false
	}
	to := w.task.Loop()
	if to == c.Net.Loop() {
		p.grant(w, c)
		return true
	}
	c.Net.MoveTo(to, func(*netloop.Conn) {
		c.Facts.MovedBetweenLoops++
		c.arrived()
		p.grant(w, c)
	})
	return true
}

// Opened makes a connection that the caller has just opened, with leave from Get, a member of the pool. It is the
// caller's until Release.
func (p *Pool) Opened(c *Conn) {
	o := p.options.Load()
	l := c.Net.Loop()
	c.pool, c.opened = p, l.Now()
	if o.MaxAge > 0 {
		c.retireAt = c.opened + int64(float64(o.MaxAge)*(1-o.MaxAgeJitter*rand.Float64()))
	}
	c.onIdle = c.idleEvent
	c.Facts.Requests = 1
}

// GiveUp returns the leave to open a connection: opening it failed.
func (p *Pool) GiveUp(l *netloop.Loop) {
	p.open.Add(-1)
	p.serveQueue(l)
}

// Release ends a request's use of the connection. reason says why it cannot be used again; "" gives it back.
func (c *Conn) Release(reason string) {
	if c.closed {
		return
	}
	p, l := c.pool, c.Net.Loop()
	o := p.options.Load()
	c.idleSince = l.Now()
	if reason == "" {
		reason = c.retire(o, l.Now())
	}
	if reason != "" {
		c.Close(reason)
		return
	}
	if p.hooks != nil {
		p.hooks.ConnReleased(l, &c.Facts)
	}
	if p.waiting.Load() > 0 && p.handOver(c) {
		return
	}
	p.putIdle(c)
}

// retire says why a connection in good order must not be used again, if so.
func (c *Conn) retire(o *Options, now int64) string {
	switch {
	case c.pool.draining.Load():
		return facts.CloseDraining
	case o.Reuse == Never:
		return facts.CloseNeverReuse
	case o.MaxRequests > 0 && c.Facts.Requests >= o.MaxRequests:
		return facts.CloseMaxRequests
	case c.retireAt != 0 && now >= c.retireAt:
		return facts.CloseMaxAge
	case o.MaxConnections > 0 && c.pool.open.Load() > int64(o.MaxConnections):
		return facts.CloseAboveKeepIdle // the limit was lowered meanwhile
	case !c.Net.Quiet():
		return c.whyDead()
	}
	return ""
}

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
