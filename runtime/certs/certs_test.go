package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// authority signs certificates of tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
	dir  string
	last int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool(), last: 1}
	a.key = ecdsaKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.cert = a.sign(template, template, a.key)
	a.pool.AddCert(a.cert)
	return a
}

func ecdsaKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
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

// issue writes a certificate for names into files.
func (a *authority) issue(file string, key crypto.Signer, names ...string) Pair {
	a.t.Helper()
	return a.issueAs(file, key, &x509.Certificate{DNSNames: names})
}

func (a *authority) issueAs(file string, key crypto.Signer, template *x509.Certificate) Pair {
	a.t.Helper()
	a.last++
	template.SerialNumber = big.NewInt(a.last)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(12*time.Hour)
	}
	c := a.sign(template, a.cert, key)
	p := Pair{Cert: filepath.Join(a.dir, file+".pem"), Key: filepath.Join(a.dir, file+".key")}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	// The key first, so that there is a moment at which the two do not fit.
	write(a.t, p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(a.t, p.Cert, text)
	return p
}

func write(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lines is a log that tests wait for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) wait(t testing.TB, part string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		text := l.String()
		if strings.Contains(text, part) {
			return
		}
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("the log never says %q:\n%s", part, text)
		}
	}
}

func newStore(t testing.TB) (*Store, *lines) {
	l := &lines{more: make(chan struct{}, 1)}
	s := New(zerolog.New(l))
	t.Cleanup(s.Close)
	return s, l
}

func open(t testing.TB, s *Store, o Options) *Set {
	t.Helper()
	set, err := s.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set
}

