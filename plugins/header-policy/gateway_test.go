package main

import (
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"app.internal:8080": trial.Echo("app")})
	a := g.Get("/shop?campaign=spring%0d%0aX-Role:%20admin", "Host", "www.example.com", "X-User", "root", "X-Api-Key", "k", "Accept-Language", "fr", "X-Answer", "server: old/1.0")
	for _, line := range []string{
		"x-client: 127.0.0.1", "x-entry: GET www.example.com via shop", "x-campaign: spring%0D%0AX-Role: admin", "x-key: k", "accept-language: fr",
	} {
		if !a.Has(line) {
			t.Errorf("the upstream does not see %q: %s", line, a.Text)
		}
	}
	for _, name := range []string{"x-user", "x-api-key", "x-role"} {
		if a.Field(name) != "" {
			t.Errorf("the upstream sees %s: %s", name, a.Text)
		}
	}
	if h := a.Header; h.Get("Server") != "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Served") != "200 by shop" {
		t.Errorf("%v", h)
	}
	// An answer of the gateway's own is an answer too.
	if a = g.Get("/gone"); a.StatusCode != 410 || a.Header.Get("X-Served") != "410 by gone" {
		t.Errorf("%s %v", a.Status, a.Header)
	}
}

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	p := trial.Limited(t, config)
	for name, m := range map[string]plugintest.Message{
		"long headers":   {Fields: trial.Fields("x-account", strings.Repeat("x", 30_000))},
		"many headers":   {Fields: trial.Fields(strings.Split(strings.Repeat("x-api-key|v|", 300)+"a|b", "|")...)},
		"long query":     {Target: "/?" + strings.Repeat("&=%", 2600)},
		"many cookies":   {Fields: trial.Fields("cookie", strings.Repeat("a=b;", 7000))},
		"long tag":       {Target: "/?tag=" + strings.Repeat("%0a", 2600)},
		"bytes, no text": {Fields: trial.Fields("x-account", "\xff\xfe\x80")},
	} {
		o := trial.Decide(t, p, plugintest.Case{Request: m, Response: &plugintest.Message{}})
		t.Logf("%s: %s %d, %d fuel", name, o.Request.Decision, o.Request.Status, o.Request.Fuel)
	}
}

func BenchmarkRequest(b *testing.B) {
	c := plugintest.Case{Request: plugintest.Message{Target: "/p?tag=blue", Fields: trial.Fields("x-api-key", "k", "x-account", "ann")}}
	trial.Cost(b, plugintest.Settings{Config: []byte(strings.Split(config, `"response"`)[0] + `"response":{}}`)}, c)
}

func BenchmarkResponse(b *testing.B) {
	settings := plugintest.Settings{Config: []byte(`{"response":{"set":{"x-content-type-options":"nosniff","x-served":"{status} by {route}"},"remove":"server"}}`)}
	trial.Cost(b, settings, plugintest.Case{Response: &plugintest.Message{Fields: trial.Fields("server", "nginx")}})
}
