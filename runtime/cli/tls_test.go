package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// issue writes NAME.pem and NAME.key, of an authority that the file ca.pem is of, which is made with the first.
func issue(t *testing.T) func(name string) {
	t.Helper()
	authority, caKey := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}, newKey(t)
	put := func(name string, c *x509.Certificate, key *ecdsa.PrivateKey) {
		der, err := x509.CreateCertificate(rand.Reader, c, authority, &key.PublicKey, caKey)
		must(t, err)
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		write(t, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	}
	put("ca", authority, caKey)
	return func(name string) {
		put(name, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
			DNSNames: []string{name + ".test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, newKey(t))
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// TestCommandsShowACertificate: top and explain ask an admin endpoint that wants to know who asks, and explain says what becomes of
// a client of a listener that does.
func TestCommandsShowACertificate(t *testing.T) {
	t.Chdir(t.TempDir())
	give := issue(t)
	give("gateway")
	give("ann")
	cert, err := os.ReadFile("ann.pem")
	must(t, err)
	key, err := os.ReadFile("ann.key")
	must(t, err)
	write(t, "ann-both.pem", string(cert)+string(key))
	const tls = "cert: gateway.pem, key: gateway.key"
	write(t, "gateway.yaml", "loops: 1\nadmin: { address: '127.0.0.1:0', tls: { "+tls+", client_ca: ca.pem } }\n"+
		"listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ "+tls+" }], client_auth: require, client_ca: ca.pem } }]\nroutes: [{ respond: { status: 200, body: hello } }]\n")
	r := startRun(t, "-c", "gateway.yaml")
	r.logs("ready")
	var admin string
	testkit.Eventually(t, "the admin endpoint is open", func() bool {
		m := adminAt.FindStringSubmatch(r.log.String())
		if m != nil {
			admin = m[1]
		}
		return m != nil
	})
	const url = "https://gateway.test/x"
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"top --once --interval 100ms --admin ADMIN --cacert ca.pem --cert ann.pem --key ann.key", "LOOP  BUSY", exitOK},
		{"top --once --interval 100ms --admin https://ADMIN --cacert ca.pem --cert ann-both.pem", "LOOP  BUSY", exitOK},
		{"top --once --admin https://ADMIN --cert ann.pem --key ann.key", "signed by unknown authority", exitFailed},
		{"top --once --admin ADMIN --cacert ca.pem", "token", exitFailed},
		{"top --once --admin ADMIN --cacert none.pem", "--cacert: open none.pem", exitFailed},
		{"top --once --admin ADMIN --cacert ann.key", "--cacert ann.key: there is no certificate", exitFailed},
		{"top --once --admin ADMIN --key ann.key", "of no use without --cert", exitFailed},
		{"top --once --admin ADMIN --cert ann.pem", "--cert ann.pem and --key ann.pem", exitFailed},
		{"explain --admin ADMIN --cacert ca.pem --cert ann.pem --key ann.key --client-cert ann-both.pem " + url, "the client shows CN=ann for ann.test, 127.0.0.1, of CN=authority", exitOK},
		{"explain --admin ADMIN --cacert ca.pem --cert ann.pem --key ann.key " + url, "no connection: client_certificate; server name gateway.test", exitOK},
		{"explain -c gateway.yaml --client-cert ann.pem " + url, "TLS 1.3, h2, server name gateway.test", exitOK},
		{"explain -c gateway.yaml --client-cert ann.pem " + url, "answered here", exitOK},
		{"explain -c gateway.yaml " + url, "closed without an answer: the TLS handshake fails", exitOK},
		{"explain -c gateway.yaml --client-cert ann.key " + url, "--client-cert ann.key: there is no certificate in it", exitFailed},
		{"explain -c gateway.yaml --client-cert none " + url, "open none", exitFailed},
	} {
		code, out, text := call(strings.Fields(strings.ReplaceAll(c.args, "ADMIN", admin))...)
		if code != c.code || !strings.Contains(out+text, c.says) {
			t.Errorf("%s: exit code %d\n%s%s", c.args, code, out, text)
		}
	}
}
