package resolve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// fixture is a resolver with a name server and a clock of the test's own. The resolver closes with the test, which fails
// if anything of it is left.
type fixture struct {
	*testing.T
	*dnstest.Server
	clock    *dnstest.Clock
	resolver *Resolver
	hosts    string
	conf     string
	random   atomic.Int64 // what Rand gives, in thousandths
	mu       sync.Mutex
	told     []*Answer
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{T: t, Server: dnstest.New(t), clock: dnstest.NewClock(), hosts: filepath.Join(dir, "hosts"), conf: filepath.Join(dir, "resolv.conf")}
	before := runtime.NumGoroutine()
	f.resolver = New(Options{Hosts: f.hosts, ResolvConf: f.conf, Clock: f.clock, Rand: func() float64 { return float64(f.random.Load()) / 1000 }})
	t.Cleanup(func() {
		f.resolver.Close()
		f.Release()
		testkit.Eventually(t, "no goroutine is left of the resolver", func() bool { return runtime.NumGoroutine() <= before })
	})
	return f
}

// name is a name that the fixture's server is asked for.
func (f *fixture) name(host string) *Name {
	return f.with(host, NameOptions{Server: f.Addr(), MinTTL: time.Second, MaxTTL: time.Hour})
}

func (f *fixture) with(host string, o NameOptions) *Name {
	o.OnChange = func(a *Answer) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, a)
	}
	return f.resolver.Name(host, o)
}

// changes is how often OnChange was called, and with what last.
func (f *fixture) changes() (int, *Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.told) == 0 {
		return 0, nil
	}
	return len(f.told), f.told[len(f.told)-1]
}

func (f *fixture) wantChanges(want int) {
	f.Helper()
	if got, _ := f.changes(); got != want {
		f.Errorf("OnChange was called %d times, want %d", got, want)
	}
}

