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
