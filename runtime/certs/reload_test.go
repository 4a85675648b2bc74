package certs

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// shownBy is the serial number of the certificate that a new connection sees.
func shownBy(t *testing.T, a *authority, set *Set) int64 {
	t.Helper()
	_, c, err := shake(t, set.Config(), &tls.Config{RootCAs: a.pool, ServerName: "a.test"})
	if err != nil {
		t.Fatal(err)
	}
	return c.PeerCertificates[0].SerialNumber.Int64()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWaysToReplaceFiles: however a pair is replaced, the new one is shown; while it is of no use the old one stays, and the log
// says why.
func TestWaysToReplaceFiles(t *testing.T) {
	a := newAuthority(t)
	s, log := newStore(t)
	p := a.issue("a", ecdsaKey(t), "a.test")
	set := open(t, s, Options{Name: "public", Pairs: []Pair{p}, Tickets: true})
	fresh := func() (cert, key string) { // another pair, under other names
		q := a.issue("next", ecdsaKey(t), "a.test")
		return q.Cert, q.Key
	}
	shown := func(what string) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return shownBy(t, a, set) == a.last })
	}
	seen := 0 // bytes of the log
	stays := func(says string) {
		t.Helper()
		testkit.Eventually(t, "the log says "+says, func() bool {
			text := log.String()
			i := strings.Index(text[seen:], says)
			if i >= 0 {
				seen += i + len(says)
			}
			return i >= 0
		})
		if now := shownBy(t, a, set); now != a.last-1 {
			t.Errorf("%s: the certificate %d is shown", says, now)
		}
	}
	shown("the first one")

	cert, key := fresh()
	must(t, os.Rename(key, p.Key))
	must(t, os.Rename(cert, p.Cert))
	shown("renamed, the key first")

	cert, key = fresh()
	must(t, os.Rename(cert, p.Cert))
	must(t, os.Rename(key, p.Key))
	shown("renamed, the certificate first")

	cert, key = fresh()
	must(t, os.Rename(key, p.Key))
	stays("it is not the key of the first certificate")
	must(t, os.Rename(cert, p.Cert))
	shown("the certificate came long after its key")

	cert, key = fresh()
	must(t, os.Rename(cert, p.Cert))
	stays("it is not the key of the first certificate")
	must(t, os.Rename(key, p.Key))
	shown("the key came long after its certificate")

	cert, key = fresh()
	must(t, os.Remove(p.Cert))
	stays(`a.pem","error":"no such file or directory"`)
	must(t, os.Remove(p.Key))
	must(t, os.Rename(cert, p.Cert))
	stays(`a.key","error":"no such file or directory"`)
	must(t, os.Rename(key, p.Key))
	shown("deleted, and there again")

	cert, key = fresh()
	must(t, os.Remove(p.Cert))
	must(t, os.Mkdir(p.Cert, 0o700))
	stays("is a directory")
	must(t, os.Remove(p.Cert))
	must(t, os.Rename(key, p.Key))
	must(t, os.Rename(cert, p.Cert))
	shown("a folder, and a file again")

	cert, key = fresh()
	write(t, p.Key, []byte("garbage"))
	stays("there is no key in PEM in it")
	write(t, p.Cert, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	must(t, os.Rename(key, p.Key))
	stays("x509: ")
	must(t, os.Rename(cert, p.Cert))
	shown("garbage, and whole again")

	if os.Getuid() != 0 { // who may read everything cannot be kept from it
		cert, key = fresh()
		must(t, os.Chmod(p.Key, 0))
		must(t, os.Rename(cert, p.Cert))
		stays("permission denied")
		must(t, os.Rename(key, p.Key))
		shown("unreadable, and readable again")
	}
}

// TestSecretsOfKubernetes: the files are links by way of ..data, which is replaced as a whole.
func TestSecretsOfKubernetes(t *testing.T) {
	a := newAuthority(t)
	s, log := newStore(t)
	dir := t.TempDir()
	version := func(name string) string {
		q := a.issue("next", ecdsaKey(t), "a.test")
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.Rename(q.Cert, filepath.Join(dir, name, "tls.crt")))
		must(t, os.Rename(q.Key, filepath.Join(dir, name, "tls.key")))
		return name
	}
	to := func(name string) {
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	to(version("..2026_1"))
	p := Pair{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	must(t, os.Symlink("..data/tls.crt", p.Cert))
	must(t, os.Symlink("..data/tls.key", p.Key))
	set := open(t, s, Options{Name: "public", Pairs: []Pair{p}})
	last := "..2026_1"
	for _, name := range []string{"..2026_2", "..2026_3"} {
		to(version(name))
		must(t, os.RemoveAll(filepath.Join(dir, last)))
		testkit.Eventually(t, "the certificate of "+name, func() bool { return shownBy(t, a, set) == a.last })
		last = name
	}
	must(t, os.Mkdir(filepath.Join(dir, "..empty"), 0o700))
	to("..empty")
	log.wait(t, "no such file or directory")
	if shownBy(t, a, set) != a.last {
		t.Error("a secret without files has changed something")
	}
}
