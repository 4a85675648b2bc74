package acme_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/certs/acme"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/pebble"
	"wasmgate/runtime/internal/testkit"
)

// TestMain fails if a goroutine is left when all tests have ended.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(5 * time.Second); code == 0 && runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			stacks := make([]byte, 64<<10)
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// site is an issuer, and a machine with two ports whose names it knows: one answers HTTP-01, the other speaks TLS with the
// certificates of managers.
type site struct {
	*testing.T
	*pebble.Server
	dir      string
	log      *testkit.Buffer
	tls      string
	managers []*acme.Manager
	texts    atomic.Int32 // challenges of HTTP-01 that were answered
	certs    atomic.Int32 // and of TLS-ALPN-01
}

// newSite starts one. The names exist.
func newSite(t *testing.T, o pebble.Options, names ...string) *site {
	s := &site{T: t, dir: filepath.Join(t.TempDir(), "certs"), log: &testkit.Buffer{}}
	dns := dnstest.New(t)
	for _, name := range names {
		dns.Set(name, time.Minute, "127.0.0.1")
	}
	plain, secure := listen(t), listen(t)
	o.DNS, o.HTTPPort, o.TLSPort, s.tls = dns.Addr(), plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port, secure.Addr().String()
	answers := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		if token, ok := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/"); ok {
			for _, m := range s.managers {
				if text, ok := m.Answer(host, token); ok {
					s.texts.Add(1)
					_, _ = w.Write([]byte(text))
					return
				}
			}
		}
		http.NotFound(w, r)
	})}
	go func() { _ = answers.Serve(plain) }()
	go s.handshakes(secure)
	t.Cleanup(func() {
		if answers.Close(); t.Failed() {
			t.Logf("the manager's log:\n%s", s.log.String())
		}
	})
	s.Server = pebble.Start(t, o, missing)
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func (s *site) handshakes(ln net.Listener) {
	c := &tls.Config{NextProtos: []string{"http/1.1", acme.Protocol}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		err := errors.New("nobody is here")
		for _, m := range s.managers {
			var cert *tls.Certificate
			if cert, err = m.GetCertificate(hello); err == nil {
				if acme.IsChallenge(hello) {
					s.certs.Add(1)
				}
				return cert, nil
			}
		}
		return nil, err
	}}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_ = tls.Server(conn, c).Handshake()
		}()
	}
}

func (s *site) options() acme.Options {
	return acme.Options{
		Directory: s.Directory, Roots: s.CA, Agreed: true, Email: "who@example.com", Storage: s.dir, HTTP01: true, TLSALPN01: true,
		Check: 200 * time.Millisecond, Retry: 50 * time.Millisecond, Log: zerolog.New(s.log),
	}
}

// manager makes one that everybody asks.
func (s *site) manager(o acme.Options) *acme.Manager {
	s.Helper()
	m, err := acme.New(o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(m.Close)
	s.managers = []*acme.Manager{m}
	return m
}

// served is the certificate that a new handshake of a manager's has; nil: none.
func served(m *acme.Manager, name string) *tls.Certificate {
	c, _ := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	return c
}

// wait waits until a manager has a certificate for a name.
func (s *site) wait(m *acme.Manager, name string) *tls.Certificate {
	s.Helper()
	testkit.Eventually(s, "a certificate for "+name, func() bool { return served(m, name) != nil })
	return served(m, name)
}

// state is what a manager knows of a name.
func state(m *acme.Manager, name string) (of acme.State) {
	for _, s := range m.States() {
		if s.Name == name {
			of = s
		}
	}
	return of
}

// serial is that of the certificate which a new connection to the site gets.
func (s *site) serial(name string) string {
	s.Helper()
	conn, err := tls.Dial("tcp", s.tls, &tls.Config{ServerName: name, RootCAs: s.Roots()})
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

// missing ends a test that cannot run here: it is skipped, or fails where everything must be there.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("WASMGATE_TEST_ALL") != "" {
		t.Fatalf("needs %s, and WASMGATE_TEST_ALL is set", what)
	}
	t.Skipf("needs %s", what)
}
