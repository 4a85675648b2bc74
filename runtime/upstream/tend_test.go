package upstream

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// checked has members checked, twice for each change, by a probe that counts and fails as it is told.
func checked(asked *atomic.Int64, ill *atomic.Bool) Health {
	return Health{Active: &Check{
		Active: health.Active{Rise: 2, Fall: 2}, Interval: time.Millisecond, Timeout: time.Second,
		Probe: func(_ *netloop.Task, c *pool.Conn, authority []byte) error {
			asked.Add(1)
			if c.Facts.WhyOpened != facts.OpenHealthCheck || len(authority) == 0 {
				return errors.New("not what a check is given")
			}
			if ill.Load() {
				return errors.New("it is ill")
			}
			return nil
		},
	}}
}

func TestChecksSayWhoIsWell(t *testing.T) {
	f := setUpLoops(t, 2, "127.0.0.1", "127.0.0.2")
	var asked atomic.Int64
	var ill atomic.Bool
	u := f.upstream(func(c *Config) { c.Targets, c.Health = f.targets("127.0.0.1"), checked(&asked, &ill) })
	f.eventually("it is asked", func() bool { return asked.Load() > 3 })
	f.release(f.hold(u, any))
	ill.Store(true)
	f.eventually("it is unhealthy", func() bool { return f.state(u, "127.0.0.1").Health == "unhealthy" })
	f.eventually("its idle connection is closed", func() bool { return f.closedFor("127.0.0.1", facts.CloseEjected) == 1 })
	if _, err := f.ask(u, any); err == nil {
		t.Error("it is given requests")
	}
	ill.Store(false)
	f.eventually("it is healthy", func() bool { return f.state(u, "127.0.0.1").Health == "healthy" })
	f.stop("127.0.0.1")
	f.eventually("it is unhealthy", func() bool { return f.state(u, "127.0.0.1").Health == "unhealthy" })
	f.told("127.0.0.1", "joined unhealthy healthy unhealthy")
	if s := u.Stats(); s.Open != 0 {
		t.Errorf("connections of checks are counted: %+v", s)
	}
	u.Reconfigure(f.config(func(c *Config) { c.Targets = f.targets("127.0.0.1") }))
	if got := f.state(u, "127.0.0.1").Health; got != "healthy" {
		t.Errorf("without checks it is %s", got)
	}
}

