package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/wasm/meter"
)

// outcome is everything that a run of a generated module leaves behind.
type outcome struct {
	result        uint64
	count, value  uint64
	memory        []byte
	err           string
	fuel, refills int64
}

var errRefused = errors.New("refused")

// run runs the export run of a module, metered if slice is positive.
func run(t *testing.T, r wazero.Runtime, binary []byte, arg uint64, fuel, slice int64) outcome {
	t.Helper()
	ctx := context.Background()
	compiled, err := r.CompileModule(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	defer compiled.Close(ctx)
	var o outcome
	left := fuel
	refill := func(mod api.Module) {
		o.refills++
		g := mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
		v := int64(g.Get())
		if v >= 0 {
			t.Error("refill was called above zero")
		}
		grant := min(left, slice-v)
		left -= grant
		if v+grant < 0 {
			panic(errRefused)
		}
		g.Set(uint64(v + grant))
	}
	ctx = context.WithValue(ctx, refillKey{}, refill)
	mod, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	defer mod.Close(ctx)
	out, err := mod.ExportedFunction("run").Call(ctx, arg)
	if err != nil {
		if errors.Is(err, errRefused) {
			err = errRefused
		}
		o.err = err.Error()
	} else {
		o.result = out[0]
	}
	o.count, o.value = mod.ExportedGlobal("count").Get(), mod.ExportedGlobal("value").Get()
	b, _ := mod.Memory().Read(0, mod.Memory().Size())
	o.memory = bytes.Clone(b)
	if slice > 0 {
		o.fuel = fuel - left - int64(mod.ExportedGlobal(meter.Fuel).Get())
	}
	return o
}

type refillKey struct{}

// newRuntime returns a runtime with the host functions that the rewrite imports.
func newRuntime(t testing.TB) wazero.Runtime {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2))
	t.Cleanup(func() { r.Close(ctx) })
	i32 := []api.ValueType{api.ValueTypeI32}
	_, err := r.NewHostModuleBuilder(meter.ImportModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, _ []uint64) {
		ctx.Value(refillKey{}).(func(api.Module))(mod)
	}), nil, nil).Export(meter.Refill).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, mod api.Module, stack []uint64) {
		old, ok := mod.Memory().Grow(uint32(stack[0]))
		if stack[0] = uint64(old); !ok {
			stack[0] = 1<<32 - 1
		}
	}), i32, i32).Export(meter.MemoryGrow).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRewriteKeepsWhatProgramsDo runs generated programs before and after the rewrite, with a slice of fuel for each
// charge and with large ones: results, memory and globals are the same, what is charged does not depend on the slices,
// and it is at least the number of instructions that were executed.
func TestRewriteKeepsWhatProgramsDo(t *testing.T) {
	programs := uint64(300)
	if testing.Short() {
		programs = 60
	}
	r := newRuntime(t)
	for seed := range programs {
		binary := generate(seed)
		m, err := meter.Rewrite(binary, meter.Options{MemoryPages: 3})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, arg := range []uint64{0, 5, 0xfffffff3} {
			const fuel = 1 << 40
			want := run(t, r, binary, arg, 0, 0)
			large := run(t, r, m.Binary, arg, fuel, 1<<30)
			small := run(t, r, m.Binary, arg, fuel, 1)
			if diff := differ(want, large); diff != "" {
				t.Fatalf("seed %d, argument %d: %s", seed, arg, diff)
			}
			if diff := differ(want, small); diff != "" {
				t.Fatalf("seed %d, argument %d, small slices: %s", seed, arg, diff)
			}
			if large.fuel != small.fuel {
				t.Fatalf("seed %d, argument %d: %d units in one slice, %d in many", seed, arg, large.fuel, small.fuel)
			}
			if large.fuel+100 < int64(want.count) {
				t.Fatalf("seed %d, argument %d: %d instructions were executed and %d units charged", seed, arg, want.count, large.fuel)
			}
			if large.fuel > 200 {
				if o := run(t, r, m.Binary, arg, large.fuel-200, 64); o.err != errRefused.Error() {
					t.Fatalf("seed %d, argument %d: not stopped with %d units of %d: %q", seed, arg, large.fuel-200, large.fuel, o.err)
				}
			}
		}
	}
}

func differ(a, b outcome) string {
	switch {
	case a.err != b.err:
		return fmt.Sprintf("error %q became %q", a.err, b.err)
	case a.result != b.result:
		return fmt.Sprintf("result %d became %d", a.result, b.result)
	case a.count != b.count || a.value != b.value:
		return fmt.Sprintf("globals %d, %d became %d, %d", a.count, a.value, b.count, b.value)
	case !bytes.Equal(a.memory, b.memory):
		return "the memory differs"
	}
	return ""
}
