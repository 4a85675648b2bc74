package gateway_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issuer issues certificates for tests, into files of a folder.
type issuer struct {
	t      *testing.T
	dir    string
	cert   *x509.Certificate
	key    crypto.Signer
	pool   *x509.CertPool
	serial int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	a := &issuer{t: t, dir: t.TempDir(), pool: x509.NewCertPool(), serial: 1}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key)
	a.pool.AddCert(a.cert)
	writePEM(t, a.file("ca.pem"), a.cert.Raw)
	return a
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *issuer) file(name string) string { return filepath.Join(a.dir, name) }

func (a *issuer) sign(template, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue writes name.pem and name.key, for these server names and 127.0.0.1. Each one's serial number is one more.
func (a *issuer) issue(name string, names ...string) {
	a.t.Helper()
	a.issueAs(name, &x509.Certificate{DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// client writes a client's certificate, and returns it.
func (a *issuer) client(name string) tls.Certificate {
	a.t.Helper()
	uri, err := url.Parse("spiffe://test/" + name)
	if err != nil {
		a.t.Fatal(err)
	}
	a.issueAs(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"Test, Inc."}}, DNSNames: []string{name + ".clients.test"}, URIs: []*url.URL{uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	c, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *issuer) issueAs(name string, template *x509.Certificate) {
	a.t.Helper()
	key := newKey(a.t)
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(200*time.Hour)
	c := a.sign(template, a.cert, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, a.file(name+".pem"), c.Raw)
}

// listener is a listener of a config, called test, that speaks TLS with the certificate a for a.test and *.many.test. more is
// further keys of tls.
func (a *issuer) listener(more string) string {
	if _, err := os.Stat(a.file("a.pem")); err != nil {
		a.issue("a", "a.test", "*.many.test")
	}
	return fmt.Sprintf("{ name: test, address: '127.0.0.1:0', tls: { certificates: [{ cert: %q, key: %q }], %s } }", a.file("a.pem"), a.file("a.key"), more)
}

// trust is a client's configuration for a.test.
func (a *issuer) trust() *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: "a.test"}
}

// secured connects by TLS.
func (g *gate) secured(cfg *tls.Config) *tls.Conn {
	g.Helper()
	c, err := tls.Dial("tcp", g.addr.String(), cfg)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}
