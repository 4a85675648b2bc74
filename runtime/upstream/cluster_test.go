package upstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// TestAnAddressThatComesBackHasItsConnections: where a server answers with a few addresses of many in turn.
func TestAnAddressThatComesBackHasItsConnections(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) {
		c.DNS, c.Drain, c.Targets = quick(server), time.Minute, []Target{{Host: "web.test", Port: f.port}}
	})
	if got := f.among(u, 4, any); got != "127.0.0.1 127.0.0.2" {
		t.Fatalf("given to %s", got)
	}
	var busy Acquired
	for busy.Conn == nil || busy.Facts.Address.Addr().String() != "127.0.0.1" {
		if busy.Conn != nil {
			f.release(busy)
		}
		busy = f.hold(u, any)
	}
	for range 3 {
		server.Set("web.test", time.Minute, "127.0.0.2")
		f.eventually("the address has left", func() bool { return f.state(u, "127.0.0.1").Health == "left" })
		if got := f.among(u, 4, any); got != "127.0.0.2" {
			t.Errorf("given to %s", got)
		}
		if busy.Conn != nil {
			f.release(busy) // a request that was under way
			busy.Conn = nil
		}
		server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
		f.eventually("the address is back", func() bool { return f.state(u, "127.0.0.1").Health == "healthy" })
		if got := f.among(u, 4, any); got != "127.0.0.1 127.0.0.2" {
			t.Errorf("given to %s", got)
		}
	}
	if f.connections("127.0.0.1") != 1 || f.connections("127.0.0.2") > 2 || len(f.reasons()) != 0 {
		t.Errorf("%d and %d connections were opened, and closed for %v", f.connections("127.0.0.1"), f.connections("127.0.0.2"), f.reasons())
	}
	f.told("127.0.0.1", "joined left joined left joined left joined")
}

func TestReconfigureKeepsWhatStays(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1", "127.0.0.2", "127.0.0.2") })
	if n := len(u.Members()); n != 3 {
		t.Fatalf("a target that is there twice is %d members", n-1)
	}
	if got := f.among(u, 6, any); got != "127.0.0.1 127.0.0.2" {
		t.Errorf("given to %s", got)
	}
	first := f.hold(u, any)
	second := f.hold(u, Request{Avoid: []*Member{first.Member}})
	u.Reconfigure(f.config(func(c *Config) { c.Targets = f.targets("127.0.0.3", "127.0.0.2") }))
	if string(u.Authority()) != f.hostport("127.0.0.3") {
		t.Errorf("the authority is %s", u.Authority())
	}
	f.release(first, second)
	f.eventually("what is not there any more drains", func() bool { return u.Stats().Open == u.Stats().Idle })
	if got := f.among(u, 6, any); got != "127.0.0.2 127.0.0.3" {
		t.Errorf("given to %s", got)
	}
	if n := f.connections("127.0.0.2"); n > 3 {
		t.Errorf("%d connections to what stays", n)
	}
	f.told("127.0.0.1", "joined left")
	u.Reconfigure(f.config(nil))
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.Denied || len(u.Authority()) != 0 || len(u.Members()) != 0 {
		t.Errorf("without targets: %v", err)
	}
	u.Reconfigure(f.config(func(c *Config) { c.Targets = f.targets("127.0.0.1") }))
	if got := f.via(u, any); got != "127.0.0.1" {
		t.Errorf("given to %s", got)
	}
	u.Close(facts.CloseDraining)
	u.Close(facts.CloseDraining)
	u.Reconfigure(f.config(func(c *Config) { c.Targets = []Target{{Host: "late.test", Port: 80}} })) // does nothing
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.ShuttingDown {
		t.Errorf("after Close: %v", err)
	}
}

