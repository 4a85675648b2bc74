package tcp

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// identity is a stream that is not its connection, and changes nothing.
type identity struct{ *netloop.Conn }

func (i identity) CloseWrite(*netloop.Task) error { return i.Conn.CloseWrite() }

// bare is a stream that cannot end what it writes.
type bare struct {
	Stream
}

func streams() map[string]func(*netloop.Conn) Stream {
	return map[string]func(*netloop.Conn) Stream{
		"spliced": nil,
		"stream":  func(c *netloop.Conn) Stream { return identity{c} },
		"bare":    func(c *netloop.Conn) Stream { return bare{c} },
	}
}

// send writes size bytes of a sequence in pieces of all sizes, ends the writing, and returns their hash.
func send(c *net.TCPConn, seed uint64, size int) ([32]byte, error) {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	source, pieces := rand.NewChaCha8(key), rand.New(rand.NewPCG(seed, 1))
	h, buf := sha256.New(), make([]byte, 300<<10)
	for left := size; left > 0; {
		b := buf[:min(left, 1+pieces.IntN(1<<pieces.IntN(19)))]
		_, _ = source.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return [32]byte{}, fmt.Errorf("%d bytes before the end: %w", left, err)
		}
		left -= len(b)
	}
	return [32]byte(h.Sum(nil)), c.CloseWrite()
}

// receive reads to the end, and returns the hash of it.
func receive(c *net.TCPConn) (int64, [32]byte, error) {
	h := sha256.New()
	n, err := io.Copy(h, c)
	return n, [32]byte(h.Sum(nil)), err
}

func TestBytesOfManySizesBothWaysAtOnce(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			sizes := []int{0, 1, 100, 16383, 16384, 16385, 65536, 300_000, 1 << 20, 12 << 20}
			type sum struct {
				n    int64
				hash [32]byte
			}
			var mu sync.Mutex
			received, sent := map[int64]sum{}, map[int64][32]byte{}
			var order atomic.Int64
			b := newBackend(t, "b", func(c *net.TCPConn) {
				i := order.Add(1) - 1
				size := sizes[(int(i)*7+3)%len(sizes)]
				var wg sync.WaitGroup
				wg.Go(func() {
					hash, err := send(c, uint64(1000+i), size)
					if err != nil {
						t.Error("backend:", err)
					}
					mu.Lock()
					sent[int64(size)] = hash
					mu.Unlock()
				})
				n, hash, err := receive(c)
				if err != nil {
					t.Error("backend:", err)
				}
				mu.Lock()
				received[n] = sum{n, hash}
				mu.Unlock()
				wg.Wait()
			})
			b.wrap = wrap
			g := newGate(t, 2, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
			var wg sync.WaitGroup
			clientSent, clientReceived := map[int64][32]byte{}, map[int64]sum{}
			for i, size := range sizes {
				c := g.dial()
				wg.Go(func() {
					hash, err := send(c, uint64(i), size)
					if err != nil {
						t.Error("client:", err)
					}
					mu.Lock()
					clientSent[int64(size)] = hash
					mu.Unlock()
				})
				wg.Go(func() {
					n, hash, err := receive(c)
					if err != nil {
						t.Error("client:", err)
					}
					mu.Lock()
					clientReceived[n] = sum{n, hash}
					mu.Unlock()
				})
			}
			wg.Wait()
			var in, out int64
			for i := range sizes {
				s := g.session(i + 1)
				if s.Why != exchange.EndClientClosed && s.Why != exchange.EndUpstreamClosed || s.Err != nil {
					t.Errorf("a session ended with %s, %v", s.Why, s.Err)
				}
				in, out = in+s.BytesIn, out+s.BytesOut
			}
			testkit.Eventually(t, "the backend has read all ends", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(received) == len(sizes) && len(sent) == len(sizes)
			})
			mu.Lock()
			defer mu.Unlock()
			total := int64(0)
			for _, size := range sizes {
				total += int64(size)
				if received[int64(size)].hash != clientSent[int64(size)] || clientReceived[int64(size)].hash != sent[int64(size)] {
					t.Errorf("the %d bytes are not those that were sent", size)
				}
			}
			if in != total || out != total {
				t.Errorf("%d bytes in and %d out were counted; want %d", in, out, total)
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			after := newBackend(t, "after", func(c *net.TCPConn) {
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "you said %q", b)
			})
			after.wrap = wrap
			g := newGate(t, 1, Snapshot{Default: after, IdleTimeout: 20 * time.Second})
			c := g.dial()
			fmt.Fprint(c, "all of it")
			_ = c.CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != `you said "all of it"` {
				t.Errorf("the client ended first: %q, %v", b, err)
			}
			if s := g.session(1); s.Why != exchange.EndClientClosed {
				t.Errorf("%s, %v", s.Why, s.Err)
			}

			heard := make(chan string, 1)
			first := newBackend(t, "first", func(c *net.TCPConn) {
				fmt.Fprint(c, "goodbye")
				_ = c.CloseWrite()
				b, _ := io.ReadAll(c)
				heard <- string(b)
			})
			first.wrap = wrap
			g = newGate(t, 1, Snapshot{Default: first, IdleTimeout: 20 * time.Second})
			c = g.dial()
			if b, err := io.ReadAll(c); err != nil || string(b) != "goodbye" {
				t.Errorf("the upstream ended first: %q, %v", b, err)
			}
			fmt.Fprint(c, "one more thing")
			_ = c.CloseWrite()
			if got := <-heard; got != "one more thing" {
				t.Errorf("the upstream heard %q", got)
			}
			if s := g.session(1); s.Why != exchange.EndUpstreamClosed || s.BytesIn != 14 || s.BytesOut != 7 {
				t.Errorf("%s, %v, %d and %d bytes", s.Why, s.Err, s.BytesIn, s.BytesOut)
			}
			if _, released, _ := first.last(); released != facts.CloseTunnelEnded {
				t.Errorf("released for %s", released)
			}
		})
	}
}

