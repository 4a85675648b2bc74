package server

import (
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
	"wasmgate/runtime/wire"
)

// http1Session is a client connection that speaks HTTP/1: requests one after the other.
type http1Session struct {
	Session
	conn    *netloop.Conn
	stream  wire.Waiter // conn, or TLS on top of it
	arrival *arrival    // TLS is to be negotiated; nil: it was, or there is none
	idle    bool
	waited  uint64 // how many requests there had been when it was waited for the next one; or never

	awaitsProxy bool                // a PROXY protocol header has to come first
	readable    func(*netloop.Conn) // onReadable and serve, made once so that waiting does not allocate
	run         func(*netloop.Task, *netloop.Conn)
}

const never = ^uint64(0)

// Accept takes a new connection; it is the listener's netloop.ListenOptions.Accept.
func (srv *Server) Accept(c *netloop.Conn) {
	snap := srv.snapshot.Load()
	s := &http1Session{
		Session: srv.sessionOf(c.Loop(), Origin{Conn: c.ID(), Peer: c.RemoteAddr(), Local: c.LocalAddr(), Scheme: "http"}),
		conn:    c, stream: c, waited: never, awaitsProxy: contains(snap.AcceptProxy, c.RemoteAddr().Addr()),
	}
	s.readable, s.run = s.onReadable, s.serve
	c.Owner = s
	if snap.TLS != nil {
		s.arrive(snap.TLS)
		return
	}
	s.wait(snap.HeadTimeout)
}

// wait makes the connection idle until something arrives or d has passed. What turns out to be no request yet, as half of a
// TLS record is none, gains no time.
func (s *http1Session) wait(d time.Duration) {
	if s.idle = true; s.requests != s.waited {
		if s.Draining() && d > drainGrace {
			d = drainGrace
		}
		s.waited = s.requests
		s.conn.SetReadDeadline(s.loop.Now() + int64(d))
	}
	s.conn.OnEvent(s.readable)
}

// drain is carrier's.
func (s *http1Session) drain(by *Server) {
	if s.server == by && s.idle {
		s.conn.SetReadDeadline(s.loop.Now() + int64(drainGrace))
	}
}

func (s *http1Session) onReadable(c *netloop.Conn) {
	if c.Quiet() { // its time is up
		if s.arrival != nil {
			s.unsafe(s.arrival, "", netloop.ErrDeadline)
		}
		s.close()
		return
	}
	s.idle = false
	if s.arrival != nil && !s.awaitsProxy && !s.heard() {
		return
	}
	c.Go(s.run)
}

// close ends the connection.
func (s *http1Session) close() {
	if tls, is := s.stream.(*secure.Conn); is {
		_ = tls.Close()
	}
	_ = s.conn.Close()
	s.Close()
}

// serve answers requests until the connection has nothing more to read, and then makes it idle.
func (s *http1Session) serve(t *netloop.Task, c *netloop.Conn) {
	l := t.Loop()
	w := s.server.take(l)
	w.http1.open(c, s.stream, l, s.Snapshot().Limits)
	keep := (!s.awaitsProxy || s.readProxy(t, w)) && (s.arrival == nil || s.negotiate(t, w)) && s.requestsInBuffer(t, w)
	var h2 *http2Session
	if w.http2 {
		h2, keep, w.http2 = s.toHTTP2(w.http1.in.Buffered()), true, false
	}
	w.http1.close()
	s.server.put(l, w)
	switch {
	case h2 != nil:
		h2.conn.Run(t)
	case !keep:
		s.close()
	}
}

// requestsInBuffer serves what is there. It says whether the connection stays: then it is idle.
func (s *http1Session) requestsInBuffer(t *netloop.Task, w *work) bool {
	for {
		snap := s.Snapshot()
		ok, idle := s.readHead(t, w, snap)
		if idle {
			if s.requests == 0 { // behind the PROXY protocol header
				s.wait(snap.HeadTimeout)
			} else {
				s.wait(snap.KeepAlive.IdleTimeout)
			}
			return true
		}
		if !ok {
			return false
		}
		w.http1.begin(w.x.Request.Framing)
		if o := s.exchange(t, w); o != kept {
			s.finish(t, w, o)
			return false
		}
		w.http1.sent()
	}
}

// readHead reads the next head. idle: there is none, and nothing of one. Not ok: the connection is to be closed; a
// head that was wrong has been answered.
func (s *http1Session) readHead(t *netloop.Task, w *work, snap *Snapshot) (ok, idle bool) {
	l, in := t.Loop(), &w.http1.in
	until := l.Now() + int64(snap.HeadTimeout)
	for begun := false; ; {
		h2, more := false, false
		if s.requests == 0 && len(in.Buffered()) > 0 {
			h2, more = snap.HTTP2.preface(in.Buffered())
		}
		if h2 {
			w.http2 = true
			return false, false
		}
		if len(in.Buffered()) > 0 && !more {
			if !begun {
				begun = true
				w.renew(t, &w.http1)
			}
			n, err := w.x.Request.Parse(in.Buffered(), snap.Limits)
			if err != nil {
				s.finish(t, w, s.reject(t, w, fault.From(err)))
				return false, false
			}
			if n > 0 {
				in.Consume(n)
				return true, false
			}
		}
		more, err := in.TryFill(s.stream)
		if err == nil && !more {
			if len(in.Buffered()) == 0 {
				return false, true
			}
			s.conn.SetReadDeadline(until)
			err = in.Fill(t)
		}
		if err != nil {
			if len(in.Buffered()) > 0 {
				if !begun {
					w.renew(t, &w.http1)
				}
				s.finish(t, w, s.reject(t, w, headReadError(err)))
			}
			return false, false
		}
	}
}

// finish sees to it that the last answer arrives: closing a socket with unread bytes resets it, and the reset may overtake
// the answer. So our side ends, and what comes is read for a moment.
func (s *http1Session) finish(t *netloop.Task, w *work, o outcome) {
	const most, patience = 1 << 20, int64(time.Second)
	s.conn.SetWriteDeadline(t.Loop().Now() + patience)
	if o == broken || w.http1.closeWrite(t) != nil {
		return
	}
	w.http1.sent()
	in := &w.http1.in
	s.conn.SetReadDeadline(t.Loop().Now() + patience)
	for read := 0; read < most; {
		in.Consume(len(in.Buffered()))
		if in.Fill(t) != nil {
			return
		}
		read += len(in.Buffered())
	}
}
