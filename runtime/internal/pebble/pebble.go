// Package pebble runs a real ACME issuer for tests: Let's Encrypt's Pebble, on loopback. The Go command builds it from the
// module proxy, in the version below, and keeps it in the user's cache folder.
package pebble

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

const (
	module  = "github.com/letsencrypt/pebble/v2/cmd/pebble"
	version = "v2.10.1"
)

// Options say what the issuer is like.
type Options struct {
	DNS      string            // host:port of a name server that knows the names that are asked for
	HTTPPort int               // of HTTP-01
	TLSPort  int               // of TLS-ALPN-01
	Validity time.Duration     // of certificates; 0: 90 days
	Blocked  []string          // names that it gives no certificates for
	MACKeys  map[string]string // of external accounts, by their ids: without one nobody is registered; empty: anybody is
}

// Server is an issuer. It stops with the test.
type Server struct {
	Directory string         // its URL
	CAFile    string         // whom its own address's certificate is from
	CA        *x509.CertPool // the same

	t          testing.TB
	program    string
	config     string
	management string
	output     testkit.Buffer
	process    *exec.Cmd
}

// Start starts an issuer. Where there is no Pebble and none can be built missing is called, which ends the test.
func Start(t testing.TB, o Options, missing func(t testing.TB, what string)) *Server {
	t.Helper()
	s := &Server{t: t, program: program(t, missing)}
	dir := t.TempDir()
	s.CAFile = filepath.Join(dir, "ca.pem")
	s.certificate(dir)
	listen, management := address(t), address(t)
	s.Directory, s.management = "https://"+listen+"/dir", "https://"+management
	if o.Validity == 0 {
		o.Validity = 90 * 24 * time.Hour
	}
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": s.CAFile, "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "keyAlgorithm": "ecdsa", "domainBlocklist": o.Blocked,
		"externalAccountBindingRequired": len(o.MACKeys) > 0, "externalAccountMACKeys": o.MACKeys,
		"profiles": map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": int(o.Validity / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(s.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.process = exec.Command(s.program, "-config", s.config, "-dnsserver", o.DNS)
	t.Cleanup(s.Stop)
	s.Again()
	return s
}

// Again starts an issuer that was stopped. It has forgotten everything: accounts, orders, and its root.
func (s *Server) Again() {
	s.t.Helper()
	s.process = &exec.Cmd{
		Path: s.process.Path, Args: s.process.Args, Stdout: &s.output, Stderr: &s.output,
	}
	s.process.Env = append(s.process.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=10")
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	client := s.client()
	defer client.CloseIdleConnections()
	testkit.Eventually(s.t, "Pebble answers", func() bool {
		for _, url := range []string{s.Directory, s.management + "/roots/0"} {
			resp, err := client.Get(url)
			if err != nil {
				return false
			}
			resp.Body.Close()
		}
		return true
	})
}

// Stop ends the issuer: it is down. A second call does nothing.
func (s *Server) Stop() {
	if s.process.Process == nil || s.process.ProcessState != nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// Roots are those that certificates of the issuer are from.
func (s *Server) Roots() *x509.CertPool {
	s.t.Helper()
	client := s.client()
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.management + "/roots/0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		s.t.Fatalf("no root: %v\n%s", err, text)
	}
	return pool
}

// Wrote is what the issuer wrote so far.
func (s *Server) Wrote() string { return s.output.String() }

func (s *Server) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CA}}}
}

// certificate makes the one that the issuer's own address has.
func (s *Server) certificate(dir string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, text := range map[string][]byte{s.CAFile: public, filepath.Join(dir, "key.pem"): pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.CA = x509.NewCertPool()
	s.CA.AppendCertsFromPEM(public)
}

func address(t testing.TB) string { return "127.0.0.1:" + strconv.Itoa(testkit.Port(t)) }

var building sync.Mutex

// program is the path of Pebble, which is built if it is not there.
func program(t testing.TB, missing func(t testing.TB, what string)) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "wasmgate-tests", "pebble-"+version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := build(path); err != nil {
		missing(t, fmt.Sprintf("Pebble, which cannot be built: %v", err))
	}
	return path
}

func build(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "build")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "install", module+"@"+version)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOBIN="+dir, "GOWORK=off", "GOOS=", "GOARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s@%s: %w: %s", module, version, err, bytes.TrimSpace(out))
	}
	return os.Rename(filepath.Join(dir, "pebble"), path)
}
