package gateway_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

const hello = "routes: [{ respond: { status: 200, body: \"hello\\n\" } }]\n"

// askBy sends a request on a connection, and returns the answer and its body.
func askBy(t *testing.T, c net.Conn, r *bufio.Reader, host string) (*http.Response, string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // for this one, however long the connection has been there
	if _, err := fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, readAll(t, resp)
}

// echo is an upstream that answers with the head that it got.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			for _, v := range values {
				fmt.Fprintf(w, "%s: %s\n", name, v)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestTLSWithRealClients asks by curl and openssl, in each version, resumes a session, and shows a client certificate.
func TestTLSWithRealClients(t *testing.T) {
	need(t, "curl")
	need(t, "openssl")
	a := newIssuer(t)
	a.client("alice")
	g := startListening(t, "listeners: ["+a.listener("client_auth: request, client_ca: '"+a.file("ca.pem")+"', client_headers: { subject: X-Who }")+"]\nroutes: [{ upstream: '"+echo(t)+"' }]\n")
	to := fmt.Sprintf("a.test:%d", g.addr.Port())
	resolve := []string{"-sS", "--fail", "--cacert", a.file("ca.pem"), "--resolve", to + ":127.0.0.1", "-w", "%{ssl_verify_result} %{http_version}", "https://" + to + "/"}
	for _, version := range []string{"--tlsv1.2 --tls-max 1.2", "--tlsv1.3"} {
		for protocol, said := range map[string]string{"--http1.1": "0 1.1", "--http2": "0 2"} {
			out := run(t, "curl", append(append(strings.Fields(version), protocol), resolve...)...)
			if !strings.Contains(out, "X-Forwarded-Proto: https") || !strings.HasSuffix(out, said) || strings.Contains(out, "X-Who") {
				t.Errorf("curl %s %s: %s", version, protocol, out)
			}
		}
	}
	out := run(t, "curl", append([]string{"--cert", a.file("alice.pem"), "--key", a.file("alice.key"), "-H", "x_who: mallory"}, resolve...)...)
	if !strings.Contains(out, "X-Who: CN=alice,O=Test\\, Inc.\n") || strings.Contains(out, "mallory") {
		t.Errorf("with a client certificate: %s", out)
	}
	session := a.file("session")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		openssl := func(more ...string) string {
			cmd := exec.Command("openssl", append([]string{"s_client", "-connect", g.addr.String(), "-servername", "a.test", "-CAfile", a.file("ca.pem"), "-verify_return_error", version}, more...)...)
			cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
			cmd.WaitDelay = 10 * time.Second
			more = append(more, "-ign_eof")
			cmd.Args = append(cmd.Args, "-ign_eof")
			b, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("openssl %v: %v\n%s", more, err, b)
			}
			return string(b)
		}
		if out := openssl("-sess_out", session); !strings.Contains(out, "200 OK") || !strings.Contains(out, "New, TLSv1") {
			t.Errorf("openssl %s: %s", version, out)
		}
		if out := openssl("-sess_in", session); !strings.Contains(out, "200 OK") || !strings.Contains(out, "Reused, TLSv1") {
			t.Errorf("openssl %s did not resume: %s", version, out)
		}
	}
}

