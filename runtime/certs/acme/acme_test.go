package acme_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/certs/acme"
	"wasmgate/runtime/internal/pebble"
	"wasmgate/runtime/internal/testkit"
)

func TestObtains(t *testing.T) {
	for kind, choose := range map[string]func(*acme.Options){
		"http-01":     func(o *acme.Options) { o.TLSALPN01 = false },
		"tls-alpn-01": func(o *acme.Options) { o.HTTP01 = false },
	} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, pebble.Options{}, "a.example.com")
			o := s.options()
			choose(&o)
			m := s.manager(o)
			m.Use([]string{"a.example.com"})
			cert := s.wait(m, "a.example.com")
			if serial := s.serial("A.example.com"); serial != cert.Leaf.SerialNumber.Text(16) {
				t.Errorf("a handshake had the certificate %s", serial)
			}
			if texts, certs := s.texts.Load(), s.certs.Load(); (texts > 0) != o.HTTP01 || (certs > 0) != o.TLSALPN01 {
				t.Errorf("the issuer asked for %d texts and %d certificates", texts, certs)
			}
			testkit.Eventually(t, "the line about it", func() bool { return strings.Contains(s.log.String(), `"message":"a certificate was obtained"`) })
			if st := state(m, "a.example.com"); st.Obtained != 1 || st.Renewed != 0 || st.Failed != 0 || !st.NotAfter.Equal(cert.Leaf.NotAfter) || st.Error != "" {
				t.Errorf("%+v", st)
			}
			private(t, s.dir)
		})
	}
}

// private checks that nobody else can read what is stored, and that no challenge is left.
func private(t *testing.T, dir string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		if strings.Contains(path, "challenge_tokens/") {
			t.Errorf("%s was left", path)
		}
		return err
	})
	if err != nil || keys != 2 {
		t.Errorf("%d keys are stored: %v", keys, err)
	}
}

func TestRenews(t *testing.T) {
	// certmagic waits after a renewal that failed, by the name and for the whole process: also after one that Close has ended.
	name := fmt.Sprintf("renewed-%d.example.com", time.Now().UnixNano())
	s := newSite(t, pebble.Options{Validity: 40 * time.Second}, name)
	o := s.options()
	o.Window = 0.97
	m := s.manager(o)
	m.Use([]string{name})
	first := s.wait(m, name)
	testkit.Eventually(t, "it is renewed", func() bool { return served(m, name) != first })
	testkit.Eventually(t, "it is renewed again", func() bool { return state(m, name).Renewed >= 2 })
	if serial := s.serial(name); serial == first.Leaf.SerialNumber.Text(16) {
		t.Error("a handshake had the first certificate")
	}
	if log := s.log.String(); !strings.Contains(log, `"message":"a certificate was renewed"`) || strings.Contains(log, `"level":"error"`) {
		t.Error(log)
	}
}

// A restart needs the issuer for nothing that is stored.
func TestServesWhatIsStored(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	cert := s.wait(m, "a.example.com")
	m.Close()
	s.Stop()
	m = s.manager(s.options())
	m.Use([]string{"a.example.com", "b.example.com"})
	if again := served(m, "a.example.com"); again == nil || again.Leaf.SerialNumber.Cmp(cert.Leaf.SerialNumber) != 0 {
		t.Error("what is stored is not served at once")
	}
	testkit.Eventually(t, "the other one is tried for", func() bool { return state(m, "b.example.com").Failed > 0 })
	if st := state(m, "a.example.com"); st.Failed != 0 || st.Obtained != 0 {
		t.Errorf("%+v", st)
	}
}

// While the issuer is down, handshakes for the name fail and the log says why.
func TestTheIssuerComesBack(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com")
	s.Stop()
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	testkit.Eventually(t, "attempts fail", func() bool { return state(m, "a.example.com").Failed >= 2 })
	st := state(m, "a.example.com")
	if !strings.Contains(st.Error, "connection refused") || st.Next.IsZero() || !st.NotAfter.IsZero() {
		t.Errorf("%+v", st)
	}
	for range 3 {
		_, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com"})
		if err == nil || !strings.Contains(err.Error(), "a.example.com yet: ") || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a handshake: %v", err)
		}
	}
	log := s.log.String()
	if strings.Count(log, "a handshake failed: the certificate of the name is not there yet") != 1 || !strings.Contains(log, `"message":"a certificate cannot be obtained`) ||
		!strings.Contains(log, `"next":"`) {
		t.Error(log)
	}
	s.Again()
	s.wait(m, "a.example.com")
	if st := state(m, "a.example.com"); st.Error != "" || !st.Next.IsZero() || st.Obtained != 1 {
		t.Errorf("%+v", st)
	}
}