// reset closes the connection with a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func TestAResetReachesTheOtherSide(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			b := newBackend(t, "b", func(c *net.TCPConn) {
				_, err := io.Copy(io.Discard, c)
				got <- err
			})
			b.wrap = wrap
			g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
			c := g.dial()
			fmt.Fprint(c, "hello")
			testkit.Eventually(t, "the session has its upstream", func() bool { r, _, _ := b.last(); return r.Client.IsValid() })
			reset(c)
			if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client's reset arrived as %v", err)
			}
			s := g.session(1)
			if s.Why != exchange.EndClientReset || s.Err == nil || s.Err.Source != fault.Client {
				t.Errorf("%s, %v", s.Why, s.Err)
			}
			if _, released, _ := b.last(); released != facts.CloseClientAborted {
				t.Errorf("released for %s", released)
			}

			const answer = "what came before the reset"
			b = newBackend(t, "b", func(c *net.TCPConn) {
				_, _ = io.ReadFull(c, make([]byte, 5))
				fmt.Fprint(c, answer)
				reset(c)
			})
			b.wrap = wrap
			g = newGate(t, 1, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
			c = g.dial()
			fmt.Fprint(c, "hello")
			text, err := io.ReadAll(c)
			if !errors.Is(err, syscall.ECONNRESET) || len(text) != 0 && string(text) != answer {
				t.Errorf("the upstream's reset arrived as %q, %v", text, err)
			}
			s = g.session(1)
			if s.Why != exchange.EndUpstreamReset || s.Err == nil || s.Err.Source != fault.Upstream {
				t.Errorf("%s, %v", s.Why, s.Err)
			}
			if _, released, c := b.last(); released != facts.CloseError || c.Err == nil {
				t.Errorf("released for %s, %v", released, c.Err)
			}
		})
	}
}