// TestAnEjectionEndsWithItsRules, and it is told.
func TestAnEjectionEndsWithItsRules(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	change := func(failures int, lasts time.Duration) func(*Config) {
		return func(c *Config) {
			c.Targets = f.targets("127.0.0.1", "127.0.0.2")
			c.Health.Passive = health.Passive{Failures: failures, OnTimeout: true, EjectFor: lasts}
		}
	}
	u := f.upstream(change(1, time.Hour))
	fail := func() {
		a := f.hold(u, Request{Token: []byte(f.state(u, "127.0.0.1").Token)})
		f.on(0, func(t *netloop.Task) {
			a.Report(t.Loop(), health.Timeout)
			a.Release("")
		})
	}
	fail()
	if got := f.among(u, 4, any); got != "127.0.0.2" {
		t.Errorf("given to %s", got)
	}
	u.Reconfigure(f.config(change(0, 0)))
	if got := f.among(u, 4, any); got != "127.0.0.1 127.0.0.2" {
		t.Errorf("given to %s", got)
	}
	f.told("127.0.0.1", "joined ejected healthy")
	u.Reconfigure(f.config(change(1, 10*time.Millisecond)))
	fail() // the timer of the first ejection does not keep it out
	f.eventually("it is on trial", func() bool { return f.state(u, "127.0.0.1").Health == "recovering" })
}

// TestARouteOfSeveralAddresses: who knows but the route reaches one of them, always the same; a redirect too. Each has a
// token of its own, which says nothing of the address.
func TestARouteOfSeveralAddresses(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.DNS, c.Failover = quick(server), true
		c.Targets = append(f.targets("127.0.0.3"), Target{Host: "web.test", Port: f.port, Route: "web"})
		c.Targets[0].Route, c.Targets[0].Redirect = "three", "web"
	})
	f.tokenOf(u, "127.0.0.1")
	if got := f.among(u, 6, session("web")); got != "127.0.0.1" {
		t.Errorf("one address: given to %s", got)
	}
	server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
	f.eventually("there are two", func() bool { return len(u.Members()) == 3 })
	if got := f.among(u, 6, session("web")); got != "127.0.0.1" && got != "127.0.0.2" {
		t.Errorf("two addresses: given to %s", got)
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		token := f.state(u, ip).Token
		if got := f.among(u, 6, session(token)); got != ip || !strings.HasPrefix(token, "web") || strings.Contains(token, ip) {
			t.Errorf("the session %s of %s is given to %s", token, ip, got)
		}
	}
	drain := balance.Drain
	if err := u.SetTarget(f.hostport("127.0.0.3"), Change{State: &drain}); err != nil {
		t.Fatal(err)
	}
	if got := f.among(u, 6, session("three")); got != "127.0.0.1" && got != "127.0.0.2" {
		t.Errorf("a session of one that drains is given to %s", got)
	}
}

func TestServicesHaveWeightsPrioritiesAndPorts(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3"), dnstest.New(t)
	for i := range 3 {
		server.Set(fmt.Sprintf("h%d.test", i+1), time.Minute, fmt.Sprintf("127.0.0.%d", i+1))
	}
	port := f.port
	server.SetSRV("_http._tcp.web.test", time.Minute, []dnstest.SRV{
		{Priority: 1, Weight: 3, Port: port, Target: "h1.test"}, {Priority: 1, Weight: 1, Port: port, Target: "h2.test"}, {Priority: 2, Weight: 9, Port: port, Target: "h3.test"},
	})
	u := f.upstream(func(c *Config) {
		c.DNS, c.Targets = quick(server), []Target{{Host: "_http._tcp.web.test", Weight: 10}}
		c.Health.Passive = health.Passive{Failures: 1, OnConnect: true}
	})
	got := map[string]int{}
	for range 40 {
		got[f.via(u, any)]++
	}
	if got["127.0.0.1"] < 28 || got["127.0.0.1"] > 32 || got["127.0.0.3"] != 0 {
		t.Errorf("given to %v", got)
	}
	server.SetSRV("_http._tcp.web.test", time.Minute, []dnstest.SRV{{Priority: 1, Port: port, Target: "h9.test"}, {Priority: 2, Port: port, Target: "h3.test"}})
	server.Set("h9.test", time.Minute, "127.0.0.9") // refuses
	f.eventually("the next priority serves", func() bool { return f.among(u, 4, any) == "127.0.0.3" })
}

// TestWeightsAreOfTargets: however many addresses they have.
func TestWeightsAreOfTargets(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	f.host("127.0.0.1 one.test\n127.0.0.2 three.test\n127.0.0.3 three.test\n127.0.0.4 three.test\n")
	u := f.upstream(func(c *Config) {
		c.Targets = []Target{{Host: "one.test", Port: f.port, Weight: 2}, {Host: "three.test", Port: f.port, Weight: 1}}
	})
	f.eventually("both names have answers", func() bool {
		if a, err := f.ask(u, any); err == nil {
			f.release(a)
		}
		return f.state(u, "127.0.0.1").Address != "" && f.state(u, "127.0.0.2").Address != ""
	})
	n := 0
	for range 90 {
		if f.via(u, any) == "127.0.0.1" {
			n++
		}
	}
	if n < 55 || n > 65 {
		t.Errorf("the target of weight 2 of 3 was given %d of 90", n)
	}
}

