package gateway_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// TestPoolLimitsHoldExactly shows the row "max" of Upstream connection pool: a thousand clients ask at once, and no backend
// ever has more connections than max_connections, nor fewer than that when all are needed; nobody is refused. In the second
// round the backends close every connection after its answer, so that places come and go all the time.
func TestPoolLimitsHoldExactly(t *testing.T) {
	const limit, clients, each = 20, 1000, 4
	for _, loops := range []int{2, 16} {
		for name, r := range map[string]reply{
			"kept":   {after: 2 * time.Millisecond},
			"closed": {after: 2 * time.Millisecond, head: "Connection: close\r\n", end: true},
		} {
			t.Run(fmt.Sprintf("%d loops, connections are %s", loops, name), func(t *testing.T) {
				backends := startBackends(t, 2)
				for _, b := range backends {
					b.always(r)
				}
				p := startPlant(t, fmt.Sprintf("loops: %d\nlimits: { connections: 2000 }\nupstreams: { web: { targets: %s, pool: { max_connections: %d, acquire_timeout: 60s }, queue: { max: 1000 } } }\nroutes: [{ upstream: web }]\n",
					loops, targets(backends), limit))
				g := &generator{addr: p.addr.String(), clients: clients, make: makeChaos, each: mustAnswer(t)}
				took := g.run(t, 0, each*clients)
				t.Logf("%d requests of %d clients in %v", g.sent.Load(), clients, took.Round(time.Millisecond))
				for _, b := range backends {
					t.Logf("%s: %d connections in all, %d at once, %d requests at once", b.name, b.accepted.Load(), b.most.Load(), b.mostBusy.Load())
					if b.most.Load() != limit || b.mostBusy.Load() > limit {
						t.Errorf("%s had %d connections at once, %d with a request; max_connections is %d", b.name, b.most.Load(), b.mostBusy.Load(), limit)
					}
				}
				if got := total(backends, requestsOf); got != each*clients {
					t.Errorf("%d requests at the backends", got)
				}
			})
		}
	}
}

// TestWaitersAreServedInOrder shows the row "acquire": with a single connection, forty requests that arrive one after
// another, at several loops, reach the backend in that order; the queue can be seen meanwhile.
func TestWaitersAreServedInOrder(t *testing.T) {
	for _, loops := range []int{1, 4} {
		t.Run(strconv.Itoa(loops), func(t *testing.T) {
			b := startBackends(t, 1)
			free := make(chan struct{})
			var mu sync.Mutex
			var order []string
			b[0].does(func(a *asked) reply {
				mu.Lock()
				order = append(order, a.path)
				mu.Unlock()
				return reply{until: free}
			})
			p := startPlant(t, fmt.Sprintf("loops: %d\nupstreams: { web: { targets: %s, pool: { max_connections: 1, acquire_timeout: 30s } } }\nroutes: [{ upstream: web }]\n", loops, targets(b)))
			var wg sync.WaitGroup
			var want []string
			for n := range 40 {
				path := "/" + strconv.Itoa(n)
				want = append(want, path)
				wg.Go(func() {
					if a := p.ask("GET", path); a.status != 200 {
						t.Errorf("%s: %d %s", path, a.status, a.body)
					}
				})
				testkit.Eventually(t, "it waits", func() bool {
					return n == 0 && b[0].busy.Load() == 1 || n > 0 && p.upstream("web").Waiting == n
				})
			}
			if got := p.metric(`wasmgate_pool_waiting{upstream="web"}`); got != 39 {
				t.Errorf("the metric says that %v wait", got)
			}
			close(free)
			wg.Wait()
			if !slices.Equal(order, want) {
				t.Errorf("they reached the backend in the order %v", order)
			}
		})
	}
}

// TestOverloadIsAnsweredEarly shows the row "balancer timeout, HAProxy maxconn + queue": who finds the queue full is refused
// at once, who waits in vain after acquire_timeout, both with 503, Retry-After and what is full.
func TestOverloadIsAnsweredEarly(t *testing.T) {
	b := startBackends(t, 1)
	free := make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	b[0].always(reply{until: free})
	config := "upstreams: { web: { targets: " + targets(b) + ", pool: { max_connections: 2, acquire_timeout: %s }, queue: { max: 3 } } }\nroutes: [{ upstream: web }]\n"
	p := startPlant(t, "loops: 2\n"+fmt.Sprintf(config, "30s"))
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if a := p.ask("GET", "/"); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	testkit.Eventually(t, "two are served and three wait", func() bool { return p.upstream("web").Waiting == 3 && b[0].busy.Load() == 2 })
	slow := 0
	for range 20 {
		before := time.Now()
		a := p.ask("GET", "/")
		if a.status != 503 || a.get("Retry-After") != "1" || !strings.Contains(string(a.body), "2 of 2 busy and the queue is full, 3 waiting; see queue.max") {
			t.Errorf("%d, Retry-After %q: %s", a.status, a.get("Retry-After"), a.body)
		}
		if took := time.Since(before); took > time.Second {
			if slow++; slow == 3 { // the machine may have stood still once or twice
				t.Fatalf("refused after %v", took)
			}
		}
	}
	if got := p.metric(`wasmgate_pool_waiting{upstream="web"}`); got != 3 {
		t.Errorf("the metric says that %v wait", got)
	}
	release()
	wg.Wait()
	if got := b[0].requests.Load(); got != 5 {
		t.Errorf("%d requests at the backend", got)
	}
	// Who has a place in the queue gets no more than acquire_timeout.
	again := make(chan struct{})
	defer close(again)
	b[0].always(reply{until: again})
	p.reload("loops: 2\n" + fmt.Sprintf(config, "100ms"))
	for range 2 {
		go func() { _, _ = (&client{addr: p.addr.String()}).ask(request("GET", "/")) }()
	}
	testkit.Eventually(t, "both connections are in use", func() bool { return b[0].busy.Load() == 2 })
	before := time.Now()
	a := p.ask("GET", "/")
	if took := time.Since(before); a.status != 503 || took < 90*time.Millisecond || a.get("Retry-After") == "" || !strings.Contains(string(a.body), "pool exhausted: 2 of 2 busy for 100ms") {
		t.Errorf("after %v: %d %s", took, a.status, a.body)
	}
}

// TestQueueWaitsForATarget shows the same row's timeout: with no target at all, a request waits for one to come back.
func TestQueueWaitsForATarget(t *testing.T) {
	b := startBackends(t, 1)
	config := "loops: 2\nupstreams: { web: { targets: " + targets(b, "state: %s") + ", queue: { timeout: %s } } }\nroutes: [{ upstream: web }]\n"
	p := startPlant(t, fmt.Sprintf(config, "disabled", "20s"))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if a := p.ask("POST", "/"); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	testkit.Eventually(t, "all wait", func() bool { return p.upstream("web").Waiting == 10 })
	p.patch("web", b[0].addr, `{"state": "active"}`)
	wg.Wait()
	p.patch("web", b[0].addr, `{"state": "disabled"}`)
	p.reload(fmt.Sprintf(config, "disabled", "50ms"))
	if a := p.ask("GET", "/"); a.status != 503 || a.get("Retry-After") == "" || !strings.Contains(string(a.body), "no_target_available") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
