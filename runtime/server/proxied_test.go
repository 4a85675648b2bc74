package server

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/proxyproto"
	"wasmgate/runtime/upstream"
)

var (
	behind = netip.MustParseAddrPort("192.0.2.7:4711")
	front  = netip.MustParseAddrPort("198.51.100.2:80")
)

func fromLocal(s *Snapshot, _ *upstream.Config) {
	s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.Forwarded = Forwarded{XForwarded: true, RFC7239: true}
}

func header(v proxyproto.Version, src, dst netip.AddrPort) string {
	return string(proxyproto.Append(nil, v, src, dst))
}

func TestWhoAskedBehindABalancer(t *testing.T) {
	v6 := netip.MustParseAddrPort("[2001:db8::7]:4711")
	g := newGate(t, newBackend(t, hello), fromLocal)
	n := 0
	for name, c := range map[string]struct{ header, addr, forwarded string }{
		"v1":         {header(proxyproto.V1, behind, front), "192.0.2.7", "for=192.0.2.7;"},
		"v2":         {header(proxyproto.V2, behind, front), "192.0.2.7", "for=192.0.2.7;"},
		"v2 of IPv6": {header(proxyproto.V2, v6, netip.MustParseAddrPort("[2001:db8::1]:80")), "2001:db8::7", `for="[2001:db8::7]";`},
		"unknown":    {"PROXY UNKNOWN\r\n", "127.0.0.1", "for=127.0.0.1;"},
		"local":      {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1", "for=127.0.0.1;"},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				cl := g.client()
				if whole {
					cl.say("%s", c.header+"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
				} else { // each byte in a segment of its own, as far as the network does not join them
					for i := range c.header {
						cl.say("%s", c.header[i:i+1])
					}
					cl.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
				}
				for range 2 {
					_, body := cl.answer()
					cl.want(body, "X-Forwarded-For: "+c.addr+"\r\n")
					cl.want(body, "Forwarded: "+c.forwarded)
					cl.say("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
				}
				cl.answer()
				for range 3 {
					if e := g.entry(n); e.client.String() != c.addr {
						t.Errorf("the client is %s, want %s", e.client, c.addr)
					}
					n++
				}
			})
		}
	}
}

// TestTrustIsAboutWhoIsBehindTheBalancer: what the balancer's own address may say, the client behind it may not.
func TestTrustIsAboutWhoIsBehindTheBalancer(t *testing.T) {
	g := newGate(t, newBackend(t, hello), fromLocal, func(s *Snapshot, _ *upstream.Config) { s.Trusted = s.AcceptProxy })
	c := g.client()
	_, body := c.say("%sGET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", header(proxyproto.V1, behind, front)).answer()
	c.want(body, "X-Forwarded-For: 192.0.2.7\r\n")
}

func TestWhatIsNoHeaderWhereOneMustCome(t *testing.T) {
	b := newBackend(t, hello)
	g := newGate(t, b, fromLocal)
	for i, bytes := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"PROXY TCP4 999.0.2.7 198.51.100.2 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"PROXY " + strings.Repeat("x", 200),
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
		"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		c := g.client().say("%s", bytes)
		if got := c.rest(); got != "" {
			t.Errorf("%q was answered with %q", bytes, got)
		}
		if e := g.entry(i); e.status != 0 || !strings.Contains(e.err, "malformed") {
			t.Errorf("%q: told of as %d %s", bytes, e.status, e.err)
		}
	}
	if n := b.accepted.Load(); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestAHeaderThatDoesNotCome(t *testing.T) {
	in := func(limit time.Duration) change {
		return func(s *Snapshot, _ *upstream.Config) { s.HeadTimeout = limit }
	}
	g := newGate(t, newBackend(t, hello), fromLocal, in(50*time.Millisecond))
	g.client().rest() // nothing at all: closed in silence
	slow := newGate(t, newBackend(t, hello), fromLocal, in(2*time.Second))
	slow.client().say("PROXY T").rest() // a part
	if e := slow.entry(0); !strings.Contains(e.err, "not whole within 2s") {
		t.Error(e.err)
	}
	c := g.client() // no request behind it
	_, _ = io.WriteString(c.Conn, header(proxyproto.V2, behind, front))
	begun := time.Now()
	if c.rest(); time.Since(begun) > 5*time.Second {
		t.Error("a connection without a request stays for longer than head_timeout")
	}
	if n, of := len(g.journal.entries()), len(slow.journal.entries()); n != 0 || of != 1 {
		t.Errorf("%d exchanges are told of, want 1", n+of)
	}
}

func TestFromOthersAHeaderIsNotRead(t *testing.T) {
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) {
		s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	c := g.client().say("%sGET / HTTP/1.1\r\nHost: h\r\n\r\n", header(proxyproto.V1, behind, front))
	c.want(c.head(), "400 Bad Request")
	if e := g.entry(0); e.status != 400 || e.client.String() != "127.0.0.1" {
		t.Errorf("told of as %+v", e)
	}
}

// TestWhatIsNoRequestIsToldOf: a head that is refused ends as every exchange does, in the log and the counters.
func TestWhatIsNoRequestIsToldOf(t *testing.T) {
	g := newGate(t, newBackend(t, hello))
	c := g.client().say("GET / HTTP/1.1\r\nA : b\r\n\r\n")
	c.want(c.head(), "400 Bad Request")
	_ = c.Conn.Close()
	if e := g.entry(0); e.status != 400 || !strings.Contains(e.err, "malformed") {
		t.Errorf("told of as %+v", e)
	}
	c = g.client().say("GET / HT")
	_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	c.want(c.head(), "400 Bad Request")
	if e := g.entry(1); e.status != 400 || !strings.Contains(e.err, "client_closed") {
		t.Errorf("told of as %+v", e)
	}
}
