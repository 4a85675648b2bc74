package server

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/facts"
)

func TestOneClientConnectionUsesOneUpstreamConnection(t *testing.T) {
	b := newBackend(t, hello)
	c := newGate(t, b).client()
	for i := range 20 {
		head, body := c.say("GET /n/%d?q=%d HTTP/1.1\r\nHost: a.example\r\nX-Odd-CASE: kept\r\n\r\n", i, i).answer()
		c.want(head, "HTTP/1.1 200 OK\r\n")
		c.want(body, fmt.Sprintf("GET /n/%d?q=%d HTTP/1.1\r\n", i, i))
		c.want(body, "X-Odd-CASE: kept\r\n")
	}
	if n := b.accepted.Load(); n != 1 {
		t.Errorf("the backend accepted %d connections, want 1", n)
	}
	last := c.entry(19).attempts[0]
	if !last.Reused || last.Ordinal != 20 {
		t.Errorf("the last attempt: reused %v, ordinal %d; want true, 20", last.Reused, last.Ordinal)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	c := newGate(t, newBackend(t, hello)).client()
	c.say("%s", strings.Repeat("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 3)+"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, want := range []string{"GET /a", "GET /a", "GET /a", "POST /b", "GET /c"} {
		_, body := c.answer()
		c.want(body, want)
	}
}

func TestWhatAnotherReaderCouldFrameDifferentlyIsNeverForwarded(t *testing.T) {
	b := newBackend(t, hello)
	g := newGate(t, b)
	for name, request := range map[string]string{
		"both framings":        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"differing lengths":    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"another coding":       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"bare LF":              "GET / HTTP/1.1\nHost: h\n\n",
		"obs-fold":             "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
		"space before colon":   "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
		"no host":              "GET / HTTP/1.1\r\n\r\n",
		"two hosts":            "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
		"control in value":     "GET / HTTP/1.1\r\nHost: h\r\nA: b\x01c\r\n\r\n",
		"encoded NUL in path":  "GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n",
		"chunked in HTTP/1.0":  "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"signed length":        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
		"chunk size, bad":      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
		"chunk line, bare LF":  "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
		"hidden separator":     "GET /a/..%2fb HTTP/1.1\r\nHost: h\r\n\r\n",
		"fragment in a target": "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := g.client().say("%s", request)
			c.want(c.head(), "HTTP/1.1 400 Bad Request\r\n")
			c.rest() // and the connection is closed
		})
	}
	if n := b.accepted.Load(); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestLimitsHaveTheirOwnStatus(t *testing.T) {
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) { s.MaxBody = 10 })
	for want, request := range map[string]string{
		"431 ":                            "GET / HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"414 ":                            "GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"413 ":                            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n12345678901",
		"505 ":                            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
		"405 ":                            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
		"HTTP/1.1 431 Request Header Fie": "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n",
	} {
		c := g.client().say("%s", request)
		c.want(c.head(), want)
		c.rest()
	}
}

func TestHopByHopFieldsDoNotCross(t *testing.T) {
	c := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		h := c.head()
		c.say("HTTP/1.1 200 OK\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
		c.head()
	}), func(s *Snapshot, _ *upstream.Config) { s.Forwarded.XForwarded = true }).client()
	head, body := c.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Forwarded-For, x-mine\r\nX-Mine: 1\r\n" +
		"Keep-Alive: 1\r\nTE: gzip\r\nProxy-Connection: x\r\nx_forwarded_for: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\n\r\n").answer()
	for _, never := range []string{"X-Mine", "Keep-Alive:", "TE:", "Proxy-Connection", "6.6.6.6"} {
		if strings.Contains(body, never) {
			t.Errorf("%s reached the upstream: %q", never, body)
		}
	}
	c.want(body, "X-Forwarded-For: 127.0.0.1\r\n")
	c.want(body, "X-Forwarded-Proto: http\r\n")
	c.want(body, "X-Forwarded-Host: h\r\n")
	c.want(head, "X-Kept: 1\r\n")
	if strings.Contains(head, "X-Secret") || strings.Contains(head, "Keep-Alive") {
		t.Errorf("hop-by-hop fields reached the client: %q", head)
	}
}

