package tcp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxyproto"
	"wasmgate/runtime/upstream/facts"
)

// backend is an upstream server whose every byte the test decides; it is an Upstream that dials it.
type backend struct {
	net.Listener
	name     string
	proxy    proxyproto.Version
	wrap     func(*netloop.Conn) Stream // what lies on top of its connections; nil: nothing
	refuse   bool                       // Acquire fails
	mu       sync.Mutex
	requests []Request
	released []string
	conns    []*facts.Connection
}

// newBackend serves each connection by a goroutine of its own.
func newBackend(t testing.TB, name string, serve func(*net.TCPConn)) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: ln, name: name}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return b
}

func (b *backend) Name() string { return b.name }

func (b *backend) Acquire(t *netloop.Task, r Request) (Acquired, *fault.Error) {
	b.mu.Lock()
	b.requests = append(b.requests, r)
	b.mu.Unlock()
	l := t.Loop()
	addr := b.Addr().(*net.TCPAddr).AddrPort()
	if b.refuse {
		return Acquired{}, fault.New(fault.Connect, fault.Upstream, 502, "refused by the test")
	}
	c, err := l.Dial(t, addr, l.Now()+int64(5*time.Second), netloop.DialOptions{})
	if err != nil {
		return Acquired{}, &fault.Error{Kind: fault.Connect, Source: fault.Upstream, Err: err}
	}
	c.Owner = b
	conn := &facts.Connection{ID: c.ID(), Upstream: b.name, Host: "backend.test:1", Address: addr, Sampled: true, TraceID: [16]byte{1}, SpanID: [8]byte{2}}
	a := Acquired{Net: c, Stream: c, Facts: conn, Proxy: b.proxy, Release: func(reason string) {
		if c.Owner != b {
			panic("the connection's Owner was not put back")
		}
		_ = c.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.released, b.conns = append(b.released, reason), append(b.conns, conn)
	}}
	if b.wrap != nil {
		a.Stream = b.wrap(c)
	}
	return a, nil
}

// last returns the request that was made last, and what its connection was released with.
func (b *backend) last() (r Request, released string, c *facts.Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.requests); n > 0 {
		r = b.requests[n-1]
	}
	if n := len(b.released); n > 0 {
		released, c = b.released[n-1], b.conns[n-1]
	}
	return r, released, c
}

// echo sends everything back, and ends when its peer does. It is not io.Copy, which splices, and whose pipes stay open
// until the garbage collector finds them: two descriptors that nobody could tell from a leak.
func echo(c *net.TCPConn) {
	b := make([]byte, 16<<10)
	for {
		n, err := c.Read(b)
		if n > 0 {
			_, err = c.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// hold keeps the connection until its peer ends it, and says nothing.
func hold(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// gate is a listener in TCP mode.
type gate struct {
	testing.TB
	group    *netloop.Group
	server   *Server
	snapshot *Snapshot
	addr     netip.AddrPort
	mu       sync.Mutex
	sessions []*exchange.Session
}

// SessionEnded remembers the session.
func (g *gate) SessionEnded(s *exchange.Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions = append(g.sessions, s)
}

// newGate starts a server with so many loops, and looks after the test whether it has left anything behind.
func newGate(t testing.TB, loops int, snap Snapshot) *gate {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	group, err := netloop.New(netloop.Options{Loops: loops})
	if err != nil {
		t.Fatal(err)
	}
	snap.Name = "tcp-test"
	g := &gate{TB: t, group: group, snapshot: snap.Prepare(loops)}
	observers := make([]Observer, loops)
	for i := range observers {
		observers[i] = g
	}
	g.server = New(group, g.snapshot, observers)
	ln, err := group.Listen("127.0.0.1:0", netloop.ListenOptions{Accept: g.server.Accept})
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr()
	group.Start()
	t.Cleanup(func() {
		g.server.Cut()
		group.Close()
		testkit.Eventually(t, "every goroutine has ended", func() bool { return runtime.NumGoroutine() <= goroutines })
		testkit.Eventually(t, "every descriptor is closed", func() bool { return openFiles(t) <= files })
		if n := g.server.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if n := group.Panics(); n != 0 {
			t.Errorf("%d panics", n)
		}
	})
	return g
}

// openFiles is how many descriptors the process has, as far as the system tells.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// session returns the n-th session that ended, from 1, and waits for it.
func (g *gate) session(n int) *exchange.Session {
	g.Helper()
	var s *exchange.Session
	testkit.Eventually(g, "the session has ended", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.sessions) < n {
			return false
		}
		s = g.sessions[n-1]
		return true
	})
	return s
}

func (g *gate) dial() *net.TCPConn {
	g.Helper()
	c, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// isRefused opens a connection that must be reset at once; that can be seen while it is being opened.
func (g *gate) isRefused() {
	g.Helper()
	c, err := net.Dial("tcp", g.addr.String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		g.Errorf("a connection that is not wanted: %v", err)
	}
}

// echoed writes and reads what comes back, as long as what was written.
func (g *gate) echoed(c net.Conn, text string) {
	g.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		g.Fatal(err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		g.Fatalf("%q came back as %q, %v", text, got[:n], err)
	}
}
