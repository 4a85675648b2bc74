package upstream

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

var any = Request{Request: pool.Request{Repeatable: true}}

func session(token string) Request { return Request{Token: []byte(token)} }

// TestWhoWaitsIsGivenWhatItCouldHaveHad: a full member is no reason for a standby, a lower tier, or one that drains.
func TestWhoWaitsIsGivenWhatItCouldHaveHad(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
	u := f.upstream(func(c *Config) {
		c.Pool.MaxConnections = 1
		c.Targets = f.targets("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
		c.Targets[1].State = balance.Standby
		c.Targets[2].Tier = 1
		c.Targets[3].State = balance.Drain
		c.Targets[4].State = balance.Disabled
	})
	first := f.hold(u, any)
	w := f.wait(u, any)
	for _, state := range []balance.State{balance.Drain, balance.Standby, balance.Drain} { // what changes is offered to who waits
		if err := u.SetTarget(f.hostport("127.0.0.2"), Change{State: &state}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-w.done:
		t.Errorf("it was given %v, %v", w.a.Facts.Address, w.err)
	default:
	}
	f.release(first)
	a, err := w.end()
	if err != nil || a.WhyNew != "" || a.Conn != first.Conn {
		t.Fatalf("%+v, %v", a, err)
	}
	f.release(a)
}

// TestWhoWaitsIsGivenTheStandbyWhenNobodyElseIsLeft, because the one that it waited for cannot be used any more.
func TestWhoWaitsIsGivenTheStandbyWhenNobodyElseIsLeft(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) {
		c.Pool.MaxConnections = 1
		c.Targets = f.targets("127.0.0.1", "127.0.0.2")
		c.Targets[1].State = balance.Standby
		c.Health.Passive = health.Passive{Failures: 1, OnTimeout: true}
	})
	first := f.hold(u, any)
	w := f.wait(u, any)
	f.on(0, func(t *netloop.Task) { first.Report(t.Loop(), health.Timeout) })
	a, err := w.end()
	if err != nil || a.Facts.Address.Addr().String() != "127.0.0.2" {
		t.Fatalf("%+v, %v", a, err)
	}
	f.release(first, a)
}

// TestAGrantOutlivesTheMember: between the moment in which a place becomes free for a request that waits, and the moment
// in which the request goes on, the member goes.
func TestAGrantOutlivesTheMember(t *testing.T) {
	for name, reason := range map[string]string{"a place": facts.CloseError, "a connection": ""} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, "127.0.0.1", "127.0.0.2")
			change := func(ip string) func(*Config) {
				return func(c *Config) { c.Pool.MaxConnections, c.Targets = 1, f.targets(ip) }
			}
			u := f.upstream(change("127.0.0.1"))
			first := f.hold(u, any)
			m := first.Member
			w := f.wait(u, any)
			f.on(0, func(*netloop.Task) {
				first.Release(reason)
				u.Reconfigure(f.config(change("127.0.0.2")))
			})
			a, err := w.end()
			if err != nil || a.Member != m {
				t.Fatalf("%+v, %v", a, err)
			}
			f.release(a)
			f.eventually("no connection of the old member is left", func() bool { return m.pool.Open() == 0 })
			if got := f.via(u, any); got != "127.0.0.2" {
				t.Errorf("the next is given to %s", got)
			}
		})
	}
}

