package upstream

import (
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
)

func TestTargetsAreChangedWhileTheyRun(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	change := func(weight int) func(*Config) {
		return func(c *Config) {
			c.Targets = f.targets("127.0.0.1", "127.0.0.2", "127.0.0.2")
			c.Targets[0].Weight = weight
		}
	}
	u := f.upstream(change(1))
	f.among(u, 6, any)
	set := func(ip string, c Change) {
		t.Helper()
		if err := u.SetTarget(f.hostport(ip), c); err != nil {
			t.Fatal(err)
		}
	}
	disabled, active, tier, weight := balance.Disabled, balance.Active, 1, 30
	set("127.0.0.2", Change{State: &disabled}) // both of them
	if got := f.among(u, 4, any); got != "127.0.0.1" {
		t.Errorf("given to %s", got)
	}
	f.eventually("idle connections of what is disabled are closed", func() bool { return f.closedFor("127.0.0.2", facts.CloseDraining) == 2 })
	set("127.0.0.2", Change{State: &active})
	if s := f.state(u, "127.0.0.2"); s.Live || s.State != "active" {
		t.Errorf("as the configuration has it: %+v", s)
	}
	set("127.0.0.1", Change{Weight: &weight, Tier: &tier})
	if s := f.state(u, "127.0.0.1"); !s.Live || s.Weight != 30 || s.Tier != 1 {
		t.Errorf("%+v", s)
	}
	if got := f.among(u, 4, any); got != "127.0.0.2" {
		t.Errorf("given to %s", got)
	}
	u.Reconfigure(f.config(change(1))) // says nothing else
	if s := f.state(u, "127.0.0.1"); !s.Live || s.Tier != 1 {
		t.Errorf("a configuration that says the same: %+v", s)
	}
	u.Reconfigure(f.config(change(2)))
	if s := f.state(u, "127.0.0.1"); s.Live || s.Weight != 2 || s.Tier != 0 {
		t.Errorf("a configuration that says something else: %+v", s)
	}
	if err := u.SetTarget("nobody:80", Change{Tier: &tier}); err == nil || !strings.Contains(err.Error(), "nobody:80") {
		t.Errorf("%v", err)
	}
}

func TestMembersAreKnown(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.DNS = quick(server)
		c.Targets = append([]Target{{Host: "web.test", Port: f.port, Weight: 3, Tier: 1, Route: "w"}}, f.targets("127.0.0.2")...)
		c.Health.Passive = health.Passive{Failures: 2, OnTimeout: true, EjectFor: time.Hour}
	})
	f.tokenOf(u, "127.0.0.1")
	a := f.hold(u, session("w"))
	f.eventually("the answer is some time old", func() bool { return f.state(u, "127.0.0.1").DNSAge > 0 })
	s := f.state(u, "127.0.0.1")
	if s.Host != f.hostport("web.test") || s.Token != "w" || s.Weight != 3 || s.Tier != 1 || s.State != "active" || s.Health != "healthy" ||
		s.Share != 1000 || s.Requests != 1 || s.Open != 1 || s.Idle != 0 || s.DNSStale || s.Live {
		t.Errorf("%+v", s)
	}
	if s := f.state(u, "127.0.0.2"); s.DNSAge != 0 || s.Token == "" || s.Weight != 1 {
		t.Errorf("%+v", s)
	}
	server.Silence(true)
	f.eventually("the answer is in doubt", func() bool { s := f.state(u, "127.0.0.1"); return s.DNSStale && s.DNSDoubt != "" })
	f.on(0, func(t *netloop.Task) {
		a.Report(t.Loop(), health.Timeout)
		a.Report(t.Loop(), health.Timeout)
		a.Release("")
	})
	if s := f.state(u, "127.0.0.1"); s.Health != "ejected" || !strings.Contains(s.Why, "no answer in time") || s.Share != 0 || s.Requests != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAnEjectedMembersIdleConnectionsAreClosed, and it comes back by itself.
func TestAnEjectedMembersIdleConnectionsAreClosed(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Health.Passive = health.Passive{Failures: 1, OnTimeout: true, EjectFor: 50 * time.Millisecond}
		c.Queue.Timeout = 5 * time.Second
	})
	a, b := f.hold(u, any), f.hold(u, any)
	f.release(b)
	f.on(0, func(t *netloop.Task) {
		a.Report(t.Loop(), health.Timeout)
		a.Release(facts.CloseError)
	})
	f.eventually("it is closed", func() bool { return f.closedFor("127.0.0.1", facts.CloseEjected) == 1 })
	c := f.hold(u, any) // waits until it may be tried
	f.on(0, func(t *netloop.Task) {
		c.Report(t.Loop(), health.Success)
		c.Release("")
	})
	f.told("127.0.0.1", "joined ejected recovering healthy")
}
