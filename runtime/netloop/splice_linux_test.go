//go:build linux && !wasmgate_portable

package netloop

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/testkit"
)

const unsentIsKnown = true

// pipesOf returns how many pipes the loop has open, and how many of them nobody uses.
func pipesOf(l *Loop) (open, free int) {
	on(l, func(*Task) { open, free = l.pipes.open, len(l.pipes.free) })
	return open, free
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// carry sends size bytes from near to far, reads them, and returns both ends.
func carry(t *testing.T, near string, far net.Listener, size int) (client, peer net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	peer, err = far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	go client.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes are not what was sent: %v", size, err)
	}
	return client, peer
}

func TestNoPipeIsHeldWhileNothingMoves(t *testing.T) {
	files := openFiles(t)
	g := start(t, Options{Loops: 1})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	near := between(t, g, far, time.Minute, func(*Flow, *Conn, *Conn, error, error) {})
	for range 100 {
		client, peer := carry(t, near, far, 1<<20)
		defer client.Close()
		defer peer.Close()
	}
	testkit.Eventually(t, "every pipe is given back", func() bool {
		open, free := pipesOf(g.Loop(0))
		return open == free
	})
	open, _ := pipesOf(g.Loop(0))
	if open < 1 || open > sparePipes {
		t.Errorf("%d pipes are kept", open)
	}
	// A reader that stops leaves bytes in a pipe; when its flow ends the pipe is closed.
	client, peer := carry(t, near, far, 1<<20)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = client.Write(make([]byte, 64<<20))
	}()
	testkit.Eventually(t, "a pipe is in use", func() bool {
		open, free := pipesOf(g.Loop(0))
		return open > free
	})
	_ = peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	<-wrote
	client.Close()
	testkit.Eventually(t, "it is closed, or empty and given back", func() bool {
		open, free := pipesOf(g.Loop(0))
		return open == free
	})
	far.Close()
	g.Close()
	for range 2 {
		g.Close()
	}
	testkit.Eventually(t, "the group has left no descriptor", func() bool { return openFiles(t) <= files+200 })
}

func TestWithoutPipesBytesAreCopied(t *testing.T) {
	g := start(t, Options{Loops: 1})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near := between(t, g, far, time.Minute, func(*Flow, *Conn, *Conn, error, error) {})
	on(g.Loop(0), func(task *Task) { task.Loop().pipes.most = -1 })
	client, peer := carry(t, near, far, 8<<20)
	client.Close()
	peer.Close()
	if open, _ := pipesOf(g.Loop(0)); open != 0 {
		t.Errorf("%d pipes were opened", open)
	}
	on(g.Loop(0), func(task *Task) { task.Loop().pipes.most = 0 })
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 0 // what is open stays open
	client, err = net.Dial("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	peer, err = far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }()
	go client.Write(make([]byte, 8<<20))
	if _, err := io.ReadFull(peer, make([]byte, 8<<20)); err != nil {
		t.Error(err)
	}
	client.Close()
	peer.Close()
	if open, _ := pipesOf(g.Loop(0)); open != 0 {
		t.Errorf("%d pipes were opened without descriptors", open)
	}
}

func TestUrgentDataDoesNotStopAFlow(t *testing.T) {
	g := start(t, Options{Loops: 1})
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near := between(t, g, far, time.Minute, func(*Flow, *Conn, *Conn, error, error) {})
	client, peer := carry(t, near, far, 4<<20)
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		large := bytes.Repeat([]byte{'b'}, 1<<20)
		go func() {
			_, _ = client.Write(large)
			_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
			_, _ = client.Write([]byte("after"))
		}()
		got := make([]byte, len(large)+len("after"))
		if _, err := io.ReadFull(peer, got); err != nil || string(got[len(large):]) != "after" {
			t.Fatalf("%q, %v", got[max(0, len(got)-10):], err)
		}
	}
	client.Close()
	peer.Close()
}

func TestAResetOfWhatIsReadNoMoreIsTold(t *testing.T) {
	g := start(t, Options{Loops: 1})
	told, ready := make(chan struct{}), make(chan struct{})
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(task *Task, c *Conn) {
			if _, err := c.Read(task, make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
			c.OnReset(func(c *Conn) {
				c.Close()
				close(told)
			})
			close(ready)
		})
	})
	c := dial(t, addr).(*net.TCPConn)
	_ = c.CloseWrite()
	<-ready
	_ = c.SetLinger(0)
	c.Close()
	<-told
}
