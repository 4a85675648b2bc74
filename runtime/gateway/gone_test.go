package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// request sends one on a connection of its own, which the test ends as it likes.
func (p *plant) request(text string) *net.TCPConn {
	p.Helper()
	c, err := net.Dial("tcp", p.addr.String())
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		p.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// clientsGone is how many requests ended because their client had gone.
func (p *plant) clientsGone() int {
	return p.failed(func(f failure) bool { return f.kind == "client_closed" && f.status == 0 })
}

// leaves are the ways in which a client goes.
var leaves = map[string]func(*net.TCPConn){
	"closes": func(c *net.TCPConn) { _ = c.Close() },
	"resets": func(c *net.TCPConn) {
		_ = c.SetLinger(0)
		_ = c.Close()
	},
	// As for nginx and Envoy: it might still read, and there is no telling.
	"sends no more": func(c *net.TCPConn) { _ = c.CloseWrite() },
}

// TestAClientThatGoesEndsWhatItsPluginWaitsFor: plugins that keep a request back, each of its kind, for ten minutes. A client
// that has gone is noticed at once: what the plugin asked for is cancelled, and it is told that the request is over.
func TestAClientThatGoesEndsWhatItsPluginWaitsFor(t *testing.T) {
	b := startBackends(t, 2)
	web, slow := b[0], b[1]
	slow.always(reply{hang: true})
	p := startPlant(t, fmt.Sprintf(`loops: 1
upstreams:
  web: { targets: ['http://%s'] }
  authz: { targets: ['http://%s'], timeouts: { response_header: 600s } }
plugins:
  native: { module: %q, calls: [authz] }
  asks: { module: %q, calls: [authz], proxy_wasm: { max_pause: 600s }, config: "request call authz 600000 :method GET :path /check :authority authz\nrequest return 1\ndone metric 0 ended_total 0 1" }
  waits: { module: %[4]q, proxy_wasm: { max_pause: 600s, stop_iteration: all }, config: "request metric 0 began_total 0 1\nrequest return 1\ndone metric 0 ended_total 0 1" }
  answers: { module: %[4]q, proxy_wasm: { max_pause: 600s, stop_iteration: all }, config: "response metric 0 began_total 0 1\nresponse return 1\ndone metric 0 ended_total 0 1" }
  traefik: { module: %[5]q }
routes:
  - { match: { path_prefix: /native }, plugins: [native], upstream: web }
  - { match: { path_prefix: /asks }, plugins: [asks], upstream: web }
  - { match: { path_prefix: /waits }, plugins: [waits], upstream: web }
  - { match: { path_prefix: /answers }, plugins: [answers], upstream: web }
  - { match: { path_prefix: /traefik }, plugins: [traefik], upstream: authz }
`, web.addr, slow.addr, goPlugin(t, "testdata/authz"), module(t, probe), module(t, kit)))
	asks := func() bool { return slow.busy.Load() == 1 }
	count := func(what, plugin string) float64 {
		return p.metric(`wasmgate_plugin_custom_` + what + `_total{plugin="` + plugin + `"}`)
	}
	paused := func(plugin string) func() bool {
		return func() bool { return count("began", plugin) == max(count("ended", plugin), 0)+1 }
	}
	for _, c := range []struct {
		name    string
		waiting func() bool // the plugin keeps the request back
	}{
		{"native", asks},
		{"asks", asks},
		{"waits", paused("waits")},
		{"answers", paused("answers")},
		{"traefik", asks},
	} {
		ended := 0.0
		for how, leave := range leaves {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				gone := p.clientsGone()
				requests := web.requests.Load()
				conn := p.request("GET /" + c.name + " HTTP/1.1\r\nHost: h\r\nX-Request: N 0\r\n\r\n")
				testkit.Eventually(t, "the plugin waits", c.waiting)
				leave(conn)
				testkit.Eventually(t, "the request is over", func() bool { return p.clientsGone() == gone+1 })
				testkit.Eventually(t, "its call is, too", func() bool { return slow.busy.Load() == 0 })
				if how == "sends no more" {
					if text, err := io.ReadAll(conn); err != nil || len(text) > 0 {
						t.Errorf("the client got %q, %v", text, err)
					}
				}
				if n := web.requests.Load() - requests; c.name != "answers" && n != 0 {
					t.Errorf("the upstream was asked %d times on behalf of nobody", n)
				}
				if ended++; c.name == "asks" || c.name == "waits" || c.name == "answers" {
					testkit.Eventually(t, "the plugin knows that the request is over", func() bool {
						return count("ended", c.name) == ended
					})
				}
				if n := p.metric(`wasmgate_plugin_instances_started_total{plugin="` + c.name + `"}`); n != 1 {
					t.Errorf("%v instances were needed, since one was not free or had failed", n)
				}
			})
		}
	}
	if n := p.closedFor(facts.CloseClientAborted); n < 9 || n > 12 {
		t.Errorf("%d of the 9 connections on which the plugins' calls and the request waited, and 3 on which an answer had come, were closed for it: %v", n, p.closed)
	}
	if strings.Contains(p.journal.String(), "plugin failed") {
		t.Errorf("a plugin failed: %s", p.journal)
	}
}

// TestWhatAClientSendsAheadWaitsForAPlugin: a plugin keeps a request back while the next one has arrived on the connection.
// Nothing of that is lost, nor taken for the end, and the connection serves on when it was idle in between.
func TestWhatAClientSendsAheadWaitsForAPlugin(t *testing.T) {
	b := startBackends(t, 2)
	web, authz := b[0], b[1]
	release := make(chan struct{})
	authz.always(reply{until: release})
	p := startPlant(t, fmt.Sprintf(`loops: 1
upstreams: { web: { targets: ['http://%s'] }, authz: { targets: ['http://%s'] } }
plugins: { asks: { module: %q, calls: [authz], config: "request call authz 30000 :method GET :path /check :authority authz\nrequest return 1\nanswer stream 0\nanswer resume 0" } }
routes: [{ plugins: [asks], upstream: web }]
`, web.addr, authz.addr, module(t, probe)))
	web.does(func(a *asked) reply { return reply{body: a.path + " " + string(a.body)} })
	c := p.request("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	r := bufio.NewReader(c)
	for i := range 3 {
		testkit.Eventually(t, "the plugin waits", func() bool { return authz.busy.Load() == 1 })
		// Behind the request that waits: a whole one, and another whose body comes later.
		_, _ = fmt.Fprintf(c, "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
		release <- struct{}{}
		if got := body(t, r); got != "/1 " {
			t.Fatalf("%d: %q", i, got)
		}
		_, _ = io.WriteString(c, "cde")
		testkit.Eventually(t, "the plugin waits", func() bool { return authz.busy.Load() == 1 })
		release <- struct{}{}
		if got := body(t, r); got != "/2 abcde" {
			t.Fatalf("%d: %q", i, got)
		}
		_, _ = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	testkit.Eventually(t, "the plugin waits", func() bool { return authz.busy.Load() == 1 })
	release <- struct{}{}
	_ = body(t, r)
	if n := p.clientsGone(); n != 0 {
		t.Errorf("%d clients were taken for gone", n)
	}
}

// body reads an answer with status 200.
func body(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(text)
}
