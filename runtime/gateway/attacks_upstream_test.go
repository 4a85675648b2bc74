package gateway_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// suffers asks a gateway whose route /bad leads to a hostile upstream, which is what upstream says, and others to a good one. The request of
// /bad must fail soon, with one of these statuses or with an answer that is cut off (status 200); others are served beside it. Its timeouts
// are such that an attack which ends by something else has done so before, also where the attacker stands still for a second.
func suffers(t *testing.T, upstream string, statuses ...int) {
	t.Helper()
	good := newBackend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "well") })
	p := startPlant(t, fmt.Sprintf("loops: 1\nupstreams: { good: { targets: ['%s'] }, bad: { %s, timeouts: { response_header: 2s, idle_read: 2s } } }\n"+
		"routes: [{ match: { path_prefix: /bad }, upstream: bad }, { upstream: good }]\n", good, upstream))
	defer p.Close()
	before, begun := heap(), time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := http.Post(p.url("/bad"), "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
		if err != nil {
			if !slices.Contains(statuses, 200) { // one that is cut off may be so before its head is read
				t.Error(err)
			}
			return
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		for _, s := range statuses {
			if s == resp.StatusCode && (s != 200 || err != nil) {
				return
			}
		}
		t.Errorf("%s, the body: %v; %s", resp.Status, err, p.journal)
	}()
	for asking := true; asking; {
		asked := time.Now()
		if a := p.ask("GET", "/"); a.status != 200 || string(a.body) != "well" {
			t.Errorf("beside it: %d %s", a.status, a.body)
		}
		if d := time.Since(asked); d > 2*time.Second {
			t.Errorf("beside it: %v", d)
		}
		select {
		case <-done:
			asking = false
		default:
		}
	}
	if grown := inUse() - before; grown > 64<<20 {
		t.Errorf("%d KiB more are in use", grown>>10)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestHTTP2UpstreamsThatAttack cost the requests that they are given, and no others.
func TestHTTP2UpstreamsThatAttack(t *testing.T) {
	ok := http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true} // :status 200
	again := func(do func() error) {
		for do() == nil {
		}
	}
	for name, a := range map[string]struct {
		do       func(f *http2.Framer, c net.Conn)
		statuses []int
	}{
		"CONTINUATION without end": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
			again(func() error { return f.WriteContinuation(1, false, nil) })
		}, []int{502}},
		"header bomb": {func(f *http2.Framer, _ net.Conn) {
			block := append([]byte{0x88, 0x40, 1, 'a', 0x7f, 0xbd, 0x1d}, bytes.Repeat([]byte("x"), 3900)...) // 3900 bytes, into the table
			block = append(block, bytes.Repeat([]byte{0xbe}, 16<<10-len(block))...)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
		}, []int{502}},
		"SETTINGS and again": {func(f *http2.Framer, _ net.Conn) { again(func() error { return f.WriteSettings() }) }, []int{502}},
		"windows that move": {func(f *http2.Framer, _ net.Conn) {
			n := uint32(0)
			again(func() error {
				n++
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n % 2})
			})
		}, []int{502}},
		"pushes": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true})
		}, []int{502}},
		"a window too large": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteWindowUpdate(0, 1<<31-1)
			_ = f.WriteWindowUpdate(0, 1<<31-1)
		}, []int{502}},
		"a frame too large": {func(f *http2.Framer, _ net.Conn) { _ = f.WriteRawFrame(0, 0, 1, make([]byte, 1<<20)) }, []int{502}},
		"more than the window": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(ok)
			again(func() error { return f.WriteData(1, false, make([]byte, 16<<10)) })
		}, []int{200}},
		"empty DATA": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(ok)
			again(func() error { return f.WriteData(1, false, nil) })
		}, []int{200, 502}},
		"interim answers without end": {func(f *http2.Framer, _ net.Conn) {
			again(func() error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x08, 3, '1', '0', '3'}, EndHeaders: true})
			})
		}, []int{502}},
		"interim answers, slowly": {func(f *http2.Framer, _ net.Conn) {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			again(func() error {
				<-tick.C
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x08, 3, '1', '0', '3'}, EndHeaders: true})
			})
		}, []int{504}},
		"no windows": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		}, []int{504}},
		"a field with a line": {func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append([]byte{0x88, 0x00, 1, 'a', 6}, "b\r\nc:d"...), EndHeaders: true, EndStream: true})
		}, []int{502}},
	} {
		t.Run(name, func(t *testing.T) {
			addr, end := byHand(t, func(f *http2.Framer, c net.Conn, _ *http2.HeadersFrame) {
				go func() { _, _ = io.Copy(io.Discard, c) }() // it hears nothing any more
				a.do(f, c)
			})
			suffers(t, fmt.Sprintf("targets: ['http://%s'], protocol: http2", addr), a.statuses...)
			end()
		})
	}
}

