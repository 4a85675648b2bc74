//go:build !linux || wasmgate_portable

package netloop

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/internal/unixaddr"
)

// Conn is a stream socket of one loop. Every method may be called only on that loop; those with a *Task park it. One
// task may read while another writes.
type Conn struct {
	Owner any // free for the user of the connection

	loop     *Loop
	home     atomic.Pointer[Loop] // loop, for the watcher, which runs without a baton
	nc       net.Conn
	closed   bool
	watching bool // a goroutine reads ahead, because the connection is idle
	ahead    []byte
	aheadErr error
	fed      bool // what was read ahead is all that was read lately
	one      [1]byte
	reader   *Task // waits for the watcher
	reading  bool  // a task waits for more in a read of its own
	onEvent  func(*Conn)
	onHangUp func(*Conn)
	readBy   int64
	writeBy  int64
	timer    Timer
	id       uint64
	local    netip.AddrPort
	remote   netip.AddrPort
	listener *Listener // it came from, and counts against Options.MaxConns; nil: it was dialled
}

func (l *Loop) adopt(c *Conn) {
	c.loop, c.timer.loop, c.timer.conn = l, l, c
	c.home.Store(l)
	l.conns[c.id] = c
	l.numConns.Store(int64(len(l.conns)))
	if c.listener != nil {
		l.accepted.Add(1)
	}
}

func (c *Conn) forget() {
	c.timer.Stop()
	delete(c.loop.conns, c.id)
	c.loop.numConns.Store(int64(len(c.loop.conns)))
	if c.listener != nil {
		c.loop.accepted.Add(-1)
	}
}

// Read reads up to len(b) > 0 bytes, and parks while there are none. It returns io.EOF when the peer has closed its
// side, ErrDeadline past the read deadline, ErrClosed after Close, or the operating system's error.
func (c *Conn) Read(t *Task, b []byte) (int, error) {
	for c.watching && !c.closed {
		if c.readBy != 0 && c.loop.now >= c.readBy {
			return 0, ErrDeadline
		}
		c.reader = t
		t.Park()
		c.reader = nil
	}
	n, err := c.TryRead(b)
	if c.fed = false; n > 0 || err != nil {
		return n, err
	}
	for {
		_ = c.nc.SetReadDeadline(c.at(c.readBy))
		c.reading = true
		t.blocking(func() { n, err = c.nc.Read(b) })
		c.reading = false
		if n > 0 {
			return n, nil
		}
		if err = c.translate(err); !early(err, c.readBy) {
			return 0, err
		}
	}
}

// early says that a call ended at a deadline that has been moved back meanwhile.
func early(err error, deadline int64) bool {
	return errors.Is(err, ErrDeadline) && (deadline == 0 || deadline > monotonic())
}

// WaitReadable returns at once: here it is Read that waits.
func (c *Conn) WaitReadable(*Task) error { return nil }

// TryRead is Read without parking: 0 and nil mean that nothing is known to be there.
func (c *Conn) TryRead(b []byte) (int, error) {
	switch {
	case c.closed:
		return 0, ErrClosed
	case len(c.ahead) > 0:
		n := copy(b, c.ahead)
		if c.ahead, c.fed = c.ahead[n:], true; len(c.ahead) == 0 {
			c.ahead = nil // its memory is not needed any more
		}
		return n, nil
	case c.aheadErr != nil:
		return 0, c.aheadErr
	}
	return 0, nil
}

func (c *Conn) at(deadline int64) time.Time {
	if deadline == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(deadline - monotonic()))
}

