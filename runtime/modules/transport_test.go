package modules

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mkdir(parts ...string) error { return os.Mkdir(filepath.Join(parts...), 0o700) }

// keyPair writes the certificate and the key of a test server to files.
func keyPair(t *testing.T, s *httptest.Server) (certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	write(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	der, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return certificate, key
}

// otherAuthority is an authority that has signed nothing.
func otherAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.pem")
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return file
}

func TestAuthoritiesMustBeThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	for _, o := range []Options{{CAFile: file}, {Hosts: map[string]Host{"h": {CAFile: file}}}} {
		o.NoCache = true
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%v", err)
		}
	}
	write(t, file, []byte("no certificate"))
	if _, err := New(Options{CAFile: file, NoCache: true}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("%v", err)
	}
}

func TestOnlyLoopbackWithoutTLS(t *testing.T) {
	for address, ok := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "10.0.0.1:80": false, "[fe80::1]:80": false, "nonsense": false} {
		if err := onlyLoopback("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	f := fetcher(t, nil)
	r, err := http.NewRequest(http.MethodGet, "http://192.0.2.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.transport.RoundTrip(r); err == nil || !strings.Contains(err.Error(), "not this machine") {
		t.Errorf("%v", err)
	}
}

// TestProxies takes proxies from the environment that it is given, and none to loopback.
func TestProxies(t *testing.T) {
	of := Proxies(func(name string) string {
		return map[string]string{"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "direct.example.com"}[name]
	})
	for url, want := range map[string]string{"https://ghcr.io/": "http://proxy:3128", "https://direct.example.com/": "", "https://127.0.0.1/": "", "http://other/": ""} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := of(r)
		if err != nil || (got == nil) != (want == "") || (got != nil && got.String() != want) {
			t.Errorf("%s goes through %v, %v", url, got, err)
		}
	}
}
