package acme

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/rs/zerolog"
)

// LetsEncrypt and LetsEncryptStaging are the directories of Let's Encrypt. What the second one issues is trusted by nobody,
// and its limits are wide: it is for trying things out.
const (
	LetsEncrypt        = certmagic.LetsEncryptProductionCA
	LetsEncryptStaging = certmagic.LetsEncryptStagingCA
)

// The defaults of Options.
const (
	DefaultCheck = 10 * time.Minute
	DefaultRetry = 5 * time.Second
	// DefaultWindow is the part of a certificate's life in which it is renewed, unless the issuer suggests another time.
	DefaultWindow = certmagic.DefaultRenewalWindowRatio
)

// parallel is how many certificates are obtained at a time; further names wait.
const parallel = 4

const (
	writeTime = 50 * time.Millisecond // in which a certificate and its key are written
	stopTime  = 3 * time.Second       // that Close waits for the library
)

// Options say which issuer is asked, and how.
type Options struct {
	Directory string         // URL of the issuer's directory; empty: LetsEncrypt
	Roots     *x509.CertPool // whom the directory's own certificate must be from; nil: the system's
	Email     string         // of whom the issuer tells when something is wrong; may be empty
	Agreed    bool           // to the issuer's terms of service: without it New fails
	Account   ExternalAccount
	Storage   string // folder for keys, certificates and the account; it is made, and must be this user's alone
	KeyType   string // of certificates: p256 (default), p384, rsa2048 or rsa4096
	HTTP01    bool   // Answer is asked at port 80 of the names
	TLSALPN01 bool   // GetCertificate is asked at port 443 of the names

	Check  time.Duration // how often it is looked whether one is to be renewed; 0: DefaultCheck
	Window float64       // the part of its life, from the end, in which it is; 0: DefaultWindow
	// Retry is the wait after the first attempt to obtain one that failed because the issuer was not reached. It doubles up
	// to sixty times that. After an answer of the issuer's that says no, waits are longer, since issuers count those. 0:
	// DefaultRetry.
	Retry time.Duration

	Proxy   func(*http.Request) (*url.URL, error) // to the issuer; nil: none
	Version string                                // of the program, told to the issuer
	Log     zerolog.Logger
}

// ExternalAccount is an account with the issuer that was made by other means, which some issuers demand. Empty: none.
type ExternalAccount struct {
	KeyID  string
	MACKey string // base64url
}

// State is what is known of a name.
type State struct {
	Name                      string
	NotAfter                  time.Time // of the certificate that is served; zero: there is none
	Obtained, Renewed, Failed uint64
	Error                     string    // why the last attempt failed; empty if it did not
	Next                      time.Time // when the next attempt is, after one that failed; of a renewal: at the latest; zero: none is planned
}

// Manager has the certificates of a set of names. Its methods may be called from any goroutine; those that say so may be
// called on event loops too.
type Manager struct {
	o         Options
	log       zerolog.Logger
	folder    *folder
	issuer    *issuer
	cache     *certmagic.Cache
	magic     atomic.Pointer[certmagic.Config]
	questions questions
	reads     chan struct{} // full while as many challenges are looked up in the folder as may be
	slots     chan struct{} // full while parallel certificates are obtained
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup

	served atomic.Pointer[map[string]*name] // the map is never changed

	mu      sync.Mutex
	retired map[string]time.Time // names that were served, and until when one that was under way may come
	closed  bool
}

// name is one name of the configuration.
type name struct {
	text   string
	cancel context.CancelFunc              // ends the attempts to obtain one
	cert   atomic.Pointer[tls.Certificate] // nil: there is none yet; written while mu is held
	missed atomic.Int64                    // Unix time of the last line that said so

	mu    sync.Mutex
	state State
}

// New makes a manager that serves no names yet; see Use. The error says what is wrong with the options or the folder. The
// issuer is not asked anything.
func New(o Options) (*Manager, error) {
	o.Directory, o.KeyType = cmp.Or(o.Directory, LetsEncrypt), cmp.Or(o.KeyType, string(certmagic.P256))
	o.Check, o.Window, o.Retry = cmp.Or(o.Check, DefaultCheck), cmp.Or(o.Window, DefaultWindow), cmp.Or(o.Retry, DefaultRetry)
	if err := o.check(); err != nil {
		return nil, err
	}
	f, err := openFolder(o.Storage)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		o: o, log: o.Log, folder: f, reads: make(chan struct{}, maxReads), slots: make(chan struct{}, parallel), retired: map[string]time.Time{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.served.Store(&map[string]*name{})
	m.issuer = newIssuer(m)
	logger := zapTo(o.Log)
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic.Load(), nil },
		RenewCheckInterval: o.Check, Logger: logger,
	})
	m.magic.Store(certmagic.New(m.cache, certmagic.Config{
		RenewalWindowRatio: o.Window, Issuers: []certmagic.Issuer{m.issuer}, KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.KeyType(o.KeyType)},
		Storage: f, Logger: logger, OnEvent: m.event,
		OCSP: certmagic.OCSPConfig{HTTPProxy: m.proxy}, // having one, it has a time limit too
	}))
	m.work.Go(m.tend)
	return m, nil
}

