package meter_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/wasm/meter"
)

func anonymous() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions()
}

// FuzzRewrite feeds binaries to the rewrite. It must not panic, it must be deterministic, and it must neither break a
// valid module nor mend an invalid one.
func FuzzRewrite(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(generate(seed))
	}
	for _, code := range hostile {
		f.Add(body(code))
	}
	files, _ := filepath.Glob("testdata/*.wasm")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	ctx := context.Background()
	// The interpreter validates as the compiler does, and does not take a compiler's time for each input.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(64))
	f.Cleanup(func() { r.Close(ctx) })
	f.Fuzz(func(t *testing.T, binary []byte) {
		o := meter.Options{MemoryPages: 64, TableElements: 1000}
		m, err := meter.Rewrite(binary, o)
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
		before, after := validate(ctx, r, binary), validate(ctx, r, m.Binary)
		if (before == nil) != (after == nil) && !excused(before) {
			t.Fatalf("before: %v, after: %v", before, after)
		}
		if _, err := meter.Rewrite(m.Binary, o); err == nil {
			t.Fatal("a rewritten module can be rewritten again")
		}
	})
}

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
