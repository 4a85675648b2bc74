package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
	"wasmgate/runtime/upstream/pool"
)

var tlsVersions = map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

// handshake puts TLS on the connection, verified against the target's host or the configured server name.
func (m *Member) handshake(t *netloop.Task, c *pool.Conn) *fault.Error {
	u := m.cluster.upstream.config.Load()
	l, cfg := t.Loop(), u.TLS
	if u.Secure != nil {
		cfg = u.Secure(t)
	}
	if cfg = cfg.Clone(); cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ClientSessionCache != nil {
		cfg.ClientSessionCache = &sessions{cfg.ClientSessionCache, m.Address.String()}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = m.target.serverName
	}
	f := &c.Facts
	f.TLS, f.ServerName, f.TLSStart = true, cfg.ServerName, l.WallNow()
	s := secure.Client(c.Net, cfg)
	if err := s.Handshake(t, deadline(l, u.Handshake)); err != nil {
		_ = c.Net.Close()
		e := &fault.Error{Kind: fault.TLS, Source: fault.Upstream, Status: 502, Retryable: true, Err: err, Detail: adviceOn(err)}
		if errors.Is(err, netloop.ErrDeadline) {
			e.Status, e.Detail = 504, "no TLS handshake within "+u.Handshake.String()+" (timeouts.tls_handshake)"
		}
		return e
	}
	state := s.State()
	f.TLSEnd, f.TLSVersion, f.ALPN = l.WallNow(), tlsVersions[state.Version], state.NegotiatedProtocol
	f.TLSSuite, f.TLSResumed = tls.CipherSuiteName(state.CipherSuite), state.DidResume
	c.Stream = s
	return nil
}

// adviceOn says what may be written in the config where a handshake failed for it.
func adviceOn(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.As(err, &authority):
		return "tls.ca names the authorities that are trusted; for a certificate that is its own, the file with it"
	case errors.As(err, &name):
		return "tls.server_name says which name is sent and verified"
	case errors.As(err, &record):
		return "the target does not speak TLS: write http:// for it"
	case strings.Contains(text, "no application protocol"):
		return "the target does not choose what `protocol` says: an HTTP/2 upstream must take h2 (ALPN)"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"):
		return "the target wants a client's certificate that it trusts: tls.cert and tls.key"
	case strings.Contains(text, "protocol version not supported"):
		return "tls.min_version says which versions are spoken"
	}
	return ""
}

// sessions are the part of an upstream's TLS sessions that one address can resume: servers of one name seldom know each other's.
type sessions struct {
	tls.ClientSessionCache
	address string
}

func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(s.address + " " + key)
}

func (s *sessions) Put(key string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put(s.address+" "+key, state)
}
