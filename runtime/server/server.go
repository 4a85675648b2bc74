// Package server is the keep-alive loop of one client connection: it reads a request, finds its route, lets the
// filters decide, has it forwarded or answers itself, writes the answer, and waits for the next.
//
// A connection that waits is idle in the sense of package netloop: it has no task, no buffer, nothing but its session.
// Every request is served by the configuration (Snapshot) that is in force when its head has been read, so a reload
// never cuts a connection; a snapshot is told when the last request that used it has ended.
package server

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/wire"
)

// Observer is told of every exchange. Its methods run on the loop and must not park; there is one for each loop.
type Observer interface {
	proxy.Observer
	Begin(*exchange.Exchange)   // the head was read; decides whether the exchange is sampled
	End(*exchange.Exchange)     // everything is over; the exchange is used again afterwards
	EndCall(*exchange.Exchange) // a request of a plugin's own is over
}

// Answerer is what an Observer may be too.
type Answerer interface {
	// Answer runs when the gateway itself is about to answer, and may set fields of the answer, which plugins have seen.
	Answer(*exchange.Exchange)
}

// Server serves one listener. Its methods may be called from any goroutine unless they say otherwise.
type Server struct {
	group     *netloop.Group
	snapshot  atomic.Pointer[Snapshot]
	loops     []loopState
	draining  atomic.Bool
	observers []Observer
}

// loopState is what a loop keeps for its requests: the storage of those that have ended.
type loopState struct {
	free []*work
	_    [40]byte
}

// work is the storage of one request in flight.
type work struct {
	x       exchange.Exchange
	flight  proxy.Flight
	in      wire.Reader
	request body.Body // as filters leave it
	answer  body.Body
	routing routing
	snap    *Snapshot // that the request is served by
	entered *Route    // whose filters have to do with the request
	// How many filters have let the request pass: those see an answer of our own too, as they would an upstream's. They are
	// the listener's and the route's.
	passed      struct{ listener, route int }
	ownUpstream bool   // the target's upstream is the route's, and no plugin's choice
	asFound     target // the request's, before the route rewrote it
	rewritten   target // and after; none if it did not
	options     proxy.Options
	asked       []byte // the authority that the client asked for; a view of x.Request
	out         []byte // the answer that is put together, while there is one; see compose
	watches     []*exchange.Watch
	onHangUp    func(*netloop.Conn) // hungUp, made once
	held        struct {            // see hold
		watch exchange.Watch
		on    bool
	}
	memory  wire.Scratch
	scratch []byte
	why     Witness // nil: nobody asks why, and the request is served; see Rehearse
	sent    *proxy.Rehearsal
}

// New makes a server. observers has one Observer for each loop, or none.
func New(g *netloop.Group, s *Snapshot, observers []Observer) *Server {
	srv := &Server{group: g, loops: make([]loopState, len(g.Loops())), observers: observers}
	srv.snapshot.Store(s)
	return srv
}

// Use makes s the configuration of requests from now on. The old one is returned; see Snapshot.Retire.
func (srv *Server) Use(s *Snapshot) *Snapshot { return srv.snapshot.Swap(s) }

// drainGrace is how long a connection may stay silent once the server drains: its client may have a request on the
// way, which is answered with Connection: close.
const drainGrace = time.Second

// Drain lets the connections end: every answer from now on says Connection: close, and connections that stay silent
// are closed. It returns at once; Group.Accepted tells when they are gone.
func (srv *Server) Drain() {
	srv.draining.Store(true)
	for _, l := range srv.group.Loops() {
		l.Post(func() {
			l.Conns(func(c *netloop.Conn) {
				if s, ok := c.Owner.(*session); ok && s.server == srv && s.idle {
					c.SetReadDeadline(l.Now() + int64(drainGrace))
				}
			})
		})
	}
}

// Accept takes a new connection; it is the listener's netloop.ListenOptions.Accept.
func (srv *Server) Accept(c *netloop.Conn) {
	s, snap := &session{server: srv, conn: c, since: c.Loop().Now()}, srv.snapshot.Load()
	peer := c.RemoteAddr().Addr()
	s.peer = peer.AppendTo(s.peer)
	s.awaitsProxy = contains(snap.AcceptProxy, peer)
	s.readable, s.run = s.onReadable, s.serve
	c.Owner = s
	s.wait(snap.HeadTimeout)
}

