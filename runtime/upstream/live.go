package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/upstream/balance"
)

// MemberState is what is known of a member at one moment.
type MemberState struct {
	Host        string // host:port of its target
	Address     string
	Token       string // what sticky sessions call it
	Weight      int    // of its target
	Tier        int
	State       string // active, standby, spare, drain, disabled: the configuration's, or what was set since
	Live        bool   // it was set since, and differs from the configuration
	Added       bool   // the target was added since
	Health      string // healthy, recovering, ejected, unhealthy; left: DNS no longer gives its address; unknown: it has none yet
	Why         string // for people
	Share       int    // thousandths of its weight that it is given
	Requests    int    // under way
	Open, Idle  int
	LearnedIdle time.Duration // after which it closes idle connections; 0: not known
	LearnedFrom string
	DNSAge      time.Duration // of the answer that has its address; 0 for an address
	DNSStale    bool
	DNSDoubt    string
}

// Members are the members of the upstream's own targets, those too whose address DNS no longer gives, and of its
// dynamic ones. A target whose name has had no answer yet stands for itself, without an address.
func (u *Upstream) Members() []MemberState {
	var list []MemberState
	for c := range u.clusters {
		c.mu.Lock()
		for _, t := range c.targets {
			for _, m := range t.members {
				list = append(list, m.snapshot(t))
			}
			if len(t.members) == 0 {
				list = append(list, t.nameless())
			}
		}
		c.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b MemberState) int {
		return strings.Compare(a.Host+" "+a.Address, b.Host+" "+b.Address)
	})
	return list
}

// nameless is what is known of a target without members; the cluster's mu is held.
func (t *target) nameless() MemberState {
	return MemberState{Host: t.hostport, Weight: max(t.Weight, 1), Tier: t.Tier, State: t.State.String(),
		Live: t.live, Added: t.added, Health: stateUnknown, Why: "its name has had no answer yet"}
}

// snapshot is what is known of the member; the cluster's mu is held. Its health is the one that choices follow: its tracker may be
// ahead of them for a moment.
func (m *Member) snapshot(t *target) MemberState {
	_, why := m.tracker.State()
	answer := m.newest()
	health := m.state.String()
	if m.pool.Parked() {
		health = stateLeft
	}
	s := MemberState{
		Host: t.hostport, Address: unixaddr.Text(m.Address), Token: m.choice.Load().Token, Weight: max(t.Weight, 1), Tier: t.Tier,
		State: t.State.String(), Live: t.live, Added: t.added, Health: health, Why: why, Share: m.load.Share(), Requests: m.load.Requests(),
		Open: m.pool.Open(), Idle: m.pool.Idle(), DNSStale: answer.Stale, DNSDoubt: answer.Doubt,
	}
	s.LearnedIdle, s.LearnedFrom = m.pool.LearnedIdle()
	if !answer.At.IsZero() {
		s.DNSAge = time.Since(answer.At)
	}
	return s
}

// stateNow is the member's health in a word.
func (m *Member) stateNow() string {
	if m.pool.Parked() {
		return stateLeft
	}
	state, _ := m.tracker.State()
	return state.String()
}

// Change is what of a target is to be changed while the gateway runs; nil fields stay as they are.
type Change struct {
	Weight *int
	Tier   *int
	State  *balance.State
}

// SetTarget changes the target host:port until the configuration says something else of it. Its connections stay: idle
// ones of a target that is disabled are closed. A target that is configured twice is changed twice.
func (u *Upstream) SetTarget(hostport string, change Change) error {
	c, found := u.own, false
	c.mu.Lock()
	for _, t := range c.targets {
		if t.hostport == hostport {
			t.change(change)
			found = true
		}
	}
	c.mu.Unlock()
	if !found {
		return u.about(hostport, ErrNoTarget)
	}
	c.rebuild()
	return nil
}

// Errors of SetTarget, AddTarget and RemoveTarget.
var (
	ErrNoTarget     = errors.New("there is no such target")
	ErrTargetExists = errors.New("there is such a target already")
	ErrConfigured   = errors.New("the configuration has it, so it cannot be removed; state disabled takes it out of use")
)

func (u *Upstream) about(hostport string, err error) error {
	return fmt.Errorf("upstream %s, target %s: %w", u.name, hostport, err)
}

// maxTargets is up to how many targets some can be added while the gateway runs.
const maxTargets = 1000

// AddTarget adds a target to those of the configuration. It stays when another configuration is put in force, until
// RemoveTarget, or until the configuration has it too, and then is one like the others. It is gone when the upstream
// ends, as it does when what its connections depend on is configured anew.
func (u *Upstream) AddTarget(spec Target) error {
	c := u.own
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		return errors.New("the upstream is being closed")
	case slices.ContainsFunc(c.targets, func(t *target) bool { return t.is(spec) }):
		c.mu.Unlock()
		return u.about(hostport(spec), ErrTargetExists)
	case len(c.targets) >= maxTargets:
		c.mu.Unlock()
		return fmt.Errorf("the upstream has %d targets, and no more are added to that many while the gateway runs", len(c.targets))
	}
	one := c.newTarget(spec)
	one.added = true
	c.targets = append(c.targets, one)
	c.listed()
	c.mu.Unlock()
	c.rebuild()
	return nil
}

// RemoveTarget removes the target host:port, which AddTarget has added: it gets no new requests, its idle connections are
// closed, and busy ones when they become free.
func (u *Upstream) RemoveTarget(hostport string) error {
	c := u.own
	c.mu.Lock()
	at := slices.IndexFunc(c.targets, func(t *target) bool { return t.hostport == hostport && t.added })
	if at < 0 {
		err := ErrNoTarget
		if slices.ContainsFunc(c.targets, func(t *target) bool { return t.hostport == hostport }) {
			err = ErrConfigured
		}
		c.mu.Unlock()
		return u.about(hostport, err)
	}
	c.targets[at].end("its target was removed")
	c.targets = slices.Delete(c.targets, at, at+1)
	c.listed()
	c.mu.Unlock()
	c.rebuild()
	return nil
}

func (t *target) change(change Change) {
	if change.Weight != nil {
		t.Weight = *change.Weight
	}
	if change.Tier != nil {
		t.Tier = *change.Tier
	}
	if change.State != nil {
		t.State = *change.State
	}
	t.live = t.Target != t.configured
}

// counted writes "2 ejected, 1 unhealthy".
func counted(states map[string]int) string {
	var list []string
	for state, n := range states {
		list = append(list, strconv.Itoa(n)+" "+state)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
