package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// unixServer is Go's server on a Unix socket.
type unixServer struct {
	path          string
	conns, checks atomic.Int64
	used          atomic.Int64 // connections with another request than a check
	well          atomic.Bool
	close         func()
}

// ofItsConnection is what a request's context has an *atomic.Bool for: whether its connection is counted in used.
type ofItsConnection struct{}

// startUnix starts one that speaks HTTP/1.1, or HTTP/2 only; cfg nil: without TLS.
func startUnix(t *testing.T, path string, cfg *tls.Config, h2 bool) *unixServer {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &unixServer{path: path}
	s.well.Store(true)
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2 && cfg != nil)
	protocols.SetUnencryptedHTTP2(h2 && cfg == nil)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // its client is the gateway
		if r.URL.Path == "/health" {
			if s.checks.Add(1); !s.well.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if counted := r.Context().Value(ofItsConnection{}).(*atomic.Bool); !counted.Swap(true) {
			s.used.Add(1)
		}
		name := ""
		if r.TLS != nil {
			name = r.TLS.ServerName
		}
		w.Header().Set("X-Name", name)
		_ = http.NewResponseController(w).EnableFullDuplex()
		h2Echo(w, r)
	}), ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, ofItsConnection{}, &atomic.Bool{})
	}, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}}
	if cfg != nil {
		cfg = cfg.Clone()
		if cfg.NextProtos = []string{"http/1.1"}; h2 {
			cfg.NextProtos = []string{"h2"}
		}
		server.TLSConfig = cfg
		l = tls.NewListener(l, cfg)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	s.close = func() { _ = server.Close(); <-done }
	t.Cleanup(s.close)
	return s
}

// TestUpstreamsOnUnixSockets: what works over TCP works over a socket of the file system too: connections that are used again, bodies,
// trailers, TLS, HTTP/2, health checks, and what is told of it.
func TestUpstreamsOnUnixSockets(t *testing.T) {
	authority := newIssuer(t)
	authority.issue("local", "localhost")
	pair, err := tls.LoadX509KeyPair(authority.file("local.pem"), authority.file("local.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}} //nolint:gosec // its client says
	for _, c := range []struct {
		name, scheme, protocol, saw string
		cfg                         *tls.Config
	}{
		{"HTTP/1.1", "http", "http1.1", "HTTP/1.1", nil},
		{"HTTP/1.0", "http", "http1.0", "HTTP/1.0", nil},
		{"HTTP/2", "http", "http2", "HTTP/2.0", nil},
		{"HTTP/1.1 by TLS", "https", "http1.1", "HTTP/1.1", cfg},
		{"HTTP/2 by TLS", "https", "http2", "HTTP/2.0", cfg},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startUnix(t, filepath.Join(shortDir(t), "app.sock"), c.cfg, c.protocol == "http2")
			more := ""
			if c.cfg != nil {
				more = fmt.Sprintf(", tls: { ca: %q }", authority.file("ca.pem"))
			}
			p := startPlant(t, fmt.Sprintf(`loops: 2
upstreams: { web: { targets: ['%s://unix:%s'], protocol: %s%s, health: { active: { type: http, path: /health, interval: 100ms, timeout: 20s, rise: 1, fall: 1 } } } }
%s`, c.scheme, s.path, c.protocol, more, h2Routes))
			testkit.Eventually(t, "it was asked whether it is well, and has said so", func() bool {
				return s.checks.Load() > 0 && p.upstream("web").Members[0].Health == "healthy"
			})
			large := strings.Repeat("0123456789", 60_000)
			for i := range 20 {
				r, _ := http.NewRequest("POST", p.url(fmt.Sprintf("/%d", i)), strings.NewReader(large))
				r.Host = "h.example"
				a, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body := readAll(t, a)
				if a.StatusCode != 200 || body != large || !strings.HasPrefix(a.Header.Get("X-Saw"), fmt.Sprintf("%s POST h.example /%d 600000", c.saw, i)) {
					t.Fatalf("%s, saw %q, %d bytes; %s", a.Status, a.Header.Get("X-Saw"), len(body), p.journal)
				}
				if c.cfg != nil && a.Header.Get("X-Name") != "localhost" {
					t.Errorf("the server was asked for %q", a.Header.Get("X-Name"))
				}
			}
			kept := c.protocol != "http1.0" // whose answers without a length end with their connections
			if n := s.used.Load(); n > 2 && kept {
				t.Errorf("%d connections for requests", n)
			}
			if m := p.upstream("web").Members; len(m) != 1 || m[0].Target != "unix:"+s.path || m[0].Address != "unix:"+s.path || m[0].Health != "healthy" {
				t.Errorf("%+v", m)
			}
			var list struct {
				Connections []struct{ Host, Address string }
			}
			if err := json.Unmarshal([]byte(get(t, "http://"+p.AdminAddr().String()+"/connections?address=unix:"+s.path)), &list); err != nil ||
				kept && (len(list.Connections) == 0 || list.Connections[0].Address != "unix:"+s.path) {
				t.Errorf("%v %+v", err, list)
			}
			s.well.Store(false)
			testkit.Eventually(t, "it is unhealthy", func() bool { return p.upstream("web").Members[0].Health == "unhealthy" })
			s.well.Store(true)
			testkit.Eventually(t, "it is healthy again", func() bool { return p.upstream("web").Members[0].Health == "healthy" })
		})
	}
}