// session is one client connection.
type session struct {
	server   *Server
	conn     *netloop.Conn // nil: there is none, and what would be sent to it stays in work.out; see Rehearse
	requests uint64
	since    int64  // when it was accepted
	peer     []byte // the peer's address as text
	idle     bool

	awaitsProxy bool                 // a PROXY protocol header has to come first
	proxied     *proxied             // what it said; nil: nothing
	told        []*upstream.Upstream // that the client's address was told by the PROXY protocol
	readable    func(*netloop.Conn)  // onReadable and serve, made once so that waiting does not allocate
	run         func(*netloop.Task, *netloop.Conn)
}

// wait makes the connection idle until something arrives or d has passed.
func (s *session) wait(d time.Duration) {
	s.idle = true
	if s.server.draining.Load() && d > drainGrace {
		d = drainGrace
	}
	s.conn.SetReadDeadline(s.conn.Loop().Now() + int64(d))
	s.conn.OnEvent(s.readable)
}

func (s *session) onReadable(c *netloop.Conn) {
	if c.Quiet() { // its time is up
		s.close()
		return
	}
	s.idle = false
	c.Go(s.run)
}

func (srv *Server) take(l *netloop.Loop) *work {
	st := &srv.loops[l.Index()]
	if n := len(st.free); n > 0 {
		w := st.free[n-1]
		st.free = st.free[:n-1]
		return w
	}
	return &work{}
}

// put keeps w for the next request. Buffers that one large message has grown are not kept.
func (srv *Server) put(l *netloop.Loop, w *work) {
	const keep = 64 << 10
	if cap(w.x.Local.Body) > keep || len(srv.loops[l.Index()].free) > 4096 {
		return
	}
	st := &srv.loops[l.Index()]
	st.free = append(st.free, w)
}

// serve answers requests until the connection has nothing more to read, and then makes it idle.
func (s *session) serve(t *netloop.Task, c *netloop.Conn) {
	l := t.Loop()
	w := s.server.take(l)
	w.in.Open(c, l, s.server.snapshot.Load().Limits)
	keep := (!s.awaitsProxy || s.readProxy(t, w)) && s.requestsInBuffer(t, w)
	w.in.Close()
	w.composed(l)
	s.server.put(l, w)
	if !keep {
		s.close()
	}
}

// close ends the connection, and those to upstreams that speak for its client.
func (s *session) close() {
	_ = s.conn.Close()
	for _, u := range s.told {
		u.ClientGone(s.conn.Loop(), s.client())
	}
}

// client is the other end, or whom the PROXY protocol says to be there.
func (s *session) client() netip.AddrPort {
	if s.proxied != nil {
		return s.proxied.source
	}
	return s.conn.RemoteAddr()
}

// requestsInBuffer serves what is there. It says whether the connection stays: then it is idle.
func (s *session) requestsInBuffer(t *netloop.Task, w *work) bool {
	snap := s.server.snapshot.Load()
	for {
		ok, idle := s.readHead(t, w, snap)
		if idle {
			if s.requests == 0 { // behind the PROXY protocol header
				s.wait(snap.HeadTimeout)
			} else {
				s.wait(snap.KeepAlive.IdleTimeout)
			}
			return true
		}
		if !ok || !s.exchange(t, w) {
			return false
		}
		snap = s.server.snapshot.Load()
	}
}

// readHead reads the next head. idle: there is none, and nothing of one. Not ok: the connection is to be closed; a
// head that was wrong has been answered.
func (s *session) readHead(t *netloop.Task, w *work, snap *Snapshot) (ok, idle bool) {
	l := t.Loop()
	until := l.Now() + int64(snap.HeadTimeout)
	for begun := false; ; {
		if len(w.in.Buffered()) > 0 {
			if !begun {
				begun = true
				w.renew(t)
			}
			n, err := w.x.Request.Parse(w.in.Buffered(), snap.Limits)
			if err != nil {
				s.reject(t, w, fault.From(err))
				return false, false
			}
			if n > 0 {
				w.in.Consume(n)
				return true, false
			}
		}
		more, err := w.in.TryFill(s.conn)
		if err == nil && !more {
			if len(w.in.Buffered()) == 0 {
				return false, true
			}
			s.conn.SetReadDeadline(until)
			err = w.in.Fill(t)
		}
		if err != nil {
			if len(w.in.Buffered()) > 0 {
				s.reject(t, w, headReadError(err))
			}
			return false, false
		}
	}
}

