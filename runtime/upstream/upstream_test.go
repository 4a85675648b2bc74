package upstream

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
)

func TestAnAddressThatRefusesIsPassedOverInTheSameRequest(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	f.host("127.0.0.2 two.test\n127.0.0.1 two.test\n")
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "two.test", Port: f.port}} })
	for range 4 {
		if err := f.acquire(u, "", give); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range f.opened {
		if c.Address.Addr().String() != "127.0.0.1" || c.Host != fmt.Sprintf("two.test:%d", f.port) || c.DNSServer != f.hosts {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range f.closed {
		if c.WhyClosed != facts.CloseConnectFailed || c.Err == nil || !strings.Contains(c.Err.Error(), "127.0.0.2") {
			t.Errorf("%+v", c)
		}
	}
}

// TestWhoIsTriedInVainIsToldOf: by whoever is given another server instead, and with what came of it; what fails altogether
// says the last one itself.
func TestWhoIsTriedInVainIsToldOf(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.2", "127.0.0.3", "127.0.0.1")
		c.Balance.Algorithm = balance.First
		c.Health.Passive = health.Passive{Failures: 2, OnConnect: true}
	})
	for i, ejected := range []bool{false, true} {
		a := f.hold(u, any)
		var list []string
		for _, err := range a.Failed {
			host, _, _ := net.SplitHostPort(err.Address)
			list = append(list, host)
			if err.Kind != fault.Connect || err.ConnBegan == 0 || err.ConnEnded < err.ConnBegan || err.Ejected != ejected {
				t.Errorf("request %d: %+v", i, err)
			}
		}
		if got := strings.Join(list, " "); got != "127.0.0.2 127.0.0.3" || a.Passed != 2 {
			t.Errorf("request %d tried %s in vain, and %d", i, got, a.Passed)
		}
		f.release(a)
	}
	a := f.hold(u, any)
	if len(a.Failed) != 0 {
		t.Errorf("who is ejected was tried: %v", a.Failed)
	}
	f.on(0, func(task *netloop.Task) {
		if a.Report(task.Loop(), health.Reset) || !a.Report(task.Loop(), health.Reset) {
			t.Error("the second failure is the one that ejects")
		}
	})
	f.release(a)

	gone := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.2", "127.0.0.3") })
	a, err := f.ask(gone, any)
	if err == nil || len(a.Failed) != 1 || a.Failed[0].Address == err.Address {
		t.Errorf("%v, and before it %v", err, a.Failed)
	}
}

// TestAConnectionInPlaceOfOneToAnAddressThatLeft says so, as long as that waits for its return.
func TestAConnectionInPlaceOfOneToAnAddressThatLeft(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.DNS, c.Drain, c.Targets = quick(server), time.Minute, []Target{{Host: "web.test", Port: f.port}}
	})
	for _, want := range []struct{ ip, why string }{{"127.0.0.1", facts.OpenFirst}, {"127.0.0.2", facts.OpenAddressChanged}} {
		server.Set("web.test", time.Minute, want.ip)
		f.tokenOf(u, want.ip)
		f.eventually("the name stands for it alone", func() bool {
			for _, m := range u.Members() {
				if m.Health != "left" && !strings.Contains(m.Address, want.ip) {
					return false
				}
			}
			return true
		})
		a := f.hold(u, any)
		if a.WhyNew != want.why || a.Facts.WhyOpened != want.why || a.Facts.Address.Addr().String() != want.ip {
			t.Errorf("it was opened to %s for %s and %s", a.Facts.Address, a.WhyNew, a.Facts.WhyOpened)
		}
		f.release(a)
	}
}

func TestOnlyTheConnectionsOfVanishedAddressesEnd(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	f.host("127.0.0.1 web.test\n127.0.0.2 web.test\n")
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "web.test", Port: f.port}} })
	for range 2 {
		if err := f.acquire(u, "", give); err != nil {
			t.Fatal(err)
		}
	}
	if s := u.Stats(); s.Idle != 2 {
		t.Fatalf("%+v; want one idle connection for each address", s)
	}
	f.host("127.0.0.2 web.test\n")
	f.eventually("the vanished address drains", func() bool {
		if err := f.acquire(u, "", func(a Acquired) {
			if a.Facts.Address.Addr().String() == "127.0.0.2" && a.WhyNew != "" {
				t.Error("the surviving address lost its warm connection")
			}
			a.Release("")
		}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(f.reasons(), " ") == facts.CloseAddressGone
	})
	f.eventually("only the survivor's connection is open", func() bool { return u.Stats().Open == 1 }) // a place is free behind what is told of it
}

func TestAnErrorSaysUpstreamHostAndAddress(t *testing.T) {
	f := setUp(t)
	f.host("127.0.0.1 web.test\n")
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "web.test", Port: f.port}} })
	fe := f.acquire(u, "", give)
	if fe == nil || fe.Kind != fault.Connect || !fe.Retryable {
		t.Fatalf("%v", fe)
	}
	for _, part := range []string{"upstream u", "host web.test:", "address 127.0.0.1:", "refused"} {
		if !strings.Contains(fe.Error(), part) {
			t.Errorf("%q lacks %q", fe, part)
		}
	}
}

func TestDynamicTargetsAreAllowedBoundedAndForgotten(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	u := f.upstream(func(c *Config) {
		c.Dynamic = &Dynamic{Max: 2, Allow: func(a string) (string, uint16, bool) {
			return strings.TrimSuffix(a, ":80"), f.port, strings.HasPrefix(a, "127.")
		}}
	})
	if err := f.acquire(u, "10.0.0.1:80", give); err == nil || err.Kind != fault.Denied || err.Status != 403 {
		t.Errorf("not on the list: %v", err)
	}
	for _, a := range []string{"127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80", "127.0.0.3:80"} {
		if err := f.acquire(u, a, give); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	f.eventually("the third took the place of one of the first two", func() bool { return u.Stats().Open == 2 })
	var held []Acquired
	for a := range *u.dynamic.Load() {
		if err := f.acquire(u, a, func(a Acquired) { held = append(held, a) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.acquire(u, "127.0.0.9:80", give); err == nil || err.Kind != fault.PoolExhausted || err.Status != 503 {
		t.Errorf("all are in use: %v", err)
	}
	f.group.Loop(0).Post(func() {
		for _, a := range held {
			a.Release("")
		}
	})
	if err := f.acquire(f.upstream(func(*Config) {}), "", give); err == nil || err.Kind != fault.Denied {
		t.Errorf("without targets: %v", err)
	}
}
