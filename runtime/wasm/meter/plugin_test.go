package meter_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	tenantrouter "wasmgate/plugins/tenant-router"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/sdk/abi"
)

// tenantRouterConfig has enough tenants for a table that is looked up in earnest.
var tenantRouterConfig = func() []byte {
	b := []byte(`{"default":"users","domain":"example.com","tenants":{`)
	for i := range 100 {
		b = fmt.Appendf(b, `"tenant-%d":"upstream-%d",`, i, i%7)
	}
	return append(b, `"acme":"acme-upstream"}}`...)
}()

// goTenantRouter builds the tenant router in Go.
func goTenantRouter(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tenant-router.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, "wasmgate/plugins/tenant-router/go")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if message, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, message)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tenantRouterInC(testing.TB) []byte { return tenantrouter.Module }

// tenantRouters are the same plugin from two compilers.
var tenantRouters = []struct {
	name   string
	binary func(testing.TB) []byte
}{{"C", tenantRouterInC}, {"Go", goTenantRouter}}

// bigSlice is fuel that lasts for every call that these tests make.
const bigSlice = 1 << 36

// plugin is an instance of a module with the native ABI, called without the host core, so that nothing but the module is
// measured.
type plugin struct {
	ctx      context.Context
	memory   api.Memory
	request  api.Function
	fuel     api.MutableGlobal // nil: not metered
	in, out  uint32            // the arenas
	need     uint64            // of the view
	stack    [1]uint64
	manifest []byte
}

// newPlugin instantiates and configures a module.
func newPlugin(t testing.TB, binary []byte, metered bool) *plugin {
	t.Helper()
	ctx := t.Context()
	r := newRuntime(t)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	if _, err := r.NewHostModuleBuilder(abi.Module).
		NewFunctionBuilder().WithFunc(func(_, _, _ uint32) {}).Export(abi.ImportLog).
		NewFunctionBuilder().WithFunc(func(_, _, _, _, _, _ uint32) uint32 { return 0 }).Export(abi.ImportGetHeader).
		Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	if metered {
		m, err := meter.Rewrite(binary, meter.Options{MemoryPages: 1024})
		if err != nil {
			t.Fatal(err)
		}
		binary = m.Binary
	}
	ctx = withRefill(ctx)
	mod, err := r.InstantiateWithConfig(ctx, binary, anonymous())
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{ctx: ctx, memory: mod.Memory(), request: mod.ExportedFunction(abi.ExportRequest)}
	if metered {
		p.fuel = mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
	}
	if start := mod.ExportedFunction(abi.ExportInit); start != nil {
		p.must(t, start)
	}
	arena := mod.ExportedFunction(abi.ExportArena)
	_, p.in = abi.Unpack(p.must(t, arena, uint64(abi.RequestArena)))
	_, p.out = abi.Unpack(p.must(t, arena, uint64(abi.AnswerArena)))
	config := abi.AppendConfig(nil, &abi.Config{Minor: abi.Minor, MaxAnswer: 1 << 20, Name: []byte("p"), Bytes: tenantRouterConfig})
	p.memory.Write(p.in, config)
	code, n := abi.Unpack(p.must(t, mod.ExportedFunction(abi.ExportConfigure), uint64(len(config))))
	p.manifest = bytes.Clone(p.answer(n))
	if abi.Code(code) != abi.CodeOK {
		t.Fatalf("configure answers %d: %q", code, p.manifest)
	}
	return p
}

func (p *plugin) answer(n uint32) []byte {
	b, _ := p.memory.Read(p.out, n)
	return b
}

func (p *plugin) must(t testing.TB, f api.Function, args ...uint64) uint64 {
	t.Helper()
	if p.fuel != nil {
		p.fuel.Set(bigSlice)
	}
	result, err := f.Call(p.ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	if len(result) == 0 {
		return 0
	}
	return result[0]
}

// view writes the view of a request with that path and value of X-Tenant.
func (p *plugin) view(authority, path, tenant string) {
	b, _ := p.memory.Read(p.in, 4096)
	var w abi.ViewWriter
	w.Begin(b, &abi.Head{Role: abi.RoleRoute, Time: 1_700_000_000_000, Seed: 42}, 1)
	w.FieldString(abi.FieldMethod, "GET")
	w.FieldString(abi.FieldScheme, "https")
	w.FieldString(abi.FieldAuthority, authority)
	w.FieldString(abi.FieldPath, path)
	w.FieldString(abi.FieldClient, "192.0.2.7")
	w.FieldString(abi.FieldRoute, "users")
	if tenant != "" {
		w.Slot(0, []byte(tenant))
	}
	p.need = uint64(w.Need())
}

// run calls the guest with the view.
func (p *plugin) run() error {
	p.stack[0] = p.need
	return p.request.CallWithStack(p.ctx, p.stack[:])
}

// call is run with the answer and what it cost.
func (p *plugin) call() (answer uint64, used int64, err error) {
	if p.fuel != nil {
		p.fuel.Set(bigSlice)
	}
	if err = p.run(); err == nil && p.fuel != nil {
		used = bigSlice - int64(p.fuel.Get())
	}
	return p.stack[0], used, err
}

// TestRewriteKeepsWhatPluginsAnswer compares what the tenant routers answer to many requests with what they answer
// without the rewrite: codes, operations and manifests. Each call is paid for.
func TestRewriteKeepsWhatPluginsAnswer(t *testing.T) {
	for _, router := range tenantRouters {
		t.Run(router.name, func(t *testing.T) {
			binary := router.binary(t)
			plain, metered := newPlugin(t, binary, false), newPlugin(t, binary, true)
			if !bytes.Equal(plain.manifest, metered.manifest) {
				t.Errorf("the manifest %q became %q", plain.manifest, metered.manifest)
			}
			answers := map[string]bool{}
			for _, authority := range []string{"x", "acme.example.com", "TENANT-7.Example.COM", ".example.com", ""} {
				for _, path := range []string{"/", "/admin", "/admin/x", "/administer"} {
					for _, tenant := range []string{"", "acme", "ACME", "tenant-42", "nobody", string(bytes.Repeat([]byte("a"), 2000))} {
						plain.view(authority, path, tenant)
						metered.view(authority, path, tenant)
						want, _, err := plain.call()
						if err != nil {
							t.Fatal(err)
						}
						got, used, err := metered.call()
						if err != nil {
							t.Fatal(err)
						}
						code, n := abi.Unpack(want)
						if abi.Code(code) != abi.CodeOperations {
							n = 0
						}
						a, b := plain.answer(n), metered.answer(n)
						if got != want || !bytes.Equal(a, b) {
							t.Errorf("%s %s %s: %x %q became %x %q", authority, path, tenant, want, a, got, b)
						}
						if used <= 0 {
							t.Errorf("%s %s %s: a call for %d units", authority, path, tenant, used)
						}
						answers[fmt.Sprint(want, string(a))] = true
					}
				}
			}
			if len(answers) < 4 {
				t.Errorf("only %d different answers: the requests test nothing", len(answers))
			}
		})
	}
}
