package proxywasm

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// hostile are scripts of guests that do harm, what becomes of the request, and what the log must say.
var hostile = map[string]struct {
	script string
	kind   fault.Kind
	says   string
}{
	"traps":                         {"request trap", fault.PluginTrap, "unreachable"},
	"never ends":                    {"request loop", fault.PluginFuel, "out of fuel"},
	"eats memory":                   {"request grow", fault.PluginMemory, "refused"},
	"adds fields without end":       {"request bomb 0 x-a 0123456789012345678901234567890123456789", fault.PluginAnswer, "changed more than"},
	"writes lines without end":      {"request flood line", fault.PluginFuel, "out of fuel"},
	"has no memory to give":         {"request lie 1\nrequest get 0 :path", fault.PluginMemory, "gave 0x0"},
	"gives memory that is not":      {"request lie 2\nrequest get 0 :path", fault.PluginMemory, "gave 0xfffffff0"},
	"gives memory beyond its end":   {"request lie 3\nrequest pairs 0", fault.PluginMemory, "not that many bytes"},
	"traps when it gives memory":    {"request lie 4\nrequest get 0 :path", fault.PluginTrap, "unreachable"},
	"never gives memory":            {"request lie 5\nrequest get 0 :path", fault.PluginFuel, "out of fuel"},
	"asks for memory to give some":  {"request lie 6\nrequest get 0 :path", fault.PluginTrap, "call each other too deeply"},
	"traps over the body":           {"request_end trap", fault.PluginTrap, "proxy_on_request_body"},
	"traps over the answer":         {"response trap", fault.PluginTrap, "proxy_on_response_headers"},
	"traps when a stream is made":   {"create trap", fault.PluginTrap, "proxy_on_context_create"},
	"pauses, and traps elsewhere":   {"configure tick 10\nrequest return 1\ntick trap", fault.PluginTrap, "proxy_on_tick"},
	"never ends, in the allocators": {"request lie 5\nrequest prop plugin_name", fault.PluginFuel, "out of fuel"},
}

func TestHostileGuestsHurtTheirOwnRequest(t *testing.T) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for _, policy := range []wasm.OnError{wasm.FailClosed, wasm.FailOpen} {
				p := b.mustLoad(mustProbe(t), Options{OnError: policy, LogRate: 1, Config: []byte(c.script)}, wasm.Limits{MemoryPages: 32})
				r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, p)
				says := strings.Join(b.says(), "\n") // since it was loaded: a tick may have trapped before the request came
				switch {
				case policy == wasm.FailOpen:
					if r.err != nil || r.got != "hello" || r.sent != "ab" {
						t.Errorf("fail_open: %v %q %q", r.err, r.got, r.sent)
					}
				case r.err == nil || r.err.Kind != c.kind || r.err.Source != fault.Plugin || r.err.Status != 503 || r.err.Plugin == "":
					t.Errorf("%v, want %v", r.err, c.kind)
				}
				if !strings.Contains(says, c.says) || strings.Count(says, "plugin failed") != 1 {
					t.Errorf("the log does not say %q once: %s", c.says, says)
				}
				if n := p.Stats().Failures[c.kind]; n == 0 {
					t.Errorf("%+v", p.Stats())
				}
			}
			good := b.quiet(Options{})
			if r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, good); r.err != nil || r.got != "hello" {
				t.Errorf("another plugin: %v", r.err)
			}
		})
	}
}

// TestBounds: who meets one is told so, and nothing else happens.
func TestBounds(t *testing.T) {
	f := &caller{answer: func(t *netloop.Task, _ *filter.Call) *fault.Error { t.Sleep(time.Hour); return nil }}
	for script, want := range map[string]string{
		"request floodprops " + strings.Repeat("x", 500):     "setprop -> 264",
		"request floodprops " + strings.Repeat("x", 3000):    "setprop -> 221",
		"request floodmetrics":                               "metric -> 10 1000",
		"request floodqueue x":                               "enqueue -> 10 4096",
		"request floodqueue " + strings.Repeat("x", 8000):    "enqueue -> 10 524",
		"request floodcalls auth :method GET :path / host h": "call -> 10 20",
		"request wild": "wild -> 6  -> 6  -> 6  -> 6  -> 2  -> 1  -> 2  -> 2  -> 6",
	} {
		b := newBench(t)
		p, err := b.load(mustProbe(t), Options{Config: []byte(script), MaxCalls: 20, Grants: granted(f)}, wasm.Limits{Fuel: 1 << 34})
		if err != nil {
			t.Fatal(err)
		}
		b.says()
		b.on(func(task *netloop.Task) {
			r := b.begin(task, message{head: simpleHead})
			r.ask(filter.Route, p)
			r.end(p)
			if r.err != nil {
				t.Errorf("%.30s: %v", script, r.err)
			}
		})
		if says := strings.Join(b.says(), "\n"); !strings.Contains(says, want) {
			t.Errorf("%.30s: %s", script, says)
		}
	}
}

