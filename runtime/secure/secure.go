// Package secure is TLS on top of a loop's connection, for either side of it. The protocol is crypto/tls's, which the Go
// project keeps well; what is here is how it waits.
//
// crypto/tls wants a net.Conn, whose methods know no task, and holds a mutex while it writes to it, also for what it has
// to say by itself while it reads (an answer to KeyUpdate, an alert). A task that parked there would have the other one
// block the whole loop on that mutex. So writing never parks below crypto/tls: what the socket takes at once goes out
// without a copy, and the rest is collected and sent after crypto/tls has returned, by the task that called it.
//
// A connection that waits for its peer needs no task (Conn.TryRead, Conn.Quiet, and the netloop connection's OnEvent). It
// holds 7 to 8 KB of memory then beside the kernel's (TestIdleConnectionsAreSmall measures it), nearly all of it
// crypto/tls's: the keys of both directions and the buffers for what it reads, as large as the client's hello has made them.
package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"wasmgate/runtime/netloop"
)

// Conn is a TLS connection. Like the connection below it belongs to one loop, and one task may read while another writes.
type Conn struct {
	tls     *tls.Conn
	net     *netloop.Conn
	reader  *netloop.Task // that reads now, and may park; nil: nobody, or TryRead
	reading bool
	ahead   []byte // what was read from the connection before, and crypto/tls has not seen
	in      records
	more    bool // crypto/tls may hold something that can be read without the socket
	cut     bool // the connection below has ended, which crypto/tls does not ask about after close_notify

	out     []byte // collected, and not sent yet: one of the loop's buffers, if it fits
	collect bool   // what follows is best sent together
	sent    int    // bytes written so far, up to where records have their full size
	sending bool   // a task is at it
	writer  *netloop.Task
}

// Client makes the side of a connection that dialled. The handshake is Handshake's.
func Client(c *netloop.Conn, cfg *tls.Config) *Conn {
	s := &Conn{net: c}
	s.tls = tls.Client((*below)(s), cfg)
	return s
}

// Server makes the side of a connection that accepted. ahead is what was read from it already; it is the connection's
// from now on.
func Server(c *netloop.Conn, cfg *tls.Config, ahead []byte) *Conn {
	s := &Conn{net: c, ahead: ahead}
	s.tls = tls.Server((*below)(s), cfg)
	return s
}

// Net is the connection below.
func (c *Conn) Net() *netloop.Conn { return c.net }

// State says what the handshake has agreed on. It allocates.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

type taskKey struct{}

// Task is the task that does a handshake, by the context that crypto/tls gives to callbacks of its configuration
// (tls.ClientHelloInfo.Context): what they do that may block goes through its Await. It is nil outside of a handshake here.
func Task(ctx context.Context) *netloop.Task {
	t, _ := ctx.Value(taskKey{}).(*netloop.Task)
	return t
}

// Handshake does the handshake, in which it parks, and ends with everything sent. until is the time of the loop's clock
// by which it must be over, or the error is netloop.ErrDeadline; 0: none. The connection's deadlines are cleared by it.
// After an error the connection is of no use but for what an alert may still tell the peer: it is to be closed.
func (c *Conn) Handshake(t *netloop.Task, until int64) error {
	c.net.SetReadDeadline(until)
	c.net.SetWriteDeadline(until)
	c.reader, c.reading, c.collect = t, true, true
	err := c.tls.HandshakeContext(context.WithValue(context.Background(), taskKey{}, t))
	c.reader, c.reading, c.collect, c.more = nil, false, false, true
	if err == error(pastDeadline{}) {
		err = netloop.ErrDeadline
	}
	if e := c.send(t); err == nil { // after an error it is an alert, which may or may not arrive
		err = e
	}
	c.net.SetReadDeadline(0)
	c.net.SetWriteDeadline(0)
	return err
}