func TestASlowReaderStopsItsWriter(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			const size = 96 << 20
			var wrote atomic.Int64
			b := newBackend(t, "b", func(c *net.TCPConn) {
				piece := make([]byte, 64<<10)
				for range size / len(piece) {
					n, err := c.Write(piece)
					wrote.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			b.wrap = wrap
			g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
			c := g.dial()
			_ = c.SetReadBuffer(64 << 10)
			was := int64(-1)
			stalled := time.Now()
			testkit.Eventually(t, "the writer is stopped", func() bool {
				if n := wrote.Load(); n != was {
					was, stalled = n, time.Now()
				}
				return time.Since(stalled) > 300*time.Millisecond
			})
			if was == size {
				t.Fatal("everything was written although nobody reads")
			}
			// The direction back is not held up by it.
			other := g.dial()
			if _, err := io.ReadFull(other, make([]byte, 1<<20)); err != nil {
				t.Errorf("another session beside it: %v", err)
			}
			reset(other)
			if n, err := io.Copy(io.Discard, c); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// TestIdleTimeout: silence ends a session, and nothing else does; where the machine stood still for as long there is another try, with
// twice the time.
func TestIdleTimeout(t *testing.T) {
	for name, wrap := range streams() {
		t.Run(name, func(t *testing.T) {
			for idle := 150 * time.Millisecond; ; idle *= 2 {
				err := silenceEnds(t, wrap, idle)
				if err == nil {
					break
				}
				if idle > 4*time.Second {
					t.Fatal(err)
				}
			}

			// One direction alone keeps a session.
			for idle := 150 * time.Millisecond; ; idle *= 2 {
				b, err := oneDirection(t, wrap, idle)
				if err == nil && len(b) == 40 {
					break
				}
				if idle > 4*time.Second {
					t.Fatalf("%q, %v", b, err)
				}
			}
		})
	}
}

// silenceEnds says something, and then nothing. The error is that it could not be said.
func silenceEnds(t *testing.T, wrap func(*netloop.Conn) Stream, idle time.Duration) error {
	t.Helper()
	b := newBackend(t, "b", echo)
	b.wrap = wrap
	g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: idle})
	silent := g.dial()
	one := make([]byte, 1)
	if _, err := io.WriteString(silent, "x"); err != nil {
		return err
	}
	if _, err := io.ReadFull(silent, one); err != nil {
		return err
	}
	if _, err := silent.Read(one); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end of silence arrived as %v", err)
	}
	if s := g.session(1); s.Why != exchange.EndIdleTimeout || time.Duration(s.Ended-s.Started) < idle {
		t.Errorf("%s after %v", s.Why, time.Duration(s.Ended-s.Started))
	}
	if _, released, _ := b.last(); released != facts.CloseTimeout {
		t.Errorf("released for %s", released)
	}
	return nil
}

// oneDirection is what comes of a session in which the upstream alone speaks, for four times as long as it may be silent.
func oneDirection(t *testing.T, wrap func(*netloop.Conn) Stream, idle time.Duration) ([]byte, error) {
	t.Helper()
	ticker := newBackend(t, "ticker", func(c *net.TCPConn) {
		tick := time.NewTicker(idle / 10)
		defer tick.Stop()
		for range 40 {
			<-tick.C
			if _, err := c.Write([]byte{'.'}); err != nil {
				return
			}
		}
	})
	ticker.wrap = wrap
	g := newGate(t, 1, Snapshot{Default: ticker, IdleTimeout: idle})
	return io.ReadAll(g.dial())
}

func TestAWriterWhoseReaderHasStoppedIsIdle(t *testing.T) {
	b := newBackend(t, "b", func(c *net.TCPConn) { _, _ = c.Write(make([]byte, 64<<20)) })
	g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: 200 * time.Millisecond})
	_ = g.dial()
	if s := g.session(1); s.Why != exchange.EndIdleTimeout {
		t.Errorf("%s, %v", s.Why, s.Err)
	}
}

func TestAClientThatHasEndedAndIsGone(t *testing.T) {
	gone := make(chan error, 1)
	b := newBackend(t, "b", func(c *net.TCPConn) {
		if b, err := io.ReadAll(c); err != nil || string(b) != "question" {
			t.Errorf("%q, %v", b, err)
		}
		_, err := c.Write(make([]byte, 64<<20))
		gone <- err
	})
	g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
	c := g.dial()
	fmt.Fprint(c, "question")
	_ = c.CloseWrite()
	_, _ = io.ReadFull(c, make([]byte, 1000))
	reset(c)
	if err := <-gone; err == nil {
		t.Error("the upstream has written everything to a client that is gone")
	}
	if s := g.session(1); s.Why != exchange.EndClientReset {
		t.Errorf("%s, %v", s.Why, s.Err)
	}
}

