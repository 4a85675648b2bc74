package telemetry

import (
	"errors"
	"net/netip"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
)

// carrier is the upstream connection that an attempt or a session was given, or the one that could not be opened for it.
type carrier struct {
	host    string // host:port, before resolution
	address netip.AddrPort
	id      uint64 // 0: it came to no socket
	trace   [16]byte
	span    [8]byte // zero: its span was lost, or there never was one
}

// carrierOf takes what the attempt or session knows, and without a connection what its error knows of the one that failed.
func carrierOf(host string, address netip.AddrPort, id uint64, traceID [16]byte, span [8]byte, err *fault.Error) carrier {
	if id != 0 || err == nil {
		return carrier{host, address, id, traceID, span}
	}
	err = dialError(err)
	c := carrier{host: err.Host, id: err.ConnID, trace: err.ConnTrace, span: err.ConnSpan}
	c.address, _ = unixaddr.Parse(err.Address) // there may be none
	return c
}

// dialError is the error of the connection that could not be opened: err, or what is in it where that was the gateway's own
// doing.
func dialError(err *fault.Error) *fault.Error {
	if err.Host != "" || err.Err == nil {
		return err
	}
	if inner := (*fault.Error)(nil); errors.As(err.Err, &inner) {
		return inner
	}
	return err
}

// link gives s the connection's id, and links it to the connection's span.
func (c *carrier) link(s *span) {
	if c.id != 0 {
		s.setCount(attrConnID, c.id)
	}
	if c.span != [8]byte{} {
		s.links = append(s.links, link{c.trace, c.span, c.id})
	}
}