// TestDynamicClustersInUseAreNotForgotten: whatever comes in between, a request gets its connection, or is told that all
// are in use.
func TestDynamicClustersInUseAreNotForgotten(t *testing.T) {
	f := setUpLoops(t, 2, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	u := f.upstream(func(c *Config) {
		c.Dynamic = &Dynamic{Max: 3, Allow: func(a string) (string, uint16, bool) { return a, f.port, true }}
		c.Pool.MaxConnections = 1
	})
	var running sync.WaitGroup
	var served, refused atomic.Int64
	for i := range 8 {
		l := f.group.Loop(i % 2)
		running.Add(1)
		l.Post(func() {
			l.Go(func(task *netloop.Task) {
				defer running.Done()
				for range 200 {
					a, err := u.Acquire(task, Request{Authority: fmt.Appendf(nil, "127.0.0.%d", 1+rand.IntN(4))})
					switch {
					case err == nil:
						served.Add(1)
						task.Sleep(0)
						a.Release("")
					case strings.Contains(err.Error(), "dynamic.max_pools"):
						refused.Add(1)
						task.Sleep(0)
					default:
						t.Error(err)
					}
				}
			})
		})
	}
	running.Wait()
	t.Logf("%d served, %d refused", served.Load(), refused.Load())
	if served.Load() == 0 {
		t.Error("none was served")
	}
	for a, c := range *u.dynamic.Load() {
		if c.users.Load() != 0 {
			t.Errorf("%s: %d requests are counted", a, c.users.Load())
		}
	}
	if s := u.Stats(); s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}

func TestTheDynamicClusterUnusedForLongestIsForgotten(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	u := f.upstream(func(c *Config) {
		c.Dynamic = &Dynamic{Max: 2, Allow: func(a string) (string, uint16, bool) { return a, f.port, true }}
	})
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.1"} {
		if got := f.via(u, Request{Authority: []byte(ip)}); got != ip {
			t.Errorf("%s was given to %s", ip, got)
		}
	}
	if f.connections("127.0.0.1") != 1 {
		t.Error("the one that was in use was forgotten")
	}
	u.Close(facts.CloseDraining)
	if _, err := f.ask(u, Request{Authority: []byte("127.0.0.9")}); err == nil || err.Kind != fault.ShuttingDown || err.Upstream != "u" {
		t.Errorf("after Close: %v", err)
	}
}

// TestHooksMayLookAtTheUpstream: they are called without a lock, and in order.
func TestHooksMayLookAtTheUpstream(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
	var u atomic.Pointer[Upstream]
	f.onChange = func(MemberEvent) {
		if u := u.Load(); u != nil {
			_ = u.Members()
			_ = u.Stats()
			_ = u.SetTarget(f.hostport("web.test"), Change{})
		}
	}
	made := f.upstream(func(c *Config) {
		c.DNS, c.Targets = quick(server), []Target{{Host: "web.test", Port: f.port}}
		c.Health.Passive = health.Passive{Failures: 1, OnTimeout: true, EjectFor: 10 * time.Millisecond}
		c.Dynamic = &Dynamic{Max: 2, Allow: func(a string) (string, uint16, bool) { return a, f.port, true }}
	})
	u.Store(made)
	f.release(f.hold(made, Request{Authority: []byte("127.0.0.1")}))
	a := f.hold(made, any)
	f.on(0, func(t *netloop.Task) {
		a.Report(t.Loop(), health.Timeout)
		a.Release("")
	})
	f.eventually("it is on trial", func() bool {
		return strings.HasSuffix(f.story(a.Facts.Address.Addr().String()), "joined ejected recovering")
	})
	server.Set("web.test", time.Minute, "127.0.0.2")
	f.eventually("it is told", func() bool { return strings.HasSuffix(f.story("127.0.0.1"), "left") })
}