// TestChecksThatAreTurnedOnAgain go on, whatever moment the one before is in; nobody is asked who is disabled or gone.
func TestChecksThatAreTurnedOnAgain(t *testing.T) {
	f, server := setUpLoops(t, 2, "127.0.0.1", "127.0.0.2"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
	var asked atomic.Int64
	var ill atomic.Bool
	change := func(on bool) func(*Config) {
		return func(c *Config) {
			c.DNS, c.Drain, c.Targets = quick(server), time.Minute, []Target{{Host: "web.test", Port: f.port}}
			if on {
				c.Health, c.Pool.MinIdle = checked(&asked, &ill), 1
			}
		}
	}
	u := f.upstream(change(true))
	f.eventually("both are known", func() bool { return len(u.Members()) == 2 })
	for range 300 {
		u.Reconfigure(f.config(change(false)))
		u.Reconfigure(f.config(change(true)))
	}
	begun := asked.Load()
	f.eventually("they are asked", func() bool { return asked.Load() > begun+10 })
	for _, m := range u.own.current.Load().members {
		f.eventually("a connection is opened ahead", func() bool { return m.pool.Idle() > 0 })
		m.pool.CloseIdle(f.group, facts.CloseMadePlace)
		f.eventually("it is closed", func() bool { return f.closedFor(m.Address.Addr().String(), facts.CloseMadePlace) > 0 })
		f.eventually("another is opened ahead", func() bool { return m.pool.Idle() > 0 })
	}
	disabled := balance.Disabled
	if err := u.SetTarget(f.hostport("web.test"), Change{State: &disabled}); err != nil {
		t.Fatal(err)
	}
	f.eventually("idle ones are closed", func() bool { return u.Stats().Open == 0 })
	for try := 1; ; try++ { // a check that was under way may have stood still
		f.on(0, func(task *netloop.Task) {
			task.Sleep(20 * time.Millisecond) // checks that are under way end
			begun = asked.Load()
			task.Sleep(50 * time.Millisecond)
		})
		n := asked.Load() - begun
		if n == 0 {
			break
		}
		if try == 5 {
			t.Fatalf("disabled ones are asked: %d times", n)
		}
	}
	u.Close(facts.CloseDraining)
}

// TestChecksThatAreTurnedOnWhileTheyEnd: the check before has seen that there is nothing to do, and has not ended yet.
func TestChecksThatAreTurnedOnWhileTheyEnd(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	var asked atomic.Int64
	var ill atomic.Bool
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1") })
	m := u.own.current.Load().members[0]
	m.tending.Store(true)
	u.Reconfigure(f.config(func(c *Config) { c.Targets, c.Health = f.targets("127.0.0.1"), checked(&asked, &ill) }))
	m.rest(&m.tending)
	f.eventually("it is asked", func() bool { return asked.Load() > 0 })
}

func TestConnectionsAreOpenedAhead(t *testing.T) {
	f := setUpLoops(t, 2, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	change := func(c *Config) {
		c.Targets, c.Pool.MinIdle = f.targets("127.0.0.1", "127.0.0.2", "127.0.0.3"), 3
		c.Targets[1].State, c.Targets[2].State = balance.Drain, balance.Disabled
	}
	u := f.upstream(change)
	f.eventually("it is warm", u.Warm)
	if n := f.state(u, "127.0.0.1").Idle; n != 3 {
		t.Errorf("%d are idle", n)
	}
	a := f.hold(u, any)
	if a.WhyNew != "" || a.Facts.WhyOpened != facts.OpenPrewarm || a.Facts.Requests != 1 {
		t.Errorf("%s, %+v", a.WhyNew, a.Facts)
	}
	f.eventually("the one in use is replaced", func() bool { return f.state(u, "127.0.0.1").Open == 4 })
	f.release(a)
	if f.connections("127.0.0.2") != 0 || f.connections("127.0.0.3") != 0 {
		t.Error("connections to who is given no requests")
	}
	u.Close(facts.CloseDraining)
	f.eventually("all are closed", func() bool { return f.closedFor("127.0.0.1", facts.CloseDraining) == 4 })
}

// TestWhoRefusesIsLeftAlone for a second, then tried once; when it serves again, all are opened.
func TestWhoRefusesIsLeftAlone(t *testing.T) {
	f := setUp(t)
	u := f.upstream(func(c *Config) { c.Targets, c.Pool.MinIdle = f.targets("127.0.0.1"), 3 })
	refused := func() int { return f.closedFor("127.0.0.1", facts.CloseConnectFailed) }
	f.eventually("it is tried again", func() bool { return refused() > 3 })
	f.journal.mu.Lock()
	tries := slices.Clone(f.closed)
	f.journal.mu.Unlock()
	for i := 3; i < len(tries); i++ { // by the loop's own times: the test may look late
		if rest := time.Duration(tries[i].DialStart - tries[i-1].Closed); rest < 700*time.Millisecond {
			t.Errorf("it was tried a %d. time after %v", i+1, rest)
		}
	}
	if u.Warm() {
		t.Error("it is warm")
	}
	f.eventually("no place is taken", func() bool { return u.Stats().Open == 0 })
	f.serve("127.0.0.1")
	f.eventually("it is warm", u.Warm)
}

// TestNewcomersStartSlowly where others serve already.
func TestNewcomersStartSlowly(t *testing.T) {
	f, server := setUp(t, "127.0.0.1", "127.0.0.2"), dnstest.New(t)
	server.Set("web.test", time.Minute, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.DNS, c.Targets, c.Health.SlowStart = quick(server), []Target{{Host: "web.test", Port: f.port}}, 3*time.Second // longer than a machine stands still
	})
	f.release(f.hold(u, any))
	if s := f.state(u, "127.0.0.1"); s.Share != 1000 {
		t.Errorf("the first has %d thousandths", s.Share)
	}
	server.Set("web.test", time.Minute, "127.0.0.1", "127.0.0.2")
	f.eventually("the second has a part", func() bool {
		s := f.state(u, "127.0.0.2")
		return s.Health == "recovering" && s.Share > 0 && s.Share < 1000
	})
	f.eventually("the second has all", func() bool { s := f.state(u, "127.0.0.2"); return s.Health == "healthy" && s.Share == 1000 })
}
