package telemetry

import (
	"strconv"
	"sync"
	"testing"
	"time"
)

// What becomes of an upstream's addresses is counted from wherever it is noticed, and the states are there before anything
// has become of them, so that a rate can be taken of the first change.
func TestChangesOfMembersAreCounted(t *testing.T) {
	tel := start(t, Options{})
	var noticing sync.WaitGroup
	for range 4 {
		noticing.Go(func() {
			for range 100 {
				tel.MemberChanged("users", "ejected")
			}
		})
	}
	noticing.Wait()
	tel.MemberChanged("users", "a state of tomorrow")
	m := scrape(t, tel)
	const name = "wasmgate_upstream_member_changes_total"
	if e, o, h := m.value(name, "upstream", "users", "state", "ejected"), m.value(name, "state", "other"), m.value(name, "state", "healthy"); e != 400 || o != 1 || h != 0 {
		t.Errorf("%v ejected, %v other, %v healthy", e, o, h)
	}
	if n := len(m[name].samples); n != len(memberStates)+1 {
		t.Errorf("%d samples", n)
	}
	for i := range 3 * maxSeries {
		tel.MemberChanged("up"+strconv.Itoa(i), "joined")
	}
	m = scrape(t, tel)
	if n, other := m.value(name, "state", "joined"), m.value(name, "upstream", "other", "state", "joined"); n != 3*maxSeries || other != 2*maxSeries+1 {
		t.Errorf("%v joined, %v of them of upstreams beyond the bound", n, other)
	}
	if n := len(m[name].samples); n != (maxSeries+1)*len(memberStates)+1 {
		t.Errorf("%d samples", n)
	}
}

// Who can be chosen, and what is left to send again with, are gauges of each upstream.
func TestMembersAreGauges(t *testing.T) {
	tel := start(t, Options{Sources: []func(*Live){func(l *Live) {
		l.Upstreams["users"] = UpstreamStats{
			Members: map[string]int{"healthy": 2, "ejected": 1, "dizzy": 3}, RetriesLeft: 7, BreakerOpen: true, LearnedIdle: 1500 * time.Millisecond,
		}
		l.Upstreams["quiet"] = UpstreamStats{}
	}}})
	m := scrape(t, tel)
	for health, n := range map[string]float64{"healthy": 2, "ejected": 1, "unhealthy": 0, "recovering": 0, "left": 0, "other": 3} {
		if got := m.value("wasmgate_upstream_members", "upstream", "users", "health", health); got != n {
			t.Errorf("%s: %v, want %v", health, got, n)
		}
	}
	for name, n := range map[string]float64{"retry_budget_left": 7, "breaker_open": 1, "learned_idle_timeout_seconds": 1.5} {
		if got := m.value("wasmgate_upstream_"+name, "upstream", "users"); got != n {
			t.Errorf("%s: %v, want %v", name, got, n)
		}
	}
	if n := len(m["wasmgate_upstream_learned_idle_timeout_seconds"].samples); n != 1 {
		t.Errorf("an idle timeout that nobody knows is told of: %d samples", n)
	}
	if n := len(m["wasmgate_upstream_members"].samples); n != 2*len(memberHealth)+1 {
		t.Errorf("%d samples", n)
	}
}
