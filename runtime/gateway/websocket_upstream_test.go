package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// extendedSite is a gateway before an upstream of HTTP/2; upstream says which, and more of it.
func extendedSite(t *testing.T, upstream, limits string) *site {
	t.Helper()
	return startSite(t, fmt.Sprintf(`
loops: 1
listeners: [{ name: test, address: '127.0.0.1:0' }]
limits: { %s }
upstreams: { app: { protocol: http2, %s } }
routes: [{ name: chat, upstream: app }]
`, limits, upstream))
}

// talker is a WebSocket of a client, in whatever version of HTTP.
type talker interface{ says(text string) }

// TestWebSocketsToUpstreamsOfHTTP2: from clients of HTTP/1.1 and of HTTP/2, to Go's server and to a gateway, without TLS and with it.
// They are streams of one connection, beside plain requests, and are told of the end.
func TestWebSocketsToUpstreamsOfHTTP2(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, e *webSockets) string{
		"a gateway": func(t *testing.T, e *webSockets) string {
			return "targets: ['http://" + chatSite(t, e, "", "", "").at("test") + "']"
		},
		"a gateway, TLS": func(t *testing.T, e *webSockets) string {
			a := newIssuer(t)
			inner := startSite(t, "listeners: ["+a.listener("")+"]\nupstreams: { app: { targets: ['http://"+e.addr+"'] } }\nroutes: [{ upstream: app }]\n")
			return a.tlsBackend(inner.at("test"))
		},
		"Go's server": func(t *testing.T, e *webSockets) string {
			return "targets: ['http://" + bridge(t, e.addr) + "']"
		},
		"Go's server, TLS": func(t *testing.T, e *webSockets) string {
			a := newIssuer(t)
			a.issue("b", "a.test")
			return a.tlsBackend(bridge(t, e.addr, a.file("b.pem"), a.file("b.key")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			e := startWebSockets(t)
			s := extendedSite(t, begin(t, e), "drain_timeout: 20s, tunnel_grace: 100ms")
			talkToHTTP2(t, e, s)
		})
	}
}

func talkToHTTP2(t *testing.T, e *webSockets, s *site) {
	const each = 20
	client := http2Client(t)
	var old []*chat
	var recent []*stream
	var all []talker
	for i := range each {
		c, x := dialChat(t, s.at("test"), fmt.Sprint("/old/", i)), open(t, client, s.at("test"), fmt.Sprint("/new/", i), "websocket")
		if h := x.resp.Header; x.resp.StatusCode != 200 || h.Get("Sec-WebSocket-Protocol") != "chat" || h.Get("Sec-WebSocket-Accept") != "" || c.Subprotocol() != "chat" {
			t.Fatalf("%s %v, %q", x.resp.Status, h, c.Subprotocol())
		}
		old, recent, all = append(old, c), append(recent, x), append(all, c, x)
	}
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			for _, text := range []string{"hello", strings.Repeat("long ", 12_000), "", "bye"} {
				c.says(text)
			}
		})
	}
	wg.Wait()
	if !s.tunnels(fmt.Sprint(2 * each)) {
		t.Error("not all of them are counted as tunnels")
	}
	resp, err := http.Get(s.url("/plain"))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); resp.StatusCode != 426 {
		t.Errorf("a plain request beside them: %s", resp.Status)
	}
	s.mu.Lock()
	if len(s.opened) != 1 || s.opened["first"] != 1 || len(s.closed) != 0 {
		t.Errorf("connections to the upstream: %v, closed: %v", s.opened, s.closed)
	}
	s.mu.Unlock()
	// The first of each are closed by their clients.
	_ = old[0].Close(websocket.StatusNormalClosure, "")
	_, _ = recent[0].to.Write(frameOf(8, "\x03\xe8"))
	if op, said, err := recent[0].next(); op != 8 || string(said) != "\x03\xe8" || err != nil {
		t.Errorf("%d %q %v", op, said, err)
	}
	if _, _, err := recent[0].next(); err != io.EOF {
		t.Errorf("the stream ends with %v", err)
	}
	_ = recent[0].to.Close()
	testkit.Eventually(t, "they have ended", func() bool { return s.endedTunnels("client_closed", "2") && e.open.Load() == 2*each-2 })
	// The others are told to go.
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfChats)
	defer cancel()
	go func() { done <- s.Shutdown(ctx) }()
	for i := 1; i < each; i++ {
		c := recent[i]
		wg.Go(func() {
			if op, said, err := c.next(); op != 8 || string(said) != "\x03\xe9going away" || err != nil {
				t.Errorf("%d %q %v", op, said, err)
			}
			_, _ = c.to.Write(frameOf(8, "\x03\xe9"))
			_ = c.to.Close()
		})
		if code, reason := old[i].ends(); code != goingAway || reason != "going away" {
			t.Errorf("a client was told %v %q", code, reason)
		}
	}
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the servers were told", func() bool { return e.closedWith(goingAway) == 2*each-2 && e.open.Load() == 0 })
	for _, l := range s.tunnelLines(2*each + 1) {
		if l.Status != 101 || l.Tunnel != "websocket" || l.Why != "client_closed" && l.Why != "drained" || l.BytesIn < 60_000 || l.BytesOut < 60_000 {
			t.Errorf("%+v", l)
		}
	}
}

