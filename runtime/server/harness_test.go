package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/route"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// backend is an upstream whose every byte the test decides: serve is called for each connection.
type backend struct {
	net.Listener
	accepted atomic.Int64
	wg       sync.WaitGroup
}

func newBackend(t *testing.T, serve func(n int, c *backendConn)) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: ln}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n := int(b.accepted.Add(1))
			b.wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				serve(n, &backendConn{Conn: c, r: bufio.NewReader(c)})
			})
		}
	})
	return b
}

// backendConn is a backend's side of a connection.
type backendConn struct {
	net.Conn
	r *bufio.Reader
}

// head reads a request head as text, without its final empty line; "" at the end of the connection.
func (c *backendConn) head() string {
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

// pour sends so many bytes, and says how many have gone once no more are taken for a while.
func (c *backendConn) pour(t *testing.T, size int, sent chan<- int) {
	b, n, told := make([]byte, 64<<10), 0, false
	for n < size {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		k, err := c.Write(b[:min(len(b), size-n)])
		n += k
		broken := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		if broken {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if err != nil && !told { // what takes its time later is no news
			told = true
			sent <- n
		}
		if broken {
			return
		}
	}
}

func (c *backendConn) say(format string, args ...any) { fmt.Fprintf(c.Conn, format, args...) }

// hello answers every request with its own head.
func hello(_ int, c *backendConn) {
	for h := c.head(); h != ""; h = c.head() {
		c.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
	}
}

// journal remembers the exchanges that ended.
type journal struct {
	off  atomic.Bool
	mu   sync.Mutex
	list []entry
}

type entry struct {
	tunnel   exchange.Tunnel
	status   int
	client   netip.Addr
	err      string
	attempts []exchange.Attempt
}

func (j *journal) Begin(*exchange.Exchange)                             {}
func (j *journal) EndCall(x *exchange.Exchange)                         { j.End(x) }
func (j *journal) AttemptStarted(*exchange.Exchange, *exchange.Attempt) {}
func (j *journal) End(x *exchange.Exchange) {
	if j.off.Load() {
		return
	}
	e := entry{tunnel: x.Tunnel, status: x.StatusSent, client: x.Client.Addr, attempts: append([]exchange.Attempt(nil), x.Attempts...)}
	if x.Err != nil {
		e.err = x.Err.Error()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, e)
}

func (j *journal) entries() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]entry(nil), j.list...)
}

// gate is a server in front of one backend.
type gate struct {
	*testing.T
	group    *netloop.Group
	server   *Server
	snapshot *Snapshot
	addr     netip.AddrPort
	journal  *journal
}

type change func(*Snapshot, *upstream.Config)

