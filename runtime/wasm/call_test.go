package wasm

import (
	"testing"

	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// BenchmarkCall is what the host core takes for a call of a guest that does nothing, apart from wazero's part: that is
// the second figure, of the same function called without the core.
func BenchmarkCall(b *testing.B) {
	binary := module(func(m *wt.Module) {
		f := m.Type([]byte{wt.I32}, []byte{wt.I32})
		m.Export("run", 0, m.Func(f, nil, wt.Get(0)))
	})
	p := NewPool(compile(b, newEngine(b, Options{}), binary, Limits{}), PoolOptions{})
	b.Cleanup(p.Close)
	f, _ := p.Compiled().Lookup("run")
	var stack [1]uint64
	b.Run("core", func(b *testing.B) {
		for b.Loop() {
			in, err := p.Get(nil, 0, 0)
			if err == nil {
				err = in.Call(f, stack[:])
			}
			if err != nil {
				b.Fatal(err)
			}
			p.Put(0, 0, in)
		}
	})
	b.Run("wazero", func(b *testing.B) {
		in, err := p.Get(nil, 0, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer p.Put(0, 0, in)
		fn := in.function(0, f)
		for b.Loop() {
			if err := fn.CallWithStack(&in.ctx, stack[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
