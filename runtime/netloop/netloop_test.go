package netloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// start runs a group for the test and fails it if goroutines are left over.
func start(t *testing.T, o Options) *Group {
	t.Helper()
	before := runtime.NumGoroutine()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		g.Close()
		testkit.Eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	})
	return g
}

// on runs fn as a task of the loop and waits for its end.
func on(l *Loop, fn func(*Task)) {
	done := make(chan struct{})
	l.Post(func() {
		l.Go(func(t *Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

func listen(t *testing.T, g *Group, accept func(*Conn)) netip.AddrPort {
	t.Helper()
	ln, err := g.Listen("127.0.0.1:0", ListenOptions{Accept: accept, Refusal: []byte("busy")})
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr()
}

func dial(t *testing.T, addr netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// echo answers each burst with itself and holds a task only while there is something to do.
func echo(c *Conn) {
	c.OnEvent(func(c *Conn) {
		c.Go(func(t *Task, c *Conn) {
			b := t.Loop().Buffer()
			defer t.Loop().Recycle(b)
			for {
				n, err := c.TryRead(b)
				if n == 0 && err == nil {
					echo(c)
					return
				}
				if err == nil {
					_, err = c.Write(t, b[:n])
				}
				if err != nil {
					c.Close()
					return
				}
			}
		})
	})
}

func TestManyClientsTalkToIdleConnections(t *testing.T) {
	for try := 1; ; try++ { // a loop that stands still between looking and taking may take one too many
		n := manyClients(t)
		if n == 25 {
			break
		}
		if try == 3 {
			t.Fatalf("loop 0 has %d of 50 connections; they are spread by count", n)
		}
	}
}

// manyClients has 50 clients talk to two loops, and says how many of them loop 0 has.
func manyClients(t *testing.T) int {
	t.Helper()
	g := start(t, Options{Loops: 2})
	addr := listen(t, g, echo)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c := dial(t, addr)
			for j := range 50 {
				msg := fmt.Sprintf("client %d message %d", i, j)
				if _, err := io.WriteString(c, msg); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(msg))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != msg {
					t.Errorf("got %q, %v; want %q", got, err, msg)
					return
				}
			}
		})
	}
	wg.Wait()
	n := g.Loop(0).Stats().Conns
	testkit.Eventually(t, "idle connections hold no task", func() bool {
		return g.Loop(0).Stats().Tasks == 0 && g.Loop(1).Stats().Tasks == 0
	})
	return n
}

func TestALargeWriteWaitsForItsReader(t *testing.T) {
	g := start(t, Options{Loops: 1})
	const size = 32 << 20
	var wrote atomic.Int64
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(t *Task, c *Conn) {
			defer c.Close()
			b := make([]byte, 64<<10)
			for range size / len(b) {
				n, err := c.Write(t, b)
				wrote.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	})
	c := dial(t, addr)
	testkit.Eventually(t, "the writer has begun", func() bool { return wrote.Load() > 0 })
	if wrote.Load() == size {
		t.Fatal("32 MiB were written although nobody reads: no back-pressure")
	}
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Fatalf("read %d bytes, %v; want %d", n, err, size)
	}
}

func TestDeadlines(t *testing.T) {
	g := start(t, Options{Loops: 1})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.Addr().(*net.TCPAddr).AddrPort()
	on(g.Loop(0), func(task *Task) {
		l := task.Loop()
		c, err := l.Dial(task, addr, l.Now()+int64(20*time.Second), DialOptions{KeepAlive: 30 * time.Second})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		begun := time.Now()
		c.SetReadDeadline(l.Tick() + int64(30*time.Millisecond))
		if _, err := c.Read(task, make([]byte, 1)); !errors.Is(err, ErrDeadline) {
			t.Errorf("Read of a silent peer: %v; want ErrDeadline", err)
		}
		if took := time.Since(begun); took < 30*time.Millisecond {
			t.Errorf("the deadline fired after %v, before its 30 ms", took)
		}
		c.SetReadDeadline(0)
		c.SetWriteDeadline(l.Tick() + int64(30*time.Millisecond))
		if _, err := c.Write(task, make([]byte, 64<<20)); !errors.Is(err, ErrDeadline) {
			t.Errorf("Write to a peer that does not read: %v; want ErrDeadline", err)
		}
		begun = time.Now()
		l.Tick() // the loop sleeps by its own time, which may be older
		task.Sleep(20 * time.Millisecond)
		if took := time.Since(begun); took < 20*time.Millisecond {
			t.Errorf("Sleep(20ms) took %v", took)
		}
	})
}

// TestADeadlineBroughtForwardEndsWhatIsUnderWay: this is how one task ends another's Read or Write.
func TestADeadlineBroughtForwardEndsWhatIsUnderWay(t *testing.T) {
	g := start(t, Options{Loops: 1})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.Addr().(*net.TCPAddr).AddrPort()
	on(g.Loop(0), func(task *Task) {
		l := task.Loop()
		c, err := l.Dial(task, addr, l.Now()+int64(20*time.Second), DialOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for what, do := range map[string]func(){
			"Read":  func() { _, err = c.Read(task, make([]byte, 1)) },
			"Write": func() { _, err = c.Write(task, make([]byte, 64<<20)) },
		} {
			begun := time.Now()
			c.SetReadDeadline(l.Now() + int64(20*time.Second))
			c.SetWriteDeadline(l.Now() + int64(20*time.Second))
			l.AfterFunc(20*time.Millisecond, func() {
				c.SetReadDeadline(l.Now() + 1)
				c.SetWriteDeadline(l.Now() + 1)
			})
			if do(); !errors.Is(err, ErrDeadline) || time.Since(begun) > 10*time.Second {
				t.Errorf("%s ended after %v with %v", what, time.Since(begun), err)
			}
		}
	})
}

func TestAnIdleConnectionIsToldOfItsDeadlineAndOfTheEnd(t *testing.T) {
	g := start(t, Options{Loops: 1})
	events := make(chan string, 8)
	addr := listen(t, g, func(c *Conn) {
		c.SetReadDeadline(c.Loop().Now() + int64(20*time.Millisecond))
		c.OnEvent(func(c *Conn) {
			n, err := c.TryRead(make([]byte, 8))
			events <- fmt.Sprint("deadline: ", n, err)
			c.SetReadDeadline(0)
			c.OnEvent(func(c *Conn) {
				_, err := c.TryRead(make([]byte, 8))
				events <- fmt.Sprint("end: ", err)
				c.Close()
			})
		})
	})
	c := dial(t, addr)
	if got := <-events; got != "deadline: 0 <nil>" {
		t.Error(got)
	}
	c.Close()
	if got := <-events; got != "end: EOF" {
		t.Error(got)
	}
}

func TestAnIdleConnectionMovesToAnotherLoop(t *testing.T) {
	g := start(t, Options{Loops: 2})
	moved := make(chan string, 1)
	addr := listen(t, g, func(c *Conn) {
		from := c.Loop()
		to := g.Loop(1 - from.Index())
		c.OnEvent(func(*Conn) { t.Error("event on the old loop") })
		c.OnEvent(nil)
		c.MoveTo(to, func(c *Conn) {
			if c.Loop() != to {
				t.Error("not on the new loop")
			}
			c.Go(func(task *Task, c *Conn) {
				defer c.Close()
				b := make([]byte, 16)
				n, err := c.Read(task, b)
				moved <- fmt.Sprint(string(b[:n]), err, task.Loop() == to, c.Quiet())
			})
		})
	})
	c := dial(t, addr)
	fmt.Fprint(c, "hello")
	if got := <-moved; !strings.HasPrefix(got, "hello<nil> true") && !strings.HasPrefix(got, "h<nil> true") {
		t.Error(got)
	}
}

func TestAPanicEndsItsConnectionAndNothingElse(t *testing.T) {
	reports := make(chan string, 4)
	g := start(t, Options{Loops: 1, OnPanic: func(v any, stack []byte) { reports <- fmt.Sprint(v, "\n", string(stack)) }})
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(t *Task, c *Conn) {
			b := make([]byte, 16)
			n, err := c.Read(t, b)
			if err == nil && string(b[:n]) == "boom" {
				panic("handler broke")
			}
			_, _ = c.Write(t, b[:n])
			c.Close()
		})
	})
	bad, good := dial(t, addr), dial(t, addr)
	fmt.Fprint(bad, "boom")
	if b, err := io.ReadAll(bad); err != nil || len(b) != 0 {
		t.Errorf("the connection of the panic: %q, %v; want its end", b, err)
	}
	if report := <-reports; !strings.Contains(report, "handler broke") || !strings.Contains(report, "netloop_test.go") {
		t.Errorf("the report lacks the value or the stack: %s", report)
	}
	fmt.Fprint(good, "fine")
	if b, err := io.ReadAll(good); err != nil || string(b) != "fine" {
		t.Errorf("the other connection: %q, %v", b, err)
	}
	if g.Panics() != 1 {
		t.Errorf("Panics() = %d, want 1", g.Panics())
	}
}

