package gateway_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// who asks n times, one after the other, and counts by whom it was answered.
func (p *plant) who(n int, path string, fields ...string) map[string]int {
	p.Helper()
	c, one, by := client{addr: p.addr.String()}, request("GET", path, fields...), map[string]int{}
	defer c.close()
	for range n {
		a, err := c.ask(one)
		if err != nil {
			p.Fatal(err)
		}
		if a.status != 200 {
			by[strconv.Itoa(a.status)]++
			continue
		}
		by[a.get("X-Backend")]++
	}
	return by
}

// answeredBy says whether these answered, each at least once, and nobody else.
func answeredBy(by map[string]int, names ...string) bool {
	return slices.Equal(slices.Sorted(maps.Keys(by)), names)
}

// only says that all answers came from these, and from each of them at least one.
func (p *plant) only(when string, by map[string]int, names ...string) {
	p.Helper()
	if !answeredBy(by, names...) {
		p.Errorf("%s: answered by %v; want %v and nobody else", when, by, names)
	}
}

// TestDistributionByWeight shows the row "lbmethod": over 20,000 requests, 100,000 where it is thorough, every backend gets its
// part by weight within 2 %, also from loops that do not know of each other. Those that go by load are asked by few clients, so
// that their loads are the same, and less often unless it is thorough.
func TestDistributionByWeight(t *testing.T) {
	count := 20_000
	if thorough() {
		count = 100_000
	}
	for _, c := range []struct {
		balance        string
		loops, clients int
		tolerance      float64
	}{
		{"round_robin", 2, 16, 0.02}, {"round_robin", 8, 64, 0.02},
		{"least_requests", 2, 1, 0.02}, {"random_two", 2, 1, 0.02}, {"least_bytes", 2, 4, 0.02}, {"hash(path)", 2, 16, 0.03},
	} {
		t.Run(fmt.Sprintf("%s, %d loops, %d clients", c.balance, c.loops, c.clients), func(t *testing.T) {
			again := func(try func(wrong func(format string, args ...any))) { try(t.Errorf) }
			if c.balance != "round_robin" { // chance has its part, also by the backends' addresses: others have another try
				again = func(try func(wrong func(format string, args ...any))) { despiteStalls(t, try) }
			}
			again(func(wrong func(format string, args ...any)) {
				backends := startBackends(t, 3)
				p := startPlant(t, fmt.Sprintf("loops: %d\nupstreams: { web: { targets: %s, balance: '%s', hash_load: 100 } }\nroutes: [{ upstream: web }]\n",
					c.loops, targets(backends, "weight: 5", "weight: 3", "weight: 2"), c.balance))
				defer p.Close()
				g := &generator{addr: p.addr.String(), clients: c.clients, make: makeChaos, each: mustAnswer(t)}
				count := count
				if c.clients < 8 && !thorough() { // they take their time
					count /= 2
				}
				g.run(t, 0, count)
				for i, b := range backends {
					part := float64(count) * []float64{0.5, 0.3, 0.2}[i]
					// Where chance has its part, its spread is beside the tolerance.
					spread := 0.0
					if c.balance != "round_robin" {
						spread = 4 * math.Sqrt(part*(1-part/float64(count)))
					}
					got := float64(b.requests.Load())
					if math.Abs(got-part) > max(c.tolerance*part, spread) {
						wrong("%s got %.0f requests; its part is %.0f", b.name, got, part)
					}
					t.Logf("%s: %+.2f %%", b.name, 100*(got-part)/part)
				}
			})
		})
	}
}

// hashed is a way to hash, and how a client asks with the n-th key.
type hashed struct {
	name string
	ask  func(p *plant, n int) answer
}

var hashes = []hashed{
	{"ip", func(p *plant, n int) answer {
		c := client{addr: p.addr.String(), local: fmt.Sprintf("127.3.%d.%d", n/200, n%200+1)}
		defer c.close()
		a, err := c.ask(request("GET", "/"))
		if err != nil {
			p.Fatal(err)
		}
		return a
	}},
	{"path", func(p *plant, n int) answer { return p.ask("GET", fmt.Sprintf("/p/%d", n)) }},
	{"query user", func(p *plant, n int) answer { return p.ask("GET", fmt.Sprintf("/x?a=b&user=%d&c=d", n)) }},
	{"header x-tenant", func(p *plant, n int) answer { return p.ask("GET", "/", fmt.Sprintf("X-Tenant: t%d", n)) }},
	{"cookie id", func(p *plant, n int) answer { return p.ask("GET", "/", fmt.Sprintf("Cookie: a=b; id=c%d", n)) }},
}

