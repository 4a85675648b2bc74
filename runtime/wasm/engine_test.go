package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// TestSameBinaryIsCompiledOnce compiles a module from many goroutines at once: they share what was compiled, and with
// the last handle it is gone. Other limits or another ABI are something else.
func TestSameBinaryIsCompiledOnce(t *testing.T) {
	e := newEngine(t, Options{})
	var built atomic.Int64
	abi := ABI{Name: "test", Hosts: func(*meter.Module) ([]HostModule, error) {
		built.Add(1)
		return nil, nil
	}}
	handles := make([]*Compiled, 16)
	var wg sync.WaitGroup
	for i := range handles {
		wg.Go(func() {
			c, err := e.Compile(context.Background(), fmt.Sprint("p", i), constant(1), abi, Limits{})
			if err != nil {
				t.Error(err)
				return
			}
			handles[i] = c
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, c := range handles {
		if c.unit != handles[0].unit || c.Name() != fmt.Sprint("p", i) {
			t.Errorf("handle %d does not share", i)
		}
	}
	if n := built.Load(); n != 1 {
		t.Errorf("compiled %d times", n)
	}
	abi.Name = "other"
	for _, l := range []Limits{{}, {MemoryPages: 7}} {
		c, err := e.Compile(context.Background(), "p", constant(1), abi, l)
		if err != nil {
			t.Fatal(err)
		}
		if c.unit == handles[0].unit {
			t.Error("another ABI or other limits share")
		}
		c.Close()
	}
	again := handles[0].Again("more")
	if again.unit != handles[0].unit || again.Name() != "more" {
		t.Error("another handle is of another module")
	}
	for _, c := range handles {
		c.Close()
	}
	in, err := again.Instantiate(InstanceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	for _, c := range handles {
		c.Close()
		c.Close()
	}
	if err := e.Close(); err == nil || !strings.Contains(err.Error(), "1 compiled modules are still in use") {
		t.Errorf("Close with an instance left: %v", err)
	}
	if v := must(t, in, "run"); v != 1 {
		t.Errorf("an instance without a handle returns %d", v)
	}
	in.Close()
	in.Close()
	if _, err := e.Compile(context.Background(), "p", constant(1), abi, Limits{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Compile after Close: %v", err)
	}
}

// TestRefusedModules are modules that cannot be used: the message says which plugin and why, and nothing is left.
func TestRefusedModules(t *testing.T) {
	e := newEngine(t, Options{})
	host := HostModule{Name: "env", Functions: []HostFunction{
		{Name: "there", Call: func(*Instance, []uint64) {}},
		{Name: "other", Params: wasiTypes("i"), Results: wasiTypes("I"), Call: func(*Instance, []uint64) {}},
	}}
	abi := abiOf(host)
	imports := module(func(m *wt.Module) {
		none, some := m.Type(nil, nil), m.Type([]byte{wt.I32, wt.F64}, []byte{wt.I64})
		m.Import("env", "there", none)
		m.Import("env", "other", none)
		m.Import("env", "missing", some)
		m.Import("nowhere", "gone", none)
	})
	for _, tc := range []struct {
		binary []byte
		words  []string
	}{
		{[]byte("not wasm"), []string{"not a WebAssembly binary"}},
		{function("run", 1, 0x12, 0), []string{"tail calls not supported", "function 0"}},
		{function("run", 300), []string{"256"}},
		{imports, []string{
			"imports what the host does not have", "env.missing(i32,f64)->(i64)", "nowhere.gone()->()",
			"env.other()->() (it is (i32)->(i64))",
		}},
		{function("run", 1, wt.I32Add), []string{"run"}},
	} {
		for range 2 {
			_, err := e.Compile(context.Background(), "p", tc.binary, abi, Limits{})
			wantFault(t, err, fault.PluginUnavailable, append(tc.words, "compile")...)
			if strings.Contains(err.Error(), "env.there") {
				t.Errorf("%q complains about what is there", err)
			}
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Compile(gone, "p", constant(1), abi, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad := ABI{Name: "bad", Hosts: func(*meter.Module) ([]HostModule, error) { return nil, errors.New("no major version 9") }}
	_, err := e.Compile(context.Background(), "p", constant(1), bad, Limits{})
	wantFault(t, err, fault.PluginUnavailable, "no major version 9")
}

// TestExportsAreFoundByNameAndType checks Func and its messages.
func TestExportsAreFoundByNameAndType(t *testing.T) {
	c := compile(t, newEngine(t, Options{}), constant(4), Limits{})
	f, err := c.Func("run", nil, []meter.ValueType{meter.I32})
	if err != nil {
		t.Fatal(err)
	}
	stack := make([]uint64, 1)
	if err := start(t, c, InstanceOptions{}).Call(f, stack); err != nil || stack[0] != 4 {
		t.Errorf("%d, %v", stack[0], err)
	}
	if _, err := c.Func("walk", nil, nil); err == nil || !strings.Contains(err.Error(), "does not export the function walk") {
		t.Errorf("walk: %v", err)
	}
	if _, err := c.Func("run", []meter.ValueType{meter.I64}, nil); err == nil || !strings.Contains(err.Error(), "exports run()->(i32), not run(i64)->()") {
		t.Errorf("run: %v", err)
	}
}

// TestStartFunctionsRunAndMayFail has the start function and _initialize in one module; each can spoil the start.
func TestStartFunctionsRunAndMayFail(t *testing.T) {
	build := func(start, initialize []byte) []byte {
		return module(func(m *wt.Module) {
			none := m.Type(nil, nil)
			m.Memory(1, 100)
			g := m.Global(wt.I32, true, wt.I32Const(0))
			m.Start(m.Func(none, nil, wt.I32Const(40), wt.GlobalSet(g), start))
			m.Export("_initialize", 0, m.Func(none, nil, wt.GlobalGet(g), wt.I32Const(2), wt.I32Add, wt.GlobalSet(g), initialize))
			m.Export("run", 0, m.Func(m.Type(nil, []byte{wt.I32}), nil, wt.GlobalGet(g)))
		})
	}
	e := newEngine(t, Options{})
	l := Limits{StartFuel: 1_000_000}
	if v := must(t, start(t, compile(t, e, build(nil, nil), l), InstanceOptions{}), "run"); v != 42 {
		t.Errorf("got %d", v)
	}
	grow := wt.Code(wt.I32Const(5), wt.MemoryGrow, wt.Drop)
	for _, tc := range []struct {
		start, initialize []byte
		kind              fault.Kind
		words             []string
	}{
		{wt.Code(wt.Unreachable), nil, fault.PluginTrap, []string{"unreachable", "start"}},
		{wt.Code(grow, wt.Unreachable), nil, fault.PluginTrap, []string{"unreachable"}},
		{wt.Loop(wt.Br(0)), nil, fault.PluginFuel, []string{"out of fuel after 1000000 units"}},
		{nil, wt.Loop(wt.Br(0)), fault.PluginFuel, []string{"_initialize"}},
		{nil, wt.Code(grow, wt.Unreachable), fault.PluginTrap, []string{"_initialize", "unreachable"}},
	} {
		c := compile(t, e, build(tc.start, tc.initialize), l)
		_, err := c.Instantiate(InstanceOptions{})
		wantFault(t, err, tc.kind, tc.words...)
	}
}

// TestAPanicIsAModuleThatCannotBeUsed has an ABI fail over a module as no module should make it.
func TestAPanicIsAModuleThatCannotBeUsed(t *testing.T) {
	e := newEngine(t, Options{})
	abi := ABI{Name: "test", Hosts: func(*meter.Module) ([]HostModule, error) { panic("a bug") }}
	_, err := e.Compile(t.Context(), "p", constant(1), abi, Limits{})
	wantFault(t, err, fault.PluginUnavailable, "reading the module failed: a bug")
	if c, err := e.Compile(t.Context(), "p", constant(1), abiOf(), Limits{}); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}