func mustProbe(t testing.TB) []byte {
	t.Helper()
	module, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// TestATrapEndsTheMachineAndItsStreams: those that are paused in it follow on_error, and the next request gets a new one.
func TestATrapEndsTheMachineAndItsStreams(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{StopIteration: StopAll, Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}}, "request copy 0 x-do 0 x-done", "request return 1", "request_end trap", "tick trap")
	paused := make(chan *ride, 1)
	l := b.group.Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			r := b.begin(task, message{head: simpleHead})
			r.ask(filter.Route, p)
			r.end(p)
			paused <- r
		})
	})
	testkit.Eventually(t, "a stream is paused", func() bool { return p.Stats().Streams == 1 })
	b.on(func(*netloop.Task) {
		v := p.core.group.cells[0].vm
		v.roots[0].arm(minTick)
	})
	if r := <-paused; r.err == nil || r.err.Kind != fault.PluginTrap {
		t.Errorf("%v", r.err)
	}
	if s := p.Stats(); s.Live != 0 || s.Discarded != 1 || s.Streams != 0 {
		t.Errorf("%+v", s)
	}
	b.says()
	go func() {
		testkit.Eventually(t, "a stream is paused again", func() bool { return p.Stats().Streams == 1 })
		l.Post(func() { l.Go(func(*netloop.Task) { p.core.group.cells[0].vm.roots[0].arm(minTick) }) })
	}()
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err == nil {
		t.Error("it went through")
	}
	if s := p.Stats(); s.Started != 2 || s.Discarded != 2 {
		t.Errorf("%+v", s)
	}
	e, _ := engine()
	if e.Instances() != 0 {
		t.Errorf("%d instances are left", e.Instances())
	}
}

// TestAPluginThatTrapsAgainAndAgain is held off, first for a while, then by its breaker.
func TestAPluginThatTrapsAgainAndAgain(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{Backoff: &wasm.Backoff{Free: 2, Base: time.Hour, Max: time.Hour}}, "request trap")
	for i := range 5 {
		r := b.exchange(message{head: simpleHead}, okAnswer, p)
		if want := map[bool]fault.Kind{true: fault.PluginTrap, false: fault.PluginUnavailable}[i < 3]; r.err == nil || r.err.Kind != want {
			t.Errorf("%d: %v", i, r.err)
		}
	}
	q := b.quiet(Options{Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{Failures: 3, Percent: 50, Window: time.Hour, Open: time.Hour}}, "request trap")
	for i := range 5 {
		r := b.exchange(message{head: simpleHead}, okAnswer, q)
		if want := map[bool]fault.Kind{true: fault.PluginTrap, false: fault.PluginUnavailable}[i < 3]; r.err == nil || r.err.Kind != want {
			t.Errorf("%d: %v", i, r.err)
		}
	}
	if s := q.Stats(); !s.BreakerOpen || s.BreakerOpened != 1 {
		t.Errorf("%+v", s)
	}
}