// TestHashKeepsKeysWhereTheyAre shows the second half of the row "lbmethod": the same key goes to the same backend, by each
// part of a request that can be hashed; when a target leaves the config, or is ejected, its keys move and no others.
func TestHashKeepsKeysWhereTheyAre(t *testing.T) {
	const keys, n = 300, 5
	for _, h := range hashes {
		t.Run(h.name, func(t *testing.T) {
			var backends []*backend
			var p *plant
			config := func(list []*backend) string {
				return fmt.Sprintf("loops: 2\nupstreams: { web: { targets: %s, balance: 'hash(%s)', retries: { attempts: 1 }, health: { passive: { failures: 1, fail_on_status: [503], eject_for: 500ms } } } }\nroutes: [{ upstream: web }]\n", targets(list), h.name)
			}
			home := func() (m [keys]string) {
				for k := range keys {
					a := h.ask(p, k)
					m[k] = a.get("X-Backend")
					if a.status != 200 {
						t.Fatalf("key %d: %d", k, a.status)
					}
				}
				return m
			}
			// A fifth of the keys belongs to each, give or take four times their spread.
			most := keys/n + 4*math.Sqrt(keys*0.2*0.8)
			var before [keys]string
			despiteStalls(t, func(wrong func(format string, args ...any)) { // by chance an address has more: then there are others
				if p != nil {
					p.Close()
				}
				backends = startBackends(t, n)
				p = startPlant(t, config(backends))
				before = home()
				for _, b := range backends {
					count := 0
					for _, by := range before {
						if by == b.name {
							count++
						}
					}
					if float64(count) > most {
						wrong("%s has %d of %d keys", b.name, count, keys)
					}
				}
			})
			if home() != before {
				t.Error("keys do not stay")
			}
			moved := func(when string, now [keys]string, gone string) {
				t.Helper()
				count := 0
				for k := range keys {
					switch {
					case now[k] == before[k]:
					case before[k] != gone:
						t.Errorf("%s: key %d moved from %s to %s", when, k, before[k], now[k])
					default:
						count++
					}
				}
				if float64(count) > most {
					t.Errorf("%s: %d of %d keys moved; 1/n are %d", when, count, keys, keys/n)
				}
				t.Logf("%s: %d of %d keys moved", when, count, keys)
			}
			p.reload(config(slices.Delete(slices.Clone(backends), 2, 3)))
			moved("b3 left the config", home(), "b3")
			p.reload(config(backends))
			if home() != before {
				t.Error("its keys did not come back with it")
			}
			backends[1].always(reply{status: 503})
			for k := range keys {
				if before[k] == "b2" {
					if a := h.ask(p, k); a.status != 503 {
						t.Fatalf("%d", a.status)
					}
					break
				}
			}
			backends[1].does(nil)
			moved("b2 is ejected", home(), "b2")
			testkit.Eventually(t, "b2 is back", func() bool { home(); return p.member("web", backends[1]).Health == "healthy" })
			if home() != before {
				t.Error("its keys did not come back after the ejection")
			}
		})
	}
}

// TestHashHasABound shows hash_load: of forty requests with one key that are under way at once, no backend has more than a
// quarter above the average.
func TestHashHasABound(t *testing.T) {
	const n, at = 5, 40
	backends, free := startBackends(t, n), make(chan struct{})
	for _, b := range backends {
		b.always(reply{until: free})
	}
	p := startPlant(t, "loops: 2\nupstreams: { web: { targets: "+targets(backends)+", balance: 'hash(header x-tenant)', hash_load: 1.25 } }\nroutes: [{ upstream: web }]\n")
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			if a := p.ask("GET", "/", "X-Tenant: all"); a.status != 200 {
				t.Errorf("%d", a.status)
			}
		})
		testkit.Eventually(t, "it is under way", func() bool { return total(backends, requestsOf) == int64(i+1) })
	}
	close(free)
	wg.Wait()
	for _, b := range backends {
		if got := b.mostBusy.Load(); got > at*125/100/n {
			t.Errorf("%s had %d requests at once; the average is %d", b.name, got, at/n)
		}
	}
}

// TestTiersStandbysAndSpares shows the row "lbset, hot standby +H, spare +R": who serves while others cannot.
func TestTiersStandbysAndSpares(t *testing.T) {
	b := startBackends(t, 6)
	p := startPlant(t, "loops: 2\nupstreams: { web: { targets: "+targets(b, "", "", "state: spare", "state: standby", "tier: 1", "tier: 1")+" } }\nroutes: [{ upstream: web }]\n")
	set := func(i int, state string) { p.patch("web", b[i].addr, `{"state": "`+state+`"}`) }
	p.only("all are well", p.who(40, "/"), "b1", "b2")
	set(0, "disabled")
	p.only("one is missing, and its spare stands in", p.who(40, "/"), "b2", "b3")
	set(1, "drain")
	p.only("both are missing, and there is one spare", p.who(40, "/"), "b3")
	set(2, "disabled")
	p.only("the spare is missing too", p.who(40, "/"), "b4")
	set(3, "disabled")
	p.only("the first tier is gone", p.who(40, "/"), "b5", "b6")
	set(1, "active")
	p.only("one is back", p.who(40, "/"), "b2")
	p.patch("web", b[4].addr, `{"tier": 0, "weight": 3}`)
	by := p.who(400, "/")
	p.only("one of the second tier was made one of the first", by, "b2", "b5")
	if by["b5"] < 290 || by["b5"] > 310 {
		t.Errorf("weight 3 against 1: %v", by)
	}
	for i := range b {
		set(i, "disabled")
	}
	p.only("nobody is left", p.who(3, "/"), "503")
	// Another config says how it is, and what was changed by hand is over where it says something new.
	p.reload("loops: 2\nupstreams: { web: { targets: " + targets(b[:3], "weight: 2", "weight: 2", "weight: 2, state: standby") + " } }\nroutes: [{ upstream: web }]\n")
	p.only("a new config", p.who(40, "/"), "b1", "b2")
}

