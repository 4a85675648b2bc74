package server

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
)

// Look is what is known of a client's connection at a moment.
type Look struct {
	HTTP2    bool
	TLS      *exchange.TLS // nil: the connection is cleartext, or its handshake is not over
	Requests uint64        // it has begun so far
	Streams  int           // of HTTP/2, open now
	Most     int           // and at a time, as the client was told
}

// LookAt says what is known of a connection that a client has opened; ok is false for one that brings no requests. It runs on the
// connection's loop.
func LookAt(c *netloop.Conn) (v Look, ok bool) {
	switch s := c.Owner.(type) {
	case *http1Session:
		return Look{TLS: s.TLS, Requests: s.requests}, true
	case *http2Session:
		return Look{HTTP2: true, TLS: s.TLS, Requests: s.requests, Streams: s.conn.Streams(), Most: s.conn.MaxStreams()}, true
	}
	return Look{}, false
}
