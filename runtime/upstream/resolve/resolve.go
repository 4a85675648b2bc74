// Package resolve turns the names of upstreams into addresses, and asks again when an answer's time to live has ended.
//
// Current is for the hot path: the answer in force, without a lock. An answer is used for its TTL, within bounds, and
// for at most a second longer while a new one is being fetched; after that a request waits for the new one, so that no
// request goes to an address later than TTL + 1 s after it vanished. When no server gives an answer, or one says that
// the name is gone, that is doubt and not news: the last good answer stays, marked stale.
//
// The protocol is github.com/miekg/dns's, the library that name servers in Go are made of; the standard library's
// resolver tells no TTL. /etc/hosts and /etc/resolv.conf (servers, search, ndots, timeout, attempts) are honoured.
package resolve

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
)

// Options configure a Resolver. The zero value is usable.
type Options struct {
	ResolvConf string           // "": /etc/resolv.conf
	Hosts      string           // "": /etc/hosts
	Now        func() time.Time // nil: time.Now
	// Fresh runs when a name got an answer with other addresses than before; it must not block. It may be nil.
	Fresh func(host string, a *Answer)
}

// NameOptions say how one name is looked up.
type NameOptions struct {
	Server         string        // host:port, or an address whose port is 53; "": those of resolv.conf
	MinTTL, MaxTTL time.Duration // bounds of an answer's TTL; MaxTTL 0: no upper bound
}

// Answer is what a name stands for. It is immutable.
type Answer struct {
	Addrs  []netip.Addr  // never empty; in the order of the answer, IPv4 first
	TTL    time.Duration // as the server said, bounded by NameOptions; 0 for an address that needed no look-up
	At     time.Time     // when it was received; zero for an address that needed no look-up
	Server string        // who gave it: host:port, or a file
	Stale  bool          // it is past its TTL, and there is no newer one
	Doubt  string        // why there is no newer one
}

// Resolver looks names up. Its methods may be called from any goroutine.
type Resolver struct {
	options Options
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New makes a resolver. It reads its files at each look-up, so that they may change.
func New(o Options) *Resolver {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Resolver{options: o, ctx: ctx, cancel: cancel}
}

// Close ends look-ups under way, and waits for them.
func (r *Resolver) Close() {
	r.cancel()
	r.running.Wait()
}

// Name is one name with its answer. Its methods may be called from any goroutine.
type Name struct {
	resolver *Resolver
	host     string
	options  NameOptions
	fixed    bool // an address: there is nothing to ask
	current  atomic.Pointer[Answer]
	expires  atomic.Int64 // Unix nanoseconds
	mu       sync.Mutex   // guards flight
	flight   *flight
}

// flight is a look-up under way, for which several may wait.
type flight struct {
	done   chan struct{}
	answer *Answer
	err    error
}

// Name returns a name to be looked up when it is first needed. An IP address stands for itself.
func (r *Resolver) Name(host string, o NameOptions) *Name {
	n := &Name{resolver: r, host: strings.TrimSuffix(host, "."), options: o}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		n.fixed = true
		n.current.Store(&Answer{Addrs: []netip.Addr{addr.Unmap()}})
	}
	return n
}

// Close is for the end of a name's use. It is there so that a name may come to hold more than memory.
func (n *Name) Close() {}

// grace is how long an answer is used past its TTL while a new one is on its way.
const grace = 500 * time.Millisecond

// Current returns the answer in force, or nil if Resolve must be called first. It does not block: an answer that has
// just expired is returned once more, and a new one is asked for beside.
func (n *Name) Current() *Answer {
	a := n.current.Load()
	if n.fixed || a == nil {
		return a
	}
	late := n.resolver.options.Now().UnixNano() - n.expires.Load()
	switch {
	case late < 0:
		return a
	case late < int64(grace):
		n.Refresh()
		return a
	}
	return nil
}

// Refresh asks anew, beside, unless that is already under way.
func (n *Name) Refresh() {
	if !n.fixed {
		n.begin()
	}
}

// Resolve returns an answer that is not older than its TTL, or the last good one, marked stale, if there is no newer.
// It blocks until then or until ctx ends. The error is a *fault.Error with the host, the server and what to do.
func (n *Name) Resolve(ctx context.Context) (*Answer, error) {
	if a := n.current.Load(); a != nil && (n.fixed || n.resolver.options.Now().UnixNano() < n.expires.Load()) {
		return a, nil
	}
	f := n.begin()
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		if a := n.current.Load(); a != nil {
			return a, nil
		}
		return nil, &fault.Error{Kind: fault.DNS, Source: fault.Upstream, Status: 504, Retryable: true, Host: n.host,
			Detail: "no name server answered in time; see the upstream's dns.server, or " + n.resolver.options.ResolvConf, Err: ctx.Err()}
	}
}

// begin starts a look-up, or joins the one under way.
func (n *Name) begin() *flight {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flight != nil {
		return n.flight
	}
	f := &flight{done: make(chan struct{})}
	n.flight = f
	n.resolver.running.Add(1)
	go func() {
		defer n.resolver.running.Done()
		f.answer, f.err = n.ask()
		n.mu.Lock()
		n.flight = nil
		n.mu.Unlock()
		close(f.done)
	}()
	return f
}

// retryDoubt is how soon a name is asked for again after it could not be.
const retryDoubt = time.Second

// ask makes the look-up's result the answer in force.
func (n *Name) ask() (*Answer, error) {
	o := &n.resolver.options
	ctx, cancel := context.WithTimeout(n.resolver.ctx, 10*time.Second)
	defer cancel()
	a, err := n.resolver.lookUp(ctx, n.host, n.options.Server)
	last := n.current.Load()
	if err != nil {
		if last == nil {
			return nil, err
		}
		stale := *last
		stale.Stale, stale.Doubt = true, err.Error()
		n.current.Store(&stale)
		n.expires.Store(o.Now().Add(retryDoubt).UnixNano())
		return &stale, nil
	}
	a.TTL = max(a.TTL, n.options.MinTTL)
	if n.options.MaxTTL > 0 {
		a.TTL = min(a.TTL, n.options.MaxTTL)
	}
	a.At = o.Now()
	n.current.Store(a)
	n.expires.Store(a.At.Add(a.TTL).UnixNano())
	if o.Fresh != nil && (last == nil || !sameAddrs(last.Addrs, a.Addrs)) {
		o.Fresh(n.host, a)
	}
	return a, nil
}

func sameAddrs(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	has := make(map[netip.Addr]bool, len(a))
	for _, x := range a {
		has[x] = true
	}
	for _, x := range b {
		if !has[x] {
			return false
		}
	}
	return true
}