func (c *Conn) translate(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case c.closed:
		return ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrDeadline
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Write writes all of b and parks while the socket takes no more. It returns ErrDeadline past the write deadline,
// ErrClosed after Close, or the operating system's error, with the number of bytes that were written.
func (c *Conn) Write(t *Task, b []byte) (int, error) {
	if c.closed {
		return 0, ErrClosed
	}
	for written := 0; ; {
		_ = c.nc.SetWriteDeadline(c.at(c.writeBy))
		var n int
		var err error
		t.blocking(func() { n, err = c.nc.Write(b[written:]) })
		written += n
		if err = c.translate(err); !early(err, c.writeBy) {
			return written, err
		}
	}
}

// TryWrite is Write without parking: it writes as much as the socket takes now, as far as is known, which is nothing.
func (c *Conn) TryWrite([]byte) (int, error) {
	if c.closed {
		return 0, ErrClosed
	}
	return 0, nil
}

// aheadSize is how much is read ahead where one byte was not enough: a client's TLS hello, as a rule.
const aheadSize = 4 << 10

// watch reads ahead, so that an idle connection notices what happens to it: one byte, which costs a connection that waits no
// memory; or more, if its user takes by TryRead what comes and waits again, as for a message that is not whole.
func (c *Conn) watch() {
	if c.watching || c.closed || len(c.ahead) > 0 || c.aheadErr != nil {
		return
	}
	c.watching = true
	b := c.one[:]
	if c.fed {
		b = make([]byte, aheadSize)
	}
	_ = c.nc.SetReadDeadline(time.Time{}) // the loop's timer keeps the deadline
	go func() {
		n, err := c.nc.Read(b)
		l := c.home.Load()
		for l.enter(); l != c.home.Load(); l.enter() { // it was handed over meanwhile
			l.leave()
			l = c.home.Load()
		}
		defer l.leave()
		c.watching, c.ahead = false, b[:n]
		if n == 0 {
			c.aheadErr = c.translate(err)
		}
		if c.loop == l {
			c.hangUp() // first: what is readable may be handed over
			c.becameReadable()
		}
	}()
}

func (c *Conn) becameReadable() {
	if c.reader != nil {
		c.reader.Wake()
	} else if fn := c.onEvent; fn != nil && !c.closed {
		c.onEvent = nil
		c.call(fn)
	}
}

// Healthy says whether an idle connection can be used: open, nothing to read, not hung up, as far as is known.
func (c *Conn) Healthy() bool { return !c.closed && len(c.ahead) == 0 && c.aheadErr == nil }

// Quiet is Healthy by what the loop already knows, without a system call.
func (c *Conn) Quiet() bool { return c.Healthy() }

// HungUp says whether the peer is known to have closed its side or the connection to have failed.
func (c *Conn) HungUp() bool { return c.aheadErr != nil }

// OnHangUp has fn run on the loop, once, as soon as the peer is known to have closed its side or the connection to have
// failed; soon, if that is known already. What the peer sent before stays to be read: here it hides from fn what comes behind
// it, and while a task reads, that finds out. fn must not park; nil disarms.
func (c *Conn) OnHangUp(fn func(*Conn)) {
	c.onHangUp = fn
	switch {
	case fn == nil || c.closed:
	case c.aheadErr != nil:
		c.loop.Post(c.hangUp)
	case !c.reading:
		c.watch()
	}
}

func (c *Conn) hangUp() {
	if fn := c.onHangUp; fn != nil && !c.closed && c.aheadErr != nil {
		c.onHangUp = nil
		c.call(fn)
	}
}

// OnEvent makes the connection idle: it needs no task. fn runs on the loop once, when the connection is readable or
// hung up, or its read deadline has passed (then TryRead returns 0 and nil); it must not park. Nil disarms.
func (c *Conn) OnEvent(fn func(*Conn)) {
	c.onEvent = fn
	if fn == nil {
		return
	}
	if c.Healthy() {
		c.watch()
		return
	}
	c.loop.Post(func() {
		if !c.closed && !c.Healthy() {
			c.becameReadable()
		}
	})
}

// MoveTo hands an idle connection to another loop: it leaves this one at once and is dst's when then runs there, or
// closed if dst cannot take it. Deadlines are cleared.
func (c *Conn) MoveTo(dst *Loop, then func(*Conn)) {
	if c.closed {
		dst.Post(func() { then(c) })
		return
	}
	c.forget()
	c.onEvent, c.onHangUp, c.readBy, c.writeBy = nil, nil, 0, 0
	dst.Post(func() {
		dst.adopt(c)
		if dst.stopping {
			_ = c.Close()
		}
		then(c)
	})
}

// CloseWrite ends our side of the connection (TCP FIN); reading goes on.
func (c *Conn) CloseWrite() error {
	if c.closed {
		return ErrClosed
	}
	return c.nc.(interface{ CloseWrite() error }).CloseWrite()
}

// Close closes the connection. Tasks that wait for it return with ErrClosed. A second call does nothing.
func (c *Conn) Close() error { return c.CloseWith(nil) }

// lastWord is how long the last word to a peer may take.
const lastWord = time.Second

// CloseWith is Close after a last word to the peer, which must not be longer than what a socket takes at once as a rule. It is
// copied, and written after CloseWith has returned.
func (c *Conn) CloseWith(last []byte) error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.forget()
	c.onEvent, c.onHangUp = nil, nil
	if c.listener != nil {
		c.loop.group.accepted.Add(-1)
		c.listener.open.Add(-1)
	}
	if nc := c.nc; len(last) == 0 {
		_ = nc.Close()
	} else {
		last = append([]byte(nil), last...)
		_ = nc.SetReadDeadline(time.Unix(1, 0)) // whoever reads or writes ends now
		_ = nc.SetWriteDeadline(time.Now().Add(lastWord))
		go func() {
			_, _ = nc.Write(last)
			_ = nc.Close()
		}()
	}
	if c.reader != nil {
		c.reader.Wake()
	}
	return nil
}

