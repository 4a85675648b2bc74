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
	set, err := g.certificates(s, i, b.name)
	if err != nil {
		return wrongFiles(fmt.Sprintf("listeners[%d].tls", i), err)
	}
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

// certificates opens those of a listener, which are the state's.
func (g *Gateway) certificates(s *state, i int, name string) (*certs.Set, error) {
	if s.of != nil {
		return s.of.listeners[i].set, nil
	}
	l := &s.config.Listeners[i]
	o := secureOptions(name, l)
	if len(l.TLS.ACME) > 0 {
		o.Source, o.Ready = g.issued.source(l.TLS.ACME), true
	}
	set, err := g.certs.Open(o)
	if err == nil {
		s.certs = append(s.certs, set)
	}
	return set, err
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

// errUnknownName is what crypto/tls calls "no certificates configured".
var errUnknownName = errors.New("there is no certificate for the name that the client asks for")

// handshakeHelp says what may be written in the listener, where it is the config that may be wrong.
var handshakeHelp = map[server.HandshakeResult]string{
	server.HandshakeUnknownName:       "name a certificate for it in tls.certificates, or the name in tls.acme; one with default: true is for all others",
	server.HandshakeVersion:           "tls.min_version and tls.profile say which versions are spoken",
	server.HandshakeALPN:              "tls.alpn says what is offered; h2 needs http2.enabled",
	server.HandshakeClientCertificate: "tls.client_ca says whose certificates are taken, tls.client_auth whether there must be one",
}

// handshakeFailed makes what logs a listener's handshakes that failed: the first few in a second, since anybody can cause any
// number of them. What fails because a client went away says nothing.
func (g *Gateway) handshakeFailed(listener string) func(*server.HandshakeFailure) {
	log := g.log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	return func(f *server.HandshakeFailure) {
		if f.Reason == server.HandshakeClosed {
			return
		}
		err := f.Err
		if f.Reason == server.HandshakeUnknownName {
			err = errUnknownName
		}
		line := log.Info().Str("listener", listener).Stringer("peer", f.Peer).Str("server_name", f.ServerName).Stringer("reason", f.Reason).Err(err)
		if help := handshakeHelp[f.Reason]; help != "" {
			line.Str("help", help)
		}
		line.Msg("TLS handshake failed")
	}
}
