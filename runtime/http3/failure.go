package http3

import (
	"errors"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"
)

// Failure is a handshake that did not end well.
type Failure struct {
	Conn        uint64 // its number
	Peer, Local netip.AddrPort
	ServerName  string // that the client has asked for, as far as is known
	Why         Why
	Err         error
}

// Why is why a handshake failed, as far as QUIC knows.
type Why uint8

// Reasons of failures.
const (
	WhyTLS      Why = iota // what crypto/tls says: Err is its error, or wraps it
	WhyAlert               // the client has ended it with an alert of TLS
	WhyTimeout             // it was not over in time
	WhyClosed              // the client, or this listener, went away
	WhyCrowded             // there were too many at once
	WhyProtocol            // the client breaks QUIC's rules
)

// failed tells of a handshake that failed.
func (ln *Listener) failed(c *Conn, from net.Addr, err error) {
	if ln.options.Failed == nil {
		return
	}
	f := &Failure{Conn: c.id, Peer: addrPort(from), Local: ln.Addr(), Why: ln.why(err), Err: err}
	if name := c.wanted.Load(); name != nil {
		f.ServerName = *name
	}
	ln.options.Failed(f)
}

func (ln *Listener) why(err error) Why {
	var te *quic.TransportError
	var ae *quic.ApplicationError
	var late *quic.HandshakeTimeoutError
	var idle *quic.IdleTimeoutError
	switch {
	case errors.As(err, &late), errors.As(err, &idle):
		return WhyTimeout
	case errors.As(err, &ae):
		return WhyClosed
	case !errors.As(err, &te):
		return WhyClosed // the socket was closed
	case te.Remote && te.ErrorCode.IsCryptoError():
		return WhyAlert
	case te.ErrorCode.IsCryptoError():
		return WhyTLS
	case te.Remote, ln.draining.Load():
		return WhyClosed
	case te.ErrorCode == quic.ConnectionRefused:
		return WhyCrowded
	}
	return WhyProtocol
}
