package gateway_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// serve starts a server with the certificate NAME, which tells what it sees of each connection. edit may be nil.
func (a *authority) serve(name string, edit func(*tls.Config)) *httptest.Server {
	a.Helper()
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprintf(w, "name=%q resumed=%v version=%x client=%s", r.TLS.ServerName, r.TLS.DidResume, r.TLS.Version, who)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if edit != nil {
		edit(s.TLS)
	}
	s.StartTLS()
	a.Cleanup(s.Close)
	return s
}

func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

func host(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// failures are the errors of requests.
type failures chan string

func (f failures) Exchange(x *exchange.Exchange) {
	if x.Err != nil {
		f <- x.Err.Error()
	}
}
func (failures) ConnOpened(*facts.Connection) {}
func (failures) ConnClosed(*facts.Connection) {}

// TestUpstreamsAreWhoTheySayTheyAre: what is not verified gets no request, and its error says why; what is verified does.
func TestUpstreamsAreWhoTheySayTheyAre(t *testing.T) {
	a, other := newAuthority(t, "ours"), newAuthority(t, "another")
	named, _ := a.issue("named", host("app.test"))
	expired := host("app.test")
	expired.NotAfter = time.Now().Add(-time.Minute)
	a.issue("expired", expired)
	a.issue("address", x509.Certificate{Subject: pkix.Name{CommonName: "x"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	byName, byAddress, late := a.serve("named", nil), a.serve("address", nil), a.serve("expired", nil)
	self := other.serve("ca", nil)
	old := a.serve("named", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	a.issue("client", x509.Certificate{Subject: pkix.Name{CommonName: "gate"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	strict := a.serve("named", func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool })
	ca, wrong := a.file("ca.pem"), pinOf(other.cert)
	for _, c := range []struct {
		name   string
		server *httptest.Server
		tls    string
		says   string // the answer; or, where there is none, the error
		ok     bool
	}{
		{"by name", byName, fmt.Sprintf("ca: %s, server_name: app.test", ca), `name="app.test" resumed=false version=304 client=nobody`, true},
		{"by address, which is not sent", byAddress, fmt.Sprintf("ca: %s", ca), `name=""`, true},
		{"an address as the name", byAddress, fmt.Sprintf("ca: %s, server_name: 127.0.0.1", ca), `name=""`, true},
		{"no authority", byName, "server_name: app.test", "signed by unknown authority", false},
		{"another authority", byName, fmt.Sprintf("ca: %s, server_name: app.test", other.file("ca.pem")), "signed by unknown authority", false},
		{"a wrong name", byName, fmt.Sprintf("ca: %s, server_name: app2.test", ca), "not app2.test", false},
		{"a wrong name, and where it is said", byName, fmt.Sprintf("ca: %s, server_name: app2.test", ca), "tls.server_name", false},
		{"no authority, and where it is said", byName, "server_name: app.test", "tls.ca", false},
		{"the address of a name", byName, fmt.Sprintf("ca: %s", ca), "127.0.0.1", false},
		{"expired", late, fmt.Sprintf("ca: %s, server_name: app.test", ca), "expired", false},
		{"by itself", self, "server_name: app.test", "failed to verify certificate", false},
		{"unverified", self, "insecure_skip_verify: true", `resumed=false`, true},
		{"its key", byName, fmt.Sprintf("ca: %s, server_name: app.test, pin: %q", ca, pinOf(named)), `name="app.test"`, true},
		{"its authority's key", byName, fmt.Sprintf("ca: %s, server_name: app.test, pin: [%q, %q]", ca, wrong, pinOf(a.cert)), `name="app.test"`, true},
		{"another key", byName, fmt.Sprintf("ca: %s, server_name: app.test, pin: %q", ca, wrong), "its own has " + pinOf(named), false},
		{"its key, of another authority", byName, fmt.Sprintf("server_name: app.test, pin: %q", pinOf(named)), "signed by unknown authority", false},
		{"its key alone", self, fmt.Sprintf("insecure_skip_verify: true, pin: %q", pinOf(other.cert)), "resumed=false", true},
		{"another key alone", self, fmt.Sprintf("insecure_skip_verify: true, pin: %q", pinOf(named)), "tls.pin", false},
		{"an old version", old, fmt.Sprintf("ca: %s, server_name: app.test", ca), "version=303", true},
		{"a version that is too old", old, fmt.Sprintf("ca: %s, server_name: app.test, min_version: '1.3'", ca), "version", false},
		{"without a certificate of ours", strict, fmt.Sprintf("ca: %s, server_name: app.test", ca), "certificate required", false},
		{"with one", strict, fmt.Sprintf("ca: %s, server_name: app.test, cert: %s, key: %s", ca, a.file("client.pem"), a.file("client.key")), "client=gate", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("listeners: [{ name: test, address: '127.0.0.1:0' }]\nupstreams: { web: { targets: ['%s'], tls: { %s }, retries: { attempts: 1 } } }\nroutes: [{ upstream: web }]\n", c.server.URL, c.tls)
			failed := make(failures, 8)
			inner, err := gateway.New(gateway.Options{Config: load(t, text), Log: zerolog.Nop(), Watcher: failed})
			if err == nil {
				err = inner.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(inner.Close)
			g := &gate{t, inner, inner.Addr("test"), nil}
			resp, body := do(t, g.url("/"))
			if got := resp.StatusCode == 200; got != c.ok {
				t.Fatalf("%s %s", resp.Status, body)
			}
			if c.ok && !strings.Contains(body, c.says) {
				t.Errorf("got %s, want %s", body, c.says)
			}
			if !c.ok {
				if why := <-failed; !strings.Contains(why, c.says) {
					t.Errorf("the error is %s, want %s", why, c.says)
				}
			}
		})
	}
}

// TestSessionsAreResumed: the second connection to an upstream resumes the first one's session, whichever loop it is on, with
// its pin looked at again; another upstream, and one whose authority has changed, begins anew.
func TestSessionsAreResumed(t *testing.T) {
	a := newAuthority(t, "ours")
	leaf, _ := a.issue("named", host("app.test"))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := a.serve("named", func(c *tls.Config) { c.MaxVersion = version })
		text := fmt.Sprintf(`loops: 2
upstreams:
  web: { targets: ['%[1]s'], pool: { reuse: never }, tls: { ca: %[2]s, server_name: app.test, pin: %[3]q } }
  too: { targets: ['%[1]s'], pool: { reuse: never }, tls: { ca: %[2]s, server_name: app.test } }
routes: [{ match: { path: /too }, upstream: too }, { upstream: web }]
`, s.URL, a.file("ca.pem"), pinOf(leaf))
		p := startPlant(t, text)
		for i, path := range []string{"/", "/", "/", "/too", "/too", "/"} {
			_, body := do(t, p.url(path))
			if want := fmt.Sprintf("resumed=%v", i != 0 && i != 3); !strings.Contains(body, want) {
				t.Errorf("%x, %d: %s, want %s", version, i, body, want)
			}
		}
		p.reload(text)
		if _, body := do(t, p.url("/")); !strings.Contains(body, "resumed=true") {
			t.Errorf("%x, the same anew: %s", version, body)
		}
		// One more authority in the file: the same words in the config, and another meaning.
		pem, err := os.ReadFile(a.file("ca.pem"))
		if err == nil {
			another, e := os.ReadFile(newAuthority(t, "another").file("ca.pem"))
			if err = e; err == nil {
				err = os.WriteFile(a.file("ca.pem"), append(pem[:len(pem):len(pem)], another...), 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		p.reload(text)
		if _, body := do(t, p.url("/")); !strings.Contains(body, "resumed=false") {
			t.Errorf("%x, after the authorities have changed: %s", version, body)
		}
		if err := os.WriteFile(a.file("ca.pem"), pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientCertificatesAreReadAgain: a certificate that was renewed is shown by new connections, and no session of the old one is
// resumed; one that cannot be read changes nothing.
func TestClientCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t, "ours")
	a.issue("named", host("app.test"))
	client := func(name string) {
		a.issue("client", x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	client("first")
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s := a.serve("named", func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool })
	g := start(t, fmt.Sprintf("upstreams: { web: { targets: ['%s'], pool: { reuse: never }, tls: { ca: %s, server_name: app.test, cert: %s, key: %s } } }\nroutes: [{ upstream: web }]\n",
		s.URL, a.file("ca.pem"), a.file("client.pem"), a.file("client.key")))
	now := func() string { _, body := do(t, g.url("/")); return body }
	if body := now(); !strings.Contains(body, "client=first") {
		t.Fatal(body)
	}
	if err := os.WriteFile(a.file("client.pem"), []byte("half of"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is said that it cannot be read", func() bool {
		if body := now(); !strings.Contains(body, "client=first") {
			t.Fatal(body)
		}
		return strings.Contains(g.log.String(), "the one before stays in use")
	})
	client("second")
	testkit.Eventually(t, "the new certificate is shown", func() bool { return strings.Contains(now(), "client=second") })
}

// TestNginxBehindTLS: the server that many have, with sessions resumed by tickets, in both versions.
func TestNginxBehindTLS(t *testing.T) {
	program := need(t, "nginx")
	a := newAuthority(t, "ours")
	a.issue("named", host("app.test"))
	dir, port := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`worker_processes 1; daemon off; pid %[1]s/pid; error_log %[1]s/error.log; events { worker_connections 256; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen 127.0.0.1:%[2]d ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s; ssl_protocols TLSv1.2 TLSv1.3;
 location / { default_type text/plain; return 200 "$ssl_protocol $ssl_session_reused $ssl_server_name\n"; } } }`, dir, port, a.file("named.pem"), a.file("named.key"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	testkit.Eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	g := start(t, fmt.Sprintf("upstreams: { web: { targets: ['https://127.0.0.1:%d'], pool: { reuse: never }, tls: { ca: %s, server_name: app.test } } }\nroutes: [{ upstream: web }]\n", port, a.file("ca.pem")))
	for i, want := range []string{"TLSv1.3 . app.test\n", "TLSv1.3 r app.test\n"} {
		if _, body := do(t, g.url("/")); body != want {
			t.Errorf("%d: %q, want %q", i, body, want)
		}
	}
}