// Abort closes the connection with a reset, which tells the peer that what it got is not whole.
func (c *Conn) Abort() {
	if !c.closed {
		if tcp, ok := c.nc.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// expireRead runs when the read deadline has passed. A Read under way has the deadline in its socket that there was when
// it began; it may have been brought forward since, to end it.
func (c *Conn) expireRead() {
	if !c.watching && !c.closed {
		_ = c.nc.SetReadDeadline(c.at(c.readBy))
	}
	c.becameReadable()
}

func (c *Conn) expireWrite() {
	if !c.closed {
		_ = c.nc.SetWriteDeadline(c.at(c.writeBy))
	}
}

// SetTCPKeepAlive turns on the operating system's probes of a silent connection, with the time until the first one.
// This is TCP's keep-alive, which has nothing to do with HTTP's.
func (c *Conn) SetTCPKeepAlive(idleSeconds int) {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Duration(idleSeconds) * time.Second})
	}
}

// Listener accepts connections for all loops of a group.
type Listener struct {
	group   *Group
	options ListenOptions
	std     net.Listener
	addr    netip.AddrPort
	once    sync.Once
	done    chan struct{}
	tally
}

// Listen opens a TCP listener ("host:port", ":port"); each connection goes to the loop that has the fewest. It may be
// called before and after Start.
func (g *Group) Listen(addr string, o ListenOptions) (*Listener, error) {
	std, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	ln := &Listener{group: g, options: o, std: std, addr: std.Addr().(*net.TCPAddr).AddrPort(), done: make(chan struct{})}
	g.mu.Lock()
	g.listeners = append(g.listeners, ln)
	g.mu.Unlock()
	go ln.serve()
	return ln, nil
}

func (ln *Listener) serve() {
	defer close(ln.done)
	for {
		nc, err := ln.std.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: others may end soon
			ln.refuse()
			time.Sleep(100 * time.Millisecond)
			continue
		}
		ln.admit(nc)
	}
}

func (ln *Listener) admit(nc net.Conn) {
	g := ln.group
	if n := g.accepted.Add(1); g.options.MaxConns > 0 && int(n) > g.options.MaxConns {
		g.accepted.Add(-1)
		ln.refuse()
		if len(ln.options.Refusal) > 0 {
			_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = nc.Write(ln.options.Refusal)
		}
		_ = nc.Close()
		return
	}
	ln.admitted()
	l := g.leastLoaded(g.loops[0])
	l.accepted.Add(1) // at once, so that the next one counts it
	c := &Conn{id: g.nextConn.Add(1), listener: ln, nc: nc, remote: addrPortOf(nc.RemoteAddr()), local: addrPortOf(nc.LocalAddr())}
	l.Post(func() {
		l.accepted.Add(-1)
		l.adopt(c)
		if l.stopping {
			_ = c.Close()
			return
		}
		c.call(ln.options.Accept)
	})
}

// Close stops accepting. Connections that were accepted stay. It may be called from any goroutine but a loop's.
func (ln *Listener) Close() error {
	ln.once.Do(func() {
		_ = ln.std.Close()
		<-ln.done
		ln.group.forgetListener(ln)
	})
	return nil
}

func addrPortOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{} // a Unix socket of our own has no name
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Dial connects to addr, which may be that of a Unix socket (package unixaddr). deadline is a time of the loop's clock, 0 for none.
func (l *Loop) Dial(t *Task, addr netip.AddrPort, deadline int64, o DialOptions) (*Conn, error) {
	c := &Conn{id: l.group.nextConn.Add(1), remote: addr}
	dialer := net.Dialer{KeepAlive: -1, Deadline: c.at(deadline)}
	var nc net.Conn
	var err error
	network, to := "tcp", addr.String()
	if path, ok := unixaddr.Path(addr.Addr()); ok {
		network, to = "unix", path
	}
	t.blocking(func() { nc, err = dialer.Dial(network, to) })
	if late := net.Error(nil); deadline != 0 && errors.As(err, &late) && late.Timeout() && monotonic() >= deadline {
		return nil, ErrDeadline // the dialer has an error of its own for that
	}
	if err != nil {
		return nil, c.translate(err)
	}
	if l.stopping {
		_ = nc.Close()
		return nil, ErrClosed
	}
	c.nc, c.local = nc, addrPortOf(nc.LocalAddr())
	l.adopt(c)
	if o.ReceiveBuffer > 0 {
		_ = nc.(interface{ SetReadBuffer(bytes int) error }).SetReadBuffer(o.ReceiveBuffer)
	}
	if o.KeepAlive > 0 {
		c.SetTCPKeepAlive(max(1, int(o.KeepAlive.Seconds())))
	}
	return c, nil
}
