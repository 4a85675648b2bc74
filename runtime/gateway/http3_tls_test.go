package gateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"

	"wasmgate/runtime/internal/testkit"
)

// both is a listener with HTTP/3 beside TLS over TCP. more is further keys of tls.
func (a *issuer) both(more string) string {
	return "listeners: [" + strings.TrimSuffix(a.listener(more), " }") + ", http3: { enabled: true } }]\n"
}

// quic opens a connection that is closed with the test.
func (p *plant) quic(cfg *tls.Config) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	cfg = cfg.Clone()
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{"h3"}
	}
	q, err := quic.DialAddr(ctx, p.addr.String(), cfg, &quic.Config{MaxIdleTimeout: 20 * time.Second})
	if err == nil {
		p.Cleanup(func() { _ = q.CloseWithError(0x100, "") })
	}
	return q, err
}

// askOn sends a request for this host on a connection.
func (p *plant) askOn(c *quichttp3.ClientConn, host string, fields ...string) (int, string) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), "GET", "https://"+host+"/", nil)
	if err != nil {
		p.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	resp, err := c.RoundTrip(r)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// speak opens a connection and speaks HTTP/3 on it.
func (p *plant) speak(cfg *tls.Config) (*quic.Conn, *quichttp3.ClientConn) {
	p.Helper()
	q, err := p.quic(cfg)
	if err != nil {
		p.Fatal(err)
	}
	return q, (&quichttp3.Transport{}).NewClientConn(q)
}

func (p *plant) handshakes(result string) float64 {
	return p.metric(`wasmgate_tls_handshakes_total{listener="test",result="` + result + `"}`)
}

// TestHTTP3HandshakesThatFail: each is counted, and told of in the log, by why it failed; so are those that go well.
func TestHTTP3HandshakesThatFail(t *testing.T) {
	a := newIssuer(t)
	mallory := newIssuer(t).client("mallory")
	p := startPlant(t, a.both("handshake_timeout: 2s, client_auth: request, client_ca: '"+a.file("ca.pem")+"'")+hello)
	for result, do := range map[string]func(*tls.Config){
		"unknown_name":       func(c *tls.Config) { c.ServerName = "other.test" },
		"alpn":               func(c *tls.Config) { c.NextProtos = []string{"hq-interop"} },
		"alert":              func(c *tls.Config) { c.RootCAs = nil },
		"client_certificate": func(c *tls.Config) { c.Certificates = []tls.Certificate{mallory} },
	} {
		cfg := a.trust()
		do(cfg)
		if q, err := p.quic(cfg); err == nil { // the client may learn of it after its own part
			<-q.Context().Done()
		}
		testkit.Eventually(t, result+" is counted", func() bool { return p.handshakes(result) == 1 })
		testkit.Eventually(t, result+" is logged", func() bool { return strings.Contains(p.journal.String(), `"reason":"`+result+`"`) })
	}
	if text := p.journal.String(); !strings.Contains(text, `"server_name":"other.test"`) || !strings.Contains(text, `"peer":"127.0.0.1:`) {
		t.Errorf("the log does not say who: %s", text)
	}
	half, err := net.Dial("udp", p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write(initial(t, a.trust())); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the one that says no more is counted", func() bool { return p.handshakes("timeout") == 1 })
	if n := p.handshakes("done"); n != 0 {
		t.Errorf("%v handshakes are done", n)
	}
	_, c := p.speak(a.trust())
	if status, body := p.askOn(c, "a.test"); status != 200 || body != "hello\n" {
		t.Errorf("%d %q", status, body)
	}
	if n := p.handshakes("done"); n != 1 {
		t.Errorf("%v handshakes are done", n)
	}
	for _, result := range []string{"unknown_name", "alpn", "alert", "client_certificate", "timeout"} {
		if n := p.handshakes(result); n != 1 {
			t.Errorf("%v are %s", n, result)
		}
	}
}

// initial is the packet that a client begins a handshake with.
func initial(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	trap, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		cfg = cfg.Clone()
		cfg.NextProtos = []string{"h3"}
		_, _ = quic.DialAddr(ctx, trap.LocalAddr().String(), cfg, nil)
	}()
	defer func() { cancel(); <-done }()
	in := make([]byte, 2000)
	n, _, err := trap.ReadFrom(in)
	if err != nil {
		t.Fatal(err)
	}
	return in[:n]
}

// TestHTTP3ClientCertificates: the rules are those of TLS over TCP. Who has none, or one of others, is refused where one is
// demanded; who has shown one is told of to the upstream, and nobody else can say that he were.
func TestHTTP3ClientCertificates(t *testing.T) {
	a := newIssuer(t)
	alice, mallory := a.client("alice"), newIssuer(t).client("mallory")
	config := a.both("client_auth: require, client_ca: '"+a.file("ca.pem")+"', client_headers: { subject: X-Who, fingerprint: X-Print }") +
		"routes: [{ upstream: '" + echo(t) + "' }]\n"
	p := startPlant(t, config)
	shown := a.trust()
	shown.Certificates = []tls.Certificate{alice}
	for what, cert := range map[string][]tls.Certificate{"none": nil, "of others": {mallory}} {
		cfg := a.trust()
		cfg.Certificates = cert
		q, err := p.quic(cfg)
		if err == nil {
			<-q.Context().Done()
			err = context.Cause(q.Context())
		}
		if !strings.Contains(err.Error(), "CRYPTO_ERROR") {
			t.Errorf("%s: %v", what, err)
		}
	}
	spoofed := []string{"x-who", "CN=root", "x_who", "CN=root", "x-print", "forged"}
	_, c := p.speak(shown)
	status, body := p.askOn(c, "a.test", spoofed...)
	if status != 200 || !strings.Contains(body, `X-Who: CN=alice,O=Test\, Inc.`) || strings.Contains(body, "root") || strings.Contains(body, "forged") {
		t.Errorf("%d, the upstream was told %s", status, body)
	}
	if status, _ := p.askOn(c, "b.many.test"); status != 421 { // a connection is for the name that it was made for
		t.Errorf("another name: %d", status)
	}
	p.reload(strings.Replace(config, "client_auth: require", "client_auth: request", 1))
	_, anonymous := p.speak(a.trust())
	if status, body := p.askOn(anonymous, "a.test", spoofed...); status != 200 || strings.Contains(strings.ToLower(body), "x-who") || strings.Contains(body, "root") {
		t.Errorf("without a certificate: %d, the upstream was told %s", status, body)
	}
	p.reload(config) // demands more than when that connection was made
	if status, _ := p.askOn(anonymous, "a.test"); status != 421 {
		t.Errorf("without one, where one is demanded by now: %d", status)
	}
	_, c = p.speak(shown)
	if status, _ := p.askOn(c, "a.test"); status != 200 {
		t.Errorf("with one: %d", status)
	}
}

// TestHTTP3ClientCertificateInAPlugin: plugins see who the client is.
func TestHTTP3ClientCertificateInAPlugin(t *testing.T) {
	a := newIssuer(t)
	cfg := a.trust()
	cfg.Certificates = []tls.Certificate{a.client("alice")}
	p := startPlant(t, a.both("client_auth: require, client_ca: '"+a.file("ca.pem")+"'")+"plugins: { p: { module: "+module(t, probe)+
		", config: \"request prop connection%zsubject_peer_certificate\\nrequest prop connection%zrequested_server_name\\nrequest prop connection%ztls_version\" } }\n"+
		"routes: [{ plugins: [p], respond: { status: 200 } }]\n")
	_, c := p.speak(cfg)
	if status, _ := p.askOn(c, "a.test"); status != 200 {
		t.Error(status)
	}
	for _, want := range []string{"CN=alice", "a.test", "TLSv1.3"} {
		testkit.Eventually(t, "the plugin knows "+want, func() bool { return strings.Contains(p.journal.String(), "prop -> 0 "+want) })
	}
}

// TestHTTP3Certificates: the name that a client asks for chooses, a replaced certificate is shown to connections from then on, and
// those from before stay.
func TestHTTP3Certificates(t *testing.T) {
	a := newIssuer(t)
	config := a.both("profile: strict") + hello
	p := startPlant(t, config)
	serial := func(name string) int64 {
		cfg := a.trust()
		cfg.ServerName = name
		q, err := p.quic(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = q.CloseWithError(0x100, "") }()
		return q.ConnectionState().TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	_, before := p.speak(a.trust())
	for _, name := range []string{"a.test", "b.many.test"} {
		if got := serial(name); got != a.serial {
			t.Errorf("%s is shown certificate %d", name, got)
		}
	}
	first := a.serial
	a.issue("b", "b.test")
	more := strings.Replace(config, "certificates: [", fmt.Sprintf("certificates: [{ cert: %q, key: %q }, ", a.file("b.pem"), a.file("b.key")), 1)
	p.reload(more)
	if got := serial("b.test"); got != a.serial {
		t.Errorf("b.test is shown certificate %d", got)
	}
	if got := serial("a.test"); got != first {
		t.Errorf("a.test is shown certificate %d", got)
	}
	a.issue("a", "a.test", "*.many.test") // without a reload: the file is looked at
	testkit.Eventually(t, "new connections see the new certificate", func() bool { return serial("a.test") == a.serial })
	if status, body := p.askOn(before, "a.test"); status != 200 || body != "hello\n" {
		t.Errorf("on the connection from before: %d %q", status, body)
	}
}

// TestHTTP3Sessions: a session is resumed, also over a reload, and never with early data: a request in it could be sent again by
// whoever has seen it. Where there are no tickets, none is.
func TestHTTP3Sessions(t *testing.T) {
	a := newIssuer(t)
	config := a.both("") + hello
	p := startPlant(t, config)
	connect := func(cfg *tls.Config) (resumed bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		q, err := quic.DialAddrEarly(ctx, p.addr.String(), cfg, nil) // the client sends early data if it may
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = q.CloseWithError(0x100, "") }()
		if status, _ := p.askOn((&quichttp3.Transport{}).NewClientConn(q), "a.test"); status != 200 {
			t.Error(status)
		}
		if q.ConnectionState().Used0RTT {
			t.Error("early data was taken")
		}
		return q.ConnectionState().TLS.DidResume
	}
	cfg := a.trust()
	cfg.NextProtos = []string{"h3"}
	tickets := &ticketCounter{ClientSessionCache: tls.NewLRUClientSessionCache(10), got: make(chan struct{}, 100)}
	cfg.ClientSessionCache = tickets
	for i := range 4 {
		if i == 2 {
			p.reload(config)
		}
		if resumed := connect(cfg); resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
		<-tickets.got
	}
	if n := p.handshakes("resumed"); n != 3 {
		t.Errorf("%v are counted as resumed", n)
	}
	p.reload(a.both("session_tickets: false") + hello)
	if connect(cfg) {
		t.Error("a session was resumed without tickets")
	}
}

// ticketCounter tells of tickets that come.
type ticketCounter struct {
	tls.ClientSessionCache
	got chan struct{}
}

func (c *ticketCounter) Put(key string, s *tls.ClientSessionState) {
	if c.ClientSessionCache.Put(key, s); s != nil {
		c.got <- struct{}{}
	}
}
