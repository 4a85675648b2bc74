package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// The ports that tests may have: the kernel gives none of them to outgoing connections.
const (
	firstPort = 20000
	manyPorts = 12000
)

// ports are those that tests of this process have. Each is a byte of the file that the process has locked, since tests of several
// packages, and copies of them, run beside each other.
var ports struct {
	mu    sync.Mutex
	file  *os.File
	taken map[int]bool
}

// Port is a port on loopback that nobody listens at, for a program that opens it later: no other test that asks here has it until
// this one ends.
func Port(t testing.TB) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.file == nil {
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("wasmgate-test-ports-%d", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		ports.file, ports.taken = f, map[int]bool{}
	}
	for range 1000 {
		port := firstPort + rand.IntN(manyPorts)
		if ports.taken[port] || !lockPort(port, syscall.F_WRLCK) {
			continue
		}
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			lockPort(port, syscall.F_UNLCK)
			continue
		}
		ln.Close()
		ports.taken[port] = true
		t.Cleanup(func() {
			ports.mu.Lock()
			defer ports.mu.Unlock()
			delete(ports.taken, port)
			lockPort(port, syscall.F_UNLCK)
		})
		return port
	}
	t.Fatal("no port is free")
	return 0
}

// lockPort locks a port's byte, or unlocks it. It says whether it has.
func lockPort(port int, how int16) bool {
	return syscall.FcntlFlock(ports.file.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: how, Start: int64(port), Len: 1}) == nil
}
