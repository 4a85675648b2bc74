package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// TestHTTP2Clients: what clients ask in HTTP/2 is asked in what the upstream speaks, and answered in HTTP/2.
func TestHTTP2Clients(t *testing.T) {
	h2 := startH2(t, 250, h2Echo)
	h1 := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.Header.Get("Connection") == "TE" {
			r.Header.Del("Connection") // as it must be, for TE
		}
		h2Echo(w, r)
	})
	large := strings.Repeat("0123456789", 300_000)
	for version, to := range map[string]string{"HTTP/2.0": h2Upstream(h2.addr, ""), "HTTP/1.1": "upstreams: { web: { targets: ['" + h1 + "'] } }\n"} {
		t.Run(version, func(t *testing.T) {
			p := startPlant(t, "loops: 1\n"+to+h2Routes)
			c := h2Client(t)
			for _, one := range []struct {
				method, body string
				unknown      bool
				saw, sum     string
			}{
				{"GET", "", false, "GET h.example /x?y=1 0 one", ""},
				{"HEAD", "", false, "HEAD h.example /x?y=1 0 one", ""},
				{"POST", "short", false, "POST h.example /x?y=1 5 one", "5 <nil>"},
				{"POST", large, false, "POST h.example /x?y=1 3000000 one", "3000000 <nil>"},
				{"PUT", large, true, "PUT h.example /x?y=1 -1 one", "3000000 <nil>last"},
				{"POST", "", false, "POST h.example /x?y=1 0 one", ""},
			} {
				var body io.Reader
				if one.body != "" {
					body = strings.NewReader(one.body)
				}
				r, _ := http.NewRequest(one.method, p.url("/x?y=1"), body)
				r.Host = "h.example"
				r.Header = http.Header{"X-One": {"one"}, "Te": {"trailers"}}
				if one.unknown {
					r.ContentLength, r.Trailer = -1, http.Header{"X-Last": {"last"}}
				}
				a, err := c.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, a.Body)
				a.Body.Close()
				if saw := a.Header.Get("X-Saw"); err != nil || a.StatusCode != 200 || a.ProtoMajor != 2 || saw != version+" "+one.saw || a.Header.Get("X-Wrong") != "" {
					t.Errorf("%s: %v %s %s, saw %q, wrong %q", one.method, err, a.Proto, a.Status, saw, a.Header.Get("X-Wrong"))
				}
				if sum := a.Trailer.Get("X-Sum"); one.sum != "" && sum != one.sum {
					t.Errorf("%s: trailer %q", one.method, sum)
				}
			}
		})
	}
}

// TestNoSmugglingOutOfHTTP2: what HTTP/1.1 would take for the end of a field, a head or a body never reaches the upstream.
func TestNoSmugglingOutOfHTTP2(t *testing.T) {
	var asked atomic.Int64
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s %d %d %v", r.Method, r.Host, r.URL, n, r.ContentLength, r.TransferEncoding)
	})
	p := startPlant(t, "loops: 1\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
	base := []string{":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/"}
	put := func(at int, value string) []string {
		f := append([]string(nil), base...)
		f[at] = value
		return f
	}
	for name, fields := range map[string][]string{
		"a line in a value":     append(base[:8:8], "a", "b\r\ntransfer-encoding: chunked"),
		"a line in a name":      append(base[:8:8], "a: b\r\nc", "d"),
		"a line in the path":    put(7, "/ HTTP/1.1\r\nHost: evil\r\n\r\nGET /admin"),
		"a space in the path":   put(7, "/a b"),
		"a line in the method":  put(1, "GET / HTTP/1.1\r\nHost: evil\r\n\r\nGET"),
		"a space in the method": put(1, "GET /x"),
		"a line in the host":    put(5, "h\r\nX-Evil: 1"),
		"a path in the host":    put(5, "h/evil"),
		"a path without slash":  put(7, "admin"),
		"two hosts":             append(base[:8:8], "host", "evil"),
		"transfer-encoding":     append(base[:8:8], "transfer-encoding", "chunked"),
		"two lengths":           append(base[:8:8], "content-length", "4", "content-length", "5"),
		"a signed length":       append(base[:8:8], "content-length", "+4"),
		"a wrong length":        append(base[:8:8], "content-length", "3"),
		"connection":            append(base[:8:8], "connection", "content-length"),
		"upgrade":               append(base[:8:8], "upgrade", "websocket"),
	} {
		t.Run(name, func(t *testing.T) {
			before := asked.Load()
			v := dialH2(t, p.addr.String())
			v.ask(1, false, fields...)
			_ = v.WriteData(1, true, []byte("GET "))
			status, _, code := v.answer(1)
			if status < "400" && code != http2.ErrCodeProtocol {
				t.Errorf("answered %q, code %v", status, code)
			}
			v.ask(3, true, base...) // the next one is itself
			if status, body, _ := v.answer(3); status != "200" || body != "POST h / 0 0 []" {
				t.Errorf("the next request: %s %q", status, body)
			}
			if n := asked.Load() - before; n != 1 && name != "a wrong length" {
				t.Errorf("the upstream was asked %d times", n)
			}
		})
	}
}

