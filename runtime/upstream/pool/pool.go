// Package pool keeps the connections to one address: idle ones for each loop, a limit for the whole process, and, shared
// by all addresses of an upstream, the queue of those who wait.
//
// A loop takes its own idle connection without a lock. If it has none, it takes one from another loop before anything
// is dialled: per-thread pools that do not share are how proxies lose reuse on many cores. At the limit, requests wait
// in the Queue in the order in which they came, and a connection or a place that becomes free in any pool goes to the
// first of them who accepts that pool, on whatever loop. Limits are exact: a place is counted before a socket exists and
// given back after it is closed, and whoever needs the place of an idle connection takes it over without giving it up.
//
// # The idle timeout of the other side
//
// A backend that closes a connection in the moment in which a request is sent on it costs that request. The pool learns
// after how long the peer closes idle connections, from its Keep-Alive fields (Conn.Hint) and by watching it, and closes
// its own before that: sooner by a tenth, and by at least 100 ms. One close teaches caution only: requests that cannot
// be repeated no longer get connections that have been idle for that long. Three closes at different moments, after about
// the same time, are taken for the peer's timeout. It is believed for ten minutes after it was last seen, then tried
// anew; connections that live on past it disprove it. Closes within 250 ms of the last answer are no timeouts. Idleness
// is counted from Release: who reads an answer much later than the peer has sent it spends the margin on that.
//
// # Connections that serve several requests at once
//
// A connection with a Session (HTTP/2) is given to further requests of its loop while it is in use, as long as the Session has
// room; another is opened when none has. It is idle when nobody uses it. It never moves to another loop: at the limit
// a loop that has none closes an idle one of another loop and takes its place, and waits where all are in use. So
// MaxConnections below the number of loops costs connections, and may let requests wait for long.
//
// # What it does not know
//
// The pool knows neither HTTP nor names nor TLS: Try returns an idle connection, or leave to open one, which the caller
// does and then gives it to Opened. It writes the facts of its connections (package facts), with a reason for each
// connection that was closed and for each request that found none. It uses the standard library only.
package pool

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

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

// Ping says how an idle connection is looked at before a request gets it.
type Ping uint8

// The values of Ping.
const (
	PingSocket Ping = iota // the kernel is asked whether the peer has closed, if it may have done so unnoticed
	PingOff                // what the loop has been told so far is enough
)

// Options are the limits of a pool. They may be changed while it is used.
type Options struct {
	MaxConnections int           // open or being opened in the whole process; 0: no limit
	KeepIdle       int           // how many idle connections outlive IdleTimeout
	MinIdle        int           // how many are to be idle at any time: Missing; as many outlive IdleTimeout
	IdleTimeout    time.Duration // idle connections above KeepIdle and MinIdle are closed after it; 0: never
	Reuse          Reuse
	MaxRequests    uint64        // requests for each connection; 0: no limit
	MaxAge         time.Duration // 0: no limit
	MaxAgeJitter   float64       // the share of MaxAge by which each connection's is shortened at random, 0 to 1
	Ping           Ping
	// Shared says that its connections have a Session, so that a request waits for one that is being opened on its loop rather
	// than to open another.
	Shared    bool
	LearnIdle bool // learn the peer's idle timeout, and close idle connections before it
}

// Hooks are told what happens to connections. They run on the connection's loop and must not park.
type Hooks interface {
	ConnReleased(*netloop.Loop, *facts.Connection) // it has served another request
	ConnClosed(*netloop.Loop, *facts.Connection)
}

// Mover is what Hooks may be too, to be told when a connection moves to another loop. Nobody has it in between.
type Mover interface {
	ConnLeaves(*netloop.Loop, *facts.Connection)  // runs on the loop that it leaves
	ConnArrived(*netloop.Loop, *facts.Connection) // runs on its new loop; it may be closed next, if that could not take it
}

// Keeper is what Hooks may be too, to know all connections of each loop at any time, idle or not. Its methods run on the loop.
type Keeper interface {
	ConnJoined(*netloop.Loop, *Conn) // it was opened, or has come from another loop; it may be closed next
	ConnLeft(*netloop.Loop, *Conn)   // it was closed, or goes to another loop
}

// Stream carries bytes; Read and Write park the task.
type Stream interface {
	Read(t *netloop.Task, b []byte) (int, error)
	Write(t *netloop.Task, b []byte) (int, error)
}

