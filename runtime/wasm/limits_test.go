package wasm

import (
	"errors"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// TestWhatNeverEndsIsStopped runs programs without an end: each is stopped within its budget, the error names the guest's
// function, the instance is of no more use, and another one of the same module works.
func TestWhatNeverEndsIsStopped(t *testing.T) {
	const fuel = 3_000_000
	binary := module(func(m *wt.Module) {
		none := m.Type(nil, nil)
		rec := m.Type([]byte{wt.I32}, nil)
		m.Memory(256)
		spin := m.Func(none, nil, wt.Loop(wt.I32Const(8), wt.I32Const(1), wt.I32Store(0), wt.Br(0)))
		fill := m.Func(none, nil, wt.Loop(wt.I32Const(0), wt.I32Const(0), wt.I32Const(256<<16), wt.MemoryFill, wt.Br(0)))
		// 2^40 calls, 40 deep.
		double := m.Func(rec, nil, wt.Get(0), wt.If(
			wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Call(2), wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Call(2)))
		forks := m.Func(none, nil, wt.I32Const(40), wt.Call(double))
		deep := m.Func(none, nil, wt.Call(4))
		grows := m.Func(none, nil, wt.Loop(wt.I32Const(1), wt.MemoryGrow, wt.Drop, wt.Br(0)))
		for i, f := range []uint32{spin, fill, forks, deep, grows} {
			m.Export([]string{"spin", "fill", "forks", "deep", "grows"}[i], 0, f)
		}
		m.Export("fine", 0, m.Func(none, nil))
		m.Names("spinner", "filler", "double", "forker", "digger", "grower")
	})
	c := compile(t, newEngine(t, Options{}), binary, Limits{Fuel: fuel, MemoryPages: 256})
	for _, tc := range []struct {
		export, frame string
		kind          fault.Kind
	}{
		{"spin", "spinner", fault.PluginFuel},
		{"fill", "filler", fault.PluginFuel},
		{"forks", "double < double", fault.PluginFuel},
		{"deep", "digger < digger", fault.PluginTrap},
		{"grows", "grower", fault.PluginFuel},
	} {
		in := start(t, c, InstanceOptions{})
		_, err := call(in, tc.export)
		wantFault(t, err, tc.kind, ", in "+tc.frame, "phase "+tc.export)
		if tc.kind == fault.PluginFuel && (!strings.Contains(err.Error(), "out of fuel after 3000000 units") || in.FuelUsed() != fuel) {
			t.Errorf("%s: %d units used, %v", tc.export, in.FuelUsed(), err)
		}
		if tc.kind == fault.PluginTrap && !strings.Contains(err.Error(), "stack overflow") {
			t.Errorf("%s: %v", tc.export, err)
		}
		if in.FuelUsed() > fuel || !in.Broken() || in.MemoryBytes() != 256<<16 {
			t.Errorf("%s: %d units, broken: %v, %d bytes", tc.export, in.FuelUsed(), in.Broken(), in.MemoryBytes())
		}
		_, err = call(in, "fine")
		wantFault(t, err, fault.PluginUnavailable, "broken")
		must(t, start(t, c, InstanceOptions{}), "fine")
	}
}

// TestStackIsBounded lets a function call itself until it is stopped: by then its native stack is a few MiB, and not what
// wazero allows.
func TestStackIsBounded(t *testing.T) {
	binary := module(func(m *wt.Module) {
		m.Export("dig", 0, m.Func(m.Type(nil, nil), nil, wt.Call(0)))
	})
	in := start(t, compile(t, newEngine(t, Options{}), binary, Limits{Fuel: 1 << 30}), InstanceOptions{})
	_, err := call(in, "dig")
	wantFault(t, err, fault.PluginTrap, "stack overflow")
	if n := functionStack(in.running[0]); n < DefaultStackBytes || n > 8<<20 {
		t.Errorf("the stack has %d bytes", n)
	}
}

// TestMemoryIsAccountedFor grows instances up to their own limit, and then up to that of all together.
func TestMemoryIsAccountedFor(t *testing.T) {
	const page = 1 << 16
	e := newEngine(t, Options{MemoryTotal: 25 * page})
	binary := module(func(m *wt.Module) {
		grow := m.Type([]byte{wt.I32}, []byte{wt.I32})
		m.Memory(2)
		m.Export("grow", 0, m.Func(grow, nil, wt.Get(0), wt.MemoryGrow))
		m.Export("need", 0, m.Func(grow, nil, wt.Get(0), wt.MemoryGrow, wt.I32Const(-1), wt.I32Eq, wt.If(wt.Unreachable), wt.I32Const(7)))
		m.Export("touch", 0, m.Func(grow, nil, wt.Get(0), wt.I32Load(0)))
	})
	const refused = 1<<32 - 1
	c := compile(t, e, binary, Limits{MemoryPages: 10})
	a := start(t, c, InstanceOptions{})
	for _, step := range []struct{ delta, old, size uint64 }{
		{0, 2, 2}, {3, 2, 5}, {6, refused, 5}, {1 << 31, refused, 5}, {refused, refused, 5}, {5, 5, 10}, {1, refused, 10},
	} {
		if old := must(t, a, "grow", step.delta); old != step.old || a.MemoryBytes() != int64(step.size)*page {
			t.Errorf("grow by %d returns %d, the memory has %d bytes", step.delta, old, a.MemoryBytes())
		}
	}
	if e.MemoryInUse() != 10*page {
		t.Errorf("%d bytes in use", e.MemoryInUse())
	}
	must(t, a, "touch", 10*page-4)
	if _, err := call(a, "need", 1); true {
		wantFault(t, err, fault.PluginMemory, "1 more pages of 64 KiB were refused at 10, the limit is 10", "unreachable")
	}
	b := start(t, c, InstanceOptions{})
	must(t, b, "grow", 8)
	d := start(t, c, InstanceOptions{}) // 22 of 25 pages
	if old := must(t, d, "grow", 4); old != refused {
		t.Errorf("grow beyond the limit of all returns %d", old)
	}
	must(t, d, "grow", 3)
	_, err := c.Instantiate(InstanceOptions{})
	wantFault(t, err, fault.PluginMemory, "the memory of all plugin instances together has reached its limit of 1 MiB", "start")
	_, err = call(d, "need", 1)
	wantFault(t, err, fault.PluginMemory, "of all plugin instances together")
	a.Close()
	if e.MemoryInUse() != 15*page || e.Instances() != 2 {
		t.Errorf("%d bytes and %d instances in use", e.MemoryInUse(), e.Instances())
	}
	start(t, c, InstanceOptions{})
}

// TestModulesWithoutMemory has WASI asked for what takes memory, by a module that has none.
func TestModulesWithoutMemory(t *testing.T) {
	binary := module(func(m *wt.Module) {
		f := m.Type([]byte{wt.I32, wt.I32}, []byte{wt.I32})
		imported := m.Import("wasi_snapshot_preview1", "random_get", f)
		m.Export("random", 0, m.Func(f, nil, wt.Get(0), wt.Get(1), wt.Call(imported)))
	})
	in := start(t, compile(t, newEngine(t, Options{}), binary, Limits{}, WASI()), InstanceOptions{})
	if in.MemoryBytes() != 0 {
		t.Errorf("%d bytes", in.MemoryBytes())
	}
	if v := must(t, in, "random", 0, 1); v != wasiFault {
		t.Errorf("random_get answers %d", v)
	}
	must(t, in, "random", 0, 0)
	if _, ok := in.Bytes(0, 1); ok {
		t.Error("there are bytes")
	}
}

// TestLongInstructionsArePaidFor fills, copies and grows with one instruction, and compares what that cost with what it is
// worth; with a unit less than that it is stopped before it begins.
func TestLongInstructionsArePaidFor(t *testing.T) {
	const all = 256 << 16
	binary := module(func(m *wt.Module) {
		none := m.Type(nil, nil)
		m.Memory(256, 300)
		m.Export("memory", 2, 0)
		m.Export("fill", 0, m.Func(none, nil, wt.I32Const(0), wt.I32Const(1), wt.I32Const(all), wt.MemoryFill))
		m.Export("copy", 0, m.Func(none, nil, wt.I32Const(0), wt.I32Const(0), wt.I32Const(all), wt.MemoryCopy))
		m.Export("grow", 0, m.Func(none, nil, wt.I32Const(20), wt.MemoryGrow, wt.Drop))
	})
	c := compile(t, newEngine(t, Options{}), binary, Limits{MemoryPages: 300})
	for export, least := range map[string]int64{"fill": all / meter.BytesPerUnit, "copy": all / meter.BytesPerUnit, "grow": 20 * growFuel} {
		in := start(t, c, InstanceOptions{})
		f, _ := c.Lookup(export)
		if err := in.CallFuel(f, nil, 4*least); err != nil {
			t.Fatal(err)
		}
		if used := in.FuelUsed(); used < least || used > least+1000 {
			t.Errorf("%s used %d units, it is worth %d", export, used, least)
		}
		in = start(t, c, InstanceOptions{})
		wantFault(t, in.CallFuel(f, nil, least-1), fault.PluginFuel, export)
		if b, _ := in.Bytes(0, 1); export == "fill" && b[0] != 0 {
			t.Error("the memory was filled before it was paid for")
		}
	}
}

// TestFuelIsForEachCall checks that a call does not live on what an earlier one left, and that the counter is the same
// whether it is read where it lies or asked for.
func TestFuelIsForEachCall(t *testing.T) {
	binary := module(func(m *wt.Module) {
		m.Export("count", 0, m.Func(m.Type([]byte{wt.I32}, nil), nil, wt.Loop(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Tee(0), wt.BrIf(0))))
	})
	c := compile(t, newEngine(t, Options{}), binary, Limits{})
	in, slow := start(t, c, InstanceOptions{}), start(t, c, InstanceOptions{})
	if in.fuel.place == nil {
		t.Fatal("the counter was not found where wazero keeps it: is it another version, or the interpreter?")
	}
	slow.fuel.place = nil
	f, _ := c.Lookup("count")
	for _, rounds := range []uint64{1, 10, 1000, 100_000, 3} {
		var used [2]int64
		for i, in := range []*Instance{in, slow} {
			if err := in.CallFuel(f, []uint64{rounds}, 5_000_000); err != nil {
				t.Fatal(err)
			}
			used[i] = in.FuelUsed()
		}
		// A small function is paid for by its callers, and the host pays nothing.
		if used[0] != used[1] || rounds > 100 && used[0] < int64(rounds) {
			t.Errorf("%d rounds used %d units, and %d as wazero counts", rounds, used[0], used[1])
		}
		if in.fuel.get() != int64(in.fuel.global.Get()) {
			t.Errorf("the counter is %d, wazero says %d", in.fuel.get(), int64(in.fuel.global.Get()))
		}
	}
	for _, in := range []*Instance{in, slow} {
		wantFault(t, in.CallFuel(f, []uint64{100_000}, 100_000), fault.PluginFuel, "after 100000 units")
	}
}

// TestTrapsNameTheGuestsFunctions checks what is told of a trap: the cause and the innermost functions, by their names.
func TestTrapsNameTheGuestsFunctions(t *testing.T) {
	var empty []int
	host := HostModule{Name: "env", Functions: []HostFunction{
		{Name: "bug", Call: func(_ *Instance, a []uint64) { empty[len(a)] = 1 }},
		{Name: "fail", Call: func(in *Instance, _ []uint64) { in.Failf(fault.PluginAnswer, "no such %s", "header") }},
	}}
	binary := module(func(m *wt.Module) {
		none := m.Type(nil, nil)
		bug, fail := m.Import("env", "bug", none), m.Import("env", "fail", none)
		m.Memory(1)
		m.Table(wt.FuncRef, 1)
		down := m.Func(m.Type([]byte{wt.I32}, nil), nil, wt.Get(0), wt.If(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Call(2), wt.Br(1)), wt.Unreachable)
		m.Export("deep", 0, m.Func(none, nil, wt.I32Const(9), wt.Call(down)))
		m.Export("divide", 0, m.Func(none, nil, wt.I32Const(1), wt.I32Const(0), wt.I32DivU, wt.Drop))
		m.Export("read", 0, m.Func(none, nil, wt.I32Const(-1), wt.I32Load(0), wt.Drop))
		m.Export("null", 0, m.Func(none, nil, wt.I32Const(0), wt.IndirectOp, wt.U(none), wt.U(0)))
		m.Export("bug", 0, m.Func(none, nil, wt.Call(bug)))
		m.Export("fail", 0, m.Func(none, nil, wt.Call(fail)))
		m.Names("", "", "down", "", "halve")
	})
	c := compile(t, newEngine(t, Options{}), binary, Limits{}, host)
	for export, want := range map[string]struct {
		kind  fault.Kind
		words []string
	}{
		"deep":   {fault.PluginTrap, []string{"unreachable, in down < down < down < down < down < …"}},
		"divide": {fault.PluginTrap, []string{"integer divide by zero, in halve"}},
		"read":   {fault.PluginTrap, []string{"out of bounds memory access, in read"}},
		"null":   {fault.PluginTrap, []string{"invalid table access, in null"}},
		"bug":    {fault.Internal, []string{"a host function failed", "index out of range"}},
		"fail":   {fault.PluginAnswer, []string{"phase fail", "no such header"}},
	} {
		_, err := call(start(t, c, InstanceOptions{}), export)
		wantFault(t, err, want.kind, want.words...)
		if strings.Contains(err.Error(), meter.ImportModule) || strings.Contains(err.Error(), "wasm error") {
			t.Errorf("%q speaks of the inside", err)
		}
	}
}

// TestGuestAndHostMayCallEachOther nests calls as deep as is allowed, and one deeper.
func TestGuestAndHostMayCallEachOther(t *testing.T) {
	var failed error
	host := HostModule{Name: "env", Functions: []HostFunction{{
		Name: "again", Params: wasiTypes("i"), Results: wasiTypes("i"),
		Call: func(in *Instance, stack []uint64) {
			if err := in.Call(0, stack); err != nil {
				failed = err
				var f *fault.Error
				errors.As(err, &f)
				in.Fail(f)
			}
		},
	}}}
	binary := module(func(m *wt.Module) {
		f := m.Type([]byte{wt.I32}, []byte{wt.I32})
		again := m.Import("env", "again", f)
		m.Export("run", 0, m.Func(f, nil, wt.Get(0), wt.I32Eqz, wt.If(wt.I32Const(1), wt.ReturnOp),
			wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Call(again), wt.I32Const(1), wt.I32Add))
	})
	in := start(t, compile(t, newEngine(t, Options{}), binary, Limits{}, host), InstanceOptions{})
	if v := must(t, in, "run", maxNested-1); v != maxNested {
		t.Errorf("got %d", v)
	}
	one := in.FuelUsed()
	must(t, in, "run", 0)
	if in.FuelUsed() >= one {
		t.Errorf("nested calls cost %d units, one costs %d", one, in.FuelUsed())
	}
	_, err := call(in, "run", maxNested)
	wantFault(t, err, fault.PluginTrap, "call each other too deeply")
	wantFault(t, failed, fault.PluginTrap)
}
