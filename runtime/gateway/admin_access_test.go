package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// authority is a certificate authority in a folder, for tests.
type authority struct {
	*testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{T: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME.pem and NAME.key. The first certificate is the authority's own.
func (a *authority) issue(name string, template x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = &template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), by)
	if err != nil {
		a.Fatal(err)
	}
	writePEM(a.T, a.file(name+".pem"), der)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	}
	if err != nil {
		a.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// TestTheAdminEndpointByTokenAndCertificate asks an endpoint on all addresses with curl: without anything, with a wrong token,
// with one of the file, with a certificate of the operators' authority, and with one of another's.
func TestTheAdminEndpointByTokenAndCertificate(t *testing.T) {
	need(t, "curl")
	ours, others := newAuthority(t, "operators"), newAuthority(t, "others")
	ours.issue("server", x509.Certificate{Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	client := x509.Certificate{Subject: pkix.Name{CommonName: "ann", Organization: []string{"ops"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	ours.issue("ann", client)
	others.issue("ann", client)
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# who may\nben 0123456789abcdef0123\n\nfedcba9876543210fedc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDesk(t, fmt.Sprintf(`admin:
  address: '0.0.0.0:0'
  token_file: %s
  tls: { cert: %s, key: %s, client_ca: %s }
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { web: { targets: ["http://127.0.0.1:1"] } }
routes: [{ upstream: web }]
`, file, ours.file("server.pem"), ours.file("server.key"), ours.file("ca.pem")))
	base := fmt.Sprintf("https://127.0.0.1:%d", d.AdminAddr().Port())
	ask := func(path string, more ...string) (status, body string) {
		out := run(t, "curl", append([]string{"-sS", "--cacert", ours.file("ca.pem"), "-w", "\n%{http_code}", base + path}, more...)...)
		i := strings.LastIndexByte(out, '\n')
		return strings.TrimSpace(out[i+1:]), out[:i]
	}
	for _, c := range []struct {
		name, path string
		args       []string
		status     string
		body       string
	}{
		{"nothing", "/upstreams", nil, "401", "a token or a certificate is needed"},
		{"a wrong token", "/upstreams", []string{"-H", "Authorization: Bearer 0123456789abcdef0124"}, "401", ""},
		{"a name is no token", "/upstreams", []string{"-H", "Authorization: Bearer ben"}, "401", ""},
		{"metrics", "/metrics", nil, "401", ""},
		{"health", "/healthz", nil, "200", "ok"},
		{"readiness", "/readyz", nil, "200", "ready"},
		{"a token", "/version", []string{"-H", "Authorization: Bearer 0123456789abcdef0123"}, "200", `"you": "ben"`},
		{"one without a name", "/version", []string{"-H", "Authorization: Bearer fedcba9876543210fedc"}, "200", `"you": "line 4"`},
		{"a certificate", "/version", []string{"--cert", ours.file("ann.pem"), "--key", ours.file("ann.key")}, "200", `"you": "CN=ann,O=ops"`},
		{"a change with it", "/upstreams/web/targets/127.0.0.1:1", []string{"--cert", ours.file("ann.pem"), "--key", ours.file("ann.key"), "-X", "PATCH", "-d", `{"weight": 2}`}, "200", `"weight": 2`},
		{"a change without", "/upstreams/web/targets/127.0.0.1:1", []string{"-X", "PATCH", "-d", `{"weight": 9}`}, "401", ""},
	} {
		if status, body := ask(c.path, c.args...); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: answered %s %s; want %s %s", c.name, status, body, c.status, c.body)
		}
	}
	wrong := run(t, "sh", "-c", fmt.Sprintf("curl -sS --cacert %s --cert %s --key %s %s/version 2>&1 || true", ours.file("ca.pem"), others.file("ann.pem"), others.file("ann.key"), base))
	if strings.Contains(wrong, `"version"`) || !strings.Contains(wrong, "curl: (") {
		t.Errorf("a certificate of another authority got %s", wrong)
	}
	plain := run(t, "sh", "-c", "curl -sS "+strings.Replace(base, "https", "http", 1)+"/healthz 2>&1 || true")
	if strings.Contains(plain, "ok\n") {
		t.Errorf("without TLS the endpoint says %s", plain)
	}
	for _, text := range []string{`"by":"CN=ann,O=ops"`, `"operation":"changeTarget"`, "refused, without a token"} {
		if !strings.Contains(d.log.String(), text) {
			t.Errorf("%s is not in the log: %s", text, d.log.String())
		}
	}
}

// TestSignInOnThePage: the page of an endpoint that wants a token asks for it, and works with it until the tab is closed.
func TestSignInOnThePage(t *testing.T) {
	need(t, "chromium")
	d := openDesk(t, `admin: { address: '127.0.0.1:0', token: 0123456789abcdef }
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { web: { targets: ["http://127.0.0.1:1"] } }
routes: [{ upstream: web }]
`)
	b := startBrowser(t)
	b.do("open the page", chromedp.Navigate("http://"+d.AdminAddr().String()+"/#/upstreams"))
	b.until("the page asks for the token", "one('label', 'Token')")
	b.write("Token", "not-the-right-token")
	b.click("Sign in")
	b.until("it says that this is none", "one('#refused')?.innerText === 'The gateway does not accept this token.'")
	b.write("Token", "0123456789abcdef")
	b.click("Sign in")
	b.until("the upstream is shown", "row('127.0.0.1:1') && !one('label', 'Token')")
	b.do("load the page again", chromedp.Reload())
	b.until("the upstream is shown again", "row('127.0.0.1:1') && !one('label', 'Token')")
	b.quiet("401")
}
