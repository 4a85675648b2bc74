package wasm

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// TestKeeper has a plugin's instances used, fail and end on two loops, as the filters of all ABIs do.
func TestKeeper(t *testing.T) {
	e := newEngine(t, Options{})
	c, err := e.Compile(t.Context(), "p", module(func(m *wt.Module) {
		none := m.Type(nil, nil)
		m.Memory(2)
		m.Export("trap", 0, m.Func(none, nil, wt.Unreachable))
	}), abiOf(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	trap, _ := c.Lookup("trap")
	group, err := netloop.New(netloop.Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	group.Start()
	t.Cleanup(group.Close)
	var mu sync.Mutex
	var lines []Line
	report := NewReporter(ReporterOptions{Plugin: "p", Loops: 2, Log: func(l Line) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, l)
	}})
	starts, refuse := 0, errors.New("wrong configuration")
	k := NewKeeper(c, KeeperOptions{Plugin: "p", Report: report, Pool: PoolOptions{
		Loops: 2, Backoff: &Backoff{}, Breaker: &Breaker{Failures: 1, Percent: 1, Window: 1e12, Open: 1e12},
		Init: func(*Instance) error {
			if starts++; starts == 2 {
				return refuse
			}
			return nil
		},
	}})
	if err := k.Warm(); err == nil || !strings.Contains(err.Error(), "plugin p, phase start: wrong configuration") {
		t.Errorf("a start that fails: %v", err)
	}
	on := func(i int, fn func(task *netloop.Task)) {
		done := make(chan struct{})
		l := group.Loop(i)
		l.Post(func() {
			l.Go(func(task *netloop.Task) {
				defer close(done)
				fn(task)
			})
		})
		<-done
	}
	for i := range 2 {
		on(i, func(task *netloop.Task) {
			l := task.Loop()
			in, err := k.Get(task)
			if err != nil {
				t.Error(err)
				return
			}
			k.Called(l, 7)
			k.Put(l, in)
			in, _ = k.Get(task)
			k.Drop(l, in)
			in, err = k.Get(task)
			if err != nil {
				t.Errorf("after a call that nobody can be blamed for: %v", err)
				return
			}
			failed := k.Failed(l, in.Call(trap, nil), "request")
			if failed.Kind != fault.PluginTrap || failed.Phase != "request" || failed.Plugin != "p" {
				t.Errorf("%+v", failed)
			}
			k.Discard(l, in, "request")
			if _, err := k.Get(task); err == nil {
				t.Error("the breaker is not open")
			}
		})
	}
	s := k.Stats()
	if s.Calls != 2 || s.Fuel != 14 || s.Failures[fault.PluginTrap] != 2 || s.Discarded != 2 || s.BreakerOpened != 2 || !s.BreakerOpen || s.Live != 0 {
		t.Errorf("%+v", s)
	}
	texts := ""
	for _, l := range lines {
		texts += l.Text + "\n"
	}
	if len(lines) != 2 || !strings.Contains(texts, "plugin failed: plugin_trap: plugin p, phase request: unreachable") ||
		!strings.Contains(texts, "requests follow on_error (fail_closed) without a call") {
		t.Errorf("said: %s", texts)
	}
	k.Close()
	k.Close()
}

// TestGrantedFuel gives a guest of 1,000 units 10,000 more with each call of the host, and of those it takes 7,000 or so.
func TestGrantedFuel(t *testing.T) {
	host := HostModule{Name: "env", Functions: []HostFunction{{Name: "work", Fuel: 1, Call: func(in *Instance, _ []uint64) { in.Grant(10_000) }}}}
	binary := module(func(m *wt.Module) {
		none, number := m.Type(nil, nil), m.Type([]byte{wt.I32}, nil)
		work := m.Import("env", "work", none)
		spin := wt.Loop(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Tee(0), wt.BrIf(0))
		m.Export("granted", 0, m.Func(number, nil, wt.Call(work), spin))
		m.Export("alone", 0, m.Func(number, nil, spin))
	})
	c := compile(t, newEngine(t, Options{}), binary, Limits{Fuel: 1000}, host)
	in := start(t, c, InstanceOptions{})
	must(t, in, "granted", 1400)
	if used := in.FuelUsed(); used < 5_000 || used > 9_000 {
		t.Errorf("%d units", used)
	}
	must(t, in, "alone", 100)
	if used := in.FuelUsed(); used < 300 || used > 1000 {
		t.Errorf("%d units", used)
	}
	_, err := call(in, "granted", 100_000)
	wantFault(t, err, fault.PluginFuel, "out of fuel after 11000 units")
	in = start(t, c, InstanceOptions{})
	_, err = call(in, "alone", 1400)
	wantFault(t, err, fault.PluginFuel, "out of fuel after 1000 units")
}
