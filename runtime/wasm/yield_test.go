package wasm

import (
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// counting counts slices, and what each was.
type counting struct {
	in     *Instance
	yields int
	most   int64
}

func (y *counting) Yield() {
	y.yields++
	y.most = max(y.most, y.in.fuel.get())
}

// TestLongCallsComeBackInSlices checks that a call of a hundred slices came back to the host about as often, and a short
// one never.
func TestLongCallsComeBackInSlices(t *testing.T) {
	binary := module(func(m *wt.Module) {
		m.Export("count", 0, m.Func(m.Type([]byte{wt.I32}, nil), nil, wt.Loop(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Tee(0), wt.BrIf(0))))
	})
	in := start(t, compile(t, newEngine(t, Options{}), binary, Limits{Fuel: 100 * Slice}), InstanceOptions{})
	y := &counting{in: in}
	in.Yielder = y
	must(t, in, "count", 1000)
	if y.yields != 0 {
		t.Errorf("a short call came back %d times", y.yields)
	}
	_, err := call(in, "count", 0) // 2^32 rounds
	wantFault(t, err, fault.PluginFuel)
	if y.yields < 95 || y.yields > 100 || y.most > Slice {
		t.Errorf("came back %d times, with up to %d units", y.yields, y.most)
	}
}

// parking parks its task at each slice and has the loop wake it.
type parking struct{ task *netloop.Task }

func (p parking) Yield() {
	woken := false
	p.task.Loop().Post(func() {
		woken = true
		p.task.Wake()
	})
	for !woken {
		p.task.Park()
	}
}

// TestLoopServesOthersDuringALongCall has a guest spin until another coroutine of the same loop sets a flag in its
// memory: that can only end if the guest gives the loop back.
func TestLoopServesOthersDuringALongCall(t *testing.T) {
	e := newEngine(t, Options{})
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	group.Start()
	t.Cleanup(group.Close)
	c := compile(t, e, function("wait", 1, wt.Loop(wt.I32Const(64), wt.I32Load(0), wt.I32Eqz, wt.BrIf(0))), Limits{Fuel: 1 << 39})
	in := start(t, c, InstanceOptions{})
	loop, done := group.Loop(0), make(chan error, 1)
	loop.Post(func() {
		loop.Go(func(task *netloop.Task) {
			in.Yielder = parking{task}
			loop.Post(func() { // behind what runs now: only a slice's end lets it in
				loop.Go(func(*netloop.Task) { in.put32(64, 1) })
			})
			_, err := call(in, "wait")
			done <- err
		})
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
}
