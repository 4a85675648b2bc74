package upstream

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	Health      string // healthy, recovering, ejected, unhealthy; left: DNS no longer gives its address
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
// dynamic ones.
func (u *Upstream) Members() []MemberState {
	var list []MemberState
	for c := range u.clusters {
		c.mu.Lock()
		for _, t := range c.targets {
			for _, m := range t.members {
				list = append(list, m.snapshot(t))
			}
		}
		c.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b MemberState) int {
		return strings.Compare(a.Host+" "+a.Address, b.Host+" "+b.Address)
	})
	return list
}

// snapshot is what is known of the member; the cluster's mu is held.
func (m *Member) snapshot(t *target) MemberState {
	_, why := m.tracker.State()
	answer := m.newest()
	s := MemberState{
		Host: t.hostport, Address: m.Address.String(), Token: m.choice.Load().Token, Weight: max(t.Weight, 1), Tier: t.Tier,
		State: t.State.String(), Live: t.live, Health: m.stateNow(), Why: why, Share: m.load.Share(), Requests: m.load.Requests(),
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
		return fmt.Errorf("upstream %s has no target %s", u.name, hostport)
	}
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