// TestProfiles: what a listener does not speak is refused.
func TestProfiles(t *testing.T) {
	a := newIssuer(t)
	for _, c := range []struct {
		tls    string
		client *tls.Config
		err    string
	}{
		{"", &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"profile: strict", &tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version"},
		{"profile: strict", &tls.Config{}, ""},
		{"min_version: '1.3'", &tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version"},
		{"alpn: [http/1.1]", &tls.Config{NextProtos: []string{"http/1.1"}}, ""},
		{"alpn: [http/1.1]", &tls.Config{NextProtos: []string{"spdy/3"}}, "no application protocol"},
		{"", &tls.Config{ServerName: "b.many.test"}, ""},
		{"", &tls.Config{ServerName: "other.test"}, "unrecognized name"},
	} {
		g := startListening(t, "listeners: ["+a.listener(c.tls)+"]\n"+hello)
		cfg := c.client.Clone()
		if cfg.RootCAs = a.pool; cfg.ServerName == "" {
			cfg.ServerName = "a.test"
		}
		conn, err := tls.Dial("tcp", g.addr.String(), cfg)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %v, want %q", c.tls, err, c.err)
		}
		if err == nil {
			if _, body := askBy(t, conn, bufio.NewReader(conn), "a.test"); body != "hello\n" {
				t.Errorf("%q: %q", c.tls, body)
			}
			conn.Close()
		}
	}
}

// TestCertificateIsReplacedUnderWay: files change while clients ask, and again with a reload; nobody notices but those who look
// at the certificate.
func TestCertificateIsReplacedUnderWay(t *testing.T) {
	a := newIssuer(t)
	config := "loops: 2\nlisteners: [" + a.listener("") + "]\n" + hello
	g := startListening(t, config)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answers, anew atomic.Int64
	for i := range 4 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.trust(), DisableKeepAlives: i%2 == 0}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("https://" + g.addr.String() + "/")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if answers.Add(1); i%2 == 0 {
					anew.Add(1)
				}
			}
		})
	}
	kept := g.secured(a.trust())
	reader := bufio.NewReader(kept)
	askBy(t, kept, reader, "a.test")
	serial := func() int64 {
		c := g.secured(a.trust())
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	for range 3 {
		a.issue("a", "a.test", "*.many.test")
		testkit.Eventually(t, "new connections see the new certificate", func() bool { return serial() == a.serial })
		seen := anew.Load()
		testkit.Eventually(t, "others go on", func() bool { return anew.Load() > seen+10 })
		if err := g.Reload(load(t, config)); err != nil {
			t.Fatal(err)
		}
		if serial() != a.serial {
			t.Error("a reload has brought another certificate")
		}
	}
	askBy(t, kept, reader, "a.test")
	close(stop)
	clients.Wait()
	if answers.Load() == 0 {
		t.Error("nobody has asked")
	}
	// A reload whose certificate is of no use changes nothing, and says where.
	broken := strings.Replace(config, "a.key", "ca.pem", 1)
	err := g.Reload(load(t, broken))
	if err == nil || !strings.Contains(err.Error(), "listeners[0].tls.certificates[0].key") || !strings.Contains(err.Error(), "no key in PEM") {
		t.Errorf("a reload with a broken key: %v", err)
	}
	if serial() != a.serial {
		t.Error("a reload that was refused has changed the certificate")
	}
}

// TestSessionsResumeOnEveryLoop: whichever loop a connection comes to, and over a reload.
func TestSessionsResumeOnEveryLoop(t *testing.T) {
	a := newIssuer(t)
	config := "loops: 2\nlisteners: [" + a.listener("") + "]\n" + hello
	g := startListening(t, config)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := a.trust()
		cfg.ClientSessionCache, cfg.MinVersion, cfg.MaxVersion = tls.NewLRUClientSessionCache(10), version, version
		for i := range 9 {
			if i == 5 {
				if err := g.Reload(load(t, config)); err != nil {
					t.Fatal(err)
				}
			}
			c := g.secured(cfg) // those before stay open, so that the loops take turns
			askBy(t, c, bufio.NewReader(c), "a.test")
			if resumed := c.ConnectionState().DidResume; resumed != (i > 0) {
				t.Errorf("%s, connection %d: resumed %v", tls.VersionName(version), i, resumed)
			}
		}
	}
	off := startListening(t, strings.Replace(config, "tls: {", "tls: { session_tickets: false,", 1))
	cfg := a.trust()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	for range 2 {
		c := off.secured(cfg)
		askBy(t, c, bufio.NewReader(c), "a.test")
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed without tickets")
		}
	}
}

