// Package upstream gives a request a connection to an upstream: Acquire chooses a member, takes a pooled connection of
// it or opens one, and keeps its facts. It composes the packages below it, each with one job: resolve (names), balance
// (the choice), health (who may be chosen), pool (connections to one address), facts (what is known of a connection).
//
// A target is what the configuration names; its name stands for addresses, and each of these is a Member: it has a
// pool, a load and a health of its own. The targets of an upstream are a cluster: one choice is made among all their
// members, and requests that find every connection busy stand in one queue. Each authority of a dynamic upstream is a
// cluster too.
//
//	Acquire ─ sticky session? ─ the session's member ─┐
//	             └ no: balance ─ a member ────────────┴─ pool ─ idle connection
//	                                 ▲                     ├─── leave to open one ─ dial ─ failed: the next member
//	                                 └── all were full ────┴─── queue
//
// A new answer of DNS makes new members; those whose address is gone get no more requests, finish what they have, and
// keep their idle connections for Config.Drain, in case that the address comes back, as it does where a server answers
// with a few addresses of many in turn. Pools are kept by upstream, address, TLS identity and protocol; the route, and
// the way the route matched, are no part of the key, so a regex route or a captured authority reuses connections exactly
// as a prefix route does. TLS is crypto/tls on top of the loop's connection: measured at 0.75 to 0.88 of nginx with
// OpenSSL.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// Config is what an upstream is made of.
type Config struct {
	Name          string
	Targets       []Target // may be empty for an upstream with Dynamic only
	Dynamic       *Dynamic // nil: requests cannot name their own authority
	Pool          pool.Options
	Queue         Queue
	Balance       balance.Options
	Health        Health
	Breaker       breaker.Options // the zero value never opens
	Budget        Budget
	Connect       time.Duration // until the socket is connected, for each address that is tried; 0: no limit
	Handshake     time.Duration // of TLS; 0: no limit
	TLS           *tls.Config   // for https targets; ServerName empty: the target's host
	TCPKeepAlive  time.Duration // probes of silent connections; 0: none. Not HTTP's keep-alive
	ReceiveBuffer int           // of the socket, bytes; 0: the operating system's choice
	DNS           resolve.NameOptions
	Drain         time.Duration // how long idle connections to an address that DNS no longer gives are kept
	Failover      bool          // a request of a sticky session may go to another member if its own cannot be used
	// Preface is what a connection begins with, for the client at src, which connected to dst; invalid ones mean for nobody.
	// nil: nothing. With it, a connection serves only the client that it was opened for (pool.Request.Owner).
	Preface func(b []byte, src, dst netip.AddrPort) []byte
	// Session makes a connection that was opened one that serves several requests at once: it sets pool.Conn.Session, until a
	// loop time (0: no limit), and parks. After an error the connection is closed. nil: connections serve one at a time.
	Session func(t *netloop.Task, c *pool.Conn, until int64) *fault.Error
	// Secure is asked for the TLS configuration of each handshake, and may park t. nil: it is TLS.
	Secure func(t *netloop.Task) *tls.Config
}

// Target is one server of an upstream, or several of one name.
type Target struct {
	Host   string // name or address, without brackets, or the absolute path of a Unix socket; one that begins with "_" is looked up as SRV
	Port   uint16
	TLS    bool
	Weight int // its share of the requests, whatever the number of its addresses; 0 is 1
	Tier   int // the lowest tier with an available member serves
	State  balance.State

	Route        string // what sticky sessions call it; empty: each address has a name of its own
	Redirect     string // the Route of the target that takes its sessions when it cannot be used
	IgnoreErrors bool   // failures of requests do not eject it
}

// Queue bounds those who wait.
type Queue struct {
	Max     int           // for a connection, or for a member that can be used; further ones are refused at once
	Acquire time.Duration // how long they wait for a connection when all are in use
	Timeout time.Duration // how long they wait when no member can be used at all
}

// Health says when a member is not chosen.
type Health struct {
	Passive   health.Passive
	Active    *Check // nil: nothing is asked
	SlowStart time.Duration
}

// Check asks members whether they are well.
type Check struct {
	health.Active
	Interval time.Duration
	Timeout  time.Duration // of the answer, after the connection
	// Probe speaks to the target over a fresh connection; nil: to connect is enough.
	Probe func(t *netloop.Task, c *pool.Conn, authority []byte) error
}

// Budget bounds how much more is sent to the upstream than was asked for.
type Budget struct {
	Ratio float64 // requests sent again, as part of all
	Least int     // and as many more, so that few requests can be sent again too
}

// Dynamic says which authorities a request may name, by captures of its route or by a plugin.
type Dynamic struct {
	TLS   bool
	Allow func(hostport string) (host string, port uint16, ok bool)
	Max   int // how many different ones are kept at once
}