// Read reads up to len(b) > 0 bytes, and parks while there are none. It returns io.EOF when the peer has ended its side
// (close_notify, or an end of the connection between two records), netloop.ErrDeadline past the read deadline of the
// connection below, and netloop.ErrClosed after Close. Any error but a passed deadline's stays.
func (c *Conn) Read(t *netloop.Task, b []byte) (int, error) {
	c.reader = t
	n, err := c.read(b)
	c.reader = nil
	if e := c.send(t); err == nil && n == 0 {
		err = e
	}
	return n, err
}

// Cut says whether the connection ended below TLS: the peer has not said that nothing follows (close_notify), and anybody on the
// way may have ended it in its stead. Read returns io.EOF all the same, since many peers do not say it.
func (c *Conn) Cut() bool { return c.cut }

// TryRead is Read without parking: 0 and nil mean that there is nothing to read now. It may come in the midst of a record.
func (c *Conn) TryRead(b []byte) (int, error) {
	if c.reading {
		return 0, nil // a task is at it
	}
	n, err := c.read(b)
	if _, ok := err.(wouldBlock); ok { //nolint:errorlint // crypto/tls hands our own on as they are
		err = nil
	}
	return n, err
}

func (c *Conn) read(b []byte) (int, error) {
	c.reading = true
	n, err := c.tls.Read(b)
	c.reading = false
	switch err.(type) { //nolint:errorlint // see TryRead
	case nil:
		// Of one record that has come alone nothing is left; otherwise only asking tells.
		c.more = n == len(b) || !c.in.justOne()
	case wouldBlock:
		c.more = false
	case pastDeadline:
		// crypto/tls has asked below, and nothing has come: what there is of a record says nothing without its rest.
		c.more = false
		return n, netloop.ErrDeadline
	default:
		c.more = true // asked again, it says so again
	}
	return n, err
}

// WaitReadable parks until a Read may return at once. Who asks for a buffer only then holds none while it waits. It
// returns what netloop.Conn.WaitReadable does.
func (c *Conn) WaitReadable(t *netloop.Task) error {
	if c.more {
		return nil
	}
	if err := c.send(t); err != nil {
		return err
	}
	return c.net.WaitReadable(t)
}

// Quiet says whether nothing can be read, by what is already known and without a system call.
func (c *Conn) Quiet() bool { return !c.more && c.net.Quiet() }

const (
	// mostAtOnce bounds what is given to crypto/tls at once: with its overhead it fits one of the loop's buffers.
	mostAtOnce = 15 << 10
	// mostRecord is the longest content of a record.
	mostRecord = 16 << 10
	// surelyOne is what fits the smallest record that crypto/tls begins a connection with, whatever the suite.
	surelyOne = 1100
	// fullSize is after how many bytes crypto/tls makes records of full size.
	fullSize = 128 << 10
)

