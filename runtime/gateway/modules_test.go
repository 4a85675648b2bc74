package gateway_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// TestAModuleThatCannotBeHadStopsNobody: the server with the module is down when the gateway starts. Routes without the
// plugin serve, its own do as on_error says, and when the server is back the plugin is there, without a restart. Then the
// server goes for good: the next start has the module from its cache.
func TestAModuleThatCannotBeHadStopsNobody(t *testing.T) {
	leavesNothing(t)
	wasm, err := os.ReadFile(module(t, conformance))
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	down.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(wasm)
	}))
	defer server.Close()
	text := fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
telemetry: { access_log: { output: off } }
admin: { address: '127.0.0.1:0' }
plugin_cache: { dir: %q }
plugin_sources: { wait: 50ms }
plugins:
  closed: { module: "%[2]s/p.wasm@sha256:%[3]x", config: "" }
  open: { module: "%[2]s/p.wasm@sha256:%[3]x", config: "", on_error: fail_open }
routes:
  - { name: closed, match: { path_prefix: /closed }, plugins: [closed], respond: { status: 200 } }
  - { name: open, match: { path_prefix: /open }, plugins: [open], respond: { status: 200 } }
  - { name: other, respond: { status: 200 } }
`, filepath.Join(t.TempDir(), "cache"), server.URL, sha256.Sum256(wasm))
	begin := func() (ask func(path string) int, g *gateway.Gateway, log *testkit.Buffer) {
		c, _, err := config.Load(config.Source{File: "modules.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		log = &testkit.Buffer{}
		if g, err = gateway.New(gateway.Options{Config: c, Log: zerolog.New(log)}); err != nil {
			t.Fatal(err)
		}
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		return func(path string) int {
			resp, _ := do(t, "http://"+g.Addr("test").String()+path, "x-cmd", "deny 418")
			return resp.StatusCode
		}, g, log
	}
	ask, g, log := begin()
	for path, want := range map[string]int{"/closed": 503, "/open": 200, "/": 200} {
		if got := ask(path); got != want {
			t.Errorf("without the module %s is answered %d, want %d", path, got, want)
		}
	}
	if !strings.Contains(log.String(), "a module cannot be fetched: until it is there") {
		t.Errorf("the log does not say it: %s", log)
	}
	down.Store(false)
	testkit.Eventually(t, "the plugin is there", func() bool { return ask("/closed") == 418 && ask("/open") == 418 })
	g.Close()

	down.Store(true)
	ask, g, log = begin()
	defer g.Close()
	if got := ask("/closed"); got != 418 {
		t.Errorf("with the module in the cache and no server: %d; %s", got, log)
	}

	// The config is changed to another one, which cannot be had: the plugin goes on as it was.
	c, _, err := config.Load(config.Source{File: "modules.yaml", Data: []byte(strings.Replace(text, fmt.Sprintf("%x", sha256.Sum256(wasm)), strings.Repeat("0", 64), 1))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := ask("/closed"); got != 418 {
			t.Errorf("with another module that cannot be had: %d; %s", got, log)
		}
	}
}