func TestWhoAskedBehindATrustedProxy(t *testing.T) {
	trust := func(s *Snapshot, _ *upstream.Config) {
		s.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
		s.Forwarded = Forwarded{XForwarded: true, RFC7239: true}
	}
	c := newGate(t, newBackend(t, hello), trust).client()
	_, body := c.say("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7, 10.1.1.1\r\n" +
		"X-Forwarded-Proto: https\r\nForwarded: for=192.0.2.7\r\n\r\n").answer()
	c.want(body, "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1, 127.0.0.1\r\n")
	c.want(body, "X-Forwarded-Proto: https\r\n")
	c.want(body, "Forwarded: for=192.0.2.7, for=127.0.0.1;host=\"h\";proto=http\r\n")
	if e := c.entry(0); e.client.String() != "192.0.2.7" {
		t.Errorf("the client is %s; want the last address that no trusted proxy has", e.client)
	}
}

func TestAnUpstreamThatSwitchesProtocolsUnasked(t *testing.T) {
	for _, ask := range []string{"", "Connection: Upgrade\r\nUpgrade: h2c\r\n"} {
		c := newGate(t, newBackend(t, hello2(func(c *backendConn) {
			c.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		}))).client()
		c.want(c.say("GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", ask).head(), "502 Bad Gateway")
	}
}

func TestAClientOfHTTP10(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			if strings.HasPrefix(h, "GET /chunked") {
				c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
			} else {
				c.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
			}
		}
	})
	g := newGate(t, b)
	c := g.client()
	for range 3 {
		head, body := c.say("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").answer()
		c.want(strings.ToLower(head), "connection: keep-alive")
		c.want(body, "hi")
	}
	c.say("GET /chunked HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
	if head := strings.ToLower(c.head()); strings.Contains(head, "chunked") {
		t.Errorf("a client of HTTP/1.0 got chunks: %q", head)
	}
	if got := c.rest(); got != "abcde" {
		t.Errorf("got %q, want abcde and the end of the connection", got)
	}
	c = g.client().say("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
	c.answer()
	if got := c.rest(); got != "" {
		t.Errorf("without keep-alive the connection ends, got %q", got)
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	c := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			switch {
			case strings.HasPrefix(h, "HEAD"):
				c.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
			case strings.HasPrefix(h, "GET /204"):
				c.say("HTTP/1.1 204 No Content\r\n\r\n")
			case strings.HasPrefix(h, "GET /304"):
				c.say("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n")
			case strings.HasPrefix(h, "GET /hint"):
				c.say("HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})).client()
	c.want(c.say("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").head(), "Content-Length: 1000")
	c.want(c.say("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n").head(), "204 No Content")
	c.want(c.say("GET /304 HTTP/1.1\r\nHost: h\r\n\r\n").head(), "304 Not Modified")
	c.want(c.say("GET /hint HTTP/1.1\r\nHost: h\r\n\r\n").head(), "103 Early Hints")
	c.want(c.head(), "200 OK")
	c.want(c.say("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n").head(), "204 No Content")
}

func TestABodyThatTheClientSendsWhenItIsInvited(t *testing.T) {
	c := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		h := c.head()
		if strings.Contains(strings.ToLower(h), "expect") {
			c.say("HTTP/1.1 500 Expect crossed\r\nContent-Length: 0\r\n\r\n")
		}
		b := make([]byte, 5)
		_, _ = io.ReadFull(c.r, b)
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", b)
		c.head()
	})).client()
	c.say("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	c.want(c.head(), "HTTP/1.1 100 Continue\r\n")
	_, body := c.say("12345").answer()
	c.want(body, "12345")
}

func TestChunkedBodiesBothWays(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		for c.head() != "" {
			var size int
			var sum strings.Builder
			for {
				line, err := c.r.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Sscanf(line, "%x", &size)
				if size == 0 {
					break
				}
				_, _ = io.CopyN(&sum, c.r, int64(size))
				_, _ = c.r.ReadString('\n')
			}
			trailer := c.head()
			c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Seen: %s\r\n\r\n", sum.Len(), sum.String(), strings.TrimSpace(trailer))
		}
	})
	c := newGate(t, b).client()
	for range 2 {
		c.say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=\"1\"\r\nhello\r\n")
		c.say("6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
		c.want(c.head(), "Transfer-Encoding: chunked")
		c.want(c.bytes(len("b\r\nhello world\r\n0\r\nX-Seen: X-Sum: 1\r\n\r\n")), "hello world\r\n0\r\nX-Seen: X-Sum: 1\r\n\r\n")
	}
	if n := b.accepted.Load(); n != 1 {
		t.Errorf("the backend accepted %d connections, want 1", n)
	}
}