// TestCurlSpeaksHTTP2 has curl do what people do with it.
func TestCurlSpeaksHTTP2(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n)+"  - { match: { path: /none }, respond: { status: 204 } }\n")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	curl := func(args ...string) string {
		return run(t, "curl", append([]string{"-s", "-S", "--http2-prior-knowledge", "-w", "|%{http_code} %{http_version}"}, args...)...)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"GET":             {[]string{g.url("/prefix/x")}, "|200 2"},
		"HEAD":            {[]string{"-I", g.url("/prefix/x")}, "|200 2"},
		"204":             {[]string{g.url("/none")}, "|204 2"},
		"not found":       {[]string{g.url("/nowhere")}, "|404 2"},
		"POST":            {[]string{"-d", "a=b", g.url("/prefix/x")}, "|200 2"},
		"upload":          {[]string{"-T", file, g.url("/prefix/x")}, "|200 2"},
		"upload, asked":   {[]string{"-H", "Expect: 100-continue", "-T", file, g.url("/prefix/x")}, "|200 2"},
		"not in HTTP/1.1": {[]string{"--http1.1", g.url("/prefix/x")}, "|200 1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := curl(c.args...); !strings.HasSuffix(got, c.want) {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestH2load asks by many streams on some connections.
func TestH2load(t *testing.T) {
	n := startNginx(t)
	g := start(t, "loops: 2\n"+routes(n))
	out := run(t, "h2load", "-n", "20000", "-c", "8", "-m", "100", g.url("/prefix/x"))
	if !strings.Contains(out, "20000 succeeded, 0 failed, 0 errored, 0 timeout") || !strings.Contains(out, "20000 2xx") {
		t.Errorf("%s", out)
	}
}

// h2Hammer asks by several connections with several streams each, until stop is called; it returns how many answers came, and how many
// requests failed. A connection that goes away takes its last answers along; others follow it.
func h2Hammer(t *testing.T, url string, clients, streams int) (stop func() (requests, failed int64, first string), asked *atomic.Int64) {
	asked = &atomic.Int64{}
	var wg sync.WaitGroup
	var failures atomic.Int64
	var message atomic.Pointer[string]
	done := make(chan struct{})
	for range clients {
		c := h2Client(t)
		for range streams {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					a, err := c.Get(url)
					if err == nil {
						_, err = io.Copy(io.Discard, a.Body)
						a.Body.Close()
						if err == nil && a.StatusCode != 200 {
							err = fmt.Errorf("status %d", a.StatusCode)
						}
					}
					if asked.Add(1); err != nil {
						failures.Add(1)
						text := err.Error()
						message.CompareAndSwap(nil, &text)
					}
				}
			})
		}
	}
	return func() (int64, int64, string) {
		close(done)
		wg.Wait()
		if m := message.Load(); m != nil {
			return asked.Load(), failures.Load(), *m
		}
		return asked.Load(), failures.Load(), ""
	}, asked
}

