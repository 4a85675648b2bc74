package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"

	"wasmgate/runtime/internal/testkit"
)

// site3 is an upstream for tests of HTTP/3.
func site3(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
			w.Header().Set("Alt-Svc", `h3=":1"`)
			sum := sha256.New()
			_, _ = io.Copy(io.MultiWriter(w, sum), r.Body)
			w.Header().Set("X-Sum", fmt.Sprintf("%x%s", sum.Sum(nil), r.Trailer.Get("X-Client")))
		case "/large":
			_, _ = w.Write(make([]byte, 4<<20))
		case "/endless":
			for piece := make([]byte, 64<<10); ; {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "/half":
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(make([]byte, 50000))
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("X-Asked", r.Method+" "+r.RequestURI+" "+r.Host)
			w.Header().Set("X-Forwarded", r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-For"))
			w.Header().Set("X-Te", r.Header.Get("Te"))
			fmt.Fprint(w, "you asked for ", r.URL.Path)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func routes3(srv *httptest.Server) string {
	return "upstreams: { web: { targets: ['" + srv.URL + "'] } }\nroutes:\n  - { match: { path: /own }, respond: { status: 200, body: own } }\n  - { upstream: web }\n"
}

func startHTTP3(t *testing.T, more string) (*plant, *identity, *h3Client) {
	t.Helper()
	srv, id := site3(t), newIdentity(t, t.TempDir(), 1)
	p := startPlant(t, id.listener("")+routes3(srv)+more)
	return p, id, p.http3(id)
}

func TestHTTP3ToAnUpstream(t *testing.T) {
	p, _, c := startHTTP3(t, "")
	resp, body := c.get("/a/./b?c")
	if resp.StatusCode != 200 || resp.ProtoMajor != 3 || body != "you asked for /a/b" {
		t.Errorf("%d %s %q", resp.StatusCode, resp.Proto, body)
	}
	if got, want := resp.Header.Get("X-Asked"), fmt.Sprintf("GET /a/b?c localhost:%d", p.addr.Port()); got != want {
		t.Errorf("the upstream was asked %s, not %s", got, want)
	}
	if got := resp.Header.Get("X-Forwarded"); got != "https 127.0.0.1" {
		t.Errorf("the upstream was told %s", got)
	}
	if resp, _ := c.whole(c.request(t.Context(), "HEAD", "/x", nil)); resp.ContentLength != int64(len("you asked for /x")) {
		t.Errorf("HEAD: %d", resp.ContentLength)
	}
	if _, body := c.get("/own"); body != "own" {
		t.Errorf("%q", body)
	}
	if resp, _ := c.get("/%2e%00"); resp.StatusCode != 400 {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestHTTP3BodiesAndTrailers(t *testing.T) {
	_, _, c := startHTTP3(t, "")
	var wait sync.WaitGroup
	for i, size := range []int{0, 1, 1000, 100_000, 3 << 20, 5 << 20} {
		wait.Go(func() {
			body := bytes.Repeat([]byte{byte(i + 1)}, size)
			r := c.request(t.Context(), "POST", "/echo", bytes.NewReader(body))
			r.Trailer = http.Header{"X-Client": {"+"}}
			if i%2 == 1 {
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
			}
			resp, err := c.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes of %d: %v", len(got), size, err)
			}
			want := fmt.Sprintf("%x", sha256.Sum256(body))
			if size > 0 && i%2 == 1 {
				want += "+"
			}
			if sum := resp.Trailer.Get("X-Sum"); strings.TrimSuffix(sum, "+") != strings.TrimSuffix(want, "+") {
				t.Errorf("trailer %s, not %s", sum, want)
			}
			if length := resp.Header.Get("X-Length"); i%2 == 0 && length != fmt.Sprint(size) {
				t.Errorf("the upstream was told a length of %s, not %d", length, size)
			}
		})
	}
	wait.Wait()
}

// Clients that do not speak HTTP/3 are told of it, and by nobody but the gateway.
func TestAltSvc(t *testing.T) {
	p, id, c := startHTTP3(t, "")
	want := fmt.Sprintf(`h3=":%d"; ma=86400`, p.addr.Port())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: id.trust, DisableKeepAlives: true}}
	for _, path := range []string{"/", "/echo", "/own"} {
		resp, err := client.Get(c.base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Values("Alt-Svc"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, not %s", path, got, want)
		}
		if resp, _ := c.get(path); len(resp.Header.Values("Alt-Svc")) > 0 {
			t.Errorf("HTTP/3, %s: %q", path, resp.Header.Values("Alt-Svc"))
		}
	}
}

// A client that does not read its answer holds up neither others nor more than a little of the upstream's.
func TestHTTP3SlowClient(t *testing.T) {
	_, _, c := startHTTP3(t, "")
	slow, err := c.RoundTrip(c.request(t.Context(), "GET", "/endless", nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, body := c.get("/x"); body != "you asked for /x" {
			t.Fatal(body)
		}
	}
	if n, err := io.CopyN(io.Discard, slow.Body, 20<<20); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	slow.Body.Close()
}

// An upstream that does not read stops its client, at a little more than the windows.
func TestHTTP3SlowUpstream(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	t.Cleanup(srv.Close)
	id := newIdentity(t, t.TempDir(), 1)
	p := startPlant(t, id.listener("")+routes3(srv))
	c := p.http3(id)
	const size = 64 << 20
	var sent atomic.Int64
	done := make(chan string, 1)
	go func() {
		body := io.TeeReader(io.LimitReader(zeros{}, size), count{&sent})
		resp, err := c.RoundTrip(c.request(t.Context(), "POST", "/slow", io.NopCloser(body)))
		if err != nil {
			done <- err.Error()
			return
		}
		defer resp.Body.Close()
		got, _ := io.ReadAll(resp.Body)
		done <- string(got)
	}()
	testkit.Eventually(t, "the client has begun to send", func() bool { return sent.Load() > 1<<20 })
	for range 50 {
		if _, body := c.get("/x"); body != "0" {
			t.Fatal(body)
		}
	}
	if n := sent.Load(); n > size/2 {
		t.Errorf("%d bytes were sent that nobody reads", n)
	}
	close(release)
	if got := <-done; got != fmt.Sprint(size) {
		t.Error(got)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

type count struct{ n *atomic.Int64 }

func (c count) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// A client that gives a request up has its upstream's connection ended, and the others go on.
func TestHTTP3ClientCancels(t *testing.T) {
	p, _, c := startHTTP3(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := c.RoundTrip(c.request(ctx, "GET", "/endless", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	cancel()
	testkit.Eventually(t, "the upstream's connection is closed", func() bool { return p.closedFor("client_aborted") == 1 })
	if _, body := c.get("/x"); body != "you asked for /x" {
		t.Error(body)
	}
}

// An answer that breaks off is not taken for a whole one.
func TestHTTP3UpstreamBreaksOff(t *testing.T) {
	_, _, c := startHTTP3(t, "")
	for range 3 {
		resp, err := c.RoundTrip(c.request(t.Context(), "GET", "/half", nil))
		if err == nil { // the end may overtake what came before it
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		var he *quichttp3.Error
		if !errors.As(err, &he) || he.ErrorCode != quichttp3.ErrCodeRequestCanceled {
			t.Errorf("%v", err)
		}
		if _, body := c.get("/x"); body != "you asked for /x" {
			t.Error(body)
		}
	}
}

func TestHTTP3ManyStreams(t *testing.T) {
	_, id, c := startHTTP3(t, "")
	_ = id
	var wait sync.WaitGroup
	for i := range 500 {
		wait.Go(func() {
			path := fmt.Sprintf("/many/%d", i)
			resp, err := c.RoundTrip(c.request(t.Context(), "GET", path, nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "you asked for "+path {
				t.Errorf("%q %v", body, err)
			}
		})
	}
	wait.Wait()
}

// load3 keeps asking by several connections until stop is called.
func load3(p *plant, id *identity, path string, clients int) (stop func() (requests, failed int64, first string), asked *atomic.Int64) {
	asked = &atomic.Int64{}
	var failures atomic.Int64
	var message atomic.Pointer[string]
	done := make(chan struct{})
	var wait sync.WaitGroup
	for range clients {
		c := p.http3(id)
		wait.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				resp, err := c.RoundTrip(c.request(ctx, "GET", path, nil))
				what := ""
				if err == nil {
					var body []byte
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 {
						what = fmt.Sprint(resp.Status, string(body))
					}
				}
				cancel()
				if err != nil {
					what = err.Error()
				}
				if asked.Add(1); what != "" {
					failures.Add(1)
					message.CompareAndSwap(nil, &what)
				}
			}
		})
	}
	return func() (int64, int64, string) {
		close(done)
		wait.Wait()
		if m := message.Load(); m != nil {
			return asked.Load(), failures.Load(), *m
		}
		return asked.Load(), failures.Load(), ""
	}, asked
}

// Reloads fail no request and close no connection; the certificate is that of the moment.
func TestHTTP3Reloads(t *testing.T) {
	srv, dir := site3(t), t.TempDir()
	id := newIdentity(t, dir, 1)
	p := startPlant(t, id.listener("")+routes3(srv))
	stop, asked := load3(p, id, "/x", 4)
	testkit.Eventually(t, "the load runs", func() bool { return asked.Load() > 100 })
	for i := range 50 {
		p.reload(id.listener("") + routes3(srv) + fmt.Sprintf("  - { match: { path: /r%d }, respond: { status: 204 } }\n", i))
	}
	next := newIdentity(t, dir, 2)
	p.reload(next.listener("") + routes3(srv))
	resp, _ := p.http3(next).get("/x")
	if got := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); got != 2 {
		t.Errorf("a new connection sees certificate %d", got)
	}
	n := asked.Load()
	testkit.Eventually(t, "the load goes on", func() bool { return asked.Load() > n+100 })
	requests, failed, first := stop()
	if failed > 0 {
		t.Errorf("%d of %d requests failed, first: %s", failed, requests, first)
	}
	if got := p.metric(`wasmgate_client_connections_accepted_total{listener="test"}`); got > 5 {
		t.Errorf("%v connections for 5 clients", got)
	}
}

// It can be turned on and off by a reload, and off means that connections end, whole.
func TestHTTP3TurnedOnAndOff(t *testing.T) {
	srv, id := site3(t), newIdentity(t, t.TempDir(), 1)
	// A port that nobody has of UDP when it is turned on.
	on := strings.Replace(id.listener("")+routes3(srv), "127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	off := strings.Replace(on, "enabled: true", "enabled: false", 1)
	p := startPlant(t, off)
	c := p.http3(id)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.RoundTrip(c.request(ctx, "GET", "/x", nil)); err == nil {
		t.Error("it is on before it is turned on")
	}
	p.reload(on)
	c = p.http3(id)
	if _, body := c.get("/x"); body != "you asked for /x" {
		t.Error(body)
	}
	p.reload(off)
	testkit.Eventually(t, "the connection has ended", func() bool { return p.metric(`wasmgate_client_connections{listener="test"}`) <= 0 })
	p.reload(on)
	c = p.http3(id)
	if _, body := c.get("/x"); body != "you asked for /x" {
		t.Error(body)
	}
}

// A gateway that ends answers everything that it has taken.
func TestHTTP3Shutdown(t *testing.T) {
	p, id, _ := startHTTP3(t, "")
	slow := p.http3(id)
	resp, err := slow.RoundTrip(slow.request(t.Context(), "GET", "/large", nil))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- p.Shutdown(ctx)
	}()
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if n != 4<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What happened is told of HTTP/3 as of every other version.
func TestHTTP3IsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	_, _, c := startHTTP3(t, "telemetry: { access_log: { output: "+file+" } }\n")
	c.get("/x")
	testkit.Eventually(t, "a line is logged", func() bool { return strings.Contains(readFile(t, file), "/x") })
	line := readFile(t, file)
	for _, want := range []string{`"HTTP/3.0"`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
}

// A plugin decides about requests of HTTP/3 as about any other, also with their bodies.
func TestHTTP3Plugins(t *testing.T) {
	srv, id := site3(t), newIdentity(t, t.TempDir(), 1)
	p := startPlant(t, id.listener("")+"upstreams: { web: { targets: ['"+srv.URL+"'] } }\nplugins: { p: { module: "+module(t, conformance)+
		", upstreams: [web], config: 'upstream web' } }\nroutes: [{ plugins: [p] }]\n")
	c := p.http3(id)
	for _, test := range []struct {
		commands []string
		status   int
		body     string
	}{
		{[]string{"route 0"}, 200, "you asked for /a"},
		{[]string{"path /x/y", "query q=1", "route 0"}, 200, "you asked for /x/y"},
		{[]string{"deny 429"}, 429, ""},
		{[]string{"respond 201 hello"}, 201, "hello"},
		{[]string{"trap"}, 503, ""},
	} {
		r := c.request(t.Context(), "GET", "/a", nil)
		r.Header["X-Cmd"] = test.commands
		if resp, body := c.whole(r); resp.StatusCode != test.status || !strings.Contains(body, test.body) {
			t.Errorf("%q: %d %q", test.commands, resp.StatusCode, body)
		}
	}
}

// head3 is a request's head, as a HEADERS frame.
func head3(method, path string) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}} {
		_ = e.WriteField(qpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return append([]byte{1, byte(b.Len())}, b.Bytes()...)
}

// Clients that do their worst have their connections closed, and others do not notice: none of their requests fails, and the
// gateway has as many goroutines, afterwards, as before.
func TestHTTP3HostileClients(t *testing.T) {
	p, id, _ := startHTTP3(t, "")
	stop, asked := load3(p, id, "/x", 2)
	testkit.Eventually(t, "the load runs", func() bool { return asked.Load() > 50 })
	var wait sync.WaitGroup
	for i := range 6 {
		conf := id.trust.Clone()
		conf.NextProtos = []string{"h3"}
		wait.Go(func() {
			q, err := quic.DialAddr(t.Context(), p.addr.String(), conf, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = q.CloseWithError(0, "") }()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			opened := 0
			for ; opened < 5000; opened++ {
				s, err := q.OpenStreamSync(ctx)
				if err != nil {
					break
				}
				switch i % 3 {
				case 0: // rapid reset, of requests that are whole
					_, _ = s.Write(head3("GET", "/large"))
					_ = s.Close()
					s.CancelRead(0x10c)
				case 1: // rapid reset, in the middle of a head that is to be of 1 GiB
					_, _ = s.Write([]byte{1, 0x80, 0x40})
					s.CancelWrite(0x10c)
					s.CancelRead(0x10c)
				default: // bodies that have no end, as many as it may
					_, _ = s.Write(head3("POST", "/echo"))
				}
				if i%3 == 0 && opened == 300 || i%3 == 2 && opened == 99 {
					return
				}
			}
			if ctx.Err() != nil || opened == 5000 {
				t.Errorf("client %d is still served, after %d streams", i, opened)
			}
		})
	}
	wait.Wait()
	if requests, failed, first := stop(); failed > 0 {
		t.Errorf("%d of %d requests of others failed, first: %s", failed, requests, first)
	}
	testkit.Eventually(t, "their connections have gone", func() bool { return p.metric(`wasmgate_client_connections{listener="test"}`) <= 4 })
}
