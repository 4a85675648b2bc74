package certs

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Flaw is something about a certificate for which clients refuse it, now or soon, though it can be shown.
type Flaw struct {
	Pair    int // its place in Options.Pairs
	Message string
	Help    string // what to do
}

const (
	// soonExpired is how long before its end a certificate is worth a warning; of one with a short life it is the last third.
	soonExpired = 14 * 24 * time.Hour
	weakRSA     = 2048 // bits; keys that are shorter are weak
	weakECDSA   = 256
)

// Flaws are those of the certificates in use.
func (s *Set) Flaws() (list []Flaw) {
	now := time.Now()
	for i, p := range s.index.Load().pairs {
		for _, f := range p.flaws(now, s.options.Staple) {
			f.Pair = i
			list = append(list, f)
		}
	}
	return list
}

// flaws are those of a certificate. staples: OCSP is asked.
func (p *pair) flaws(now time.Time, staples bool) (list []Flaw) {
	say := func(message, help string) { list = append(list, Flaw{Message: message, Help: help}) }
	leaf := p.cert.Leaf
	switch left := leaf.NotAfter.Sub(now); {
	case now.Before(leaf.NotBefore):
		say("the certificate is not valid before "+when(leaf.NotBefore), "look at the clock of this machine, or use one that is valid now")
	case left <= 0:
		say("the certificate has expired at "+when(leaf.NotAfter), "renew it: clients refuse it")
	case left < soonExpired && left < leaf.NotAfter.Sub(leaf.NotBefore)/3:
		say("the certificate expires at "+when(leaf.NotAfter), "renew it; the new file is used as soon as it is there")
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < weakRSA {
			say(fmt.Sprintf("its key is weak: RSA with %d bits", n), fmt.Sprintf("make a key on P-256, or of RSA with %d bits or more, and have a certificate issued for it", weakRSA))
		}
	case *ecdsa.PublicKey:
		if n := key.Curve.Params().BitSize; n < weakECDSA {
			say(fmt.Sprintf("its key is weak: ECDSA with %d bits", n), "make a key on P-256, and have a certificate issued for it")
		}
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		say("it is signed with "+leaf.SignatureAlgorithm.String()+", which clients do not take", "have it issued anew")
	}
	if use := leaf.ExtKeyUsage; len(use) > 0 && !slices.Contains(use, x509.ExtKeyUsageServerAuth) && !slices.Contains(use, x509.ExtKeyUsageAny) {
		say("the certificate is not for servers: its extended key usage has no serverAuth", "use one that was issued for a server")
	}
	if foreign := p.foreign(); len(foreign) > 0 {
		say("the certificate is to be shown for "+strings.Join(foreign, ", ")+", and is not for that", "take it out of `names`, or use a certificate that has it as a subject alternative name")
	}
	if p.mustStaple() && !staples {
		say("the certificate demands a staple (must-staple), and there is none", "say `ocsp_stapling: true`")
	}
	return list
}

// foreign are the names that the certificate is to be shown for and that clients do not take it for.
func (p *pair) foreign() (list []string) {
	for _, name := range p.names {
		if _, below, is := strings.Cut(name, "*."); is {
			if !slices.Contains(namesOf(p.cert.Leaf), "*."+below) {
				list = append(list, name)
			}
		} else if p.cert.Leaf.VerifyHostname(name) != nil {
			list = append(list, name)
		}
	}
	return list
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// warn logs what is wrong with a certificate.
func (s *Set) warn(p *pair, now time.Time) {
	for _, f := range p.flaws(now, s.options.Staple) {
		s.store.log.Warn().Str("listener", s.options.Name).Str("cert", p.from.Cert).Time("not_after", p.cert.Leaf.NotAfter).Str("help", f.Help).Msg(f.Message)
	}
}

// warnHour is the hour of the day at which certificates that clients refuse, or will soon, are spoken of again.
const warnHour = 9

// warnAll says once a day which certificates clients refuse, now or soon. It is called every hour.
func (s *Store) warnAll(now time.Time) {
	if now.Hour() != warnHour {
		return
	}
	for _, set := range s.open() {
		for _, p := range set.index.Load().pairs {
			set.warn(p, now)
		}
	}
}

// Names are the server names and addresses that the certificates are shown for, by their place in Options.Pairs.
func (s *Set) Names() [][]string {
	var list [][]string
	for _, p := range s.index.Load().pairs {
		list = append(list, slices.Clone(p.names))
	}
	return list
}
