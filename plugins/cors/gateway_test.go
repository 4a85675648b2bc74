package main

import (
	"net/http"
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"api.internal:8080": trial.Echo("api")})
	const page, evil = "https://shop.example.com", "https://example.com.evil.org"
	a := g.Do("OPTIONS", "/api/x", "Origin", page, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-a, authorization")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
		"Access-Control-Allow-Headers": "content-type, authorization", "Access-Control-Max-Age": "600",
	} {
		if a.StatusCode != 204 || a.Header.Get(name) != want || a.Text != "" {
			t.Errorf("%s %s: %q", a.Status, name, a.Header.Get(name))
		}
	}
	if a = g.Do("OPTIONS", "/api/x", "Origin", evil, "Access-Control-Request-Method", "PUT"); a.StatusCode != 403 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s %v", a.Status, a.Header)
	}
	allows := func(a trial.Answer, status int, origin string) {
		t.Helper()
		got := strings.Join(a.Header.Values("Access-Control-Allow-Origin"), "|")
		if a.StatusCode != status || got != origin || !strings.Contains(strings.Join(a.Header.Values("Vary"), ","), "origin") {
			t.Errorf("%s %v", a.Status, a.Header)
		}
	}
	allows(g.Get("/api/x", "Origin", page, "X-Answer", "access-control-allow-origin: *", "X-Answer", "vary: accept"), 200, page)
	allows(g.Get("/api/x", "Origin", evil, "X-Answer", "access-control-allow-origin: *"), 200, "")
	allows(g.Get("/api/x"), 200, "")
	// Pages must be able to read what went wrong.
	allows(g.Get("/denied", "Origin", page), http.StatusForbidden, page)
	allows(g.Get("/down", "Origin", page), http.StatusBadGateway, page)
	allows(g.Get("/nowhere", "Origin", page), http.StatusNotFound, page)
}

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	p := trial.Limited(t, many(10_000))
	for name, fields := range map[string][]plugintest.Field{
		"long origin":  trial.Fields("origin", strings.Repeat("x", 30_000)),
		"many labels":  trial.Fields("origin", "https://"+strings.Repeat("a.", 140)+"example.org"),
		"many origins": trial.Fields(strings.Split(strings.Repeat("origin|null|", 300)+"a|b", "|")...),
		"long list":    trial.Fields("origin", "http://localhost", "access-control-request-method", "GET", "access-control-request-headers", strings.Repeat("x,", 10_000)),
	} {
		answer := plugintest.Message{Fields: trial.Fields("vary", strings.Repeat("a,", 10_000))}
		for _, method := range []string{"GET", "OPTIONS"} {
			o := trial.Decide(t, p, plugintest.Case{Request: plugintest.Message{Method: method, Fields: fields}, Response: &answer})
			t.Logf("%s: %s, %d fuel", name, o.Request.Decision, o.Request.Fuel)
			if o.Response != nil {
				t.Logf("%s: answer, %d fuel", name, o.Response.Fuel)
			}
		}
	}
}

func BenchmarkExact(b *testing.B) {
	c := plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("origin", "https://app.example.com")}, Response: &plugintest.Message{}}
	trial.Cost(b, plugintest.Settings{Config: []byte(named)}, c)
}

func BenchmarkTenThousand(b *testing.B) {
	c := plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("origin", "https://a.tenant-4321.example.com")}, Response: &plugintest.Message{}}
	trial.Cost(b, plugintest.Settings{Config: []byte(many(10_000))}, c)
}

func BenchmarkPreflight(b *testing.B) {
	fields := trial.Fields("origin", "https://app.example.com", "access-control-request-method", "PUT")
	trial.Cost(b, plugintest.Settings{Config: []byte(named)}, plugintest.Case{Request: plugintest.Message{Method: "OPTIONS", Fields: fields}})
}
