package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
)

// setTLS tells how a client's connection was secured.
func (s *span) setTLS(t *exchange.TLS) {
	if t == nil {
		return
	}
	s.setText(attrTLSVersion, t.Version)
	s.setText(attrTLSCipher, t.Cipher)
	s.setText(attrTLSALPN, t.ALPN)
	s.setText(attrTLSServerName, t.ServerName)
	s.set(attrTLSResumed.Bool(t.Resumed))
	if c := t.Peer; c != nil {
		s.setText(attrTLSSubject, c.Subject)
		s.setText(attrTLSIssuer, c.Issuer)
		s.setText(attrTLSHash, strings.ToUpper(c.SHA256)) // as the conventions want it
	}
}

// lineTLS writes how the client's connection was secured.
func lineTLS(e *zerolog.Event, t *exchange.TLS) {
	if t == nil {
		return
	}
	e.Str("tls_version", t.Version).Str("tls_cipher", t.Cipher).Bool("tls_resumed", t.Resumed)
	text(e, "tls_server_name", t.ServerName)
	if c := t.Peer; c != nil {
		e.Str("client_cert_subject", c.Subject).Str("client_cert_fingerprint", c.SHA256)
	}
}

// tlsText is a variable of formats that tells of the client's connection; nothing for cleartext.
func tlsText(of func(*exchange.TLS) string) *variable {
	return &variable{request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if x.Client.TLS == nil {
			return b
		}
		return appendText(b, of(x.Client.TLS))
	}}
}

// peerText is tlsText for the client's certificate.
func peerText(of func(*exchange.Certificate) string) *variable {
	return tlsText(func(t *exchange.TLS) string {
		if t.Peer == nil {
			return ""
		}
		return of(t.Peer)
	})
}

// ShownCertificate is a certificate that a listener shows.
type ShownCertificate struct {
	Listener, Name string // the first name that it is for
	NotAfter       time.Time
}

var (
	mHandshakes = metric{"wasmgate_tls_handshakes_total", counter, "TLS handshakes with clients, by how they ended; those that are resumed are done too."}
	mRetried    = metric{"wasmgate_quic_retries_total", counter, "First packets of clients of HTTP/3 that were answered with a Retry: prove your address first, for many handshakes are under way."}
	mExpiry     = metric{"wasmgate_certificate_expiry_seconds", gauge, "When a certificate of a listener expires, as Unix time."}
)

func (l *Live) secured(p *page) {
	p.head(mHandshakes)
	for _, name := range slices.Sorted(maps.Keys(l.Listeners)) {
		h := l.Listeners[name].Handshakes
		for _, result := range slices.Sorted(maps.Keys(h)) {
			p.count(h[result], "listener", name, "result", result)
		}
	}
	p.head(mRetried)
	for _, name := range slices.Sorted(maps.Keys(l.Listeners)) {
		if s := l.Listeners[name]; s.HTTP3 {
			p.count(s.Retried, "listener", name)
		}
	}
	p.head(mExpiry)
	slices.SortFunc(l.Shown, func(a, b ShownCertificate) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Name, b.Name), a.NotAfter.Compare(b.NotAfter))
	})
	for i, c := range l.Shown {
		if i > 0 && c.Listener == l.Shown[i-1].Listener && c.Name == l.Shown[i-1].Name {
			continue // of an ECDSA and an RSA certificate the one that ends first is told: the figure must be unique
		}
		p.value(float64(c.NotAfter.Unix()), "listener", c.Listener, "certificate", c.Name)
	}
}
