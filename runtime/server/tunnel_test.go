package server

import (
	"io"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/upstream"
)

const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

const anUpgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

// goAway is the frame that a client gets, and how long it is for a server.
const (
	goAway       = "\x88\x0c\x03\xe9going away"
	goAwayMasked = len(goAway) + 4
)

func drainIn(grace, drain time.Duration) change {
	return func(s *Snapshot, _ *upstream.Config) { s.Tunnels = Tunnels{Grace: grace, Drain: drain} }
}

// TestACloseFrameWaitsForTheEndOfAMessage: what was begun is passed on to its end, what follows goes nowhere, and both ends close
// when both have answered.
func TestACloseFrameWaitsForTheEndOfAMessage(t *testing.T) {
	told := make(chan string, 2)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say(upgraded + "\x01\x03abc")
		b := make([]byte, goAwayMasked)
		if _, err := io.ReadFull(c.r, b); err != nil {
			t.Error(err)
		}
		told <- string(b[:2])
		c.say("\x89\x01p\x80\x02de\x81\x01x") // a ping amid it, its end, and another one
		c.say("\x88\x02\x03\xe9")
		rest, err := io.ReadAll(c.r)
		told <- string(rest)
		if err != nil {
			t.Error(err)
		}
	}), drainIn(0, 20*time.Second))
	c := g.client().say(anUpgrade)
	c.head()
	c.want(c.bytes(5), "\x01\x03abc")
	g.server.Drain()
	if got := <-told; got != "\x88\x8c" {
		t.Errorf("the backend was told %x", got)
	}
	c.want(c.bytes(7), "\x89\x01p\x80\x02de")
	c.want(c.bytes(len(goAway)), goAway)
	c.say("\x82\x81\x00\x00\x00\x00y") // what comes before the answer goes nowhere either
	c.say("\x88\x82\x00\x00\x00\x00\x03\xe9")
	if rest := c.rest(); rest != "" {
		t.Errorf("the client got %q too", rest)
	}
	_ = c.Close()
	if rest := <-told; rest != "" {
		t.Errorf("the backend got %q too", rest)
	}
	if e := g.entry(0); e.tunnel.Why != exchange.EndDrained || e.tunnel.Protocol != exchange.TunnelWebSocket || e.err != "" {
		t.Errorf("%+v", e)
	}
	g.eventually("all are gone", func() bool { return g.group.Accepted() == 0 })
}

// TestAMessageWithoutEnd is interrupted between two of its frames, in time.
func TestAMessageWithoutEnd(t *testing.T) {
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say(upgraded + "\x01\x01.")
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.Write([]byte("\x00\x01.")); err != nil {
				return
			}
		}
	}), drainIn(0, 4*time.Second)) // half of it is what a machine that stands still may take
	c := g.client().say(anUpgrade)
	c.head()
	c.want(c.bytes(3), "\x01\x01.")
	begun := time.Now()
	g.server.Drain()
	for {
		if f := c.bytes(2); f == "\x88\x0c" {
			break
		} else if f != "\x00\x01" {
			t.Fatalf("a frame begins with %x", f)
		}
		c.bytes(1)
	}
	if took := time.Since(begun); took < 1600*time.Millisecond {
		t.Errorf("it was interrupted after %v", took)
	}
	c.bytes(len(goAway) - 2)
	if rest := c.rest(); rest != "" {
		t.Errorf("behind the Close frame: %q", rest)
	}
}

// TestOtherTunnelsAreCut when the time for draining is over, and not told anything. Where the machine stood still before a tunnel was
// of use there is another try, with twice the time.
func TestOtherTunnelsAreCut(t *testing.T) {
	for _, c := range []struct {
		why   string
		rules func(limit time.Duration) change
		begin func(*gate)
	}{
		{exchange.EndDrained, func(limit time.Duration) change { return drainIn(10*time.Millisecond, limit) }, func(g *gate) { g.server.Drain() }},
		{exchange.EndIdleTimeout, func(limit time.Duration) change {
			return func(s *Snapshot, _ *upstream.Config) { s.Upstreams[0].TunnelIdle = limit }
		}, func(*gate) {}},
		{exchange.EndMaxAge, func(limit time.Duration) change {
			return func(s *Snapshot, _ *upstream.Config) { s.Upstreams[0].TunnelMax = limit }
		}, func(*gate) {}},
	} {
		t.Run(c.why, func(t *testing.T) {
			for limit := 300 * time.Millisecond; ; limit *= 2 {
				g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
					c.head()
					c.say("%s", strings.Replace(upgraded, "websocket", "echo", 1))
					_, _ = io.Copy(c, c.r)
				}), c.rules(limit))
				begun := time.Now()
				cl := g.client()
				cl.say("%s", strings.Replace(anUpgrade, "websocket", "echo", 1))
				cl.head()
				_, _ = io.WriteString(cl.Conn, "ping")
				b := make([]byte, 4)
				if _, err := io.ReadFull(cl.r, b); err != nil && limit < 4*time.Second {
					continue
				}
				cl.want(string(b), "ping")
				c.begin(g)
				if rest, err := io.ReadAll(cl.r); len(rest) > 0 || time.Since(begun) < limit*5/6 {
					t.Errorf("%q, %v after %v", rest, err, time.Since(begun))
				}
				if e := g.entry(0); e.tunnel.Why != c.why || e.tunnel.Protocol != exchange.TunnelOther {
					t.Errorf("%+v", e)
				}
				return
			}
		})
	}
}

