package trial

import (
	"strings"
	"sync"
	"testing"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/wasm"
)

// plenty is fuel for measurements: what is over the gateway's default shall be seen.
const plenty = 1_000_000_000

// host runs plugins, for all tests of a folder; modules are the test's plugin, compiled for an amount of fuel.
var (
	host    = sync.OnceValues(func() (*plugintest.Host, error) { return plugintest.New(plugintest.Options{}) })
	modules = map[int64]*plugintest.Module{}
)

// Plugin starts the test's plugin without a gateway around it.
func Plugin(t testing.TB, s plugintest.Settings, fuel int64) *plugintest.Plugin {
	t.Helper()
	if race {
		t.Skip("the race detector sees nothing within a module, and has it compiled for a minute")
	}
	h, err := host()
	if err != nil {
		t.Fatal(err)
	}
	m := modules[fuel]
	if m == nil {
		if m, err = h.Load(Module(t), wasm.Limits{Fuel: fuel, MemoryPages: 256}); err != nil { // 16 MiB, as configurations say by default
			t.Fatal(err)
		}
		modules[fuel] = m
	}
	if s.Upstreams == nil {
		s.Upstreams = []string{}
	}
	p, err := m.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Fields are names and values in turn.
func Fields(list ...string) (fields []plugintest.Field) {
	for i := 0; i+1 < len(list); i += 2 {
		fields = append(fields, plugintest.Field{Name: list[i], Value: list[i+1]})
	}
	return fields
}

// Cost measures what the plugin takes for a request, and for its answer if it sees answers: time in the guest, fuel, and the
// most fuel that one request took, garbage collection included.
func Cost(b *testing.B, s plugintest.Settings, c plugintest.Case) {
	b.Helper()
	p := Plugin(b, s, plenty)
	c.Untraced = false // or calls are not recorded
	var fuel, most, took int64
	for b.Loop() {
		o, err := p.Do(c)
		if err != nil {
			b.Fatal(err)
		}
		used, ns := o.Request.Fuel, o.Request.Took.Nanoseconds()
		if o.Response != nil {
			used, ns = used+o.Response.Fuel, ns+o.Response.Took.Nanoseconds()
		}
		if o.Request.Failure != nil {
			b.Fatal(o.Request.Failure)
		}
		fuel, took, most = fuel+used, took+ns, max(most, used)
	}
	b.ReportMetric(float64(fuel)/float64(b.N), "fuel/op")
	b.ReportMetric(float64(most), "most-fuel")
	b.ReportMetric(float64(took)/float64(b.N), "guest-ns/op")
}

// Limited starts the test's plugin with the limits that a configuration has by default.
func Limited(t testing.TB, config string, upstreams ...string) *plugintest.Plugin {
	t.Helper()
	return Plugin(t, plugintest.Settings{Config: []byte(config), Upstreams: upstreams}, 0)
}

// Decide sends a request through a plugin with the gateway's default fuel; a plugin that fails, fails the test.
func Decide(t testing.TB, p *plugintest.Plugin, c plugintest.Case) *plugintest.Outcome {
	t.Helper()
	o, err := p.Do(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []*plugintest.Phase{&o.Request, o.Response} {
		if phase != nil && phase.Failure != nil {
			t.Fatalf("%.200s %.200s: %v", c.Request.Target, strings.TrimSpace(phase.Path), phase.Failure)
		}
	}
	return o
}
