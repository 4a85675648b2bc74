package gateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"
)

// identity is a certificate for localhost, in files, and who trusts it.
type identity struct {
	cert, key string // files
	trust     *tls.Config
	spki      string // the hash of its key, as a browser wants it
	serial    int64
}

// newIdentity makes a certificate, in a folder that may have another one: that is replaced.
func newIdentity(t testing.TB, dir string, serial int64) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), serial: serial}
	for file, block := range map[string]*pem.Block{id.cert: {Type: "CERTIFICATE", Bytes: der}, id.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	id.trust = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	id.spki = base64.StdEncoding.EncodeToString(sum[:])
	return id
}

// listener is that of a config: one that speaks HTTP/3 with this certificate, and more of it.
func (id *identity) listener(more string) string {
	return fmt.Sprintf("listeners: [{ name: test, address: '127.0.0.1:0', tls: { certificates: [{ cert: %q, key: %q }] }, http3: { enabled: true }%s }]\n", id.cert, id.key, more)
}

// h3Client is quic-go's client.
type h3Client struct {
	*testing.T
	*quichttp3.Transport
	base string
}

// http3 makes a client with connections of its own.
func (p *plant) http3(id *identity) *h3Client {
	c := &h3Client{p.T, &quichttp3.Transport{TLSClientConfig: id.trust, QUICConfig: &quic.Config{MaxIdleTimeout: 20 * time.Second}}, fmt.Sprintf("https://localhost:%d", p.addr.Port())}
	p.Cleanup(func() { _ = c.Close() })
	return c
}

func (c *h3Client) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		c.Fatal(err)
	}
	return r
}

// get asks, and returns the whole answer.
func (c *h3Client) get(path string) (*http.Response, string) {
	c.Helper()
	return c.whole(c.request(context.Background(), "GET", path, nil))
}

func (c *h3Client) whole(r *http.Request) (*http.Response, string) {
	c.Helper()
	resp, err := c.RoundTrip(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		c.Fatal(err)
	}
	return resp, b.String()
}
