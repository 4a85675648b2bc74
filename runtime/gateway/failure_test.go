package gateway_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// web is a config with one upstream of these targets and these further keys.
func web(list string, keys string) string {
	return "loops: 2\nupstreams: { web: { targets: " + list + ", " + keys + " } }\nroutes: [{ upstream: web }]\n"
}

// TestEjection shows the row "retry, failonstatus, failontimeout": what requests show of a backend takes it out of use, for
// as long as configured, whichever way it fails; then it is tried, and stays away for twice as long if it fails again.
func TestEjection(t *testing.T) {
	for name, fail := range map[string]func(*backend){
		"status":  func(b *backend) { b.always(reply{status: 503}) },
		"timeout": func(b *backend) { b.always(reply{hang: true}) },
		"reset":   func(b *backend) { b.always(reply{reset: true}) },
		"connect": func(b *backend) { b.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			despiteStalls(t, func(wrong func(format string, args ...any)) {
				b := startBackends(t, 2)
				p := startPlant(t, web(targets(b), "timeouts: { response_header: 50ms }, retries: { attempts: 3, on: [connect, reset, timeout, 503] }, "+
					"health: { passive: { failures: 2, fail_on_status: [500-599], eject_for: 300ms, eject_max: 600ms } }"))
				defer p.Close()
				only := func(when string, by map[string]int, names ...string) { // whoever stands still for 50 ms is late too
					if !answeredBy(by, names...) {
						wrong("%s: answered by %v; want %v and nobody else", when, by, names)
					}
				}
				only("both are well", p.who(20, "/"), "b1", "b2")
				fail(b[0])
				testkit.Eventually(t, "b1 is ejected", func() bool {
					only("b2 steps in", p.who(1, "/"), "b2")
					return p.member("web", b[0]).Health == "ejected"
				})
				if why := p.member("web", b[0]).Why; !strings.Contains(why, "2 failures in a row") || !strings.Contains(why, "ejected for 300ms") {
					wrong("the admin endpoint says %q", why)
				}
				testkit.Eventually(t, "it is ejected again for longer", func() bool {
					only("b2 serves", p.who(5, "/"), "b2")
					return strings.Contains(p.member("web", b[0]).Why, "ejected for 600ms")
				})
				if name == "connect" {
					if err := b[0].listen(); err != nil {
						t.Fatal(err)
					}
				}
				b[0].does(nil)
				testkit.Eventually(t, "it is healthy", func() bool { p.who(5, "/"); return p.member("web", b[0]).Health == "healthy" })
				only("both are well again", p.who(20, "/"), "b1", "b2")
				testkit.Eventually(t, "the log says so, after the fact", func() bool { return strings.Contains(p.states(b[0].addr), "recovering healthy") })
				list := p.changes(b[0].addr)
				if got := p.states(b[0].addr); !strings.HasPrefix(got, "joined ejected recovering ejected") || !strings.HasSuffix(got, "ejected recovering healthy") {
					wrong("the log says %s", got)
				}
				for i, c := range list[1 : len(list)-1] {
					away := list[i+2].at.Sub(c.at)
					if c.state == "ejected" && (away < 290*time.Millisecond || away > time.Second) {
						wrong("it was away for %v: %s", away, c.why)
					}
				}
			})
		})
	}
}

// TestRecoverAll shows "forcerecovery": when all are ejected, all are asked, or none, as configured.
func TestRecoverAll(t *testing.T) {
	for _, all := range []bool{true, false} {
		t.Run(strconv.FormatBool(all), func(t *testing.T) {
			b := startBackends(t, 2)
			p := startPlant(t, web(targets(b), fmt.Sprintf("retries: { attempts: 1 }, health: { passive: { failures: 1, fail_on_status: [500], eject_for: 20s, recover_all: %v } }", all)))
			for _, one := range b {
				one.always(reply{status: 500})
			}
			p.only("all fail", p.who(2, "/"), "500")
			for _, one := range b {
				one.does(nil)
				if got := p.member("web", one).Health; got != "ejected" {
					t.Errorf("%s is %s", one.name, got)
				}
			}
			if all {
				p.only("all are asked", p.who(20, "/"), "b1", "b2")
				return
			}
			p.only("nobody is asked", p.who(20, "/"), "503")
			if got := total(b, requestsOf); got != 2 {
				t.Errorf("the backends got %d requests", got)
			}
		})
	}
}

