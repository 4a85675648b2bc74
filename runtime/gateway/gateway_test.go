package gateway_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// routes is a config in which every way to match leads to the same nginx.
func routes(n *nginx) string {
	return fmt.Sprintf(`
upstreams:
  web: { targets: ["http://%[1]s"], pool: { max_connections: 1000 } }
routes:
  - { name: prefix, match: { path_prefix: /prefix }, upstream: web }
  - { name: regex, match: { path_regex: "^/app/users/([0-9]{4})$" }, rewrite: { path: "/users/$1" }, upstream: web }
  - name: authority
    match: { path_regex: "^/to/([0-9.]+)/" }
    upstream: "http://$1:%[2]d"
    dynamic: { allow: ["127.0.0.1:%[2]d"] }
`, n.addr(), n.port)
}

// TestKeepAliveHoweverTheRouteMatched: a regex route must reuse connections like any other, and so must the others.
func TestKeepAliveHoweverTheRouteMatched(t *testing.T) {
	for name, path := range map[string]string{"prefix": "/prefix/x", "regex": "/app/users/1234", "authority": "/to/127.0.0.1/x"} {
		for loops, clients := range map[int]int{1: 64, 2: 8} {
			t.Run(fmt.Sprintf("%s, %d loops, %d clients", name, loops, clients), func(t *testing.T) {
				reuse(t, loops, clients, routes, path)
			})
		}
	}
}

func TestRoutesRewriteAndRespond(t *testing.T) {
	n := startNginx(t)
	g := start(t, fmt.Sprintf(`
upstreams:
  web: { targets: ["http://%s"], host: upstream }
routes:
  - { match: { path_prefix: /app/secret }, exclude: true }
  - { match: { path: /hello }, respond: { status: 200, headers: { content-type: text/plain, x-a: b }, body: "hi\n" } }
  - { match: { path_prefix: /app }, rewrite: { strip_prefix: /app, add_prefix: /v2 }, upstream: web }
  - { match: { path_regex: "^/q/(\\w+)/(?P<id>[0-9]+)$" }, rewrite: { path: "/$1", query: "id=$id" }, upstream: web }
  - match: { host: "*.tenant.test", methods: [GET], headers: { x-beta: { regex: "^y" } }, query: { debug: { present: true } } }
    rewrite: { path: /beta }
    upstream: web
  - { match: { host: named.test }, host: other.test, upstream: web, response_headers: { set: { server: mine }, add: { x-new: "1" }, remove: [x-path] } }
`, n.addr()))
	ask := func(path string, edit func(*http.Request)) (int, string, http.Header) {
		t.Helper()
		req, _ := http.NewRequest("GET", g.url(path), nil)
		if edit != nil {
			edit(req)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), resp.Header
	}
	for _, c := range []struct {
		path   string
		edit   func(*http.Request)
		status int
		body   string
	}{
		{"/app/x?y=1", nil, 200, "you asked for /v2/x?y=1 at 127.0.0.1"},
		{"/app", nil, 200, "you asked for /v2 at"},
		{"/apple", nil, 404, "no_route"},
		{"/app/secret/1", nil, 404, ""},
		{"/app/./a/../b%2Fc", nil, 200, "/v2/b%2Fc at"},
		{"/hello", nil, 200, "hi\n"},
		{"/q/name/77?old=1", nil, 200, "you asked for /name?id=77 at"},
		{"/any?debug", func(r *http.Request) { r.Host = "A.tenant.TEST:81"; r.Header.Set("X-Beta", "yes") }, 200, "/beta?debug"},
		{"/any?debug", func(r *http.Request) { r.Host = "a.tenant.test"; r.Header.Set("X-Beta", "no") }, 404, ""},
		{"/any", func(r *http.Request) { r.Host = "a.tenant.test"; r.Header.Set("X-Beta", "yes") }, 404, ""},
		{"/h", func(r *http.Request) { r.Host = "named.test" }, 200, "you asked for /h at other.test"},
	} {
		status, body, _ := ask(c.path, c.edit)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %q; want %d %q", c.path, status, body, c.status, c.body)
		}
	}
	_, _, h := ask("/h", func(r *http.Request) { r.Host = "named.test" })
	if h.Get("Server") != "mine" || h.Get("X-New") != "1" || h.Get("X-Path") != "" {
		t.Errorf("response fields: %v", h)
	}
}

