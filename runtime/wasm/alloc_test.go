//go:build !race

package wasm

import (
	"testing"

	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// TestCallsDoNotAllocate is what each request costs: an instance from the pool, a call that calls the host, and back; and
// what counts failures.
func TestCallsDoNotAllocate(t *testing.T) {
	host := HostModule{Name: "env", Functions: []HostFunction{
		{Name: "host", Params: wasiTypes("i"), Results: wasiTypes("i"), Call: func(in *Instance, stack []uint64) {
			in.Charge(5)
			b, _ := in.Bytes(uint32(stack[0])%4096, 4)
			b[0]++
		}},
	}}
	binary := module(func(m *wt.Module) {
		f := m.Type([]byte{wt.I32}, []byte{wt.I32})
		imported := m.Import("env", "host", f)
		m.Memory(1)
		m.Export("run", 0, m.Func(f, nil, wt.Get(0), wt.Call(imported), wt.Loop(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Tee(0), wt.BrIf(0))))
	})
	p := NewPool(compile(t, newEngine(t, Options{}), binary, Limits{Fuel: 100 * Slice}, host), PoolOptions{})
	t.Cleanup(p.Close)
	f, _ := p.Compiled().Lookup("run")
	var stack [1]uint64
	rounds := uint64(10)
	request := func() {
		in, err := p.Get(nil, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		stack[0] = rounds
		if err := in.Call(f, stack[:]); err != nil || in.FuelUsed() == 0 {
			t.Fatal(err)
		}
		p.Put(0, 0, in)
	}
	request()
	if n := testing.AllocsPerRun(1000, request); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
	rounds = 100_000 // some slices
	if n := testing.AllocsPerRun(10, request); n != 0 {
		t.Errorf("a long call allocates %v times", n)
	}
	r := NewRepeats(1)
	if n := testing.AllocsPerRun(1000, func() { r.Note(5, "trap", "request") }); n != 0 {
		t.Errorf("Note allocates %v times", n)
	}
}
