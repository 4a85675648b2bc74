package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// scribe is a filter that writes down what it is told, puts its name around what passes, and does what first bytes tell it.
type scribe struct {
	name   string
	quiet  bool // passes everything as it is
	away   bool // has nothing to do with any connection
	refuse bool
	mu     sync.Mutex
	told   []string
	held   atomic.Pointer[netloop.Task] // who waits in it
}

type scribed struct {
	*scribe
	ended bool
}

func (f *scribe) Name() string { return f.name }

func (f *scribe) tell(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

// all is what it was told, once nothing more can come.
func (f *scribe) all(t *testing.T, n int) string {
	t.Helper()
	text := ""
	testkit.Eventually(t, f.name+" was told everything", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		text = strings.Join(f.told, ", ")
		return len(f.told) >= n
	})
	return text
}

func denied(what string) *fault.Error { return fault.New(fault.Denied, fault.Plugin, 0, "%s", what) }

func (f *scribe) Connect(_ *netloop.Task, s *exchange.Session) (filter.Connection, *fault.Error) {
	f.tell("connect %s", s.SNI)
	if f.refuse {
		return nil, denied("unwanted")
	}
	if f.away {
		return nil, nil
	}
	return &scribed{scribe: f}, nil
}

func (c *scribed) Upstream(s *exchange.Session) { c.tell("upstream %s", s.Upstream) }

func (c *scribed) FromClient(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error) {
	return c.pass(t, "up", dst, data, last)
}

func (c *scribed) FromUpstream(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error) {
	return c.pass(t, "down", dst, data, last)
}

func (c *scribed) pass(t *netloop.Task, way string, dst, data []byte, last bool) ([]byte, *fault.Error) {
	switch {
	case c.quiet:
		return append(dst, data...), nil
	case last:
		c.tell("%s last", way)
		return append(append(dst, data...), "."+c.name...), nil
	case bytes.Contains(data, []byte("forbidden")):
		return nil, denied("forbidden")
	case bytes.Contains(data, []byte("swallowed")):
		return dst, nil
	case bytes.Contains(data, []byte("held")):
		c.held.Store(t)
		for !c.ended && !t.Loop().Closing() {
			t.Park()
		}
		c.held.Store(nil)
	}
	return append(append(append(dst, c.name...), data...), c.name...), nil
}

func (c *scribed) Close(t *netloop.Task, client, upstream filter.Peer) {
	c.ended = true
	if held := c.held.Load(); held != nil {
		held.Wake()
	}
	c.tell("close %d %d", client, upstream)
}

func TestBytesPassThroughFilters(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, "b", func(c *net.TCPConn) {
				all, _ := io.ReadAll(c)
				_, _ = c.Write(append(append([]byte("["), all...), ']'))
			})
			b.wrap = wrap
			one, away, two := &scribe{name: "1"}, &scribe{name: "-", away: true}, &scribe{name: "2"}
			g := newGate(t, 2, Snapshot{Default: b, Filters: []filter.Network{one, away, two}, IdleTimeout: 20 * time.Second})
			c := g.dial()
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != "12[21hello12.1.2]21.2.1" {
				t.Errorf("%q, %v", got, err)
			}
			s := g.session(1)
			if s.Why != exchange.EndClientClosed || s.BytesIn != int64(len("21hello12.1.2")) || s.BytesOut != int64(len("12[21hello12.1.2]21.2.1")) {
				t.Errorf("%s, %d in, %d out", s.Why, s.BytesIn, s.BytesOut)
			}
			for _, f := range []*scribe{one, two} {
				if told := f.all(t, 5); told != "connect , upstream b, up last, down last, close 2 1" {
					t.Errorf("%s was told: %s", f.name, told)
				}
			}
			if told := away.all(t, 1); told != "connect " {
				t.Errorf("who has nothing to do with it was told: %s", told)
			}
		})
	}
}

// TestFilteredBytesOfManySizes: a filter that lets everything pass changes nothing, in either direction.
func TestFilteredBytesOfManySizes(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			const size = 4 << 20
			sums := make(chan [2][32]byte, 1)
			b := newBackend(t, "b", func(c *net.TCPConn) {
				var sent [32]byte
				var wg sync.WaitGroup
				wg.Go(func() { sent, _ = send(c, 7, size) })
				_, got, err := receive(c)
				if err != nil {
					t.Error(err)
				}
				wg.Wait()
				sums <- [2][32]byte{sent, got}
			})
			b.wrap = wrap
			g := newGate(t, 2, Snapshot{Default: b, Filters: []filter.Network{&scribe{name: "q", quiet: true}}, IdleTimeout: 20 * time.Second})
			c := g.dial()
			var sent [32]byte
			var wg sync.WaitGroup
			wg.Go(func() { sent, _ = send(c, 8, size) })
			n, got, err := receive(c)
			wg.Wait()
			far := <-sums
			if err != nil || n != size || got != far[0] || sent != far[1] {
				t.Errorf("%d bytes, %v: what came is not what was sent", n, err)
			}
			if s := g.session(1); s.BytesIn != size || s.BytesOut != size {
				t.Errorf("%d in, %d out", s.BytesIn, s.BytesOut)
			}
		})
	}
}

