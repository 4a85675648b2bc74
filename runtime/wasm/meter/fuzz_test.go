package meter_test

import (
	"bytes"
	"context"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	tenantrouter "wasmgate/plugins/tenant-router"
	"wasmgate/runtime/wasm/meter"
)

func anonymous() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions()
}

// FuzzRewrite feeds binaries to the rewrite. It must not panic, it must be deterministic, what it allocates is bounded by
// what it is given, and it must neither break a valid module nor mend an invalid one.
func FuzzRewrite(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(generate(seed))
	}
	for _, code := range hostile {
		f.Add(body(code))
	}
	f.Add(tenantrouter.Module)
	described := bytes.Clone(tenantrouter.Module)
	for _, name := range []string{".debug_info", ".debug_line", ".debug_abbrev"} {
		described = append(described, custom(name, name)...)
	}
	f.Add(described)
	ctx := context.Background()
	// The interpreter validates as the compiler does, and does not take a compiler's time for each input.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(64))
	f.Cleanup(func() { r.Close(ctx) })
	f.Fuzz(func(t *testing.T, binary []byte) {
		o := meter.Options{MemoryPages: 64, TableElements: 1000}
		before := allocated()
		m, err := meter.Rewrite(binary, o)
		if n := allocated() - before; n > maxAllocated(len(binary)) {
			t.Fatalf("%d bytes were allocated for a binary of %d", n, len(binary))
		}
		if err != nil {
			var e *meter.Error
			if !errors.As(err, &e) || e.Detail == "" {
				t.Fatalf("the error is %#v", err)
			}
			return
		}
		if again, err := meter.Rewrite(binary, o); err != nil || string(again.Binary) != string(m.Binary) {
			t.Fatal("the same module was rewritten in two ways")
		}
		was, is := validate(ctx, r, binary), validate(ctx, r, m.Binary)
		if (was == nil) != (is == nil) && !excused(was) {
			t.Fatalf("before: %v, after: %v", was, is)
		}
		if _, err := meter.Rewrite(m.Binary, o); err == nil {
			t.Fatal("a rewritten module can be rewritten again")
		}
		o.Debug = true
		described, err := meter.Rewrite(binary, o)
		if err != nil {
			t.Fatalf("with debugging information: %v", err)
		}
		if described.Debug == nil {
			return
		}
		if with := validate(ctx, r, described.Binary); (with == nil) != (is == nil) {
			t.Fatalf("without debugging information: %v, with it: %v", is, with)
		}
		for at := uint32(0); at < described.Offsets.End(); at++ {
			if from, ok := described.Offsets.Original(at); ok && int(from) >= len(binary) {
				t.Fatalf("0x%x comes from 0x%x, in a module of %d bytes", at, from, len(binary))
			}
		}
	})
}

// allocated is what this process has allocated so far. Others of it allocate too, the fuzzing itself for one, and the
// runtime counts in whole spans: hence the constant in maxAllocated.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// maxAllocated is what a binary of n bytes may have the rewrite allocate. A byte can be a whole body or element.
func maxAllocated(n int) uint64 { return 8<<20 + 2000*uint64(n) }

func validate(ctx context.Context, r wazero.Runtime, binary []byte) error {
	c, err := r.CompileModule(ctx, binary)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// excused are reasons to refuse that have nothing to do with what the rewrite keeps: limits that it lowers, and custom
// sections that it drops.
func excused(err error) bool {
	if err == nil {
		return false
	}
	for _, s := range []string{"over limit of", "section custom", "pages ("} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