// An issuer that says no is asked less often than one that does not answer, and other names do not wait for it.
func TestTheIssuerSaysNo(t *testing.T) {
	s := newSite(t, pebble.Options{Blocked: []string{"blocked.example.com"}}, "a.example.com", "blocked.example.com")
	o := s.options()
	o.Retry = time.Second
	m := s.manager(o)
	began := time.Now()
	m.Use([]string{"blocked.example.com", "a.example.com"})
	testkit.Eventually(t, "it says no", func() bool { return state(m, "blocked.example.com").Failed > 0 })
	st := state(m, "blocked.example.com")
	// The wait begins between these two, however long the machine stood still.
	if !strings.Contains(st.Error, "rejectedIdentifier") || st.Next.Sub(began) < 12*time.Second || time.Until(st.Next) > 14*time.Second {
		t.Errorf("%+v, next in %s", st, time.Until(st.Next))
	}
	s.wait(m, "a.example.com")
}

// A name whose address is another machine's, or nobody's, is told so by the issuer.
func TestTheIssuerCannotReachIt(t *testing.T) {
	s := newSite(t, pebble.Options{})
	m := s.manager(s.options())
	m.Use([]string{"nowhere.example.com"})
	testkit.Eventually(t, "it fails", func() bool { return state(m, "nowhere.example.com").Failed > 0 })
	if st := state(m, "nowhere.example.com"); !strings.Contains(st.Error, "nowhere.example.com") {
		t.Errorf("%+v", st)
	}
}

func TestNamesComeAndGo(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com", "b.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com", "a.example.com"})
	a := s.wait(m, "a.example.com")
	m.Use([]string{"b.example.com"})
	if served(m, "a.example.com") != nil || m.Has("a.example.com") || len(m.States()) != 1 {
		t.Error("a name that went is served")
	}
	s.wait(m, "b.example.com")
	m.Use([]string{"a.example.com", "b.example.com"})
	if again := served(m, "a.example.com"); again == nil || again.Leaf.SerialNumber.Cmp(a.Leaf.SerialNumber) != 0 {
		t.Error("a name that came back has not what was stored")
	}
	if names := m.Names(); len(names) != 2 || names[0] != "a.example.com" {
		t.Errorf("names: %q", names)
	}
}

// What clients ask for is nothing to go by.
func TestOtherNamesHaveNone(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com", "other.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	s.wait(m, "a.example.com")
	for _, name := range []string{"other.example.com", "", "x.a.example.com", "example.com", "*.example.com"} {
		if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); !errors.Is(err, acme.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"other.example.com", "a.example.com"} {
		if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{acme.Protocol}}); err == nil {
			t.Errorf("a challenge that is not open was answered for %s", name)
		}
	}
	if strings.Contains(s.Wrote(), "other.example.com") {
		t.Error("the issuer was asked for a name of a client's")
	}
}