func TestACapturedAuthorityIsNoOpenRelay(t *testing.T) {
	n := startNginx(t)
	g := start(t, fmt.Sprintf(`
routes:
  - match: { path_regex: "^/to/([^/]+)/" }
    upstream: "http://$1:%d"
    dynamic: { allow: ["localhost:%[1]d"] }
`, n.port))
	for _, host := range []string{"127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost.evil.test", "localhost@evil.test", "localhost:80", "%6cocalhost", "[::1]"} {
		resp, err := http.Get(g.url("/to/" + host + "/x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 && resp.StatusCode != 400 {
			t.Errorf("%s: %s; want it refused", host, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if got := get(t, g.url("/to/localhost/x")); !strings.Contains(got, "you asked for /to/localhost/x") {
		t.Errorf("what is allowed: %q", got)
	}
}

// TestAGigabyteBothWays sends a large body through the gateway and back at the same time, in bounded memory.
func TestAGigabyteBothWays(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() || raceEnabled || portableLoops {
		size = 32 << 20
	}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		_, _ = io.Copy(w, r.Body)
	}))
	defer echo.Close()
	g := start(t, "upstreams: { echo: { targets: ['"+echo.URL+"'] } }\nroutes: [{ upstream: echo }]\n")
	sent, got := sha256.New(), sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	req, _ := http.NewRequest("PUT", g.url("/"), io.NopCloser(source))
	req.ContentLength = size
	var before, most runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	n, err := io.Copy(got, resp.Body)
	if err != nil || n != size || string(sent.Sum(nil)) != string(got.Sum(nil)) {
		t.Errorf("%d of %d bytes came back, %v; same: %v", n, size, err, string(sent.Sum(nil)) == string(got.Sum(nil)))
	}
	runtime.ReadMemStats(&most)
	if grown := int64(most.Sys) - int64(before.Sys); grown > 64<<20 {
		t.Errorf("the process grew by %d MiB, client and backend included", grown>>20)
	}
}

func TestRealClients(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n))
	url := g.url("/prefix/x")
	t.Run("curl", func(t *testing.T) {
		if out := run(t, "curl", "-sS", "-i", "--http1.0", url); !strings.Contains(out, "200 OK") || !strings.Contains(out, "/prefix/x") {
			t.Error(out)
		}
		if out := run(t, "curl", "-sS", "-I", url); !strings.Contains(out, "200 OK") || !strings.Contains(out, "Content-Length") {
			t.Error(out)
		}
		if out := run(t, "curl", "-sS", "-v", "-H", "Expect: 100-continue", "-d", strings.Repeat("x", 100_000), url); !strings.Contains(out, "100 Continue") || !strings.Contains(out, "200 OK") {
			t.Error(out)
		}
		if out := run(t, "curl", "-sS", "-v", url, url, url); strings.Count(out, "Re-using existing connection") != 2 {
			t.Error(out)
		}
	})
	t.Run("ab -k", func(t *testing.T) {
		before := n.accepted()
		out := run(t, "ab", "-k", "-q", "-n", "1000", "-c", "1", url)
		if !regexp.MustCompile(`Keep-Alive requests: +1000\n`).MatchString(out) || !strings.Contains(out, "Failed requests:        0") {
			t.Error(out)
		}
		if got := n.accepted() - before; got > 1 {
			t.Errorf("nginx accepted %d connections more", got)
		}
	})
}

func TestAWebSocketEchoes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
				_, _ = io.Copy(c, r)
			}()
		}
	}()
	g := start(t, "upstreams: { ws: { targets: ['http://"+ln.Addr().String()+"'] } }\nroutes: [{ upstream: ws }]\n")
	c, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /chat HTTP/1.1\r\nHost: ws\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") == "" {
		t.Fatalf("%v %v", resp, err)
	}
	frame := []byte{0x81, 0x85, 1, 2, 3, 4, 'h' ^ 1, 'e' ^ 2, 'l' ^ 3, 'l' ^ 4, 'o' ^ 1}
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(frame))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != string(frame) {
		t.Errorf("got %x, %v; want %x", got, err, frame)
	}
}

// load keeps asking by several connections until stop is called, and counts what failed.
func hammer(t *testing.T, url string, clients int) (stop func() (requests, failed int64, first string)) {
	var asked, failures atomic.Int64
	var message atomic.Pointer[string]
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				default:
				}
				asked.Add(1)
				resp, err := client.Get(url)
				what := ""
				if err != nil {
					what = err.Error()
				} else {
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != 200 {
						what = fmt.Sprint(resp.Status, err, string(body))
					}
				}
				if what != "" {
					failures.Add(1)
					message.CompareAndSwap(nil, &what)
				}
			}
		})
	}
	return func() (int64, int64, string) {
		close(done)
		wg.Wait()
		if m := message.Load(); m != nil {
			return asked.Load(), failures.Load(), *m
		}
		return asked.Load(), failures.Load(), ""
	}
}

