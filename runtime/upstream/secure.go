package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"wasmgate/runtime/netloop"
)

// secure is TLS on top of a loop's connection. One task may read while another writes.
//
// crypto/tls wants a net.Conn, whose methods know no task, and holds a mutex while it writes to it, also for what it has
// to say by itself while it reads (an answer to KeyUpdate, an alert). A task that parked there would have the other one
// block the whole loop on that mutex. So writing to the net.Conn only collects: what was collected is sent after crypto/tls
// has returned, by the task that called it.
type secure struct {
	conn    *tls.Conn
	net     *netloop.Conn
	reader  *netloop.Task // that reads now
	out     []byte        // collected, and not sent yet
	spare   []byte        // the buffer that was sent last, to collect into
	sending bool          // a task is at it
	writer  *netloop.Task // that waits for the other task to have sent
}

func newSecure(c *netloop.Conn, cfg *tls.Config) *secure {
	s := &secure{net: c}
	s.conn = tls.Client((*collector)(s), cfg)
	return s
}

// collector is the net.Conn below TLS.
type collector secure

// Read parks, and sends first what the peer may be waiting for.
func (c *collector) Read(b []byte) (int, error) {
	s := (*secure)(c)
	if err := s.send(s.reader); err != nil {
		return 0, err
	}
	return s.net.Read(s.reader, b)
}

func (c *collector) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

func (c *collector) Close() error                     { return c.net.Close() }
func (c *collector) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(c.net.LocalAddr()) }
func (c *collector) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(c.net.RemoteAddr()) }
func (c *collector) SetDeadline(time.Time) error      { return nil } // deadlines are the netloop connection's
func (c *collector) SetReadDeadline(time.Time) error  { return nil }
func (c *collector) SetWriteDeadline(time.Time) error { return nil }

// handshake ends with everything sent.
func (s *secure) handshake(t *netloop.Task) error {
	s.reader = t
	err := s.conn.Handshake()
	if e := s.send(t); err == nil { // after an error it is an alert, which may or may not arrive
		err = e
	}
	return err
}

// Read implements pool.Stream.
func (s *secure) Read(t *netloop.Task, b []byte) (int, error) {
	s.reader = t
	n, err := s.conn.Read(b)
	if e := s.send(t); err == nil && n == 0 {
		err = e
	}
	return n, err
}

// mostCollected bounds what is collected before it is sent: a TLS record at a time, and its overhead.
const mostCollected = 16 << 10

// Write implements pool.Stream.
func (s *secure) Write(t *netloop.Task, b []byte) (int, error) {
	for written := 0; ; {
		n, err := s.conn.Write(b[written:min(len(b), written+mostCollected)])
		if err == nil {
			err = s.sendAll(t)
		}
		if err != nil {
			return written, err
		}
		if written += n; written == len(b) {
			return written, nil
		}
	}
}

// CloseWrite says that nothing follows (close_notify), and ends our half of the connection below.
func (s *secure) CloseWrite(t *netloop.Task) error {
	if err := s.conn.CloseWrite(); err != nil {
		return err
	}
	if err := s.sendAll(t); err != nil {
		return err
	}
	return s.net.CloseWrite()
}

// sendAll returns when everything that was collected is sent, by whichever task.
func (s *secure) sendAll(t *netloop.Task) error {
	for s.sending && !s.net.Closed() {
		s.writer = t
		t.Park()
	}
	s.writer = nil
	return s.send(t)
}

// send sends what was collected, unless another task is at it, which then sends this too.
func (s *secure) send(t *netloop.Task) error {
	if s.sending {
		return nil
	}
	s.sending = true
	defer func() {
		s.sending = false
		if s.writer != nil {
			s.writer.Wake()
		}
	}()
	for len(s.out) > 0 {
		b := s.out
		s.out, s.spare = s.spare[:0], nil
		n, err := s.net.Write(t, b)
		s.spare = b[:0]
		if err != nil {
			return err
		}
		if n < len(b) {
			return io.ErrShortWrite
		}
	}
	return nil
}
