package server

import (
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
)

// HTTP2 is how clients are spoken to in HTTP/2.
type HTTP2 struct {
	Enabled      bool
	Only         bool          // clients of HTTP/1 are not served
	MaxStreams   int           // requests of a connection at a time
	StreamWindow int           // bytes of a request's body that wait to be sent on
	ConnWindow   int           // and of all requests of a connection
	MaxNuisance  int           // frames in a second that move nothing forward
	PingInterval time.Duration // of silence while requests are under way, after which the client is asked whether it is there
	PingTimeout  time.Duration // for its answer
}

// options are those of a connection.
func (s *Snapshot) http2Options() http2.Options {
	h := &s.HTTP2
	return http2.Options{
		MaxStreams: h.MaxStreams, StreamWindow: h.StreamWindow, ConnWindow: h.ConnWindow, Nuisance: h.MaxNuisance,
		HeaderList: s.Limits.Head, Fields: s.Limits.Fields, KeepAlive: h.PingInterval, PingTimeout: h.PingTimeout,
		ExtendedConnect: true, WriteTimeout: s.BodyIdle, HeadTimeout: s.HeadTimeout, IdleTimeout: s.KeepAlive.IdleTimeout,
	}
}

// http2Session is a client connection that speaks HTTP/2: a task for each request.
type http2Session struct {
	Session
	conn *http2.Conn
}

var (
	_ http2.Handler = (*http2Session)(nil)
	_ carrier       = (*http2Session)(nil)
	_ Side          = (*http2.Request)(nil)
)

// toHTTP2 makes the connection one of HTTP/2, of which first was read. What the session knows of its client stays. The connection's
// Run is to be called.
func (s *http1Session) toHTTP2(first []byte) *http2Session {
	h := &http2Session{Session: s.Session}
	h.Version = exchange.HTTP2
	s.conn.Owner = h
	h.conn = s.server.http2.Accept(s.conn, s.stream, first, s.Snapshot().http2Options(), h)
	if h.Draining() {
		h.conn.Drain()
	}
	return h
}

// Serve is http2.Handler's.
func (s *http2Session) Serve(t *netloop.Task, r *http2.Request) {
	snap := s.Snapshot()
	if protocol := r.Protocol(); len(protocol) > 0 {
		s.extended(t, r, protocol)
	} else {
		s.Session.Serve(t, r, func(q *http1.Request) error { return r.Fill(q, snap.Limits) })
	}
	if s.Spent() {
		s.conn.Drain()
	}
}

// Closed is http2.Handler's.
func (s *http2Session) Closed() { s.Close() }

// drain is carrier's.
func (s *http2Session) drain(by *Server) {
	if s.server == by {
		s.conn.Drain()
	}
}

// preface says whether what a connection begins with is that of HTTP/2, or is to be; more: it may be, when more has come.
func (h *HTTP2) preface(b []byte) (is, more bool) {
	n := min(len(b), len(http2.Preface))
	if h.Only || !h.Enabled {
		return h.Only, false
	}
	if string(b[:n]) != http2.Preface[:n] {
		return false, false
	}
	return n == len(http2.Preface), n < len(http2.Preface)
}