// TestHTTP2ReloadsAndAges: neither reloads, nor connections that end because they are old or have carried enough, lose a request.
func TestHTTP2ReloadsAndAges(t *testing.T) {
	n := startNginx(t)
	listener := "listeners: [{ name: test, address: '127.0.0.1:0', keep_alive: { max_requests: 200, max_age: 2s } }]\n"
	g := start(t, routes(n))
	if err := g.Reload(load(t, listener+routes(n))); err != nil {
		t.Fatal(err)
	}
	stop, requests := h2Hammer(t, g.url("/prefix/x"), 4, 8)
	for i := 0; i < 100 || requests.Load() < 100; i++ { // as long as it takes until much was asked meanwhile
		c := load(t, listener+routes(n)+fmt.Sprintf("  - { match: { path: /r%d }, respond: { status: 204 } }\n", i))
		if err := g.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	asked, failed, first := stop()
	if failed > 0 || asked < 100 {
		t.Errorf("%d of %d requests failed, first: %s", failed, asked, first)
	}
	t.Logf("%d requests during the reloads", asked)
}

// TestHTTP2ShutdownLosesNothing: clients are told that their connections end, and what they have asked is answered.
func TestHTTP2ShutdownLosesNothing(t *testing.T) {
	n := startNginx(t)
	g := start(t, routes(n))
	var completed, broken atomic.Int64
	var first atomic.Pointer[string]
	var wg sync.WaitGroup
	for range 8 {
		v := dialH2(t, g.addr.String())
		_ = v.WriteWindowUpdate(0, 1<<30) // of what is read nothing is given back
		wg.Go(func() {
			for id := uint32(1); ; id += 2 {
				if v.get(id, "/prefix/x") != nil {
					return
				}
				switch status, _, code := v.answer(id); {
				case status == "200" && code == 0:
					completed.Add(1)
				case code == http2.ErrCodeRefusedStream || code == http2.ErrCodeConnect && status == "": // it was not acted upon
					return
				default:
					text := fmt.Sprint(id, status, code)
					first.CompareAndSwap(nil, &text)
					broken.Add(1)
					return
				}
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
	if broken.Load() > 0 {
		t.Errorf("%d answers, %d broken, the first %s", completed.Load(), broken.Load(), *first.Load())
	}
}

// TestHTTP2SlowClientStopsOneStream leaves a large answer unread while others pass on the same connection.
func TestHTTP2SlowClientStopsOneStream(t *testing.T) {
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, 4<<20))
			return
		}
		fmt.Fprint(w, "small")
	})
	p := startPlant(t, "loops: 1\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
	v := dialH2(t, p.addr.String())
	_ = v.WriteWindowUpdate(0, 1<<30)
	_ = v.get(1, "/large")
	for id := uint32(3); id < 203; id += 2 {
		_ = v.get(id, "/small")
		if status, body, code := v.answer(id); status != "200" || body != "small" || code != 0 {
			t.Fatalf("%s %q %v", status, body, code)
		}
	}
	_ = v.WriteWindowUpdate(1, 1<<30)
	if _, body, code := v.answer(1); len(body) < 3<<20 || code != 0 {
		t.Errorf("%d bytes, %v", len(body), code)
	}
}

// TestH2specWithPriorKnowledge: a client that begins with anything else would be served in HTTP/1.1, which the suite does not expect.
func TestH2specWithPriorKnowledge(t *testing.T) {
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "hello")
	})
	p := startPlant(t, "loops: 1\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
	g := startText(t, "telemetry: { access_log: { output: 'off' } }\nadmin: { address: '' }\nplugin_cache: { dir: 'off' }\nlisteners: [{ name: test, address: '127.0.0.1:0', http2: { only: true } }]\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
	conforms(t, g.addr.String())
	if a := p.ask("GET", "/"); a.status != 200 {
		t.Errorf("%d", a.status)
	}
}

// TestH2specByTLS has the suite agree on h2 by ALPN, with a listener that speaks HTTP/1.1 too.
func TestH2specByTLS(t *testing.T) {
	a := newIssuer(t)
	a.issue("a", "a.test")
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "hello")
	})
	g := startText(t, fmt.Sprintf("telemetry: { access_log: { output: 'off' } }\nadmin: { address: '' }\nplugin_cache: { dir: 'off' }\nlisteners: [{ name: test, address: '127.0.0.1:0', tls: { certificates: [{ cert: %q, key: %q, default: true }] } }]\nupstreams: { web: { targets: ['%s'] } }\n%s",
		a.file("a.pem"), a.file("a.key"), web, h2Routes))
	conforms(t, g.addr.String(), "-t", "-k")
}

// TestTrailersOutOfHTTP2: what would frame, route or authenticate a request is none of its trailers, and what makes them malformed ends the
// request.
func TestTrailersOutOfHTTP2(t *testing.T) {
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d %v %v", r.Host, r.ContentLength, r.Trailer, err)
	})
	p := startPlant(t, "loops: 1\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
	v := dialH2(t, p.addr.String())
	trail := func(id uint32, fields ...string) (string, http2.ErrCode) {
		_ = v.ask(id, false, ":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/", "te", "trailers")
		_ = v.WriteData(id, false, []byte("body"))
		_ = v.ask(id, true, fields...)
		_, body, code := v.answer(id)
		return body, code
	}
	id := uint32(1)
	for _, fields := range [][]string{
		{"content-length", "1"}, {"host", "evil"}, {"authorization", "evil"}, {"cookie", "evil=1"}, {"content-type", "evil/1"}, {"trailer", "x"},
	} {
		if body, code := trail(id, append(fields, "x-last", "1")...); body != "h -1 map[X-Last:[1]] <nil>" || code != 0 {
			t.Errorf("%v: %q %v", fields, body, code)
		}
		id += 2
	}
	for _, fields := range [][]string{
		{":path", "/evil"}, {":status", "200"}, {"transfer-encoding", "chunked"}, {"connection", "close"}, {"te", "trailers"}, {"X-Upper", "1"}, {"x", "a\r\nb: c"}, {"x:", "y"}, {"", "y"},
	} {
		if body, code := trail(id, append(fields, "x-last", "1")...); code != http2.ErrCodeProtocol {
			t.Errorf("%v: %q %v", fields, body, code)
		}
		id += 2
	}
	if body, code := trail(id, "x-last", "1"); body != "h -1 map[X-Last:[1]] <nil>" || code != 0 {
		t.Errorf("behind them: %q %v", body, code)
	}
}
