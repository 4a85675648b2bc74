package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// h2Server is Go's HTTP/2 server, and how many connections it has had.
type h2Server struct {
	*http.Server
	addr  string
	conns atomic.Int64
}

// startH2 starts one without TLS, which takes HTTP/2 only.
func startH2(t *testing.T, streams uint32, h http.HandlerFunc) *h2Server {
	t.Helper()
	return startH2At(t, "127.0.0.1:0", streams, h)
}

// startH2At is startH2 with an address.
func startH2At(t *testing.T, addr string, streams uint32, h http.HandlerFunc) *h2Server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &h2Server{addr: l.Addr().String()}
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	s.Server = &http.Server{Handler: h, Protocols: protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: int(streams)}, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return s
}

const h2Routes = "routes: [{ upstream: web }]\n"

func h2Upstream(addr, more string) string {
	return fmt.Sprintf("upstreams: { web: { targets: ['http://%s'], protocol: http2%s } }\n", addr, more)
}

// h2Echo answers with what it was asked, and the body.
func h2Echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Saw", strings.TrimSpace(fmt.Sprintf("%s %s %s %s %d %s", r.Proto, r.Method, r.Host, r.URL, r.ContentLength, r.Header.Get("X-One"))))
	for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "X-Hop"} {
		if r.Header.Get(name) != "" {
			w.Header().Set("X-Wrong", name)
		}
	}
	w.Header().Set("Trailer", "X-Sum")
	n, err := io.Copy(w, r.Body)
	w.Header().Set("X-Sum", fmt.Sprint(n, err, r.Trailer.Get("X-Last")))
}

// TestHTTP1ToHTTP2: what clients ask in HTTP/1.1 is asked in HTTP/2, and answered in HTTP/1.1.
func TestHTTP1ToHTTP2(t *testing.T) {
	s := startH2(t, 250, h2Echo)
	p := startPlant(t, "loops: 1\n"+h2Upstream(s.addr, "")+h2Routes)
	large := strings.Repeat("0123456789", 300_000)
	for _, c := range []struct {
		method, body string
		chunked      bool
		saw, sum     string
	}{
		{"GET", "", false, "HTTP/2.0 GET h.example /x?y=1 0 one", ""},
		{"HEAD", "", false, "HTTP/2.0 HEAD h.example /x?y=1 0 one", ""},
		{"POST", "short", false, "HTTP/2.0 POST h.example /x?y=1 5 one", "5 <nil>"},
		{"POST", large, false, "HTTP/2.0 POST h.example /x?y=1 3000000 one", "3000000 <nil>"},
		{"PUT", large, true, "HTTP/2.0 PUT h.example /x?y=1 -1 one", "3000000 <nil>last"},
		{"POST", "", false, "HTTP/2.0 POST h.example /x?y=1 0 one", ""},
	} {
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		r, _ := http.NewRequest(c.method, p.url("/x?y=1"), body)
		r.Host = "h.example"
		r.Header = http.Header{"X-One": {"one"}, "X-Hop": {"1"}, "Connection": {"X-Hop"}, "Te": {"trailers"}}
		if c.chunked {
			r.ContentLength, r.Trailer = -1, http.Header{"X-Last": {"last"}}
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(a.Body)
		a.Body.Close()
		if want := c.body; err != nil || a.StatusCode != 200 || a.Header.Get("X-Saw") != c.saw || string(got) != want || a.Header.Get("X-Wrong") != "" {
			t.Errorf("%s: %v %s, saw %q, wrong %q, %d bytes", c.method, err, a.Status, a.Header.Get("X-Saw"), a.Header.Get("X-Wrong"), len(got))
		}
		if sum := a.Trailer.Get("X-Sum"); c.sum != "" && sum != c.sum {
			t.Errorf("%s: trailer %q", c.method, sum)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestStreamsShareConnections: as many requests at a time as the upstream takes go on one connection; further ones get another.
func TestStreamsShareConnections(t *testing.T) {
	const limit, clients = 10, 40
	var busy, most atomic.Int64
	all := make(chan struct{})
	s := startH2(t, limit, func(http.ResponseWriter, *http.Request) {
		if n := busy.Add(1); n == clients {
			close(all)
		}
		most.Store(max(most.Load(), busy.Load()))
		<-all
		busy.Add(-1)
	})
	p := startPlant(t, "loops: 1\n"+h2Upstream(s.addr, "")+h2Routes)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			if a := p.ask("GET", "/"); a.status != 200 {
				t.Errorf("%d", a.status)
			}
		})
	}
	wg.Wait()
	if n := s.conns.Load(); n < clients/limit || n > clients/limit*3 {
		t.Errorf("%d connections for %d requests at a time, %d on each; %s", n, clients, limit, p.journal)
	}
	was := s.conns.Load()
	for range 20 {
		if a := p.ask("GET", "/"); a.status != 200 {
			t.Errorf("%d", a.status)
		}
	}
	if n := s.conns.Load(); n != was {
		t.Errorf("%d connections more for requests one after the other", n-was)
	}
}

// TestWaitForAStream: at the limit of connections and of streams requests wait, and get the stream that becomes free.
func TestWaitForAStream(t *testing.T) {
	var busy, most atomic.Int64
	s := startH2(t, 2, func(http.ResponseWriter, *http.Request) {
		n := busy.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		time.Sleep(2 * time.Millisecond) // the work
		busy.Add(-1)
	})
	p := startPlant(t, "loops: 1\n"+h2Upstream(s.addr, ", pool: { max_connections: 1, acquire_timeout: 20s }, queue: { max: 100 }")+h2Routes)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if a := p.ask("GET", "/"); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if s.conns.Load() != 1 || most.Load() != 2 {
		t.Errorf("%d connections, %d requests at a time", s.conns.Load(), most.Load())
	}
}

// TestGoAwayLosesNothing: a server that goes away while requests come one after the other.
func TestGoAwayLosesNothing(t *testing.T) {
	var once sync.Once
	// A port that nobody else takes between the one and the other.
	s := startH2At(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 100, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "x") })
	p := startPlant(t, "loops: 1\n"+h2Upstream(s.addr, "")+h2Routes)
	for i := range 200 {
		if i == 100 {
			once.Do(func() { // each connection says GOAWAY when it is idle, and the listener goes: another takes its place
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Error(err)
				}
				l, err := net.Listen("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				protocols := &http.Protocols{}
				protocols.SetUnencryptedHTTP2(true)
				other := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "y") })}
				go other.Serve(l)
				t.Cleanup(func() { other.Close() })
			})
		}
		if a := p.ask("GET", "/"); a.status != 200 {
			t.Fatalf("request %d: %d %s; %s", i, a.status, a.body, p.journal)
		}
	}
	testkit.Eventually(t, "the connection is told as closed by its peer", func() bool { return p.closedFor("peer_closed") == 1 })
}