// TestASocketThatNobodyListensOn is told of by its path, and is used as soon as there is somebody, also by a file of the same name.
func TestASocketThatNobodyListensOn(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	s := startSite(t, fmt.Sprintf("loops: 1\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\nupstreams: { web: { targets: ['unix:%s'], retries: { attempts: 1 }, health: { passive: { failures: 0 } } } }\n%s", path, h2Routes))
	ask := func() int {
		resp, err := http.Get(s.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		return resp.StatusCode
	}
	if status := ask(); status != 502 {
		t.Errorf("answered %d", status)
	}
	s.logs("unix:" + path)
	for range 2 {
		one := startUnix(t, path, nil, false)
		if status := ask(); status != 200 {
			t.Errorf("answered %d", status)
		}
		one.close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if status := ask(); status != 502 {
			t.Errorf("answered %d although nobody is there", status)
		}
	}
}

// TestSocketsOfRoutesAndStreams: a route may name a socket itself, and so may the upstream of a listener in TCP mode.
func TestSocketsOfRoutesAndStreams(t *testing.T) {
	server := startUnix(t, filepath.Join(shortDir(t), "app.sock"), nil, false)
	s := startSite(t, strings.ReplaceAll(`
loops: 1
listeners:
  - { name: test, address: '127.0.0.1:0' }
  - { name: raw, address: '127.0.0.1:0', mode: tcp, upstream: app }
upstreams:
  app: { targets: ['unix:SOCKET'], host: upstream }
routes:
  - { match: { path_prefix: /inline }, upstream: 'unix:SOCKET', host: upstream }
  - { upstream: app }
`, "SOCKET", server.path))
	for _, path := range []string{s.url("/inline"), s.url("/"), "http://" + s.at("raw") + "/"} {
		resp, err := http.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if saw := resp.Header.Get("X-Saw"); resp.StatusCode != 200 || !strings.Contains(saw, " localhost ") != strings.Contains(path, s.at("raw")) {
			t.Errorf("%s: %s, saw %q", path, resp.Status, saw)
		}
	}
	s.logs(`"upstream_host":"unix:` + server.path + `","upstream_address":"unix:` + server.path + `"`)
	http.DefaultClient.CloseIdleConnections()
	testkit.Eventually(t, "the tunnel of mode tcp ends with its client", func() bool { return s.closedFor("tunnel_ended") > 0 })
}

// TestSocketsAreAddedAndChangedLive, as other targets are.
func TestSocketsAreAddedAndChangedLive(t *testing.T) {
	dir := shortDir(t)
	one, two := startUnix(t, filepath.Join(dir, "1.sock"), nil, false), startUnix(t, filepath.Join(dir, "2.sock"), nil, false)
	p := startPlant(t, fmt.Sprintf("loops: 1\nupstreams: { web: { targets: ['unix:%s'] } }\n%s", one.path, h2Routes))
	admin := "http://" + p.AdminAddr().String() + "/upstreams/web/targets"
	run(t, "curl", "-sS", "--fail-with-body", "-X", "POST", "-d", fmt.Sprintf(`{"url": "unix:%s"}`, two.path), admin)
	p.patch("web", "unix:"+strings.ReplaceAll(one.path, "/", "%2F"), `{"state": "disabled"}`)
	for range 4 {
		if a := p.ask("GET", "/health"); a.status != 200 {
			t.Errorf("answered %d", a.status)
		}
	}
	if one.conns.Load() != 0 || two.conns.Load() != 1 {
		t.Errorf("%d and %d connections", one.conns.Load(), two.conns.Load())
	}
	run(t, "curl", "-sS", "--fail-with-body", "-X", "DELETE", admin+"/unix:"+strings.ReplaceAll(two.path, "/", "%2F"))
	if m := p.upstream("web").Members; len(m) != 1 {
		t.Errorf("%+v", m)
	}
}

// TestNoRequestNamesASocket: what a client or a route's captures say is never taken for the path of one.
func TestNoRequestNamesASocket(t *testing.T) {
	s := startUnix(t, filepath.Join(shortDir(t), "app.internal"), nil, false)
	p := startPlant(t, `loops: 1
upstreams: { any: { dynamic: { allow: ['*.internal:*'] } } }
routes: [{ match: { path_regex: '^/to/(.*)$' }, authority: '$1', upstream: any }]
`)
	for _, to := range []string{s.path, "unix:" + s.path, "[::%25" + s.path + "]:80", "[::%25" + s.path + "]", "::%25" + s.path, "%2Fx" + s.path} {
		if a := p.ask("GET", "/to/"+to); a.status < 400 {
			t.Errorf("%s: answered %d", to, a.status)
		}
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// shortDir is a folder for sockets, whose paths must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
