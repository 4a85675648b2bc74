package upstream

import (
	"slices"
	"strings"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
)

// Preview is what Acquire would have to choose among for a request. It takes nothing, and changes nothing.
type Preview struct {
	// Err is the refusal that the request would get at once, or after Waits; nil: it would be tried.
	Err       *fault.Error
	Waits     time.Duration // in the queue, for somebody who can be used; 0: not at all
	Algorithm string        // by which one is chosen, as the configuration has it
	Session   bool          // the request goes to the server of its sticky session
	TLS       bool          // connections to the first target, or to a dynamic one, are encrypted
	Members   []Candidate
}

// Candidate is a member, and whether the request could be given to it.
type Candidate struct {
	MemberState
	Eligible bool // it is one of those that the choice is made among
	Next     bool // it is the one that would be chosen now: by its session, a hash, or as the first
	Full     bool // all its connections are in use, and it may open no more
}

// Preview tells how the upstream would choose for a request on the task's loop.
func (u *Upstream) Preview(l *netloop.Loop, r *Request) (p Preview) {
	cfg := u.config.Load()
	p.Algorithm = cfg.Balance.Algorithm.String()
	c := u.own
	switch {
	case len(r.Authority) > 0:
		c = (*u.dynamic.Load())[string(r.Authority)]
		if c == nil {
			_, _, p.Err = u.allowed(string(r.Authority))
			p.TLS = cfg.Dynamic != nil && cfg.Dynamic.TLS
		}
	case u.own.empty.Load():
		p.Err = nobodyNamed()
	}
	if b := u.breaker.Load(); p.Err == nil && b.RetryAfter(l.Now()) > 0 {
		p.Err = tripped(b.RetryAfter(l.Now()))
	}
	if c != nil {
		c.preview(l, r, &p)
		if p.Err != nil && p.Err.Kind == fault.Unavailable {
			p.Waits = cfg.Queue.Timeout
		}
	}
	if p.Err != nil {
		p.Err.Upstream = u.name
	}
	return p
}

// preview adds the members, and the refusal if none of them would do.
func (c *cluster) preview(l *netloop.Loop, r *Request, p *Preview) {
	v := c.current.Load()
	var next *balance.Member
	own := false // nobody else will do
	if v != nil && len(r.Token) > 0 {
		b, usable := v.set.ByToken(r.Token)
		if p.Session = usable; usable {
			next = b
		}
		own = b != nil && !c.upstream.config.Load().Failover
		if own && !usable && p.Err == nil {
			p.Err = noneAvailable(v, sessionGone)
		}
	}
	algorithm := c.upstream.config.Load().Balance.Algorithm
	if v != nil && next == nil && !own && (algorithm == balance.First || algorithm == balance.Hash && r.HasKey) { // which chance has no part in
		next = v.set.Pick(l.Index(), r.Key, r.HasKey, nil)
	}
	if v != nil && v.set.Available() == 0 && p.Err == nil {
		p.Err = noneAvailable(v, "")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.targets {
		if i == 0 {
			p.TLS = t.secure
		}
		for _, m := range t.members {
			b := m.choice.Load()
			one := Candidate{MemberState: m.snapshot(t), Full: m.pool.Full(), Next: next != nil && next.Load == b.Load}
			one.Eligible = v != nil && (one.Next || !p.Session && !own && v.set.Serves(b, nil))
			p.Members = append(p.Members, one)
		}
		if len(t.members) == 0 {
			p.Members = append(p.Members, Candidate{MemberState: t.nameless()})
		}
	}
	slices.SortFunc(p.Members, func(a, b Candidate) int {
		return strings.Compare(a.Host+" "+a.Address, b.Host+" "+b.Address)
	})
}