func (o *Options) check() error {
	u, err := url.Parse(o.Directory)
	switch {
	case err != nil:
		return fmt.Errorf("the directory: %w", err)
	case u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("the directory %s is no https:// URL", o.Directory)
	case !o.Agreed:
		return errors.New("the issuer's terms of service are not agreed to")
	case !o.HTTP01 && !o.TLSALPN01:
		return errors.New("no kind of challenge may be answered: one of http-01 and tls-alpn-01 is needed")
	case !slices.Contains([]certmagic.KeyType{certmagic.P256, certmagic.P384, certmagic.RSA2048, certmagic.RSA4096}, certmagic.KeyType(o.KeyType)):
		return fmt.Errorf("keys of type %s are not known", o.KeyType)
	}
	return nil
}

func (m *Manager) proxy(r *http.Request) (*url.URL, error) {
	if err := m.ctx.Err(); err != nil {
		return nil, err // questions about revocations have no context
	}
	if m.o.Proxy == nil {
		return nil, nil
	}
	return m.o.Proxy(r)
}

// Use makes the names, in lower case, those that certificates are had for. Those that are stored are served when it
// returns; the others are obtained in the background. Names that are not among them any more are not served: what is
// stored of them stays. It reads files.
func (m *Manager) Use(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	old, now := *m.served.Load(), map[string]*name{}
	var fresh []*name
	for _, text := range names {
		switch {
		case now[text] != nil:
		case old[text] != nil:
			now[text] = old[text]
		default:
			n := &name{text: text, state: State{Name: text}}
			now[text], fresh = n, append(fresh, n)
			delete(m.retired, text)
			n.cert.Store(m.stored(text)) // nobody else knows it yet
		}
	}
	m.served.Store(&now)
	for text, n := range old {
		if now[text] == nil {
			n.cancel()
			m.retired[text] = time.Now().Add(obtainTimeout)
			m.forget(text)
		}
	}
	for _, n := range fresh {
		var ctx context.Context
		ctx, n.cancel = context.WithCancel(m.ctx)
		m.work.Go(func() { m.have(ctx, n) })
	}
}

// stored is the certificate of a name in the folder; nil if there is none that can be used.
func (m *Manager) stored(text string) *tls.Certificate {
	cert, err := m.folder.certificate(m.issuer.key, text)
	for tries := 0; errors.Is(err, errBroken) && tries < 3; tries++ { // somebody may be writing it
		select {
		case <-m.ctx.Done():
		case <-time.After(writeTime):
		}
		cert, err = m.folder.certificate(m.issuer.key, text)
	}
	switch {
	case errors.Is(err, errBroken): // mend says so
	case err != nil:
		m.log.Error().Err(err).Str("name", text).Msg("a stored certificate cannot be read")
	case cert != nil && time.Now().After(cert.Leaf.NotAfter):
		m.log.Warn().Str("name", text).Time("not_after", cert.Leaf.NotAfter).Msg("the stored certificate has expired: it is served until it is renewed, and clients refuse it")
	}
	return cert
}

// forget has the library renew nothing for a name any more.
func (m *Manager) forget(text string) {
	m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: text}})
}

// Names are those that certificates are had for.
func (m *Manager) Names() []string { return slices.Sorted(maps.Keys(*m.served.Load())) }

// States are what is known of each name, in their order.
func (m *Manager) States() []State {
	served := *m.served.Load()
	list := make([]State, 0, len(served))
	for _, text := range slices.Sorted(maps.Keys(served)) {
		n := served[text]
		n.mu.Lock()
		s := n.state
		n.mu.Unlock()
		if c := n.cert.Load(); c != nil {
			s.NotAfter = c.Leaf.NotAfter
		}
		list = append(list, s)
	}
	return list
}

// Close ends what is under way, and returns when all of it has ended; but a question about a revocation that nobody answers
// is not waited for longer than a few seconds. A second call does nothing.
func (m *Manager) Close() {
	m.mu.Lock()
	was := m.closed
	m.closed = true
	m.mu.Unlock()
	if was {
		return
	}
	m.cancel()
	stopped := make(chan struct{})
	go func() {
		m.cache.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopTime):
	}
	m.work.Wait()
	m.issuer.close()
	m.folder.close()
}

// tend follows the library: a staple is new, or another process that shares the folder has renewed a certificate.
func (m *Manager) tend() {
	tick := time.NewTicker(m.o.Check)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range *m.served.Load() {
			m.publish(n)
			if err := m.mend(m.ctx, n); err != nil {
				m.log.Error().Err(err).Str("name", n.text).Msg("what is stored of a certificate is broken, and cannot be moved away")
			}
		}
		m.sweep()
	}
}

// sweep forgets names again whose renewal was under way when they went.
func (m *Manager) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for text, until := range m.retired {
		m.forget(text)
		if time.Now().After(until) {
			delete(m.retired, text)
		}
	}
}

// publish serves the newest certificate that the library has of a name.
func (m *Manager) publish(n *name) {
	var newest *tls.Certificate
	for _, c := range m.cache.AllMatchingCertificates(n.text) {
		if newest == nil || c.Leaf.NotBefore.After(newest.Leaf.NotBefore) {
			newest = &c.Certificate
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.cert.Load()
	if newest == nil || (was != nil && newest.Leaf.NotBefore.Before(was.Leaf.NotBefore)) {
		return
	}
	if was == nil || !bytes.Equal(was.Certificate[0], newest.Certificate[0]) || !bytes.Equal(was.OCSPStaple, newest.OCSPStaple) {
		n.cert.Store(newest)
	}
}

// named is a name of the configuration; nil: it is none.
func (m *Manager) named(text string) *name { return (*m.served.Load())[text] }

// canonical is a server name as names of the configuration are written.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
