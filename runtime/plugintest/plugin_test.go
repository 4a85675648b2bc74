package plugintest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	tenantrouter "wasmgate/plugins/tenant-router"
	"wasmgate/runtime/wasm"
)

const tenantConfig = `{"default":"users","domain":"example.com","tenants":{"acme":"acme-upstream"}}`

func newHost(t *testing.T) *Host {
	t.Helper()
	h, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := h.Instances(); n != 0 {
			t.Errorf("%d instances are left", n)
		}
		h.Close()
	})
	return h
}

func startPlugin(t *testing.T, h *Host, module []byte, s Settings) *Plugin {
	t.Helper()
	m, err := h.Load(module, wasm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	p, err := m.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func do(t *testing.T, p *Plugin, c Case) *Outcome {
	t.Helper()
	o, err := p.Do(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDecisions(t *testing.T) {
	p := startPlugin(t, newHost(t), tenantrouter.Module, Settings{Config: []byte(tenantConfig)})
	if got := p.Manifest().Upstreams; fmt.Sprint(got) != "[users acme-upstream]" {
		t.Errorf("it asks for %q", got)
	}
	for _, c := range []struct {
		request  Message
		decision string
		upstream string
		status   int
		set      string
	}{
		{Message{Fields: []Field{{"X-Tenant", "ACME"}}}, Routed, "acme-upstream", 0, "map[x-routed-by:[tenant-router] x-tenant-id:[acme]]"},
		{Message{Authority: "acme.example.com"}, Routed, "acme-upstream", 0, "map[x-routed-by:[tenant-router] x-tenant-id:[acme]]"},
		{Message{Fields: []Field{{"X-Tenant-Id", "root"}}}, Routed, "users", 0, "map[x-routed-by:[tenant-router] x-tenant-id:[default]]"},
		{Message{Target: "/admin/x?y=1"}, Denied, "", 403, "map[]"},
	} {
		o := do(t, p, Case{Request: c.request}).Request
		if o.Decision != c.decision || o.Upstream != c.upstream || o.Status != c.status || fmt.Sprint(o.Set) != c.set || o.Failure != nil {
			t.Errorf("%+v: %+v", c.request, o)
		}
		if len(o.Calls) != 1 || o.Fuel < 100 || o.Took <= 0 {
			t.Errorf("%+v: calls %+v, fuel %d, %v", c.request, o.Calls, o.Fuel, o.Took)
		}
	}
	if _, err := p.Do(Case{Request: Message{Target: "no path"}}); err == nil || !strings.Contains(err.Error(), "the request is none") {
		t.Errorf("a request that is none: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		module   []byte
		settings Settings
		limits   wasm.Limits
		want     string
	}{
		{tenantrouter.Module, Settings{}, wasm.Limits{}, "the plugin refuses its configuration: config.default is missing"},
		{tenantrouter.Module, Settings{Config: []byte(tenantConfig), Upstreams: []string{"users"}}, wasm.Limits{}, "not granted: acme-upstream"},
		{tenantrouter.Module, Settings{}, wasm.Limits{MemoryPages: 1}, "more than the limit of 1"},
		{[]byte("hello"), Settings{}, wasm.Limits{}, "not a WebAssembly binary"},
		{[]byte("\x00asm\x01\x00\x00\x00"), Settings{}, wasm.Limits{}, "speaks no plugin ABI"},
	} {
		m, err := h.Load(c.module, c.limits)
		if err == nil {
			_, err = m.Start(c.settings)
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestMeasure(t *testing.T) {
	p := startPlugin(t, newHost(t), tenantrouter.Module, Settings{Config: []byte(tenantConfig)})
	f, err := p.Measure(Case{Request: Sample}, 0, 500)
	if err != nil {
		t.Fatal(err)
	}
	traced := do(t, p, Case{Request: Sample}).Request.Fuel
	r := f.Request
	if r.Calls != 10 || r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.PerSecond <= 0 || r.Fuel > traced || r.Fuel < traced/2 || r.Failed != 0 || f.Response != nil || f.Memory < 1<<16 {
		t.Errorf("%+v, traced %d", f, traced)
	}
	s, err := MeasureStarts(tenantrouter.Module, wasm.Limits{}, Settings{Config: []byte(tenantConfig)}, filepath.Join(t.TempDir(), "cache"))
	if err != nil || s.Cached >= s.Compile || s.Instance <= 0 || s.Memory < 1<<16 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestInspect(t *testing.T) {
	h := newHost(t)
	i := h.Inspect("tenant-router.wasm", tenantrouter.Module, wasm.Limits{}, Settings{Config: []byte(tenantConfig)})
	if i.ABI != "native" || i.Version != "1" || i.Refused != nil || i.Names || i.Lines || i.Size != len(tenantrouter.Module) || len(i.Sections) < 8 || i.Functions < 5 {
		t.Errorf("%+v", i)
	}
	if w := i.Wants; w == nil || fmt.Sprint(w.Phases, w.RequestHeaders, w.Upstreams) != "[request] [x-tenant] [users acme-upstream]" || w.Clock {
		t.Errorf("%+v", i.Wants)
	}
	if s := i.Sample; s == nil || s.Decision != Routed || s.Fuel < 100 {
		t.Errorf("%+v", i.Sample)
	}
	if i := h.Inspect("x", tenantrouter.Module, wasm.Limits{}, Settings{}); i.Wants == nil || !strings.Contains(i.Wants.Refused, "config.default is missing") || i.Sample != nil {
		t.Errorf("without its configuration: %+v", i)
	}
	for _, c := range []struct {
		exports               []string
		abi, version, refused string
	}{
		{[]string{"nothing"}, "", "", "speaks no plugin ABI"},
		{[]string{"wasmgate_v2_request"}, "native", "2", "version 2 of the native plugin ABI"},
		{[]string{"wasmgate_v1_request"}, "native", "1", "does not export its memory"},
		{[]string{"proxy_abi_version_0_2_1"}, "Proxy-Wasm", "0.2.1", "memory"},
		{[]string{"handle_request", "handle_response"}, "http-wasm", "http-handler", "memory"},
	} {
		i := h.Inspect("x.wasm", exporting(c.exports...), wasm.Limits{}, Settings{})
		if i.ABI != c.abi || i.Version != c.version || !strings.Contains(strings.Join(i.Refused, ""), c.refused) || i.Language != "Rust 2021" || fmt.Sprint(i.Tools) != "[rustc 1.63.0]" {
			t.Errorf("%s: %+v", c.exports, i)
		}
	}
	if i := h.Inspect("hello.c", []byte("/* a text whose bytes could be taken for sections */"), wasm.Limits{}, Settings{}); len(i.Sections) > 0 || len(i.Refused) == 0 {
		t.Errorf("a text: %+v", i)
	}
	// A module that nothing is wrong with but that a callback is missing is refused by the gateway, whatever its configuration.
	if i := h.Inspect("x.wasm", withMemory("handle_response"), wasm.Limits{}, Settings{}); len(i.Refused) != 1 || !strings.Contains(i.Refused[0], "handle_request") || i.Wants != nil {
		t.Errorf("%+v, %+v", i, i.Wants)
	}
	for n := range len(tenantrouter.Module) / 40 { // whatever is cut off, something is said
		if i := h.Inspect("cut", tenantrouter.Module[:40*n], wasm.Limits{}, Settings{}); len(i.Refused) == 0 {
			t.Errorf("%d bytes: %+v", 40*n, i)
		}
	}
}

// withMemory is a module of http-wasm that exports its memory and an empty function.
func withMemory(name string) []byte {
	section := func(id byte, content string) string { return string([]byte{id, byte(len(content))}) + content }
	text := func(s string) string { return string([]byte{byte(len(s))}) + s }
	return []byte("\x00asm\x01\x00\x00\x00" + section(1, "\x01\x60\x00\x00") +
		section(2, "\x01"+text("http_handler")+text("next")+"\x00\x00") + section(3, "\x01\x00") + section(5, "\x01\x00\x01") +
		section(7, "\x02"+text(name)+"\x00\x01"+text("memory")+"\x02\x00") + section(10, "\x01\x02\x00\x0b"))
}

// exporting is a module that exports an empty function, and says what made it.
func exporting(names ...string) []byte {
	section := func(id byte, content string) string { return string([]byte{id, byte(len(content))}) + content }
	exports := string([]byte{byte(len(names))})
	for _, n := range names {
		exports += string([]byte{byte(len(n))}) + n + "\x00\x00"
	}
	return []byte("\x00asm\x01\x00\x00\x00" + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") +
		section(7, exports) + section(10, "\x01\x02\x00\x0b") +
		section(0, "\x09producers\x02\x08language\x01\x04Rust\x042021\x0cprocessed-by\x01\x05rustc\x061.63.0"))
}
