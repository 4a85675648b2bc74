package resolve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
)

// Times of a name's life.
const (
	leastTTL    = time.Second            // what a TTL of 0 counts as
	leastWait   = 10 * time.Millisecond  // between two look-ups, whatever the bounds of the TTL say
	lateAfter   = 900 * time.Millisecond // past its TTL an answer is stale, if no newer one has come
	refreshRest = 500 * time.Millisecond // after a look-up, in which Refresh does nothing
	retryStep   = time.Second            // in doubt: after 1, 2, 3 ... of it
	retrySteps  = 5
	lookUpLimit = 30 * time.Second // a whole look-up, over all names, servers and attempts
)

// Name is one name with its answer. Its methods may be called from any goroutine.
type Name struct {
	resolver *Resolver
	host     string
	options  NameOptions
	fixed    bool // an address: there is nothing to ask
	current  atomic.Pointer[Answer]
	ctx      context.Context
	cancel   context.CancelFunc

	// telling is held while an answer comes into force and OnChange is told. It is taken before mu.
	telling sync.Mutex
	mu      sync.Mutex // guards what follows
	closed  bool
	flight  *flight     // the look-up under way
	again   bool        // another one is wanted after it
	ended   time.Time   // when the last one ended
	err     error       // why the last one gave nothing
	fails   int         // look-ups in doubt, in a row
	expires time.Time   // when the TTL of the last good answer ends
	last    *result     // what the last good answer was made of
	stop    func() bool // the timer of the next look-up
}

// flight is a look-up under way, for which several may wait.
type flight struct{ done chan struct{} }

// Current returns the answer in force, or nil before the first one. It never blocks, and never asks.
func (n *Name) Current() *Answer { return n.current.Load() }

// Refresh asks anew at once, beside, unless a look-up is under way or the last one ended less than 500 ms ago. It is for
// when an address could not be connected to.
func (n *Name) Refresh() {
	if n.fixed {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begin(false)
}

// Await waits for the look-up under way, if there is one, until it ends or ctx does, and returns the answer in force; nil
// if there is none.
func (n *Name) Await(ctx context.Context) *Answer {
	n.mu.Lock()
	f := n.flight
	n.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
		}
	}
	return n.current.Load()
}

// Resolve returns the answer in force. Before the first one it asks, and blocks until that look-up or ctx ends. The
// error is a *fault.Error of the caller's own, with the host, the server and what to do. A name that has no answer yet
// keeps asking in the background; for 500 ms after a look-up failed, Resolve returns its error at once.
func (n *Name) Resolve(ctx context.Context) (*Answer, error) {
	if a := n.current.Load(); a != nil {
		return a, nil
	}
	n.mu.Lock()
	f := n.begin(false)
	n.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, n.blame(504, "no name server answered in time; ", ctx.Err())
		}
	}
	if a := n.current.Load(); a != nil {
		return a, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return nil, n.blame(502, "", n.err)
}

var errClosed = errors.New("the name is not in use any more")

func (n *Name) blame(status int, detail string, err error) error {
	o := &n.resolver.options
	detail += "see the upstream's targets, dns.server, " + o.Hosts + " and " + o.ResolvConf
	if err == nil {
		err = errClosed
	}
	return &fault.Error{Kind: fault.DNS, Source: fault.Upstream, Status: status, Retryable: true, Host: n.host, Detail: detail, Err: err}
}

// Close ends the name's refreshes. It does not wait for a look-up that is being broken off; the answer in force stays.
// OnChange is not called afterwards, except that a call may be under way.
func (n *Name) Close() {
	if n.fixed {
		return
	}
	n.mu.Lock()
	n.closed = true
	n.stopTimer()
	n.mu.Unlock()
	n.cancel()
	n.resolver.forget(n)
}

