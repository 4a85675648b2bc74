// Package balance chooses which member of an upstream a request goes to: by weight, by load or by a key, among those that
// may be chosen at the moment. It is pure: no sockets, no clock, and it knows no name but those it is given. Who may be
// chosen, and with how much of its weight, it is told by way of each member's Load.
//
// It uses the standard library alone: the algorithms are a few lines each, and libraries for them lock, allocate, or keep
// a state that loops would fight over.
//
// # Who may be chosen
//
// The lowest tier that has somebody serves. Within a tier that is its active members, and a spare for each member beside
// standbys and spares that is not available, be it ejected, drained or disabled; standbys only if there is none of these.
// A request that was tried by all of them goes to those that would be next: standbys, the spares that are left, the next
// tier. A member that is draining is found by its token only, one that is disabled never.
//
// If nobody at all is available, and Options.RecoverAll is set, members that are merely ejected count as available: to
// try what failed a moment ago is better than to refuse everything.
//
// # What the algorithms promise
//
// RoundRobin spreads requests by weight, exactly on each loop but for one request of each member; RandomTwo and
// LeastRequests do so as long as all have the same load for their weight, and then by chance; LeastBytes spreads bytes by
// weight. Hash gives each member its part of all keys by weight. It is rendezvous hashing (Thaler and Ravishankar; weights
// by Schindelhauer and Schomaker): for each member the key and the member's name make a number, and the highest is chosen.
// When a member leaves, exactly its own keys move, to the others by their weights; a ring of points would need thousands
// for each member to come as near to the weights. Who is chosen depends on names, weights and the key only, so gateways
// with the same configuration agree, also after a restart. A choice looks at each member once: 1 to 2 ns each, which for
// many hundreds of members is what RandomTwo avoids.
package balance

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Algorithm is how a member is chosen.
type Algorithm uint8

// The algorithms.
const (
	RoundRobin    Algorithm = iota // in turn, as often as its weight says, evenly spread (smooth)
	LeastRequests                  // who has the fewest requests under way for its weight; among equals by chance
	LeastBytes                     // who was given the fewest bytes for its weight
	RandomTwo                      // two are drawn by weight, the one with fewer requests for its weight serves
	Hash                           // by a key; without one as RandomTwo
	First                          // the first in order that is not full
)

var algorithmNames = [...]string{"round_robin", "least_requests", "least_bytes", "random_two", "hash", "first"}

// String is the algorithm's name in the configuration.
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return "unknown"
}

// State is what an administrator wants of a member.
type State uint8

// The states.
const (
	Active   State = iota // it serves
	Standby               // it serves if no active one of its tier, and no spare, is available
	Spare                 // it takes the place of one of its tier that is not available
	Drain                 // it serves sessions that it has, and nobody else
	Disabled              // it does not serve
)

var stateNames = [...]string{"active", "standby", "spare", "drain", "disabled"}

// String is the state's name in the configuration.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Member is one that can be chosen. It is immutable once a set has it; Load is what changes, and what makes members of
// different sets the same one.
type Member struct {
	Name     string // identity that Hash goes by, the same in every gateway: "users.internal:80/10.0.0.7:80"
	Token    string // what sticky sessions call it; should be its own. Empty: they cannot
	Route    string // another token, which it has in common with others: any of them will do. May be empty, or Token
	Redirect string // Token of the member that takes its sessions when it is draining or cannot be used; empty: none
	Weight   int    // its share in relation to the others'; less than 1 is never chosen but by its token
	Tier     int    // lower ones first
	State    State
	Load     *Load // never nil; kept over sets
	Owner    any   // the caller's own
}

// Options say how a set chooses.
type Options struct {
	Algorithm Algorithm
	// BoundedLoad is for Hash: a member that has more than so many times the average number of requests under way, by
	// weight, passes the key on to the next one. 1.25 is usual; less than 1 means no bound. Requests that are chosen for
	// at the same moment on several loops can exceed it by as many as there are loops.
	BoundedLoad float64
	// RecoverAll has ejected members count as available when nobody else is.
	RecoverAll bool
	// Full says that a member has no connection for another request. With it, every algorithm prefers those that have; if
	// all are full, the one that is chosen is full too. It must be quick and must not block. nil: nobody is full.
	Full func(*Member) bool
}

// Set is a list of members and who of them can be chosen now. Pick may be called by one goroutine at a time for each
// loop, everything else anywhere at any time.
type Set struct {
	options Options
	members []*Member
	tokens  map[string][]*Member
	turns   [][]int64 // of RoundRobin: for each loop, by the member's place
	plan    atomic.Pointer[plan]
	mu      sync.Mutex // one Refresh at a time
}

// NewSet returns a set of these members for choices on so many loops. The list is kept, and its order is that of First.
func NewSet(loops int, o Options, members []*Member) *Set {
	s := &Set{options: o, members: members, tokens: make(map[string][]*Member, len(members))}
	for _, m := range members {
		if m.Token != "" {
			s.tokens[m.Token] = append(s.tokens[m.Token], m)
		}
		if m.Route != "" && m.Route != m.Token {
			s.tokens[m.Route] = append(s.tokens[m.Route], m)
		}
	}
	if o.Algorithm == RoundRobin {
		s.turns = newTurns(max(loops, 1), members)
	}
	s.Refresh()
	return s
}

// Members are the set's members in order.
func (s *Set) Members() []*Member { return s.members }

// Refresh has the set follow what was changed at members' Loads. It is to be called after SetShare and SetEjected.
func (s *Set) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := newPlan(s.members, &s.options)
	p.tell(s.members)
	s.plan.Store(p)
}

// Available is how many members can be chosen now, those included that are only when others failed.
func (s *Set) Available() int { return s.plan.Load().available }

// Recovered says that nobody was available, so that ejected members count as if they were (Options.RecoverAll).
func (s *Set) Recovered() bool { return s.plan.Load().recovered }

// Pick chooses a member for a request on a loop. Only Hash looks at key, and only if there is one. Those in tried, which
// the request has been given to in vain, are passed over; it is meant to be short. nil: there is nobody, or all that can
// be chosen have been tried. It allocates nothing and takes no lock.
func (s *Set) Pick(loop int, key uint64, hasKey bool, tried []*Member) *Member {
	return s.PickBeside(loop, key, hasKey, tried, nil)
}

// PickBeside is Pick for a request that found some members full: these are passed over too, but standbys and further
// tiers do not step in for them, as they do for those in tried. nil means then that it is to wait for one that serves.
func (s *Set) PickBeside(loop int, key uint64, hasKey bool, tried, full []*Member) *Member {
	p := s.plan.Load()
	for i := range p.groups {
		g := &p.groups[i]
		if len(tried) > 0 && g.exhausted(tried) {
			continue
		}
		c := choice{set: s, group: g, key: key, tried: tried, busy: full}
		m := c.choose(loop, hasKey)
		if m != nil && s.options.Full != nil && len(g.seats) > 1 && s.options.Full(m) {
			c.full = s.options.Full
			if other := c.choose(loop, hasKey); other != nil {
				return other
			}
		}
		return m
	}
	return nil
}

// Serves says whether m is among those of whom Pick chooses one for a request that was given to those in tried in vain. It
// takes no lock.
func (s *Set) Serves(m *Member, tried []*Member) bool {
	for i, p := 0, s.plan.Load(); i < len(p.groups); i++ {
		g := &p.groups[i]
		if len(tried) > 0 && g.exhausted(tried) {
			continue
		}
		return !among(m, tried) && slices.ContainsFunc(g.seats, func(s seat) bool { return s.member.Load == m.Load })
	}
	return false
}
