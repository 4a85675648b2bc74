//go:build linux && !wasmgate_portable

package netloop

import (
	"io"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a stream socket of one loop. Every method may be called only on that loop; those with a *Task park it. One
// task may read while another writes.
type Conn struct {
	Owner any // free for the user of the connection

	loop       *Loop
	fd         int
	generation int32 // tells this connection's events from those of an earlier one with the same descriptor
	readable   bool  // a read is not known to block
	hungUp     bool  // the peer has closed, or an error is pending
	urgent     bool  // it has had urgent data, at which splice stops and read does not
	closed     bool
	reader     *Task
	writer     *Task
	onEvent    func(*Conn)
	onReset    func(*Conn)
	onHangUp   func(*Conn)
	readBy     int64
	writeBy    int64
	timer      Timer
	id         uint64
	local      netip.AddrPort
	remote     netip.AddrPort
	listener   *Listener // it came from, and counts against Options.MaxConns; nil: it was dialled
}

// adopt registers a descriptor with the loop.
func (l *Loop) adopt(fd int, c *Conn) error {
	for fd >= len(l.byFD) {
		l.byFD = append(l.byFD, make([]*Conn, max(64, len(l.byFD)))...)
	}
	l.generation = (l.generation + 1) & 0x7fffffff
	ev := unix.EpollEvent{Events: interest, Fd: int32(fd), Pad: l.generation}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	c.loop, c.fd, c.generation, c.timer.loop, c.timer.conn = l, fd, l.generation, l, c
	l.byFD[fd] = c
	l.conns[c.id] = c
	l.numConns.Store(int64(len(l.conns)))
	if c.listener != nil {
		l.accepted.Add(1)
	}
	return nil
}

// forget is adopt's counterpart.
func (c *Conn) forget() {
	l := c.loop
	c.timer.Stop()
	l.byFD[c.fd] = nil
	delete(l.conns, c.id)
	l.numConns.Store(int64(len(l.conns)))
	if c.listener != nil {
		l.accepted.Add(-1)
	}
}

// Read reads up to len(b) > 0 bytes, and parks while there are none. It returns io.EOF when the peer has closed its
// side, ErrDeadline past the read deadline, ErrClosed after Close, or the operating system's error.
func (c *Conn) Read(t *Task, b []byte) (int, error) {
	for {
		if n, err := c.TryRead(b); n > 0 || err != nil {
			return n, err
		}
		if c.readBy != 0 && c.loop.now >= c.readBy {
			return 0, ErrDeadline
		}
		c.reader = t
		t.suspend()
		c.reader = nil
	}
}

// WaitReadable parks until a Read would return at once. Who asks for a buffer only then has one that was used just now,
// and none while it waits. It returns ErrDeadline past the read deadline and ErrClosed after Close.
func (c *Conn) WaitReadable(t *Task) error {
	for !c.readable {
		switch {
		case c.closed:
			return ErrClosed
		case c.readBy != 0 && c.loop.now >= c.readBy:
			return ErrDeadline
		}
		c.reader = t
		t.suspend()
		c.reader = nil
	}
	return nil
}

// TryRead is Read without parking: 0 and nil mean that there is nothing to read now.
func (c *Conn) TryRead(b []byte) (int, error) {
	if c.closed {
		return 0, ErrClosed
	}
	for c.readable {
		// Not read, which goes through the file layer: 0.1 µs of 3.4.
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		switch {
		case e == syscall.EAGAIN:
			c.readable = false
		case e == syscall.EINTR:
		case e != 0:
			return 0, os.NewSyscallError("read", e)
		case n == 0:
			return 0, io.EOF
		default:
			if int(n) < len(b) && !c.hungUp {
				c.readable = false // a short read drained the socket
			}
			return int(n), nil
		}
	}
	return 0, nil
}

// Write writes all of b and parks while the socket takes no more. It returns ErrDeadline past the write deadline,
// ErrClosed after Close, or the operating system's error, with the number of bytes that were written.
func (c *Conn) Write(t *Task, b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := c.TryWrite(b[written:])
		written += n
		if n == 0 && err == nil {
			err = c.waitWritable(t)
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// TryWrite is Write without parking: it writes as much as the socket takes now, which may be nothing. b is not empty.
func (c *Conn) TryWrite(b []byte) (int, error) {
	if c.closed {
		return 0, ErrClosed
	}
	for {
		// MSG_NOSIGNAL: a peer that has closed is an error of ours to handle, not a signal.
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, os.NewSyscallError("write", e)
		}
	}
}

// waitWritable parks after a write that would have blocked, until another may do better.
func (c *Conn) waitWritable(t *Task) error {
	if c.writeBy != 0 && c.loop.now >= c.writeBy {
		return ErrDeadline
	}
	c.writer = t
	t.suspend()
	c.writer = nil
	if c.closed {
		return ErrClosed
	}
	return nil
}

// Healthy says whether an idle connection can be used: open, nothing to read, not hung up. It asks the kernel, so that
// what came in during this turn of the loop counts.
func (c *Conn) Healthy() bool {
	if c.closed || c.readable || c.hungUp {
		return false
	}
	var b [1]byte
	_, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return e == syscall.EAGAIN
}

// Quiet is Healthy by what the loop already knows, without a system call.
func (c *Conn) Quiet() bool { return !c.closed && !c.readable && !c.hungUp }

// HungUp says whether the peer is known to have closed its side or the connection to have failed. There may still be
// bytes to read.
func (c *Conn) HungUp() bool { return c.hungUp }

// OnHangUp has fn run on the loop, once, as soon as the peer is known to have closed its side or the connection to have
// failed, whether anybody reads from it or not; soon, if that is known already. What the peer sent before stays to be read. fn
// must not park; nil disarms.
func (c *Conn) OnHangUp(fn func(*Conn)) {
	c.onHangUp = fn
	if fn != nil && c.hungUp && !c.closed {
		c.loop.Post(c.hangUp)
	}
}

func (c *Conn) hangUp() {
	if fn := c.onHangUp; fn != nil && !c.closed {
		c.onHangUp = nil
		c.call(fn)
	}
}

// OnEvent makes the connection idle: it needs no task. fn runs on the loop once, when the connection is readable or
// hung up, or its read deadline has passed (then TryRead returns 0 and nil); it must not park. Nil disarms.
func (c *Conn) OnEvent(fn func(*Conn)) {
	c.onEvent = fn
	if fn != nil && c.readable {
		c.loop.Post(c.recheck) // an event that has been reported already is not reported again
	}
}

func (c *Conn) recheck() {
	if c.readable && !c.closed {
		c.becameReadable()
	}
}

// MoveTo hands an idle connection to another loop: it leaves this one at once and is dst's when then runs there, or
// closed if dst cannot take it. Deadlines are cleared.
func (c *Conn) MoveTo(dst *Loop, then func(*Conn)) {
	if c.closed {
		dst.Post(func() { then(c) })
		return
	}
	_ = unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
	c.forget()
	c.onEvent, c.onReset, c.onHangUp, c.readBy, c.writeBy, c.readable = nil, nil, nil, 0, 0, false
	dst.Post(func() {
		if dst.stopping || dst.adopt(c.fd, c) != nil {
			c.closed = true
			unix.Close(c.fd)
			c.uncount()
		}
		then(c)
	})
}

// CloseWrite ends our side of the connection (TCP FIN); reading goes on.
func (c *Conn) CloseWrite() error {
	if c.closed {
		return ErrClosed
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(c.fd, unix.SHUT_WR))
}

// Close closes the connection. Tasks that wait for it return with ErrClosed. A second call does nothing.
func (c *Conn) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.forget()
	c.onEvent, c.onReset, c.onHangUp = nil, nil, nil
	unix.Close(c.fd)
	c.uncount()
	for _, t := range [...]*Task{c.reader, c.writer} {
		if t != nil {
			c.loop.enqueueOrResumeLater(t)
		}
	}
	return nil
}

// CloseWith is Close after a last word to the peer, of which is written what the socket takes at once.
func (c *Conn) CloseWith(last []byte) error {
	if len(last) > 0 {
		_, _ = c.TryWrite(last)
	}
	return c.Close()
}

// Abort closes the connection with a reset, which tells the peer that what it got is not whole.
func (c *Conn) Abort() {
	if !c.closed {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = c.Close()
	}
}

func (c *Conn) uncount() {
	if c.listener != nil {
		c.loop.group.accepted.Add(-1)
		c.listener.open.Add(-1)
	}
}

// enqueueOrResumeLater resumes t in this turn of the loop, but not inside the caller.
func (l *Loop) enqueueOrResumeLater(t *Task) {
	if !t.queued {
		t.queued = true
		l.ready = append(l.ready, t)
	}
}

// expire resumes whoever waits past a deadline.
func (c *Conn) expireRead() {
	if r := c.reader; r != nil {
		c.reader = nil
		c.loop.resume(r)
	} else if fn := c.onEvent; fn != nil {
		c.onEvent = nil
		c.call(fn)
	}
}

func (c *Conn) expireWrite() {
	if w := c.writer; w != nil {
		c.writer = nil
		c.loop.resume(w)
	}
}

// SetTCPKeepAlive turns on the operating system's probes of a silent connection, with the time until the first one.
// This is TCP's keep-alive, which has nothing to do with HTTP's.
func (c *Conn) SetTCPKeepAlive(idleSeconds int) {
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idleSeconds)
}
