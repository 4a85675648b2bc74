package gateway_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// TestAnUpstreamOfHTTP2WithoutWebSockets: what is wrong is said, in the log with its name and address, and the upstream is not
// taken for one that has failed.
func TestAnUpstreamOfHTTP2WithoutWebSockets(t *testing.T) {
	addr := startFramePeer(t, nil, func(p *framePeer, f http2.Frame) {
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			p.answer(h.StreamID, true, ":status", "204", "x-method", h.PseudoValue("method"))
		}
	})
	s := extendedSite(t, "targets: ['http://"+addr+"'], health: { passive: { failures: 1 } }", "")
	client := http2Client(t)
	const times = 10
	for range times {
		_, resp := askRaw(t, s.at("test"), "/chat")
		if body := readAll(t, resp); resp.StatusCode != 501 || !strings.Contains(body, "protocol: http1.1") || strings.Contains(body, addr) {
			t.Errorf("%s %q", resp.Status, body)
		}
		one := open(t, client, s.at("test"), "/chat", "websocket")
		if one.resp.StatusCode != 501 {
			t.Error(one.resp.Status)
		}
		_ = one.to.Close()
		resp, err := http.Get(s.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, resp); resp.StatusCode != 204 || resp.Header.Get("X-Method") != "GET" {
			t.Errorf("a plain request: %s %v", resp.Status, resp.Header)
		}
	}
	s.lines(3 * times)
	text, _ := os.ReadFile(s.access)
	said := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"status":501`) {
			said++
			for _, fact := range []string{`"unsupported"`, `"app"`, addr, "SETTINGS_ENABLE_CONNECT_PROTOCOL", "protocol: http1.1"} {
				if !strings.Contains(line, fact) {
					t.Errorf("%q does not say %s", line, fact)
				}
			}
		}
	}
	if said != 2*times {
		t.Errorf("%d lines of %d tell of it", said, 2*times)
	}
}

// TestOnlyWebSocketsGoByExtendedConnect: what asks for another protocol, or by another method, is a plain request, and a key that is
// none is the client's mistake.
func TestOnlyWebSocketsGoByExtendedConnect(t *testing.T) {
	addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			p.answer(h.StreamID, true, ":status", "200", "x-method", h.PseudoValue("method"), "x-protocol", h.PseudoValue("protocol"))
		}
	})
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { protocol: http2, targets: ['http://%s'] } }
routes: [{ match: { path: /none }, upstream: app, upgrades: [] }, { upstream: app, upgrades: ['*'] }]
`, addr))
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, c := range []struct{ line, fields, status, method, protocol string }{
		{"GET /", "Upgrade: websocket\r\n" + key, "101", "CONNECT", "websocket"},
		{"GET /", "Upgrade: WebSocket, other\r\n" + key, "101", "CONNECT", "websocket"},
		{"GET /none", "Upgrade: websocket\r\n" + key, "200", "GET", ""},
		{"GET /", "Upgrade: other\r\n", "200", "GET", ""},
		{"HEAD /", "Upgrade: websocket\r\n" + key, "200", "HEAD", ""},
		{"GET /", "Upgrade: websocket\r\n", "400", "", ""},
		{"GET /", "Upgrade: websocket\r\nSec-WebSocket-Key: c2hvcnQ=\r\n", "400", "", ""},
		{"GET /", "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!\r\n", "400", "", ""},
		{"GET /", "Upgrade: websocket\r\nSec-WebSocket-Key: " + strings.Repeat("A", 4000) + "\r\n", "400", "", ""},
	} {
		one := call(t, s.at("test"))
		head, _, err := one.try(c.line + " HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n" + c.fields + "\r\n")
		if err != nil || !strings.HasPrefix(head, "HTTP/1.1 "+c.status) || field(head, "X-Method") != c.method || field(head, "X-Protocol") != c.protocol {
			t.Errorf("%s %q: %q, %v", c.line, c.fields, head, err)
		}
	}
}

