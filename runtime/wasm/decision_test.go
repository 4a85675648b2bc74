package wasm_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
	"wasmgate/runtime/wasm/proxywasm"
)

// proxyWasmBar is what a decision of a Proxy-Wasm plugin may cost, as a multiple of the native one's.
const proxyWasmBar = 1.5

// router is the tenant router of an ABI.
type router struct {
	filter  filter.Filter
	verdict filter.Verdict
}

// tenantRouters starts the routers of both ABIs: C, the same tenants, an upstream and two fields.
func tenantRouters(t *testing.T, g *netloop.Group) (ours, envoys router) {
	t.Helper()
	e, err := wasm.New(wasm.Options{NoCache: true})
	if err != nil {
		t.Fatal(err)
	}
	compile := func(file string, abi wasm.ABI) *wasm.Compiled {
		binary, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.Compile(context.Background(), "router", binary, abi, wasm.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	n, err := native.New(compile("../../plugins/tenant-router/tenant-router.wasm", native.ABI), native.Options{
		Config: []byte(`{"default": "orders", "tenants": {"acme": "users", "globex": "orders"}}`),
		Grants: native.Grants{Upstreams: map[string]int{"orders": 1, "users": 2}, DynamicUpstream: exchange.NoUpstream},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	p, err := proxywasm.New(compile("proxywasm/testdata/router.wasm", proxywasm.ABI), proxywasm.Options{
		Group: g, Config: []byte("acme users.internal\nglobex orders.internal\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return router{n, filter.Continue}, router{p, filter.Rematch}
}

var decisionHead = []byte("GET /app/users/1?page=2 HTTP/1.1\r\nHost: example.com\r\nX-Tenant: acme\r\nAccept: */*\r\nUser-Agent: curl/8\r\n\r\n")

// decide has a request parsed and decided about n times, and returns what that took. No router: parsed only.
func decide(t *testing.T, x *exchange.Exchange, task *netloop.Task, r *router, n int) time.Duration {
	begun := time.Now()
	for range n {
		x.Reset()
		x.Task = task
		if _, err := x.Request.Parse(decisionHead, nil); err != nil {
			t.Error(err)
			return 0
		}
		if r == nil {
			continue
		}
		if v, err := r.filter.Request(x, filter.Route, 0); v != r.verdict || err != nil {
			t.Error(v, err)
			return 0
		}
		if e, ok := r.filter.(filter.Ender); ok {
			e.End(x, 0)
		}
	}
	return time.Since(begun)
}

// TestAProxyWasmDecisionBesideTheNativeOne says what the tenant router's decision costs as a Proxy-Wasm plugin, with a call of the
// host for each thing that it reads and writes, beside the native one, with one call of the guest for all: short rounds of both
// take turns, and the ratios' median counts. It is held to its bar with WASMGATE_BENCH=1, on a machine that does nothing else:
//
//	WASMGATE_BENCH=1 go test ./runtime/wasm -run TestAProxyWasmDecision -v
func TestAProxyWasmDecisionBesideTheNativeOne(t *testing.T) {
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	ours, envoys := tenantRouters(t, g)
	const rounds, requests = 101, 500
	var ratios []float64
	var each [2][]time.Duration
	done := make(chan struct{})
	l := g.Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			defer close(done)
			x := &exchange.Exchange{}
			decide(t, x, task, &ours, 1)
			native := fmt.Sprintf("%s %s", field(x, "x-tenant-id"), field(x, "x-routed-by"))
			if x.Target.Upstream != 2 || native != "acme tenant-router" {
				t.Errorf("the native router chose %d and set %s", x.Target.Upstream, native)
			}
			decide(t, x, task, &envoys, 1)
			if got := fmt.Sprintf("%s %s", field(x, "x-tenant-id"), field(x, "x-routed-by")); got != native || string(x.Request.Authority) != "users.internal" {
				t.Errorf("the other router chose %s and set %s", x.Request.Authority, got)
			}
			for i := range rounds {
				none := decide(t, x, task, nil, requests)
				var a, b time.Duration
				if i%2 == 0 {
					a = decide(t, x, task, &ours, requests)
					b = decide(t, x, task, &envoys, requests)
				} else {
					b = decide(t, x, task, &envoys, requests)
					a = decide(t, x, task, &ours, requests)
				}
				a, b = a-none, b-none
				each[0], each[1] = append(each[0], a/requests), append(each[1], b/requests)
				if a > 0 {
					ratios = append(ratios, float64(b)/float64(a))
				}
			}
		})
	})
	<-done
	if len(ratios) == 0 {
		t.Fatal("nothing was measured")
	}
	slices.Sort(ratios)
	slices.Sort(each[0])
	slices.Sort(each[1])
	ratio := ratios[len(ratios)/2]
	t.Logf("native %v, Proxy-Wasm %v: %.2f times (the middle half of %d rounds: %.2f to %.2f)", each[0][rounds/2], each[1][rounds/2], ratio, len(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
	if os.Getenv("WASMGATE_BENCH") != "" && ratio > proxyWasmBar {
		t.Errorf("a Proxy-Wasm decision costs %.2f times the native one, over %v", ratio, proxyWasmBar)
	}
}

// field is all of a field that a request has.
func field(x *exchange.Exchange, name string) string {
	var values []string
	for i := x.Request.Find(0, name); i >= 0; i = x.Request.Find(i+1, name) {
		values = append(values, string(x.Request.Value(i)))
	}
	return strings.Join(values, ",")
}
