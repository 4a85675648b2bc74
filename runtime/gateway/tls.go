package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/server"
)

// secured completes a listener's snapshot with how it speaks TLS, and with what all listeners do because one of them does. What
// it opens is the state's.
func (g *Gateway) secured(s *state, i int, b *blueprint, snap *server.Snapshot) error {
	l := &s.config.Listeners[i]
	for j := range s.config.Listeners {
		if t := s.config.Listeners[j].TLS; t != nil {
			for _, name := range t.ClientHeaders.All() {
				snap.Identity = append(snap.Identity, []byte(name))
			}
		}
	}
	if l.RedirectHTTPS {
		snap.Redirect = l.RedirectPort
	}
	if l.TLS == nil {
		return nil
	}
	o := secureOptions(b.name, l)
	if len(l.TLS.ACME) > 0 {
		o.Source, o.Ready = g.issued.source(l.TLS.ACME), true
	}
	set, err := g.certs.Open(o)
	if err != nil {
		return wrongFiles(fmt.Sprintf("listeners[%d].tls", i), err)
	}
	s.certs = append(s.certs, set)
	h := &l.TLS.ClientHeaders
	snap.TLS = &server.TLS{
		Config: set.Config, HandshakeTimeout: l.TLS.HandshakeTimeout.Std(),
		ClientAuth: l.TLS.ClientAuth != config.ClientAuthOff, RequireClient: l.TLS.ClientAuth == config.ClientAuthRequire,
		Headers: server.ClientHeaders{
			Subject: []byte(h.Subject), Issuer: []byte(h.Issuer), Serial: []byte(h.Serial), Names: []byte(h.Names),
			Fingerprint: []byte(h.Fingerprint), Certificate: []byte(h.Certificate), Forwarded: []byte(h.Forwarded),
		},
		Failed: g.handshakeFailed(b.name),
	}
	b.set = set
	return nil
}

func secureOptions(name string, l *config.Listener) certs.Options {
	t := l.TLS
	o := certs.Options{
		Name: name, MinVersion: tls.VersionTLS12, Tickets: t.SessionTickets, Staple: t.OCSPStapling, ClientCA: t.ClientCA,
	}
	if t.MinVersion == config.TLS13 {
		o.MinVersion = tls.VersionTLS13
	}
	for _, p := range t.ALPN {
		if p == config.ALPNHTTP2 && l.HTTP2.Enabled || p == config.ALPNHTTP11 && !l.HTTP2.Only {
			o.Protocols = append(o.Protocols, string(p))
		}
	}
	switch t.ClientAuth {
	case config.ClientAuthRequest:
		o.ClientAuth = tls.VerifyClientCertIfGiven
	case config.ClientAuthRequire:
		o.ClientAuth = tls.RequireAndVerifyClientCert
	}
	for _, c := range t.Certificates {
		o.Pairs = append(o.Pairs, certs.Pair{Cert: c.Cert, Key: c.Key, Names: c.Names, Default: c.Default})
	}
	return o
}

// wrongFiles tells of files that are of no use at the places of the config that name them.
func wrongFiles(path string, err error) error {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for i, one := range list {
		var e *certs.Error
		if !errors.As(one, &e) {
			continue
		}
		at := path + "." + e.Key
		if e.Pair >= 0 {
			at = fmt.Sprintf("%s.certificates[%d].%s", path, e.Pair, e.Key)
		}
		list[i] = &Remark{Path: at, Message: e.Error(), Help: e.Help, Wrong: true, Err: one}
	}
	return errors.Join(list...)
}

// handshakeFailed makes what logs a listener's handshakes that failed: the first few in a second, since anybody can cause any
// number of them. What fails because a client went away says nothing.
func (g *Gateway) handshakeFailed(listener string) func(*server.HandshakeFailure) {
	log := g.log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	return func(f *server.HandshakeFailure) {
		if f.Reason == server.HandshakeClosed {
			return
		}
		log.Info().Str("listener", listener).Stringer("peer", f.Peer).Str("server_name", f.ServerName).Stringer("reason", f.Reason).Err(f.Err).Msg("TLS handshake failed")
	}
}