// TestAMemberThatFailedIsNotTriedAgainByWayOfTheQueue: a free place at it is no reason.
func TestAMemberThatFailedIsNotTriedAgainByWayOfTheQueue(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) {
		c.Pool.MaxConnections = 1
		c.Targets = f.targets("127.0.0.1", "127.0.0.2")
	})
	held := []Acquired{f.hold(u, any), f.hold(u, any)}
	one, two := held[0].Facts.Address.Addr().String(), held[1].Facts.Address.Addr().String()
	w := f.wait(u, any)
	f.stop(one)
	f.on(0, func(*netloop.Task) { held[0].Release(facts.CloseError) }) // it gets the place, and is refused
	f.eventually("it was refused", func() bool { return f.closedFor(one, facts.CloseConnectFailed) == 1 })
	f.eventually("it waits for the other one", func() bool { return u.Stats().Waiting == 1 })
	f.release(held[1])
	a, err := w.end()
	if err != nil || a.Facts.Address.Addr().String() != two || a.WhyNew != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	f.stop(two)
	last := f.wait(u, any)
	f.on(0, func(*netloop.Task) { a.Release(facts.CloseError) })
	if _, err := last.end(); err == nil || err.Kind != fault.Connect || !strings.Contains(err.Error(), two) {
		t.Errorf("both refuse: %v", err)
	}
	if n := f.closedFor(one, facts.CloseConnectFailed) + f.closedFor(two, facts.CloseConnectFailed); n > 3 {
		t.Errorf("%d connections were tried", n)
	}
	if s := u.Stats(); s.Open != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSessionsStayWithTheirMember(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) {
		c.Pool.MaxConnections, c.Failover = 1, true
		c.Targets = f.targets("127.0.0.1", "127.0.0.2")
		c.Targets[0].Route, c.Targets[1].Route = "one", "two"
	})
	if got := f.among(u, 6, session("two")); got != "127.0.0.2" {
		t.Errorf("the session of two is given to %s", got)
	}
	if got := f.among(u, 6, session("nobody")); got != "127.0.0.1 127.0.0.2" {
		t.Errorf("a session of nobody is given to %s", got)
	}
	first := f.hold(u, session("two"))
	w := f.wait(u, session("two")) // although the other one is free
	f.release(first)
	a, err := w.end()
	if err != nil || a.Member.Token() != "two" {
		t.Fatalf("%+v, %v", a, err)
	}
	w = f.wait(u, session("two"))
	f.on(0, func(*netloop.Task) { u.Reconfigure(f.config(func(c *Config) { c.Targets = f.targets("127.0.0.1") })) })
	if other, err := w.end(); err != nil || other.Facts.Address.Addr().String() != "127.0.0.1" {
		t.Errorf("its member is gone: %v", err)
	} else {
		f.release(other)
	}
	f.release(a)
}

func TestFailoverOfSessions(t *testing.T) {
	for _, failover := range []bool{true, false} {
		f := setUp(t, "127.0.0.1")
		u := f.upstream(func(c *Config) {
			c.Failover = failover
			c.Targets = f.targets("127.0.0.1", "127.0.0.9")
			c.Targets[1].Route = "nine"
			c.Health.Passive = health.Passive{Failures: 2, OnConnect: true}
		})
		for _, want := range []fault.Kind{fault.Connect, fault.Connect, fault.Unavailable} { // the second ejects it
			a, err := f.ask(u, session("nine"))
			switch {
			case failover && err == nil:
				f.release(a)
			case failover || err == nil || err.Kind != want || err.Upstream != "u":
				t.Errorf("failover %v: %v; want kind %v", failover, err, want)
			}
		}
		if n := f.closedFor("127.0.0.9", facts.CloseConnectFailed); n != 2 {
			t.Errorf("failover %v: it was tried %d times", failover, n)
		}
	}
}

// TestAnotherAttemptPrefersOthers, and rather the same than none; a session that may not fail over has but one.
func TestAnotherAttemptPrefersOthers(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	change := func(c *Config) {
		c.Targets = f.targets("127.0.0.1", "127.0.0.2")
		c.Targets[0].Route = "one"
	}
	u := f.upstream(change)
	a := f.hold(u, session("one"))
	f.release(a)
	again := Request{Avoid: []*Member{a.Member}}
	if got := f.among(u, 6, again); got != "127.0.0.2" {
		t.Errorf("another attempt is given to %s", got)
	}
	b := f.hold(u, again)
	f.release(b)
	if got := f.among(u, 20, Request{Avoid: []*Member{a.Member, b.Member}}); got != "127.0.0.1 127.0.0.2" {
		t.Errorf("all were tried: %s", got)
	}
	again.Token = []byte("one")
	if got := f.among(u, 6, again); got != "127.0.0.1" {
		t.Errorf("a session without failover is given to %s", got)
	}
	u.Reconfigure(f.config(func(c *Config) { change(c); c.Failover = true }))
	if got := f.among(u, 6, again); got != "127.0.0.2" {
		t.Errorf("a session with failover is given to %s", got)
	}
}

