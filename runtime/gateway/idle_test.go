//go:build linux && !wasmgate_portable && !race

package gateway_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/testkit"
)

// resident is the process's memory, as the system sees it.
func resident(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// clientsOf is set in a process that is nothing but idle clients: the address of the gateway.
const clientsOf = "WASMGATE_TEST_CLIENTS_OF"

// TestMain makes such a process of this program, since one process cannot open 20,000 files everywhere.
func TestMain(m *testing.M) {
	if addr := os.Getenv(clientsOf); addr != "" {
		if err := idleClients(netip.MustParseAddrPort(addr)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(tunnelsOf) != "" {
		if err := idleTunnels(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// idleClients reads numbers, opens so many connections, asks once by each, and answers ok.
func idleClients(gateway netip.AddrPort) error {
	request, answer := []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), make([]byte, 1024)
	for {
		var n int
		if _, err := fmt.Scan(&n); err != nil {
			return nil //nolint:nilerr // the test has ended
		}
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(gateway.Port()), Addr: gateway.Addr().As4()}); err != nil {
				return err
			}
			if _, err := unix.Write(fd, request); err != nil {
				return err
			}
			if n, err := unix.Read(fd, answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 204") {
				return fmt.Errorf("%q, %w", answer[:n], err)
			}
		}
		fmt.Println("ok")
	}
}

// TestTenThousandIdleConnections: each client has had an answer and stays.
func TestTenThousandIdleConnections(t *testing.T) {
	const clients = 10_000
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < clients+500 {
		missing(t, "the right to open 10,500 files (ulimit -n); it is "+strconv.FormatUint(limit.Cur, 10))
	}
	g := start(t, "loops: 1\nlimits: { connections: 11000 }\nroutes: [{ respond: { status: 204 } }]\n")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientsOf+"="+g.addr.String())
	in, lines := testkit.Child(t, cmd)
	open := func(n int) {
		fmt.Fprintln(in, n)
		if said, err := lines.ReadString('\n'); said != "ok\n" {
			t.Fatalf("the clients say %q, %v", said, err)
		}
	}
	open(100)
	before := resident(t)
	open(clients)
	added := resident(t) - before
	t.Logf("%d bytes for an idle connection", added/clients)
	if added > 10<<20 {
		t.Errorf("%d idle connections add %d KiB", clients, added>>10)
	}
}
