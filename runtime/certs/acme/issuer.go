package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	obtainTimeout = 5 * time.Minute // for one order, from the first question to the certificate
	orders        = 10              // at most that many are begun in ordersIn
	ordersIn      = 10 * time.Second
)

// issuer obtains certificates from an ACME directory. It is certmagic's Issuer.
type issuer struct {
	m       *Manager
	key     string // what certmagic files by it are kept under
	client  *acmez.Client
	http    *web
	limiter *certmagic.RingBufferRateLimiter

	mu      sync.Mutex // held while the account is looked for or registered
	account *acme.Account
}

func newIssuer(m *Manager) *issuer {
	i := &issuer{m: m, http: newWeb(&m.o, m.proxy), limiter: certmagic.NewRateLimiter(orders, ordersIn)}
	i.key = (&certmagic.ACMEIssuer{CA: m.o.Directory}).IssuerKey()
	solvers := map[string]acmez.Solver{}
	if m.o.HTTP01 {
		solvers[acme.ChallengeTypeHTTP01] = texts{m}
	}
	if m.o.TLSALPN01 {
		solvers[acme.ChallengeTypeTLSALPN01] = certs{m}
	}
	i.client = &acmez.Client{ChallengeSolvers: solvers, Client: &acme.Client{
		Directory: m.o.Directory, HTTPClient: i.http.client, UserAgent: "wasmgate/" + m.o.Version, PollTimeout: obtainTimeout, Logger: slogTo(m.log),
	}}
	return i
}

func (i *issuer) close() {
	i.limiter.Stop()
	i.http.close()
}

// IssuerKey implements certmagic.Issuer.
func (i *issuer) IssuerKey() string { return i.key }

// bounded is a context that ends with the manager too.
func (i *issuer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, obtainTimeout)
	stop := context.AfterFunc(i.m.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	ctx, cancel := i.bounded(ctx)
	defer cancel()
	if err := i.limiter.Wait(ctx); err != nil {
		return nil, err
	}
	chains, err := i.order(ctx, csr)
	if p := (acme.Problem{}); errors.As(err, &p) && p.Type == acme.ProblemTypeAccountDoesNotExist {
		if err = i.dropAccount(ctx); err == nil {
			chains, err = i.order(ctx, csr)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the issuer gave no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

// order obtains the chains for a request.
func (i *issuer) order(ctx context.Context, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	account, err := i.who(ctx)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	if len(csr.DNSNames) == 1 {
		params.Replaces = i.replaced(ctx, csr.DNSNames[0], account.Location)
	}
	chains, err := i.client.ObtainCertificate(ctx, params)
	if p := (acme.Problem{}); params.Replaces != nil && errors.As(err, &p) && p.Type == acme.ProblemTypeMalformed {
		params.Replaces = nil // the issuer knows nothing of the old one any more
		chains, err = i.client.ObtainCertificate(ctx, params)
	}
	return chains, err
}

// replaced is the certificate that the next one of a name takes the place of, which issuers want to be told (RFC 9773, 5):
// the same account's.
func (i *issuer) replaced(ctx context.Context, name, account string) *x509.Certificate {
	b, err := i.m.folder.Load(ctx, certmagic.StorageKeys.SiteMeta(i.key, name))
	var of certmagic.CertificateResource
	var meta acme.Certificate
	if err != nil || json.Unmarshal(b, &of) != nil || json.Unmarshal(of.IssuerData, &meta) != nil || meta.CA != i.m.o.Directory || meta.Account != account {
		return nil
	}
	cert, err := i.m.folder.certificate(i.key, name)
	if err != nil || cert == nil {
		return nil
	}
	return cert.Leaf
}

// GetRenewalInfo implements certmagic.RenewalInfoGetter: when the issuer would like a certificate to be renewed.
func (i *issuer) GetRenewalInfo(ctx context.Context, cert certmagic.Certificate) (acme.RenewalInfo, error) {
	ctx, cancel := i.bounded(ctx)
	defer cancel()
	return i.client.GetRenewalInfo(ctx, cert.Leaf)
}

// accountsOf is where certmagic keeps what is an issuer's and no certificate.
func accountsOf(issuer string) string {
	return path.Join("acme", certmagic.StorageKeys.Safe(issuer))
}

// accountKey is where the account is kept; .json and .key follow.
func (i *issuer) accountKey() string {
	who := "default"
	if i.m.o.Email != "" {
		who = certmagic.StorageKeys.Safe(i.m.o.Email)
	}
	return path.Join(accountsOf(i.key), "users", who, "account")
}

// who is the account, which is registered if there is none.
func (i *issuer) who(ctx context.Context) (acme.Account, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.account != nil {
		return *i.account, nil
	}
	lock := "register_" + i.accountKey()
	if err := i.m.folder.Lock(ctx, lock); err != nil {
		return acme.Account{}, err
	}
	defer func() { _ = i.m.folder.Unlock(ctx, lock) }()
	account, err := i.loadAccount(ctx)
	if err != nil {
		return acme.Account{}, err
	}
	if account == nil {
		if account, err = i.register(ctx); err != nil {
			return acme.Account{}, fmt.Errorf("registering an account: %w", err)
		}
	}
	i.account = account
	return *account, nil
}

// loadAccount reads the account that is stored; nil: there is none that can be used.
func (i *issuer) loadAccount(ctx context.Context) (*acme.Account, error) {
	about, err := i.m.folder.Load(ctx, i.accountKey()+".json")
	var key []byte
	if err == nil {
		key, err = i.m.folder.Load(ctx, i.accountKey()+".key")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the stored account: %w", err)
	}
	var a acme.Account
	if err = json.Unmarshal(about, &a); err == nil {
		a.PrivateKey, err = certmagic.PEMDecodePrivateKey(key)
	}
	if err == nil && a.Location == "" {
		err = errors.New("it has no address")
	}
	if err == nil {
		return &a, nil
	}
	kept, moved := i.m.folder.aside(path.Dir(i.accountKey()))
	i.m.log.Warn().Err(err).Str("kept", kept).Msg("the stored account with the issuer is broken: another one is registered")
	return nil, moved
}

// register makes an account with the issuer, and stores it.
func (i *issuer) register(ctx context.Context) (*acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := acme.Account{PrivateKey: key, TermsOfServiceAgreed: i.m.o.Agreed}
	if i.m.o.Email != "" {
		a.Contact = []string{"mailto:" + i.m.o.Email}
	}
	if e := i.m.o.Account; e.KeyID != "" {
		if err := a.SetExternalAccountBinding(ctx, i.client.Client, acme.EAB{KeyID: e.KeyID, MACKey: e.MACKey}); err != nil {
			return nil, err
		}
	}
	if a, err = i.client.NewAccount(ctx, a); err != nil {
		return nil, err
	}
	about, err := json.MarshalIndent(a, "", "\t")
	if err != nil {
		return nil, err
	}
	secret, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := i.m.folder.Store(ctx, i.accountKey()+".key", secret); err != nil {
		return nil, err
	}
	if err := i.m.folder.Store(ctx, i.accountKey()+".json", about); err != nil {
		return nil, err
	}
	i.m.log.Info().Str("directory", i.m.o.Directory).Str("account", a.Location).Msg("an account with the issuer was registered")
	return &a, nil
}

// dropAccount forgets an account that the issuer does not know any more.
func (i *issuer) dropAccount(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.m.log.Warn().Str("directory", i.m.o.Directory).Msg("the issuer does not know the stored account: another one is registered")
	i.account = nil
	return i.m.folder.Delete(ctx, path.Dir(i.accountKey()))
}
