package health

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

const second = int64(time.Second)

func rules() Options {
	return Options{Passive: Passive{
		Failures: 3, EjectFor: 10 * time.Second, EjectMax: time.Minute, OnConnect: true, OnTimeout: true,
		OnStatus: Ranges{{500, 500}, {502, 504}},
	}}
}

// is checks state, share, next and a part of the reason.
func is(t *testing.T, k *Tracker, state State, share int, next int64, why string) {
	t.Helper()
	s, w := k.State()
	if s != state || k.Share() != share || k.Next() != next || !strings.Contains(w, why) {
		t.Fatalf("%v, share %d, next %d: %q; not %v, %d, %d: %q", s, k.Share(), k.Next(), w, state, share, next, why)
	}
}

// tell reports outcomes, the last of which is to be a change or not.
func tell(t *testing.T, k *Tracker, now int64, changes bool, list ...Outcome) {
	t.Helper()
	for i, o := range list {
		if got := k.Report(o, now); got != (changes && i == len(list)-1) {
			t.Fatalf("outcome %d, %q: changed %v", i, o, got)
		}
	}
}

func TestFailuresInARowEject(t *testing.T) {
	k := New(rules())
	is(t, k, Healthy, 1000, 0, "")
	tell(t, k, 0, false, ConnectFailed, Timeout, Success, Reset, Status(503), Status(501), Timeout, Timeout)
	tell(t, k, second, true, Status(503))
	is(t, k, Ejected, 0, 11*second, "3 failures in a row, the last: it answered 503; ejected for 10s")
	tell(t, k, 2*second, false, Success, ConnectFailed, ConnectFailed, ConnectFailed) // of requests that were under way
	if k.Tick(11*second - 1) {
		t.Fatal("it came back too early")
	}
	if !k.Tick(11 * second) {
		t.Fatal("it did not come back")
	}
	is(t, k, Recovering, 50, 12*second, "on trial")
	tell(t, k, 12*second, true, Success)
	is(t, k, Healthy, 1000, 0, "went well")
	tell(t, k, 12*second, false, Timeout, Timeout, Status(200), Timeout, Timeout)
	if n, _ := k.Counts(); n != 1 {
		t.Errorf("%d ejections", n)
	}
}

func TestWhatCountsAsFailure(t *testing.T) {
	all := []Outcome{ConnectFailed, Reset, Timeout, Status(500)}
	for name, c := range map[string]struct {
		change   func(*Options)
		failures []Outcome
	}{
		"as configured":  {func(*Options) {}, all},
		"not connecting": {func(o *Options) { o.Passive.OnConnect = false }, []Outcome{Timeout, Status(500)}},
		"not timeouts":   {func(o *Options) { o.Passive.OnTimeout = false }, []Outcome{ConnectFailed, Reset, Status(500)}},
		"no status":      {func(o *Options) { o.Passive.OnStatus = nil }, []Outcome{ConnectFailed, Reset, Timeout}},
		"off":            {func(o *Options) { o.Passive.Failures = 0 }, nil},
		"errors ignored": {func(o *Options) { o.IgnoreErrors = true }, nil},
	} {
		for _, o := range append(all, Success, Status(200), Status(404), Status(599)) {
			rules := rules()
			c.change(&rules)
			k := New(rules)
			for range 5 {
				k.Report(o, 0)
			}
			want := Healthy
			for _, f := range c.failures {
				if f == o {
					want = Ejected
				}
			}
			if got, _ := k.State(); got != want {
				t.Errorf("%s: %q makes it %v", name, o, got)
			}
		}
	}
	o := rules()
	o.Passive.OnTimeout = false
	k := New(o) // what does not count is no success either
	tell(t, k, 0, false, Reset, Timeout, Reset, Timeout)
	tell(t, k, 0, true, Reset)
}

// TestComesBackLaterAndLater: each failure on trial doubles the ejection, up to EjectMax; good service halves it again.
func TestComesBackLaterAndLater(t *testing.T) {
	k := New(rules())
	now := int64(0)
	tell(t, k, now, true, Reset, Reset, Reset)
	for _, length := range []int64{10, 20, 40, 60, 60, 60} {
		if k.Next() != now+length*second {
			t.Fatalf("ejected for %v, not %d s", time.Duration(k.Next()-now), length)
		}
		now = k.Next()
		k.Tick(now)
		tell(t, k, now, true, ConnectFailed)
	}
	is(t, k, Ejected, 0, now+60*second, "on trial after an ejection: it could not be connected to; ejected for 1m0s")
	ejectedAgain := func(after, length int64) {
		t.Helper()
		now = k.Next()
		k.Tick(now)
		tell(t, k, now, true, Success)
		now += after * second
		tell(t, k, now, true, Reset, Reset, Reset)
		if k.Next() != now+length*second {
			t.Errorf("failed %d s after its return: ejected for %v, not %d s", after, time.Duration(k.Next()-now), length)
		}
	}
	ejectedAgain(59, 60)
	ejectedAgain(130, 20)
	ejectedAgain(19, 40)
	ejectedAgain(41, 40)
	ejectedAgain(1000, 10)
}