// TestWhoClosesAWebSocket is said by who said so first.
func TestWhoClosesAWebSocket(t *testing.T) {
	for _, first := range []string{exchange.EndUpstreamClosed, exchange.EndClientClosed} {
		g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
			c.head()
			c.say(upgraded)
			if first == exchange.EndUpstreamClosed {
				c.say("\x88\x00")
			}
			_, _ = io.ReadFull(c.r, make([]byte, 6))
			if first == exchange.EndClientClosed {
				c.say("\x88\x00")
			}
		}))
		c := g.client().say(anUpgrade)
		c.head()
		if first == exchange.EndUpstreamClosed {
			c.want(c.bytes(2), "\x88\x00")
		}
		c.say("\x88\x80\x00\x00\x00\x00")
		if first == exchange.EndClientClosed {
			c.want(c.bytes(2), "\x88\x00")
		}
		c.rest()
		_ = c.Close()
		if e := g.entry(0); e.tunnel.Why != first {
			t.Errorf("%+v; want %s", e, first)
		}
	}
}

// TestAnUpgradeThatFails is an answer like others: what follows on the connection is a request like others, and not the
// upstream's to read as it likes.
func TestAnUpgradeThatFails(t *testing.T) {
	heads := make(chan string, 4)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			heads <- h
			c.say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		}
	}))
	c := g.client().say("%s", anUpgrade+"GET /2 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\nno request\r\n\r\n")
	for _, want := range []string{"403", "403", "400"} {
		head, _ := c.answer()
		c.want(head, "HTTP/1.1 "+want)
	}
	c.rest()
	if first, second := <-heads, <-heads; !strings.Contains(first, "Upgrade: websocket") || !strings.HasPrefix(second, "GET /2 ") || strings.Contains(second, "6.6.6.6") || strings.Contains(second, "pgrade") {
		t.Errorf("%q, then %q", first, second)
	}
	if e := g.entry(0); e.tunnel.Protocol != "" {
		t.Errorf("%+v", e)
	}
}

// TestUpgradesThatAreNotPassedOn: those that the route does not allow, those of requests with a body, those of HTTP/1.0. The
// request goes on without.
func TestUpgradesThatAreNotPassedOn(t *testing.T) {
	heads := make(chan string, 1)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			heads <- h
			c.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			return
		}
	}), func(s *Snapshot, _ *upstream.Config) {
		s.Routes = tableOf(&Route{Name: "all", Upstream: 0, Upgrades: Upgrades{Protocols: []string{"websocket", "echo"}}})
	})
	for _, c := range []struct {
		head, body string
		passed     string
	}{
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: WebSocket, echo\r\n\r\n", "", "WebSocket, echo"},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket, other\r\n\r\n", "", ""},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: \r\n\r\n", "", ""},
		{"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", "", ""},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "", ""},
		{"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n", "hi", ""},
		{"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "", "websocket"},
		{"GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "", ""},
	} {
		cl := g.client().say("%s", c.head+c.body)
		head, _ := cl.answer()
		cl.want(head, " 200 OK")
		got := ""
		for line := range strings.Lines(<-heads) {
			if v, ok := strings.CutPrefix(line, "Upgrade: "); ok {
				got = strings.TrimSpace(v)
			}
		}
		if got != c.passed {
			t.Errorf("%q: the upstream saw %q", c.head, got)
		}
		_ = cl.Close()
	}
}

// TestAProtocolThatNobodyHasAskedFor is no answer.
func TestAProtocolThatNobodyHasAskedFor(t *testing.T) {
	for _, offered := range []string{"other", "websocket, other", "websocket,"} {
		g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
			for h := c.head(); h != ""; h = c.head() {
				c.say("%s", strings.Replace(upgraded, "websocket", offered, 1))
			}
		}))
		head, _ := g.client().say(anUpgrade).answer()
		if !strings.HasPrefix(head, "HTTP/1.1 502") {
			t.Errorf("%q: %q", offered, head)
		}
	}
}

// TestATunnelOfASlowReader stops who sends.
func TestATunnelOfASlowReader(t *testing.T) {
	const size = 64 << 20
	sent := make(chan int, 1)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say(upgraded)
		c.pour(t, size, sent) // no frames: whatever passes is passed on
	}))
	c := g.client().say(anUpgrade)
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute)) // it is much, for a busy machine
	c.head()
	if n := <-sent; n > size/2 {
		t.Errorf("the backend could send %d bytes although nobody reads", n)
	}
	if n, err := io.CopyN(io.Discard, c.r, size); err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}
