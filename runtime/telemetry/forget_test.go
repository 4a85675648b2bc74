package telemetry

import (
	"strconv"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
)

// Upstreams, routes and listeners that leave the configuration, one after another for ever, are told of for a while and then
// no more; what is in force stays, however quiet it is, and what comes back begins anew.
func TestWhatLeftTheConfigurationIsForgotten(t *testing.T) {
	const after = time.Minute
	tel := start(t, Options{Metrics: Metrics{Forget: after}})
	r := tel.Loop(0)
	serve := func(generation string) {
		x := sampled(t, r)
		x.Client.Server, x.Route = "listener"+generation, "route"+generation
		x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "up" + generation, ConnID: 1, Reused: true})
		end(r, x, 200)
		s := session(connection(1))
		s.Client.Server, s.Upstream = "listener"+generation, "up"+generation
		r.Session(s)
		tel.MemberChanged("up"+generation, "joined")
	}
	names := func(generation string) *Names {
		return &Names{
			Listeners: map[string]bool{"listener" + generation: true, "listener-always": true}, Routes: map[string]bool{"route" + generation: true, "route-always": true},
			Upstreams: map[string]bool{"up" + generation: true, "up-always": true},
		}
	}
	counts := []string{"wasmgate_requests_total", "wasmgate_upstream_requests_total", "wasmgate_sessions_total", "wasmgate_upstream_member_changes_total"}
	has := func(upstream string) (n int) {
		m := scrape(t, tel)
		for _, name := range counts {
			if m.value(name, "upstream", upstream) > 0 {
				n++
			}
		}
		return n
	}
	look := func(n *Names, now int64) {
		r.Forget(n, now)
		tel.ForgetMembers(n, now)
	}
	serve("-always")
	now := loopTime
	for i := range 3 * maxSeries {
		generation := strconv.Itoa(i)
		serve(generation)
		now += int64(after) / 4
		look(names(generation), now)
	}
	if has("up-always") != len(counts) || has("up"+strconv.Itoa(3*maxSeries-1)) != len(counts) || has("other") != 0 {
		t.Errorf("of what is in force there are %d and %d, of what has no room %d", has("up-always"), has("up"+strconv.Itoa(3*maxSeries-1)), has("other"))
	}
	if n := len(scrape(t, tel)["wasmgate_requests_total"].samples); n > 10 {
		t.Errorf("%d series after all these configurations", n)
	}

	serve("-late") // was in force, and a request that began then ends now
	look(names("x"), now)
	now += int64(after) - 1
	serve("-late")
	look(names("x"), now)
	now += int64(after) - 1
	if look(names("x"), now); has("up-late") != len(counts) {
		t.Error("it was forgotten too early")
	}
	now++
	if look(names("x"), now); has("up-late") != 0 {
		t.Errorf("it is still told of in %d families", has("up-late"))
	}
	serve("-late")
	if m := scrape(t, tel); has("up-late") != len(counts) || m.value("wasmgate_requests_total", "upstream", "up-late") != 1 {
		t.Error("what comes back is not counted anew")
	}
}

// Several readers see the longest turn of the last minute, although each turn is said once.
func TestTheWorstTurnIsForAllReaders(t *testing.T) {
	var turns worstTurns
	now := time.Unix(0, wall)
	follow := func(after time.Duration, said ...time.Duration) (seen []time.Duration) {
		var loops []LoopStats
		for _, w := range said {
			loops = append(loops, LoopStats{WorstTurn: w})
		}
		turns.follow(loops, now.Add(after))
		for _, l := range loops {
			seen = append(seen, l.WorstTurn)
		}
		return seen
	}
	follow(0, 5, 1)
	if seen := follow(time.Second, 0, 2); seen[0] != 5 || seen[1] != 2 {
		t.Errorf("the second reader sees %v", seen)
	}
	for range 500 {
		follow(30*time.Second, 1, 1)
	}
	if seen := follow(59*time.Second, 0, 0); seen[0] != 5 || seen[1] != 2 || len(turns.said) > 100 {
		t.Errorf("before the minute is over: %v, of %d", seen, len(turns.said))
	}
	if seen := follow(100*time.Second, 0, 0); seen[0] != 0 || seen[1] != 0 {
		t.Errorf("two minutes later: %v", seen)
	}
}