func TestEjectionTimesWithoutSense(t *testing.T) {
	for _, c := range []struct{ first, most, want time.Duration }{
		{0, 0, 10 * time.Second}, {time.Minute, time.Second, time.Minute}, {time.Minute, 0, time.Minute}, {1 << 62, 1<<63 - 1, 1<<63 - 1},
	} {
		k := New(Options{Passive: Passive{Failures: 1, EjectFor: c.first, EjectMax: c.most, OnConnect: true}})
		for range 100 {
			k.Report(Reset, 0)
			k.Tick(k.Next())
		}
		k.mu.Lock()
		if k.length != int64(c.want) {
			t.Errorf("%v, %v: ejected for %v", c.first, c.most, time.Duration(k.length))
		}
		k.mu.Unlock()
	}
}

// TestATrialThatNobodyComesTo: its share grows, so that a request comes in the end, and it is still one failure that ejects.
func TestATrialThatNobodyComesTo(t *testing.T) {
	k := New(rules())
	tell(t, k, 5*second, true, Timeout, Timeout, Timeout)
	k.Tick(15 * second)
	for i, share := range []int{50, 100, 200, 400, 800} {
		now := int64(15+i) * second
		if changed := k.Tick(now); changed != (i > 0) {
			t.Errorf("after %d s: changed %v", i, changed)
		}
		is(t, k, Recovering, share, now+second, "on trial")
	}
	k.Tick(20 * second)
	is(t, k, Recovering, 1000, 0, "on trial")
	tell(t, k, 3600*second, true, Timeout)
	is(t, k, Ejected, 0, 3610*second, "on trial after an ejection: no answer in time; ejected for 10s")
}

// TestOldRequestsDoNotDecideTheTrial: a request that began before the ejection and is over after it.
func TestOldRequestsDoNotDecideTheTrial(t *testing.T) {
	k := New(rules())
	tell(t, k, 5*second, true, Timeout, Timeout, Timeout)
	k.Tick(15 * second)
	if k.ReportBegun(Timeout, 4*second, 16*second) || k.ReportBegun(Success, 4*second, 16*second) {
		t.Fatal("a request from before decided")
	}
	is(t, k, Recovering, 50, 16*second, "on trial")
	if !k.ReportBegun(Timeout, 15*second, 17*second) {
		t.Fatal("a request of the trial did not decide")
	}
}

func TestChecks(t *testing.T) {
	o := rules()
	o.Active = Active{Rise: 2, Fall: 3}
	k := New(o)
	probe := func(now int64, changes bool, list ...bool) {
		t.Helper()
		for i, ok := range list {
			if got := k.Probe(said(ok), now); got != (changes && i == len(list)-1) {
				t.Fatalf("check %d: changed %v", i, got)
			}
		}
	}
	probe(0, false, true, false, false, true, false, false)
	probe(second, true, false)
	is(t, k, Unhealthy, 0, 0, "3 checks in a row failed, the last: it is ill")
	tell(t, k, second, false, Success, Success) // requests do not bring it back
	probe(2*second, false, true, false, true)
	probe(2*second, true, true)
	is(t, k, Healthy, 1000, 0, "2 checks in a row went well")

	// Both at once: it must have left both behind.
	tell(t, k, 3*second, true, Reset, Reset, Reset)
	probe(4*second, true, false, false, false)
	is(t, k, Unhealthy, 0, 13*second, "checks")
	probe(5*second, true, true, true)
	is(t, k, Ejected, 0, 13*second, "")
	probe(6*second, true, false, false, false)
	if k.Tick(13 * second) {
		t.Error("the end of its ejection made an unhealthy member something else")
	}
	probe(14*second, true, true, true)
	is(t, k, Healthy, 1000, 0, "went well")
	if e, f := k.Counts(); e != 1 || f != 3 {
		t.Errorf("%d ejections, %d falls", e, f)
	}
	off := New(rules())
	for range 10 {
		if off.Probe(said(false), 0) {
			t.Fatal("checks that are off matter")
		}
	}
}

// TestSlowStart: ten steps, each of which is told and is the time that Next names.
func TestSlowStart(t *testing.T) {
	for _, length := range []time.Duration{10 * time.Second, time.Second + 7, 3} {
		o := rules()
		o.SlowStart = length
		k := New(o)
		is(t, k, Healthy, 1000, 0, "") // what was there from the beginning need not
		if !k.Join(second) {
			t.Fatal("a newcomer has no slow start")
		}
		last := 0
		for steps := 0; k.Next() != 0; steps++ {
			now := k.Next()
			if now > second+int64(length) || steps > 10 || k.Share() <= last {
				t.Fatalf("%v: share %d after %d, at %v", length, k.Share(), last, time.Duration(now-second))
			}
			last = k.Share()
			if k.Tick(now-1) || !k.Tick(now) {
				t.Fatalf("%v: no change at %v, when Next wants one", length, time.Duration(now-second))
			}
		}
		is(t, k, Healthy, 1000, 0, "new")
	}
	o := rules()
	o.SlowStart = 10 * time.Second
	k := New(o)
	tell(t, k, 0, true, Reset, Reset, Reset)
	k.Tick(10 * second)
	tell(t, k, 11*second, true, Success) // from the trial into the slow start
	is(t, k, Recovering, 100, 12*second, "went well")
	k.Tick(15 * second)
	is(t, k, Recovering, 500, 16*second, "went well")
	tell(t, k, 15*second, false, Reset, Reset, Success, Reset, Reset)
	tell(t, k, 15*second, true, Reset)
	is(t, k, Ejected, 0, 35*second, "ejected for 20s")
}