// newGate starts a server with one route to the backend; changes are made before it starts.
func newGate(t *testing.T, b *backend, changes ...change) *gate {
	t.Helper()
	before := runtime.NumGoroutine()
	g, err := netloop.New(netloop.Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	limits := http1.DefaultLimits
	snap := &Snapshot{
		Name: "test", Limits: &limits, HeadTimeout: 5 * time.Second, BodyIdle: 5 * time.Second,
		KeepAlive: KeepAlive{Enabled: true, IdleTimeout: 10 * time.Second},
		Routes:    tableOf(&Route{Name: "all", Upstream: 0, Upgrades: Upgrades{Any: true}}),
		Upstreams: []Upstream{{Plan: Plan{Options: proxy.Options{ResponseHeader: 5 * time.Second, IdleRead: 5 * time.Second, Attempts: 2, Limits: &limits}}}},
	}
	cfg := upstream.Config{
		Name: "backend", Connect: 20 * time.Second,
		Pool: pool.Options{MaxConnections: 100, IdleTimeout: 10 * time.Second}, Queue: upstream.Queue{Acquire: 20 * time.Second, Max: 100}, Budget: upstream.Budget{Least: 10},
	}
	if b != nil {
		addr := b.Addr().(*net.TCPAddr)
		cfg.Targets = []upstream.Target{{Host: addr.IP.String(), Port: uint16(addr.Port)}}
	}
	for _, c := range changes {
		c(snap, &cfg)
	}
	names := resolve.New(resolve.Options{})
	snap.Upstreams[0].Upstream = upstream.New(g, cfg, names, nil)
	gt := &gate{T: t, group: g, snapshot: snap.Prepare(2), journal: &journal{}}
	gt.server = New(g, snap, []Observer{gt.journal, gt.journal})
	ln, err := g.Listen("127.0.0.1:0", netloop.ListenOptions{Accept: gt.server.Accept})
	if err != nil {
		t.Fatal(err)
	}
	gt.addr = ln.Addr()
	g.Start()
	t.Cleanup(func() {
		g.Close()
		names.Close()
		if b != nil {
			b.Close()
			b.wg.Wait()
		}
		if n := g.Panics(); n != 0 {
			t.Errorf("%d handlers panicked", n)
		}
		gt.eventually("no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	return gt
}

func (g *gate) eventually(what string, fact func() bool) {
	g.Helper()
	testkit.Eventually(g.T, what, fact)
}

// entry is exchange i, once it has ended: that is after its answer has arrived.
func (g *gate) entry(i int) entry {
	g.Helper()
	g.eventually("the exchange is told of", func() bool { return len(g.journal.entries()) > i })
	return g.journal.entries()[i]
}

// client is a client of which the test decides every byte.
type client struct {
	*gate
	net.Conn
	r *bufio.Reader
}

func (g *gate) client() *client {
	g.Helper()
	c, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		g.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	g.Cleanup(func() { c.Close() })
	return &client{g, c, bufio.NewReader(c)}
}

func (c *client) say(format string, args ...any) *client {
	c.Helper()
	if _, err := fmt.Fprintf(c.Conn, format, args...); err != nil {
		c.Errorf("writing: %v", err)
	}
	return c
}

// head reads an answer's head.
func (c *client) head() string {
	c.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.Fatalf("the connection ended with %v after %q", err, b.String())
		}
		if line == "\r\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

func (c *client) bytes(n int) string {
	c.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(c.r, b); err != nil {
		c.Fatalf("the connection ended with %v after %q", err, b[:k])
	}
	return string(b)
}

// answer reads an answer with a Content-Length.
func (c *client) answer() (head, body string) {
	c.Helper()
	head = c.head()
	var n int
	for line := range strings.Lines(head) {
		switch name, v, _ := strings.Cut(line, ":"); {
		case strings.EqualFold(name, "content-length"):
			fmt.Sscan(v, &n)
		case strings.EqualFold(name, "transfer-encoding"):
			return head, c.chunks()
		}
	}
	return head, c.bytes(n)
}

// chunks reads a body in chunks, and drops its trailers.
func (c *client) chunks() (body string) {
	c.Helper()
	for {
		var n int
		line, _ := c.r.ReadString('\n')
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			c.Fatalf("%q is no chunk's size", line)
		}
		if n == 0 {
			c.head()
			return body
		}
		body += c.bytes(n)
		c.bytes(2)
	}
}

// rest reads until the end of the connection.
func (c *client) rest() string {
	c.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		c.Errorf("reading to the end: %v", err)
	}
	return string(b)
}

func (c *client) want(got, part string) {
	c.Helper()
	if !strings.Contains(got, part) {
		c.Errorf("got %q, want %q in it", got, part)
	}
}

// tableOf makes a table in which every route is for every request.
// tableUnder has each route serve what begins with a prefix: a route and its prefix in turn.
func tableUnder(list ...any) *route.Table[*Route] {
	var rules []route.Rule
	var routes []*Route
	for i := 0; i < len(list); i += 2 {
		routes, rules = append(routes, list[i].(*Route)), append(rules, route.Rule{PathPrefix: list[i+1].(string)})
	}
	t, err := route.New(rules, routes)
	if err != nil {
		panic(err)
	}
	return t
}

func tableOf(routes ...*Route) *route.Table[*Route] {
	t, err := route.New(make([]route.Rule, len(routes)), routes)
	if err != nil {
		panic(err)
	}
	return t
}
