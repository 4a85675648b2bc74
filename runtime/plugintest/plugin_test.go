package plugintest

import (
	"fmt"
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