// TestAnUpstreamGoesAwayDuringTunnels: GOAWAY has clients told so, and they go on until they have heard it; a reset of a stream ends
// its tunnel alone, and the end of the connection all of them.
func TestAnUpstreamGoesAwayDuringTunnels(t *testing.T) {
	const text = "\x81\x05hello"
	cases := []struct {
		name string
		do   func(p *framePeer, id uint32)
		why  string
		says string // what clients hear
	}{
		{"GOAWAY", func(p *framePeer, id uint32) { _ = p.WriteGoAway(id, http2.ErrCodeNo, nil) }, "drained", "\x88\x0c\x03\xe9going away"},
		{"RST_STREAM", func(p *framePeer, id uint32) { _ = p.WriteRSTStream(id, http2.ErrCodeCancel) }, "upstream_reset", ""},
		{"END_STREAM", func(p *framePeer, id uint32) { _ = p.WriteData(id, true, nil) }, "upstream_closed", ""},
		{"the connection ends", func(p *framePeer, _ uint32) { _ = p.conn.Close() }, "upstream_reset", ""},
	}
	for _, c := range cases {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(c.name+", "+version, func(t *testing.T) {
				ended := make(chan string, 10)
				addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
					switch f := f.(type) {
					case *http2.MetaHeadersFrame:
						p.answer(f.StreamID, false, ":status", "200")
					case *http2.DataFrame:
						switch data := string(f.Data()); {
						case f.StreamEnded():
							ended <- "END_STREAM"
							p.say(f.StreamID, true, "")
						case data == string(frameOf(1, "now")):
							p.locked(func() { c.do(p, f.StreamID) })
						case len(data) > 0 && data[0] == 0x88:
							ended <- fmt.Sprintf("Close %d", len(data))
							p.say(f.StreamID, true, "\x88\x02\x03\xe9")
						default:
							p.say(f.StreamID, false, text)
						}
					case *http2.RSTStreamFrame:
						ended <- f.ErrCode.String()
					}
				})
				s := extendedSite(t, "targets: ['http://"+addr+"']", "tunnel_grace: 50ms, drain_timeout: 10s")
				if version == "HTTP/1.1" {
					one := dialRaw(t, s.at("test"), "/")
					fmt.Fprint(one, string(frameOf(1, "hello")))
					one.wants(text)
					fmt.Fprint(one, string(frameOf(1, "now")))
					one.wants(c.says)
					if c.says != "" {
						fmt.Fprint(one, string(frameOf(8, "\x03\xe9")))
					}
					if rest := one.rest(); rest != "" {
						t.Errorf("%q came too", rest)
					}
					_ = one.Close()
				} else {
					one := open(t, http2Client(t), s.at("test"), "/", "websocket")
					_, _ = one.to.Write(frameOf(1, "hello"))
					if op, said, err := one.next(); op != 1 || string(said) != "hello" || err != nil {
						t.Fatalf("%d %q %v", op, said, err)
					}
					_, _ = one.to.Write(frameOf(1, "now"))
					if c.says != "" {
						if op, said, err := one.next(); op != 8 || "\x88\x0c"+string(said) != c.says || err != nil {
							t.Fatalf("%d %q %v", op, said, err)
						}
						_, _ = one.to.Write(frameOf(8, "\x03\xe9"))
					}
					rest, err := io.ReadAll(one.from)
					var reset http2.StreamError
					if c.why == "upstream_reset" != (errors.As(err, &reset) && reset.Code == http2.ErrCodeCancel) || len(rest) > 0 {
						t.Errorf("the stream ends with %q, %v", rest, err)
					}
					_ = one.to.Close()
				}
				testkit.Eventually(t, "it is counted", func() bool { return s.endedTunnels(c.why, "1") && s.tunnels("0") })
				if c.name == "GOAWAY" {
					if got := <-ended; got != "Close 18" {
						t.Errorf("the upstream was told %s", got)
					}
					testkit.Eventually(t, "the connection ends with its last tunnel", func() bool { return s.closedFor("peer_closed") == 1 })
				}
			})
		}
	}
}

