package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

const (
	probe = "runtime/wasm/proxywasm/testdata/probe.wasm" // does what its configuration says
	kit   = "runtime/wasm/httpwasm/testdata/kit.wasm"    // does what the request's x-request and x-response say
)

// told is what a backend saw last, of what the test is about.
type told struct {
	mu   sync.Mutex
	text string
}

// tells has a backend answer with its name, and note the request with these fields.
func tells(b *backend, names ...string) *told {
	v := &told{}
	b.does(func(a *asked) reply {
		text := b.name + " " + a.method + " " + a.path
		for _, n := range names {
			if value := a.get(n); value != "" {
				text += " " + n + "=" + value
			}
		}
		if len(a.body) > 0 {
			text += " " + string(a.body)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.text = text
		return reply{body: "from " + b.name}
	})
	return v
}

// last is what the backend was told last, once.
func (v *told) last() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := v.text
	v.text = ""
	return text
}

// visit is a request through a plugin, what the upstream must have seen of it, and what the client must get.
type visit struct {
	request string // method, path and fields
	seen    string // "": nothing
	status  int
	body    string
	field   string // "name: value" of the answer
}

func (v *visit) make(t *testing.T, p *plant, saw ...*told) {
	t.Helper()
	words := strings.Split(v.request, ", ")
	method, path, _ := strings.Cut(words[0], " ")
	a := p.ask(method, path, words[1:]...)
	seen := ""
	for _, s := range saw {
		seen += s.last()
	}
	if seen != v.seen || a.status != v.status || string(a.body) != v.body {
		t.Errorf("%s:\nthe upstream saw %q, want %q\nthe client got %d %q, want %d %q\n%s", v.request, seen, v.seen, a.status, a.body, v.status, v.body, p.journal)
	}
	if name, value, ok := strings.Cut(v.field, ": "); ok && a.get(name) != value {
		t.Errorf("%s: %s is %q, not %q", v.request, name, a.get(name), value)
	}
}

// TestProxyWasmThroughTheGateway is what somebody sees who brings a plugin for Envoy: a route by what it says of the
// authority, calls, answers of its own, bodies, shared data and metrics, by real sockets.
func TestProxyWasmThroughTheGateway(t *testing.T) {
	b := startBackends(t, 3)
	web, acme := tells(b[0], "x-count", "x-user"), tells(b[1], "host")
	b[2].does(func(a *asked) reply {
		if a.get("x-token") != "good" {
			return reply{status: 403}
		}
		return reply{head: "X-User: anna\r\n", body: "yes"}
	})
	plugin := func(lines ...string) string {
		return fmt.Sprintf("{ module: %q, calls: [auth], config: %q }", module(t, probe), strings.Join(lines, "\n"))
	}
	p := startPlant(t, fmt.Sprintf(`loops: 2
upstreams:
  web: { targets: ['http://%s'] }
  acme: { targets: ['http://%s'], host: preserve }
  auth: { targets: ['http://%s'] }
plugins:
  tenant: %s
  denied: %s
  good: %s
  bad: %s
  counts: %s
  rewrites: %s
routes:
  - { match: { host: acme.internal }, upstream: acme }
  - { match: { path_prefix: /tenant }, plugins: [tenant], upstream: web }
  - { match: { path_prefix: /denied }, plugins: [denied], upstream: web }
  - { match: { path_prefix: /good }, plugins: [good], upstream: web }
  - { match: { path_prefix: /bad }, plugins: [bad], upstream: web }
  - { match: { path_prefix: /counts }, plugins: [counts], upstream: web }
  - { match: { path_prefix: /rewrites }, plugins: [rewrites], upstream: web }
`, b[0].addr, b[1].addr, b[2].addr,
		plugin("request set 0 :authority acme.internal"),
		plugin("request respond 403 no 7 x-why denied", "request return 1"),
		plugin("request call auth 2000 :method GET :path /check :authority auth x-token good", "request return 1", "answer stream 0", "answer copy 6 x-user 0 x-user", "answer resume 0"),
		plugin("request call auth 2000 :method GET :path /check :authority auth x-token bad", "request return 1", "answer stream 0", "answer respond 401 who? 7"),
		plugin("request metric 0 seen_total 0 1", "request swap count 1", "request shared count", "request set 0 x-count set", "response set 2 x-answer seen"),
		plugin("request_more return 1", "request_end setbody 0 0 100 rewritten", "response_more return 1", "response_end setbody 1 0 1000 answer"),
	))
	for range 2 {
		for _, v := range []visit{
			{request: "GET /tenant/x", seen: "b2 GET /tenant/x host=acme.internal", status: 200, body: "from b2"},
			{request: "POST /tenant/x", seen: "b2 POST /tenant/x host=acme.internal hi", status: 200, body: "from b2"},
			{request: "GET /denied", status: 403, body: "no", field: "x-why: denied"},
			{request: "GET /good", seen: "b1 GET /good x-user=anna", status: 200, body: "from b1"},
			{request: "GET /good, X-User: root", seen: "b1 GET /good x-user=anna", status: 200, body: "from b1"},
			{request: "GET /bad", status: 401, body: "who?"},
			{request: "GET /counts", seen: "b1 GET /counts x-count=set", status: 200, body: "from b1", field: "x-answer: seen"},
			{request: "POST /rewrites", seen: "b1 POST /rewrites rewritten", status: 200, body: "answer"},
		} {
			v.make(t, p, web, acme)
		}
	}
	if n := p.metric(`wasmgate_plugin_custom_seen_total{plugin="counts"}`); n != 2 {
		t.Errorf("the plugin's own metric is %v among the gateway's, not 2", n)
	}
}