// TestAStandbyIsNoHelpForFullOnes: the actives are full, and requests wait for them; standbys are for when they fail.
func TestAStandbyIsNoHelpForFullOnes(t *testing.T) {
	b := startBackends(t, 2)
	b[0].always(reply{after: 5 * time.Millisecond})
	p := startPlant(t, "loops: 2\nupstreams: { web: { targets: "+targets(b, "", "state: standby")+", pool: { max_connections: 2, acquire_timeout: 10s } } }\nroutes: [{ upstream: web }]\n")
	g := &generator{addr: p.addr.String(), clients: 20, make: gets("/"), each: mustAnswer(t)}
	g.run(t, 0, 200)
	if got := b[1].requests.Load(); got != 0 {
		t.Errorf("the standby got %d requests", got)
	}
}

// TestFirstFillsUpInOrder shows balance: first: the first target is used until it is full.
func TestFirstFillsUpInOrder(t *testing.T) {
	b, free := startBackends(t, 3), make(chan struct{})
	for _, one := range b {
		one.always(reply{until: free})
	}
	p := startPlant(t, "loops: 2\nupstreams: { web: { targets: "+targets(b)+", balance: first, pool: { max_connections: 3 } } }\nroutes: [{ upstream: web }]\n")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { p.ask("GET", "/") })
		testkit.Eventually(t, "it is under way", func() bool { return total(b, busyOf) == int64(i+1) })
		if want := []int64{int64(min(i+1, 3)), int64(max(min(i+1, 6)-3, 0)), int64(max(i+1-6, 0))}; b[0].busy.Load() != want[0] || b[1].busy.Load() != want[1] || b[2].busy.Load() != want[2] {
			t.Errorf("after %d requests the backends have %d, %d, %d", i+1, b[0].busy.Load(), b[1].busy.Load(), b[2].busy.Load())
		}
	}
	close(free)
	wg.Wait()
}

// TestDrainByConfigAndByHand shows "changed live through the admin API": a drained target finishes what it has and gets
// nothing new, a removed one's idle connections are closed, and the log says who changed what.
func TestDrainByConfigAndByHand(t *testing.T) {
	b := startBackends(t, 2)
	config := "loops: 2\nupstreams: { web: { targets: %s } }\nroutes: [{ upstream: web }]\n"
	p := startPlant(t, fmt.Sprintf(config, targets(b)))
	free := make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	b[0].always(reply{until: free})
	answered := make(chan int, 4)
	for range 4 {
		go func() { answered <- p.ask("GET", "/").status }()
	}
	testkit.Eventually(t, "two requests are under way", func() bool { return b[0].busy.Load() >= 2 }) // three, where one of the others was over before the last came
	if out := p.patch("web", b[0].addr, `{"state": "drain"}`); !strings.Contains(out, `"differs_from_config": true`) {
		t.Errorf("curl got %s", out)
	}
	p.only("b1 is drained", p.who(20, "/"), "b2")
	if p.member("web", b[0]).State != "drain" || !strings.Contains(p.journal.String(), `"operation":"changeTarget"`) {
		t.Errorf("the admin endpoint says %+v, the log %s", p.member("web", b[0]), p.journal)
	}
	release()
	for range 4 {
		if status := <-answered; status != 200 {
			t.Errorf("a request under way got %d", status)
		}
	}
	if out := run(t, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PATCH", "-H", "Origin: http://evil.test", "-d", `{"state": "active"}`, "http://"+p.AdminAddr().String()+"/upstreams/web/targets/"+b[0].addr); out != "403" {
		t.Errorf("a page of another origin got %s", out)
	}
	p.reload(fmt.Sprintf(config, targets(b, "weight: 2", "state: drain")))
	b[0].does(nil)
	p.only("the config drains b2", p.who(20, "/"), "b1")
	p.reload(fmt.Sprintf(config, targets(b[:1])))
	testkit.Eventually(t, "connections to a target that was removed are closed", func() bool { return b[1].open.Load() == 0 })
	p.only("b2 was removed", p.who(20, "/"), "b1")
	p.reload(fmt.Sprintf(config, targets(b)))
	p.only("and is back", p.who(20, "/"), "b1", "b2")
}
