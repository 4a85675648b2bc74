package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
)

// TLS is how a listener speaks TLS with its clients.
type TLS struct {
	Config           func() *tls.Config // for a connection that begins now; called on loops
	HandshakeTimeout time.Duration      // from the connection to the end of the handshake
	// ClientAuth says that clients are asked for certificates, and RequireClient that they must have shown one. Then a request is
	// served only for the server name that the connection was made for.
	ClientAuth, RequireClient bool
	Headers                   ClientHeaders
	Failed                    func(*HandshakeFailure) // told of those that failed; called from any goroutine; may be nil
}

// HandshakeFailure is a handshake that did not end well.
type HandshakeFailure struct {
	Origin
	Reason     HandshakeResult
	ServerName string // that the client has asked for, as far as is known
	Err        error
}

// HandshakeResult is how a handshake ended.
type HandshakeResult uint8

// How handshakes end.
const (
	HandshakeDone HandshakeResult = iota
	HandshakeResumed
	HandshakeTimeout           // it was not over in time
	HandshakeClosed            // the client went away
	HandshakeNotTLS            // what came was no TLS
	HandshakeVersion           // no version of TLS, or suite, that both speak
	HandshakeALPN              // no protocol that both speak
	HandshakeUnknownName       // there is no certificate for the server name
	HandshakeClientCertificate // the client has shown none, or one that is not good
	HandshakeAlert             // the client has ended it: it does not trust our certificate, as a rule
	HandshakeCrowded           // it was the oldest of too many
	HandshakeFailed            // anything else: the client breaks the protocol, a certificate could not be had
	handshakeResults
)

// String is the result as metrics and logs have it.
func (r HandshakeResult) String() string {
	return [...]string{
		"done", "resumed", "timeout", "closed", "not_tls", "version", "alpn", "unknown_name", "client_certificate", "alert", "crowded", "failed",
	}[r]
}

// Handshakes are how many handshakes of a server ended how, by HandshakeResult.
type Handshakes [handshakeResults]uint64

// Handshakes counts since the server began. It may be called from any goroutine.
func (srv *Server) Handshakes() (h Handshakes) {
	for i := range h {
		h[i] = srv.handshakes[i].Load()
	}
	return h
}

type handshakes [handshakeResults]atomic.Uint64

// arrival is a connection whose handshake is not over. Until its hello is there, it has no task, and no TLS: any number of
// them is cheap.
type arrival struct {
	session *http1Session
	tls     *TLS
	until   int64
	ahead   []byte // what has come of the hello
	over    bool
	crowded bool
}

// maxHandshakes is how many handshakes may be under way on a loop at once. Further ones push out the one that has taken
// longest: whoever answers within a round trip or two stays, however many others do not.
const maxHandshakes = 1000

// arrive waits for the hello of a client.
func (s *http1Session) arrive(t *TLS) {
	s.arrival = &arrival{session: s, tls: t, until: s.loop.Now() + int64(t.HandshakeTimeout)}
	s.idle = true
	s.conn.SetReadDeadline(s.arrival.until)
	s.conn.OnEvent(s.readable)
}

// heard takes what has come of the hello. It says whether that is whole, or none at all: then it is worth a task.
func (s *http1Session) heard() bool {
	a, b := s.arrival, s.loop.Buffer()
	defer s.loop.Recycle(b)
	for {
		n, err := s.conn.TryRead(b)
		if err != nil {
			s.unsafe(a, "", err)
			s.close()
			return false
		}
		if n == 0 {
			s.idle = true
			s.conn.OnEvent(s.readable)
			return false
		}
		if a.ahead = append(a.ahead, b[:n]...); a.ahead[0] != recordHandshake || secure.HelloRest(a.ahead) == 0 {
			return true
		}
	}
}

// challengeProtocol is negotiated with issuers of certificates that look whose a name is.
const challengeProtocol = "acme-tls/1"

const recordHandshake = 22 // the type of the record that TLS begins with