// TestClientCertificates: who has none, or one of others, is refused; who has one is told of to the upstream, and nobody else
// can say that he were.
func TestClientCertificates(t *testing.T) {
	a, others := newIssuer(t), newIssuer(t)
	alice, mallory := a.client("alice"), others.client("mallory")
	config := "listeners:\n  - " + a.listener("client_auth: require, client_ca: '"+a.file("ca.pem")+"', "+
		"client_headers: { subject: X-Who, issuer: X-By, serial: X-No, names: X-San, fingerprint: X-Print, certificate: Client-Cert, forwarded: X-Forwarded-Client-Cert }") +
		"\n  - { name: plain, address: '127.0.0.1:0' }\n  - { name: trusting, address: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8] }\nroutes: [{ upstream: '" + echo(t) + "' }]\n"
	g := startListening(t, config)
	for what, cert := range map[string][]tls.Certificate{"none": nil, "of others": {mallory}} {
		cfg := a.trust()
		cfg.Certificates = cert
		c, err := tls.Dial("tcp", g.addr.String(), cfg)
		if err == nil { // in TLS 1.3 the client is told after its part of the handshake
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", what, err)
		}
	}
	const spoofed = "X-Who: CN=root\r\nx_who: CN=root\r\nX_WHO: CN=root\r\nClient-Cert: :AA==:\r\nclient_cert: :AA==:\r\nX_Forwarded_Client-Cert: Hash=00\r\nX-Print: 00\r\n"
	cfg := a.trust()
	cfg.Certificates = []tls.Certificate{alice}
	said := func(c net.Conn) map[string]string {
		t.Helper()
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n%s\r\n", spoofed); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		list := map[string]string{}
		for line := range strings.Lines(readAll(t, resp)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			list[name] += value
		}
		return list
	}
	got := said(g.secured(cfg))
	leaf := alice.Leaf
	for name, want := range map[string]string{
		"X-Who": `CN=alice,O=Test\, Inc.`, "X-By": "CN=authority", "X-No": leaf.SerialNumber.Text(16), "X-San": "DNS:alice.clients.test,URI:spiffe://test/alice",
		"X-Forwarded-Client-Cert": fmt.Sprintf(`Hash=%s;Subject="CN=alice,O=Test\\, Inc.";URI=spiffe://test/alice;DNS=alice.clients.test`, got["X-Print"]),
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if len(got["X-Print"]) != 64 || len(got["Client-Cert"]) < 100 || strings.Contains(fmt.Sprint(got), "CN=root") {
		t.Errorf("the upstream was told %v", got)
	}
	plain, err := net.Dial("tcp", g.Addr("plain").String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if got := said(plain); strings.Contains(fmt.Sprint(got), "CN=root") || got["Client-Cert"] != "" || got["X-Print"] != "" {
		t.Errorf("without a certificate the upstream was told %v", got)
	}
	trusting, err := net.Dial("tcp", g.Addr("trusting").String())
	if err != nil {
		t.Fatal(err)
	}
	defer trusting.Close()
	if got := said(trusting); !strings.Contains(got["X-Who"], "CN=root") {
		t.Errorf("a trusted proxy is not believed: %v", got)
	}
}

// TestMisdirected: with client certificates a connection is for the name that it was made for, and a listener that demands
// more than before serves no one who has not shown it.
func TestMisdirected(t *testing.T) {
	a := newIssuer(t)
	alice := a.client("alice")
	mutual := "listeners: [" + a.listener("client_auth: request, client_ca: '"+a.file("ca.pem")+"'") + "]\n" + hello
	g := startListening(t, mutual)
	for _, c := range []struct {
		name, host string
		status     int
	}{
		{"a.test", "a.test", 200},
		{"a.test", "A.Test:443", 200},
		{"a.test", "b.many.test", 421},
		{"b.many.test", "b.many.test", 200},
		{"127.0.0.1", "127.0.0.1:8443", 200},
		{"127.0.0.1", "a.test", 421},
	} {
		cfg := a.trust()
		cfg.ServerName = c.name
		conn := g.secured(cfg)
		if resp, _ := askBy(t, conn, bufio.NewReader(conn), c.host); resp.StatusCode != c.status {
			t.Errorf("%s on a connection for %q: %d, want %d", c.host, c.name, resp.StatusCode, c.status)
		}
	}
	without, with := g.secured(a.trust()), a.trust()
	with.Certificates = []tls.Certificate{alice}
	shown := g.secured(with)
	readers := map[net.Conn]*bufio.Reader{without: bufio.NewReader(without), shown: bufio.NewReader(shown)}
	for c, r := range readers {
		askBy(t, c, r, "a.test")
	}
	if err := g.Reload(load(t, strings.Replace(mutual, "client_auth: request", "client_auth: require", 1))); err != nil {
		t.Fatal(err)
	}
	if resp, _ := askBy(t, without, readers[without], "a.test"); resp.StatusCode != 421 {
		t.Errorf("without a certificate, on a connection from before: %s", resp.Status)
	}
	if resp, _ := askBy(t, shown, readers[shown], "a.test"); resp.StatusCode != 200 {
		t.Errorf("with one: %s", resp.Status)
	}
}

// TestCleartextOnAPortWithTLS: who speaks HTTP is told in words; a connection from before TLS was switched on ends.
func TestCleartextOnAPortWithTLS(t *testing.T) {
	a := newIssuer(t)
	port := freePort(t)
	config := strings.Replace("listeners: ["+a.listener("")+"]\n"+hello, "127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", port), 1)
	g := startListening(t, fmt.Sprintf("listeners: [{ name: test, address: '127.0.0.1:%d' }]\n", port)+hello)
	before, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	reader := bufio.NewReader(before)
	askBy(t, before, reader, "h")
	if err := g.Reload(load(t, config)); err != nil {
		t.Fatal(err)
	}
	if resp, _ := askBy(t, before, reader, "h"); resp.StatusCode != 421 || !resp.Close {
		t.Errorf("on a connection from before: %s", resp.Status)
	}
	resp, err := http.Get(g.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body := readAll(t, resp); resp.StatusCode != 400 || !strings.Contains(body, "this port speaks TLS") {
		t.Errorf("%s: %q", resp.Status, body)
	}
	c := g.secured(a.trust())
	if _, body := askBy(t, c, bufio.NewReader(c), "a.test"); body != "hello\n" {
		t.Errorf("by TLS: %q", body)
	}
}

// TestBehindABalancer: a PROXY protocol header comes in front of TLS.
func TestBehindABalancer(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+strings.Replace(a.listener(""), "tls:", "proxy_protocol: [127.0.0.0/8], tls:", 1)+"]\nroutes: [{ upstream: '"+echo(t)+"' }]\n")
	raw, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, "PROXY TCP4 192.0.2.9 192.0.2.1 5000 443\r\n"); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, a.trust())
	if _, body := askBy(t, c, bufio.NewReader(c), "a.test"); !strings.Contains(body, "X-Forwarded-For: 192.0.2.9\n") || !strings.Contains(body, "X-Forwarded-Proto: https\n") {
		t.Errorf("the upstream was told %q", body)
	}
}

