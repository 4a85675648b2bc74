//go:build linux && !wasmgate_portable && !race

package tcp

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// rawUpstream dials a socket whose connections nobody of the test holds memory for.
type rawUpstream struct{ addr netip.AddrPort }

func (u *rawUpstream) Name() string { return "raw" }

func (u *rawUpstream) Acquire(t *netloop.Task, _ Request) (Acquired, *fault.Error) {
	c, err := t.Loop().Dial(t, u.addr, 0, netloop.DialOptions{})
	if err != nil {
		return Acquired{}, &fault.Error{Kind: fault.Connect, Err: err}
	}
	return Acquired{Net: c, Release: func(string) { _ = c.Close() }}, nil
}

// rawListener is a blocking socket without a goroutine.
func rawListener(t *testing.T) (fd int, addr netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1024); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in := sa.(*unix.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}

// pair opens a session and returns its two far ends.
func pair(t *testing.T, gate netip.AddrPort, listener int) (client, backend int) {
	t.Helper()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: gate.Addr().As4(), Port: int(gate.Port())}); err != nil {
		t.Fatal(err)
	}
	backend, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return client, backend
}

func pass(t *testing.T, from, to int, b, buf []byte) {
	t.Helper()
	for rest := b; len(rest) > 0; {
		n, err := unix.Write(from, rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	for left := len(b); left > 0; {
		n, err := unix.Read(to, buf[:min(left, len(buf))])
		if n <= 0 || err != nil {
			t.Fatalf("%d of %d bytes did not arrive: %v", left, len(b), err)
		}
		left -= n
	}
}

func used() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// farEnd starts a process of its own for the far ends of many sessions, so that their descriptors and memory do not
// count here. It returns the first line that it prints; it ends with the test.
func farEnd(t *testing.T, role string, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "WASMGATE_TEST_FAR_END="+role), os.Stderr
	_, out := testkit.Child(t, cmd)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("the process for the %s ended: %v", role, err)
	}
	return strings.TrimSpace(line)
}

func TestMain(m *testing.M) {
	switch os.Getenv("WASMGATE_TEST_FAR_END") {
	case "backends":
		backends()
	case "clients":
		clients(os.Args[1], os.Args[2], os.Args[3])
	default:
		os.Exit(m.Run())
	}
}

// backends echoes.
func backends() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				echo(c.(*net.TCPConn))
			}()
		}
	}()
	fmt.Println(ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// clients opens so many sessions, and sends something through each; more through the first ones.
func clients(addr, sessions, bulk string) {
	n, _ := strconv.Atoi(sessions)
	first, _ := strconv.Atoi(bulk)
	keep := make([]net.Conn, n)
	large := make([]byte, 1<<20)
	for i := range keep {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		keep[i] = c
		said := large[:1]
		if i < first {
			said = large
		}
		go c.Write(said)
		if _, err := io.ReadFull(c, make([]byte, len(said))); err != nil {
			panic(err)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(keep)
}

func TestTenThousandIdleSessions(t *testing.T) {
	n, loops := 10_000, 2
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = min(n, int(limit.Cur)/2-200) // two descriptors each: where fewer are allowed, so many
	addr := netip.MustParseAddrPort(farEnd(t, "backends"))
	g := newGate(t, loops, Snapshot{Default: &rawUpstream{addr}, IdleTimeout: time.Hour})
	memory, files := used(), openFiles(t)
	farEnd(t, "clients", g.addr.String(), strconv.Itoa(n), "100")
	testkit.Eventually(t, "idle sessions hold no task", func() bool {
		return g.group.Loop(0).Stats().Tasks+g.group.Loop(1).Stats().Tasks == 0
	})
	open, each := openFiles(t)-files, (int64(used())-int64(memory))/int64(n)
	t.Logf("%d bytes for each of %d idle sessions, %d descriptors", each, n, open)
	if most := 2*n + 100; g.server.Sessions() != n || open > most { // the loops' spare pipes, and the two processes'
		t.Errorf("%d descriptors are open for %d sessions: pipes are held", open, g.server.Sessions())
	}
	if each > 2500 {
		t.Errorf("an idle session takes %d bytes", each)
	}
}

func TestBytesAllocateNothing(t *testing.T) {
	listener, addr := rawListener(t)
	g := newGate(t, 1, Snapshot{Default: &rawUpstream{addr}, IdleTimeout: time.Hour})
	client, backend := pair(t, g.addr, listener)
	defer unix.Close(client)
	defer unix.Close(backend)
	buf := make([]byte, 256<<10)
	for _, size := range []int{1, 1000, 100_000} {
		b := make([]byte, size)
		if allocs := testing.AllocsPerRun(500, func() {
			pass(t, client, backend, b, buf)
			pass(t, backend, client, b, buf)
		}); allocs != 0 {
			t.Errorf("%d bytes to and fro allocate %v times", size, allocs)
		}
	}
}
