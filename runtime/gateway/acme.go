package gateway

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/certs/acme"
	"wasmgate/runtime/modules"
	"wasmgate/runtime/telemetry"
)

// issued are the certificates that are obtained by ACME. Its methods that listeners use may be called on event loops, and
// before there is a manager: then there are none.
type issued struct {
	manager  atomic.Pointer[acme.Manager]
	settings config.ACME // of the manager; guarded by the gateway's mu, as are the methods that change it
	closing  sync.WaitGroup
}

var errNoIssuer = errors.New("certificates are not obtained yet: the gateway is starting")

// source has the certificates for the names of one listener, and for issuers' challenges.
func (i *issued) source(names []string) certs.Source {
	own := map[string]bool{}
	for _, name := range names {
		own[name] = true
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		m := i.manager.Load()
		switch {
		case !acme.IsChallenge(hello) && !own[strings.ToLower(hello.ServerName)]:
			return nil, nil
		case m == nil:
			return nil, errNoIssuer
		}
		return m.GetCertificate(hello)
	}
}

// Answer implements server.Challenges.
func (i *issued) Answer(host, token string) (string, bool) {
	if m := i.manager.Load(); m != nil {
		return m.Answer(host, token)
	}
	return "", false
}

// Shares implements server.Challenges.
func (i *issued) Shares(host string) bool {
	m := i.manager.Load()
	return m != nil && m.Shares(host)
}

// Shared implements server.Challenges.
func (i *issued) Shared(host, token string) (string, bool) {
	if m := i.manager.Load(); m != nil {
		return m.Shared(host, token)
	}
	return "", false
}

// issuer makes the manager that a config wants, unless the one that is there will do; nil: none is wanted, or none anew.
func (g *Gateway) issuer(c *config.Config) (*acme.Manager, error) {
	if len(c.ACMENames()) == 0 || (g.issued.manager.Load() != nil && reflect.DeepEqual(g.issued.settings, c.ACME)) {
		return nil, nil
	}
	a := &c.ACME
	o := acme.Options{
		Directory: a.Directory, Email: a.Email, Agreed: a.Agree, Storage: a.Storage, KeyType: string(a.KeyType),
		HTTP01: slices.Contains(a.Challenges, config.ChallengeHTTP01), TLSALPN01: slices.Contains(a.Challenges, config.ChallengeTLSALPN01),
		Account: acme.ExternalAccount{KeyID: a.ExternalAccount.KeyID, MACKey: a.ExternalAccount.MACKey},
		Check:   a.CheckInterval.Std(), Window: float64(a.RenewWindow),
		Proxy: modules.Proxies(g.options.Env), Version: g.options.Build.Version, Log: g.log,
	}
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			return nil, fmt.Errorf("acme.ca: %w", err)
		}
		if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("acme.ca: %s has no certificates in PEM form", a.CA)
		}
	}
	if o.Storage == "" {
		data := cmp.Or(g.options.Env("XDG_DATA_HOME"), filepath.Join(g.options.Env("HOME"), ".local", "share"))
		if !filepath.IsAbs(data) {
			return nil, errors.New("acme.storage: name a folder: this user has no home")
		}
		o.Storage = filepath.Join(data, "wasmgate", "acme")
	}
	m, err := acme.New(o)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	return m, nil
}

// use puts a config in force, with the manager that issuer has made for it. What is stored is served when it returns.
func (i *issued) use(c *config.Config, fresh *acme.Manager) {
	names, old := c.ACMENames(), i.manager.Load()
	if fresh != nil {
		fresh.Use(names)
		i.settings = c.ACME
	}
	switch {
	case fresh != nil || len(names) == 0:
		i.manager.Store(fresh)
		if old != nil {
			i.closing.Go(old.Close)
		}
	case old != nil:
		old.Use(names)
	}
}

// close ends everything, and waits for it.
func (i *issued) close() {
	if m := i.manager.Load(); m != nil {
		m.Close()
	}
	i.closing.Wait()
}

// live tells telemetry about the certificates.
func (i *issued) live(l *telemetry.Live) {
	m := i.manager.Load()
	if m == nil {
		return
	}
	for _, s := range m.States() {
		l.Certificates[s.Name] = telemetry.CertificateStats{NotAfter: s.NotAfter, Obtained: s.Obtained, Renewed: s.Renewed, Failed: s.Failed, Next: s.Next}
	}
}