// TestIgnoreErrors shows "+I": a target that is told to be kept is kept, whatever it answers.
func TestIgnoreErrors(t *testing.T) {
	b := startBackends(t, 2)
	p := startPlant(t, web(targets(b, "ignore_errors: true"), "retries: { attempts: 1 }, health: { passive: { failures: 1, fail_on_status: [500] } }"))
	b[0].always(reply{status: 500})
	p.only("b1 fails and stays", p.who(20, "/"), "500", "b2")
	if got := b[0].requests.Load(); got != 10 {
		t.Errorf("b1 got %d of 20 requests", got)
	}
}

// TestActiveChecks shows HAProxy's check: a backend that fails checks takes no request, and takes them again when it is well;
// no request is spent to find out.
func TestActiveChecks(t *testing.T) {
	for name, c := range map[string]struct {
		keys     string
		ill, fit func(*backend)
	}{
		"http": {"type: http, path: /healthz, status: ['200']",
			func(b *backend) {
				b.does(func(a *asked) reply {
					if a.path == "/healthz" {
						return reply{status: 503}
					}
					return reply{}
				})
			},
			func(b *backend) { b.does(nil) }},
		"http that hangs": {"type: http, path: /healthz", func(b *backend) { b.always(reply{hang: true}) }, func(b *backend) { b.does(nil) }},
		"tcp":             {"type: tcp", (*backend).stop, func(b *backend) { _ = b.listen() }},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBackends(t, 2)
			p := startPlant(t, web(targets(b), "health: { passive: { failures: 0 }, active: { interval: 100ms, timeout: 2s, rise: 2, fall: 2, "+c.keys+" } }")) // who stands still for a second is well
			p.only("both are well", p.who(20, "/"), "b1", "b2")
			c.ill(b[0])
			testkit.Eventually(t, "b1 is unhealthy", func() bool { return p.member("web", b[0]).Health == "unhealthy" })
			p.only("b2 serves", p.who(20, "/"), "b2")
			if why := p.member("web", b[0]).Why; !strings.Contains(why, "2 checks in a row failed") {
				t.Errorf("the admin endpoint says %q", why)
			}
			c.fit(b[0])
			testkit.Eventually(t, "b1 is healthy", func() bool { return p.member("web", b[0]).Health == "healthy" })
			p.only("both are well again", p.who(20, "/"), "b1", "b2")
			testkit.Eventually(t, "the log says so, after the fact", func() bool { return strings.HasSuffix(p.states(b[0].addr), " healthy") })
			if got := p.states(b[0].addr); got != "joined unhealthy healthy" {
				t.Errorf("the log says %s", got)
			}
			if n := p.failed(func(failure) bool { return true }); n != 0 {
				t.Errorf("%d requests failed", n)
			}
		})
	}
}

// TestSlowStart: who has come back is given a tenth of its part at first, and all of it in the end.
func TestSlowStart(t *testing.T) {
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		b := startBackends(t, 2)
		p := startPlant(t, web(targets(b), "retries: { attempts: 2, on: [500] }, health: { slow_start: 2s, passive: { failures: 1, fail_on_status: [500], eject_for: 100ms } }"))
		defer p.Close()
		b[0].always(reply{status: 500})
		testkit.Eventually(t, "b1 is ejected", func() bool { p.who(1, "/"); return p.member("web", b[0]).Health == "ejected" })
		b[0].does(nil)
		testkit.Eventually(t, "it is recovering, or was, and no longer on trial", func() bool {
			p.who(1, "/")
			m := p.member("web", b[0])
			return m.Health != "ejected" && m.Share >= 0.1
		})
		by := p.who(100, "/")
		if by["b1"] > 30 || by["b1"] == 0 { // it is looked at before its part has grown
			wrong("at the beginning: %v", by)
		}
		last := 0.0
		testkit.Eventually(t, "it is healthy", func() bool {
			share := p.member("web", b[0]).Share
			if share < last {
				t.Errorf("its share fell from %v to %v", last, share)
			}
			last = share
			return share == 1
		})
		if by := p.who(100, "/"); by["b1"] != 50 {
			t.Errorf("in the end: %v", by)
		}
	})
}