// begin starts a look-up, or joins the one under way; n.mu is held. It returns nil if there is none and none is due. A
// forced one begins although the last one has just ended, or follows on the one under way.
func (n *Name) begin(force bool) *flight {
	if n.flight != nil {
		n.again = n.again || force
		return n.flight
	}
	rests := !n.ended.IsZero() && n.resolver.options.Clock.Now().Sub(n.ended) < refreshRest
	if n.closed || rests && !force || !n.resolver.enter() {
		return nil
	}
	if n.ended.IsZero() && n.options.Server == "" {
		n.resolver.remember(n)
	}
	n.stopTimer()
	f := &flight{done: make(chan struct{})}
	n.flight = f
	late := func() bool { return true }
	if a := n.current.Load(); a != nil && !a.Stale {
		late = n.resolver.after(n.expires.Add(lateAfter).Sub(n.resolver.options.Clock.Now()), func() { n.late(f) })
	}
	last := n.last
	go func() {
		defer n.resolver.running.Done()
		res, err := n.resolver.run(n, last)
		late()
		n.end(f, res, err)
	}()
	return f
}

// stopTimer forgets the next look-up; n.mu is held.
func (n *Name) stopTimer() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// end makes what the look-up found the answer in force, and sets the time of the next one.
func (n *Name) end(f *flight, res *result, err error) {
	n.telling.Lock()
	defer n.telling.Unlock()
	n.mu.Lock()
	now := n.resolver.options.Clock.Now()
	n.ended, n.err = now, err
	var next *Answer
	wait := time.Duration(0)
	switch {
	case err == nil:
		next = &Answer{Endpoints: res.endpoints, TTL: n.bound(res), At: now, Server: res.server, Stale: res.doubt != "", Doubt: res.doubt}
		n.expires, n.last = now.Add(next.TTL), res
		wait = next.TTL - time.Duration(float64(next.TTL)*n.options.Jitter*n.resolver.options.Rand())
	case n.current.Load() != nil:
		next = inDoubt(n.current.Load(), err.Error())
	}
	if next != nil && !next.Stale {
		n.fails = 0
	} else {
		n.fails = min(n.fails+1, retrySteps)
		wait = time.Duration(n.fails) * retryStep
	}
	closed := n.closed || n.ctx.Err() != nil
	n.mu.Unlock()
	if !closed && next != nil {
		n.adopt(next)
	}
	n.mu.Lock()
	n.flight = nil
	switch {
	case n.closed:
	case n.again:
		n.again = false
		n.begin(true)
	default:
		n.stop = n.resolver.after(max(wait, leastWait), n.due)
	}
	n.mu.Unlock()
	close(f.done)
}

// due is the time of the next look-up.
func (n *Name) due() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop = nil
	n.begin(true)
}

// late says that the answer in force is stale, since the look-up has brought nothing yet.
func (n *Name) late(f *flight) {
	n.telling.Lock()
	defer n.telling.Unlock()
	n.mu.Lock()
	ended := n.closed || n.flight != f
	n.mu.Unlock()
	if a := n.current.Load(); !ended && !a.Stale {
		n.adopt(inDoubt(a, "no answer "+lateAfter.String()+" after the end of the TTL"))
	}
}

// adopt brings an answer into force; n.telling is held.
func (n *Name) adopt(a *Answer) {
	old := n.current.Swap(a)
	if n.options.OnChange != nil && (old == nil || old.Stale != a.Stale || !sameEndpoints(old.Endpoints, a.Endpoints)) {
		n.options.OnChange(a)
	}
}

func inDoubt(a *Answer, doubt string) *Answer {
	stale := *a
	stale.Stale, stale.Doubt = true, doubt
	return &stale
}

// bound is the TTL of what was found, within the bounds of the options.
func (n *Name) bound(res *result) time.Duration {
	ttl := res.ttl
	if ttl <= 0 {
		ttl = leastTTL
	}
	if res.name != "" {
		ttl = max(ttl, n.options.MinTTL)
	}
	if n.options.MaxTTL > 0 {
		ttl = min(ttl, n.options.MaxTTL)
	}
	return ttl
}

// sameEndpoints compares without regard to the order, which servers change with each answer.
func sameEndpoints(a, b []Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	has := make(map[Endpoint]struct{}, len(a))
	for _, e := range a {
		has[e] = struct{}{}
	}
	return !slices.ContainsFunc(b, func(e Endpoint) bool { _, ok := has[e]; return !ok })
}
