package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	lib "github.com/mholt/acmez/v3/acme"
	"github.com/rs/zerolog"
	"go.uber.org/zap"
)

// alone is a manager whose issuer cannot be reached.
func alone(t *testing.T, dir string, names ...string) *Manager {
	t.Helper()
	m, err := New(Options{Directory: "https://127.0.0.1:1/dir", Agreed: true, Storage: dir, HTTP01: true, TLSALPN01: true, Retry: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Use(names)
	return m
}

func challenge(kind, name, token string) lib.Challenge {
	return lib.Challenge{Type: kind, Token: token, KeyAuthorization: token + ".thumb", Identifier: lib.Identifier{Type: "dns", Value: name}}
}

func TestAnswer(t *testing.T) {
	dir, ctx := t.TempDir()+"/c", context.Background()
	m, other := alone(t, dir, "a.example.com"), alone(t, dir, "a.example.com", "b.example.com")
	c := challenge(lib.ChallengeTypeHTTP01, "a.example.com", "T-o_1")
	if err := (texts{m}).Present(ctx, c); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []struct {
		host, token string
		ok          bool
	}{
		{"a.example.com", "T-o_1", true}, {"A.Example.com.", "T-o_1", true}, {"b.example.com", "T-o_1", false}, {"a.example.com", "T-o_2", false},
		{"", "T-o_1", false}, {"a.example.com", "", false}, {"../../a.example.com", "T-o_1", false}, {"a.example.com", strings.Repeat("T", 1000), false},
	} {
		text, ok := m.Answer(ask.host, ask.token)
		if ok != ask.ok || (ok && text != "T-o_1.thumb") {
			t.Errorf("Answer(%q, %q): %q %v", ask.host, ask.token, text, ok)
		}
		if _, ok := other.Answer(ask.host, ask.token); ok {
			t.Errorf("the other one answers %q %q from its memory", ask.host, ask.token)
		}
		text, ok = other.Shared(ask.host, ask.token)
		if ok != ask.ok || (ok && text != "T-o_1.thumb") {
			t.Errorf("Shared(%q, %q): %q %v", ask.host, ask.token, text, ok)
		}
	}
	for range maxReads {
		other.reads <- struct{}{}
	}
	if _, ok := other.Shared("a.example.com", "T-o_1"); ok {
		t.Error("more are looked up at a time than may be")
	}
	<-other.reads
	if err := (texts{m}).CleanUp(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Answer("a.example.com", "T-o_1"); ok {
		t.Error("a challenge that is over is answered")
	}
	if _, ok := other.Shared("a.example.com", "T-o_1"); ok {
		t.Error("a challenge that is over is shared")
	}
}

func TestChallengeCertificate(t *testing.T) {
	m, ctx := alone(t, t.TempDir()+"/c", "a.example.com"), context.Background()
	c := challenge(lib.ChallengeTypeTLSALPN01, "a.example.com", "T")
	if err := (certs{m}).Present(ctx, c); err != nil {
		t.Fatal(err)
	}
	hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{Protocol}}
	cert, err := m.GetCertificate(hello)
	if err != nil || len(cert.Certificate) != 1 {
		t.Fatal(err)
	}
	for _, protos := range [][]string{nil, {"h2", Protocol}, {"h2"}} { // a client like any other
		if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: protos}); err == nil {
			t.Errorf("a client with %q got a certificate", protos)
		}
	}
	if err := (certs{m}).CleanUp(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := m.GetCertificate(hello); err == nil {
		t.Error("a challenge that is over is answered")
	}
}

func TestHandshakesAllocateNothing(t *testing.T) {
	m := alone(t, t.TempDir()+"/c", "a.example.com")
	m.named("a.example.com").cert.Store(&tls.Certificate{Leaf: &x509.Certificate{}})
	hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{"h2", "http/1.1"}}
	if n := testing.AllocsPerRun(1000, func() {
		if c, err := m.GetCertificate(hello); c == nil || err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { m.Answer("a.example.com", "token") }); n != 0 {
		t.Errorf("%v allocations for a challenge that is not open", n)
	}
}

func TestLocks(t *testing.T) {
	dir, ctx := t.TempDir()+"/c", context.Background()
	a, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Lock(ctx, "x/../y"); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.TryLock(ctx, "x/../y"); ok || err != nil {
		t.Errorf("a lock was had twice: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := b.Lock(short, "x/../y"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a lock: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- b.Lock(ctx, "x/../y") }()
	if err := a.Unlock(ctx, "x/../y"); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := a.Unlock(ctx, "x/../y"); err == nil {
		t.Error("a lock was given back twice")
	}
	b.close()
	if ok, err := a.TryLock(ctx, "x/../y"); !ok || err != nil {
		t.Errorf("the lock of a folder that was closed: %v %v", ok, err)
	}
	a.close()
}

// Key and certificate are written one after the other: what looks broken meanwhile is left alone.
func TestWhatIsBeingWrittenIsLeftAlone(t *testing.T) {
	dir, ctx := t.TempDir()+"/c", context.Background()
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for _, key := range []string{
		certmagic.StorageKeys.SitePrivateKey("i", "a.example.com"), certmagic.StorageKeys.SiteCert("i", "a.example.com"), certmagic.StorageKeys.SiteMeta("i", "a.example.com"),
	} {
		if err := f.Store(ctx, key, []byte("half")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Lock(ctx, "issue_cert_a.example.com"); err != nil {
		t.Fatal(err)
	}
	if where, why, err := f.setAside(ctx, "i", "a.example.com"); where != "" || why != nil || err != nil {
		t.Errorf("what is being written was set aside: %q %v %v", where, why, err)
	}
	if err := f.Unlock(ctx, "issue_cert_a.example.com"); err != nil {
		t.Fatal(err)
	}
	if where, why, err := f.setAside(ctx, "i", "a.example.com"); !strings.HasSuffix(where, "a.example.com.broken") || why == nil || err != nil {
		t.Errorf("what is broken was not set aside: %q %v %v", where, why, err)
	}
	if where, why, err := f.setAside(ctx, "i", "a.example.com"); where != "" || why != nil || err != nil {
		t.Errorf("what is not there was set aside: %q %v %v", where, why, err)
	}
}

// An issuer that is not what it should be costs time and memory within bounds.
func TestIssuersAnswersAreBounded(t *testing.T) {
	long := strings.Repeat("x", maxAnswer+1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://127.0.0.1:1/dir", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(long))
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	for path, word := range map[string]string{"/dir": "longer than 1048576 bytes", "/away": "https:// only"} {
		m, err := New(Options{Directory: s.URL + path, Roots: roots, Agreed: true, Storage: t.TempDir() + "/c", HTTP01: true, Retry: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.issuer.client.GetDirectory(context.Background())
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", path, err)
		}
		m.Close()
	}
}

func TestNobodyIsAskedAfterTheEnd(t *testing.T) {
	m := alone(t, t.TempDir()+"/c")
	if _, err := m.proxy(httptest.NewRequest("GET", "http://ocsp.example.com/", nil)); err != nil {
		t.Error(err)
	}
	m.Close()
	if _, err := m.proxy(httptest.NewRequest("GET", "http://ocsp.example.com/", nil)); err == nil {
		t.Error("questions are asked after the end")
	}
}

func TestLibrariesLogInOurs(t *testing.T) {
	var out bytes.Buffer
	lines := func(least zerolog.Level, fn func(*zap.Logger, *slog.Logger)) string {
		out.Reset()
		log := zerolog.New(&out).Level(least)
		fn(zapTo(log), slogTo(log))
		return out.String()
	}
	all := func(z *zap.Logger, s *slog.Logger) {
		z = z.With(zap.String("with", "w"))
		z.Debug("z debug")
		z.Info("z info")
		z.Warn("z warn")
		z.Error("z error", zap.Error(errors.New("why")), zap.Strings("names", []string{"a"}))
		z.Error("job failed")
		s = s.With("with", "w")
		s.Debug("s debug")
		s.Info("s info")
		s.Error("s error", "error", errors.New("why"))
		s.Error("challenge failed")
	}
	if got, want := lines(zerolog.InfoLevel, all), `{"level":"warn","library":"certmagic","with":"w","message":"z warn"}
{"level":"warn","library":"certmagic","error":"why","names":["a"],"with":"w","message":"z error"}
{"level":"warn","library":"acmez","with":"w","error":"why","message":"s error"}
`; got != want {
		t.Errorf("at info:\n%s", got)
	}
	if got := lines(zerolog.TraceLevel, all); strings.Count(got, "\n") != 9 || strings.Count(got, `"level":"debug"`) != 4 || strings.Count(got, `"level":"trace"`) != 2 {
		t.Errorf("at trace:\n%s", got)
	}
	if got := lines(zerolog.Disabled, all); got != "" {
		t.Errorf("off:\n%s", got)
	}
}

func TestReason(t *testing.T) {
	for _, err := range []error{nil, errors.New("a\xffb"), errors.New(strings.Repeat("ä", maxReason))} {
		if got := reason(err); got == "" || len(got) > maxReason+3 || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%v: %q", err, got)
		}
	}
}
