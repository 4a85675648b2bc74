package gateway_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// overheard is a connection that keeps what came last.
type overheard struct {
	net.Conn
	mu   sync.Mutex
	last []byte
	end  error
}

func (c *overheard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last = append(c.last, b[:n]...); len(c.last) > 64<<10 {
		c.last = c.last[32<<10:]
	}
	if err != nil {
		c.end = err
	}
	return n, err
}

// alertLength is how TLS 1.2 says close_notify with a suite of GCM: the record's header, a nonce, the alert and its seal.
const alertLength = 5 + 8 + 2 + 16

// toldTheEnd waits for the end of the connection below TLS, and says whether the last record was an alert. crypto/tls takes an end
// of the connection for that of what was said, so that it cannot be asked.
func (c *overheard) toldTheEnd(t *testing.T) bool {
	t.Helper()
	for b := make([]byte, 1024); ; {
		if _, err := c.Read(b); err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(c.end, io.EOF) {
		t.Errorf("the connection ended with %v", c.end)
	}
	at := len(c.last) - alertLength
	return at >= 0 && c.last[at] == 21 && c.last[at+1] == 3
}

func (g *gate) overheard(cfg *tls.Config) (*tls.Conn, *overheard) {
	g.Helper()
	raw, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	c := &overheard{Conn: raw}
	cfg.MaxVersion = tls.VersionTLS12 // in 1.3 alerts look like anything else
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	s := tls.Client(c, cfg)
	if err := s.Handshake(); err != nil {
		g.Fatal(err)
	}
	return s, c
}

// TestConnectionsByTLSEndWithNotice: a connection that ends in order says so by close_notify, behind GOAWAY: otherwise whoever cuts
// it could pass for the gateway (RFC 8446, 6.1).
func TestConnectionsByTLSEndWithNotice(t *testing.T) {
	a := newIssuer(t)
	request := func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 6, 'a', '.', 't', 'e', 's', 't'}})
	}
	for what, one := range map[string]struct {
		more string
		do   func(*gate, *tls.Conn, *http2.Framer)
	}{
		"no request":      {", keep_alive: { idle_timeout: 50ms }", func(_ *gate, _ *tls.Conn, f *http2.Framer) { request(f) }},
		"enough requests": {", keep_alive: { max_requests: 1 }", func(_ *gate, _ *tls.Conn, f *http2.Framer) { request(f) }},
		"a breach": {"", func(_ *gate, _ *tls.Conn, f *http2.Framer) {
			_ = f.WriteRawFrame(http2.FrameData, 0, 0, []byte("none"))
		}},
		"drained": {"", func(g *gate, _ *tls.Conn, f *http2.Framer) {
			request(f)
			go func() { _ = g.Shutdown(t.Context()) }()
		}},
		"the client ends": {"", func(_ *gate, c *tls.Conn, f *http2.Framer) {
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			_ = c.CloseWrite()
		}},
		"the client has ended a request": {"", func(_ *gate, c *tls.Conn, f *http2.Framer) {
			request(f)
			_ = c.CloseWrite()
		}},
	} {
		t.Run(what, func(t *testing.T) {
			listener := a.listener("alpn: [h2, http/1.1]")
			g := startListening(t, "loops: 1\nlisteners: ["+listener[:len(listener)-2]+one.more+" }]\n"+hello)
			cfg := a.trust()
			cfg.NextProtos = []string{"h2"}
			c, below := g.overheard(cfg)
			_, _ = io.WriteString(c, http2.ClientPreface)
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			_ = f.WriteSettingsAck()
			one.do(g, c, f)
			goAway := false
			var err error
			for err == nil {
				var fr http2.Frame
				if fr, err = f.ReadFrame(); err == nil {
					goAway = goAway || fr.Header().Type == http2.FrameGoAway
				}
			}
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the client sees %v", err)
			}
			if !goAway {
				t.Error("no GOAWAY")
			}
			if !below.toldTheEnd(t) {
				t.Error("no close_notify")
			}
		})
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		listener := a.listener("alpn: [http/1.1]")
		g := startListening(t, "loops: 1\nlisteners: ["+listener[:len(listener)-2]+", keep_alive: { idle_timeout: 50ms } }]\n"+hello)
		c, below := g.overheard(a.trust())
		askBy(t, c, bufio.NewReader(c), "a.test")
		if !below.toldTheEnd(t) {
			t.Error("an idle connection ended without close_notify")
		}
		c, below = g.overheard(a.trust())
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadAll(c); err != nil || !below.toldTheEnd(t) {
			t.Errorf("after the last answer: %v, or no close_notify", err)
		}
	})
}

// TestAnswersCutOffBelowTLS: an answer that ends with its connection is whole only if the upstream has said that nothing follows.
func TestAnswersCutOffBelowTLS(t *testing.T) {
	a := newIssuer(t)
	a.issue("up", "up.test")
	pair, err := tls.LoadX509KeyPair(a.file("up.pem"), a.file("up.key"))
	if err != nil {
		t.Fatal(err)
	}
	up := startDatabase(t, func(raw net.Conn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhalf of it")
		}
		if err == nil && r.URL.Path == "/cut" {
			_ = raw.Close()
		}
		_ = c.Close()
	})
	g := startPlant(t, "upstreams: { up: { targets: ['https://"+up.String()+"'], tls: { ca: '"+a.file("ca.pem")+"' } } }\nroutes: [{ upstream: up }]\n")
	for path, whole := range map[string]bool{"/whole": true, "/cut": false} {
		resp, err := http.Get(g.url(path))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if (err == nil) != whole || string(body) != "half of it" {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}