// Conn is a connection of a pool. It belongs to the loop of Net; a request that has got it owns it until Release. The
// opener sets Net, Stream, Facts and, where it applies, Owner, and gives it to Opened or OpenedIdle.
type Conn struct {
	Net    *netloop.Conn
	Stream Stream // what a request is written to and its answer read from: Net itself, or TLS on top of it
	Facts  facts.Connection
	// Session is there if the connection serves several requests at once.
	Session Session
	Owner   netip.AddrPort // for whom it speaks: the client of the PROXY header that it began with; zero: for all
	Place   int            // the Keeper's own

	pool       *Pool
	retireAt   int64 // loop time; 0: never
	opened     int64
	idleSince  int64
	newer      *Conn // neighbours in the loop's list of idle connections
	older      *Conn
	kin        *Conn // the next idle one of the same Owner
	pooled     bool
	moved      bool // to another loop, since when nobody looked at the socket
	closed     bool
	whole      bool                // the last answer was, and nobody uses the connection any more
	unused     bool                // when it was taken last, it had not carried a request yet
	onIdle     func(*netloop.Conn) // made once, so that becoming idle does not allocate
	lastIdle   time.Duration
	ageAtTaken time.Duration
	hinted     int64  // how long it may be idle by the peer's word; 0: it said nothing
	lastMax    uint64 // of the last Hint
	allowed    uint64 // requests, by the peer's word; 0: it said nothing
	condemned  string // why it is to be closed when it becomes free; "": it is not
	// With a Session:
	users   int    // who use it now
	leaving string // why it takes no further request, and is to be closed; "": it does
	timer   *netloop.Timer
	timerAt int64 // when it fires; 0: it does not
}

// Pool is the connections to one address. Try, Opened, OpenedIdle, GiveUp and what belongs to a Conn run on loops; the
// other methods may be called anywhere.
type Pool struct {
	hooks    Hooks
	mover    Mover // hooks, if they are one
	keeper   Keeper
	options  atomic.Pointer[Options]
	queue    *Queue
	only     list // who waits for this pool and no other; guarded by queue.mu but for the count
	shards   []shard
	open     atomic.Int64
	ahead    atomic.Int64 // of open: being opened before anybody asked
	everOpen atomic.Bool
	state    atomic.Int32
	draining atomic.Pointer[string] // the reason
	reaping  atomic.Bool
	sessions atomic.Bool  // its connections have a Session
	hint     atomic.Int64 // the last timeout of a Keep-Alive field, ns
	proven   atomic.Int64 // how long an idle connection was seen to live, since a peer closed one
	learned  [2]learner   // of connections that have carried requests, and of those opened ahead that have not
}

// What a pool is there for.
const (
	accepting = iota
	parked    // for the requests that it has got
	drained   // for nothing: connections are closed as they become free
)

// shard is what one loop has idle. Only its loop changes it; others read the count.
type shard struct {
	newest, oldest *Conn
	count          atomic.Int64
	owned          map[netip.AddrPort]*Conn // the newest of each Owner
	shared         []*Conn                  // in use, and with a Session; the oldest first
	opening        int                      // so many are being opened for requests; counted with Options.Shared
	joiners        []*joiner                // wait for one of them
	_              [40]byte                 // cache lines of its own
}

// New makes an empty pool for a group of so many loops, whose waiters stand in q. hooks may be nil.
func New(loops int, o Options, q *Queue, hooks Hooks) *Pool {
	p := &Pool{hooks: hooks, queue: q, shards: make([]shard, loops)}
	p.mover, _ = hooks.(Mover)
	p.keeper, _ = hooks.(Keeper)
	p.options.Store(&o)
	q.add(p)
	return p
}

// SetOptions changes the limits; connections above them are closed as they become free.
func (p *Pool) SetOptions(o Options) {
	p.options.Store(&o)
	if !o.LearnIdle {
		p.hint.Store(0)
		for i := range p.learned {
			p.learned[i].forget()
		}
	}
	p.queue.kick(p)
}

// Open is how many connections are open or being opened.
func (p *Pool) Open() int { return int(p.open.Load()) }

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
	Repeatable bool           // it may be sent again if the connection turns out dead
	Fresh      bool           // it wants a connection that nobody has used
	Owner      netip.AddrPort // it needs a connection that speaks for this client, by PROXY protocol; zero: one that speaks for all
}

// allows says whether the request may be sent on a connection that was used before, and why not.
func (o *Options) allows(r Request) (ok bool, why string) {
	switch {
	case r.Fresh:
		return false, facts.NewRetry
	case o.Reuse == Never:
		return false, facts.NewNeverReuse
	case o.Reuse == Safe && !r.Repeatable:
		return false, facts.NewSafeOnly
	}
	return true, ""
}