// renew makes w ready for a request.
func (w *work) renew(t *netloop.Task) {
	w.x.Reset()
	w.x.Task, w.flight.X, w.asked = t, &w.x, nil
	w.entered, w.passed.listener, w.passed.route, w.ownUpstream, w.rewritten = nil, 0, 0, false, target{}
}

// reject reports, and answers where there is an answer to it, what came instead of a request.
func (s *session) reject(t *netloop.Task, w *work, err *fault.Error) {
	snap := s.server.snapshot.Load()
	snap.users.Enter(t.Loop())
	defer snap.users.Leave(t.Loop())
	s.begin(t, w, snap)
	s.refuse(t, w, err)
	s.end(t, w)
}

// begin fills in what is known before the request is looked at.
func (s *session) begin(t *netloop.Task, w *work, snap *Snapshot) {
	x, l := &w.x, t.Loop()
	w.snap = snap
	s.requests++
	x.Started, x.WallStarted, x.HeadRead = l.Now(), l.WallNow(), l.Now()
	c := &x.Client // every field of it
	c.Line = nil
	c.Ordinal, c.Scheme, c.Server = s.requests, "http", snap.Name
	if s.conn != nil {
		c.Conn, c.Peer, c.Local, c.Line = s.conn.ID(), s.conn.RemoteAddr(), s.conn.LocalAddr(), w
	}
	if p := s.proxied; p != nil {
		c.Peer, c.Local = p.source, p.destination
	}
	c.Addr = c.Peer.Addr()
	if s.server.observers != nil {
		s.server.observers[l.Index()].Begin(x)
	}
}

// end reports the exchange.
func (s *session) end(t *netloop.Task, w *work) {
	w.x.Ended = t.Loop().Tick()
	if s.server.observers != nil {
		s.server.observers[t.Loop().Index()].End(&w.x)
	}
}

// exchange serves one request whose head was read. It says whether the connection can carry another.
func (s *session) exchange(t *netloop.Task, w *work) bool {
	snap, l := s.server.snapshot.Load(), t.Loop()
	snap.users.Enter(l)
	defer snap.users.Leave(l)
	s.begin(t, w, snap)
	keep := s.handle(t, w, snap)
	w.composed(l)
	w.leave(snap)
	snap.Filters.End(&w.x, 0)
	s.end(t, w)
	return keep
}

// handle decides about the request, and has it forwarded or answers it.
func (s *session) handle(t *netloop.Task, w *work, snap *Snapshot) bool {
	w.asked = w.x.Request.Authority
	w.in.StartBody(w.x.Request.Framing, fault.Client)
	if err := s.admit(w, snap); err != nil {
		return s.refuse(t, w, err)
	}
	f := &w.flight
	f.Client, f.Conn, f.BodyIdle, f.MaxBody = &w.in, s.conn, snap.BodyIdle, snap.MaxBody
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
func (s *session) mayKeep(w *work, snap *Snapshot) bool {
	k := &snap.KeepAlive
	return w.x.Request.KeepAlive && k.Enabled && (k.MaxRequests == 0 || s.requests < k.MaxRequests) &&
		(k.MaxAge == 0 || w.x.Task.Loop().Now()-s.since < int64(k.MaxAge)) && !s.server.draining.Load()
}

// stays is what an answer says of a connection that mayKeep.
func (s *session) stays(k *KeepAlive) http1.KeepAlive {
	told := http1.KeepAlive{Timeout: k.IdleTimeout}
	if k.MaxRequests > s.requests {
		told.Max = k.MaxRequests - s.requests
	}
	return told
}

// Refusal is what a connection over the process's limit is told.
func Refusal() []byte {
	const body = "503 Service Unavailable: too many connections (limits.connections)\n"
	return []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" + body)
}
