package native

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// tenantOptions configures the tenant router.
func tenantOptions() Options {
	return Options{
		Config: []byte(`{"default": "orders", "domain": "example.com", "tenants": {"acme": "users"}}`),
		Grants: granted,
	}
}

var benchHead = []byte(strings.ReplaceAll(simpleHead, "\n", "\r\n") + "\r\n\r\n")

// decide parses a request and lets the plugin decide about it.
func decide(t testing.TB, p *Plugin, x *exchange.Exchange, task *netloop.Task) {
	client := x.Client
	x.Reset()
	x.Task, x.Client, x.Route = task, client, "r"
	if _, err := x.Request.Parse(benchHead, nil); err != nil {
		t.Error(err)
	}
	if v, err := p.Request(x, filter.Route, 0); v != filter.Continue || err != nil {
		t.Error(v, err)
	}
}

// goModule builds a plugin in Go.
func goModule(t testing.TB, pkg string) []byte {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("WASMGATE_TEST_ALL") != "" {
			t.Fatal("go is not installed, and WASMGATE_TEST_ALL is set")
		}
		t.Skip("needs the go command to build a plugin, which is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	cmd := exec.CommandContext(ctx, tool, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// BenchmarkDecision is a request parsed, and a decision of the tenant router: choose an upstream, set two fields. "none"
// is without the decision.
func BenchmarkDecision(b *testing.B) {
	c, err := os.ReadFile("../../../plugins/tenant-router/tenant-router.wasm")
	if err != nil {
		b.Fatal(err)
	}
	run := func(b *testing.B, module []byte) {
		bench := newBench(b)
		p := bench.mustLoad(module, tenantOptions(), wasm.Limits{})
		b.ReportAllocs()
		bench.on(func(task *netloop.Task) {
			x := newExchange(b, task, simpleHead)
			b.ResetTimer()
			for range b.N {
				decide(b, p, x, task)
			}
			b.StopTimer()
		})
		b.ReportMetric(float64(p.Stats().Fuel)/float64(max(1, p.Stats().Calls)), "fuel/op")
	}
	b.Run("C", func(b *testing.B) { run(b, c) })
	b.Run("Go", func(b *testing.B) { run(b, goModule(b, "wasmgate/plugins/tenant-router/go")) })
	b.Run("none", func(b *testing.B) {
		var x exchange.Exchange
		b.ReportAllocs()
		for range b.N {
			x.Reset()
			if _, err := x.Request.Parse(benchHead, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
