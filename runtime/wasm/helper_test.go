package wasm

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// newEngine returns an engine that must have given everything back when the test is over.
func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	if o.CacheDir == "" {
		o.NoCache = true
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if e.MemoryInUse() != 0 || e.Instances() != 0 {
			t.Errorf("%d bytes of guest memory and %d instances are left", e.MemoryInUse(), e.Instances())
		}
		// A goroutine that has told that it is done may still be on its way out.
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
			runtime.Gosched()
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, %d before", n, goroutines)
		}
	})
	return e
}

// module returns the binary that f builds.
func module(f func(m *wt.Module)) []byte {
	m := &wt.Module{}
	f(m)
	return m.Bytes()
}

// function returns a module with a memory of that many pages and one exported function without parameters and results.
func function(name string, pages uint32, code ...any) []byte {
	return module(func(m *wt.Module) {
		m.Memory(pages)
		m.Export("memory", 2, 0)
		m.Export(name, 0, m.Func(m.Type(nil, nil), []byte{wt.I32}, code...))
	})
}

// constant returns a module whose export run returns v.
func constant(v int32) []byte {
	return module(func(m *wt.Module) { m.Export("run", 0, m.Func(m.Type(nil, []byte{wt.I32}), nil, wt.I32Const(v))) })
}

// compile compiles a module with those hosts; the handle is closed with the test.
func compile(t testing.TB, e *Engine, binary []byte, l Limits, hosts ...HostModule) *Compiled {
	t.Helper()
	c, err := e.Compile(context.Background(), "p", binary, abiOf(hosts...), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func abiOf(hosts ...HostModule) ABI {
	return ABI{Name: "test", Hosts: func(*meter.Module) ([]HostModule, error) { return hosts, nil }}
}

// start makes an instance that is closed with the test.
func start(t testing.TB, c *Compiled, o InstanceOptions) *Instance {
	t.Helper()
	in, err := c.Instantiate(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	return in
}

// call calls an export and returns the first of stack afterwards.
func call(in *Instance, name string, args ...uint64) (uint64, error) {
	f, ok := in.unit.lookup(name)
	if !ok {
		return 0, errors.New("there is no " + name)
	}
	stack := append(args, make([]uint64, 1)...)
	err := in.Call(f, stack)
	return stack[0], err
}

// must is call that must go well.
func must(t testing.TB, in *Instance, name string, args ...uint64) uint64 {
	t.Helper()
	v, err := call(in, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantFault checks an error's kind, plugin and words, and that the error says it was the plugin.
func wantFault(t testing.TB, err error, kind fault.Kind, words ...string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("%v (%T) is no *fault.Error", err, err)
	}
	if f.Kind != kind || f.Plugin != "p" || f.Status < 500 || kind != fault.Internal && f.Source != fault.Plugin {
		t.Errorf("kind %v, plugin %q, source %v, status %d: %v", f.Kind, f.Plugin, f.Source, f.Status, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}