// TestHTTP2UpstreamsThatTakeNothing: those that allow no stream, or take none, are asked a few times for a request, and not for ever.
func TestHTTP2UpstreamsThatTakeNothing(t *testing.T) {
	for name, refuse := range map[string]func(*http2.Framer, uint32){
		"REFUSED_STREAM": func(f *http2.Framer, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"GOAWAY":         func(f *http2.Framer, id uint32) { _ = f.WriteGoAway(id-min(id, 2), http2.ErrCodeNo, nil) },
		"no streams": func(f *http2.Framer, id uint32) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			_ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			addr, end := byHand(t, func(f *http2.Framer, _ net.Conn, h *http2.HeadersFrame) {
				asked.Add(1)
				refuse(f, h.StreamID)
			})
			defer end()
			p := startPlant(t, "loops: 1\n"+h2Upstream(addr, ", pool: { max_connections: 2, acquire_timeout: 500ms }, retries: { attempts: 3 }")+h2Routes)
			defer p.Close()
			const clients = 50
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					if a := p.ask("GET", "/"); a.status/100 != 5 {
						t.Errorf("%d %s", a.status, a.body)
					}
				})
			}
			wg.Wait()
			if n := asked.Load(); n > 6*clients {
				t.Errorf("it was asked %d times for %d requests", n, clients)
			}
			t.Logf("it was asked %d times for %d requests; %s", asked.Load(), clients, p.journal)
		})
	}
}

// byBytes starts a server that writes what it wants on each connection, when the head of a request has come.
func byBytes(t *testing.T, do func(c net.Conn)) string {
	return startDatabase(t, func(c net.Conn) {
		b, got := make([]byte, 4096), []byte(nil)
		for !bytes.Contains(got, []byte("\r\n\r\n")) {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			got = append(got, b[:n]...)
		}
		go func() { _, _ = io.Copy(io.Discard, c) }()
		do(c)
	}).String()
}

// TestHTTP1UpstreamsThatAttack is the same in HTTP/1.1. The time for the head of an answer is one, however it is spent.
func TestHTTP1UpstreamsThatAttack(t *testing.T) {
	const interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	slowly := func(c net.Conn, each func(n int) string) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			if _, err := io.WriteString(c, each(n)); err != nil {
				return
			}
		}
	}
	for name, a := range map[string]struct {
		do     func(c net.Conn)
		status int
	}{
		"interim answers without end": {func(c net.Conn) {
			for many := strings.Repeat(interim, 100); ; {
				if _, err := io.WriteString(c, many); err != nil {
					return
				}
			}
		}, 502},
		"interim answers, slowly": {func(c net.Conn) { slowly(c, func(int) string { return interim }) }, 504},
		"a head, slowly": {func(c net.Conn) {
			slowly(c, func(n int) string { return ("HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1000))[n : n+1] })
		}, 504},
		"a head without end": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Long: ")
			for b := make([]byte, 16<<10); ; {
				for i := range b {
					b[i] = 'x'
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			suffers(t, fmt.Sprintf("targets: ['http://%s']", byBytes(t, a.do)), a.status)
		})
	}
}

// TestTLSUpstreamsThatAttack: records that are too long, forged, or none of an answer; and, in TLS 1.2, a second handshake.
func TestTLSUpstreamsThatAttack(t *testing.T) {
	record := func(kind byte, length, sent int) []byte {
		b := append([]byte{kind, 3, 3, 0, 0}, make([]byte, sent)...)
		binary.BigEndian.PutUint16(b[3:], uint16(length)) //nolint:gosec // small
		return b
	}
	for name, bytes := range map[string][]byte{
		"a record too long":  record(23, 16<<10+2048+1, 1), // what TLS 1.2 allows, and one more
		"a forged record":    record(23, 100, 100),
		"an unknown record":  record(99, 10, 10),
		"a handshake record": record(22, 10, 10),
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				s := httptest.NewUnstartedServer(nil)
				s.TLS = &tls.Config{MinVersion: version, MaxVersion: version}
				s.StartTLS() // for its certificate
				cfg := s.TLS
				s.Close()
				addr := startDatabase(t, func(c net.Conn) {
					server := tls.Server(c, cfg)
					if _, err := server.Read(make([]byte, 100)); err != nil {
						return
					}
					_, _ = c.Write(bytes)
					_, _ = io.Copy(io.Discard, c)
				})
				suffers(t, fmt.Sprintf("targets: ['https://%s'], tls: { insecure_skip_verify: true }", addr), 502)
			}
		})
	}
	t.Run("renegotiation", renegotiatingUpstream)
}

// renegotiatingUpstream is OpenSSL's server, told to ask for another handshake when the request has come.
func renegotiatingUpstream(t *testing.T) {
	need(t, "openssl")
	a := newIssuer(t)
	a.issue("a", "a.test")
	port := fmt.Sprint(freePort(t))
	cmd := exec.Command("openssl", "s_server", "-accept", "127.0.0.1:"+port, "-cert", a.file("a.pem"), "-key", a.file("a.key"), "-tls1_2")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); <-told }()
	testkit.Eventually(t, "it listens", func() bool { return strings.Contains(out.String(), "ACCEPT") })
	go func() {
		defer close(told)
		testkit.Eventually(t, "the request comes", func() bool { return strings.Contains(out.String(), "/bad") })
		_, _ = io.WriteString(in, "r\n")
	}()
	suffers(t, "targets: ['https://127.0.0.1:"+port+"'], tls: { insecure_skip_verify: true }", 502)
	testkit.Eventually(t, "openssl says that it was refused", func() bool { return strings.Contains(out.String(), "no renegotiation") }) // in its own time
}