// TestEverythingAtOnce changes everything while requests come on several loops: each place that was taken is given back,
// and Close leaves nothing behind.
func TestEverythingAtOnce(t *testing.T) {
	f, server := setUpLoops(t, 3, "127.0.0.1", "127.0.0.2", "127.0.0.3"), dnstest.New(t)
	server.Rotate("web.test", time.Minute, 2, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4") // nobody is at 4
	change := func(c *Config) {
		c.DNS, c.Drain, c.Failover = quick(server), time.Duration(rand.IntN(2))*time.Millisecond, rand.IntN(2) == 0
		c.Targets = append(f.targets("127.0.0.3"), Target{Host: "web.test", Port: f.port, Weight: 1 + rand.IntN(3)})[rand.IntN(2):]
		c.Pool = pool.Options{MaxConnections: 1 + rand.IntN(3), MinIdle: rand.IntN(2), IdleTimeout: time.Minute}
		c.Queue = Queue{Max: 20, Acquire: 50 * time.Millisecond, Timeout: time.Duration(rand.IntN(2)) * 10 * time.Millisecond}
		c.Health.Passive = health.Passive{Failures: 2, OnConnect: true, OnTimeout: true, EjectFor: 5 * time.Millisecond}
		c.Health.SlowStart = time.Duration(rand.IntN(2)) * 20 * time.Millisecond
		c.Balance = balance.Options{Algorithm: balance.Algorithm(rand.IntN(6)), RecoverAll: rand.IntN(2) == 0}
		if rand.IntN(2) == 0 {
			c.Health.Active = &Check{Active: health.Active{Rise: 1, Fall: 1}, Interval: 3 * time.Millisecond, Timeout: time.Second}
		}
	}
	u := f.upstream(change)
	var running sync.WaitGroup
	var served, failed atomic.Int64
	var stop atomic.Bool
	for i := range 12 {
		l := f.group.Loop(i % 3)
		running.Add(1)
		l.Post(func() {
			l.Go(func(task *netloop.Task) {
				defer running.Done()
				for !stop.Load() {
					r := Request{Key: rand.Uint64(), HasKey: true, Request: pool.Request{Repeatable: rand.IntN(2) == 0, Fresh: rand.IntN(5) == 0}}
					if list := u.Members(); len(list) > 0 && rand.IntN(3) == 0 {
						r.Token = []byte(list[rand.IntN(len(list))].Token)
					}
					a, err := u.Acquire(task, r)
					if err != nil {
						failed.Add(1)
						task.Sleep(0)
						continue
					}
					served.Add(1)
					task.Sleep(0)
					if rand.IntN(3) == 0 {
						a.Report(l, []health.Outcome{health.Success, health.Timeout}[rand.IntN(2)])
					}
					a.Release([]string{"", "", facts.CloseError}[rand.IntN(3)])
				}
			})
		})
	}
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond || served.Load() < 100 && time.Since(begun) < 30*time.Second; { // slow machines take longer
		u.Reconfigure(f.config(change))
		state := balance.State(rand.IntN(5))
		_ = u.SetTarget(f.hostport("web.test"), Change{State: &state})
		_, _ = u.Stats(), u.Warm()
	}
	u.Reconfigure(f.config(func(c *Config) { change(c); c.Health.Active, c.Pool.MinIdle = nil, 0 }))
	stop.Store(true)
	running.Wait()
	t.Logf("%d served, %d failed", served.Load(), failed.Load())
	if served.Load() < 100 {
		t.Error("hardly any was served")
	}
	members := append([]*Member(nil), u.own.current.Load().members...)
	u.Close(facts.CloseDraining)
	for _, m := range members {
		f.eventually("every connection is closed", func() bool { return m.pool.Open() == 0 && m.load.Requests() == 0 })
	}
}

// TestTheNewestAnswerIsKnown: one that confirms what was known is told to nobody, and yet connections know its age.
func TestTheNewestAnswerIsKnown(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	f.host("127.0.0.1 web.test\n")
	u := f.upstream(func(c *Config) {
		c.Targets, c.DNS = []Target{{Host: "web.test", Port: f.port}}, resolve.NameOptions{MaxTTL: 10 * time.Millisecond}
	})
	a := f.hold(u, any)
	first := a.Facts.DNSAnswerAt
	f.eventually("another connection knows of a newer answer", func() bool {
		b := f.hold(u, Request{Request: pool.Request{Fresh: true}})
		f.on(0, func(*netloop.Task) { b.Release(facts.CloseError) })
		return b.Facts.DNSAnswerAt > first
	})
	f.told("127.0.0.1", "joined")
	f.release(a)
}