// TestRetries shows the row "maxattempts": what is sent again, how often, after what, and to whom.
func TestRetries(t *testing.T) {
	const keys = "health: { passive: { failures: 0 } }, "
	for _, c := range []struct {
		name, keys, method string
		first              reply // of the first n backends asked; the others answer 200
		n                  int
		status             int
		requests           int64
	}{
		{"a reset, then another", "retries: { attempts: 2 }", "GET", reply{reset: true}, 1, 200, 2},
		{"as often as attempts says", "retries: { attempts: 3 }", "GET", reply{reset: true}, 3, 502, 3},
		{"PUT is idempotent", "retries: { attempts: 3 }", "PUT", reply{reset: true}, 2, 200, 3},
		{"POST is not", "retries: { attempts: 3 }", "POST", reply{reset: true}, 1, 502, 1},
		{"nor is PATCH", "retries: { attempts: 3 }", "PATCH", reply{reset: true}, 1, 502, 1},
		{"attempts: 1", "retries: { attempts: 1 }", "GET", reply{reset: true}, 1, 502, 1},
		{"not what on does not have", "retries: { attempts: 3 }", "GET", reply{status: 503}, 1, 503, 1},
		{"on a status", "retries: { attempts: 3, on: [502-504] }", "GET", reply{status: 503}, 2, 200, 3},
		{"not on another status", "retries: { attempts: 3, on: [502-504] }", "GET", reply{status: 500}, 2, 500, 1},
		{"POST on a status", "retries: { attempts: 3, on: [503] }", "POST", reply{status: 503}, 1, 503, 1},
		{"per_try_timeout", "retries: { attempts: 3, on: [timeout], per_try_timeout: 80ms }", "GET", reply{hang: true}, 2, 200, 3},
		{"per_try_timeout without on: timeout", "retries: { attempts: 3, per_try_timeout: 80ms }", "GET", reply{hang: true}, 1, 504, 1},
		{"POST and per_try_timeout", "retries: { attempts: 3, on: [timeout], per_try_timeout: 80ms }", "POST", reply{hang: true}, 1, 504, 1},
		{"the whole time is over", "retries: { attempts: 9, on: [timeout], per_try_timeout: 80ms }, timeouts: { request: 200ms }", "GET", reply{hang: true}, 9, 504, 3},
		{"backoff", "retries: { attempts: 3, backoff: 40ms }", "GET", reply{reset: true}, 2, 200, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			try := func(wrong func(format string, args ...any)) {
				b := startBackends(t, 4)
				var asks atomic.Int32
				var mu sync.Mutex
				var order []string
				for _, one := range b {
					one.does(func(*asked) reply {
						mu.Lock()
						order = append(order, one.name)
						mu.Unlock()
						if int(asks.Add(1)) <= c.n {
							return c.first
						}
						return reply{}
					})
				}
				p := startPlant(t, web(targets(b), keys+c.keys))
				defer p.Close()
				before := time.Now()
				a := p.ask(c.method, "/")
				if a.status != c.status || total(b, requestsOf) != c.requests {
					wrong("%d after %d requests at the backends; want %d after %d", a.status, total(b, requestsOf), c.status, c.requests)
				}
				if c.name == "backoff" && time.Since(before) < 20*time.Millisecond+40*time.Millisecond {
					t.Errorf("it came back after %v", time.Since(before))
				}
				mu.Lock()
				defer mu.Unlock()
				seen := map[string]bool{}
				for _, name := range order {
					if seen[name] {
						t.Errorf("the order was %v: nobody is to be asked twice while there are others", order)
					}
					seen[name] = true
				}
			}
			if strings.Contains(c.keys, "per_try_timeout") { // whoever stands still for 80 ms is late too
				despiteStalls(t, try)
				return
			}
			try(t.Errorf)
		})
	}
}

