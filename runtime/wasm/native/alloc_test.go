//go:build !race

package native

import (
	"os"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
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

// TestStateAndCallsAllocateNothing is about what the host adds: a guest reads a store, counts, measures, and calls.
func TestStateAndCallsAllocateNothing(t *testing.T) {
	b := newBench(t)
	s := kv.New(kv.Options{})
	s.Set(0, []byte("key:"), []byte("value"), 0, 0)
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest, Calls: []string{"authz"}, Stores: []string{"s"}, Metrics: []abi.Metric{{Name: "m"}}})
	key := code(i32(dataAt), i32(4))
	g := guestModule{pages: 8, manifest: m, data: map[uint32][]byte{dataAt: []byte("key:")}, requestCode: code(
		do(callKVGet, i32(0), key, i32(freeAt), i32(100)), opDrop, do(callKVAdd, i32(0), i32(dataAt), i32(3), i64(1), i64(0), i32(freeAt)), opDrop,
		i32(0), 0x44, make([]byte, 8), opCall, callMetric,
		do(callCall, i32(0), i32(0), i32(0), i32(freeAt), i32(100)), opDrop, i64(0),
	)}
	o := Options{Grants: Grants{Calls: map[string]int{"authz": 5}, Stores: map[string]*kv.Store{"s": s}, Caller: fakeCaller(func(_ *netloop.Task, c *filter.Call) *fault.Error {
		c.Status, c.Answer = 200, append(c.Answer[:0], "yes"...)
		return nil
	})}}
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead)
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := p.Request(x, filter.Route, 0); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	if st := p.Stats(); st.Outbound != 1001 {
		t.Errorf("%+v", st)
	}
}