func TestAnAnswerThatEndsWithItsConnection(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say("HTTP/1.1 200 OK\r\n\r\nuntil the end")
	})
	g := newGate(t, b)
	c := g.client()
	for range 2 {
		c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		c.want(c.head(), "Transfer-Encoding: chunked")
		c.want(c.bytes(len("d\r\nuntil the end\r\n0\r\n\r\n")), "until the end")
	}
	for i := range 2 {
		if e := g.entry(i); e.attempts[0].WhyClosed != facts.CloseDelimited {
			t.Errorf("closed for %q", e.attempts[0].WhyClosed)
		}
	}
}

func TestServerSentEventsArriveAsTheyAreSent(t *testing.T) {
	next := make(chan string)
	c := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for event := range next {
			c.say("%x\r\n%s\r\n", len(event), event)
		}
		c.say("0\r\n\r\n")
	})).client()
	c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head()
	for i := range 5 {
		event := fmt.Sprintf("data: %d\n\n", i)
		next <- event
		c.want(c.bytes(len(event)+5), event) // arrives although nothing follows yet
	}
	close(next)
	c.want(c.bytes(5), "0\r\n\r\n")
}

func TestAPooledConnectionThatDiedIsReplacedAndPOSTIsNotSentTwice(t *testing.T) {
	b := newBackend(t, func(n int, c *backendConn) {
		h := c.head()
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if n == 1 && !strings.Contains(h, "/again") {
			c.head() // take the second request, and close without an answer
			return
		}
		hello(n, c)
	})
	g := newGate(t, b)
	c := g.client()
	c.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").answer()
	head, _ := c.say("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").answer()
	c.want(head, "200 OK")
	second := g.entry(1)
	if len(second.attempts) != 2 || second.attempts[0].Err == nil || second.attempts[1].WhyNew != facts.NewRetry {
		t.Errorf("the second request: %+v", second)
	}

	b2 := newBackend(t, func(n int, c *backendConn) {
		c.head()
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.head()
	})
	g2 := newGate(t, b2)
	c2 := g2.client()
	c2.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
	head, _ = c2.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").answer()
	c2.want(head, "502 Bad Gateway")
	if n := b2.accepted.Load(); n != 1 {
		t.Errorf("a POST that may have been acted upon was sent again: %d connections", n)
	}
}

func TestTimeoutsHaveTheirOwnMessage(t *testing.T) {
	silent := newBackend(t, func(_ int, c *backendConn) { c.head(); c.head() })
	for name, test := range map[string]struct {
		change change
		want   string
	}{
		"response_header": {func(s *Snapshot, _ *upstream.Config) { s.Upstreams[0].ResponseHeader = 50 * time.Millisecond }, "response_header_timeout"},
		"request":         {func(s *Snapshot, _ *upstream.Config) { s.Upstreams[0].Timeout = 2 * time.Second }, "request_timeout"}, // which begins before there is a connection
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, newBackend(t, func(_ int, c *backendConn) { c.head(); c.head() }), test.change)
			c := g.client()
			head, body := c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
			c.want(head, "504 Gateway Timeout")
			c.want(body, test.want)
			if e := g.entry(0); e.attempts[0].WhyClosed != facts.CloseTimeout || !strings.Contains(e.err, "upstream backend") {
				t.Errorf("closed for %q: %s", e.attempts[0].WhyClosed, e.err)
			}
		})
	}
	silent.Close()
	t.Run("idle_read", func(t *testing.T) {
		g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
			c.head()
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			c.head()
		}), func(s *Snapshot, _ *upstream.Config) { s.Upstreams[0].IdleRead = 50 * time.Millisecond })
		c := g.client().say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		c.head()
		if got := c.rest(); got != "abc" {
			t.Errorf("got %q", got)
		}
		if e := g.entry(0); !strings.Contains(e.err, "idle_read_timeout") {
			t.Error(e.err)
		}
	})
	t.Run("connect refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)))
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		gone := &backend{Listener: ln}
		g := newGate(t, gone)
		c := g.client()
		head, body := c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		c.want(head, "502 Bad Gateway")
		c.want(body, "connect")
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("the client is told the upstream's address: %q", body)
		}
		if e := g.entry(0); !strings.Contains(e.err, gone.Addr().String()) {
			t.Errorf("the log lacks the address: %s", e.err)
		}
	})
	t.Run("head", func(t *testing.T) {
		for limit := 50 * time.Millisecond; ; limit *= 2 { // who has said nothing gets no answer: it may be the machine that stood still
			c := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) { s.HeadTimeout = limit }).client()
			_, _ = io.WriteString(c.Conn, "GET / HT")
			said := c.rest()
			if strings.HasPrefix(said, "HTTP/1.1 408 Request Timeout\r\n") {
				break
			}
			if limit > 2*time.Second {
				t.Fatalf("half a head is answered with %q", said)
			}
		}
	})
	t.Run("body", func(t *testing.T) {
		g := newGate(t, newBackend(t, hello2(nil)), func(s *Snapshot, _ *upstream.Config) { s.BodyIdle = 50 * time.Millisecond })
		c := g.client().say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
		c.want(c.head(), "408 Request Timeout")
		c.rest()
	})
}