// Write writes all of b, and parks while the socket takes no more. It returns netloop.ErrDeadline past the write deadline
// of the connection below, after which the connection is of no use any more.
func (c *Conn) Write(t *netloop.Task, b []byte) (int, error) {
	for written := 0; written < len(b); {
		n := min(len(b)-written, mostRecord)
		if one := n <= surelyOne || c.sent >= fullSize; !one {
			n = min(n, mostAtOnce)
			c.collect = true
		}
		n, err := c.tls.Write(b[written : written+n])
		c.collect = false
		if err == nil && (len(c.out) > 0 || c.sending) {
			err = c.sendAll(t)
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return len(b), nil
}

// CloseWrite says that nothing follows (close_notify), and ends our half of the connection below. It parks.
func (c *Conn) CloseWrite(t *netloop.Task) error {
	if err := c.tls.CloseWrite(); err != nil {
		return err
	}
	if err := c.sendAll(t); err != nil {
		return err
	}
	return c.net.CloseWrite()
}

// Close ends the connection. The peer is told (close_notify), unless another task writes. It does not park. A second call does
// nothing.
func (c *Conn) Close() error { return c.CloseWith(nil) }

// CloseWith is Close after a last word to the peer. Of it, and of what was not sent before, goes what the socket takes at once.
func (c *Conn) CloseWith(last []byte) error {
	if c.net.Closed() || c.sending {
		c.recycle(&c.out)
		return c.net.Close()
	}
	c.collect = true
	if len(last) > 0 {
		_, _ = c.tls.Write(last)
	}
	_ = c.tls.CloseWrite()
	c.collect = false
	err := c.net.CloseWith(c.out)
	c.recycle(&c.out)
	return err
}

// sendAll returns when everything that was collected is sent, by whichever task.
func (c *Conn) sendAll(t *netloop.Task) error {
	for c.sending && !c.net.Closed() {
		c.writer = t
		t.Park()
	}
	c.writer = nil
	return c.send(t)
}

// send sends what was collected, unless another task is at it, which then sends this too.
func (c *Conn) send(t *netloop.Task) error {
	if c.sending || len(c.out) == 0 {
		return nil
	}
	c.sending = true
	defer func() {
		c.sending = false
		if c.writer != nil {
			c.writer.Wake()
		}
	}()
	for len(c.out) > 0 {
		b := c.out
		c.out = nil
		n, err := c.net.Write(t, b)
		if n < len(b) && err == nil {
			err = io.ErrShortWrite
		}
		c.recycle(&b)
		if err != nil {
			return err
		}
	}
	return nil
}

// recycle gives a buffer of what was collected back to its loop.
func (c *Conn) recycle(b *[]byte) {
	if *b != nil {
		c.net.Loop().Recycle(*b)
		*b = nil
	}
}

// below is the net.Conn below TLS.
type below Conn

// Read parks if a task reads, and sends first what the peer may be waiting for.
func (b *below) Read(p []byte) (n int, err error) {
	c := (*Conn)(b)
	c.in.whole = 0 // it would not ask if it had one
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		c.in.saw(p[:n])
		return n, nil
	}
	if t := c.reader; t != nil {
		if err := c.send(t); err != nil {
			return 0, err
		}
		n, err = c.net.Read(t, p)
	} else if n, err = c.net.TryRead(p); n == 0 && err == nil {
		return 0, wouldBlock{}
	}
	c.in.saw(p[:n])
	c.cut = err == io.EOF
	if errors.Is(err, netloop.ErrDeadline) {
		err = pastDeadline{}
	}
	return n, err
}

// Write writes what the socket takes, and collects the rest.
func (b *below) Write(p []byte) (int, error) {
	c, rest := (*Conn)(b), p
	c.sent = min(fullSize, c.sent+len(p))
	if !c.collect && !c.sending && len(c.out) == 0 {
		n, err := c.net.TryWrite(p)
		if err != nil {
			return n, err
		}
		if rest = p[n:]; len(rest) == 0 {
			return len(p), nil
		}
	}
	if c.out == nil {
		c.out = c.net.Loop().Buffer()[:0]
	}
	c.out = append(c.out, rest...)
	return len(p), nil
}

func (b *below) Close() error                     { return b.net.Close() }
func (b *below) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(b.net.LocalAddr()) }
func (b *below) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(b.net.RemoteAddr()) }
func (b *below) SetDeadline(time.Time) error      { return nil } // deadlines are the netloop connection's
func (b *below) SetReadDeadline(time.Time) error  { return nil }
func (b *below) SetWriteDeadline(time.Time) error { return nil }

// wouldBlock and pastDeadline are what crypto/tls does not take for the end of the connection: it goes on where it was.
type (
	wouldBlock   struct{}
	pastDeadline struct{}
)

func (wouldBlock) Error() string   { return "nothing to read now" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

func (pastDeadline) Error() string   { return netloop.ErrDeadline.Error() }
func (pastDeadline) Timeout() bool   { return true }
func (pastDeadline) Temporary() bool { return true }

var _ net.Error = wouldBlock{}
