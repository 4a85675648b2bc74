package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"wasmgate/config"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"

	"github.com/rs/zerolog"
)

const shop = `listeners:
  - name: public
    address: "127.0.0.1:18080"
  - { name: db, address: "127.0.0.1:18443", mode: tcp, upstream: acme }
admin: { address: "127.0.0.1:0" }
telemetry: { access_log: { output: "never/written" } }
upstreams:
  users: { targets: ["http://192.0.2.1:1323"], health: { active: { type: http, path: /healthz } }, pool: { min_idle: 2 } }
  acme: { targets: ["http://192.0.2.2:1323"] }
plugins:
  tenant:
    module: tenant.wasm
    config: { default: users, tenants: { acme: acme } }
    upstreams: [users, acme]
routes:
  - { name: health, match: { path: /healthz }, respond: { status: 200, body: "ok" } }
  - { name: app, match: { path_prefix: /app }, plugins: [tenant], upstream: users }
`

func TestExplain(t *testing.T) {
	inNewFolder(t, map[string]string{"tenant.wasm": nativeModule})
	write(t, "wasmgate.yaml", shop)
	write(t, "body.txt", "from a file")
	code, out, text := call("explain", "POST", "http://shop.example/app/cart?x=1", "-H", "x-tenant: acme", "-H", "X-Evil:x", "-d", "@body.txt", "--client", "203.0.113.9")
	if code != exitOK || text != "" {
		t.Fatalf("exit code %d: %s", code, text)
	}
	contains(t, out,
		"request    POST /app/cart?x=1 HTTP/1.1\n             Host: shop.example\n             x-tenant: acme\n             X-Evil: x\n", "11 bytes of body: from a file",
		"client     203.0.113.9:50000\n", "(wasmgate.yaml:2:5)", "no   health  path is /app/cart, wanted: /healthz  (wasmgate.yaml:16:", "yes  app     (wasmgate.yaml:17:",
		"plugin     tenant, of the route, chose an upstream; fuel ", "upstream acme\n", "chosen       192.0.2.2:1323  active; weight 1, tier 0\n",
		"outcome    forwarded to acme, as:\n             POST /app/cart?x=1 HTTP/1.1\n", "X-Forwarded-For: 203.0.113.9 ", "<- added: who the client is")
	if strings.Contains(out, "\x1b") {
		t.Error("colours, and no terminal")
	}
	_, out, _ = call("explain", "/healthz")
	contains(t, out, "answered here\n             HTTP/1.1 200 OK\n", "2 bytes of body: ok\n")
	_, out, _ = call("explain", "-c", "wasmgate.yaml", "tls://x.example")
	contains(t, out, "passed on to acme")

	code, out, _ = call("explain", "--json", "/app")
	var e explain.Explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != exitOK || e.Route != "app" || e.Upstream.Name != "users" || e.Upstream.At == "" {
		t.Errorf("%v %s", err, out)
	}
	for want, args := range map[string][]string{
		"accepts between 1 and 2 arg":  {"explain"},
		"is not as in 'name: value'":   {"explain", "/", "-H", "nonsense"},
		"no listener is called nix":    {"explain", "/", "--listener", "nix"},
		"See: wasmgate explain --help": {"explain", "ftp://x"},
		"no such file":                 {"explain", "/", "-d", "@nowhere"},
		"is this its admin.address?":   {"explain", "/", "--admin", "127.0.0.1:1"},
		"plugins.tenant.config":        {"explain", "/", "--set", "plugins.tenant.config.nonsense=1"},
		"upstreams.nix":                {"explain", "/", "--set", "upstreams.nix.targets=[]"},
	} {
		if code, out, text := call(args...); code == exitOK || out != "" || !strings.Contains(text, want) {
			t.Errorf("%v: exit code %d, %q, %q; want %q", args, code, out, text, want)
		}
	}
	t.Chdir(t.TempDir())
	if code, _, text := call("explain", "/"); code == exitOK || !strings.Contains(text, "No -c FILE and no --admin ADDRESS") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

// TestExplainOfAGatewayThatRuns asks by its admin endpoint; with a config too, places in it are shown.
func TestExplainOfAGatewayThatRuns(t *testing.T) {
	inNewFolder(t, map[string]string{"tenant.wasm": nativeModule})
	live := strings.NewReplacer("18080", "0", "18443", "0", "never/written", "off", "health: { active: { type: http, path: /healthz } }, pool: { min_idle: 2 }", "retries: { attempts: 2 }").Replace(shop)
	write(t, "live.yaml", live)
	c, report, err := config.Load(config.Source{File: "live.yaml"})
	must(t, err)
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop()})
	must(t, err)
	defer g.Close()
	must(t, g.Start())
	admin := g.AdminAddr().String()
	code, out, text := call("explain", "--admin", admin, "/app")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, text)
	}
	contains(t, out, "forwarded to users", "0 connections open, 0 idle; 0 requests waiting", "chosen       192.0.2.1:1323  active; weight 1, tier 0; healthy; 0 requests active")
	if strings.Contains(out, "live.yaml") {
		t.Errorf("places of a file that was not named:\n%s", out)
	}
	_, out, _ = call("explain", "--admin", "http://"+admin+"/", "-c", "live.yaml", "/app")
	contains(t, out, "(live.yaml:17:")
	knowing, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop(), Admin: gateway.Operators{Report: report}})
	must(t, err)
	defer knowing.Close()
	must(t, knowing.Start())
	_, out, _ = call("explain", "--admin", knowing.AdminAddr().String(), "/app") // it knows its file
	contains(t, out, "(live.yaml:17:")
	write(t, "token", "somebody correct-horse-battery\n")
	if code, out, text := call("explain", "--admin", admin, "--token-file", "token", "/app"); code != exitOK || !strings.Contains(out, "forwarded to users") {
		t.Errorf("with a token that nobody asks for: exit code %d: %s", code, text)
	}
	if code, _, text := call("explain", "--admin", admin, "--token-file", "nowhere", "/app"); code != exitFailed || !strings.Contains(text, "--token-file: open nowhere") {
		t.Errorf("exit code %d: %s", code, text)
	}
	if code, _, text := call("explain", "--admin", admin, "--listener", "nix", "/"); code != exitUsage {
		t.Errorf("exit code %d: %s", code, text)
	}
	if code, out, _ := call("explain", "--admin", admin, "--json", "/nowhere"); code != exitOK || !strings.Contains(out, fmt.Sprintf("%q: %q", "kind", "no_route")) {
		t.Errorf("exit code %d: %s", code, out)
	}
}