func TestAwaitLeavesTheLoopToOthers(t *testing.T) {
	g := start(t, Options{Loops: 1})
	release, began := make(chan struct{}), make(chan struct{})
	go on(g.Loop(0), func(task *Task) {
		task.Await(func() { close(began); <-release })
	})
	<-began
	on(g.Loop(0), func(task *Task) { close(release) }) // would deadlock if Await held the loop
	on(g.Loop(0), func(task *Task) {
		defer func() {
			if v := recover(); v != "from the goroutine" {
				t.Errorf("the panic of Await's function arrived as %v", v)
			}
		}()
		task.Await(func() { panic("from the goroutine") })
	})
}

func TestWakeBeforeParkIsNotLost(t *testing.T) {
	g := start(t, Options{Loops: 1})
	on(g.Loop(0), func(task *Task) {
		task.Wake()
		task.Park()
		other := 0
		l := task.Loop()
		l.Go(func(second *Task) { other++; task.Wake() })
		task.Park()
		if other != 1 {
			t.Error("Park returned before the other task ran")
		}
	})
}

func TestConnectionsOverTheLimitAreRefusedEarly(t *testing.T) {
	g := start(t, Options{Loops: 2, MaxConns: 2})
	addr := listen(t, g, echo)
	first, second := dial(t, addr), dial(t, addr)
	g.mu.Lock()
	ln := g.listeners[0]
	g.mu.Unlock()
	testkit.Eventually(t, "two are accepted", func() bool { return g.Accepted() == 2 && ln.Stats().Open == 2 })
	if b, err := io.ReadAll(dial(t, addr)); err != nil || string(b) != "busy" {
		t.Errorf("the third got %q, %v; want the refusal", b, err)
	}
	if g.Refused() != 1 {
		t.Errorf("Refused() = %d, want 1", g.Refused())
	}
	if s := ln.Stats(); s != (ListenerStats{Accepted: 2, Refused: 1, Open: 2}) {
		t.Errorf("the listener counts %+v", s)
	}
	first.Close()
	testkit.Eventually(t, "the first is gone", func() bool { return g.Accepted() == 1 && ln.Stats().Open == 1 })
	fourth := dial(t, addr)
	fmt.Fprint(fourth, "x")
	if _, err := io.ReadFull(fourth, make([]byte, 1)); err != nil {
		t.Errorf("a place became free, but: %v", err)
	}
	second.Close()
}

