package server

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxyproto"
)

// proxied is whose connection it is, by the PROXY protocol header of a load balancer in front: everything that asks who
// the client is, rules about trust included, is about these addresses then, and no longer about the balancer's.
type proxied struct{ source, destination netip.AddrPort }

// readProxy reads the header that must come first. It has to be there before HeadTimeout is over, counted from the
// beginning of the connection. Not ok: the connection is to be closed, without an answer, since nothing is known of who
// would read it.
func (s *http1Session) readProxy(t *netloop.Task, w *work) (ok bool) {
	snap := s.server.snapshot.Load()
	s.conn.SetReadDeadline(s.since + int64(snap.HeadTimeout))
	for {
		h, n, fe := proxyproto.Parse(w.http1.in.Buffered())
		if n > 0 {
			w.http1.in.Consume(n)
			s.introduce(&h)
			return true
		}
		if fe == nil {
			err := w.http1.in.Fill(t)
			if err == nil {
				continue
			}
			if len(w.http1.in.Buffered()) == 0 { // a balancer's check whether somebody listens
				return false
			}
			fe = proxyReadError(err, snap.HeadTimeout)
		}
		w.renew(t, &w.http1)
		s.finish(t, w, s.reject(t, w, fe))
		return false
	}
}

func (s *http1Session) introduce(h *proxyproto.Header) {
	s.awaitsProxy, s.waited = false, never
	if h.Local {
		return
	}
	s.proxied = &proxied{h.Source, h.Destination}
	s.peer = h.Source.Addr().AppendTo(s.peer[:0])
}

func proxyReadError(err error, limit time.Duration) *fault.Error {
	switch {
	case errors.Is(err, netloop.ErrDeadline):
		return fault.New(fault.ClientTimeout, fault.Client, 0, "the PROXY protocol header was not whole within %v (limits.head_timeout)", limit)
	case errors.Is(err, io.EOF):
		return fault.New(fault.ClientClosed, fault.Client, 0, "closed before the PROXY protocol header was whole")
	}
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
}