// TestHTTPWasmThroughTheGateway is what somebody sees who brings a plugin for Traefik.
func TestHTTPWasmThroughTheGateway(t *testing.T) {
	b := startBackends(t, 1)
	web := tells(b[0], "x-user")
	p := startPlant(t, fmt.Sprintf(`loops: 2
upstreams: { web: { targets: ['http://%s'] } }
plugins: { kit: { module: %q } }
routes: [{ plugins: [kit], upstream: web }]
`, b[0].addr, module(t, kit)))
	for range 2 {
		for _, v := range []visit{
			{request: "GET /a, x-request: U /b?c=d;h 0 x-user anna;N 0", seen: "b1 GET /b?c=d x-user=anna", status: 200, body: "from b1"},
			{request: "GET /a, x-request: S 403;h 1 x-why denied;w 1 no", status: 403, body: "no", field: "x-why: denied"},
			{request: "POST /a, x-request: F 3;T 0 10;N 0, x-response: T 1 10;S 202;h 1 x-answer seen", seen: "b1 POST /a HI", status: 202, body: "FROM B1", field: "x-answer: seen"},
			{request: "GET /a, x-request: N 7, x-response: w 1 instead", seen: "b1 GET /a", status: 200, body: "instead"},
		} {
			v.make(t, p, web)
		}
	}
}

// TestAPluginLooksAtConnections: a listener in TCP mode whose bytes pass through plugins of Proxy-Wasm, for a database, say.
// They change bytes both ways, ask a service whether the client may come in, and refuse.
func TestAPluginLooksAtConnections(t *testing.T) {
	b := startBackends(t, 1)
	b[0].does(func(a *asked) reply {
		if a.get("x-token") != "good" {
			return reply{status: 403}
		}
		return reply{after: 20 * time.Millisecond}
	})
	var begun atomic.Int32 // sessions
	database := startDatabase(t, func(c net.Conn) {
		begun.Add(1)
		all, _ := io.ReadAll(c)
		_, _ = c.Write(append(append([]byte("["), all...), ']'))
	})
	plugin := func(lines ...string) string {
		return fmt.Sprintf("{ module: %q, calls: [auth], config: %q }", module(t, probe), strings.Join(lines, "\n"))
	}
	config := func(mark string) string {
		return fmt.Sprintf(`
listeners:
  - { name: marked, address: '127.0.0.1:0', mode: tcp, upstream: db, plugins: [marks, good] }
  - { name: refused, address: '127.0.0.1:0', mode: tcp, upstream: db, plugins: [bad] }
  - { name: broken, address: '127.0.0.1:0', mode: tcp, upstream: db, plugins: [traps] }
upstreams: { db: { targets: ['http://%s'] }, auth: { targets: ['http://%s'] } }
plugins:
  marks: %s
  good: %s
  bad: %s
  traps: %s
`, database, b[0].addr,
			plugin("downstream setbody 2 0 0 "+mark, "upstream setbody 3 0 0 "+mark),
			plugin("connection call auth 2000 :method GET :path /check :authority auth x-token good", "connection return 1", "answer stream 0", "answer resume 2"),
			plugin("connection call auth 2000 :method GET :path /check :authority auth x-token bad", "connection return 1", "answer stream 0", "answer close 2"),
			plugin("downstream trap"))
	}
	s := startSite(t, config("<"))
	say := func(listener, text string) (string, error) {
		c, err := net.Dial("tcp", s.at(listener))
		if err != nil { // refused before we knew that we were connected
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, text); err != nil { // or before we could say a word; it is told once
			return "", err
		}
		_ = c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		return string(got), err
	}
	old := call(t, s.at("marked"))
	_, _ = io.WriteString(old, "one")
	testkit.Eventually(t, "its session has begun, with the first config", func() bool { return begun.Load() == 1 })
	if got, err := say("marked", "hello"); err != nil || !strings.HasPrefix(got, "<[<hello") {
		t.Errorf("%q, %v", got, err)
	}
	for _, listener := range []string{"refused", "broken"} {
		if got, err := say(listener, "hello"); !errors.Is(err, syscall.ECONNRESET) || got != "" {
			t.Errorf("%s: %q, %v", listener, got, err)
		}
	}
	if n := len(s.lines(3)); n != 3 {
		t.Fatalf("%d lines in the access log", n)
	}
	log, _ := os.ReadFile(s.access)
	if n := strings.Count(string(log), `"why_ended":"plugin"`); n != 2 || !strings.Contains(string(log), `"error":"denied","error_source":"plugin"`) || !strings.Contains(string(log), `"error":"plugin_trap","error_source":"plugin"`) {
		t.Errorf("%d sessions were ended by a plugin:\n%s", n, log)
	}

	// Another config: sessions that there are go on with the plugin that they began with.
	if err := s.Reload(siteConfig(t, s.access, config(">"))); err != nil {
		t.Fatal(err)
	}
	if got, err := say("marked", "hello"); err != nil || !strings.HasPrefix(got, ">[>hello") {
		t.Errorf("after a reload: %q, %v", got, err)
	}
	_, _ = io.WriteString(old, "two")
	_ = old.Conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(old); err != nil || !strings.HasPrefix(string(got), "<[<one") || !strings.Contains(string(got), "two") || strings.Contains(string(got), ">") {
		t.Errorf("a session from before the reload: %q, %v", got, err)
	}
}

