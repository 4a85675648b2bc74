// Package resolve turns the names of upstreams into addresses, and keeps asking while a name is in use.
//
// No request waits for that. Current is the answer in force, without a lock; from the first Resolve on a name asks
// again in the background when its answer's TTL ends (bounded by MinTTL and MaxTTL, earlier by a random share of it so
// that names do not ask in step, never later; a TTL of 0 counts as 1 s). A new answer is in force as soon as it comes,
// so that no request goes to an address later than TTL + 1 s after it vanished.
//
// What is not a good answer is doubt, and not news: NXDOMAIN, an empty answer, SERVFAIL, an answer that is not one, or
// none 900 ms after the TTL's end. The last good answer then stays in force, Stale and with the reason in Doubt, and the
// name is asked for again after 1 s, 2 s, and so on up to every 5 s. An answer that comes late is adopted when it comes.
// The same holds for a part: if only one address family, or one target of a service, cannot be asked for, its addresses
// stay as they were.
//
// A host whose first label begins with "_" (_http._tcp.users.internal) is a service, looked up as SRV (RFC 2782): the
// addresses of its targets are those of the answer's additional section, or are asked for. A target "." is no target.
//
// The hosts file comes first, unless the upstream names its own server; services are not in it. resolv.conf is
// honoured: nameserver (also as [address]:port), search and domain, ndots, timeout, attempts. All servers are asked: the
// next one when one fails or has not answered after 300 ms, and each is listened to for timeout x attempts, with the
// question sent again every second; a server that was silent is asked last for the next 30 s. The search goes on to the
// next name when a name does not exist or the servers fail on it, and ends when no server answers at all; a name that
// fails for a while is not replaced by one that is further down the list. Both files are looked at every 5 s, and names
// are asked for anew when they changed.
//
// Answers are hostile until proven otherwise: they must come from the server that was asked, with the question and its
// number; others are passed over. A look-up keeps 256 endpoints and follows 8 CNAMEs, within one answer; it asks for 64
// targets of a service. 0.0.0.0, ::, multicast and broadcast addresses are no answers. 256 look-ups run at once.
//
// The protocol is github.com/miekg/dns's, the library that name servers in Go are made of; the standard library's
// resolver tells no TTL.
package resolve

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"wasmgate/runtime/internal/unixaddr"
)

// Options configure a Resolver. The zero value is usable.
type Options struct {
	ResolvConf string         // "": /etc/resolv.conf
	Hosts      string         // "": /etc/hosts
	Clock      Clock          // nil: the time
	Rand       func() float64 // at random, from 0 to less than 1, for jitter; nil: math/rand/v2's. It is called by several goroutines
}

// Clock is a time that tests can move.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f from another goroutine when d is over. stop prevents that, and reports whether it did.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// wall is the time.
type wall struct{}

func (wall) Now() time.Time { return time.Now() }

func (wall) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// Family says which addresses are asked for.
type Family uint8

// The address families. An address in place of a name stands for itself whichever family is wanted.
const (
	Any Family = iota
	IPv4
	IPv6
)

// NameOptions say how one name is looked up.
type NameOptions struct {
	Server         string        // host:port, or an address whose port is 53; "": the hosts file and the servers of resolv.conf
	MinTTL, MaxTTL time.Duration // bounds of an answer's TTL; MaxTTL 0: no upper bound. MinTTL is not for the hosts file
	Jitter         float64       // share of the TTL, 0 to 0.9, by which each refresh is earlier at most, at random
	Family         Family
	// OnChange is called each time that another answer is in force: other endpoints, in whatever order, or fresh and no
	// longer stale, or the reverse; the first one too. It runs on a goroutine of the resolver, once at a time for a name
	// and in order, before those who wait for the answer in Resolve and Await go on. It must not block, nor call Resolve,
	// Await, or Resolver.Close. It may be nil. It is not called for an IP address.
	OnChange func(*Answer)
}

// Answer is what a name stands for. It is immutable.
type Answer struct {
	Endpoints []Endpoint    // never empty; IPv4 first, otherwise in the order of the answer; no two alike
	TTL       time.Duration // as the server said, bounded by NameOptions; 0 for an address that needed no look-up
	At        time.Time     // when it was received; zero for an address that needed no look-up
	Server    string        // who gave it: host:port, or a file
	Stale     bool          // a newer answer, or a part of it, was asked for and could not be had
	Doubt     string        // why, if it is stale
}

// Endpoint is one place of an answer.
type Endpoint struct {
	Addr             netip.Addr
	Port             uint16 // of a service; 0: the target's own
	Priority, Weight uint16 // of a service: the lowest priority first; 0 without
}

// Resolver looks names up. Its methods may be called from any goroutine.
type Resolver struct {
	options Options
	ctx     context.Context
	cancel  context.CancelFunc
	slots   chan struct{} // one for each look-up under way
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	names   map[*Name]struct{}   // those that ask by the files
	watcher *watcher             // nil: nobody looks at the files
	silent  map[string]time.Time // servers that did not answer, and when that was
}

// maxLookUps is how many look-ups run at once.
const maxLookUps = 256

// New makes a resolver. It opens nothing before a name is asked for.
func New(o Options) *Resolver {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Clock == nil {
		o.Clock = wall{}
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	r := &Resolver{options: o, slots: make(chan struct{}, maxLookUps), names: map[*Name]struct{}{}, silent: map[string]time.Time{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends the refreshes of all names and the look-ups under way, and waits for them.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.unwatch()
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
}

// enter is called by each goroutine that works for the resolver; it reports whether it may, and then must call
// running.Done.
func (r *Resolver) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.running.Add(1)
	}
	return !r.closed
}

// after calls f later, unless the resolver is closed by then.
func (r *Resolver) after(d time.Duration, f func()) (stop func() bool) {
	return r.options.Clock.AfterFunc(d, func() {
		if r.enter() {
			defer r.running.Done()
			f()
		}
	})
}

// Name returns a name to be looked up when it is first needed: by Resolve. An IP address stands for itself, and so does
// the path of a Unix socket. A name that
// ends in a dot is not searched for in the domains of resolv.conf. The name must be closed.
func (r *Resolver) Name(host string, o NameOptions) *Name {
	o.Jitter = min(max(o.Jitter, 0), 0.9)
	n := &Name{resolver: r, host: host, options: o}
	if unixaddr.IsPath(host) {
		n.fixed = true
		n.current.Store(&Answer{Endpoints: []Endpoint{{Addr: unixaddr.Of(host).Addr()}}})
		return n
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		n.fixed = true
		n.current.Store(&Answer{Endpoints: []Endpoint{{Addr: addr.Unmap()}}})
		return n
	}
	n.ctx, n.cancel = context.WithCancel(r.ctx)
	return n
}

// IsService reports whether a host is looked up as a service, by SRV, whose answer has the ports.
func IsService(host string) bool { return strings.HasPrefix(host, "_") }
