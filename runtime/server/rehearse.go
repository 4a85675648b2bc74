package server

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/netip"

	"wasmgate/runtime/compress"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
)

// Witness is told how a request is decided, while that happens. Its methods run on the loop and must not park.
type Witness interface {
	Round(x *exchange.Exchange) // the routes are asked: for the first time, or since a plugin has sent the request back to them
	// Tried says that the routes were asked from a number on, and which was the first that matched; -1: none.
	Tried(r *http1.Request, from, matched int)
}

// Asked is a request that nobody has sent.
type Asked struct {
	Bytes         []byte               // as they would come from the client: head and body
	Client, Local netip.AddrPort       // who asks, and where
	Cleartext     bool                 // where TLS is spoken, the client does not
	TLS           *tls.ConnectionState // what was agreed on; nil: nothing is known of it
}

// Rehearsal is what would come of a request. Its parts are valid until Asked is rehearsed again.
type Rehearsal struct {
	Exchange *exchange.Exchange // as the request goes on, or is answered
	Upstream *Upstream          // that it would be given to; nil: to none
	Flight   *proxy.Flight      // with the rules in force for it
	Sent     *proxy.Rehearsal   // what the upstream would get; nil: nothing
	Answer   []byte             // what the client would get of the gateway itself; empty: nothing
	Head     int                // so many bytes of Answer are the head
	Accepts  compress.Accepted  // what the client takes, where routes compress
	Keep     bool               // the client's connection could carry another request after the answer
}

// Rehearse serves a request up to the moment in which a connection of its upstream would be acquired, or its answer written.
// It is the code that serves requests, with why told the reasons: filters are asked, and do what they do. Nothing is
// sent, and neither snap nor its upstreams are changed. The observer is told of the beginning of the request, of the attempt
// and of an answer, as Server's are, but not of an end; nil: nobody is.
func Rehearse(t *netloop.Task, snap *Snapshot, o Observer, asked *Asked, why Witness) *Rehearsal {
	l := t.Loop()
	srv := New(l.Group(), snap, nil)
	if o != nil {
		srv.observers = make([]Observer, len(l.Group().Loops()))
		srv.observers[l.Index()] = o
	}
	s := srv.NewSession(l, Origin{Peer: asked.Client, Local: asked.Local, Scheme: "http"})
	if snap.TLS != nil && !asked.Cleartext {
		s.Scheme = "https"
	}
	if asked.TLS != nil {
		s.Shown = asked.TLS.PeerCertificates
		if s.TLS = srv.Secured(*asked.TLS, l.Now(), l.Now()); s.TLS.ALPN == "h2" {
			s.Version = exchange.HTTP2
		}
	}
	w := &work{why: why}
	r := &Rehearsal{Exchange: &w.x, Flight: &w.flight}
	side := &w.http1
	side.open(nil, &unsent{asked.Bytes}, l, snap.Limits)
	w.renew(t, side)
	var err *fault.Error
	if snap.TLS != nil && asked.Cleartext {
		err = cleartext()
	} else {
		err = w.readUnsent(t, snap)
	}
	s.begin(t, w, snap)
	if err != nil {
		r.Keep = s.refuse(t, w, err) == kept
	} else {
		side.begin(w.x.Request.Framing)
		r.Keep = s.handle(t, w, snap) == kept
	}
	if r.Sent = w.sent; w.flight.Upstream != nil {
		r.Upstream = &snap.Upstreams[w.x.Target.Upstream]
	}
	if r.Answer = side.out; len(r.Answer) > 0 {
		r.Head = bytes.Index(r.Answer, []byte("\r\n\r\n")) + 4
	}
	if w.coding != nil {
		r.Accepts = w.coding.accepts
	}
	w.uncode()
	w.leave(snap)
	snap.Filters.End(&w.x, 0)
	side.in.Close()
	return r
}

// rehearse is forward without an upstream.
func (s *Session) rehearse(t *netloop.Task, w *work) outcome {
	var err *fault.Error
	if w.sent, err = w.flight.Rehearse(t); err != nil {
		return s.refuse(t, w, err)
	}
	return kept
}

// readUnsent reads the head.
func (w *work) readUnsent(t *netloop.Task, snap *Snapshot) *fault.Error {
	for {
		n, err := w.x.Request.Parse(w.http1.in.Buffered(), snap.Limits)
		if err != nil {
			return fault.From(err)
		}
		if n > 0 {
			w.http1.in.Consume(n)
			return nil
		}
		if err := w.http1.in.Fill(t); err != nil {
			return headReadError(err)
		}
	}
}

// unsent is a request as a stream. It does not park.
type unsent struct{ left []byte }

// Read is wire.Stream's.
func (u *unsent) Read(_ *netloop.Task, b []byte) (int, error) {
	if len(u.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, u.left)
	u.left = u.left[n:]
	return n, nil
}

// Write is wire.Stream's.
func (*unsent) Write(_ *netloop.Task, b []byte) (int, error) { return len(b), nil }
