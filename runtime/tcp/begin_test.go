package tcp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/proxyproto"
)

// certificate makes one that says whose it is.
func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsBackend is a backend that speaks TLS and echoes.
func tlsBackend(t *testing.T, name string) *backend {
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate(t, name)}}
	return newBackend(t, name, func(c *net.TCPConn) {
		s := tls.Server(c, cfg)
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
}

// slowly writes each byte in a segment of its own.
type slowly struct{ *net.TCPConn }

func (s slowly) Write(b []byte) (int, error) {
	for i := range b {
		if n, err := s.TCPConn.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

func TestSNIChoosesTheUpstreamAndTLSIsNotTerminated(t *testing.T) {
	one, two, plain := tlsBackend(t, "one.example"), tlsBackend(t, "two"), newBackend(t, "plain", echo)
	names, err := NewNames([]Route{{[]string{"one.example"}, one}, {[]string{"*.two.example"}, two}})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, 2, Snapshot{SNI: names, Default: plain, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second})
	n := 0
	for name, whose := range map[string]string{"one.example": "one.example", "ONE.example": "one.example", "x.y.two.example": "two"} {
		for _, slow := range []bool{false, true} {
			raw := g.dial()
			var under net.Conn = raw
			if slow {
				under = slowly{raw}
			}
			c := tls.Client(under, &tls.Config{ServerName: name, InsecureSkipVerify: true})
			g.echoed(c, strings.Repeat("through TLS ", 3000))
			if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != whose {
				t.Errorf("%s: the certificate is of %s", name, got)
			}
			_ = c.Close()
			n++
			if s := g.session(n); s.SNI != strings.ToLower(name) || s.Upstream != whose || s.Client.Scheme != "tls" {
				t.Errorf("%s: %q, %s, %s", name, s.SNI, s.Upstream, s.Client.Scheme)
			}
		}
	}
	c := g.dial()
	g.echoed(c, "not TLS at all")
	_ = c.CloseWrite()
	if s := g.session(n + 1); s.Upstream != "plain" || s.SNI != "" || s.Client.Scheme != "tcp" || s.BytesIn != 14 {
		t.Errorf("not TLS: %+v", s)
	}
	// A record at a time, and a byte at a time.
	for i, b := range [][]byte{split(helloWith(sni("other.example")), 1), record(helloWith())} {
		raw := g.dial()
		g.echoed(slowlyConn(raw, i == 0), string(b))
		_ = raw.CloseWrite()
		if s := g.session(n + 2 + i); s.Upstream != "plain" {
			t.Errorf("a name of nobody: %+v", s)
		}
	}
}

func slowlyConn(c *net.TCPConn, slow bool) net.Conn {
	if slow {
		return slowly{c}
	}
	return c
}

func TestClientsThatDoNotSayWhereTo(t *testing.T) {
	b := newBackend(t, "b", echo)
	names, err := NewNames([]Route{{[]string{"a.example"}, b}})
	if err != nil {
		t.Fatal(err)
	}
	var g *gate
	n := 0
	ended := func(what, why string, kind fault.Kind) {
		t.Helper()
		n++
		s := g.session(n)
		if s.Why != why || (s.Err == nil) != (kind == fault.Internal) || s.Err != nil && (s.Err.Kind != kind || s.Err.Source != fault.Client) {
			t.Errorf("%s: %s, %v", what, s.Why, s.Err)
		}
	}
	say := func(b []byte) *net.TCPConn {
		c := g.dial()
		_, _ = c.Write(b)
		return c
	}
	whole := record(helloWith(sni("b.example")))
	t.Run("silence", func(t *testing.T) {
		g = newGate(t, 1, Snapshot{SNI: names, HelloTimeout: 100 * time.Millisecond, IdleTimeout: 20 * time.Second})
		say(nil)
		ended("silence", exchange.EndHelloTimeout, fault.ClientTimeout)
		say(whole[:20])
		ended("a part, then silence", exchange.EndHelloTimeout, fault.ClientTimeout)
	})
	// Those who say something have time for it.
	g, n = newGate(t, 1, Snapshot{SNI: names, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second}), 0
	say(whole)
	ended("a name of nobody", exchange.EndNoRoute, fault.NoRoute)
	say([]byte("GET / HTTP/1.1\r\n"))
	ended("not TLS", exchange.EndNoRoute, fault.NoRoute)
	say(record(helloWith(sni("a", "b"))))
	ended("hostile", exchange.EndMalformed, fault.Malformed)
	say(record(append([]byte{1, 0, 0x3f, 0xff}, make([]byte, 16379)...)))
	ended("a hello that fills the buffer", exchange.EndMalformed, fault.Malformed)
	_ = say(nil).Close()
	ended("looking whether the port is open", exchange.EndClientClosed, fault.Internal)
	_ = say(whole[:20]).CloseWrite()
	ended("a part, then the end", exchange.EndClientClosed, fault.ClientClosed)
	c := say(whole[:20])
	testkit.Eventually(t, "the part is read", func() bool { return g.group.Loop(0).Stats().Tasks > 0 || g.server.Sessions() == 0 })
	reset(c)
	ended("a part, then a reset", exchange.EndClientReset, fault.ClientClosed)
	if r, _, _ := b.last(); r.Client.IsValid() {
		t.Error("the upstream was asked")
	}
}

func TestPROXYProtocolIn(t *testing.T) {
	b := newBackend(t, "b", echo)
	g := newGate(t, 1, Snapshot{Default: b, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second})
	client, service := netip.MustParseAddrPort("[2001:db8::7]:4711"), netip.MustParseAddrPort("[2001:db8::1]:443")
	n := 0
	for _, v := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		for _, slow := range []bool{false, true} {
			c := g.dial()
			head := proxyproto.Append(nil, v, client, service)
			if _, err := slowlyConn(c, slow).Write(append(head, "with the header, "...)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len("with the header, "))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "with the header, " {
				t.Fatalf("%q, %v", got, err)
			}
			g.echoed(c, "and after it")
			_ = c.CloseWrite()
			n++
			s := g.session(n)
			if s.Client.Peer != client || s.Client.Addr != client.Addr() || s.Via != c.LocalAddr().(*net.TCPAddr).AddrPort() || s.BytesIn != 29 {
				t.Errorf("version %d: %+v via %v, %d bytes", v, s.Client, s.Via, s.BytesIn)
			}
			if r, _, _ := b.last(); r.Client != client || r.Destination != service {
				t.Errorf("version %d: %+v", v, r)
			}
		}
		c := g.dial()
		_, _ = c.Write(proxyproto.Append(nil, v, netip.AddrPort{}, netip.AddrPort{}))
		g.echoed(c, "a health check")
		_ = c.CloseWrite()
		n++
		if s := g.session(n); s.Client.Peer != c.LocalAddr().(*net.TCPAddr).AddrPort() || s.Via.IsValid() {
			t.Errorf("version %d, local: %+v via %v", v, s.Client, s.Via)
		}
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "\x16\x03\x01"} {
		c := g.dial()
		fmt.Fprint(c, text)
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %v", text, err)
		}
		n++
		if s := g.session(n); s.Why != exchange.EndMalformed || s.Err.Kind != fault.Malformed || s.Upstream != "" {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

func TestPROXYProtocolIsNotLookedForInOthers(t *testing.T) {
	b := newBackend(t, "b", echo)
	g := newGate(t, 1, Snapshot{Default: b, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, IdleTimeout: 20 * time.Second})
	c := g.dial()
	g.echoed(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
	_ = c.CloseWrite()
	if s := g.session(1); s.Client.Peer != c.LocalAddr().(*net.TCPAddr).AddrPort() || s.Via.IsValid() {
		t.Errorf("a header of somebody who may not send one is believed: %+v", s)
	}
}

func TestPROXYProtocolInBeforeTLSAndOut(t *testing.T) {
	for _, v := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		got := make(chan []byte, 1)
		b := newBackend(t, "b", func(c *net.TCPConn) {
			all, _ := io.ReadAll(c)
			got <- all
		})
		b.proxy = v
		names, err := NewNames([]Route{{[]string{"a.example"}, b}})
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(t, 1, Snapshot{SNI: names, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second})
		client, service := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("192.0.2.1:443")
		c := g.dial()
		said := append(record(helloWith(sni("a.example"))), "and more"...)
		if _, err := slowlyConn(c, v == proxyproto.V1).Write(append(proxyproto.Append(nil, proxyproto.V2, client, service), said...)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if want := append(proxyproto.Append(nil, v, client, service), said...); string(<-got) != string(want) {
			t.Errorf("version %d: the upstream did not get the header and what the client said", v)
		}
		if s := g.session(1); s.SNI != "a.example" || s.Client.Peer != client || s.BytesIn != int64(len(said)) {
			t.Errorf("%+v", s)
		}
	}
}
