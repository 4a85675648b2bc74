package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"maps"
	"path"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	maxReads = 8   // challenges that are looked up in the folder at a time
	maxToken = 256 // bytes; those of Let's Encrypt have 43
)

// questions are the challenges that are open. Readers take no lock.
type questions struct {
	mu   sync.Mutex // of those who change it
	open atomic.Pointer[open]
}

// open is never changed.
type open struct {
	texts map[string]question         // of HTTP-01, by token
	certs map[string]*tls.Certificate // of TLS-ALPN-01, by name
}

// question is a challenge of HTTP-01, as it is stored too, for other processes that share the folder.
type question struct {
	Name  string `json:"name"`
	Token string `json:"token"`
	Text  string `json:"text"`
}

func (q *questions) load() open {
	if o := q.open.Load(); o != nil {
		return *o
	}
	return open{}
}

// change makes a copy, and has it changed.
func (q *questions) change(fn func(*open)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := q.load()
	o = open{maps.Clone(o.texts), maps.Clone(o.certs)}
	if o.texts == nil {
		o.texts = map[string]question{}
	}
	if o.certs == nil {
		o.certs = map[string]*tls.Certificate{}
	}
	fn(&o)
	q.open.Store(&o)
}

func (q *questions) certificate(name string) *tls.Certificate { return q.load().certs[name] }

// Answer is the text that an HTTP-01 challenge of this gateway's wants of a host, which is a name without a port, at
// /.well-known/acme-challenge/TOKEN. ok is false if there is none. It may be called on event loops.
func (m *Manager) Answer(host, token string) (text string, ok bool) {
	q, ok := m.questions.load().texts[token]
	if !ok || q.Name != canonical(host) {
		return "", false
	}
	return q.Text, true
}

// Shares says whether a challenge at a host may be that of another process, which Shared knows: where one address stands
// for several gateways that share a folder, the issuer reaches any of them. It may be called on event loops.
func (m *Manager) Shares(host string) bool { return m.o.HTTP01 && m.Has(canonical(host)) }

// Shared is Answer for a challenge that another process with the same folder has begun. It reads a file. Of too many at
// a time, those over the limit get none.
func (m *Manager) Shared(host, token string) (text string, ok bool) {
	host = canonical(host)
	if !m.Shares(host) || len(token) > maxToken {
		return "", false
	}
	select {
	case m.reads <- struct{}{}:
		defer func() { <-m.reads }()
	default:
		return "", false
	}
	b, err := m.folder.Load(m.ctx, m.questionKey(host))
	var q question
	if err != nil || json.Unmarshal(b, &q) != nil || q.Name != host || q.Token != token {
		return "", false
	}
	return q.Text, true
}

func (m *Manager) questionKey(name string) string {
	return path.Join(accountsOf(m.issuer.key), "challenge_tokens", certmagic.StorageKeys.Safe(name)+".json")
}

// texts answers HTTP-01.
type texts struct{ m *Manager }

// Present opens a challenge.
func (s texts) Present(ctx context.Context, c acme.Challenge) error {
	q := question{canonical(c.Identifier.Value), c.Token, c.KeyAuthorization}
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	if err := s.m.folder.Store(ctx, s.m.questionKey(q.Name), b); err != nil {
		return err
	}
	s.m.questions.change(func(o *open) { o.texts[q.Token] = q })
	return nil
}

// CleanUp closes it.
func (s texts) CleanUp(_ context.Context, c acme.Challenge) error {
	s.m.questions.change(func(o *open) { delete(o.texts, c.Token) })
	return s.m.folder.Delete(context.Background(), s.m.questionKey(canonical(c.Identifier.Value)))
}

// certs answers TLS-ALPN-01.
type certs struct{ m *Manager }

// Present opens a challenge.
func (s certs) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.m.questions.change(func(o *open) { o.certs[canonical(c.Identifier.Value)] = cert })
	return nil
}

// CleanUp closes it.
func (s certs) CleanUp(_ context.Context, c acme.Challenge) error {
	s.m.questions.change(func(o *open) { delete(o.certs, canonical(c.Identifier.Value)) })
	return nil
}