func TestHalfClose(t *testing.T) {
	g := start(t, Options{Loops: 1})
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(t *Task, c *Conn) {
			defer c.Close()
			var all []byte
			b := make([]byte, 100)
			for {
				n, err := c.Read(t, b)
				all = append(all, b[:n]...)
				if err == io.EOF {
					break
				}
			}
			_, _ = c.Write(t, bytes.ToUpper(all))
		})
	})
	c := dial(t, addr)
	fmt.Fprint(c, "until the end")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "UNTIL THE END" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCloseEndsWhatIsParked(t *testing.T) {
	g := start(t, Options{Loops: 2})
	ended := make(chan error, 3)
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(t *Task, c *Conn) {
			_, err := c.Read(t, make([]byte, 1))
			ended <- err
		})
	})
	dial(t, addr)
	g.Loop(0).Post(func() {
		g.Loop(0).Go(func(task *Task) {
			for !task.Loop().Closing() {
				task.Park()
			}
			ended <- nil
		})
	})
	testkit.Eventually(t, "both are parked", func() bool { return g.Loop(0).Stats().Tasks+g.Loop(1).Stats().Tasks == 2 })
	g.Close()
	for range 2 {
		if err := <-ended; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

func TestDialTellsWhatFailed(t *testing.T) {
	g := start(t, Options{Loops: 1})
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(testkit.Port(t)))
	on(g.Loop(0), func(task *Task) {
		_, err := task.Loop().Dial(task, addr, task.Loop().Now()+int64(20*time.Second), DialOptions{})
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("dialling a closed port: %v", err)
		}
	})
}