func TestNoUpstream(t *testing.T) {
	g := newGate(t, 1, Snapshot{IdleTimeout: time.Second})
	g.isRefused()
	if s := g.session(1); s.Why != exchange.EndNoRoute || s.Err == nil || s.Err.Kind != fault.NoRoute {
		t.Errorf("%s, %v", s.Why, s.Err)
	}
	b := newBackend(t, "b", hold)
	b.refuse = true
	g = newGate(t, 1, Snapshot{Default: b, IdleTimeout: time.Second})
	g.isRefused()
	if s := g.session(1); s.Why != exchange.EndConnectFailed || s.Upstream != "b" || s.Err.Kind != fault.Connect {
		t.Errorf("%s, %s, %v", s.Why, s.Upstream, s.Err)
	}
}

func TestDrain(t *testing.T) {
	b := newBackend(t, "b", echo)
	names, err := NewNames([]Route{{Hosts: []string{"a.example"}, Upstream: b}})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, 2, Snapshot{Default: b, SNI: names, HelloTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second})
	old, waiting := g.dial(), g.dial()
	g.echoed(old, "before")
	testkit.Eventually(t, "both are sessions", func() bool { return g.server.Sessions() == 2 })
	g.server.Drain()
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a session without an upstream: %v", err)
	}
	g.isRefused()
	g.echoed(old, "while it drains")
	g.server.Cut()
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the drain: %v", err)
	}
	for i := range 3 {
		if s := g.session(i + 1); s.Why != exchange.EndDrained {
			t.Errorf("%s, %v", s.Why, s.Err)
		}
	}
	if _, released, _ := b.last(); released != facts.CloseDraining {
		t.Errorf("released for %s", released)
	}
}

func TestASnapshotIsRetiredWhenNobodyAsksItAnyMore(t *testing.T) {
	first, second := newBackend(t, "first", func(c *net.TCPConn) { fmt.Fprint(c, "1"); hold(c) }), newBackend(t, "second", func(c *net.TCPConn) { fmt.Fprint(c, "2"); hold(c) })
	g := newGate(t, 2, Snapshot{Default: first, IdleTimeout: 20 * time.Second})
	one := make([]byte, 1)
	for i, want := range []string{"1", "2"} {
		c := g.dial()
		if _, err := io.ReadFull(c, one); err != nil || string(one) != want {
			t.Fatalf("session %d: %q, %v", i, one, err)
		}
		if i == 0 {
			next := Snapshot{Name: "tcp-test", Default: second, IdleTimeout: 20 * time.Second}
			old := g.server.Use(next.Prepare(2))
			var loops sync.WaitGroup
			loops.Add(2)
			old.Retire(g.group, loops.Done)
			loops.Wait()
		}
	}
}

func TestWhatIsToldOfASession(t *testing.T) {
	b := newBackend(t, "b", echo)
	g := newGate(t, 1, Snapshot{Default: b, IdleTimeout: 20 * time.Second})
	c := g.dial()
	g.echoed(c, "12345")
	_ = c.CloseWrite()
	_, _ = io.ReadAll(c)
	s := g.session(1)
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	if s.Client.Peer != local || s.Client.Addr != local.Addr() || s.Client.Server != "tcp-test" || s.Client.Scheme != "tcp" || s.Client.Local != g.addr || s.Via != (netip.AddrPort{}) {
		t.Errorf("client: %+v, via %v", s.Client, s.Via)
	}
	if s.Upstream != "b" || s.Host != "backend.test:1" || s.Address != b.Addr().(*net.TCPAddr).AddrPort() || s.ConnID == 0 || s.ConnTrace[0] != 1 || s.ConnSpan[0] != 2 {
		t.Errorf("upstream: %+v", s)
	}
	if s.Started == 0 || s.WallStarted == 0 || s.Routed < s.Started || s.Acquired < s.Routed || s.Ended < s.Acquired || s.PoolWait <= 0 {
		t.Errorf("times: %+v", s)
	}
	_, _, conn := b.last()
	if s.BytesIn != 5 || s.BytesOut != 5 || conn.BytesIn != 5 || conn.BytesOut != 5 {
		t.Errorf("bytes: %d in, %d out; of the connection %d in, %d out", s.BytesIn, s.BytesOut, conn.BytesIn, conn.BytesOut)
	}
}
