package server

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// AltSvc is what the clients of a server are told of where else the same is served, and by which protocol (RFC 7838).
type AltSvc struct {
	// Value of the field; nil: they are not told. Those that speak HTTP/3 know already.
	Value []byte
}

// Announce has clients told from now on, and nobody else tell them: what upstreams say of themselves leads past the gateway. nil:
// fields are the upstreams' again. It may be called from any goroutine.
func (srv *Server) Announce(a *AltSvc) { srv.altSvc.Store(a) }

var altSvc = []byte("Alt-Svc")

// hideAltSvc removes what an upstream says.
func (s *Session) hideAltSvc(r *http1.Response) {
	if s.server.altSvc.Load() != nil {
		r.DelBytes(altSvc)
	}
}

// tellAltSvc adds the field, unless a route or a plugin has set it.
func (s *Session) tellAltSvc(x *exchange.Exchange) {
	a := s.server.altSvc.Load()
	if a == nil || a.Value == nil || x.Client.Version == exchange.HTTP3 {
		return
	}
	if _, has := x.Response.GetBytes(altSvc); !has {
		x.Response.AddBytes(altSvc, a.Value)
	}
}