func TestBrokenStorage(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	last := s.wait(m, "a.example.com").Leaf
	m.Close()
	folders, err := filepath.Glob(filepath.Join(s.dir, "certificates", "*", "a.example.com"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	at := func(name string) string { return filepath.Join(folders[0], name) }
	accounts, err := filepath.Glob(filepath.Join(s.dir, "acme", "*", "users", "*", "account.*"))
	if err != nil || len(accounts) != 2 {
		t.Fatal(accounts, err)
	}
	for what, spoil := range map[string]func() error{
		"an empty certificate": func() error { return os.WriteFile(at("a.example.com.crt"), nil, 0o600) },
		"half a certificate":   func() error { return os.Truncate(at("a.example.com.crt"), 200) },
		"a key that is none":   func() error { return os.WriteFile(at("a.example.com.key"), []byte("secret"), 0o600) },
		"no key":               func() error { return os.Remove(at("a.example.com.key")) },
		"another key":          func() error { return os.Rename(accounts[1], at("a.example.com.key")) },
		"facts that are none":  func() error { return os.WriteFile(at("a.example.com.json"), []byte("{"), 0o600) },
		"an account that is none": func() error {
			return errors.Join(os.WriteFile(accounts[0], []byte("[1"), 0o600), os.RemoveAll(folders[0]))
		},
		"an account without a key": func() error { return errors.Join(os.WriteFile(accounts[1], nil, 0o600), os.RemoveAll(folders[0])) },
	} {
		if err := spoil(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		m := s.manager(s.options())
		m.Use([]string{"a.example.com"})
		now := s.wait(m, "a.example.com").Leaf
		if now.SerialNumber.Cmp(last.SerialNumber) == 0 {
			t.Errorf("%s: the same is served", what)
		}
		if serial := s.serial("a.example.com"); serial != now.SerialNumber.Text(16) {
			t.Errorf("%s: a handshake had the certificate %s", what, serial)
		}
		last = now
		m.Close()
	}
	if log := s.log.String(); !strings.Contains(log, "what is stored of a certificate is broken") || !strings.Contains(log, "the stored account with the issuer is broken") {
		t.Error(log)
	}
	if kept, err := filepath.Glob(filepath.Join(s.dir, "certificates", "*", "*.broken", "*.crt")); err != nil || len(kept) != 1 {
		t.Errorf("what was broken was not kept: %q %v", kept, err)
	}
}

// An issuer that was made anew does not know the account, nor what it is asked to replace.
func TestTheIssuerForgets(t *testing.T) {
	s := newSite(t, pebble.Options{Validity: time.Hour}, "a.example.com", "b.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	s.wait(m, "a.example.com")
	s.Stop()
	s.Again()
	m.Use([]string{"a.example.com", "b.example.com"})
	cert := s.wait(m, "b.example.com")
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: s.Roots(), Intermediates: intermediates(cert), DNSName: "b.example.com"}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.log.String(), "the issuer does not know the stored account") {
		t.Error(s.log.String())
	}
}

func intermediates(c *tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
	return pool
}

func TestExternalAccount(t *testing.T) {
	s := newSite(t, pebble.Options{MACKeys: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}}, "a.example.com")
	m := s.manager(s.options())
	m.Use([]string{"a.example.com"})
	testkit.Eventually(t, "the issuer wants one", func() bool { return strings.Contains(state(m, "a.example.com").Error, "externalAccountRequired") })
	m.Close()
	o := s.options()
	o.Account = acme.ExternalAccount{KeyID: "kid-1", MACKey: "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
	m = s.manager(o)
	m.Use([]string{"a.example.com"})
	s.wait(m, "a.example.com")
}

// Several gateways may have one folder: one of them obtains, and each of them has the answer to its challenge.
func TestShare(t *testing.T) {
	s := newSite(t, pebble.Options{}, "a.example.com")
	o := s.options()
	o.TLSALPN01 = false
	first, second := s.manager(o), s.manager(o)
	s.managers = []*acme.Manager{first, second}
	first.Use([]string{"a.example.com"})
	second.Use([]string{"a.example.com"})
	a, b := s.wait(first, "a.example.com"), s.wait(second, "a.example.com")
	if a.Leaf.SerialNumber.Cmp(b.Leaf.SerialNumber) != 0 {
		t.Error("each has one of its own")
	}
	if n := state(first, "a.example.com").Obtained + state(second, "a.example.com").Obtained; n != 1 {
		t.Errorf("it was obtained %d times", n)
	}
}

func TestNew(t *testing.T) {
	good := acme.Options{Directory: "https://127.0.0.1:1/dir", Agreed: true, Storage: filepath.Join(t.TempDir(), "a", "b"), HTTP01: true}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for word, change := range map[string]func(*acme.Options){
		"":                            func(*acme.Options) {},
		"terms of service":            func(o *acme.Options) { o.Agreed = false },
		"is no https:// URL":          func(o *acme.Options) { o.Directory = "http://127.0.0.1/dir" },
		"the directory":               func(o *acme.Options) { o.Directory = "https://[" },
		"http-01 and tls-alpn-01":     func(o *acme.Options) { o.HTTP01 = false },
		"keys of type dsa":            func(o *acme.Options) { o.KeyType = "dsa" },
		"need a folder":               func(o *acme.Options) { o.Storage = "" },
		"chmod 700":                   func(o *acme.Options) { o.Storage = open },
		"the folder for certificates": func(o *acme.Options) { o.Storage = "/dev/null/x" },
	} {
		o := good
		change(&o)
		m, err := acme.New(o)
		if err == nil {
			m.Close()
			m.Close()
			m.Use([]string{"a.example.com"})
			if len(m.Names()) != 0 {
				t.Error("names are used after the end")
			}
		}
		if (word == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), word)) {
			t.Errorf("%q: %v", word, err)
		}
	}
}

// A renewal that failed says why and when it is tried again: at the start by the manager, and then by the library.
func TestARenewalThatFailsSaysWhenItIsTriedAgain(t *testing.T) {
	name := fmt.Sprintf("not-renewed-%d.example.com", time.Now().UnixNano())
	s := newSite(t, pebble.Options{Validity: time.Hour}, name)
	m := s.manager(s.options())
	m.Use([]string{name})
	cert := s.wait(m, name)
	m.Close()
	s.Stop()
	o := s.options()
	o.Window = 1 // it is due at once
	m = s.manager(o)
	m.Use([]string{name})
	if again := served(m, name); again == nil || again.Leaf.SerialNumber.Cmp(cert.Leaf.SerialNumber) != 0 {
		t.Error("what is stored is not served")
	}
	testkit.Eventually(t, "two renewals fail", func() bool { return state(m, name).Failed >= 2 })
	st := state(m, name)
	if left := time.Until(st.Next); left < 50*time.Second || left > time.Minute+o.Check || !strings.Contains(st.Error, "connection refused") || !st.NotAfter.Equal(cert.Leaf.NotAfter) {
		t.Errorf("%+v, next in %s", st, left)
	}
	log := s.log.String()
	for _, part := range []string{`"message":"a certificate cannot be renewed: the present one is served, and it is tried again"`, `"next":"0s"`, `"next":"1m0s"`, `"not_after":"`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log does not say %s", part)
		}
	}
}
