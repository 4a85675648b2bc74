package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// span is how long a test of the chaos kind lasts.
func span(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("WASMGATE_CHAOS")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// targetRate is how many requests a second these tests ask for. Gateway, backends and clients share the machine; what is
// reached is logged.
const targetRate = 5000

// pace is targetRate, or what the race detector, which makes everything ten times as slow, leaves of it: a gateway that is
// overloaded is another test.
func pace() float64 {
	if raceEnabled {
		return targetRate / 5
	}
	return targetRate
}

const ttl = time.Second // of DNS's answers

// chaosConfig has rules for every way in which the backends fail.
const chaosConfig = `
upstreams:
  five:
    targets: ["http://five.chaos.test:%[1]d"]
    dns: { server: '%[2]s', jitter: 0, drain: 2s }
    balance: random_two
    timeouts: { connect: 500ms, response_header: 10s }
    health: { passive: { failures: 3, fail_on_timeout: true, fail_on_status: [500], eject_for: 1s, eject_max: 2s } }
    retries: { attempts: 6, on: [connect, reset, timeout, 500], budget: %[3]v, budget_least: %[4]d, per_try_timeout: 1s }
    pool: { acquire_timeout: 2s, max_connections: 400 }
    queue: { max: 4096 }
routes: [{ upstream: five }]
`

// threads has the process use as many as the gateway asks for when it runs by itself.
func threads(t testing.TB, loops int) {
	was := runtime.GOMAXPROCS(loops + 2)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// chaos is the state of the test of that name.
type chaos struct {
	*testing.T
	*plant
	dns      *dnstest.Server
	backends []*backend
	posts    []atomic.Int32 // how often the backends got each POST
	faults   map[string]int
	gone     []bool       // from DNS
	late     atomic.Int64 // requests to an address for longer than allowed after it had gone from DNS
	start    time.Time
	arrivals [][]atomic.Int32 // at each backend, in slices of time
}

// slice is how finely it is noted when requests reach backends.
const slice = 20 * time.Millisecond

// TestChaos shows the rows "retry, failonstatus, failontimeout, forcerecovery" and "maxattempts" of Balancing and failure,
// under load: of five backends up to four at a time hang, reset, refuse, answer 500, answer slowly, or vanish from DNS, and
// come back. With WASMGATE_CHAOS=5m it lasts that long.
func TestChaos(t *testing.T) {
	threads(t, 2)
	despiteStalls(t, func(wrong func(format string, args ...any)) { underChaos(t, wrong) })
}

// underChaos is one try. What came too late, stayed away for too long, or did not happen since other things were drawn, is told as wrong.
func underChaos(t *testing.T, wrong func(format string, args ...any)) {
	t.Helper()
	const ratio, least = 0.2, 200
	c := &chaos{T: t, dns: dnstest.New(t), backends: startBackends(t, 5), faults: map[string]int{}, gone: make([]bool, 5)}
	c.publish()
	c.plant = startPlant(t, "loops: 2\n"+fmt.Sprintf(chaosConfig, c.backends[0].port(), c.dns.Addr(), ratio, least))
	defer c.plant.Close()
	length := span(t)
	c.start, c.posts = time.Now(), make([]atomic.Int32, int(targetRate*(length.Seconds()+10)))
	for i, b := range c.backends {
		c.arrivals = append(c.arrivals, make([]atomic.Int32, int((length+time.Minute)/slice)))
		b.does(c.count(i, reply{}))
	}
	var answered, failedGets, failedPosts, broken atomic.Int64
	g := &generator{addr: c.addr.String(), clients: 256, rate: pace(), make: makeChaos, each: func(n int, a answer, err error) {
		switch {
		case err != nil:
			broken.Add(1)
			t.Errorf("request %d: %v", n, err)
		case a.status == 200:
			answered.Add(1)
		case isPost(n):
			failedPosts.Add(1)
		default:
			if failedGets.Add(1) <= 10 {
				t.Errorf("the idempotent request %d failed: %d %s", n, a.status, a.body)
			}
		}
	}}
	stop, ended := make(chan struct{}), make(chan struct{})
	go c.reign(stop, ended)
	took := g.run(t, length, 0)
	close(stop)
	<-ended
	sent, reached := g.sent.Load(), total(c.backends, requestsOf)
	t.Logf("%d requests in %v (%.0f/s): %d answered, %d POSTs failed, %d idempotent requests failed, %d broken off; p50 %v, p99 %v",
		sent, took.Round(time.Millisecond), float64(sent)/took.Seconds(), answered.Load(), failedPosts.Load(), failedGets.Load(), broken.Load(), g.percentile(50), g.percentile(99))
	t.Logf("faults: %v; %d connections; %d requests at backends: %d more than asked for, %.0f allowed", c.faults, total(c.backends, acceptedOf), reached, reached-sent, ratio*float64(sent)+least)
	if over := float64(reached - sent); over > ratio*float64(sent)+least {
		t.Errorf("%.0f requests were sent again, more than the budget", over)
	}
	for n := range c.posts {
		if got := c.posts[n].Load(); got > 1 {
			t.Errorf("POST %d reached a backend %d times", n, got)
		}
	}
	c.account(failedGets.Load() + failedPosts.Load())
	c.ejections(wrong)
	if n := c.late.Load(); n > 0 {
		wrong("%d requests to addresses later than TTL + 1 s after they had gone from DNS", n)
	}
}

// isPost has every fifth request be one that must not be sent twice.
func isPost(n int) bool { return n%5 == 4 }

var chaosGet, chaosPost = []byte(" HTTP/1.1\r\nHost: load.test\r\n\r\n"), []byte(" HTTP/1.1\r\nHost: load.test\r\nContent-Length: 2\r\n\r\nhi")

func makeChaos(n int, b []byte) []byte {
	method, rest := "GET /r/", chaosGet
	if isPost(n) {
		method, rest = "POST /r/", chaosPost
	}
	return append(strconv.AppendInt(append(b, method...), int64(n), 10), rest...)
}

// count notes what reaches the i-th backend, which replies as told.
func (c *chaos) count(i int, r reply) func(*asked) reply {
	return func(a *asked) reply {
		if at := int(time.Since(c.start) / slice); at < len(c.arrivals[i]) {
			c.arrivals[i][at].Add(1)
		}
		if a.method == "POST" {
			if n, err := strconv.Atoi(strings.TrimPrefix(a.path, "/r/")); err == nil && n < len(c.posts) {
				c.posts[n].Add(1)
			}
		}
		return r
	}
}

// publish tells DNS who is there.
func (c *chaos) publish() {
	var list []string
	for i, b := range c.backends {
		if !c.gone[i] {
			list = append(list, b.ip())
		}
	}
	c.dns.Set("five.chaos.test", ttl, list...)
}

// reign has backends fail and come back at random. One at least, another one each time, is left in peace, and has been
// for longer than an ejection lasts.
func (c *chaos) reign(stop, ended chan struct{}) {
	defer close(ended)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	for {
		peaceful := r.IntN(len(c.backends))
		for i, b := range c.backends {
			if i != peaceful && r.IntN(3) > 0 {
				c.trouble(r, i, b)
			}
		}
		if !pause(stop, time.Duration(1500+r.IntN(2000))*time.Millisecond) {
			return
		}
		c.peace()
		// Until everybody has been looked at again: an ejection lasts 2 s at most, and may begin with a timeout from before.
		if !pause(stop, 3500*time.Millisecond) {
			return
		}
	}
}

func pause(stop chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return false
	case <-time.After(d):
		return true
	}
}

// trouble has one backend fail in one way.
func (c *chaos) trouble(r *rand.Rand, i int, b *backend) {
	kind := [...]string{"hangs", "resets", "answers 500", "answers slowly", "vanishes", "refuses", "vanishes and goes dark"}[r.IntN(7)]
	c.faults[kind]++
	switch kind {
	case "hangs":
		b.does(c.count(i, reply{hang: true}))
	case "resets":
		b.does(c.count(i, reply{reset: true}))
	case "answers 500":
		b.does(c.count(i, reply{status: 500}))
	case "answers slowly":
		b.does(c.count(i, reply{after: time.Duration(20+r.IntN(100)) * time.Millisecond}))
	case "refuses":
		b.stop()
	default:
		c.gone[i] = true
		c.publish()
		from, usual := time.Now(), c.count(i, reply{hang: kind != "vanishes"})
		b.does(func(a *asked) reply {
			if time.Since(from) > ttl+time.Second {
				c.late.Add(1)
			}
			return usual(a)
		})
	}
}

// peace has all backends serve again.
func (c *chaos) peace() {
	for i, b := range c.backends {
		b.does(c.count(i, reply{}))
		c.gone[i] = false
		if b.stopped() {
			if err := b.listen(); err != nil {
				c.T.Error(err)
			}
		}
	}
	c.publish()
}

// account says by which rule each request failed, and fails for those that no rule explains.
func (c *chaos) account(failed int64) {
	testkit.Eventually(c.T, "all failures are told", func() bool { return int64(c.failed(func(failure) bool { return true })) >= failed })
	known := 0
	rules := []struct {
		rule string
		is   func(failure) bool
	}{
		{"retries.budget is used up", func(f failure) bool { return f.budget }},
		{"POST, reset after it was sent: it may have been acted upon", func(f failure) bool {
			return f.method == "POST" && (f.kind == "upstream_closed" || f.kind == "write_failed") && f.status == 502
		}},
		{"POST, retries.per_try_timeout: likewise", func(f failure) bool {
			return f.method == "POST" && f.kind == "response_header_timeout" && f.status == 504
		}},
		{"POST, the backend's own 500: likewise", func(f failure) bool { return f.method == "POST" && f.kind == "" && f.status == 500 }},
	}
	for _, r := range rules {
		n := c.failed(r.is)
		known += n
		c.T.Logf("%6d failed by the rule: %s", n, r.rule)
	}
	other := c.failed(func(f failure) bool {
		return !slices.ContainsFunc(rules, func(r struct {
			rule string
			is   func(failure) bool
		}) bool {
			return r.is(f)
		})
	})
	if other > 0 || int64(known) != failed {
		c.T.Errorf("%d failures at the clients, %d explained, %d without a rule: %+v", failed, known, other, c.plant.failures)
	}
}

// ejections checks that who was ejected came back when the configuration says so.
func (c *chaos) ejections(wrong func(format string, args ...any)) {
	n, longest := 0, time.Duration(0)
	for at, b := range c.backends {
		list := c.changes(b.addr)
		for i, one := range list {
			if one.state != "ejected" {
				continue
			}
			n++
			if i+1 == len(list) {
				continue // at the end
			}
			for next := list[i+1]; ; {
				away := next.at.Sub(one.at)
				if got := c.arrived(at, one.at.Add(300*time.Millisecond), next.at.Add(-slice)); got > 0 {
					wrong("%d requests reached %s while it was ejected", got, b.name)
				}
				if next.state == "left" || next.state == "joined" {
					break // DNS has its say too
				}
				longest = max(longest, away)
				if next.state != "recovering" || away < 900*time.Millisecond || away > 3*time.Second {
					wrong("%s was ejected (%s), and %v later %s (%s)", b.name, one.why, away, next.state, next.why)
				}
				break
			}
		}
	}
	if n == 0 {
		wrong("nobody was ever ejected") // by chance all that was drawn was such as ejects nobody
	}
	c.T.Logf("%d ejections, the longest %v", n, longest.Round(time.Millisecond))
}

// arrived is how many requests reached a backend between two moments.
func (c *chaos) arrived(i int, from, to time.Time) (n int32) {
	for at := int(from.Sub(c.start)/slice) + 1; at < int(to.Sub(c.start)/slice) && at < len(c.arrivals[i]); at++ {
		n += c.arrivals[i][at].Load()
	}
	return n
}

// TestReuseUnderLoad shows the row "disablereuse/enablereuse" of Upstream connection pool under the load of TestChaos with
// nothing broken: 99.9 of 100 requests go over a connection that was there, counted at the backends, on as many loops as the
// machine has processors and on many more. In the short form it is counted after a second in which the clients
// ask as fast as they can: as many connections as that takes are needed once, and there are few requests to set against them.
func TestReuseUnderLoad(t *testing.T) {
	for _, loops := range []int{2, 16} {
		t.Run(fmt.Sprintf("%d loops", loops), func(t *testing.T) {
			threads(t, loops)
			backends := startBackends(t, 5)
			p := startPlant(t, fmt.Sprintf("loops: %d\nupstreams: { five: { targets: %s } }\nroutes: [{ upstream: five }]\n", loops, targets(backends)))
			g := &generator{addr: p.addr.String(), clients: 48, rate: pace(), make: makeChaos, each: mustAnswer(t)}
			length, before, warm := span(t), int64(0), int64(0)
			if length < time.Minute {
				length /= 2
				g.rate = 0
				g.run(t, time.Second, 0)
				g.rate, g.times = pace(), nil
				before, warm = g.sent.Load(), total(backends, acceptedOf)
			}
			despiteStalls(t, func(wrong func(format string, args ...any)) { // those who had to wait come all at once
				took := g.run(t, length, 0)
				sent, opened := g.sent.Load()-before, total(backends, acceptedOf)-warm
				t.Logf("%d requests in %v (%.0f/s), p50 %v, p99 %v: %d connections (%d before), reuse %.3f %%", sent, took.Round(time.Millisecond),
					float64(sent)/took.Seconds(), g.percentile(50), g.percentile(99), opened, warm, 100-100*float64(opened)/float64(sent))
				if reached := total(backends, requestsOf); reached != sent+before {
					t.Errorf("%d requests at the backends", reached)
				}
				if float64(opened) > 0.001*float64(sent) {
					wrong("%d connections for %d requests; why: %v", opened, sent, p.opened)
				}
				before, warm, g.times = before+sent, warm+opened, nil
			})
		})
	}
}
