//go:build !race

package native

import (
	"os"
	"testing"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// TestADecisionAllocatesNothing is about the C tenant router, which chooses an upstream and sets two fields.
func TestADecisionAllocatesNothing(t *testing.T) {
	b := newBench(t)
	module, err := os.ReadFile("../../../plugins/tenant-router/tenant-router.wasm")
	if err != nil {
		t.Fatal(err)
	}
	p := b.mustLoad(module, tenantOptions(), wasm.Limits{})
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead)
		if n := testing.AllocsPerRun(1000, func() { decide(t, p, x, task) }); n != 0 {
			t.Errorf("a decision allocates %v times", n)
		}
		if v, err := p.Request(x, filter.Route, 0); v != filter.Continue || err != nil || x.Target.Upstream != 4 {
			t.Errorf("%v, %v, upstream %d", v, err, x.Target.Upstream)
		}
	})
}