func TestAFilterThatDoesNotWant(t *testing.T) {
	refused := &scribe{name: "r", refuse: true}
	b := newBackend(t, "b", hold)
	before := &scribe{name: "a"}
	g := newGate(t, 1, Snapshot{Default: b, Filters: []filter.Network{before, refused}, IdleTimeout: 20 * time.Second})
	g.isRefused()
	s := g.session(1)
	if r, _, _ := b.last(); s.Why != exchange.EndPlugin || s.Err == nil || s.Err.Source != fault.Plugin || r.Client.IsValid() {
		t.Errorf("%s, %v; the upstream was asked by %v", s.Why, s.Err, r.Client)
	}
	if told := before.all(t, 2); told != "connect , close 1 1" {
		t.Errorf("the filter before it was told: %s", told)
	}

	for _, from := range []string{"client", "upstream"} {
		b := newBackend(t, "b", func(c *net.TCPConn) {
			if from == "upstream" {
				_, _ = io.WriteString(c, "forbidden")
			}
			hold(c)
		})
		f := &scribe{name: "f"}
		g := newGate(t, 1, Snapshot{Default: b, Filters: []filter.Network{f}, IdleTimeout: 20 * time.Second})
		c, err := net.Dial("tcp", g.addr.String())
		if err == nil { // else it was reset while it was being opened
			defer c.Close()
			if from == "client" {
				_, _ = io.WriteString(c, "forbidden")
			}
			var got []byte
			if got, err = io.ReadAll(c); len(got) > 0 {
				t.Errorf("what is forbidden to the %s: %q", from, got)
			}
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("what is forbidden to the %s: %v", from, err)
		}
		if s := g.session(1); s.Why != exchange.EndPlugin || s.Err == nil || s.BytesIn+s.BytesOut != 0 {
			t.Errorf("%s, %v", s.Why, s.Err)
		}
		if told := f.all(t, 3); told != "connect , upstream b, close 1 1" {
			t.Errorf("the filter was told: %s", told)
		}
	}
}

// TestASessionEndsWhileAFilterHoldsItsBytes: by the upstream, and by the end of a drain. The snapshot is not retired before
// the filter has given them back.
func TestASessionEndsWhileAFilterHoldsItsBytes(t *testing.T) {
	for _, end := range []string{"upstream", "cut"} {
		t.Run(end, func(t *testing.T) {
			over := make(chan struct{})
			b := newBackend(t, "b", func(c *net.TCPConn) {
				if end == "upstream" {
					<-over
					reset(c)
				}
				hold(c)
			})
			f := &scribe{name: "f"}
			g := newGate(t, 1, Snapshot{Default: b, Filters: []filter.Network{f}, IdleTimeout: 20 * time.Second})
			c := g.dial()
			_, _ = io.WriteString(c, "held")
			testkit.Eventually(t, "the filter holds it", func() bool { return f.held.Load() != nil })
			retired := make(chan struct{})
			next := Snapshot{Name: "tcp-test", Default: b}
			g.server.Use(next.Prepare(1)).Retire(g.group, func() { close(retired) })
			select {
			case <-retired:
				t.Error("the filter's snapshot is retired while the filter is used")
			case <-time.After(20 * time.Millisecond):
			}
			close(over)
			if end == "cut" {
				g.server.Cut()
			}
			<-retired
			if told := f.all(t, 3); !strings.HasPrefix(told, "connect , upstream b, close 1 ") || f.held.Load() != nil {
				t.Errorf("the filter was told: %s", told)
			}
		})
	}
}

// TestFirstBytesPassThroughFiltersToo: what was read to find the upstream is the client's, a PROXY protocol header is not.
func TestFirstBytesPassThroughFiltersToo(t *testing.T) {
	heard := make(chan string, 1)
	b := newBackend(t, "b", func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		heard <- string(all)
	})
	b.proxy = 1
	names, err := NewNames([]Route{{Hosts: []string{"a.example"}, Upstream: b}})
	if err != nil {
		t.Fatal(err)
	}
	f := &scribe{name: "f"}
	g := newGate(t, 1, Snapshot{SNI: names, Default: b, Filters: []filter.Network{f}, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second})
	c := g.dial()
	hello := record(helloWith(sni("a.example")))
	_, _ = c.Write(hello)
	_ = c.CloseWrite()
	_, _ = io.ReadAll(c)
	got := <-heard
	header, rest, _ := strings.Cut(got, "\r\n")
	if !strings.HasPrefix(header, "PROXY TCP4 127.0.0.1 ") || rest != "f"+string(hello)+"f.f" {
		t.Errorf("the upstream heard %q", got)
	}
	if told := f.all(t, 4); !strings.HasPrefix(told, "connect a.example, upstream b, up last") {
		t.Errorf("the filter was told: %s", told)
	}
}
