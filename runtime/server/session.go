package server

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
)

// Origin is where a client's connection comes from, and how.
type Origin struct {
	Conn        uint64         // the connection's id
	Peer, Local netip.AddrPort // the ends of the socket
	Scheme      string         // "http" or "https"
	Version     string         // of HTTP; "": each request says it itself
	TLS         *exchange.TLS  // nil: the connection is cleartext
	// Shown is the client's certificate and those that it sent with it, as crypto/tls has them; none: it has shown none.
	Shown []*x509.Certificate
}

// Session is one client connection, in whatever version of HTTP: who is there, and what it has asked so far. It belongs to a
// loop.
type Session struct {
	Origin
	server   *Server
	loop     *netloop.Loop
	requests uint64
	since    int64                // when it was accepted
	peer     []byte               // the peer's address as text
	proxied  *proxied             // what the PROXY protocol said; nil: nothing
	told     []*upstream.Upstream // that the client's address was told by the PROXY protocol
	trusts   *tls.Config          // by which Shown was verified last; nil: that is not known
}

// NewSession makes the session of a connection that brings requests on a loop. Close must be called on that loop when it is over.
func (srv *Server) NewSession(l *netloop.Loop, o Origin) *Session {
	s := srv.sessionOf(l, o)
	return &s
}

func (srv *Server) sessionOf(l *netloop.Loop, o Origin) Session {
	return Session{Origin: o, server: srv, loop: l, since: l.Now(), peer: o.Peer.Addr().AppendTo(nil)}
}

// Snapshot is the configuration that is in force.
func (s *Session) Snapshot() *Snapshot { return s.server.snapshot.Load() }

// Draining says whether the connection is to end soon, whatever it may be used for still.
func (s *Session) Draining() bool { return s.server.draining.Load() }

// Requests is how many it has brought so far.
func (s *Session) Requests() uint64 { return s.requests }

// Spent says whether the connection has carried as many requests, or is as old, as the configuration wants: it is to end when
// those under way have.
func (s *Session) Spent() bool {
	k := &s.Snapshot().KeepAlive
	return !k.Enabled || k.MaxRequests > 0 && s.requests >= k.MaxRequests || k.MaxAge > 0 && s.loop.Now()-s.since >= int64(k.MaxAge)
}

// Close ends the connections to upstreams that speak for the client.
func (s *Session) Close() {
	for _, u := range s.told {
		u.ClientGone(s.loop, s.client())
	}
	s.told = nil
}

// client is the other end, or whom the PROXY protocol says to be there.
func (s *Session) client() netip.AddrPort {
	if s.proxied != nil {
		return s.proxied.source
	}
	return s.Peer
}

// Serve serves one request, on a task of the session's loop. fill makes the request, which is empty; an error of it is answered
// as that of a head that is wrong. keep: the connection may carry another request, as far as client and configuration are
// concerned; if not, no further one is to begin on it.
func (s *Session) Serve(t *netloop.Task, side Side, fill func(*http1.Request) error) (keep bool) {
	w := s.server.take(t.Loop())
	w.renew(t, side)
	if err := fill(&w.x.Request); err != nil {
		s.reject(t, w, err)
	} else {
		keep = s.exchange(t, w) == kept
	}
	w.side = nil
	s.server.put(t.Loop(), w)
	return keep
}

// begin fills in what is known before the request is looked at.
func (s *Session) begin(t *netloop.Task, w *work, snap *Snapshot) {
	x, l := &w.x, t.Loop()
	w.snap = snap
	s.requests++
	x.Started, x.WallStarted, x.HeadRead = l.Now(), l.WallNow(), l.Now()
	c := &x.Client // every field of it
	c.Conn, c.Peer, c.Local, c.Line = s.Conn, s.Peer, s.Local, w
	c.Ordinal, c.Scheme, c.Version, c.TLS, c.Server = s.requests, s.Scheme, s.Version, s.TLS, snap.Name
	if c.Conn == 0 {
		c.Line = nil
	}
	if c.Version == "" {
		c.Version = exchange.VersionOf(&x.Request)
	}
	if p := s.proxied; p != nil {
		c.Peer, c.Local = p.source, p.destination
	}
	c.Addr = c.Peer.Addr()
	w.call.begin(x)
	if s.server.observers != nil {
		s.server.observers[l.Index()].Begin(x)
	}
}

// end reports the exchange.
func (s *Session) end(t *netloop.Task, w *work) {
	w.x.Ended = t.Loop().Tick()
	if s.server.observers != nil {
		s.server.observers[t.Loop().Index()].End(&w.x)
	}
}

// reject reports, and answers where there is an answer to it, what came instead of a request.
func (s *Session) reject(t *netloop.Task, w *work, err error) outcome {
	snap := s.Snapshot()
	snap.users.Enter(t.Loop())
	defer snap.users.Leave(t.Loop())
	s.begin(t, w, snap)
	o := s.refuse(t, w, err)
	s.end(t, w)
	return o
}

// exchange serves one request whose head was read.
func (s *Session) exchange(t *netloop.Task, w *work) outcome {
	snap, l := s.Snapshot(), t.Loop()
	snap.users.Enter(l)
	w.user = true
	defer w.unused(l, snap)
	s.begin(t, w, snap)
	o := s.handle(t, w, snap)
	w.uncode()
	w.leave(snap)
	snap.Filters.End(&w.x, 0)
	s.end(t, w)
	return o
}

// unused tells the snapshot, once, that the request does not need it any more.
func (w *work) unused(l *netloop.Loop, snap *Snapshot) {
	if w.user {
		w.user = false
		snap.users.Leave(l)
	}
}

// handle decides about the request, and has it forwarded or answers it.
func (s *Session) handle(t *netloop.Task, w *work, snap *Snapshot) outcome {
	w.asked = w.x.Request.Authority
	if err := s.admit(w, snap); err != nil {
		return s.refuse(t, w, err)
	}
	if s.challenge(t, w, snap) || snap.Redirect != 0 && w.redirect(snap.Redirect) {
		return s.respond(t, w, snap, nil)
	}
	f := &w.flight
	f.Client, f.BodyIdle, f.MaxBody = w.side, snap.BodyIdle, snap.MaxBody
	route, err := s.decide(t, w, snap)
	w.x.Routed = t.Loop().Now()
	switch {
	case err != nil:
		return s.refuse(t, w, err)
	case w.x.Local.Set:
		if err := w.showLocal(t); err != nil {
			return s.refuse(t, w, err)
		}
		return s.respond(t, w, snap, route)
	}
	return s.forward(t, w, snap, route)
}

// mayKeep says whether the connection may carry another request as far as client and configuration are concerned.
func (s *Session) mayKeep(w *work, snap *Snapshot) bool {
	k := &snap.KeepAlive
	return w.x.Request.KeepAlive && k.Enabled && (k.MaxRequests == 0 || s.requests < k.MaxRequests) &&
		(k.MaxAge == 0 || w.x.Task.Loop().Now()-s.since < int64(k.MaxAge)) && !s.Draining()
}

// stays is what an answer says of a connection that mayKeep.
func (s *Session) stays(k *KeepAlive) http1.KeepAlive {
	told := http1.KeepAlive{Timeout: k.IdleTimeout}
	if k.MaxRequests > s.requests {
		told.Max = k.MaxRequests - s.requests
	}
	return told
}
