package gateway_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// tenants is a config in which the tenant router decides every request: tenant acme goes to the nginx, all others too,
// by another name.
func tenants(n *nginx, module string) string {
	return fmt.Sprintf(`
upstreams:
  web: { targets: ["http://%[1]s"], pool: { max_connections: 1000 } }
  other: { targets: ["http://%[1]s"], pool: { max_connections: 1000 } }
plugins:
  tenant: { module: %[2]s, upstreams: [web, other], config: { default: other, tenants: { acme: web } } }
routes:
  - { name: tenant, match: { path_prefix: /tenant }, plugins: [tenant] }
`, n.addr(), module)
}

// module is the absolute path of one of the repository's modules.
func module(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

const tenantRouter, conformance = "plugins/tenant-router/tenant-router.wasm", "sdk/c/conformance/conformance.wasm"

func TestKeepAliveOfARouteThatAPluginChose(t *testing.T) {
	config := func(n *nginx) string { return tenants(n, module(t, tenantRouter)) }
	for loops, clients := range map[int]int{1: 64, 2: 8} {
		t.Run(fmt.Sprintf("%d loops, %d clients", loops, clients), func(t *testing.T) {
			reuse(t, loops, clients, config, "/tenant/x", "-H", "x-tenant: acme")
		})
	}
}

// do sends a request with header fields, name and value in turn, and returns the answer and its body.
func do(t *testing.T, url string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, readAll(t, resp)
}

func TestPluginDecides(t *testing.T) {
	n := startNginx(t)
	m := module(t, conformance)
	g := start(t, fmt.Sprintf(`
upstreams:
  web: { targets: ["http://%[1]s"], host: upstream }
  any: { dynamic: { allow: ["127.0.0.1:%[3]d"] } }
plugins:
  p: { module: %[2]s, upstreams: [web], dynamic: any, config: "upstream web" }
  closed: { module: %[2]s, config: "" }
  open: { module: %[2]s, config: "", on_error: fail_open }
routes:
  - { name: matched, match: { path_prefix: /m, plugin: p }, upstream: web }
  - { name: closed, match: { path_prefix: /closed }, plugins: [closed], upstream: web }
  - { name: open, match: { path_prefix: /open }, plugins: [open], upstream: web }
  - { name: again, match: { path: /target }, respond: { status: 200, body: "the target\n" } }
  - { name: chosen, plugins: [p] }
`, n.addr(), m, n.port))
	for _, c := range []struct {
		name, path string
		commands   []string
		status     int
		body       string // a part of it
		header     string // name: value of the answer
	}{
		{"the plugin chooses the upstream", "/a", []string{"route 0"}, 200, "/a at 127.0.0.1", ""},
		{"by a list, with edits", "/a?b", []string{"path /x/y", "query q=1", "route 0"}, 200, "/x/y?q=1 at", ""},
		{"an allowed address, with edits", "/a?b", []string{"path /x/y", "query q=1", "address 127.0.0.1:" + strconv.Itoa(n.port)}, 200, "/x/y?q=1", ""},
		{"an allowed address", "/a", []string{"address 127.0.0.1:" + strconv.Itoa(n.port)}, 200, "/a at", ""},
		{"one that is not", "/a", []string{"address 127.0.0.1:1"}, 503, "", ""},
		{"no upstream at all", "/a", []string{"continue"}, 502, "no plugin chose one", ""},
		{"deny", "/a", []string{"deny 429"}, 429, "", ""},
		{"respond", "/a", []string{"respond 201 hello"}, 201, "hello", "X-Conformance: yes"},
		{"as a matcher: yes", "/m", []string{"continue"}, 200, "/m at", ""},
		{"as a matcher: no, so that the last route has it", "/m", []string{"no-match"}, 503, "", ""},
		{"match again", "/elsewhere", []string{"path /target", "rematch"}, 200, "the target", ""},
		{"a trap, fail closed", "/closed", []string{"trap"}, 503, "", ""},
		{"a trap, fail open", "/open", []string{"trap"}, 200, "/open at", ""},
		{"an error of its own", "/closed", []string{"fail cannot decide"}, 503, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fields []string
			for _, cmd := range c.commands {
				fields = append(fields, "x-cmd", cmd)
			}
			resp, body := do(t, g.url(c.path), fields...)
			if resp.StatusCode != c.status || !strings.Contains(body, c.body) {
				t.Errorf("got %s %q", resp.Status, body)
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok && resp.Header.Get(name) != value {
				t.Errorf("header %s is %q", name, resp.Header.Get(name))
			}
		})
	}
}

// TestPluginSeesTheAnswer: the upstream's answer carries a command for the plugin, which edits it on its way to the client.
func TestPluginSeesTheAnswer(t *testing.T) {
	n := startNginx(t)
	g := start(t, fmt.Sprintf(`
upstreams: { web: { targets: ["http://%s"] } }
plugins: { p: { module: %s } }
routes: [{ plugins: [p], upstream: web }]
`, n.addr(), module(t, conformance)))
	resp, body := do(t, g.url("/x"), "x-answer", "set x-seen by the plugin")
	if resp.StatusCode != 200 || resp.Header.Get("X-Seen") != "by the plugin" || !strings.Contains(body, "/x") {
		t.Errorf("got %s %v %q", resp.Status, resp.Header, body)
	}
	resp, body = do(t, g.url("/x"), "x-answer", "respond 451 not for you")
	if resp.StatusCode != 451 || body != "not for you" {
		t.Errorf("got %s %q", resp.Status, body)
	}
	if resp, _ = do(t, g.url("/x"), "x-answer", "set content-length 0"); resp.StatusCode != 503 {
		t.Errorf("framing in an answer's edit: %s", resp.Status)
	}
}

// TestPluginsAreSwappedUnderLoad changes the config and the module, 200 times, while the route is in use.
func TestPluginsAreSwappedUnderLoad(t *testing.T) {
	n := startNginx(t)
	original, err := os.ReadFile(module(t, tenantRouter))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tenant.wasm")
	if err := os.WriteFile(file, original, 0o600); err != nil {
		t.Fatal(err)
	}
	files := openFiles()
	g := start(t, "loops: 2\n"+tenants(n, file))
	stop := hammer(t, g.url("/tenant/x"), 8)
	testkit.Eventually(t, "the load runs", func() bool { return n.accepted() >= 8 })
	before := n.accepted()
	listener := "listeners: [{ name: test, address: '127.0.0.1:0' }]\nloops: 2\n"
	swaps := 200
	if raceEnabled {
		swaps = 50 // each takes several times as long
	}
	for i := range swaps {
		// A custom section makes it another module that does the same.
		section := append([]byte{0, 5, 4}, fmt.Sprintf("%04d", i)...)
		if err := os.WriteFile(file, append(slices.Clone(original), section...), 0o600); err != nil {
			t.Fatal(err)
		}
		text := tenants(n, file)
		if i%2 == 1 {
			text = strings.Replace(text, "acme: web", fmt.Sprintf("acme: web, t%d: other", i), 1)
		}
		if err := g.Reload(load(t, listener+text)); err != nil {
			t.Fatal(err)
		}
	}
	asked, failed, first := stop()
	if failed > 0 || asked < 100 {
		t.Errorf("%d of %d requests failed, first: %s", failed, asked, first)
	}
	if got := n.accepted(); got > before {
		t.Errorf("nginx accepted %d connections more during %d swaps", got-before, swaps)
	}
	testkit.Eventually(t, "only the last plugin's instances are left", func() bool { return g.Instances() <= 2 })
	g.Close()
	testkit.Eventually(t, "no descriptor is left", func() bool { return openFiles() <= files })
	if left := g.Instances(); left != 0 {
		t.Errorf("%d instances are left", left)
	}
	t.Logf("%d requests during 200 swaps", asked)
}

func TestReloadWithAPluginThatCannotBeUsed(t *testing.T) {
	n := startNginx(t)
	g := start(t, tenants(n, module(t, tenantRouter)))
	listener := "listeners: [{ name: test, address: '127.0.0.1:0' }]\n"
	for _, c := range []struct{ from, to, says string }{
		{"default: other", "fallback: other", "config: the keys are default, domain and tenants"},
		{"default: other", "default: nowhere", "nowhere"},
		{"upstreams: [web, other]", "upstreams: [web]", "other"},
	} {
		err := g.Reload(load(t, listener+strings.Replace(tenants(n, module(t, tenantRouter)), c.from, c.to, 1)))
		if err == nil || !strings.Contains(err.Error(), "plugins.tenant") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.to, err)
		}
		if resp, body := do(t, g.url("/tenant/x"), "x-tenant", "acme"); resp.StatusCode != 200 {
			t.Errorf("the old plugin does not decide any more: %s %q", resp.Status, body)
		}
	}
}