func (f *fixture) resolve(n *Name) *Answer {
	f.Helper()
	a, err := n.Resolve(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// fails resolves a name that has no answer.
func (f *fixture) fails(n *Name, texts ...string) {
	f.Helper()
	a, err := n.Resolve(context.Background())
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.DNS || e.Host != n.host || !e.Retryable {
		f.Fatalf("%+v, %v; want an error of kind dns", a, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			f.Errorf("the error does not say %q: %v", text, err)
		}
	}
}

// pass lets time go by, and waits for the look-up that it brought, if any.
func (f *fixture) pass(n *Name, d time.Duration) *Answer {
	f.clock.Advance(d)
	return n.Await(context.Background())
}

// asked waits until the server got so many questions about a name.
func (f *fixture) asked(s *dnstest.Server, host string, n int) {
	f.Helper()
	testkit.Eventually(f.T, fmt.Sprintf("%d questions for %s", n, host), func() bool { return s.Queries(host) >= n })
}

func (f *fixture) want(a *Answer, addrs string) {
	f.Helper()
	if a == nil {
		f.Fatal("no answer")
	}
	var got []string
	for _, e := range a.Endpoints {
		text := e.Addr.String()
		if e.Port != 0 {
			text = fmt.Sprintf("%s:%d/%d/%d", e.Addr, e.Port, e.Priority, e.Weight)
		}
		got = append(got, text)
	}
	if strings.Join(got, " ") != addrs {
		f.Errorf("got %v, want [%s]", got, addrs)
	}
}

func (f *fixture) wantFresh(a *Answer, addrs string) {
	f.Helper()
	f.want(a, addrs)
	if a.Stale || a.Doubt != "" {
		f.Errorf("stale: %s", a.Doubt)
	}
}

func (f *fixture) wantStale(a *Answer, addrs string, doubts ...string) {
	f.Helper()
	f.want(a, addrs)
	if !a.Stale {
		f.Error("not marked as stale")
	}
	for _, d := range doubts {
		if !strings.Contains(a.Doubt, d) {
			f.Errorf("the doubt does not say %q: %s", d, a.Doubt)
		}
	}
}

func TestAnAddressNeedsNoServer(t *testing.T) {
	f := setUp(t)
	for _, host := range []string{"10.0.0.1", "[::1]", "::ffff:10.0.0.1"} {
		n := f.name(host)
		a, err := n.Resolve(context.Background())
		if err != nil || len(a.Endpoints) != 1 || n.Current() != a || n.Await(context.Background()) != a || a.Endpoints[0].Addr.Is4In6() {
			t.Errorf("%s: %+v, %v", host, a, err)
		}
		n.Refresh()
		n.Close()
	}
	f.wantChanges(0)
	if f.clock.Timers() != 0 {
		t.Error("an address is not refreshed")
	}
}

func TestANameIsAskedForAgainWhenItsTTLEnds(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 20*time.Second, "fd00::1", "10.0.0.1", "10.0.0.2")
	n := f.name("web.test")
	if n.Current() != nil || n.Await(context.Background()) != nil {
		t.Fatal("an answer before the first question")
	}
	a := f.resolve(n)
	f.wantFresh(a, "10.0.0.1 10.0.0.2 fd00::1")
	if a.TTL != 20*time.Second || a.Server != f.Addr() || !a.At.Equal(f.clock.Now()) {
		t.Errorf("%+v", a)
	}
	f.Set("web.test", 5*time.Second, "10.0.0.9")
	if f.pass(n, 20*time.Second-1) != a || f.Queries("web.test") != 2 {
		t.Error("within its TTL the answer stays, and nobody is asked")
	}
	f.wantChanges(1)
	b := f.pass(n, 1)
	f.wantFresh(b, "10.0.0.9")
	if got, last := f.changes(); got != 2 || last != b || n.Current() != b {
		t.Errorf("OnChange was called %d times, last with %+v", got, last)
	}
	if c := f.pass(n, 5*time.Second); c == b || c.At.Equal(b.At) {
		t.Error("the next TTL has ended as well")
	}
	f.wantChanges(2)
}

func TestTTLIsBounded(t *testing.T) {
	f := setUp(t)
	f.Set("low.test", 0, "10.0.0.1")
	f.Set("mid.test", 30*time.Second, "10.0.0.1")
	f.Set("high.test", 24*time.Hour, "10.0.0.1")
	f.Set("absurd.test", (1<<31)*time.Second, "10.0.0.1")
	for _, c := range []struct {
		host     string
		min, max time.Duration
		want     time.Duration
	}{
		{"low.test", 0, 0, time.Second},
		{"low.test", 5 * time.Second, 0, 5 * time.Second},
		{"low.test", 0, 50 * time.Millisecond, 50 * time.Millisecond},
		{"mid.test", 5 * time.Second, time.Minute, 30 * time.Second},
		{"high.test", 0, time.Minute, time.Minute},
		{"high.test", 0, 0, 24 * time.Hour},
		{"absurd.test", 0, 0, time.Second},
	} {
		if a := f.resolve(f.with(c.host, NameOptions{Server: f.Addr(), MinTTL: c.min, MaxTTL: c.max})); a.TTL != c.want {
			t.Errorf("%s in %s to %s: %s, want %s", c.host, c.min, c.max, a.TTL, c.want)
		}
	}
}

func TestRefreshesAreEarlierAtRandomAndNeverLater(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 100*time.Second, "10.0.0.1")
	for _, c := range []struct {
		jitter float64
		random int64
		want   time.Duration
	}{
		{0, 999, 100 * time.Second}, {0.2, 0, 100 * time.Second}, {0.2, 500, 90 * time.Second},
		{7, 500, 55 * time.Second}, {-1, 500, 100 * time.Second},
	} {
		f.random.Store(c.random)
		n := f.with("web.test", NameOptions{Server: f.Addr(), Jitter: c.jitter})
		if a := f.resolve(n); !f.clock.In(c.want) || a.TTL != 100*time.Second {
			t.Errorf("jitter %v of %v: not after %s", c.random, c.jitter, c.want)
		}
		n.Close()
	}
}

