package main

import (
	"net/netip"
	"strings"
	"testing"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"app.internal:8080": trial.Echo("app")})
	for _, c := range []struct {
		path, client string
		status       int
		text         string
	}{
		{"/admin", "192.0.2.7", 200, "app: GET"},
		{"/admin", "2001:db8:1::2", 200, "app: GET"},
		{"/admin", "192.0.2.66", 403, "not from here\n"},
		{"/admin", "198.51.100.1", 403, "not from here\n"},
		{"/", "198.51.100.1", 200, "app: GET"},
		{"/admin", "192.0.2.7, 198.51.100.1", 403, "not from here\n"}, // what the client claims is no proxy's word
	} {
		a := g.Get(c.path, "X-Forwarded-For", c.client)
		if a.StatusCode != c.status || a.Text[:min(len(a.Text), len(c.text))] != c.text {
			t.Errorf("%+v: %d %q", c, a.StatusCode, a.Text)
		}
	}
}

// TestRefused has the gateway refuse a configuration that the plugin does.
func TestRefused(t *testing.T) {
	err := trial.Refused(t, strings.Replace(trial.Example(t, 0), "192.0.2.0/24", "192.0.2.1/24", 1))
	for _, part := range []string{"plugins.office", `config.allow[0]: "192.0.2.1/24" has bits behind the prefix; the network is 192.0.2.0/24`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

// TestTenThousand starts and asks with the limits that a gateway has by default.
func TestTenThousand(t *testing.T) {
	p := trial.Limited(t, many(10_000))
	for client, want := range map[string]string{"10.39.15.127": plugintest.Continue, "10.39.15.128": plugintest.Denied} {
		if o := trial.Decide(t, p, plugintest.Case{Request: plugintest.Message{Client: netip.MustParseAddr(client)}}); o.Request.Decision != want {
			t.Errorf("%s: %s", client, o.Request.Decision)
		}
	}
}

func BenchmarkThree(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(`{"allow":["192.0.2.0/24","2001:db8::/32"],"deny":["192.0.2.66"]}`)}, plugintest.Case{})
}

func BenchmarkTenThousand(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(many(10_000))}, plugintest.Case{Request: plugintest.Message{Client: netip.MustParseAddr("10.20.30.40")}})
}
