package gateway_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"

	"wasmgate/runtime/internal/testkit"
)

// versions are those of HTTP that a listener with TLS may speak.
var versions = []string{"1.1", "2", "3"}

// overAll is listener, with HTTP/3 too.
func (a *issuer) overAll(more string) string {
	return strings.Replace(a.listener(more), "tls:", "http3: { enabled: true }, tls:", 1)
}

// line is one connection that is secured, and stays the same whatever is asked on it.
type line struct {
	round func(*http.Request) (*http.Response, error)
	state tls.ConnectionState
}

// ask asks for a host, and returns the status and the body.
func (l *line) ask(host string, fields ...string) (int, string, error) {
	r, err := http.NewRequest(http.MethodGet, "https://"+host+"/", http.NoBody)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header[fields[i]] = []string{fields[i+1]}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := l.round(r.WithContext(ctx))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// status is that of an answer to a request for a host; 0: there is none.
func (l *line) status(host string) int {
	n, _, _ := l.ask(host)
	return n
}

// connect makes a connection for a version of HTTP. That the server refuses a certificate may be told with the first answer.
func (g *gate) connect(version string, cfg *tls.Config) (*line, error) {
	g.Helper()
	cfg = cfg.Clone()
	if version == "3" {
		cfg.NextProtos = []string{"h3"}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, err := quic.DialAddr(ctx, g.addr.String(), cfg, &quic.Config{})
		if err != nil {
			return nil, err
		}
		g.Cleanup(func() { _ = c.CloseWithError(0, "") })
		return &line{(&quichttp3.Transport{}).NewClientConn(c).RoundTrip, c.ConnectionState().TLS}, nil
	}
	cfg.NextProtos = []string{map[string]string{"1.1": "http/1.1", "2": "h2"}[version]}
	c, err := tls.Dial("tcp", g.addr.String(), cfg)
	if err != nil {
		return nil, err
	}
	g.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	l := &line{state: c.ConnectionState()}
	if version == "2" {
		l.round, err = overHTTP2(c)
		return l, err
	}
	in := bufio.NewReader(c)
	l.round = func(r *http.Request) (*http.Response, error) {
		if err := r.Write(c); err != nil {
			return nil, err
		}
		return http.ReadResponse(in, r)
	}
	return l, nil
}

// anew is the status of a request on a connection of its own, and whether a session was resumed for it.
func (g *gate) anew(version string, cfg *tls.Config) (status int, resumed bool) {
	g.Helper()
	l, err := g.connect(version, cfg)
	if err != nil {
		return 0, false
	}
	return l.status("a.test"), l.state.DidResume
}

// shows is trust for a client that shows a certificate, if there is one, whatever authorities the server names.
func (a *issuer) shows(cert ...tls.Certificate) *tls.Config {
	c := a.trust()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &append(cert, tls.Certificate{})[0], nil
	}
	return c
}

// with is shows for one that keeps sessions.
func (a *issuer) with(cert ...tls.Certificate) *tls.Config {
	c := a.shows(cert...)
	c.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	return c
}