// Hooks are told about connections and members. Those about connections run on the connection's loop and must not park;
// MemberChanged may run anywhere.
type Hooks interface {
	pool.Hooks
	// ConnOpened is called when the connection is usable; it may give it the span that requests will link to. A
	// connection that could not be opened is told to ConnClosed only.
	ConnOpened(*netloop.Loop, *facts.Connection)
	// MemberChanged is called when a member came, went, or can or cannot be chosen any more.
	MemberChanged(MemberEvent)
}

// Upstream is a set of targets and their pools. Acquire runs on loops; everything else anywhere.
type Upstream struct {
	name     string
	config   atomic.Pointer[Config]
	group    *netloop.Group
	hooks    Hooks
	names    *resolve.Resolver
	own      *cluster // of the config's targets
	dynamic  atomic.Pointer[map[string]*cluster]
	breaker  atomic.Pointer[breaker.Shared]
	budget   *health.Budget
	ctx      context.Context // ends with the upstream
	cancel   context.CancelFunc
	mu       sync.Mutex // guards changes of dynamic, of config, and closing; it is taken before a cluster's
	closed   bool
	numbered atomic.Uint32 // members so far

	besideMu sync.Mutex // guards ended
	ended    bool
	watching sync.WaitGroup
}

// Request is what Acquire must know of a request.
type Request struct {
	pool.Request
	Authority []byte        // host:port, for a dynamic upstream; empty: the upstream's own targets
	Connect   time.Duration // instead of Config.Connect; 0: that
	Key       uint64        // of a consistent hash
	HasKey    bool
	Token     []byte    // of a sticky session; empty: none
	Avoid     []*Member // tried by earlier attempts: others are preferred
	Until     int64     // loop time up to which it may wait in the queue at most; 0: as Queue says
	// Tunnel wants a connection for itself alone, for more than requests: pool.Request.Fresh goes with it.
	Tunnel bool
	// Destination is where the client that pool.Request.Owner names connected to: both are told to the upstream where it
	// wants to know (Config.Preface).
	Destination netip.AddrPort
}

// New makes an upstream. It opens no connection but those that Pool.MinIdle asks for; names are looked up from now on.
func New(g *netloop.Group, c Config, names *resolve.Resolver, hooks Hooks) *Upstream {
	u := &Upstream{name: c.Name, group: g, hooks: hooks, names: names}
	u.config.Store(&c)
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.budget = health.NewBudget(c.Budget.Ratio, c.Budget.Least)
	u.breaker.Store(breaker.NewShared(len(g.Loops()), c.Breaker))
	u.dynamic.Store(&map[string]*cluster{})
	u.own = newCluster(u, c.Targets)
	u.own.tell()
	return u
}

// beside runs fn on a goroutine that Close waits for, unless the upstream has been closed.
func (u *Upstream) beside(fn func()) {
	u.besideMu.Lock()
	defer u.besideMu.Unlock()
	if !u.ended {
		u.watching.Go(fn)
	}
}

// Name is the upstream's name in the config.
func (u *Upstream) Name() string { return u.name }

// Budget is what requests that are sent again are taken from.
func (u *Upstream) Budget() *health.Budget { return u.budget }

// Reconfigure puts another config in force. Members whose address stays keep their connections, load and health; those
// of targets that it has no more are drained. What SetTarget has changed stays so for targets of which it says what the
// config before said. Name, Dynamic, TLS, DNS and the budget are kept as they were. After Close it does nothing.
func (u *Upstream) Reconfigure(c Config) {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return
	}
	was := u.config.Load()
	c.Name, c.Dynamic, c.TLS, c.Secure, c.DNS, c.Session = was.Name, was.Dynamic, was.TLS, was.Secure, was.DNS, was.Session
	u.config.Store(&c)
	if was.Breaker != c.Breaker {
		u.breaker.Store(breaker.NewShared(len(u.group.Loops()), c.Breaker))
	}
	u.own.retarget(c.Targets)
	for _, d := range *u.dynamic.Load() {
		d.follow()
	}
	u.mu.Unlock()
	for d := range u.clusters {
		d.tell()
	}
}

// clusters visits all clusters.
func (u *Upstream) clusters(yield func(*cluster) bool) {
	if !yield(u.own) {
		return
	}
	for _, c := range *u.dynamic.Load() {
		if !yield(c) {
			return
		}
	}
}

// ClientGone tells that a client has closed the connection from which its requests came: connections that speak for it
// (Config.Preface) are closed. It is called on the client's loop.
func (u *Upstream) ClientGone(l *netloop.Loop, client netip.AddrPort) {
	for c := range u.clusters {
		if v := c.current.Load(); v != nil {
			for _, m := range v.members {
				m.pool.ClientGone(l, client)
			}
		}
	}
}

// Authority is host:port of the upstream's first target, for a Host field; empty without targets.
func (u *Upstream) Authority() []byte { return *u.own.authority.Load() }

// Stats are counts of an upstream, added up over its pools.
type Stats struct {
	Open, Idle, Waiting int
	BreakerOpen         bool
	RetriesLeft         int // that the budget has
}

