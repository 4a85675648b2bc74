package main

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{
		"app.internal:8080": trial.Echo("app"), "app-next.internal:8080": trial.Echo("next"),
	})
	upstream := func(a trial.Answer) string {
		name, _, _ := strings.Cut(a.Text, ":")
		if want := map[string]string{"app": "stable", "next": "canary"}[name]; a.StatusCode != 200 || a.Field("x-variant") != want {
			t.Errorf("%s %s", a.Status, a.Text)
		}
		return name
	}
	counts := map[string]int{}
	for i := range 60 {
		user := fmt.Sprint("user-", i)
		first := upstream(g.Get("/", "X-User", user, "X-Variant", "forged"))
		if again := upstream(g.Get("/again", "X-User", user)); again != first {
			t.Errorf("%s went to %s, then to %s", user, first, again)
		}
		counts[first]++
	}
	if counts["app"] < 40 || counts["next"] == 0 {
		t.Errorf("%v", counts)
	}
	if a := g.Get("/", "X-User", "user-1", "X-Canary", "canary"); upstream(a) != "next" {
		t.Errorf("it cannot be forced: %s", a.Text)
	}
	// Without a user the client keeps what chance gave it.
	a := g.Get("/")
	first, set := upstream(a), a.Header.Get("Set-Cookie")
	if !strings.HasPrefix(set, "lane=") || !strings.Contains(set, "; Path=/; Max-Age=604800;") {
		t.Fatalf("the cookie is %q", set)
	}
	for range 20 {
		a := g.Get("/", "Cookie", strings.Split(set, ";")[0])
		if upstream(a) != first || a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s %v", a.Text, a.Header)
		}
	}
}

// TestHostile asks with the most that the gateway's limits let through, and with what nobody would.
func TestHostile(t *testing.T) {
	p := trial.Limited(t, split(1, 1, 1, byUser+`,"force":["{header.x-variant}","{query.variant}"],"remember":{"cookie":"lane"}`), "ua", "ub")
	for name, m := range map[string]plugintest.Message{
		"long key":     {Fields: trial.Fields("x-user", strings.Repeat("x", 30_000))},
		"longest key":  {Fields: trial.Fields("x-user", strings.Repeat("x", 8_192))},
		"long query":   {Target: "/?" + strings.Repeat("&=%", 2600)},
		"many cookies": {Fields: trial.Fields("cookie", strings.Repeat("lane=b ;", 4000))},
		"no text":      {Fields: trial.Fields("x-user", "\xff\xfe", "cookie", "lane=\xff")},
	} {
		o := trial.Decide(t, p, plugintest.Case{Request: m})
		t.Logf("%s: %s, %d fuel", name, o.Request.Decision, o.Request.Fuel)
	}
}

func BenchmarkByKey(b *testing.B) {
	settings := plugintest.Settings{Config: []byte(split(90, 5, 5, byUser)), Upstreams: []string{"ua", "ub"}}
	trial.Cost(b, settings, plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("x-user", "ann")}})
}

func BenchmarkByChance(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(split(90, 5, 5, "")), Upstreams: []string{"ua", "ub"}}, plugintest.Case{})
}