// TestPluginsCallInHTTP2: http_call goes to such an upstream as any request does.
func TestPluginsCallInHTTP2(t *testing.T) {
	s := startH2(t, 100, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-User", r.Proto+" "+r.URL.Path)
	})
	b := startBackends(t, 1)[0]
	saw := tells(b, "x-user")
	p := startPlant(t, grpcConfig(b.addr, s.addr, "", "request call grpc 2000 :method GET :path /check :authority a", "request return 1",
		"answer stream 0", "answer copy 6 x-user 0 x-user", "answer resume 0"))
	for range 3 {
		if a := p.ask("GET", "/x"); a.status != 200 {
			t.Errorf("%d %s", a.status, p.journal)
		}
		if seen := saw.last(); !strings.HasSuffix(seen, "x-user=HTTP/2.0 /check") {
			t.Errorf("%q", seen)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestHTTP2OverTLS: h2 is chosen by ALPN, and a server that does not choose it is said to be one.
func TestHTTP2OverTLS(t *testing.T) {
	for _, h2 := range []bool{true, false} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(h2Echo))
			s.EnableHTTP2 = h2
			if !h2 {
				s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
					return &tls.Config{Certificates: s.TLS.Certificates}, nil // no ALPN at all
				}}
			}
			s.StartTLS()
			defer s.Close()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			p := startSite(t, fmt.Sprintf("loops: 1\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\nupstreams: { web: { targets: ['%s'], protocol: http2, tls: { ca: %q } } }\n%s", s.URL, ca, h2Routes))
			a, err := http.Get(p.url("/x"))
			if err != nil {
				t.Fatal(err)
			}
			a.Body.Close()
			if saw := a.Header.Get("X-Saw"); h2 && (a.StatusCode != 200 || !strings.HasPrefix(saw, "HTTP/2.0 GET")) {
				t.Errorf("%s %q", a.Status, saw)
				p.Close()
				text, _ := os.ReadFile(p.access)
				t.Logf("%s", text)
			}
			if !h2 {
				if a.StatusCode != 502 {
					t.Error(a.Status)
				}
				p.logs("protocol: http2")
			}
		})
	}
}