// TestAnswersToExtendedConnect that an upstream may not give, or that say something else than a 200 without more: none does harm to
// another tunnel of the connection, unless HTTP/2 itself says so.
func TestAnswersToExtendedConnect(t *testing.T) {
	var ours sync.Map // streams whose direction to the client goes on
	addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			id, path := f.StreamID, f.PseudoValue("path")
			if slices.Contains([]string{"/echo", "/length", "/no-content", "/early"}, path) {
				ours.Store(id, true)
			}
			switch path {
			case "/echo":
				p.answer(id, false, ":status", "200")
			case "/length": // which counts for nothing, nor does a proof for a key that it has not seen
				p.answer(id, false, ":status", "200", "content-length", "3", "sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", "x-more", "1")
			case "/no-content":
				p.answer(id, false, ":status", "204")
			case "/early":
				p.answer(id, false, ":status", "103")
				p.answer(id, false, ":status", "200")
			case "/ended":
				p.answer(id, true, ":status", "200")
			case "/101":
				p.answer(id, false, ":status", "101")
			case "/forbidden":
				p.answer(id, false, ":status", "403", "content-length", "2")
				p.say(id, true, "no")
			case "/moved":
				p.answer(id, true, ":status", "302", "location", "/")
			case "/upgrade":
				p.answer(id, false, ":status", "200", "upgrade", "websocket")
			case "/data":
				p.say(id, false, "before the head")
			case "/refused":
				p.locked(func() { _ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
			case "/reset":
				p.locked(func() { _ = p.WriteRSTStream(id, http2.ErrCodeInternal) })
			case "/trailers":
				p.answer(id, false, ":status", "200")
				p.answer(id, true, "grpc-status", "0")
			}
		case *http2.DataFrame:
			p.taken(f)
			if _, goesOn := ours.Load(f.StreamID); goesOn {
				p.say(f.StreamID, f.StreamEnded(), string(f.Data()))
			}
		}
	})
	s := extendedSite(t, "targets: ['http://"+addr+"'], retries: { attempts: 1 }, health: { passive: { failures: 1000 } }", "")
	beside := dialRaw(t, s.at("test"), "/echo")
	frame := string(frameOf(1, "hello"))
	for _, c := range []struct {
		path   string
		status int
		echo   bool
	}{
		{"/echo", 101, true}, {"/length", 101, true}, {"/no-content", 101, true}, {"/early", 101, true}, {"/ended", 101, false}, {"/trailers", 101, false},
		{"/101", 502, false}, {"/forbidden", 403, false}, {"/moved", 302, false}, {"/upgrade", 502, false}, {"/data", 502, false},
		{"/refused", 502, false}, {"/reset", 502, false},
	} {
		t.Run(c.path, func(t *testing.T) {
			one, resp := askRaw(t, s.at("test"), c.path)
			for resp.StatusCode == 103 {
				var err error
				if resp, err = http.ReadResponse(one.from, nil); err != nil {
					t.Fatal(err)
				}
			}
			if resp.StatusCode != c.status {
				t.Fatalf("%s %v", resp.Status, resp.Header)
			}
			switch {
			case c.echo:
				if got := resp.Header["Sec-Websocket-Accept"]; len(got) != 1 || got[0] != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Content-Length") != "" {
					t.Errorf("%v", resp.Header)
				}
				fmt.Fprint(one, frame)
				one.wants(frame)
				_ = one.Conn.(*net.TCPConn).CloseWrite()
				if rest := one.rest(); rest != "" {
					t.Errorf("%q is left", rest)
				}
			case c.status == 101:
				if rest := one.rest(); rest != "" {
					t.Errorf("%q came", rest)
				}
			default:
				_ = readAll(t, resp)
			}
			client := http2Client(t)
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			two := open(t, client, s.at("test"), c.path, "websocket")
			want := c.status
			if want == 101 {
				want = 200
			}
			if two.resp.StatusCode != want {
				t.Errorf("on HTTP/2: %s", two.resp.Status)
			}
			_ = two.to.Close()
			fmt.Fprint(beside, frame)
			beside.wants(frame)
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.closed) != 0 || s.opened["first"] != 1 {
		t.Errorf("connections to the upstream: %v, closed: %v", s.opened, s.closed)
	}
}

// TestDataBehindTheEndOfATunnel ends the upstream's connection, as HTTP/2 wants it, and whoever uses that; nothing of it reaches a client.
func TestDataBehindTheEndOfATunnel(t *testing.T) {
	addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			p.answer(f.StreamID, false, ":status", "200")
		case *http2.DataFrame:
			p.say(f.StreamID, true, "\x81\x02ok")
			p.say(f.StreamID, false, "\x81\x05wrong")
		}
	})
	s := extendedSite(t, "targets: ['http://"+addr+"']", "")
	beside, one := dialRaw(t, s.at("test"), "/"), dialRaw(t, s.at("test"), "/")
	fmt.Fprint(one, string(frameOf(1, "hello")))
	for c, want := range map[*rawChat]string{one: "\x81\x02ok", beside: ""} {
		if got := c.rest(); got != want {
			t.Errorf("%q; want %q", got, want)
		}
		_ = c.Close()
	}
	testkit.Eventually(t, "both have ended", func() bool { return s.tunnels("0") })
	fmt.Fprint(dialRaw(t, s.at("test"), "/"), string(frameOf(1, "hello"))) // on another connection
	testkit.Eventually(t, "why is known", func() bool { return s.closedFor("protocol_error") >= 1 })
}
