// Package tcp serves listeners in TCP mode: it passes the bytes of a client connection to an upstream and back,
// untouched, whatever protocol they are.
//
// Which upstream that is can depend on the server name that a TLS client asks for: it is read from the ClientHello,
// which is passed on like everything else; TLS is not terminated. A hello that no server would accept is refused
// rather than sent to the default upstream, so that nobody is let in by being unreadable. What is not TLS goes to the
// default upstream.
//
// An idle session holds no task, no buffer and no pipe: two connections and what is known of the session. Bytes that
// come are passed on by a task for as long as there are any, spliced from socket to socket where that is worth it
// (netloop.Conn.SpliceTo). It reads no more than the other side takes, so a slow reader stops its writer. A session
// over TLS to the upstream is copied instead, and keeps a task and a buffer. So is one whose bytes pass through filters
// (Snapshot.Filters): plugins that see, change or refuse what is said. Those of the snapshot that was in force when the session
// chose its upstream go with it to its end.
//
// Ends are passed on as they are: an end of one side (FIN) ends the other's input and nothing else, and the session is
// over when both have ended. What ends in any other way is reset on both sides, since a clean end would say that all
// had arrived: a reset of one side, a timeout, the end of a drain, no upstream. What an upstream had sent before its
// reset still reaches the client, for up to a second.
//
// It uses the standard library alone, on top of package netloop: proxies that exist as libraries bring a goroutine for
// each direction.
package tcp

import (
	"sync/atomic"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
)

// Observer is told of every session. It runs on the session's loop and must not park; there is one for each loop.
type Observer interface {
	// SessionEnded is called once for each accepted connection. The session is not used again: it may be kept.
	SessionEnded(*exchange.Session)
}

// Server serves one listener. Its methods may be called from any goroutine unless they say otherwise.
type Server struct {
	group     *netloop.Group
	snapshot  atomic.Pointer[Snapshot]
	draining  atomic.Bool
	sessions  atomic.Int64
	observers []Observer
}

// New makes a server. observers has one Observer for each loop, or none.
func New(g *netloop.Group, s *Snapshot, observers []Observer) *Server {
	srv := &Server{group: g, observers: observers}
	srv.snapshot.Store(s)
	return srv
}

// Use makes s the configuration of sessions that choose their upstream from now on; those that have one go on. The old
// one is returned; see Snapshot.Retire.
func (srv *Server) Use(s *Snapshot) *Snapshot { return srv.snapshot.Swap(s) }

// Sessions is how many there are.
func (srv *Server) Sessions() int { return int(srv.sessions.Load()) }

// Ended says that the server is drained, and its last session over.
func (srv *Server) Ended() bool { return srv.draining.Load() && srv.sessions.Load() == 0 }

// Drain refuses new sessions and ends those that have no upstream yet; the others go on until they end, or Cut is
// called. It returns at once; Sessions and Group.Accepted tell when they are gone.
func (srv *Server) Drain() {
	srv.draining.Store(true)
	srv.each(func(s *session) {
		if s.waiting {
			s.finish(exchange.EndDrained, nil)
		}
	})
}

// Cut ends every session with a reset: it is for the end of a drain's time, and before Group.Close, which closes the
// connections without telling anybody why. It returns at once.
func (srv *Server) Cut() {
	srv.draining.Store(true)
	srv.each(func(s *session) { s.finish(exchange.EndDrained, nil) })
}

// each calls fn for every session, on its loop.
func (srv *Server) each(fn func(*session)) {
	for _, l := range srv.group.Loops() {
		l.Post(func() {
			l.Conns(func(c *netloop.Conn) {
				if d, ok := c.Owner.(*side); ok && d.session.server == srv && d == &d.session.client {
					fn(d.session)
				}
			})
		})
	}
}

// Accept takes a new connection; it is the listener's netloop.ListenOptions.Accept.
func (srv *Server) Accept(c *netloop.Conn) {
	l, snap := c.Loop(), srv.snapshot.Load()
	s := &session{server: srv}
	srv.sessions.Add(1)
	s.client.session, s.upstream.session = s, s
	s.client.conn, c.Owner = c, &s.client
	f := &s.facts
	f.Started, f.WallStarted = l.Now(), l.WallNow()
	f.Client = exchange.Client{
		Conn: c.ID(), Ordinal: 1, Peer: c.RemoteAddr(), Addr: c.RemoteAddr().Addr(), Local: c.LocalAddr(), Scheme: "tcp", Server: snap.Name,
	}
	switch {
	case srv.draining.Load():
		s.finish(exchange.EndDrained, nil)
	case snap.mustSpeak(f.Client.Addr):
		s.waiting = true
		if snap.HelloTimeout > 0 {
			c.SetReadDeadline(l.Now() + int64(snap.HelloTimeout))
		}
		c.OnEvent(onFirstBytes)
	default:
		c.Go(begin)
	}
}
