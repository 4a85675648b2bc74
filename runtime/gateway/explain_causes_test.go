package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// TestFromSymptomToCause stages what the README's table of that name has: what a client sees, the line in the access log, and
// what names the cause.
func TestFromSymptomToCause(t *testing.T) {
	b := startBackends(t, 2)
	dead, busy := b[0], b[1]
	dead.stop()
	release := make(chan struct{})
	busy.always(reply{until: release})
	log := filepath.Join(t.TempDir(), "access.log")
	c, _, err := config.Load(config.Source{File: "test.yaml", Data: fmt.Appendf(nil, `
telemetry: { access_log: { output: %q } }
admin: { address: '127.0.0.1:0' }
plugin_cache: { dir: 'off' }
listeners: [{ name: public, address: '127.0.0.1:0' }]
upstreams:
  dead: { targets: ['http://%s'], health: { passive: { failures: 3 } } }
  busy: { targets: ['http://%s'], pool: { max_connections: 1, acquire_timeout: 50ms } }
plugins:
  broken: { module: testdata/hostile.wasm, config: trap }
routes:
  - { name: dead, match: { path: /dead }, upstream: dead }
  - { name: busy, match: { path: /busy }, upstream: busy }
  - { name: broken, match: { path: /broken }, plugins: [broken], upstream: busy }
`, log, dead.addr, busy.addr)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(io.Discard)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	url := "http://" + g.Addr("public").String()
	ask := func(path string) (status int, text string) {
		resp, err := client.Get(url + path)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		return resp.StatusCode, readAll(t, resp)
	}
	whole := make(chan int, 1)
	go func() {
		status, _ := ask("/busy") // it has the one connection
		whole <- status
	}()
	testkit.Eventually(t, "the connection is in use", func() bool { return busy.busy.Load() == 1 })
	for _, one := range []struct {
		path  string
		times int
		sees  string // status and text
		line  []string
		names []string // what the explanation says
	}{
		{
			"/dead", 3, "502 502 Bad Gateway: connect\n",
			[]string{`"status":502`, `"error":"connect"`, `"error_source":"upstream"`, `"upstream":"dead"`, dead.addr},
			[]string{"chosen       " + dead.addr, "ejected", "3 failures in a row, the last: it could not be connected to", "nobody is healthy"},
		},
		{
			"/busy", 1, "503 503 Service Unavailable: pool_exhausted\n",
			[]string{`"status":503`, `"error":"pool_exhausted"`, `"upstream":"busy"`},
			[]string{"full         " + busy.addr, "1 request active, 1 connection open, 0 idle", "pool.max_connections      1 for each address", "all connections are in use (pool.max_connections 1)"},
		},
		{
			"/broken", 1, "503 503 Service Unavailable: plugin_trap\n",
			[]string{`"status":503`, `"error":"plugin_trap"`, `"error_source":"plugin"`, `"route":"broken"`},
			[]string{"plugin     broken, of the route, FAILED", "why: plugin_trap: plugin broken, phase request: ", "unreachable"},
		},
	} {
		for range one.times {
			if status, text := ask(one.path); !strings.HasPrefix(fmt.Sprintf("%d %s", status, text), strings.TrimSuffix(one.sees, "\n")) {
				t.Errorf("%s: the client sees %d %q, want %q", one.path, status, text, one.sees)
			}
		}
		testkit.Eventually(t, "the access log has its line", func() bool { return len(lineAbout(log, one.path)) > 0 })
		line := lineAbout(log, one.path)
		for _, part := range one.line {
			if !strings.Contains(line, part) {
				t.Errorf("%s: the access log does not say %s: %s", one.path, part, line)
			}
		}
		text := explained(t, g, explain.Request{URL: url + one.path}).Text(explain.Options{})
		for _, part := range one.names {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the explanation does not say %q:\n%s", one.path, part, text)
			}
		}
	}
	close(release)
	if status := <-whole; status != 200 {
		t.Errorf("the request that had the connection: %d", status)
	}
	for address, want := range map[string]string{"dead": `"health": "ejected"`, "busy": `"connections_open": 1`} {
		resp, err := client.Get("http://" + g.AdminAddr().String() + "/upstreams/" + address)
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, resp); !strings.Contains(text, want) {
			t.Errorf("GET /upstreams/%s does not say %s: %s", address, want, text)
		}
		resp.Body.Close()
	}
}

// lineAbout is the last line of a log about a path.
func lineAbout(log, path string) (found string) {
	b, _ := os.ReadFile(log)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, `"`+path+`"`) {
			found = line
		}
	}
	return found
}