// shake does a handshake with a configuration, and returns both sides' view of it.
func shake(t testing.TB, server, client *tls.Config) (atServer, atClient tls.ConnectionState, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if err = s.Handshake(); err == nil {
			atServer = s.ConnectionState()
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(raw, client)
	var b [1]byte
	_, err = c.Read(b[:]) // tickets come before it
	atClient = c.ConnectionState()
	if e := <-done; err == nil {
		err = e
	}
	return atServer, atClient, err
}

func TestChoosesByName(t *testing.T) {
	a := newAuthority(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newStore(t)
	own := a.issue("own", ecdsaKey(t), "ignored.test")
	own.Names = []string{"named.test"}
	address := a.issueAs("address", ecdsaKey(t), &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	set := open(t, s, Options{MinVersion: tls.VersionTLS12, Pairs: []Pair{
		a.issue("rsa", rsaKey, "both.test"),
		a.issue("both", ecdsaKey(t), "both.test"),
		a.issue("exact", ecdsaKey(t), "a.many.test"),
		a.issue("wild", ecdsaKey(t), "*.many.test"),
		own, address,
	}})
	for _, c := range []struct {
		name   string
		file   string // that the certificate is from; "": there is none
		client *tls.Config
	}{
		{name: "both.test", file: "both"},
		{name: "BOTH.test", file: "both"},
		{name: "both.test", file: "rsa", client: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}},
		{name: "a.many.test", file: "exact"},
		{name: "b.many.test", file: "wild"},
		{name: "many.test"},
		{name: "a.b.many.test"},
		{name: "named.test", file: "own"},
		{name: "ignored.test"},
		{name: "other.test"},
		{name: "", file: "address"},
	} {
		cfg := &tls.Config{}
		if c.client != nil {
			cfg = c.client.Clone()
		}
		cfg.InsecureSkipVerify, cfg.ServerName = true, c.name
		_, got, err := shake(t, set.Config(), cfg)
		if c.file == "" {
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%q: the error is %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		want, err := tls.LoadX509KeyPair(filepath.Join(a.dir, c.file+".pem"), filepath.Join(a.dir, c.file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if !got.PeerCertificates[0].Equal(want.Leaf) {
			t.Errorf("%q: got the certificate for %v, want that of %s", c.name, got.PeerCertificates[0].DNSNames, c.file)
		}
	}
}

func TestDefaultIsForEverythingElse(t *testing.T) {
	a := newAuthority(t)
	s, _ := newStore(t)
	p := a.issue("a", ecdsaKey(t), "a.test")
	p.Default = true
	set := open(t, s, Options{Pairs: []Pair{p}})
	for _, name := range []string{"a.test", "else.test", ""} {
		if _, _, err := shake(t, set.Config(), &tls.Config{InsecureSkipVerify: true, ServerName: name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSourceIsAskedByName(t *testing.T) {
	a := newAuthority(t)
	s, _ := newStore(t)
	extra := a.issue("extra", ecdsaKey(t), "extra.test")
	cert, err := tls.LoadX509KeyPair(extra.Cert, extra.Key)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	set := open(t, s, Options{Pairs: []Pair{a.issue("a", ecdsaKey(t), "a.test")}, Protocols: []string{"http/1.1"}, Source: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- h.ServerName
		switch h.ServerName {
		case "fails.test":
			return nil, errors.New("no")
		case "unknown.test":
			return nil, nil
		}
		return &cert, nil
	}})
	for _, c := range []struct {
		name   string
		protos []string
		asks   bool
		ok     bool
	}{
		{"a.test", nil, false, true},
		{"extra.test", nil, true, true},
		{"unknown.test", nil, true, false},
		{"fails.test", nil, true, false},
		{"a.test", []string{ChallengeProtocol}, true, true},
	} {
		_, got, err := shake(t, set.Config(), &tls.Config{InsecureSkipVerify: true, ServerName: c.name, NextProtos: c.protos})
		if (err == nil) != c.ok || len(asked) > 0 != c.asks {
			t.Errorf("%s %v: error %v, asked %d times", c.name, c.protos, err, len(asked))
		}
		if c.protos != nil && got.NegotiatedProtocol != ChallengeProtocol {
			t.Errorf("%s: the protocol is %q", c.name, got.NegotiatedProtocol)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
}

func TestSaysWhatIsWrongWithFiles(t *testing.T) {
	a := newAuthority(t)
	s, _ := newStore(t)
	good, other := a.issue("good", ecdsaKey(t), "a.test"), a.issue("other", ecdsaKey(t), "b.test")
	nameless := a.issue("nameless", ecdsaKey(t))
	file := func(name, text string) string {
		name = filepath.Join(a.dir, name)
		write(t, name, []byte(text))
		return name
	}
	for _, c := range []struct {
		pair      Pair
		key, says string
	}{
		{Pair{Cert: "/nowhere.pem", Key: good.Key}, "cert", "no such file"},
		{Pair{Cert: good.Cert, Key: "/nowhere.key"}, "key", "no such file"},
		{Pair{Cert: file("text.pem", "hello"), Key: good.Key}, "cert", "no certificate in PEM"},
		{Pair{Cert: file("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB"), Key: good.Key}, "cert", "not whole"},
		{Pair{Cert: file("junk.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), Key: good.Key}, "cert", "x509"},
		{Pair{Cert: good.Cert, Key: file("text.key", "hello")}, "key", "no key in PEM"},
		{Pair{Cert: good.Cert, Key: file("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")}, "key", "encrypted"},
		{Pair{Cert: good.Cert, Key: other.Key}, "key", "not the key of the first certificate"},
		{nameless, "cert", "no name"},
	} {
		_, err := s.Open(Options{Pairs: []Pair{good, c.pair}})
		var e *Error
		if !errors.As(err, &e) || e.Pair != 1 || e.Key != c.key || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%+v: the error is %#v: %v", c.pair, e, err)
		}
	}
	_, err := s.Open(Options{Pairs: []Pair{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: good.Key})
	var e *Error
	if !errors.As(err, &e) || e.Key != "client_ca" {
		t.Errorf("a client_ca without certificates: %v", err)
	}
}

// TestFollowsFiles: a pair that was replaced is shown to new connections, one that is broken changes nothing.
func TestFollowsFiles(t *testing.T) {
	a := newAuthority(t)
	s, log := newStore(t)
	p := a.issue("a", ecdsaKey(t), "a.test")
	set := open(t, s, Options{Name: "public", Pairs: []Pair{p}, Tickets: true})
	serial := func() int64 {
		t.Helper()
		_, c, err := shake(t, set.Config(), &tls.Config{RootCAs: a.pool, ServerName: "a.test"})
		if err != nil {
			t.Fatal(err)
		}
		return c.PeerCertificates[0].SerialNumber.Int64()
	}
	if serial() != 2 {
		t.Fatal("not the certificate that was issued")
	}
	a.issue("a", ecdsaKey(t), "a.test")
	log.wait(t, "certificate replaced")
	if serial() != 3 {
		t.Error("the certificate was replaced, and connections see the old one")
	}
	write(t, p.Cert, []byte("-----BEGIN CERTIFICATE-----\nMIIB"))
	log.wait(t, "the one from before stays")
	if serial() != 3 {
		t.Error("a broken file has changed something")
	}
	a.issue("a", ecdsaKey(t), "a.test")
	log.wait(t, `"not_after"`)
	for end := time.Now().Add(20 * time.Second); serial() != 4; {
		if time.Now().After(end) {
			t.Fatal("a pair that is whole again is not used")
		}
	}
}

// TestTickets: a session is resumed by any set of the store, under the same circumstances only, and not once its key is gone.
func TestTickets(t *testing.T) {
	a := newAuthority(t)
	s, _ := newStore(t)
	ca := filepath.Join(a.dir, "ca.pem")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	b := newAuthority(t)
	both := filepath.Join(a.dir, "both.pem")
	write(t, both, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.cert.Raw})...))
	client := a.issueAs("client", ecdsaKey(t), &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, DNSNames: []string{"alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	alice, err := tls.LoadX509KeyPair(client.Cert, client.Key)
	if err != nil {
		t.Fatal(err)
	}
	pairs := []Pair{a.issue("a", ecdsaKey(t), "a.test", "b.test")}
	plainSet := open(t, s, Options{Pairs: pairs, Tickets: true})
	again := open(t, s, Options{Pairs: pairs, Tickets: true})
	off := open(t, s, Options{Pairs: pairs})
	mutual := open(t, s, Options{Pairs: pairs, Tickets: true, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: ca})
	optional := open(t, s, Options{Pairs: pairs, Tickets: true, ClientAuth: tls.VerifyClientCertIfGiven, ClientCA: ca})
	wider := open(t, s, Options{Pairs: pairs, Tickets: true, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: both})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			what        string
			first, then *Set
			name        string
			rotate      int
			resumed     bool
		}{
			{"the same", plainSet, plainSet, "a.test", 0, true},
			{"another of the same kind", plainSet, again, "a.test", 0, true},
			{"another name", plainSet, plainSet, "b.test", 0, false},
			{"off", plainSet, off, "a.test", 0, false},
			{"with a client certificate", mutual, mutual, "a.test", 0, true},
			{"from one that asks for none to one that does", plainSet, mutual, "a.test", 0, false},
			{"from one that asks to one that does not", mutual, plainSet, "a.test", 0, false},
			{"from one that requires to one that asks", mutual, optional, "a.test", 0, false},
			{"other authorities", mutual, wider, "a.test", 0, false},
			{"an older key", plainSet, plainSet, "a.test", keepTickets - 1, true},
			{"a key that is gone", plainSet, plainSet, "a.test", keepTickets, false},
		} {
			cfg := &tls.Config{
				RootCAs: a.pool, ServerName: "a.test", ClientSessionCache: &oneSession{}, MinVersion: version, MaxVersion: version,
				Certificates: []tls.Certificate{alice},
			}
			s.tickets.give(c.first.Config()) // as the store does after each rotation
			if _, _, err := shake(t, c.first.Config(), cfg); err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			for range c.rotate {
				s.tickets.rotate()
			}
			for _, set := range []*Set{c.first, c.then} {
				s.tickets.give(set.Config())
			}
			cfg.ServerName = c.name
			server, _, err := shake(t, c.then.Config(), cfg)
			if err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			if server.DidResume != c.resumed {
				t.Errorf("%s, %s: resumed %v", tls.VersionName(version), c.what, server.DidResume)
			}
			if c.resumed && c.then == mutual && (len(server.PeerCertificates) == 0 || server.PeerCertificates[0].Subject.CommonName != "alice") {
				t.Errorf("%s: the client's certificate is lost", c.what)
			}
		}
	}
}

// oneSession keeps the last session, whatever server it is of.
type oneSession struct{ s *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.s, o.s != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState)    { o.s = s }
