// Package server serves the requests of clients' connections: it finds a request's route, lets the filters decide, has it
// forwarded or answers it itself, and writes the answer.
//
// What serves a request sees the client as a Side, and neither knows nor cares which version of HTTP that speaks:
//
//	http1Session (a connection, one request after the other) ─┐
//	another connection (NewSession, a task for each request) ─┴─ Session: admit → decide → forward → relay ─► Side
//
// A connection of HTTP/1 that waits is idle in the sense of package netloop: it has no task, no buffer, nothing but its session.
// Every request is served by the configuration (Snapshot) that is in force when its head has been read, so a reload
// never cuts a connection; a snapshot is told when the last request that used it has ended.
package server

import (
	"strconv"
	"sync/atomic"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
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
	http2     *http2.Server

	handshakes handshakes // with clients, by how they ended
	altSvc     atomic.Pointer[AltSvc]
}

// loopState is what a loop keeps for its requests: the storage of those that have ended, tunnels, and the TLS handshakes under
// way, the oldest first.
type loopState struct {
	free       []*work
	arriving   []*arrival
	handshakes int
	tunnels    []*tunnel
	sweep      *netloop.Timer // of tunnels, while there are some
	swept      int            // how far
	_          [40]byte
}

// work is the storage of one request in flight.
type work struct {
	x       exchange.Exchange
	flight  proxy.Flight
	side    Side
	http1   http1Side // side, of a connection of HTTP/1
	http2   bool      // the connection turned out to be one of HTTP/2
	request body.Body // as filters leave it
	answer  body.Body
	routing routing
	snap    *Snapshot // that the request is served by
	user    bool      // of snap
	entered *Route    // whose filters have to do with the request
	// How many filters have let the request pass: those see an answer of our own too, as they would an upstream's. They are
	// the listener's and the route's.
	passed      struct{ listener, route int }
	ownUpstream bool   // the target's upstream is the route's, and no plugin's choice
	asFound     target // the request's, before the route rewrote it
	rewritten   target // and after; none if it did not
	options     proxy.Options
	asked       []byte // the authority that the client asked for; a view of x.Request
	watches     []*exchange.Watch
	onGone      func()   // gone, made once
	held        struct { // see hold
		watch exchange.Watch
		on    bool
		grace *netloop.Timer // until the flight ends; nil: the client is there
	}
	coding  *coding // nil: there was no use for it
	call    call
	scratch []byte
	why     Witness // nil: nobody asks why, and the request is served; see Rehearse
	sent    *proxy.Rehearsal
}

// New makes a server. observers has one Observer for each loop, or none.
func New(g *netloop.Group, s *Snapshot, observers []Observer) *Server {
	srv := &Server{group: g, loops: make([]loopState, len(g.Loops())), observers: observers, http2: http2.NewServer(g)}
	srv.snapshot.Store(s)
	return srv
}

// Use makes s the configuration of requests from now on. The old one is returned; see Snapshot.Retire.
func (srv *Server) Use(s *Snapshot) *Snapshot { return srv.snapshot.Swap(s) }

// drainGrace is how long a connection may stay silent once the server drains: its client may have a request on the
// way, which is answered with Connection: close.
const drainGrace = time.Second

// carrier is the owner of a connection that brings requests.
type carrier interface {
	drain(by *Server) // lets the connection end soon, if it is that server's
}

// Drain lets the connections end: every answer from now on says Connection: close, and connections that stay silent
// are closed. It returns at once; Group.Accepted tells when they are gone.
func (srv *Server) Drain() {
	srv.draining.Store(true)
	for _, l := range srv.group.Loops() {
		l.Post(func() {
			l.Conns(func(c *netloop.Conn) {
				if o, ok := c.Owner.(carrier); ok {
					o.drain(srv)
				}
			})
			srv.drainTunnels(l)
		})
	}
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

// renew makes w ready for a request.
func (w *work) renew(t *netloop.Task, side Side) {
	w.x.Reset()
	w.x.Task, w.flight.X, w.side, w.asked = t, &w.x, side, nil
	w.entered, w.passed.listener, w.passed.route, w.ownUpstream, w.rewritten = nil, 0, 0, false, target{}
}

// Refusal is what a connection over the process's limit is told.
func Refusal() []byte {
	const body = "503 Service Unavailable: too many connections (limits.connections)\n"
	return []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" + body)
}
