package upstream

import (
	"crypto/tls"
	"errors"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
	"wasmgate/runtime/upstream/pool"
)

var tlsVersions = map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

// handshake puts TLS on the connection, verified against the target's host or the configured server name.
func (m *Member) handshake(t *netloop.Task, c *pool.Conn) *fault.Error {
	u := m.cluster.upstream.config.Load()
	l, cfg := t.Loop(), u.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = m.target.serverName
	}
	f := &c.Facts
	f.TLS, f.ServerName, f.TLSStart = true, cfg.ServerName, l.WallNow()
	s := secure.Client(c.Net, cfg)
	if err := s.Handshake(t, deadline(l, u.Handshake)); err != nil {
		_ = c.Net.Close()
		e := &fault.Error{Kind: fault.TLS, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
		if errors.Is(err, netloop.ErrDeadline) {
			e.Status, e.Detail = 504, "no TLS handshake within "+u.Handshake.String()+" (timeouts.tls_handshake)"
		}
		return e
	}
	state := s.State()
	f.TLSEnd, f.TLSVersion, f.ALPN = l.WallNow(), tlsVersions[state.Version], state.NegotiatedProtocol
	c.Stream = s
	return nil
}
