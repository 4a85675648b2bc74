package main

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"app.internal:8080": trial.Echo("app")})
	secure := []string{"X-Forwarded-Proto", "https", "Host", "www.example.com", "X-Forwarded-For", "192.0.2.7"}
	for _, c := range []struct {
		path   string
		fields []string
		status int
		to     string
	}{
		{"/old?x=1", []string{"Host", "example.com"}, 308, "https://www.example.com/new?x=1"},
		{"/", []string{"Host", "www.example.com"}, 308, "https://www.example.com/"},
		{"/old?x=1", secure, 308, "/new?x=1"},
		{"/blog/2024/12", secure, 308, "/news/2024/12"},
		{"/u/42/photos", secure, 302, "https://users.example.com/42?tab=photos"},
		{"/u/42/%2F%2Fevil.example", secure, 302, "https://users.example.com/42?tab=%2F%2Fevil.example"},
		{"/elsewhere", secure, 200, ""},
	} {
		a := g.Get(c.path, c.fields...)
		if a.StatusCode != c.status || a.Header.Get("Location") != c.to {
			t.Errorf("%s %v: %s %q", c.path, c.fields, a.Status, a.Header.Get("Location"))
		}
	}
	if a := g.Do("POST", "/old", secure...); a.StatusCode != 308 {
		t.Errorf("%s", a.Status)
	}
}

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	var list []string
	for i := range maxRegexes {
		list = append(list, fmt.Sprintf(`{"regex":"/(([a-z]*)*|x+y?)*/(.*)/x%d$","to":"/$1"}`, i))
	}
	regexes := `{"rules":[` + strings.Join(list, ",") + `]}`
	nested := `{"path":"/","to":"/x"}`
	for i := 1; i <= maxDepth; i++ {
		nested += fmt.Sprintf(`,{"prefix":"%s","to":"/x"}`, strings.Repeat("/a", i))
	}
	for name, c := range map[string]struct{ config, target string }{
		"expressions":      {regexes, "/" + strings.Repeat("a", 30)},
		"long expressions": {regexes, "/" + strings.Repeat("a", 8000)},
		"one long":         {`{"rules":[` + list[0] + `]}`, "/" + strings.Repeat("ax", 4000)},
		"slashes":          {regexes, strings.Repeat("/x", 2000)},
		"many rules":       {many(10_000), "/shop/4999/" + strings.Repeat("%20", 2600)},
		"nested prefixes":  {`{"rules":[` + nested + `]}`, strings.Repeat("/a", 499) + strings.Repeat("x", 6000)},
		"to be encoded":    {many(10), "/shop/1/?" + strings.Repeat("\"", 8000)},
		"captured":         {`{"rules":[{"regex":"/(.*)","to":"/$1$1$1$1$1$1$1$1?$1$1$1$1"}]}`, "/" + strings.Repeat("x", 8000)},
	} {
		p := trial.Limited(t, c.config)
		o := trial.Decide(t, p, plugintest.Case{Request: plugintest.Message{Target: c.target}})
		t.Logf("%s: %s %d, %d fuel", name, o.Request.Decision, o.Request.Status, o.Request.Fuel)
	}
}

func BenchmarkNone(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(many(10_000))}, plugintest.Case{Request: plugintest.Message{Target: "/elsewhere"}})
}

func BenchmarkPath(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(many(10_000))}, plugintest.Case{Request: plugintest.Message{Target: "/articles/1234?x=y"}})
}

func BenchmarkPrefix(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(many(10_000))}, plugintest.Case{Request: plugintest.Message{Target: "/shop/1234/x"}})
}

func BenchmarkRegex(b *testing.B) {
	config := `{"rules":[{"regex":"/u/([0-9]+)/?(.*)$","to":"https://users.example.com/$1?tab=$2"}]}`
	trial.Cost(b, plugintest.Settings{Config: []byte(config)}, plugintest.Case{Request: plugintest.Message{Target: "/u/42/photos"}})
}