// TestRetryBudget: backends that fail everything get no more than the budget on top; the requests that were not sent again
// for that reason say so, also where the answer is a backend's.
func TestRetryBudget(t *testing.T) {
	for _, r := range []reply{{reset: true}, {status: 503}} {
		t.Run(fmt.Sprintf("reset: %v", r.reset), func(t *testing.T) {
			b := startBackends(t, 2)
			for _, one := range b {
				one.always(r)
			}
			p := startPlant(t, web(targets(b), "health: { passive: { failures: 0 } }, retries: { attempts: 5, on: [reset, 503], budget: 0.1, budget_least: 5 }"))
			const n = 400
			p.who(n, "/")
			more := total(b, requestsOf) - n
			if more > n/10+5 || more < n/10+4 {
				t.Errorf("%d requests more than asked for; the budget is %d", more, n/10+5)
			}
			testkit.Eventually(t, "all failures are told", func() bool { return p.failed(func(failure) bool { return true }) == n })
			if said := p.failed(func(f failure) bool { return f.budget }); said < n-int(more) {
				t.Errorf("%d of %d failures say that the budget is used up", said, n)
			}
		})
	}
}

// TestAConnectFailureCostsNoRequest: what has not been sent is given to the next backend, POST or not, whatever attempts and
// the budget say; this is no retry.
func TestAConnectFailureCostsNoRequest(t *testing.T) {
	b := startBackends(t, 5)
	p := startPlant(t, web(targets(b), "health: { passive: { failures: 0 } }, retries: { attempts: 1, budget: 0, budget_least: 0 }"))
	for _, one := range b[:4] {
		one.stop()
	}
	for range 20 {
		if a := p.ask("POST", "/"); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	b[4].stop()
	if a := p.ask("POST", "/"); a.status != 502 || !strings.Contains(string(a.body), "connect") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestAPostIsNeverSentTwice: backends that take requests and end the connection, at every moment, see no POST twice.
func TestAPostIsNeverSentTwice(t *testing.T) {
	b := startBackends(t, 3)
	count := 3000
	seen := make([]atomic.Int32, count)
	for _, one := range b {
		one.does(func(a *asked) reply {
			n, _ := strconv.Atoi(strings.TrimPrefix(a.path, "/r/"))
			if a.method == "POST" {
				seen[n].Add(1)
			}
			switch {
			case n%7 == 0:
				return reply{reset: true}
			case n%11 == 0:
				return reply{end: true} // the answer does not say so
			case n%13 == 0:
				return reply{status: 503}
			}
			return reply{}
		})
	}
	p := startPlant(t, web(targets(b), "health: { passive: { failures: 0 } }, retries: { attempts: 5, on: [connect, reset, timeout, 503], budget: 1 }"))
	var failed atomic.Int32
	g := &generator{addr: p.addr.String(), clients: 16, make: makeChaos, each: func(n int, a answer, err error) {
		if err != nil {
			t.Errorf("request %d: %v", n, err)
		}
		if a.status != 200 && isPost(n) {
			failed.Add(1)
		}
	}}
	g.run(t, 0, count)
	once := 0
	for n := range seen {
		switch got := seen[n].Load(); {
		case got > 1:
			t.Errorf("POST %d was sent %d times", n, got)
		case got == 1:
			once++
		}
	}
	t.Logf("%d POSTs, %d of them reached a backend, %d failed", count/5, once, failed.Load())
}

// TestHedging shows Hedge: with a backend that is slow, the slow requests are made a second time elsewhere, and the slowest
// are fast; the loser's connection is closed for that reason, and to be slow ejects nobody.
func TestHedging(t *testing.T) {
	measure := func(keys string) (*plant, time.Duration, []*backend) {
		b := startBackends(t, 3)
		b[0].always(reply{after: 300 * time.Millisecond})
		p := startPlant(t, web(targets(b), "retries: { budget: 1 }, health: { passive: { failures: 3, fail_on_timeout: true } }"+keys))
		g := &generator{addr: p.addr.String(), clients: 12, make: gets("/"), each: mustAnswer(t)}
		g.run(t, 2*time.Second, 0)
		return p, g.percentile(99), b
	}
	without, with := time.Duration(0), time.Duration(0)
	var p *plant
	var b []*backend
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		_, without, _ = measure("")
		p, with, b = measure(", hedge: { after: 20ms }")
		t.Logf("p99 %v without, %v with", without, with)
		if without < 300*time.Millisecond || with > 200*time.Millisecond && !raceEnabled {
			wrong("p99 is %v without hedging, %v with it", without, with)
		}
	})
	if n := p.closedFor(facts.CloseHedgeLost); n == 0 {
		t.Errorf("connections were closed for %v", p.closed)
	}
	if got := p.states(b[0].addr); got != "joined" {
		t.Errorf("the slow one: %s", got)
	}
	// A POST is not made twice, however slow. What of the GETs has lost may reach a backend still.
	var posts atomic.Int64
	for i, one := range b {
		r := reply{}
		if i == 0 {
			r.after = 300 * time.Millisecond
		}
		one.does(func(a *asked) reply {
			if a.method == "POST" {
				posts.Add(1)
			}
			return r
		})
	}
	for range 6 {
		if a := p.ask("POST", "/"); a.status != 200 {
			t.Errorf("%d", a.status)
		}
	}
	if got := posts.Load(); got != 6 {
		t.Errorf("6 POSTs were %d requests", got)
	}
}

