package wasm

import (
	"testing"
	"time"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// TestParkedInstancesMakeRoomForOthers has instances whose guests wait in the host replaced by others, up to a bound, and
// what that leaves closed sooner than others.
func TestParkedInstancesMakeRoomForOthers(t *testing.T) {
	p := newPool(t, PoolOptions{MaxPerLoop: 1, MaxParked: 2, MaxWait: time.Second})
	all := []*Instance{get(t, p, nil, 0)}
	if _, err := p.Get(nil, 0, 0); err == nil {
		t.Fatal("two of one")
	}
	for range 2 {
		p.Park(0)
		all = append(all, get(t, p, nil, 0))
	}
	p.Park(0)
	if _, err := p.Get(nil, 0, 0); err == nil {
		t.Fatal("more than may be parked")
	}
	if s := p.Stats(0); s.Parked != 3 || s.Live != 3 {
		t.Errorf("%+v", s)
	}
	for range 3 {
		p.Unpark(0)
	}
	for _, in := range all {
		p.Put(0, 0, in)
	}
	p.Sweep(0, int64(surplusAfter)-1)
	wantStats(t, p, "live 3, in use 0, idle 3, waiting 0")
	p.Sweep(0, int64(surplusAfter))
	wantStats(t, p, "live 1, in use 0, idle 1, waiting 0")
}

// TestWhoWaitsIsServedWhenAnInstanceIsParked has a task wait for the only instance, whose guest is parked then.
func TestWhoWaitsIsServedWhenAnInstanceIsParked(t *testing.T) {
	p := newPool(t, PoolOptions{MaxPerLoop: 1})
	p.SetParking(1, time.Second)
	first := get(t, p, nil, 0)
	task := &script{parks: []func(){func() { p.Park(0) }}}
	second := get(t, p, task, 0)
	if second == first || task.wakes != 1 {
		t.Errorf("woken %d times", task.wakes)
	}
	p.Unpark(0)
	p.Put(0, 0, first)
	p.Put(0, 0, second)
}

// TestWhereMemoryEndsOneWaits has no memory for a second instance: the first one serves both in turn.
func TestWhereMemoryEndsOneWaits(t *testing.T) {
	binary := module(func(m *wt.Module) {
		m.Memory(2, 2)
		m.Export("fine", 0, m.Func(m.Type(nil, nil), nil))
	})
	e := newEngine(t, Options{MemoryTotal: 3 << 16})
	p := NewPool(compile(t, e, binary, Limits{}), PoolOptions{MaxWait: time.Second})
	t.Cleanup(p.Close)
	first := get(t, p, nil, 0)
	if _, err := p.Get(nil, 0, 0); fault.From(err).Kind != fault.PluginMemory {
		t.Fatalf("without anyone to wait: %v", err)
	}
	p.loops[0].backoff.Succeed()
	task := &script{parks: []func(){func() { p.Put(0, 0, first) }}}
	if in := get(t, p, task, 0); in != first {
		t.Error("another instance, without memory")
	}
	task = &script{parks: []func(){func() { p.Sweep(0, 2*second) }}}
	if _, err := p.Get(task, 0, 0); fault.From(err).Kind != fault.PluginUnavailable {
		t.Errorf("after waiting: %v", err)
	}
	if ok, _ := p.loops[0].backoff.Ready(0); !ok {
		t.Error("a want of memory counts as a failure of the plugin")
	}
	p.Put(0, 0, first)
}