func TestRedirect(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners:\n  - "+a.listener("")+"\n  - { name: plain, address: '127.0.0.1:0', redirect_https: true, redirect_port: 443, trusted_proxies: [127.0.0.2/32] }\n"+
		"  - { name: other, address: '127.0.0.1:0', redirect_https: true, redirect_port: 8443, trusted_proxies: [127.0.0.1/32] }\n"+hello)
	for _, c := range []struct {
		listener, request, location string
	}{
		{"plain", "GET /a/../b?c=d HTTP/1.1\r\nHost: a.test\r\n", "https://a.test/b?c=d"},
		{"plain", "HEAD / HTTP/1.1\r\nHost: a.test:80\r\n", "https://a.test/"},
		{"plain", "POST /p HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 0\r\n", "https://[::1]/p"},
		{"plain", "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n", "https://a.test/"},
		{"plain", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n", "https://a.test"},
		{"other", "GET /x HTTP/1.1\r\nHost: a.test:81\r\n", "https://a.test:8443/x"},
		{"other", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n", ""},
		{"plain", "GET / HTTP/1.0\r\n", "400"},
	} {
		conn, err := net.Dial("tcp", g.Addr(c.listener).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, c.request+"\r\n"); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(c.request, " ")
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		want := 308
		switch c.location {
		case "":
			want = 200
		case "400":
			want, c.location = 400, ""
		}
		if resp.StatusCode != want || resp.Header.Get("Location") != c.location {
			t.Errorf("%s: %s to %q", c.request, resp.Status, resp.Header.Get("Location"))
		}
	}
}

// TestRenegotiationIsRefused: a second handshake on a connection of TLS 1.2 ends it.
func TestRenegotiationIsRefused(t *testing.T) {
	need(t, "openssl")
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+a.listener("")+"]\n"+hello)
	cmd := exec.Command("openssl", "s_client", "-connect", g.addr.String(), "-servername", "a.test", "-tls1_2")
	cmd.Stdin = strings.NewReader("R\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	cmd.WaitDelay = 10 * time.Second
	out, _ := cmd.CombinedOutput()
	if text := string(out); !strings.Contains(text, "RENEGOTIATING") || !strings.Contains(text, "alert unexpected message") || strings.Contains(text, "200 OK") {
		t.Errorf("openssl says:\n%s", out)
	}
	c := g.secured(a.trust())
	askBy(t, c, bufio.NewReader(c), "a.test")
}

// TestOversizedRecords: what is longer than a record may be ends the connection, before the handshake and after it, and is
// never waited for.
func TestOversizedRecords(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+a.listener("")+"]\n"+hello)
	record := func(kind byte, n int) []byte {
		b := append([]byte{kind, 3, 3, 0, 0}, make([]byte, n)...)
		binary.BigEndian.PutUint16(b[3:], uint16(n)) //nolint:gosec // small
		return b
	}
	raw, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ended := func(what string, c net.Conn, alert string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		b, err := io.ReadAll(c)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s is waited for: %d bytes came", what, len(b))
		}
		if !strings.Contains(fmt.Sprint(string(b), err), alert) {
			t.Errorf("%s: %x, %v", what, b, err)
		}
	}
	if _, err := raw.Write(record(22, 20000)[:6]); err != nil {
		t.Fatal(err)
	}
	ended("a hello that is too long", raw, "\x02\x16") // fatal, record_overflow
	c := g.secured(a.trust())
	askBy(t, c, bufio.NewReader(c), "a.test")
	if _, err := c.NetConn().Write(record(23, 16385+300)[:6]); err != nil {
		t.Fatal(err)
	}
	ended("a record that is too long", c, "record overflow")
	c = g.secured(a.trust())
	if _, err := c.NetConn().Write(record(23, 100)); err != nil { // nobody has its key
		t.Fatal(err)
	}
	ended("a forged record", c, "bad record MAC")
}