func TestRulesChange(t *testing.T) {
	o := rules()
	o.Active = Active{Rise: 1, Fall: 1}
	for name, change := range map[string]func(*Options){
		"off":            func(o *Options) { o.Passive.Failures = 0 },
		"errors ignored": func(o *Options) { o.IgnoreErrors = true },
	} {
		k := New(o)
		tell(t, k, 0, true, Reset, Reset, Reset)
		k.Probe(said(false), 0)
		now := o
		if change(&now); k.SetOptions(now) {
			t.Errorf("%s: failed checks are forgotten", name)
		}
		is(t, k, Unhealthy, 0, 0, "")
		now.Active = Active{}
		if !k.SetOptions(now) {
			t.Errorf("%s: no change", name)
		}
		is(t, k, Healthy, 1000, 0, "rules")
	}
	k := New(o)
	tell(t, k, 0, false, Reset, Reset)
	o.Passive.Failures = 10
	k.SetOptions(o)
	tell(t, k, 0, false, Reset, Reset, Reset)
}

// TestAnyTelling has requests, checks and time come in any order: share and state agree, time alone ends an ejection,
// and what is told is what changed.
func TestAnyTelling(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		o := rules()
		o.Active = Active{Rise: r.IntN(3), Fall: r.IntN(3)}
		o.SlowStart = time.Duration(r.IntN(2)) * 5 * time.Second
		o.IgnoreErrors = r.IntN(4) == 0
		k := New(o)
		now := int64(0)
		for range 500 {
			was, _ := k.State()
			share := k.Share()
			until := k.until
			now += r.Int64N(second)
			var changed, ticked bool
			switch r.IntN(4) {
			case 0:
				changed = k.Report([]Outcome{Success, Status(503), Reset, Timeout, ConnectFailed}[r.IntN(5)], now)
			case 1:
				changed = k.Report(Success, now)
			case 2:
				changed = k.Probe(said(r.IntN(2) == 0), now)
			default:
				changed, ticked = k.Tick(now), true
			}
			is, _ := k.State()
			if changed != (is != was || share != k.Share()) {
				t.Fatalf("changed %v: %v to %v, %d to %d", changed, was, is, share, k.Share())
			}
			if down := is == Ejected || is == Unhealthy; down != (k.Share() == 0) || is == Healthy && k.Share() != 1000 {
				t.Fatalf("%v has a share of %d", is, k.Share())
			}
			if was == Ejected && is != Ejected && is != Unhealthy && (!ticked || now < until) {
				t.Fatal("an ejection ended before its time")
			}
			if is == Ejected && (k.Next() == 0 || o.IgnoreErrors) {
				t.Fatal("ejected for ever, or although errors are ignored")
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	k := New(rules())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range int64(2000) {
				switch i {
				case 0:
					k.Report(Reset, n*second)
				case 1:
					k.Tick(n * second)
				case 2:
					k.Probe(said(n%2 == 0), n*second)
				case 3:
					k.SetOptions(rules())
					k.Counts()
				default:
					k.Report(Success, n*second)
					k.State()
				}
			}
		})
	}
	wg.Wait()
}

func TestSuccessCostsNoAllocation(t *testing.T) {
	k := New(rules())
	if n := testing.AllocsPerRun(1000, func() {
		k.Report(Status(200), 1)
		k.Report(Reset, 1)
		k.Report(Status(200), 1)
		k.Share()
		k.Next()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWords(t *testing.T) {
	for o, want := range map[Outcome]string{Success: "it answered", Status(404): "it answered 404", Timeout: "no answer in time", Reset: "it ended the connection before its answer"} {
		if o.String() != want {
			t.Errorf("%q, not %q", o, want)
		}
	}
	for o, want := range map[Outcome]bool{Success: true, Status(499): true, Status(500): false, ConnectFailed: false, Reset: false, Timeout: false, Status(-7): true} {
		if o.Good() != want {
			t.Errorf("%v is good: %v", o, !want)
		}
	}
	if Healthy.String() != "healthy" || Unhealthy.String() != "unhealthy" || State(9).String() != "unknown" {
		t.Error("states have other names")
	}
}

// said is what a check says.
func said(ok bool) string {
	if ok {
		return ""
	}
	return "it is ill"
}
