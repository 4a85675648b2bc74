package meter_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero/api"

	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

func withRefill(ctx context.Context) context.Context {
	return context.WithValue(ctx, refillKey{}, func(mod api.Module) { mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal).Set(1 << 20) })
}

// hostile are programs that never end, or would take for ever. Each is a function () -> () of type 0, as the only one.
var hostile = map[string][]byte{
	"endless loop":              wt.Loop(wt.Br(0)),
	"endless loop that works":   wt.Loop(wt.I32Const(8), wt.I32Const(1), wt.I32Store(0), wt.Br(0)),
	"endless loop by br_if":     wt.Loop(wt.I32Const(1), wt.BrIf(0)),
	"endless loop by br_table":  wt.Loop(wt.I32Const(1), wt.BrTable(0, 0, 0)),
	"br_table of itself":        wt.Loop(wt.Block(wt.Get(0), wt.BrTable(0, 1, 1)), wt.Br(0)),
	"nested loops":              wt.Loop(wt.Loop(wt.I32Const(8), wt.I32Load(0), wt.BrIf(0)), wt.Br(0)),
	"endless recursion":         wt.Call(0),
	"exponential recursion":     wt.Code(wt.Get(0), wt.I32Const(1), wt.I32Add, wt.Set(0), wt.Call(0), wt.Call(0)),
	"recursion in a loop":       wt.Loop(wt.Call(0), wt.Br(0)),
	"recursion before the loop": wt.Code(wt.Call(0), wt.Loop(wt.Br(0))),
	"recursion by table":        wt.Code(wt.I32Const(0), wt.IndirectOp, wt.U(0), wt.U(0)),
	"fill in a loop":            wt.Loop(wt.I32Const(0), wt.I32Const(0), wt.I32Const(65536), wt.MemoryFill, wt.Br(0)),
	"copy in a loop":            wt.Loop(wt.I32Const(0), wt.I32Const(1), wt.I32Const(65535), wt.MemoryCopy, wt.Br(0)),
	"growth in a loop":          wt.Loop(wt.I32Const(1), wt.MemoryGrow, wt.Drop, wt.Br(0)),
	"table growth in a loop":    wt.Loop(wt.RefNullOp, wt.FuncRef, wt.I32Const(1000), 0xfc, 15, 0, wt.Drop, wt.Br(0)),
	"references in a loop":      wt.Loop(wt.RefFunc(0), wt.Drop, wt.Br(0)),
	"dispatch to itself": wt.Loop(wt.Block(wt.Block(wt.Get(0), wt.BrTable(0, 1)),
		wt.I32Const(0), wt.Set(0), wt.Br(1))),
	"dispatch round and round": wt.Loop(wt.Block(wt.Block(wt.Block(wt.Get(0), wt.BrTable(0, 1, 2)),
		wt.I32Const(1), wt.Set(0), wt.Br(2)),
		wt.I32Const(0), wt.Set(0), wt.Br(1))),
	"dispatch by an unknown number": wt.Loop(wt.Block(wt.Block(wt.Get(0), wt.BrTable(0, 1)),
		wt.I32Const(0), wt.I32Const(0), wt.I32Add, wt.Set(0), wt.Br(1))),
	"dispatch in dispatch": wt.Loop(wt.Block(wt.Block(wt.Get(0), wt.BrTable(0, 1)),
		wt.Loop(wt.Block(wt.Block(wt.Get(0), wt.BrTable(0, 1)), wt.I32Const(0), wt.Set(0), wt.Br(3))),
		wt.I32Const(0), wt.Set(0), wt.Br(1))),
}

// TestWhatNeverEndsIsStopped runs each without more fuel than a slice, and again with slices, to its refusal.
func TestWhatNeverEndsIsStopped(t *testing.T) {
	r := newRuntime(t)
	for name, code := range hostile {
		t.Run(name, func(t *testing.T) {
			m := &wt.Module{}
			m.Memory(1)
			m.Table(wt.FuncRef, 1, 100_000)
			f := m.Func(m.Type(nil, nil), []byte{wt.I32}, code)
			m.Elements(0, f)
			m.Export("run", 0, f)
			out, err := meter.Rewrite(m.Bytes(), meter.Options{})
			if err != nil {
				t.Fatal(err)
			}
			refills := 0
			ctx := context.WithValue(t.Context(), refillKey{}, func(mod api.Module) {
				if refills++; refills > 20 {
					panic(errRefused)
				}
				mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal).Set(100_000)
			})
			mod, err := r.InstantiateWithConfig(ctx, out.Binary, anonymous())
			if err != nil {
				t.Fatal(err)
			}
			defer mod.Close(ctx)
			if _, err = mod.ExportedFunction("run").Call(ctx); !errors.Is(err, errRefused) {
				t.Errorf("got %v", err)
			}
		})
	}
}
