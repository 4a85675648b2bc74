package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// selfSigned writes name.pem and name.key for a host.
func selfSigned(t *testing.T, name, host string, from, till time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(till)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// TestCheckLooksAtCertificates: what clients refuse is a warning, and what cannot be shown is an error, each where the file is
// named.
func TestCheckLooksAtCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	const day = 24 * time.Hour
	selfSigned(t, "good", "a.test", -day, 300*day)
	selfSigned(t, "old", "*.a.test", -2*day, -time.Hour)
	selfSigned(t, "early", "early.a.test", time.Hour, 300*day)
	selfSigned(t, "soon", "soon.a.test", -80*day, 13*day)
	selfSigned(t, "elsewhere", "b.test", -day, 300*day)
	config := `listeners:
  - address: 127.0.0.1:8443
    tls:
      certificates:
        - { cert: good.pem, key: good.key }
        - { cert: old.pem, key: old.key }
        - { cert: early.pem, key: early.key }
        - { cert: soon.pem, key: soon.key }
        - { cert: elsewhere.pem, key: elsewhere.key }
routes:
  - { match: { host: [a.test, "*.a.test"] }, respond: { status: 200 } }
`
	write(t, "c.yaml", config)
	code, out, text := call("check", "c.yaml")
	if code != 0 || !strings.Contains(out, "4 warnings") {
		t.Errorf("exit code %d, %q", code, out)
	}
	contains(t, text,
		"c.yaml:6:19: warning: listeners[0].tls.certificates[1].cert: the certificate has expired at ", "help: renew it",
		"c.yaml:7:19: warning: listeners[0].tls.certificates[2].cert: the certificate is not valid before ", "help: look at the clock",
		"c.yaml:8:19: warning: listeners[0].tls.certificates[3].cert: the certificate expires at ",
		"c.yaml:9:19: warning: listeners[0].tls.certificates[4].cert: the certificate is for b.test, and there are routes for a.test, *.a.test only", "help: add a route")
	// Where any host is served, or the certificate is for everything else, it cannot be known.
	for _, change := range [][2]string{
		{`{ match: { host: [a.test, "*.a.test"] }, respond`, `{ respond`}, {"key: elsewhere.key }", "key: elsewhere.key, default: true }"}, {`"*.a.test"`, `"*.a.test", B.test`},
	} {
		write(t, "d.yaml", strings.Replace(config, change[0], change[1], 1))
		if code, _, text := call("check", "d.yaml"); code != 0 || strings.Contains(text, "there are routes for") || !strings.Contains(text, "has expired") {
			t.Errorf("%s: exit code %d\n%s", change[1], code, text)
		}
	}
	write(t, "e.yaml", strings.Replace(config, "key: good.key", "key: old.key", 1))
	code, _, text = call("check", "e.yaml")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	contains(t, text, "e.yaml:5:", "error: listeners[0].tls.certificates[0].key: ", "it is not the key of the first certificate in good.pem", "help: ")
}