// TestOthersGetTheirTurnDuringALongCall: also other streams of the same machine, when it is over.
func TestOthersGetTheirTurnDuringALongCall(t *testing.T) {
	b := newBench(t)
	p, err := b.load(mustProbe(t), Options{Config: []byte("request_end loop")}, wasm.Limits{Fuel: 400_000_000}) // some 100 ms
	if err != nil {
		t.Fatal(err)
	}
	turns, over := 0, make(chan *ride, 3)
	var finished atomic.Bool
	l := b.group.Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			r := b.begin(task, message{head: post, body: []string{"ab"}})
			r.ask(filter.Route, p)
			r.end(p)
			over <- r
		})
		for range 2 {
			l.Go(func(task *netloop.Task) {
				task.Sleep(20 * time.Millisecond) // the first one is in its loop by then
				r := b.begin(task, message{head: simpleHead})
				r.ask(filter.Route, p)
				r.end(p)
				over <- r
			})
		}
		l.Go(func(task *netloop.Task) {
			for !finished.Load() {
				turns++
				task.Sleep(time.Millisecond)
			}
		})
	})
	for range 3 {
		r := <-over
		if r.err == nil || r.err.Kind != fault.PluginFuel { // the machine has ended, and those who waited with it
			t.Errorf("%v", r.err)
		}
	}
	finished.Store(true)
	b.on(func(*netloop.Task) {
		if turns < 3 {
			t.Errorf("others had %d turns", turns)
		}
	})
	good, err := b.load(mustProbe(t), Options{Config: []byte("done floodmetrics")}, wasm.Limits{Fuel: 1 << 34})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // ends that take long are made on a task of their own
		b.exchange(message{head: simpleHead}, okAnswer, good)
	}
	testkit.Eventually(t, "all streams are gone", func() bool { return good.Stats().Streams == 0 })
	b.on(func(*netloop.Task) {
		if !good.core.group.cells[0].slowEnd {
			t.Error("the ends are not known to take long")
		}
	})
}

// TestAnEndWhileTheGuestIsBusy waits for its turn, with what the guest may ask for then.
func TestAnEndWhileTheGuestIsBusy(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{}, "log get 0 x-tenant", "log get 0 :path", "log propint response%zcode", "log prop route_name")
	b.on(func(task *netloop.Task) {
		r := b.begin(task, message{head: simpleHead})
		r.ask(filter.Route, p)
		r.forward(task)
		r.reply(task, okAnswer, p)
		v := p.core.group.cells[0].vm
		v.enter(task)
		r.end(p)
		r.x.Reset()
		v.leave()
	})
	b.awaitSays("delete(2)")
	if says := strings.Join(b.says(), "\n"); !strings.Contains(says, "log(2)\nget -> 0 acme\nget -> 0 /app?q=1\npropint -> 0 200\nprop -> 0 r\ndelete(2)") {
		t.Error(says)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for script, want := range map[string]string{"configure return 0": "refuses its configuration", "configure trap": "unreachable", "configure loop": "out of fuel"} {
		b := newBench(t)
		_, err := b.load(mustProbe(t), Options{Name: "n", Config: []byte(script)}, wasm.Limits{StartFuel: 10_000_000})
		f := fault.From(err)
		if err == nil || !strings.Contains(err.Error(), want) || f.Plugin != "n" || f.Phase != "configure" {
			t.Errorf("%s: %v", script, err)
		}
		if _, err = b.load(mustProbe(t), Options{Name: "n", Config: []byte(script), Lazy: true}, wasm.Limits{StartFuel: 10_000_000}); err == nil {
			t.Errorf("%s, lazily: it is taken", script)
		}
		e, _ := engine()
		if e.Instances() != 0 {
			t.Errorf("%s: %d instances are left", script, e.Instances())
		}
	}
}

// TestAPluginThatIsClosedAtOnce leaves nothing, also where the loops never ran.
func TestAPluginThatIsClosedAtOnce(t *testing.T) {
	b := newBench(t)
	for range 20 {
		p := b.quiet(Options{}, "configure tick 100000", "configure register q")
		p.Close()
		p.core.users.Add(1)
	}
	idle, err := netloop.New(netloop.Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	c, err := compile(t, mustProbe(t), wasm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(c, Options{Group: idle})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	idle.Close()
	e, _ := engine()
	if e.Instances() != 0 {
		t.Errorf("%d instances are left", e.Instances())
	}
}

// TestALazyPluginIsThereWhenItIsNeeded, and when it has something to do without being asked.
func TestALazyPluginIsThereWhenItIsNeeded(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{Lazy: true})
	if s := p.Stats(); s.Live != 0 || s.Started != 0 {
		t.Errorf("%+v", s)
	}
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil || p.Stats().Live != 1 {
		t.Errorf("%v %+v", r.err, p.Stats())
	}
	ticks := b.quiet(Options{Lazy: true}, "configure tick 100000")
	testkit.Eventually(t, "its machine is there", func() bool { return ticks.Stats().Live == 1 })
}