// negotiate does the handshake. It says whether the connection is ready for requests of HTTP/1; for those of HTTP/2 it says so in w.
func (s *http1Session) negotiate(t *netloop.Task, w *work) bool {
	a, in := s.arrival, &w.http1.in
	a.ahead = append(a.ahead, in.Buffered()...) // behind a PROXY protocol header
	in.Consume(len(in.Buffered()))
	if len(a.ahead) > 0 && a.ahead[0] != recordHandshake {
		s.notTLS(t, w, a)
		return false
	}
	t.SetPatient(true) // much is to be computed, and others may arrive in crowds
	t.Yield()
	if s.conn.Closed() {
		return false
	}
	cfg := a.tls.Config()
	c := secure.Server(s.conn, cfg, a.ahead)
	a.ahead = nil
	began := t.Loop().Now()
	s.server.enter(t.Loop(), a)
	err := c.Handshake(t, a.until)
	s.server.leave(t.Loop(), a)
	t.SetPatient(false)
	if err != nil {
		s.unsafe(a, c.State().ServerName, err)
		return false
	}
	s.arrival, s.waited = nil, never
	state := c.State()
	s.stream, s.Scheme, s.TLS = c, "https", s.server.Secured(state, began, t.Loop().Tick())
	s.Shown, s.trusts = state.PeerCertificates, cfg
	if s.TLS.ALPN == challengeProtocol {
		return false // the handshake was all that was asked for (RFC 8737, 3)
	}
	w.http1.close()
	w.http1.open(s.conn, c, s.loop, s.Snapshot().Limits)
	w.http2 = s.TLS.ALPN == "h2"
	return !w.http2
}

// notTLS ends a connection that does not speak TLS. Who speaks HTTP is told.
func (s *http1Session) notTLS(t *netloop.Task, w *work, a *arrival) {
	s.unsafe(a, "", errNotTLS)
	if c := a.ahead[0]; c < 'A' || c > 'Z' {
		return
	}
	w.renew(t, &w.http1)
	s.finish(t, w, s.reject(t, w, cleartext()))
}

var errNotTLS = errors.New("the client does not speak TLS")

func cleartext() *fault.Error {
	return fault.New(fault.Malformed, fault.Client, 400, "this port speaks TLS: ask it by https")
}

// enter counts a handshake that begins, and makes room for it.
func (srv *Server) enter(l *netloop.Loop, a *arrival) {
	st := &srv.loops[l.Index()]
	if st.handshakes++; st.handshakes > maxHandshakes {
		for i, old := range st.arriving {
			if !old.over && !old.crowded {
				old.crowded = true
				_ = old.session.conn.Close()
				st.arriving = st.arriving[i:]
				break
			}
		}
	}
	if len(st.arriving) >= 2*maxHandshakes { // most of them are over
		n := 0
		for _, old := range st.arriving {
			if !old.over && !old.crowded {
				st.arriving[n] = old
				n++
			}
		}
		clear(st.arriving[n:])
		st.arriving = st.arriving[:n]
	}
	st.arriving = append(st.arriving, a)
}

func (srv *Server) leave(l *netloop.Loop, a *arrival) {
	a.over = true
	st := &srv.loops[l.Index()]
	if st.handshakes--; st.handshakes == 0 {
		clear(st.arriving)
		st.arriving = st.arriving[:0]
	}
}

// unsafe counts a handshake that failed, and reports it.
func (s *http1Session) unsafe(a *arrival, name string, err error) {
	r := ResultOf(err)
	if a.crowded {
		r = HandshakeCrowded
	}
	s.server.handshakes[r].Add(1)
	if a.tls.Failed != nil {
		o := s.Origin
		o.Peer = s.client()
		a.tls.Failed(&HandshakeFailure{o, r, name, err})
	}
}

// Unsecured counts a handshake that was done elsewhere, and failed, and reports it. HandshakeFailed has it looked at what the error
// says. It may be called from any goroutine.
func (srv *Server) Unsecured(f *HandshakeFailure) {
	if f.Reason == HandshakeFailed {
		f.Reason = ResultOf(f.Err)
	}
	srv.handshakes[f.Reason].Add(1)
	if t := srv.snapshot.Load().TLS; t != nil && t.Failed != nil {
		t.Failed(f)
	}
}