func TestNobodyIsAvailable(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.1", "127.0.0.2")
		c.Targets[0].State, c.Targets[1].State = balance.Disabled, balance.Drain
	})
	_, err := f.ask(u, any)
	if err == nil || err.Kind != fault.Unavailable || err.Status != 503 || !strings.Contains(err.Error(), "1 disabled, 1 drain") {
		t.Errorf("%v", err)
	}
	u.Reconfigure(f.config(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Targets[0].State, c.Queue.Timeout = balance.Disabled, 20*time.Millisecond
	}))
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.Unavailable || !strings.Contains(err.Error(), "waited for 20ms") {
		t.Errorf("%v", err)
	}
	u.Reconfigure(f.config(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Targets[0].State, c.Queue.Timeout = balance.Disabled, time.Minute
	}))
	w, active := f.wait(u, any), balance.Active
	if err := u.SetTarget(f.hostport("127.0.0.1"), Change{State: &active}); err != nil {
		t.Fatal(err)
	}
	a, err := w.end()
	if err != nil {
		t.Fatal(err)
	}
	f.release(a)
}

func TestTheQueueIsBounded(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Pool.MaxConnections, c.Queue.Max = 1, 1
	})
	held := f.hold(u, any)
	w := f.wait(u, any)
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.PoolExhausted || err.Upstream != "u" || !strings.Contains(err.Error(), "queue.max") {
		t.Errorf("%v", err)
	}
	f.release(held)
	a, err := w.end()
	if err != nil {
		t.Fatal(err)
	}
	u.Reconfigure(f.config(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Pool.MaxConnections, c.Queue.Acquire = 1, 20*time.Millisecond
	}))
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.PoolExhausted || !strings.Contains(err.Error(), "20ms") {
		t.Errorf("%v", err)
	}
	f.release(a)
}

// TestTheFirstAnswerIsWaitedFor: of any of the targets' names; and a failure says which name it was.
func TestTheFirstAnswerIsWaitedFor(t *testing.T) {
	f, server := setUp(t, "127.0.0.1"), dnstest.New(t)
	server.Set("good.test", time.Minute, "127.0.0.1")
	targets := func(hosts ...string) (list []Target) {
		for _, h := range hosts {
			list = append(list, Target{Host: h, Port: f.port})
		}
		return list
	}
	u := f.upstream(func(c *Config) { c.DNS, c.Targets = quick(server), targets("bad.test", "good.test") })
	if got := f.via(u, any); got != "127.0.0.1" {
		t.Errorf("given to %s", got)
	}
	u = f.upstream(func(c *Config) { c.DNS, c.Targets = quick(server), targets("worse.test") })
	if _, err := f.ask(u, any); err == nil || err.Kind != fault.DNS || err.Upstream != "u" || !strings.Contains(err.Error(), "worse.test") {
		t.Errorf("%v", err)
	}
	server.Set("worse.test", time.Minute, "127.0.0.1")
	f.eventually("the name has an answer", func() bool {
		a, err := f.ask(u, any)
		if err == nil {
			f.release(a)
		}
		return err == nil
	})
}