func TestRotationIsAChangeOnlyWhenAddressesAre(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	n := f.name("web.test")
	f.resolve(n)
	f.Set("web.test", 10*time.Second, "10.0.0.3", "10.0.0.1", "10.0.0.2")
	f.wantFresh(f.pass(n, 10*time.Second), "10.0.0.3 10.0.0.1 10.0.0.2")
	f.wantChanges(1)
	f.Rotate("web.test", 10*time.Second, 2, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	for i, want := range []string{"10.0.0.1 10.0.0.2", "10.0.0.3 10.0.0.1", "10.0.0.2 10.0.0.3"} {
		f.wantFresh(f.pass(n, 10*time.Second), want)
		f.wantChanges(2 + i)
	}
}

func TestOneQuestionForAllWhoWait(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1")
	f.Hold()
	n := f.name("web.test")
	var all sync.WaitGroup
	for range 20 {
		n.Refresh()
		all.Go(func() {
			if a, err := n.Resolve(context.Background()); err != nil || len(a.Endpoints) != 1 {
				t.Error(a, err)
			}
		})
		all.Go(func() {
			if n.Await(context.Background()) == nil {
				t.Error("Await ended before the look-up did")
			}
		})
	}
	f.asked(f.Server, "web.test", 2)
	f.Release()
	all.Wait()
	if got := f.Queries("web.test"); got != 2 {
		t.Errorf("%d questions, want one for each family", got)
	}
	f.wantChanges(1)
}

func TestWhoWaitsGoesWhenItsContextEnds(t *testing.T) {
	f := setUp(t)
	f.Silence(true)
	n := f.name("web.test")
	ctx, cancel := context.WithCancel(context.Background())
	n.Refresh()
	f.asked(f.Server, "web.test", 2)
	cancel()
	if n.Await(ctx) != nil {
		t.Error("there is no answer")
	}
	var e *fault.Error
	if _, err := n.Resolve(ctx); !errors.As(err, &e) || e.Status != 504 || !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want a 504", err)
	}
}

func TestRefreshAsksAtOnceButNotTooOften(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1")
	n := f.name("web.test")
	a := f.resolve(n)
	f.Set("web.test", time.Minute, "10.0.0.2")
	f.clock.Advance(refreshRest - 1)
	for range 5 {
		n.Refresh()
	}
	if n.Await(context.Background()) != a || f.Queries("web.test") != 2 {
		t.Fatal("asked again within 500 ms of an answer")
	}
	f.clock.Advance(1)
	f.Hold()
	for range 5 {
		n.Refresh()
		if n.Current() != a {
			t.Error("nobody waits for a refresh")
		}
	}
	f.asked(f.Server, "web.test", 4)
	f.Release()
	f.wantFresh(n.Await(context.Background()), "10.0.0.2")
	if got := f.Queries("web.test"); got != 4 {
		t.Errorf("%d questions, want 4", got)
	}
	if f.pass(n, time.Minute-1); f.Queries("web.test") != 4 {
		t.Error("the TTL counts from the refresh")
	}
	if f.pass(n, 1); f.Queries("web.test") != 6 {
		t.Error("the refresh was the last one")
	}
}

func TestAFailedRefreshWithinTheTTL(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1")
	n := f.name("web.test")
	f.resolve(n)
	f.clock.Advance(10 * time.Second)
	f.Silence(true)
	n.Refresh()
	f.asked(f.Server, "web.test", 4)
	f.wantStale(f.pass(n, ownTimeout*ownAttempts), "10.0.0.1", "no answer in 4s")
}

func TestCloseEndsRefreshes(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	n := f.name("web.test")
	a := f.resolve(n)
	n.Close()
	n.Close()
	n.Refresh()
	f.clock.Advance(time.Hour)
	if f.Queries("web.test") != 2 || f.clock.Timers() != 0 {
		t.Errorf("%d questions, %d timers after Close", f.Queries("web.test"), f.clock.Timers())
	}
	if b, err := n.Resolve(context.Background()); b != a || err != nil || n.Current() != a {
		t.Error("the answer in force stays")
	}
	unused := f.name("other.test")
	unused.Close()
	f.fails(unused, "not in use")
}

