package gateway

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http3"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
)

// http3Settings are a listener's settings for HTTP/3; nil: it speaks none.
func http3Settings(l *config.Listener, common *server.Snapshot) *http3.Settings {
	h := &l.HTTP3
	if !h.Enabled {
		return nil
	}
	return &http3.Settings{
		HandshakeTimeout: l.TLS.HandshakeTimeout.Std(),
		Limits:           common.Limits, HeadTimeout: common.HeadTimeout, IdleTimeout: l.KeepAlive.IdleTimeout.Std(),
		MaxStreams: h.MaxStreams, StreamWindow: int(h.StreamWindow), ConnWindow: int(h.ConnectionWindow),
	}
}

// altSvc is what clients are told of a listener's HTTP/3, which is on this port; nil: it speaks none.
func altSvc(h *config.HTTP3, port uint16) *server.AltSvc {
	a := &server.AltSvc{}
	switch {
	case !h.Enabled:
		return nil
	case h.AltSvcMaxAge > 0:
		told := cmp.Or(h.AltSvcPort, int(port))
		a.Value = []byte(`h3=":` + strconv.Itoa(told) + `"; ma=` + strconv.FormatInt(int64(h.AltSvcMaxAge.Std()/time.Second), 10))
	}
	return a
}

// http3Conn serves the requests of a connection of HTTP/3.
type http3Conn struct {
	*server.Session
	quic *http3.Conn
	at   *observer // its loop's
	open int       // requests under way
}

var _ server.Side = (*http3.Stream)(nil)

// accept3 begins a connection's requests, on its loop.
func (g *Gateway) accept3(srv *server.Server, q *http3.Conn) http3.Handler {
	l, state := q.Loop(), q.TLS()
	c := &http3Conn{quic: q, at: g.observers[q.Loop().Index()]}
	c.Session = srv.NewSession(l, server.Origin{
		Conn: q.ID(), Peer: q.RemoteAddr(), Local: q.LocalAddr(), Scheme: "https", Version: exchange.HTTP3,
		TLS: srv.Secured(state, l.Now(), l.Now()), Shown: state.PeerCertificates,
	})
	c.at.quic[c] = struct{}{}
	return c
}

// Serve is http3.Handler's.
func (c *http3Conn) Serve(t *netloop.Task, s *http3.Stream) (keep bool) {
	c.open++
	defer func() { c.open-- }()
	c.Session.Serve(t, s, s.Fill) // what becomes of one request is nothing to the others
	return !c.Spent()
}

// Close is http3.Handler's.
func (c *http3Conn) Close() {
	delete(c.at.quic, c)
	c.Session.Close()
}

// openHTTP3 opens a listener's UDP socket beside its TCP socket, if it is to have one and has none.
func (g *Gateway) openHTTP3(l *listener, address string, b *blueprint) (opened bool, err error) {
	if b.http3 == nil || l.http3 != nil {
		return false, nil
	}
	if l.parting != nil { // it was turned off a moment ago
		ln := l.parting
		l.parting = nil
		if there, err := ln.Resume(); there {
			l.http3 = ln
			l.certs.Store(b.set)
			return err == nil, err
		}
		<-ln.Done()
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	l.certs.Store(b.set)
	srv, port := l.http, l.socket.Addr().Port()
	for _, other := range g.quic { // one that was removed a moment ago, and is here again: what is left of it gives way
		if at := l.socket.Addr(); !gone(other) && other.Addr() == netip.AddrPortFrom(at.Addr().Unmap(), port) {
			other.Close()
		}
	}
	ln, err := http3.Listen(net.JoinHostPort(host, strconv.Itoa(int(port))), http3.Options{
		Group: g.group, Settings: *b.http3,
		TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.certs.Load().Config(), nil }},
		Failed: func(f *http3.Failure) {
			srv.Unsecured(&server.HandshakeFailure{
				Origin: server.Origin{Conn: f.Conn, Peer: f.Peer, Local: f.Local, Scheme: "https", Version: exchange.HTTP3},
				Reason: handshakeResults[f.Why], ServerName: f.ServerName, Err: f.Err,
			})
		},
		Accept: func(c *http3.Conn) http3.Handler { return g.accept3(srv, c) },
	})
	if err != nil {
		return false, fmt.Errorf("udp: %w", err)
	}
	l.http3 = ln
	g.quic = append(slices.DeleteFunc(g.quic, gone), ln)
	g.log.Info().Str("listener", b.name).Str("mode", "http3").Stringer("address", ln.Addr()).Msg("listening")
	if size := ln.Buffers(); size.Small() {
		g.log.Warn().Str("listener", b.name).Int("receive", size.Receive).Int("send", size.Send).Int("wanted", size.Wanted).
			Msg("the kernel grants HTTP/3's socket small buffers: packets are lost when many come at once; allow more by sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000")
	}
	return true, nil
}

// handshakeResults are what failures of QUIC's handshakes are called. What TLS says is looked at closer.
var handshakeResults = [...]server.HandshakeResult{
	http3.WhyTLS: server.HandshakeFailed, http3.WhyAlert: server.HandshakeAlert, http3.WhyTimeout: server.HandshakeTimeout,
	http3.WhyClosed: server.HandshakeClosed, http3.WhyCrowded: server.HandshakeCrowded, http3.WhyProtocol: server.HandshakeFailed,
}

// useHTTP3 makes the listener follow a blueprint, as far as HTTP/3 goes.
func (l *listener) useHTTP3(b *blueprint) {
	switch {
	case l.http3 == nil:
	case b.http3 != nil:
		l.certs.Store(b.set)
		l.http3.Use(*b.http3)
	default:
		l.drainHTTP3()
	}
	l.http.Announce(altSvc(b.alternative, l.socket.Addr().Port()))
}

func (l *listener) drainHTTP3() {
	if l.http3 != nil {
		l.http3.Drain()
		l.http3, l.parting = nil, l.http3
	}
}

// gone says whether a listener that was drained has no connection any more.
func gone(ln *http3.Listener) bool {
	select {
	case <-ln.Done():
		return true
	default:
		return false
	}
}

// closeHTTP3 ends the connections of HTTP/3 while the loops still run, so that each request has its account.
func (g *Gateway) closeHTTP3() {
	for _, ln := range g.quic {
		ln.Close()
	}
}