// whyNew says why a connection is opened, for a place that is reserved already.
func (p *Pool) whyNew(r Request, why string) string {
	first := !p.everOpen.Swap(true) || p.open.Load() == 1
	switch {
	case why != "":
		return why
	case first:
		return facts.NewFirst
	case r.Owner.IsValid():
		return facts.NewProxyProtocol
	}
	return facts.NewNoIdle
}

// reserve counts a connection that is about to be opened.
func (p *Pool) reserve() bool {
	limit := int64(p.options.Load().MaxConnections)
	for {
		n := p.open.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if p.open.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// room says whether somebody who waits could be served.
func (p *Pool) room() bool {
	limit := int64(p.options.Load().MaxConnections)
	return p.state.Load() == accepting && (limit <= 0 || p.open.Load() < limit || p.Idle() > 0)
}

// Opened makes a connection that the caller has just opened, with leave from Try or Queue.Wait, a member of the pool. It
// is the caller's until Release.
func (p *Pool) Opened(c *Conn) {
	p.adopt(c)
	c.Facts.Requests = 1
	if c.Session != nil {
		c.users = 1
		c.inUse(c.Net.Loop())
	}
	p.cameOpen(c.Net.Loop(), true)
}

func (p *Pool) adopt(c *Conn) {
	o := p.options.Load()
	c.pool, c.opened = p, c.Net.Loop().Now()
	if o.MaxAge > 0 {
		c.retireAt = c.opened + int64(float64(o.MaxAge)*(1-o.MaxAgeJitter*rand.Float64()))
	}
	c.onIdle = c.idleEvent
	if c.Session != nil {
		p.sessions.Store(true)
	}
	if p.keeper != nil {
		p.keeper.ConnJoined(c.Net.Loop(), c)
	}
}

// GiveUp returns the leave to open a connection: opening it failed.
func (p *Pool) GiveUp(l *netloop.Loop) {
	p.cameOpen(l, false)
	p.left(l)
}

// left gives a place back.
func (p *Pool) left(l *netloop.Loop) {
	p.open.Add(-1)
	p.queue.offer(p, l)
}

// Release ends a request's use of the connection. reason says why it cannot be used again; "" gives it back. It returns why
// the connection was closed: reason, or what the pool has against it; "" if it is kept.
func (c *Conn) Release(reason string) (why string) {
	c.Facts.User = nil
	if c.closed {
		return c.Facts.WhyClosed
	}
	if c.Session != nil {
		return c.releaseShare(reason)
	}
	p, l := c.pool, c.Net.Loop()
	now := l.Now()
	switch reason {
	case "":
		c.whole = true
		reason = c.retire(l)
	case facts.CloseUpstreamSaidClose, facts.CloseHTTP10, facts.CloseDelimited:
		c.whole = true
	case facts.ClosePeer, facts.CloseError:
		c.missed(l)
	}
	c.idleSince = now
	if reason != "" {
		c.Close(reason)
		return reason
	}
	if p.hooks != nil {
		p.hooks.ConnReleased(l, &c.Facts)
	}
	p.putIdle(c)
	return ""
}

// retire says why a connection in good order must not be used again, if so.
func (c *Conn) retire(l *netloop.Loop) string {
	p := c.pool
	o, now := p.options.Load(), l.Now()
	switch {
	case c.condemned != "":
		return c.condemned
	case p.state.Load() == drained:
		return *p.draining.Load()
	case o.Reuse == Never:
		return facts.CloseNeverReuse
	case o.MaxRequests > 0 && c.Facts.Requests >= o.MaxRequests, c.allowed > 0 && c.Facts.Requests >= c.allowed:
		return facts.CloseMaxRequests
	case c.retireAt != 0 && now >= c.retireAt:
		return facts.CloseMaxAge
	case o.MaxConnections > 0 && p.open.Load() > int64(o.MaxConnections):
		return facts.CloseAboveKeepIdle // the limit was lowered meanwhile
	case c.Session != nil:
		if !c.Session.Alive() {
			return facts.ClosePeer
		}
	case !c.Net.Quiet():
		return c.whyDead(l)
	}
	return ""
}

// Age is how old the connection was when the request got it.
func (c *Conn) Age() time.Duration { return c.ageAtTaken }

// Idle is how long the connection had been idle when the request got it.
func (c *Conn) Idle() time.Duration { return c.lastIdle }