func TestCloseBreaksOffWhatIsUnderWay(t *testing.T) {
	for name, closeIt := range map[string]func(f *fixture, n *Name){
		"name": func(_ *fixture, n *Name) { n.Close() }, "resolver": func(f *fixture, _ *Name) { f.resolver.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			f.Set("web.test", 10*time.Second, "10.0.0.1")
			n, first := f.name("web.test"), f.name("first.test")
			f.resolve(n)
			f.Silence(true)
			f.clock.Advance(10 * time.Second)
			first.Refresh()
			f.asked(f.Server, "web.test", 4)
			f.asked(f.Server, "first.test", 2)
			closeIt(f, n)
			closeIt(f, first)
			f.want(n.Await(context.Background()), "10.0.0.1")
			f.fails(first)
			if f.clock.Advance(time.Hour); f.clock.Timers() != 0 {
				t.Errorf("%d timers are left", f.clock.Timers())
			}
			f.wantChanges(1)
		})
	}
}

func TestOnChangeMayAskForMore(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	var n *Name
	ran := make(chan *Answer, 1)
	n = f.resolver.Name("web.test", NameOptions{Server: f.Addr(), OnChange: func(a *Answer) {
		n.Refresh()
		if n.Current() != a {
			t.Error("told before it is in force")
		}
		n.Close()
		ran <- a
	}})
	if a := f.resolve(n); a != <-ran {
		t.Error("told of another answer")
	}
}

// TestManyAtOnce is for the race detector, and runs by the real clock.
func TestManyAtOnce(t *testing.T) {
	s := dnstest.New(t)
	s.Rotate("web.test", 0, 2, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	s.SetSRV("_http._tcp.web.test", 0, []dnstest.SRV{{Port: 80, Target: "web.test"}, {Port: 81, Target: "gone.test"}})
	r := New(Options{Hosts: filepath.Join(t.TempDir(), "none")})
	defer r.Close()
	var told atomic.Int64
	var all sync.WaitGroup
	var names []*Name
	for _, host := range []string{"web.test", "_http._tcp.web.test", "gone.test"} {
		n := r.Name(host, NameOptions{Server: s.Addr(), MaxTTL: 10 * time.Millisecond, OnChange: func(*Answer) { told.Add(1) }})
		names = append(names, n)
		for range 4 {
			all.Go(func() {
				for range 200 {
					_, _ = n.Resolve(context.Background())
					n.Refresh()
					if a := n.Current(); a != nil && len(a.Endpoints) == 0 {
						t.Error("an answer without an address")
					}
				}
			})
		}
	}
	all.Wait()
	testkit.Eventually(t, "changes are told", func() bool { return told.Load() > 20 })
	for _, n := range names {
		n.Close()
	}
}

func TestTheRealClock(t *testing.T) {
	s := dnstest.New(t)
	s.Set("web.test", 0, "10.0.0.1")
	r := New(Options{})
	defer r.Close()
	n := r.Name("web.test", NameOptions{Server: s.Addr(), MaxTTL: 20 * time.Millisecond, Jitter: 0.1})
	if _, err := n.Resolve(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Set("web.test", 0, "10.0.0.2")
	testkit.Eventually(t, "the new address is in force", func() bool { return n.Current().Endpoints[0].Addr.String() == "10.0.0.2" })
}

func TestCurrentAllocatesNothing(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1")
	n := f.name("web.test")
	f.resolve(n)
	if got := testing.AllocsPerRun(100, func() { _ = n.Current() }); got != 0 {
		t.Errorf("Current allocates %v times", got)
	}
}

func TestIsService(t *testing.T) {
	if !IsService("_http._tcp.users.internal") || IsService("users.internal") || IsService("a._tcp.users.internal") {
		t.Error("a service is what begins with _")
	}
}

var _ Clock = (*dnstest.Clock)(nil)

// failing are the ways to say no.
var failing = map[string]func(*dnstest.Server){
	"NXDOMAIN": func(s *dnstest.Server) { s.Remove("web.test") },
	"SERVFAIL": func(s *dnstest.Server) { s.Fail("web.test", dns.RcodeServerFailure) },
	"REFUSED":  func(s *dnstest.Server) { s.Fail("web.test", dns.RcodeRefused) },
	"without an address": func(s *dnstest.Server) {
		s.Set("web.test", time.Minute)
	},
}