// TestHTTP2ToNobodyWhoSpeaksIt tells of a server of HTTP/1.1.
func TestHTTP2ToNobodyWhoSpeaksIt(t *testing.T) {
	n := startNginx(t)
	p := startSite(t, "loops: 1\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\n"+h2Upstream(n.addr(), "")+h2Routes)
	resp, err := http.Get("http://" + p.Addr("test").String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 {
		t.Error(resp.Status)
	}
	p.logs("protocol: http2")
}

// logs waits for the access log to say something.
func (s *site) logs(part string) {
	s.Helper()
	testkit.Eventually(s.T, "the access log says "+part, func() bool {
		text, _ := os.ReadFile(s.access)
		return strings.Contains(string(text), part)
	})
}

// TestHTTP2ToNginx has nginx answer, which closes a connection after so many requests.
func TestHTTP2ToNginx(t *testing.T) {
	n := startNginxLog(t, "http2", "keepalive_requests 30;")
	p := startPlant(t, "loops: 2\n"+h2Upstream(n.addr, ", health: { active: { type: http, path: /health, interval: 100ms } }")+h2Routes)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if a := p.ask("GET", fmt.Sprintf("/%d", i)); a.status != 200 || !strings.Contains(string(a.body), fmt.Sprintf("/%d", i)) {
					t.Errorf("%d %s; %s", a.status, a.body, p.journal)
				}
			}
		})
	}
	wg.Wait()
	testkit.Eventually(t, "it was asked whether it is well", func() bool { return p.closedFor("health_check_ended") > 0 })
	if p.upstream("web").Members[0].Health != "healthy" {
		t.Errorf("%+v", p.upstream("web").Members)
	}
}

// byHand starts a server that does this for each HEADERS frame. end waits for its connections, which the gateway must have
// closed.
func byHand(t *testing.T, do func(*http2.Framer, net.Conn, *http2.HeadersFrame)) (addr string, end func()) {
	t.Helper()
	l, open := eachConn(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.AllowIllegalWrites = true
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok {
				do(f, c, h)
			}
		}
	})
	return l.Addr().String(), func() { l.Close(); open.Wait() }
}

// TestRefusedStreamsAreSentAgain, whatever their method, since the upstream has not acted upon them.
func TestRefusedStreamsAreSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(*http2.Framer, uint32){
		"REFUSED_STREAM": func(f *http2.Framer, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"GOAWAY":         func(f *http2.Framer, id uint32) { _ = f.WriteGoAway(id-2, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			addr, end := byHand(t, func(f *http2.Framer, _ net.Conn, h *http2.HeadersFrame) {
				if asked.Add(1) == 2 {
					refuse(f, h.StreamID)
					return
				}
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true}) // :status 200
			})
			defer end()
			p := startPlant(t, "loops: 1\n"+h2Upstream(addr, "")+h2Routes)
			defer p.Close()
			for range 3 {
				resp, err := http.Post(p.url("/"), "text/plain", strings.NewReader("once"))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("%s; %s", resp.Status, p.journal)
				}
			}
			if n := asked.Load(); n != 4 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// TestHostileHTTP2Upstreams: each costs its own request, and an answer is given in time.
func TestHostileHTTP2Upstreams(t *testing.T) {
	for name, do := range map[string]func(*http2.Framer, net.Conn){
		"never answers": func(*http2.Framer, net.Conn) {},
		"closes":        func(_ *http2.Framer, c net.Conn) { c.Close() },
		"garbage":       func(_ *http2.Framer, c net.Conn) { _, _ = c.Write([]byte("garbage garbage garbage garbage")) },
		"resets":        func(f *http2.Framer, _ net.Conn) { _ = f.WriteRSTStream(1, http2.ErrCodeInternal) },
		"refuses":       func(f *http2.Framer, _ net.Conn) { _ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream) },
		"goes away":     func(f *http2.Framer, _ net.Conn) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"a wild answer": func(f *http2.Framer, _ net.Conn) { _ = f.WriteData(1, true, []byte("no head")) },
		"PING and again": func(f *http2.Framer, _ net.Conn) {
			for f.WritePing(false, [8]byte{}) == nil {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, end := byHand(t, func(f *http2.Framer, c net.Conn, _ *http2.HeadersFrame) { do(f, c) })
			defer end()
			p := startPlant(t, "loops: 1\n"+h2Upstream(addr, ", timeouts: { response_header: 200ms }, retries: { attempts: 2 }")+h2Routes)
			defer p.Close()
			if a := p.ask("GET", "/"); a.status != 502 && a.status != 504 {
				t.Errorf("%d %s; %s", a.status, a.body, p.journal)
			}
		})
	}
}
