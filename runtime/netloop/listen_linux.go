//go:build linux && !wasmgate_portable

package netloop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/unixaddr"
)

// Listener accepts connections on all loops of a group.
type Listener struct {
	group   *Group
	options ListenOptions
	fd      int
	addr    netip.AddrPort
	once    sync.Once
	tally
}

// Listen opens a TCP listener ("host:port", ":port") whose socket all loops accept from; each connection goes to the
// loop that has the fewest. It may be called before and after Start.
func (g *Group) Listen(addr string, o ListenOptions) (*Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	std, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer std.Close()
	raw, err := std.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	ln := &Listener{group: g, options: o, addr: std.Addr().(*net.TCPAddr).AddrPort()}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { ln.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("dup", dupErr)
	}
	_ = unix.SetNonblock(ln.fd, true)
	g.mu.Lock()
	g.listeners = append(g.listeners, ln)
	g.mu.Unlock()
	return ln, g.onAll(ln.register)
}

// onAll runs fn on every loop and returns the first error.
func (g *Group) onAll(fn func(*Loop) error) error {
	if !g.started.Load() {
		for _, l := range g.loops {
			if err := fn(l); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, len(g.loops))
	for _, l := range g.loops {
		l.Post(func() { errs <- fn(l) })
	}
	var first error
	for range g.loops {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

const listenerID = -2

func (ln *Listener) register(l *Loop) error {
	// EPOLLEXCLUSIVE: one connection wakes one loop, not all.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(ln.fd), Pad: listenerID}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, ln.fd, &ev); err != nil {
		return fmt.Errorf("listen %s: epoll_ctl: %w", ln.addr, err)
	}
	l.listeners = append(l.listeners, ln)
	return nil
}

// Close stops accepting. Connections that were accepted stay. It may be called from any goroutine but a loop's.
func (ln *Listener) Close() error {
	ln.once.Do(func() {
		_ = ln.group.onAll(func(l *Loop) error {
			ln.accept(l) // the kernel has completed these connections: closing the socket would reset them
			_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, ln.fd, nil)
			for i, other := range l.listeners {
				if other == ln {
					l.listeners = append(l.listeners[:i:i], l.listeners[i+1:]...)
					break
				}
			}
			return nil
		})
		unix.Close(ln.fd)
		ln.group.forgetListener(ln)
	})
	return nil
}

// acceptBurst bounds how long new connections can keep a loop from its old ones.
const acceptBurst = 64

func (ln *Listener) accept(l *Loop) {
	for range acceptBurst {
		fd, sa, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			ln.admit(l, fd, sa)
		case unix.ECONNABORTED, unix.EINTR:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			ln.pause(l)
			return
		default:
			return
		}
	}
}

// pause stops accepting on this loop for a moment: out of descriptors, the socket would report readiness at once again.
func (ln *Listener) pause(l *Loop) {
	ln.refuse()
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, ln.fd, nil)
	l.AfterFunc(100*time.Millisecond, func() {
		for _, other := range l.listeners {
			if other == ln {
				ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(ln.fd), Pad: listenerID}
				_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, ln.fd, &ev)
			}
		}
	})
}

func (ln *Listener) admit(l *Loop, fd int, sa unix.Sockaddr) {
	g := ln.group
	if n := g.accepted.Add(1); g.options.MaxConns > 0 && int(n) > g.options.MaxConns {
		g.accepted.Add(-1)
		ln.refuse()
		if len(ln.options.Refusal) > 0 {
			_, _ = unix.Write(fd, ln.options.Refusal)
		}
		unix.Close(fd)
		return
	}
	ln.admitted()
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	c := &Conn{id: g.nextConn.Add(1), listener: ln, remote: addrPort(sa), local: ln.addr, loop: l}
	if ln.addr.Addr().IsUnspecified() {
		if own, err := unix.Getsockname(fd); err == nil {
			c.local = addrPort(own)
		}
	}
	dst := g.leastLoaded(l)
	if dst == l {
		ln.begin(l, fd, c)
		return
	}
	dst.accepted.Add(1) // at once, so that the next one counts it
	dst.Post(func() {
		dst.accepted.Add(-1)
		ln.begin(dst, fd, c)
	})
}

func (ln *Listener) begin(l *Loop, fd int, c *Conn) {
	if l.stopping || l.adopt(fd, c) != nil {
		unix.Close(fd)
		l.group.accepted.Add(-1)
		ln.open.Add(-1)
		return
	}
	c.call(ln.options.Accept)
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Dial connects to addr, which may be that of a Unix socket (package unixaddr). deadline is a time of the loop's clock, 0 for none.
func (l *Loop) Dial(t *Task, addr netip.AddrPort, deadline int64, o DialOptions) (*Conn, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if o.ReceiveBuffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.ReceiveBuffer)
	}
	for err = unix.Connect(fd, sa); err == unix.EAGAIN; err = unix.Connect(fd, sa) { // a Unix socket, with many who wait for it
		if deadline != 0 && l.Now() >= deadline || l.Closing() {
			unix.Close(fd)
			return nil, ErrDeadline
		}
		t.Sleep(connectAgain)
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c := &Conn{id: l.group.nextConn.Add(1), remote: addr}
	if l.stopping {
		unix.Close(fd)
		return nil, ErrClosed
	}
	if adoptErr := l.adopt(fd, c); adoptErr != nil {
		unix.Close(fd)
		return nil, adoptErr
	}
	if err == unix.EINPROGRESS {
		if err := c.connected(t, deadline); err != nil {
			c.Close()
			return nil, err
		}
	}
	if own, err := unix.Getsockname(fd); err == nil {
		c.local = addrPort(own)
	}
	if o.KeepAlive > 0 && family != unix.AF_UNIX {
		c.SetTCPKeepAlive(max(1, int(o.KeepAlive.Seconds())))
	}
	return c, nil
}

// connectAgain is after how long a Unix socket is tried again whose server is slow to accept: the kernel tells nobody when it has.
const connectAgain = 5 * time.Millisecond

// connected waits for the end of a connect that is under way.
func (c *Conn) connected(t *Task, deadline int64) error {
	c.SetWriteDeadline(deadline)
	defer c.SetWriteDeadline(0)
	for {
		c.writer = t
		t.suspend()
		c.writer = nil
		if c.closed {
			return ErrClosed
		}
		e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		if e != 0 {
			return os.NewSyscallError("connect", syscall.Errno(e))
		}
		if _, err := unix.Getpeername(c.fd); err == nil {
			return nil
		}
		if deadline != 0 && c.loop.now >= deadline {
			return ErrDeadline
		}
	}
}

func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if path, ok := unixaddr.Path(a.Addr()); ok {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: path}
	}
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	if zone, err := net.InterfaceByName(ip.Zone()); err == nil {
		sa.ZoneId = uint32(zone.Index)
	}
	return unix.AF_INET6, sa
}