// TestTheBreakerHearsOfEachRequestOnce: of one that is not reported it hears that it was none.
func TestTheBreakerHearsOfEachRequestOnce(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	const open = 2 * time.Second // longer than a machine stands still
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Breaker = breaker.Options{Ratio: 0.5, Requests: 2, Window: time.Minute, Open: open}
	})
	refused := func() bool {
		a, err := f.ask(u, any)
		if err == nil {
			f.release(a)
			return false
		}
		if err.Kind != fault.Overloaded || err.RetryAfter <= 0 || err.RetryAfter > open || err.Upstream != "u" {
			t.Errorf("%v, retry after %v", err, err.RetryAfter)
		}
		return true
	}
	for range 2 {
		a := f.hold(u, any)
		f.on(0, func(t *netloop.Task) {
			a.Report(t.Loop(), health.Reset)
			a.Report(t.Loop(), health.Reset) // the breaker does not hear of that one
			a.Release(facts.CloseError)
		})
	}
	if !refused() || !u.Stats().BreakerOpen {
		t.Fatal("the breaker did not open")
	}
	var probe Acquired
	f.eventually("one may try", func() bool {
		a, err := f.ask(u, any)
		probe = a
		return err == nil
	})
	if !refused() {
		t.Error("two may try at once")
	}
	f.release(probe) // it said nothing
	a := f.hold(u, any)
	f.on(0, func(t *netloop.Task) { a.Report(t.Loop(), health.Success) })
	if refused() || u.Stats().BreakerOpen {
		t.Error("it did not close when a request went well")
	}
	f.release(a)
}

// TestLoadsEnd: whatever becomes of requests, none is left under way.
func TestLoadsEnd(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1", "127.0.0.9") })
	for _, reason := range []string{"", facts.CloseError, facts.ClosePeer, ""} {
		a := f.hold(u, any)
		if n := f.state(u, "127.0.0.1").Requests; n != 1 {
			t.Errorf("%d requests are under way", n)
		}
		f.on(0, func(*netloop.Task) {
			a.Facts.BytesIn += 1000
			a.Release(reason)
		})
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.9"} {
		if s := f.state(u, ip); s.Requests != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestAnIdleConnectionCostsNoAllocation, whatever chooses the member, a session's token too.
func TestAnIdleConnectionCostsNoAllocation(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	for _, algorithm := range []balance.Algorithm{balance.RoundRobin, balance.LeastRequests, balance.LeastBytes, balance.RandomTwo, balance.Hash, balance.First} {
		u := f.upstream(func(c *Config) {
			c.Targets, c.Pool.MaxConnections = f.targets("127.0.0.1", "127.0.0.2", "127.0.0.3"), 100
			c.Balance = balance.Options{Algorithm: algorithm, BoundedLoad: 1.25}
			c.Dynamic = &Dynamic{Max: 2, Allow: func(string) (string, uint16, bool) { return "127.0.0.1", f.port, true }}
			c.Health.Passive = health.Passive{Failures: 3, OnConnect: true}
			c.Breaker = breaker.Options{Ratio: 0.5, Requests: 2, Window: time.Minute, Open: time.Minute}
		})
		for name, r := range map[string]Request{
			"any":     {Request: pool.Request{Repeatable: true}, Key: 7, HasKey: true},
			"session": {Request: pool.Request{Repeatable: true}, Token: bytes.Clone([]byte(u.Members()[1].Token))},
			"dynamic": {Request: pool.Request{Repeatable: true}, Authority: []byte("a.test:80")},
		} {
			var first []Acquired
			for range 12 {
				first = append(first, f.hold(u, r))
			}
			f.release(first...) // each member has an idle one
			f.on(0, func(task *netloop.Task) {
				l := task.Loop()
				n := testing.AllocsPerRun(200, func() {
					a, err := u.Acquire(task, r)
					if err != nil || a.WhyNew != "" {
						t.Fatalf("%v: %s", err, a.WhyNew)
					}
					a.Report(l, health.Status(200))
					a.Release("")
				})
				if n != 0 {
					t.Errorf("%v, %s: %v allocations", algorithm, name, n)
				}
			})
		}
		u.Close(facts.CloseDraining)
	}
}