// Stats returns the counts of this moment.
func (u *Upstream) Stats() Stats {
	s := Stats{BreakerOpen: u.breaker.Load().Tripped(), RetriesLeft: int(u.budget.Left())}
	for c := range u.clusters {
		open, idle := c.counts()
		s.Open += open
		s.Idle += idle
		s.Waiting += c.queue.Waiting()
	}
	return s
}

// Close drains every pool: idle connections are closed for the reason, busy ones as they become free. Nothing is
// looked up, asked or opened ahead any more.
func (u *Upstream) Close(reason string) {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return
	}
	u.closed = true
	u.cancel()
	for c := range u.clusters {
		c.close(reason)
	}
	u.mu.Unlock()
	u.besideMu.Lock()
	u.ended = true
	u.besideMu.Unlock()
	u.watching.Wait()
}

// Acquire gives the request a connection. The error says upstream, host and address; it is Retryable where another
// attempt may do better, which is whenever no byte was sent.
func (u *Upstream) Acquire(t *netloop.Task, r Request) (Acquired, *fault.Error) {
	l, b := t.Loop(), u.breaker.Load()
	c, err := u.cluster(r.Authority, l.Now())
	if err != nil {
		err.Upstream = u.name
		return Acquired{}, err
	}
	if c != u.own {
		defer c.leave()
	}
	if !b.Allow(l.Now()) {
		e := tripped(b.RetryAfter(l.Now()))
		e.Upstream = u.name
		return Acquired{}, e
	}
	a, err := c.acquire(t, &r)
	switch {
	case err == nil:
		a.breaker = b
	case err.Source == fault.Upstream && err.Kind != fault.Unavailable:
		b.Done(l.Index(), l.Now(), false)
	default:
		b.Cancel()
	}
	return a, err
}

// cluster finds the cluster that the request is for. If that is not the upstream's own, the caller must leave it.
func (u *Upstream) cluster(authority []byte, now int64) (*cluster, *fault.Error) {
	switch {
	case len(authority) > 0:
		if c := (*u.dynamic.Load())[string(authority)]; c != nil && c.enter(now) {
			return c, nil
		}
		c, err := u.addDynamic(string(authority), now)
		if err == nil {
			c.tell()
		}
		return c, err
	case u.own.empty.Load():
		return nil, nobodyNamed()
	}
	return u.own, nil
}

// addDynamic makes a cluster of an authority that was asked for the first time, and enters it.
func (u *Upstream) addDynamic(authority string, now int64) (*cluster, *fault.Error) {
	d := u.config.Load().Dynamic
	host, port, err := u.allowed(authority)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, stopping()
	}
	old := *u.dynamic.Load()
	if c := old[authority]; c != nil && c.enter(now) {
		return c, nil
	}
	clusters := maps.Clone(old)
	if len(clusters) >= d.Max && !dropIdle(clusters) {
		return nil, fault.New(fault.PoolExhausted, fault.Gateway, 503, "all %d dynamic targets have requests or connections in use; see dynamic.max_pools", d.Max)
	}
	c := newCluster(u, []Target{{Host: host, Port: port, TLS: d.TLS}})
	c.enter(now)
	clusters[authority] = c
	u.dynamic.Store(&clusters)
	return c, nil
}

// allowed says where an authority leads, if requests may name it.
func (u *Upstream) allowed(authority string) (host string, port uint16, err *fault.Error) {
	d := u.config.Load().Dynamic
	if d == nil {
		return "", 0, fault.New(fault.Denied, fault.Gateway, 502, "authority %q: the upstream is not dynamic; see dynamic.allow", authority)
	}
	host, port, ok := d.Allow(authority)
	if !ok || strings.ContainsAny(host, "/%") { // no request leads to a Unix socket, nor to a zone
		return "", 0, fault.New(fault.Denied, fault.Gateway, 403, "authority %q is not on the list dynamic.allow", authority)
	}
	return host, port, nil
}

func nobodyNamed() *fault.Error {
	return fault.New(fault.Denied, fault.Gateway, 502, "the upstream has no targets of its own, and nothing named one")
}

// tripped is the error of a request that an open breaker refuses.
func tripped(retryAfter int64) *fault.Error {
	e := fault.New(fault.Overloaded, fault.Gateway, 503, "too many of the last requests to the upstream failed, so this one was not sent (breaker)")
	e.RetryAfter = time.Duration(retryAfter)
	return e
}

func stopping() *fault.Error {
	return fault.New(fault.ShuttingDown, fault.Gateway, 503, "the upstream is being closed")
}

// dropIdle takes the cluster that was asked for longest ago, of those that nobody uses, out of the map.
func dropIdle(clusters map[string]*cluster) bool {
	for _, k := range slices.SortedFunc(maps.Keys(clusters), func(a, b string) int {
		return cmp.Compare(clusters[a].used.Load(), clusters[b].used.Load())
	}) {
		if c := clusters[k]; c.forget() {
			c.close(facts.CloseDraining)
			delete(clusters, k)
			return true
		}
	}
	return false
}

// Key makes a Request.Key of what requests have in common that belong together. It is the same in every process.
func Key(b []byte) uint64 { return max(balance.Key(b), 1) }
