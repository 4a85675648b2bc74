package http2

import (
	"errors"
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// Extended says whether the server takes an extended CONNECT (Outgoing.Protocol), as far as its SETTINGS have come. The first of them
// have when Start returns.
func (c *Conn) Extended() bool { return c.extended }

// Tunnel is a stream of a client's connection whose extended CONNECT was answered by a 2xx: DATA in both directions, of which one
// task may read while another writes. Errors after the connection, or the tunnel, was ended by us are netloop.ErrClosed. The
// stream must be closed still, when both tasks are done.
type Tunnel Stream

// Tunnel is the stream as a tunnel, after Head has returned a 2xx.
func (s *Stream) Tunnel() *Tunnel { return (*Tunnel)(s) }

// Next returns what the server has sent, valid until the next call, and parks until there is something, or until the read deadline. It
// returns io.EOF when the server has ended its direction.
func (n *Tunnel) Next(t *netloop.Task) ([]byte, error) {
	s := (*Stream)(n)
	for !s.shut {
		if data, err := s.Ready(); len(data) > 0 || err != nil {
			return data, n.failed(err)
		}
		if s.peerEnded {
			return nil, io.EOF
		}
		if err := s.wait(t); err != nil {
			return nil, n.failed(err)
		}
	}
	return nil, netloop.ErrClosed
}

// Write sends data, and parks while the server's windows are closed, or others have their turn, until the write deadline.
func (n *Tunnel) Write(t *netloop.Task, data []byte) error {
	_, err := (*Stream)(n).send(t, data, false)
	return n.failed(err)
}

// CloseWrite ends our direction, behind what was written. It does not park.
func (n *Tunnel) CloseWrite(*netloop.Task) error {
	s := (*Stream)(n)
	if s.ended {
		return nil
	}
	return n.failed(s.End(nil))
}

// failed is an error as those of a connection are.
func (n *Tunnel) failed(err error) error {
	var fe *fault.Error
	if err != nil && (n.shut || errors.As(err, &fe) && fe.Kind == fault.ShuttingDown) {
		return netloop.ErrClosed
	}
	return err
}

// SetReadDeadline sets the loop time after which Next returns netloop.ErrDeadline, also one that waits; 0: never.
func (n *Tunnel) SetReadDeadline(at int64) { (*Stream)(n).setReadDeadline(at) }

// SetWriteDeadline is SetReadDeadline for Write.
func (n *Tunnel) SetWriteDeadline(at int64) { (*Stream)(n).setWriteDeadline(at) }

// Rest gives memory back that nothing is in.
func (n *Tunnel) Rest() { (*Stream)(n).rest() }

// Shut ends the tunnel behind what was written: whoever reads, or writes still, gets an error.
func (n *Tunnel) Shut() {
	s := (*Stream)(n)
	if !s.ended && s.err == nil {
		_ = s.End(nil)
	}
	s.shut = true
	s.wakeReader()
	s.wakeWriter()
}

// Close ends the tunnel at once, both ways (RST_STREAM).
func (n *Tunnel) Close() {
	s := (*Stream)(n)
	s.shut = true
	s.Cancel()
	s.wakeReader()
}
