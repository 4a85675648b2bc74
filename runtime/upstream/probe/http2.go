package probe

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/pool"
)

// ProbeHTTP2 is Probe over a connection of HTTP/2.
func (h *HTTP) ProbeHTTP2(t *netloop.Task, c *pool.Conn, authority []byte) error {
	session, ok := c.Session.(*http2.Conn)
	if !ok {
		return fault.New(fault.Internal, fault.Gateway, 500, "a connection that does not speak HTTP/2")
	}
	if h.Host != "" {
		authority = []byte(h.Host)
	}
	var r http1.Request
	r.SetMethod([]byte("GET"))
	r.SetAuthority(authority)
	r.SetPath([]byte(h.Target))
	r.Add("User-Agent", "wasmgate-health-check")
	s, err := session.Open(&r, http2.Outgoing{Scheme: scheme(c), End: true})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		status, err := s.Head(t, 0) // the connection's deadline ends the connection
		switch {
		case err != nil:
			return failed(err)
		case status >= 200 && h.Status.Has(status):
			return nil
		case status >= 200:
			return fault.New(fault.Malformed, fault.Upstream, 502, "the health check %s was answered %d", h.Target, status)
		}
	}
}

func scheme(c *pool.Conn) string {
	if c.Facts.TLS {
		return "https"
	}
	return "http"
}
