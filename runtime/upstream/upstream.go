// Package upstream gives a request a connection to an upstream: Acquire chooses a target and an address, takes a pooled
// connection or opens one, and keeps its facts. It composes the packages below it, each with one job: resolve (names),
// pool (connections to one address), facts (what is known of a connection).
//
// Pools are kept by upstream, resolved address, TLS identity and protocol; the route, and the way the route matched,
// are no part of the key, so a regex route or a captured authority reuses connections exactly as a prefix route does.
// TLS is crypto/tls on top of the loop's connection: measured at 0.75 to 0.88 of nginx with OpenSSL.
package upstream

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// Config is what an upstream is made of. It is a plain value: equal ones make upstreams that behave alike.
type Config struct {
	Name          string
	Targets       []Target // used in turn; may be empty for an upstream with Dynamic only
	Dynamic       *Dynamic // nil: requests cannot name their own authority
	Pool          pool.Options
	Connect       time.Duration // until the socket is connected, for each address that is tried; 0: no limit
	Handshake     time.Duration // of TLS; 0: no limit
	TLS           *tls.Config   // for https targets; ServerName empty: the target's host
	TCPKeepAlive  time.Duration // probes of silent connections; 0: none. Not HTTP's keep-alive
	ReceiveBuffer int           // of the socket, bytes; 0: the operating system's choice
	DNS           resolve.NameOptions
}

// Target is one server of an upstream.
type Target struct {
	Host string // name or address, without brackets
	Port uint16
	TLS  bool
}

// Dynamic says which authorities a request may name, by captures of its route or by a plugin.
type Dynamic struct {
	TLS   bool
	Allow func(hostport string) (host string, port uint16, ok bool)
	Max   int // how many different ones are kept at once
}

// Hooks are told about connections. They run on the connection's loop and must not park.
type Hooks interface {
	pool.Hooks
	// ConnOpened is called when the connection is usable; it may give it the span that requests will link to. A
	// connection that could not be opened is told to ConnClosed only.
	ConnOpened(*netloop.Loop, *facts.Connection)
}

// Upstream is a set of targets and their pools. Acquire runs on loops; everything else anywhere.
type Upstream struct {
	config  Config
	group   *netloop.Group
	hooks   Hooks
	targets []*target
	next    []turn // for each loop: which target is next
	dynamic atomic.Pointer[map[string]*target]
	mu      sync.Mutex // guards changes of dynamic, and closing
	names   *resolve.Resolver
}

// turn is a loop's counter, on a cache line of its own.
type turn struct {
	n uint32
	_ [60]byte
}

// Request is what Acquire must know of a request.
type Request struct {
	pool.Request
	Authority []byte        // host:port, for a dynamic upstream; empty: the upstream's own targets
	Connect   time.Duration // instead of Config.Connect; 0: that
}

// Acquired is a connection and how it was got.
type Acquired struct {
	*pool.Conn
	WhyNew string // "" if the connection was used before; otherwise a reason of package facts
}

// New makes an upstream; it opens nothing.
func New(g *netloop.Group, c Config, names *resolve.Resolver, hooks Hooks) *Upstream {
	u := &Upstream{config: c, group: g, hooks: hooks, names: names, next: make([]turn, len(g.Loops()))}
	for _, t := range c.Targets {
		u.targets = append(u.targets, newTarget(u, t))
	}
	u.dynamic.Store(&map[string]*target{})
	return u
}

// Name is the upstream's name in the config.
func (u *Upstream) Name() string { return u.config.Name }

// SetPool changes the limits of every pool.
func (u *Upstream) SetPool(o pool.Options) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.config.Pool = o
	for t := range u.all {
		t.setOptions(o)
	}
}

// all visits the targets; u.mu is held.
func (u *Upstream) all(yield func(*target) bool) {
	for _, t := range u.targets {
		if !yield(t) {
			return
		}
	}
	for _, t := range *u.dynamic.Load() {
		if !yield(t) {
			return
		}
	}
}

// Authority is host:port of the upstream's first target, for a Host field; empty without targets.
func (u *Upstream) Authority() []byte {
	if len(u.targets) == 0 {
		return nil
	}
	return u.targets[0].authority
}

// Stats are counts of an upstream, added up over its pools.
type Stats struct{ Open, Idle, Waiting int }

// Stats returns the counts of this moment.
func (u *Upstream) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	var s Stats
	for t := range u.all {
		t.mu.Lock()
		for _, p := range t.pools {
			s.Open += p.Open()
			s.Idle += p.Idle()
			s.Waiting += p.Waiting()
		}
		t.mu.Unlock()
	}
	return s
}

// Close drains every pool: idle connections are closed for the reason, busy ones as they become free.
func (u *Upstream) Close(reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for t := range u.all {
		t.close(reason)
	}
}

// Acquire gives the request a connection. The error says upstream, host and address; it is Retryable where another
// attempt may do better, which is whenever no byte was sent.
func (u *Upstream) Acquire(t *netloop.Task, r Request) (Acquired, *fault.Error) {
	target, err := u.choose(t.Loop(), r.Authority)
	if err != nil {
		err.Upstream = u.config.Name
		return Acquired{}, err
	}
	return target.acquire(t, r)
}

func (u *Upstream) choose(l *netloop.Loop, authority []byte) (*target, *fault.Error) {
	if len(authority) > 0 {
		if t := (*u.dynamic.Load())[string(authority)]; t != nil {
			return t, nil
		}
		return u.addDynamic(string(authority))
	}
	switch n := len(u.targets); n {
	case 0:
		return nil, fault.New(fault.Denied, fault.Gateway, 502, "the upstream has no targets of its own, and nothing named one")
	case 1:
		return u.targets[0], nil
	default:
		turn := &u.next[l.Index()]
		turn.n++
		return u.targets[int(turn.n)%n], nil
	}
}

// addDynamic makes a target of an authority that was asked for the first time.
func (u *Upstream) addDynamic(authority string) (*target, *fault.Error) {
	d := u.config.Dynamic
	if d == nil {
		return nil, fault.New(fault.Denied, fault.Gateway, 502, "authority %q: the upstream is not dynamic; see dynamic.allow", authority)
	}
	host, port, ok := d.Allow(authority)
	if !ok {
		return nil, fault.New(fault.Denied, fault.Gateway, 403, "authority %q is not on the list dynamic.allow", authority)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	old := *u.dynamic.Load()
	if t := old[authority]; t != nil {
		return t, nil
	}
	now := make(map[string]*target, len(old)+1)
	for k, t := range old {
		now[k] = t
	}
	if len(now) >= d.Max && !dropIdle(now) {
		return nil, fault.New(fault.PoolExhausted, fault.Gateway, 503, "all %d dynamic targets have connections open; see dynamic.max_pools", d.Max)
	}
	t := newTarget(u, Target{Host: host, Port: port, TLS: d.TLS})
	now[authority] = t
	u.dynamic.Store(&now)
	return t, nil
}

// dropIdle takes a target that has no connection in use out of the map.
func dropIdle(targets map[string]*target) bool {
	for k, t := range targets {
		if t.busy() == 0 {
			t.close(facts.CloseDraining)
			delete(targets, k)
			return true
		}
	}
	return false
}

// addresses is a resolved name with its pools, in the order of the answer.
type addresses struct {
	answer *resolve.Answer
	list   []address
}

type address struct {
	addr netip.AddrPort
	pool *pool.Pool
}