func TestTheWheelFiresInTimeAndNeverEarly(t *testing.T) {
	var w wheel
	rng := uint64(1)
	const n = 2000
	timers := make([]Timer, n)
	due := 0
	for i := range timers {
		rng = rng*6364136223846793005 + 1442695040888963407
		w.add(&timers[i], int64(rng>>40)<<13) // up to 137 s: several turns of the wheel
	}
	for i := 0; i < n; i += 3 {
		w.remove(&timers[i])
		w.remove(&timers[i])
	}
	for now := int64(0); now < 140e9; now += 3_700_000 {
		if next := w.wait(now); w.count > 0 && next > wheelSlots<<tickShift {
			t.Fatalf("wait(%d) = %d", now, next)
		}
		w.advance(now, func(timer *Timer) {
			due++
			if timer.when > now || now-timer.when > 2<<tickShift {
				t.Fatalf("a timer for %d fired at %d", timer.when, now)
			}
		})
	}
	if want := n - (n+2)/3; due != want || w.count != 0 || w.wait(0) != -1 {
		t.Errorf("%d timers fired, want %d; %d left", due, want, w.count)
	}
}

// TestHangUpIsTold: whoever waits for something else than a connection learns that its peer has gone, once; what the peer had
// sent before is there to be read.
func TestHangUpIsTold(t *testing.T) {
	g := start(t, Options{Loops: 1})
	l := g.Loop(0)
	accepted := make(chan *Conn, 1)
	addr := listen(t, g, func(c *Conn) { accepted <- c })
	open := func() (net.Conn, *Conn) { return dial(t, addr), <-accepted }
	watch := func(c *Conn) *atomic.Int64 {
		told := &atomic.Int64{}
		on(l, func(*Task) { c.OnHangUp(func(*Conn) { told.Add(1) }) })
		return told
	}
	for how, leave := range map[string]func(*net.TCPConn){
		"closed": func(c *net.TCPConn) { c.Close() },
		"half":   func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset":  func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
	} {
		peer, c := open()
		told := watch(c)
		leave(peer.(*net.TCPConn))
		testkit.Eventually(t, how+": it is told", func() bool { return told.Load() == 1 })
		again := watch(c)
		testkit.Eventually(t, how+": who comes later is told, too", func() bool { return again.Load() == 1 })
		on(l, func(*Task) { c.Close() })
		if told.Load() != 1 {
			t.Errorf("%s: told %d times", how, told.Load())
		}
	}

	// Whoever does not want to know any more is not told; and everything is read, in order, before the end.
	peer, c := open()
	told := watch(c)
	on(l, func(*Task) { c.OnHangUp(nil) })
	_, _ = io.WriteString(peer, "first ")
	_, _ = io.WriteString(peer, "second")
	peer.Close()
	var got []byte
	on(l, func(t *Task) {
		b := make([]byte, 4)
		for {
			n, err := c.Read(t, b)
			if got = append(got, b[:n]...); err != nil {
				break
			}
		}
		c.Close()
	})
	if string(got) != "first second" || told.Load() != 0 {
		t.Errorf("read %q, and told %d times", got, told.Load())
	}

	// One that was closed here is no news.
	_, c = open()
	told = watch(c)
	on(l, func(*Task) {
		c.Close()
		c.OnHangUp(func(*Conn) { told.Add(1) })
	})
	on(l, func(*Task) {})
	if told.Load() != 0 {
		t.Error("told of what we did ourselves")
	}
}
