//go:build !race

package proxywasm

import (
	"os"
	"testing"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// tenant loads the C plugin that reads a field and sets two.
func tenant(t testing.TB, b *bench) *Plugin {
	t.Helper()
	module, err := os.ReadFile("testdata/tenant.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return b.mustLoad(module, Options{}, wasm.Limits{})
}

// TestADecisionAllocatesNothing is about a plugin that decides by the head of a request, from its beginning to its end.
func TestADecisionAllocatesNothing(t *testing.T) {
	b := newBench(t)
	p := tenant(t, b)
	if p.WantsResponse() {
		t.Error("it has no callback for answers")
	}
	b.on(func(task *netloop.Task) {
		r := b.begin(task, message{head: simpleHead})
		authority := []byte("example.com")
		if n := testing.AllocsPerRun(1000, func() {
			r.x.Request.SetAuthority(authority)
			if v, err := p.Request(r.x, filter.Route, 0); v != filter.Rematch || err != nil {
				t.Errorf("%v %v", v, err)
			}
			p.End(r.x, 0)
			r.x.Request.Del("x-routed-by")
		}); n > 0.5 { // the head's storage grows
			t.Errorf("a decision allocates %v times", n)
		}
		if string(r.x.Request.Authority) != "acme.internal" {
			t.Errorf("%s", r.x.Request.Authority)
		}
	})
}

// BenchmarkDecision is what a plugin's decision costs, from the beginning of a stream to its end.
func BenchmarkDecision(bm *testing.B) {
	b := newBench(bm)
	p := tenant(bm, b)
	b.on(func(task *netloop.Task) {
		m := message{head: simpleHead}
		r := b.begin(task, m)
		wire := m.wire()
		for bm.Loop() {
			r.x.Request.Reset()
			_, _ = r.x.Request.Parse(wire, nil)
			_, _ = p.Request(r.x, filter.Route, 0)
			p.End(r.x, 0)
		}
	})
}
