package netloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// between connects every client to a connection of its own to far's listener: what the client sends goes there, by one
// Flow for each connection; ended is told how that ended. What far sends is not passed on.
func between(t *testing.T, g *Group, far net.Listener, idle time.Duration, ended func(f *Flow, src, dst *Conn, readErr, writeErr error)) string {
	t.Helper()
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(task *Task, c *Conn) {
			dst, err := task.Loop().Dial(task, far.Addr().(*net.TCPAddr).AddrPort(), 0, DialOptions{})
			if err != nil {
				t.Error(err)
				c.Close()
				return
			}
			f := &Flow{Idle: idle}
			var pass func(*Task, *Conn)
			pass = func(task *Task, c *Conn) {
				readErr, writeErr := c.SpliceTo(task, dst, f)
				if readErr == nil && writeErr == nil {
					c.OnEvent(func(c *Conn) { c.Go(pass) })
					return
				}
				ended(f, c, dst, readErr, writeErr)
				c.Close()
				dst.Close()
			}
			pass(task, c)
		})
	})
	return addr.String()
}

func TestSpliceMovesEveryByteInOrder(t *testing.T) {
	g := start(t, Options{Loops: 2})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	moved := make(chan int64, 1)
	near := between(t, g, far, time.Minute, func(f *Flow, _, _ *Conn, readErr, writeErr error) {
		if readErr != io.EOF || writeErr != nil {
			t.Errorf("%v, %v", readErr, writeErr)
		}
		moved <- f.Bytes
	})
	data := make([]byte, 5<<20)
	for i := range data {
		data[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)
	}
	for _, size := range []int{0, 1, BufferSize - 1, BufferSize, BufferSize + 1, 3 * BufferSize, 256 << 10, len(data)} {
		c, err := net.Dial("tcp", near)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for rest, n := data[:size], 1; len(rest) > 0; n = n*3 + 1 { // small pieces first, then large ones
				k, err := c.Write(rest[:min(n%700_001, len(rest))])
				if err != nil {
					t.Error(err)
					break
				}
				rest = rest[k:]
			}
			c.Close()
		}()
		peer, err := far.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(peer)
		peer.Close()
		if err != nil || !bytes.Equal(got, data[:size]) {
			t.Errorf("%d bytes: %d arrived, or others; %v", size, len(got), err)
		}
		if n := <-moved; n != int64(size) {
			t.Errorf("%d bytes: %d were counted", size, n)
		}
	}
}

func TestSpliceTellsWhichSideFailed(t *testing.T) {
	g := start(t, Options{Loops: 1})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	type failure struct{ read, write error }
	failed := make(chan failure, 1)
	told := func(_ *Flow, _, _ *Conn, readErr, writeErr error) { failed <- failure{readErr, writeErr} }
	near, idle := between(t, g, far, time.Minute, told), between(t, g, far, 200*time.Millisecond, told)
	dialBoth := func(near string) (client, peer *net.TCPConn) {
		c, err := net.Dial("tcp", near)
		if err != nil {
			t.Fatal(err)
		}
		p, err := far.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.TCPConn), p.(*net.TCPConn)
	}
	for _, size := range []int{1, 1 << 20} {
		client, peer := dialBoth(near)
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		_ = client.SetLinger(0)
		client.Close()
		if f := <-failed; !errors.Is(f.read, syscall.ECONNRESET) || f.write != nil {
			t.Errorf("after %d bytes, the source's reset: %+v", size, f)
		}
		peer.Close()

		client, peer = dialBoth(near)
		if _, err := client.Write(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil { // the flow is there
			t.Fatal(err)
		}
		_ = peer.SetLinger(0)
		peer.Close()
		go func() { // the first may go into the void
			for err := error(nil); err == nil; {
				_, err = client.Write(make([]byte, size))
			}
		}()
		if f := <-failed; f.read != nil && !errors.Is(f.read, ErrClosed) || f.write == nil || errors.Is(f.write, ErrDeadline) {
			t.Errorf("with %d bytes, the destination's reset: %+v", size, f)
		}
		client.Close()
	}
	for try := 1; ; try++ {
		client, peer := dialBoth(idle)
		go client.Write(make([]byte, 64<<20))
		f := <-failed
		client.Close()
		peer.Close()
		if f.read == nil && errors.Is(f.write, ErrDeadline) {
			break
		}
		if !errors.Is(f.read, ErrDeadline) || try == 5 { // else the source stood still
			t.Fatalf("a destination that does not read: %+v", f)
		}
	}
}

func TestAbortSentDeliversWhatWasWritten(t *testing.T) {
	g := start(t, Options{Loops: 1})
	const size = 1 << 20 // more than goes out before the reader begins
	written := make(chan struct{})
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(task *Task, c *Conn) {
			if _, err := c.Read(task, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			if _, err := c.Write(task, make([]byte, size)); err != nil {
				t.Error(err)
			}
			c.AbortSent(5 * time.Second)
			close(written)
		})
	})
	c := dial(t, addr)
	fmt.Fprint(c, "x")
	n, err := io.Copy(io.Discard, c)
	<-written
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, then %v; want a reset", n, err)
	}
	if n != size && unsentIsKnown {
		t.Errorf("%d of %d bytes arrived before the reset", n, size)
	}

	addr = listen(t, g, func(c *Conn) {
		c.Go(func(task *Task, c *Conn) {
			c.SetWriteDeadline(task.Loop().Now() + int64(50*time.Millisecond))
			_, _ = c.Write(task, make([]byte, 64<<20))
			c.AbortSent(100 * time.Millisecond)
		})
	})
	c = dial(t, addr)
	testkit.Eventually(t, "nobody waits for ever for a peer that does not read", func() bool { return g.Accepted() == 0 })
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("a clean end")
	}
}

func TestAFlowLeavesTheLoopToOthers(t *testing.T) {
	g := start(t, Options{Loops: 1})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near := between(t, g, far, time.Minute, func(*Flow, *Conn, *Conn, error, error) {})
	echoes := listen(t, g, echo)
	client, err := net.Dial("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var moved atomic.Int64
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := client.Write(b); err != nil {
				return
			}
		}
	}()
	go func() {
		b := make([]byte, 1<<20)
		for {
			n, err := peer.Read(b)
			moved.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	c := dial(t, echoes)
	slow := 0 // echoes during which much was moved: some may have had to wait for the machine, and not for the loop
	for i := range 200 {
		was := moved.Load()
		if _, err := fmt.Fprint(c, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("echo %d: %v", i, err)
		}
		if n := moved.Load() - was; n > 256<<20 {
			if slow++; slow > 5 {
				t.Fatalf("%d bytes moved during one echo, and so much during %d of %d", n, slow, i+1)
			}
		}
	}
	client.Close()
	peer.Close()
}
