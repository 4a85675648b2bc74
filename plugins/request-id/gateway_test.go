package main

import (
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"app.internal:8080": trial.Echo("app")})
	ids := map[string]bool{}
	for _, path := range []string{"/", "/a", "/denied"} {
		a := g.Get(path, "X-Request-Id", "forged", "Baggage", "role=admin", "X-Tenant", "acme inc", "X-Forwarded-For", "198.51.100.7")
		id := a.Header.Get("X-Request-Id")
		if !uuid7.MatchString(id) || ids[id] {
			t.Errorf("%s: %q", path, id)
		}
		ids[id] = true
		if path != "/denied" && (a.Field("x-request-id") != id || a.Field("baggage") != "entry=edge,tenant=acme%20inc") {
			t.Errorf("%s: %s", id, a.Text)
		}
	}
	a := g.Get("/", "X-Request-Id", "from-inside", "Baggage", "role=admin,tenant=forged", "X-Forwarded-For", "10.1.2.3")
	if a.Field("x-request-id") != "from-inside" || a.Header.Get("X-Request-Id") != "from-inside" || a.Field("baggage") != "entry=edge,role=admin" {
		t.Errorf("%v %s", a.Header, a.Text)
	}
}

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	p := trial.Limited(t, `{"baggage":{"path":"{path}","tenant":"{header.x-tenant}"},"trust":true}`)
	for name, m := range map[string]plugintest.Message{
		"many members": {Fields: trial.Fields("baggage", strings.Repeat("a=b,", 8000))},
		"no members":   {Fields: trial.Fields("baggage", strings.Repeat(",", 32_000))},
		"long key":     {Fields: trial.Fields("baggage", strings.Repeat("a", 32_000))},
		"many fields":  {Fields: trial.Fields(strings.Split(strings.Repeat("baggage|k=v|", 300)+"a|b", "|")...)},
		"spaces":       {Fields: trial.Fields("baggage", strings.Repeat(" ,", 15_000)+"a=b")},
		"long value":   {Fields: trial.Fields("x-tenant", strings.Repeat("\xff", 8192), "x-request-id", strings.Repeat("a", 20_000))},
	} {
		o := trial.Decide(t, p, plugintest.Case{Request: m, Response: &plugintest.Message{}})
		t.Logf("%s: %s, %d fuel", name, o.Request.Decision, o.Request.Fuel)
	}
}

func BenchmarkIdentifier(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(`{"answer":false}`)}, plugintest.Case{})
}

func BenchmarkBaggage(b *testing.B) {
	settings := plugintest.Settings{Config: []byte(`{"answer":false,"trust":true,"baggage":{"tenant":"{header.x-tenant}","path":"{path}"}}`)}
	trial.Cost(b, settings, plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("x-tenant", "acme", "baggage", "user=ann,session=42")}})
}

func BenchmarkAnswer(b *testing.B) {
	trial.Cost(b, plugintest.Settings{}, plugintest.Case{Response: &plugintest.Message{}})
}
