package upstream

import (
	"errors"
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

// TestTargetsAreAddedWhileTheyRun: one that was added serves like the others, outlives a new configuration, becomes one of
// the configuration's when that has it, and can be removed unless it is.
func TestTargetsAreAddedWhileTheyRun(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	with := func(ips ...string) Config { return f.config(func(c *Config) { c.Targets = f.targets(ips...) }) }
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1") })
	add := func(ip string, want error) {
		t.Helper()
		if err := u.AddTarget(f.targets(ip)[0]); !errors.Is(err, want) {
			t.Errorf("adding %s: %v; want %v", ip, err, want)
		}
	}
	remove := func(ip string, want error) {
		t.Helper()
		if err := u.RemoveTarget(f.hostport(ip)); !errors.Is(err, want) {
			t.Errorf("removing %s: %v; want %v", ip, err, want)
		}
	}
	given := func(n int, want string) {
		t.Helper()
		if got := f.among(u, n, any); got != want {
			t.Errorf("given to %s, want %s", got, want)
		}
	}
	add("127.0.0.1", ErrTargetExists)
	add("127.0.0.2", nil)
	add("127.0.0.3", nil)
	add("127.0.0.3", ErrTargetExists)
	given(30, "127.0.0.1 127.0.0.2 127.0.0.3")
	if s := f.state(u, "127.0.0.2"); !s.Added || s.Live {
		t.Errorf("%+v", s)
	}
	u.Reconfigure(with("127.0.0.3"))
	given(30, "127.0.0.2 127.0.0.3")
	if s := f.state(u, "127.0.0.3"); s.Added || f.closedFor("127.0.0.3", facts.CloseDraining) != 0 {
		t.Errorf("now the configuration has it: %+v", s)
	}
	remove("127.0.0.3", ErrConfigured)
	remove("127.0.0.2", nil)
	remove("127.0.0.2", ErrNoTarget)
	given(4, "127.0.0.3")
	f.eventually("idle connections of what was removed are closed", func() bool { return f.closedFor("127.0.0.2", facts.CloseDraining) > 0 })
	u.Reconfigure(with())
	if _, err := f.ask(u, any); err == nil || !strings.Contains(err.Error(), "no targets") {
		t.Errorf("without targets: %v", err)
	}
	add("127.0.0.1", nil)
	if got := string(u.Authority()); got != f.hostport("127.0.0.1") {
		t.Errorf("its authority is %q", got)
	}
	given(4, "127.0.0.1")
	u.Close(facts.CloseShutdown)
	if err := u.AddTarget(f.targets("127.0.0.2")[0]); err == nil {
		t.Error("a target was added to an upstream that is closed")
	}
}

// TestATargetWithoutAnAnswerIsShown: whoever adds a name with a slip in it sees that it leads nowhere.
func TestATargetWithoutAnAnswerIsShown(t *testing.T) {
	f, server := setUp(t, "127.0.0.1"), dnstest.New(t)
	u := f.upstream(func(c *Config) { c.DNS, c.Targets = quick(server), f.targets("127.0.0.1") })
	if err := u.AddTarget(Target{Host: "wbe.test", Port: 80, State: balance.Standby}); err != nil {
		t.Fatal(err)
	}
	for _, m := range u.Members() {
		if m.Host == "wbe.test:80" && m.Address == "" && m.Health == "unknown" && m.Why != "" && m.Added && m.State == "standby" && m.Weight == 1 {
			return
		}
	}
	t.Errorf("%+v", u.Members())
}

// TestTurnsOutliveLookUps: that a name is looked up again, and nothing has changed, does not make requests begin anew with
// whose turn it is.
func TestTurnsOutliveLookUps(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1", "127.0.0.2") })
	for range 20 {
		before := u.own.current.Load()
		u.own.rebuild()
		if u.own.current.Load() != before {
			t.Fatal("there is a new view of the same members")
		}
		f.among(u, 1, any)
	}
	for _, m := range u.own.current.Load().members {
		if n := m.load.Finished(); n != 10 {
			t.Errorf("%v had %d of 20 requests", m.Address, n)
		}
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
	var s MemberState
	f.eventually("the answer is some time old, and not in doubt because the machine stood still", func() bool {
		s = f.state(u, "127.0.0.1")
		return s.DNSAge > 0 && !s.DNSStale
	})
	if s.Host != f.hostport("web.test") || s.Token != "w" || s.Weight != 3 || s.Tier != 1 || s.State != "active" || s.Health != "healthy" ||
		s.Share != 1000 || s.Requests != 1 || s.Open != 1 || s.Idle != 0 || s.Live {
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