// TestAHedgeSavesARequest: the first attempt fails while the second is under way, which has a time of its own, and whose
// answer is used then.
func TestAHedgeSavesARequest(t *testing.T) {
	for name, first := range map[string]reply{
		"reset": {after: 300 * time.Millisecond, reset: true}, "timeout": {hang: true}, "503": {after: 300 * time.Millisecond, status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBackends(t, 2)
			var asks atomic.Int32
			for _, one := range b {
				one.does(func(*asked) reply {
					if asks.Add(1) == 1 {
						return first
					}
					return reply{after: 500 * time.Millisecond}
				})
			}
			p := startPlant(t, web(targets(b), "hedge: { after: 200ms }, retries: { attempts: 3, on: [reset, timeout, 503], per_try_timeout: 700ms }, health: { passive: { failures: 0 } }"))
			for range 3 {
				asks.Store(0)
				if a := p.ask("GET", "/"); a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
}

// TestBreakerOpensAndCloses shows UpstreamBreaker: too many failures and nothing is sent any more, with a Retry-After that
// says for how long; then one request is let through, and when that goes well all are.
func TestBreakerOpensAndCloses(t *testing.T) {
	b := startBackends(t, 1)
	p := startPlant(t, web(targets(b), "retries: { attempts: 1 }, health: { passive: { failures: 0 } }, breaker: { ratio: 0.5, requests: 10, window: 10s, open_for: 2s }"))
	p.only("all is well", p.who(20, "/"), "b1")
	b[0].always(reply{status: 500})
	by := p.who(100, "/")
	p.only("it opens", by, "500", "503")
	if by["500"] > 40 {
		t.Errorf("%v", by)
	}
	despiteStalls(t, func(wrong func(format string, args ...any)) { // when open_for is over, a request is let through
		testkit.Eventually(t, "it is open", func() bool { return p.ask("GET", "/").status == 503 })
		if !p.upstream("web").BreakerOpen {
			wrong("the admin endpoint says that it is not open")
		}
		before := b[0].requests.Load()
		a := p.ask("GET", "/")
		if after, _ := strconv.Atoi(a.get("Retry-After")); a.status != 503 || after < 1 || after > 2 || !strings.Contains(string(a.body), "breaker") {
			wrong("%d, Retry-After %q: %s", a.status, a.get("Retry-After"), a.body)
		}
		if b[0].requests.Load() != before {
			wrong("a request was sent")
		}
	})
	b[0].does(nil)
	testkit.Eventually(t, "it closes", func() bool { return p.ask("GET", "/").status == 200 })
	p.only("all is well again", p.who(50, "/"), "b1")
	if p.upstream("web").BreakerOpen {
		t.Error("the admin endpoint says that it is open")
	}
}
