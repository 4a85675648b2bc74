package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

const day = 24 * time.Hour

// TestFlaws: what clients refuse is said, and nothing of a certificate that they take.
func TestFlaws(t *testing.T) {
	a := newAuthority(t)
	s, log := newStore(t)
	now := time.Now()
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be warned of
	if err != nil {
		t.Fatal(err)
	}
	from := func(before, after time.Duration) *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"a.test", "*.many.test"}, NotBefore: now.Add(before), NotAfter: now.Add(after)}
	}
	with := func(change func(c *x509.Certificate)) *x509.Certificate {
		c := from(-day, 300*day)
		change(c)
		return c
	}
	must := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	}
	cases := []struct {
		what  string
		cert  *x509.Certificate
		names []string
		says  string // "": nothing
		help  string
	}{
		{"good", from(-day, 300*day), nil, "", ""},
		{"expired", from(-48*time.Hour, -time.Minute), nil, "has expired at ", "renew it"},
		{"early", from(time.Hour, 300*day), nil, "is not valid before ", "clock"},
		{"soon", from(-80*day, 13*day), nil, "expires at ", "renew it"},
		{"in time", from(-80*day, 15*day), nil, "", ""},
		{"short", from(-time.Hour, 6*day), nil, "", ""},
		{"short and soon", from(-5*day, 2*day), nil, "expires at ", "renew it"},
		{"weak", with(func(*x509.Certificate) {}), nil, "RSA with 1024 bits", "P-256"},
		{"client", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), nil, "is not for servers", "issued for a server"},
		{"server", with(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}), nil, "", ""},
		{"own names", from(-day, 300*day), []string{"a.test", "b.many.test", "*.many.test"}, "", ""},
		{"foreign names", from(-day, 300*day), []string{"a.test", "b.test", "*.test", "c.b.many.test"}, "for b.test, *.test, c.b.many.test,", "alternative name"},
		{"must staple", with(must), nil, "demands a staple", "ocsp_stapling: true"},
	}
	var pairs []Pair
	for _, c := range cases {
		key := ecdsaKey(t)
		if c.what == "weak" {
			key = short
		}
		p := a.issueAs(strings.ReplaceAll(c.what, " ", "-"), key, c.cert)
		p.Names = c.names
		pairs = append(pairs, p)
	}
	set := open(t, s, Options{Name: "public", Pairs: pairs})
	said := map[int]Flaw{}
	for _, f := range set.Flaws() {
		if old, twice := said[f.Pair]; twice {
			t.Errorf("%s has two: %q and %q", cases[f.Pair].what, old.Message, f.Message)
		}
		said[f.Pair] = f
	}
	for i, c := range cases {
		f, is := said[i]
		if is != (c.says != "") || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Help, c.help) {
			t.Errorf("%s: it says %q, %q", c.what, f.Message, f.Help)
		}
		if is {
			log.wait(t, f.Message)
		}
	}
	if list := set.Certificates(); len(list) != len(cases) || list[1].Name != "a.test" || !list[1].NotAfter.Before(now) {
		t.Errorf("it tells %+v", list)
	}
	if f := open(t, s, Options{Pairs: pairs[len(pairs)-1:], Staple: true}).Flaws(); len(f) > 0 {
		t.Errorf("with OCSP: %+v", f)
	}
}

// TestWarnsOnceADay: of what is wrong with a certificate at the start, and then in one hour of the day.
func TestWarnsOnceADay(t *testing.T) {
	a := newAuthority(t)
	var text bytes.Buffer
	s := New(zerolog.New(&text))
	p := a.issueAs("old", ecdsaKey(t), &x509.Certificate{DNSNames: []string{"old.test"}, NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-time.Hour)})
	open(t, s, Options{Name: "public", Pairs: []Pair{p}})
	s.Close() // from here on this test is the one that writes
	said := func() int { return strings.Count(text.String(), "has expired") }
	if said() != 1 {
		t.Fatalf("at the start: %s", text.String())
	}
	for midnight, days := time.Date(2030, 1, 1, 0, 17, 0, 0, time.Local), 3; days > 0; days-- { //nolint:gosmopolitan // it is about the hour here
		before := said()
		for hour := range 24 {
			s.warnAll(midnight.Add(time.Duration(hour) * time.Hour))
		}
		if n := said() - before; n != 1 {
			t.Errorf("in a day: %d times", n)
		}
		midnight = midnight.Add(day)
	}
}