// TestAPluginThatCannotLookAtConnections is refused when the configuration is read.
func TestAPluginThatCannotLookAtConnections(t *testing.T) {
	c := load(t, fmt.Sprintf(`
listeners: [{ address: '127.0.0.1:0', mode: tcp, upstream: db, plugins: [tenant] }]
upstreams: { db: { targets: ['http://127.0.0.1:1'] } }
plugins: { tenant: { module: %q } }
`, module(t, kit)))
	_, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop()})
	if err == nil || !strings.Contains(err.Error(), "listeners[0].plugins[0]: tenant has no callbacks for connections") {
		t.Errorf("%v", err)
	}
}

// TestThePageForOtherPluginsHolds starts a gateway with the configuration that runtime/wasm/README.md shows.
func TestThePageForOtherPluginsHolds(t *testing.T) {
	page, err := os.ReadFile("../wasm/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	for name, path := range map[string]string{"from-envoy.wasm": probe, "from-traefik.wasm": kit, "looks-at-connections.wasm": probe, "127.0.0.1:8080": "127.0.0.1:0", "127.0.0.1:15432": "127.0.0.1:0"} {
		if !strings.Contains(text, name) {
			t.Fatalf("the page does not name %s", name)
		}
		if strings.HasSuffix(name, ".wasm") {
			path = module(t, path)
		}
		text = strings.Replace(text, name, path, 1)
	}
	g, err := gateway.New(gateway.Options{Config: load(t, text), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Start(); err != nil {
		t.Error(err)
	}
}

// TestPluginsSeeAnAnswerThatSwitchesProtocols: the response phase of each ABI has 101, and what it does to the head is sent; the
// bytes behind it are nobody's.
func TestPluginsSeeAnAnswerThatSwitchesProtocols(t *testing.T) {
	echo := startDatabase(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-Secret: 1\r\n\r\n")
		_, _ = io.Copy(c, r)
	})
	g := start(t, fmt.Sprintf(`
upstreams: { echo: { targets: ['http://%s'] } }
plugins:
  native: { module: %q, config: { response: { set: { x-native: "{status}" }, remove: x-secret } } }
  envoy: { module: %q, config: "response copy 2 :status 2 x-envoy\nresponse_body setbody 1 0 0 never" }
  traefik: { module: %q }
routes: [{ plugins: [native, envoy, traefik], upstream: echo, upgrades: [echo] }]
`, echo, goPlugin(t, "../../plugins/header-policy"), module(t, probe), module(t, kit)))
	c, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-Request: N 0\r\nX-Response: h 1 x-traefik seen\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	if resp.StatusCode != 101 || h.Get("X-Native") != "101" || h.Get("X-Envoy") != "101" || h.Get("X-Traefik") != "seen" || h.Get("X-Secret") != "" || h.Get("Upgrade") != "echo" {
		t.Errorf("%s %v\n%s", resp.Status, h, g.log)
	}
	_, _ = io.WriteString(c, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}