// refusals are crypto/tls's texts for what has no type of its own.
var refusals = []struct {
	text string
	is   HandshakeResult
}{
	{"tls: no certificates configured", HandshakeUnknownName},
	{"unsupported application protocols", HandshakeALPN},
	{"unsupported versions", HandshakeVersion},
	{"no cipher suite supported", HandshakeVersion},
	{"no ECDHE curve supported", HandshakeVersion},
	{"peer doesn't support any of the certificate's signature algorithms", HandshakeVersion},
	{"client didn't provide a certificate", HandshakeClientCertificate},
	{"failed to verify certificate", HandshakeClientCertificate},
	{"first record does not look like a TLS handshake", HandshakeNotTLS},
	{"unsupported SSLv2 handshake", HandshakeVersion},
}

// ResultOf says how a handshake ended whose error is not nil.
func ResultOf(err error) HandshakeResult {
	var op *net.OpError
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.Is(err, netloop.ErrDeadline):
		return HandshakeTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, netloop.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return HandshakeClosed
	case errors.Is(err, errNotTLS):
		return HandshakeNotTLS
	case errors.As(err, &unknown):
		return HandshakeClientCertificate
	case errors.As(err, &op) && op.Op == "remote error":
		return HandshakeAlert
	}
	for _, r := range refusals {
		if strings.Contains(err.Error(), r.text) {
			return r.is
		}
	}
	return HandshakeFailed
}

// Secured counts a handshake that is over, and returns what there is to know of its connection. It may be called from any
// goroutine.
func (srv *Server) Secured(state tls.ConnectionState, began, ended int64) *exchange.TLS {
	srv.handshakes[HandshakeDone].Add(1)
	if state.DidResume {
		srv.handshakes[HandshakeResumed].Add(1)
	}
	f := &exchange.TLS{
		Version: versions[state.Version], Cipher: tls.CipherSuiteName(state.CipherSuite), ALPN: state.NegotiatedProtocol,
		ServerName: strings.ToLower(state.ServerName), Resumed: state.DidResume, Began: began, Ended: ended,
	}
	if len(state.PeerCertificates) > 0 {
		f.Peer = identityOf(state.PeerCertificates[0])
	}
	return f
}

var versions = map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

// acceptable says whether a request may come on a connection that is secured like this one. Connections outlive
// configurations: what a listener demands now may be more than when the connection was made, and then it ends.
func (s *Session) acceptable(w *work, snap *Snapshot) *fault.Error {
	t := snap.TLS
	if t == nil || w.why != nil && s.TLS == nil { // nothing has come on a connection
		return nil
	}
	x := &w.x
	switch {
	case s.TLS == nil:
		x.Request.KeepAlive = false
		return fault.New(fault.Denied, fault.Client, 421, "this port speaks TLS by now: connect anew")
	case t.RequireClient && s.TLS.Peer == nil:
		x.Request.KeepAlive = false
		return fault.New(fault.Denied, fault.Client, 421, "clients need a certificate by now: connect anew")
	case t.ClientAuth && !s.trusted(t):
		x.Request.KeepAlive = false
		return fault.New(fault.Denied, fault.Client, 421, "the client's certificate is of no authority that is trusted by now: connect anew")
	case t.ClientAuth && !servedBy(s.TLS.ServerName, x.Request.Authority):
		return fault.New(fault.Denied, fault.Client, 421, "the connection was made for another server name: connect anew")
	}
	return nil
}

// trusted says whether what the client has shown, if anything, is of the authorities that clients must be of now: a connection
// must not outlive the trust in whoever made it. A certificate is verified again only after the authorities have changed.
func (s *Session) trusted(t *TLS) bool {
	if s.TLS.Peer == nil {
		return true
	}
	now := t.Config()
	if now == s.trusts {
		return true
	}
	if len(s.Shown) == 0 || now.ClientCAs == nil {
		return false
	}
	if was := s.trusts; was == nil || !now.ClientCAs.Equal(was.ClientCAs) {
		between := x509.NewCertPool()
		for _, c := range s.Shown[1:] {
			between.AddCert(c)
		}
		o := x509.VerifyOptions{Roots: now.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := s.Shown[0].Verify(o); err != nil {
			return false
		}
	}
	s.trusts = now
	return true
}