// TestTrustEndsWithItsAuthority: once the authority of a client's certificate is none any more, neither a resumed session nor
// a connection from before gets through. One that is only joined by another changes nothing.
func TestTrustEndsWithItsAuthority(t *testing.T) {
	a, b := newIssuer(t), newIssuer(t)
	alice, bob := a.client("alice"), b.client("bob")
	own, theirs := a.cert.Raw, b.cert.Raw
	file := a.file("clients.pem")
	write := func(list ...[]byte) {
		var text []byte
		for _, der := range list {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, how := range []string{"the file", "a reload"} {
		for _, version := range versions {
			t.Run(how+", HTTP/"+version, func(t *testing.T) {
				write(own)
				config := "listeners: [" + a.overAll("client_auth: require, client_ca: '"+file+"'") + "]\n" + hello
				g := startListening(t, config)
				change := func() {
					if how == "a reload" {
						if err := g.Reload(load(t, config)); err != nil {
							t.Fatal(err)
						}
					}
				}
				keeps, fresh, other := a.with(alice), a.shows(alice), a.shows(bob)
				open, err := g.connect(version, keeps)
				if err != nil {
					t.Fatal(err)
				}
				if status := open.status("a.test"); status != 200 {
					t.Fatalf("at first: %d", status)
				}
				if status, resumed := g.anew(version, keeps); status != 200 || !resumed {
					t.Fatalf("a session is not resumed: %d, %v", status, resumed)
				}
				if status, _ := g.anew(version, other); status != 0 {
					t.Fatalf("a stranger: %d", status)
				}
				write(own, theirs)
				change()
				testkit.Eventually(t, "the other authority is trusted", func() bool { status, _ := g.anew(version, other); return status == 200 })
				for range 2 {
					if status := open.status("a.test"); status != 200 {
						t.Errorf("another authority has joined: %d on a connection from before", status)
					}
				}
				write(theirs)
				change()
				testkit.Eventually(t, "the first one is not", func() bool { status, _ := g.anew(version, fresh); return status == 0 })
				if status := open.status("a.test"); status != 421 {
					t.Errorf("the authority is none any more: %d on a connection from before", status)
				}
				if status, resumed := g.anew(version, keeps); status != 0 || resumed {
					t.Errorf("the authority is none any more: %d by a session from before, resumed: %v", status, resumed)
				}
			})
		}
	}
}

// TestACertificateIsNeededByNow: who has shown none, before a reload that demands one, gets through neither by the connection
// nor by a session.
func TestACertificateIsNeededByNow(t *testing.T) {
	a := newIssuer(t)
	alice := a.client("alice")
	for _, was := range []string{"off", "request"} {
		for _, version := range versions {
			t.Run(was+", HTTP/"+version, func(t *testing.T) {
				demand := "client_auth: require, client_ca: '" + a.file("ca.pem") + "'"
				before := map[string]string{"off": "", "request": strings.Replace(demand, "require", "request", 1)}[was]
				g := startListening(t, "listeners: ["+a.overAll(before)+"]\n"+hello)
				keeps := a.with()
				open, err := g.connect(version, keeps)
				if err != nil {
					t.Fatal(err)
				}
				if status := open.status("a.test"); status != 200 {
					t.Fatalf("at first: %d", status)
				}
				if status, resumed := g.anew(version, keeps); status != 200 || !resumed {
					t.Fatalf("a session is not resumed: %d, %v", status, resumed)
				}
				if err := g.Reload(load(t, "listeners: ["+a.overAll(demand)+"]\n"+hello)); err != nil {
					t.Fatal(err)
				}
				if status := open.status("a.test"); status != 421 {
					t.Errorf("on a connection from before: %d", status)
				}
				if status, resumed := g.anew(version, keeps); status != 0 || resumed {
					t.Errorf("by a session from before: %d, resumed: %v", status, resumed)
				}
				if status, _ := g.anew(version, a.with(alice)); status != 200 {
					t.Errorf("with a certificate: %d", status)
				}
			})
		}
	}
}

// TestOneNameForAnother: a connection that was made for one server name asks for another. Where clients show certificates it is
// refused, and the connection goes on; where they do not, the name grants nothing.
func TestOneNameForAnother(t *testing.T) {
	a := newIssuer(t)
	a.listener("") // writes the certificate
	a.issue("other", "other.test")
	both := strings.Replace(a.overAll("client_auth: request, client_ca: '"+a.file("ca.pem")+"'"), "certificates: [", fmt.Sprintf("certificates: [{ cert: %q, key: %q }, ", a.file("other.pem"), a.file("other.key")), 1)
	none := strings.Replace(both, "client_auth: request, client_ca: '"+a.file("ca.pem")+"'", "", 1)
	for config, refused := range map[string]int{both: 421, none: 200} {
		t.Run(fmt.Sprint(refused), func(t *testing.T) {
			g := startListening(t, "listeners: ["+config+"]\n"+hello)
			for _, version := range versions {
				l, err := g.connect(version, a.trust())
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					host   string
					status int
				}{
					{"a.test", 200}, {"other.test", refused}, {"b.many.test", refused}, {"unknown.test", refused}, {"127.0.0.1", refused},
					{"a.test.", 200}, {"A.TEST:8443", 200}, {"a.test", 200},
				} {
					if status := l.status(c.host); status != c.status {
						t.Errorf("HTTP/%s, %s on a connection for a.test: %d, want %d", version, c.host, status, c.status)
					}
				}
			}
		})
	}
}

// TestNobodySaysWhoHeIsHimself: where certificates may be shown, who shows none has none of the fields that tell of them.
func TestNobodySaysWhoHeIsHimself(t *testing.T) {
	a := newIssuer(t)
	alice := a.client("alice")
	g := startListening(t, "listeners: ["+a.overAll("client_auth: request, client_ca: '"+a.file("ca.pem")+"', client_headers: { subject: X-Who, certificate: Client-Cert, forwarded: X-Forwarded-Client-Cert }")+
		"]\nroutes: [{ upstream: '"+echo(t)+"' }]\n")
	for _, version := range versions {
		for who, cfg := range map[string]*tls.Config{"": a.with(), "alice": a.with(alice)} {
			l, err := g.connect(version, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"X-Who", "x_who", "x-Who", "Client-Cert", "client_cert", "X-Forwarded-Client-Cert", "x-forwarded_client-cert"} {
				_, told, err := l.ask("a.test", field, "mallory")
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(told, "mallory") || strings.Contains(told, "X-Who") != (who != "") || strings.Contains(told, "X-Forwarded-Client-Cert") != (who != "") {
					t.Errorf("HTTP/%s, shown %q, %s: the upstream was told\n%s", version, who, field, told)
				}
			}
		}
	}
}

// chained makes a certificate for a client below a chain of authorities, of which the first is signed by the issuer. The root
// is not sent.
func (a *issuer) chained(between int, change func(depth int, c *x509.Certificate), sent bool) tls.Certificate {
	a.t.Helper()
	parent, signer := a.cert, a.key
	var chain [][]byte
	for depth := between; depth >= 0; depth-- {
		a.serial++
		c := &x509.Certificate{
			SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: fmt.Sprintf("depth %d", depth)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: depth > 0, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if depth == 0 {
			c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		if change != nil {
			change(depth, c)
		}
		key := newKey(a.t)
		made := (&issuer{t: a.t, key: signer}).sign(c, parent, key)
		parent, signer = made, key
		chain = append([][]byte{made.Raw}, chain...)
	}
	if !sent {
		chain = chain[:1]
	}
	return tls.Certificate{Certificate: chain, PrivateKey: crypto.PrivateKey(signer)}
}

// TestWhichCertificatesOfClientsAreTaken: those that are good, below any number of authorities that are sent with them; one
// that is not good is refused also where none is needed.
func TestWhichCertificatesOfClientsAreTaken(t *testing.T) {
	a, others := newIssuer(t), newIssuer(t)
	leaf := func(change func(c *x509.Certificate)) func(int, *x509.Certificate) {
		return func(depth int, c *x509.Certificate) {
			if depth == 0 {
				change(c)
			}
		}
	}
	at := func(n int, change func(c *x509.Certificate)) func(int, *x509.Certificate) {
		return func(depth int, c *x509.Certificate) {
			if depth == n {
				change(c)
			}
		}
	}
	cases := []struct {
		what  string
		cert  tls.Certificate
		taken bool
	}{
		{"below the root", a.chained(0, nil, true), true},
		{"below one authority", a.chained(1, nil, true), true},
		{"below four", a.chained(4, nil, true), true},
		{"below one that is not sent", a.chained(1, nil, false), false},
		{"of others", others.chained(1, nil, true), false},
		{"expired", a.chained(0, leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), true), false},
		{"not valid yet", a.chained(0, leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), true), false},
		{"below one that has expired", a.chained(2, at(1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), true), false},
		{"for servers", a.chained(0, leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), true), false},
		{"for mail", a.chained(0, leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), true), false},
		{"for nothing in particular", a.chained(0, leaf(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), true), true},
		{"below an authority for servers", a.chained(1, at(1, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), true), false},
		{"below one that is no authority", a.chained(1, at(1, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), true), false},
		{"deeper than an authority may be", a.chained(2, at(2, func(c *x509.Certificate) { c.MaxPathLenZero = true }), true), false},
	}
	for _, auth := range []string{"require", "request"} {
		g := startListening(t, "listeners: ["+a.overAll("client_auth: "+auth+", client_ca: '"+a.file("ca.pem")+"'")+"]\n"+hello)
		for _, version := range versions {
			for _, c := range cases {
				if status, _ := g.anew(version, a.with(c.cert)); (status == 200) != c.taken || (!c.taken && status != 0) {
					t.Errorf("%s, HTTP/%s, %s: %d", auth, version, c.what, status)
				}
			}
		}
	}
}