// TestAClientGoesFromATunnel to an upstream of HTTP/2, which keeps the connection: what ends its side ends the stream's, what breaks
// it resets that.
func TestAClientGoesFromATunnel(t *testing.T) {
	ended := make(chan string, 10)
	addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			p.answer(f.StreamID, false, ":status", "200")
		case *http2.DataFrame:
			if p.taken(f); f.StreamEnded() {
				ended <- "END_STREAM"
				p.say(f.StreamID, true, "\x81\x04last")
			}
		case *http2.RSTStreamFrame:
			ended <- f.ErrCode.String()
		}
	})
	s := extendedSite(t, "targets: ['http://"+addr+"']", "")
	one := dialRaw(t, s.at("test"), "/")
	_ = one.Conn.(*net.TCPConn).CloseWrite()
	if rest := one.rest(); rest != "\x81\x04last" {
		t.Errorf("%q", rest)
	}
	two := dialRaw(t, s.at("test"), "/")
	_ = two.Conn.(*net.TCPConn).SetLinger(0)
	_ = two.Close()
	client := http2Client(t)
	three := open(t, client, s.at("test"), "/", "websocket")
	_ = three.to.Close()
	if rest, err := io.ReadAll(three.from); string(rest) != "\x81\x04last" || err != nil {
		t.Errorf("%q %v", rest, err)
	}
	four := open(t, client, s.at("test"), "/", "websocket")
	_ = four.resp.Body.Close() // RST_STREAM
	got := map[string]int{}
	for range 4 {
		got[<-ended]++
	}
	if got["END_STREAM"] != 2 || got["CANCEL"] != 2 {
		t.Errorf("the upstream was told %v", got)
	}
	testkit.Eventually(t, "they are counted", func() bool { return s.endedTunnels("client_closed", "2") && s.endedTunnels("client_reset", "2") })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.closed) != 0 || s.opened["first"] != 1 {
		t.Errorf("connections to the upstream: %v, closed: %v", s.opened, s.closed)
	}
}

// TestTunnelsToHTTP2EndAsOthersDo: what is idle or old is told so at both ends; what has served enough requests takes no
// further ones, and lets its tunnels live.
func TestTunnelsToHTTP2EndAsOthersDo(t *testing.T) {
	begin := func(t *testing.T, more string) (*webSockets, *site) {
		leavesNothing(t)
		e := startWebSockets(t)
		return e, extendedSite(t, "targets: ['http://"+chatSite(t, e, "", "", "").at("test")+"'], "+more, "tunnel_grace: 0s")
	}
	for _, c := range []struct{ name, upstream, why, reason string }{
		{"idle", "timeouts: { tunnel_idle: LIMIT }", "idle_timeout", "idle for too long"},
		{"old", "timeouts: { tunnel_max: LIMIT }", "max_age", "open for too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for limit := 200 * time.Millisecond; ; limit *= 2 {
				e, s := begin(t, strings.Replace(c.upstream, "LIMIT", inMilliseconds(limit), 1))
				begun := time.Now()
				one := dialChat(t, s.at("test"), "/")
				if err := one.try("hello"); err != nil && time.Since(begun) >= limit && limit < 4*time.Second {
					continue // the machine stood still
				} else if err != nil {
					t.Fatalf("%v after %v", err, time.Since(begun))
				}
				if code, reason := one.ends(); code != goingAway || reason != c.reason {
					t.Errorf("%v %q", code, reason)
				}
				testkit.Eventually(t, "it is counted", func() bool { return s.endedTunnels(c.why, "1") && e.closedWith(goingAway) == 1 })
				return
			}
		})
	}
	t.Run("a connection that has served enough", func(t *testing.T) {
		_, s := begin(t, "pool: { max_requests: 2 }")
		one, two := dialChat(t, s.at("test"), "/"), dialChat(t, s.at("test"), "/")
		three := dialChat(t, s.at("test"), "/")
		began := time.Now()
		testkit.Eventually(t, "everything that looks for tunnels to end has looked", func() bool { return time.Since(began) > 2500*time.Millisecond })
		one.says("hello")
		two.says("hello")
		three.says("hello")
		if !s.tunnels("3") || s.openedFor("first") != 1 || s.closedFor("max_requests") != 0 {
			t.Error(s.reasons())
		}
		_, _ = one.Close(websocket.StatusNormalClosure, ""), two.Close(websocket.StatusNormalClosure, "")
		testkit.Eventually(t, "it ends with them", func() bool { return s.closedFor("max_requests") == 1 })
		three.says("hello")
	})
}

// pour writes a frame again and again, up to most bytes, until nothing of them is taken for a while, and for a while again: the machine
// may stand still. It returns how many were begun, and what of the last one is to be written still.
func (c *rawChat) pour(frame []byte, most int) (frames int, rest []byte) {
	defer func() { _ = c.SetDeadline(time.Now().Add(patienceOfChats)) }()
	for frames*len(frame) < most {
		frames++
		still := 0
		for rest = frame; len(rest) > 0; {
			_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			n, _ := c.Write(rest)
			rest = rest[n:]
			if still++; n > 0 {
				still = 0
			} else if still == 3 {
				return frames, rest
			}
		}
	}
	return frames, nil
}