// hello2 takes a head and then waits for the end of the connection, or runs then.
func hello2(then func(*backendConn)) func(int, *backendConn) {
	return func(_ int, c *backendConn) {
		c.head()
		if then != nil {
			then(c)
		}
		_, _ = io.Copy(io.Discard, c.r)
	}
}

func TestAnAnswerThatComesBeforeTheRequestWasSent(t *testing.T) {
	g := newGate(t, newBackend(t, hello2(func(c *backendConn) {
		c.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
	})))
	c := g.client().say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")
	head, body := c.answer()
	c.want(head, "413 Too Large")
	c.want(body, "no")
	c.rest()
	if e := g.entry(0); e.attempts[0].WhyClosed != facts.CloseRequestNotSent {
		t.Errorf("closed for %q", e.attempts[0].WhyClosed)
	}
}

func TestAClientThatGoesAwayWithHalfABody(t *testing.T) {
	began, got := make(chan struct{}), make(chan string, 1)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		close(began)
		b, _ := io.ReadAll(c.r)
		got <- string(b)
	}))
	c := g.client().say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	<-began
	c.Conn.Close()
	if body := <-got; strings.HasSuffix(body, "0\r\n\r\n") {
		t.Errorf("the upstream took half a body for a whole one: %q", body)
	}
	if e := g.entry(0); !strings.Contains(e.err, "client_closed") {
		t.Error(e.err)
	}
}

func TestATunnelAfterUpgrade(t *testing.T) {
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		h := c.head()
		if !strings.Contains(h, "Upgrade: websocket") || !strings.Contains(strings.ToLower(h), "connection: upgrade") {
			c.say("HTTP/1.1 400 No upgrade\r\nContent-Length: 0\r\n\r\n")
			return
		}
		c.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		b := make([]byte, 1024)
		for {
			n, err := c.r.Read(b)
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(strings.ToUpper(string(b[:n]))))
		}
	}))
	c := g.client().say("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	head := c.head()
	c.want(head, "101 Switching Protocols")
	c.want(head, "Upgrade: websocket")
	c.want(c.bytes(5), "hello")
	c.say("ping")
	c.want(c.bytes(4), "PING")
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	c.rest()
	if e := g.entry(0); e.status != 101 || e.attempts[0].WhyClosed != facts.CloseUpgradeEnded {
		t.Errorf("%+v", e)
	}
}

func TestASlowReaderStopsTheSender(t *testing.T) {
	const size = 64 << 20
	sent := make(chan int, 1)
	g := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		c.head()
		c.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		c.pour(t, size, sent)
	}))
	c := g.client().say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute)) // it is much, for a busy machine
	if n := <-sent; n > size/2 {
		t.Errorf("the backend could send %d bytes although nobody reads", n)
	}
	c.head()
	if n, err := io.CopyN(io.Discard, c.r, size); err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

// TestDrainingEndsConnectionsPolitely: a request that comes soon after is answered; where the machine stood still meanwhile there is
// another try.
func TestDrainingEndsConnectionsPolitely(t *testing.T) {
	for try := 1; ; try++ {
		g := newGate(t, newBackend(t, hello))
		busy, idle := g.client(), g.client()
		busy.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		idle.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		began := time.Now()
		g.server.Drain()
		_, _ = io.WriteString(busy.Conn, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, err := busy.r.Peek(1); err != nil && time.Since(began) >= drainGrace && try < 5 {
			continue
		}
		head, _ := busy.answer()
		busy.want(head, "Connection: close")
		busy.rest()
		idle.rest()
		g.eventually("all are gone", func() bool { return g.group.Accepted() == 0 })
		return
	}
}