func TestReloadsUnderLoadFailNothingAndKeepConnections(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n))
	stop := hammer(t, g.url("/prefix/x"), 8)
	testkit.Eventually(t, "the load runs", func() bool { return n.accepted() >= 8 })
	before := n.accepted()
	listener := "listeners: [{ name: test, address: '127.0.0.1:0' }]\n"
	for i := range 200 {
		c := load(t, listener+routes(n)+fmt.Sprintf("  - { match: { path: /r%d }, respond: { status: 204 } }\n", i))
		if err := g.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	asked, failed, first := stop()
	if failed > 0 || asked < 100 {
		t.Errorf("%d of %d requests failed, first: %s", failed, asked, first)
	}
	if got := n.accepted(); got > before {
		t.Errorf("nginx accepted %d connections more during 200 reloads", got-before)
	}
	if got := get(t, g.url("/r199")); got != "" {
		t.Errorf("the last config is not in force: %q", got)
	}
	t.Logf("%d requests during 200 reloads", asked)
}

func TestAConfigThatCannotBePutInForceChangesNothing(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := load(t, "listeners: [{ name: test, address: '127.0.0.1:0' }, { address: '"+taken.Addr().String()+"' }]\nroutes: [{ respond: { status: 204 } }]\n")
	if err := g.Reload(bad); err == nil || !strings.Contains(err.Error(), "listeners[1].address") {
		t.Errorf("Reload: %v", err)
	}
	if got := get(t, g.url("/prefix/x")); !strings.Contains(got, "/prefix/x") {
		t.Errorf("the old config is not in force: %q", got)
	}
}

func TestShutdownUnderLoadLosesNothing(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n))
	var completed, refused, broken atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				c, err := net.Dial("tcp", g.addr.String())
				if err != nil {
					refused.Add(1) // it does not listen any more
					return
				}
				r, begun := bufio.NewReader(c), time.Now()
				for closes := false; !closes; {
					fmt.Fprint(c, "GET /prefix/x HTTP/1.1\r\nHost: h\r\n\r\n")
					late := time.Since(begun) > 900*time.Millisecond // a connection may be silent for a second
					begun = time.Now()
					resp, err := http.ReadResponse(r, nil)
					if err != nil && late { // this client has stood still
						break
					}
					if err != nil {
						broken.Add(1)
						c.Close()
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					closes = resp.Close
					completed.Add(1)
				}
				c.Close()
			}
		})
	}
	testkit.Eventually(t, "the load runs", func() bool { return completed.Load() > 500 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if broken.Load() > 0 || refused.Load() != 16 {
		t.Errorf("%d answers, %d broken, %d of 16 clients were refused in the end", completed.Load(), broken.Load(), refused.Load())
	}
}

func TestTLSToTheUpstream(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.ServerName, " ", r.Host) }))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, srv.Certificate().Raw)
	addr := netip.MustParseAddrPort(srv.Listener.Addr().String())
	text := func(name string) string {
		return fmt.Sprintf("upstreams: { s: { targets: ['https://127.0.0.1:%d'], tls: { ca: %s, server_name: %s } } }\nroutes: [{ upstream: s }]\n", addr.Port(), ca, name)
	}
	g := start(t, text("example.com"))
	for range 3 {
		if got := get(t, g.url("/")); !strings.HasPrefix(got, "example.com ") {
			t.Errorf("got %q", got)
		}
	}
	bad := start(t, text("other.test"))
	resp, err := http.Get(bad.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 502 || !strings.Contains(string(body), "tls") {
		t.Errorf("a certificate for another name: %s %q", resp.Status, body)
	}
}

// openFiles counts the process's descriptors; 0 where the system does not tell.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

func TestNoDescriptorIsLeftOver(t *testing.T) {
	n := startNginx(t)
	before := openFiles()
	func() {
		g := start(t, routes(n))
		for range 5 {
			get(t, g.url("/prefix/x"))
		}
		g.Close()
	}()
	testkit.Eventually(t, "all descriptors are closed", func() bool { return openFiles() <= before })
}