// TestASlowSideOfATunnelStopsOnlyIts, although others are on the same connection to the upstream: a client that does not read, and an
// upstream.
func TestASlowSideOfATunnelStopsOnlyIts(t *testing.T) {
	const most = 128 << 20
	long := strings.Repeat("x", 60_000)
	t.Run("a client", func(t *testing.T) {
		leavesNothing(t)
		e := startWebSockets(t)
		s := extendedSite(t, "targets: ['http://"+chatSite(t, e, "", "", "").at("test")+"']", "")
		slow, quick := dialRaw(t, s.at("test"), "/"), dialChat(t, s.at("test"), "/")
		frames, left := slow.pour(frameOf(2, long), most)
		if frames*len(long) >= most {
			t.Fatal("nobody stops it")
		}
		t.Logf("stopped after %d MiB", frames*len(long)>>20)
		for range 20 {
			quick.says(long)
		}
		var writer sync.WaitGroup
		writer.Go(func() { _, _ = slow.Write(left) })
		for range frames { // every byte comes, once it is read
			head := make([]byte, 4)
			if _, err := io.ReadFull(slow.from, head); err != nil || head[0] != 0x82 {
				t.Fatalf("%x %v", head, err)
			}
			if _, err := io.CopyN(io.Discard, slow.from, int64(len(long))); err != nil {
				t.Fatal(err)
			}
		}
		writer.Wait()
		if s.openedFor("first") != 1 || s.openedFor("no_idle") != 0 {
			t.Errorf("connections to the upstream: %s", s.reasons())
		}
	})
	t.Run("an upstream", func(t *testing.T) {
		leavesNothing(t)
		var deaf sync.Map
		var taken atomic.Int64
		reset := make(chan string, 10)
		addr := startFramePeer(t, []http2.Setting{takesTunnels}, func(p *framePeer, f http2.Frame) {
			id := f.Header().StreamID
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				if f.PseudoValue("path") == "/deaf" {
					deaf.Store(id, true)
				}
				p.answer(id, false, ":status", "200")
			case *http2.DataFrame:
				_, listensNot := deaf.Load(id)
				switch {
				case listensNot:
					taken.Add(int64(f.Length))
					p.locked(func() { _ = p.WriteWindowUpdate(0, max(f.Length, 1)) })
				case string(f.Data()) == string(frameOf(1, "reset")):
					deaf.Range(func(id, _ any) bool {
						p.locked(func() { _ = p.WriteRSTStream(id.(uint32), http2.ErrCodeCancel) })
						return true
					})
				default:
					p.taken(f)
					p.say(id, f.StreamEnded(), string(f.Data()))
				}
			case *http2.RSTStreamFrame:
				reset <- f.ErrCode.String()
			}
		})
		s := extendedSite(t, "targets: ['http://"+addr+"']", "")
		slow, quick := dialRaw(t, s.at("test"), "/deaf"), dialRaw(t, s.at("test"), "/")
		frame := frameOf(2, long)
		if frames, _ := slow.pour(frame, most); frames*len(long) >= most {
			t.Fatal("nobody stops it")
		}
		const window = 65_535
		testkit.Eventually(t, "the upstream's server has seen all that was sent", func() bool { return taken.Load() >= window })
		if n := taken.Swap(0); n != window {
			t.Errorf("%d bytes were sent into a window of %d", n, window)
		}
		for range 20 {
			fmt.Fprint(quick, string(frame))
			quick.wants(string(frame))
		}
		// A client that gives up, and so resets its stream, is not kept waiting for the upstream either.
		other := open(t, http2Client(t), s.at("test"), "/deaf", "websocket")
		var writer sync.WaitGroup
		writer.Go(func() {
			for err := error(nil); err == nil; {
				_, err = other.to.Write(frame)
			}
		})
		testkit.Eventually(t, "the window is used up", func() bool { return taken.Load() == window })
		_ = other.resp.Body.Close()
		writer.Wait()
		if code := <-reset; code != "CANCEL" {
			t.Errorf("the upstream was told %s", code)
		}
		testkit.Eventually(t, "it is counted", func() bool { return s.endedTunnels("client_reset", "1") && s.tunnels("2") })
		fmt.Fprint(quick, string(frameOf(1, "reset")))
		testkit.Eventually(t, "the upstream's reset is heard", func() bool { return s.endedTunnels("upstream_reset", "1") && s.tunnels("1") })
		_ = quick.Close()
	})
}
