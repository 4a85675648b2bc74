//go:build linux && !wasmgate_portable && !race

package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/testkit"
)

// helloOf is what a client says first.
func helloOf(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _ = tls.Client(client, cfg).Handshake() }()
	b := make([]byte, 16<<10)
	_ = server.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(server, b[:5]); err != nil {
		t.Fatal(err)
	}
	n := 5 + int(b[3])<<8 + int(b[4])
	if _, err := io.ReadFull(server, b[5:n]); err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// memory is what the process's heap and stacks take.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // far below
}

// descriptors is how many the process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestHalfOpenHandshakes: 10,000 clients, or as many as there are descriptors for, connect and say nothing, half a hello, or a
// whole one and nothing more. What they hold is bounded, and whoever means it is served meanwhile, old and new.
func TestHalfOpenHandshakes(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	clients := int(min(10_000, (limit.Cur-500)/2)) //nolint:gosec // small
	if clients < 2500 {
		t.Fatalf("room for %d connections only: raise the limit of open files (ulimit -n)", clients)
	}
	a := newIssuer(t)
	g := startListening(t, "loops: 2\nlimits: { connections: 20000 }\nlisteners: ["+a.listener("handshake_timeout: 10m")+"]\n"+hello)
	whole := helloOf(t, a.trust())
	kept := g.secured(a.trust())
	reader := bufio.NewReader(kept)
	askBy(t, kept, reader, "a.test")
	for _, c := range []struct {
		what string
		says []byte
		each int64 // bytes of memory, at most
		all  int64 // beside that
	}{
		{"nothing", nil, 2 << 10, 2 << 20},
		{"half a hello", whole[:len(whole)/2], 4 << 10, 2 << 20},
		{"a hello, and nothing more", whole, 2 << 10, 130 << 20},
	} {
		t.Run(c.what, func(t *testing.T) {
			open, before := descriptors(t), memory()
			fds := make([]int, 0, clients)
			for len(fds) < clients {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				fds = append(fds, fd)
				if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(g.addr.Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					t.Fatal(err)
				}
				if len(c.says) > 0 {
					if _, err := unix.Write(fd, c.says); err != nil {
						t.Fatal(err)
					}
				}
				if len(fds)%(clients/10) == 0 {
					for try := 1; ; try++ { // the machine may stand still, and not the gateway
						began := time.Now()
						fresh := g.secured(a.trust())
						askBy(t, fresh, bufio.NewReader(fresh), "a.test")
						fresh.Close()
						askBy(t, kept, reader, "a.test")
						took := time.Since(began)
						if took <= 5*time.Second {
							break
						}
						if try == 3 {
							t.Errorf("beside %d of them a handshake and two requests take %v", len(fds), took)
							break
						}
					}
				}
			}
			took := memory() - before
			t.Logf("%d clients that say %s hold %d KiB, %d bytes each", clients, c.what, took>>10, took/int64(clients))
			if took > c.each*int64(clients)+c.all {
				t.Errorf("that is more than %d bytes each and %d KiB", c.each, c.all>>10)
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
			testkit.Eventually(t, "they are forgotten", func() bool { return descriptors(t) <= open })
		})
	}
}

// TestASlowHandshakeEnds: one byte at a time is not progress for ever.
func TestASlowHandshakeEnds(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+a.listener("handshake_timeout: 300ms")+"]\n"+hello)
	began := time.Now()
	raw, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	ended := make(chan time.Duration, 1)
	go func() {
		_, _ = io.Copy(io.Discard, raw)
		ended <- time.Since(began)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i, b := range helloOf(t, a.trust()) {
		select {
		case took := <-ended:
			if took < 200*time.Millisecond || took > 5*time.Second {
				t.Errorf("it ended after %v", took)
			}
			return
		case <-tick.C:
		}
		if _, err := raw.Write([]byte{b}); err != nil && i == 0 {
			t.Fatal(err)
		}
	}
	t.Error("a hello that takes seconds was waited for")
}

// TestHellosInPieces: a hello may come in many records, and in packets of a byte; one that is longer than any may be is refused, whatever it
// claims.
func TestHellosInPieces(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+a.listener("")+"]\n"+hello)
	message := helloOf(t, a.trust())[5:]
	inRecords := func(message []byte, size int) (out []byte) {
		for len(message) > 0 {
			n := min(size, len(message))
			out = append(append(out, 22, 3, 1, byte(n>>8), byte(n)), message[:n]...)
			message = message[n:]
		}
		return out
	}
	huge := append([]byte{1, 1, 0, 1}, make([]byte, 64<<10+1)...) // of 65,537 bytes
	for _, c := range []struct {
		what  string
		says  []byte
		bytes bool   // one at a time
		kind  byte   // of the record that comes back
		alert string // if it is one
	}{
		{"many records", inRecords(message, 10), false, 22, ""},
		{"records of a byte", inRecords(message, 1), false, 22, ""},
		{"packets of a byte", inRecords(message, 100), true, 22, ""},
		{"64 KiB and more", inRecords(huge, 16<<10), false, 21, "\x02\x50"}, // fatal, internal_error, as crypto/tls has it
		{"no hello", inRecords([]byte{99, 0, 0, 0}, 100), false, 21, "\x02\x0a"},
		{"empty records", []byte(strings.Repeat("\x16\x03\x01\x00\x00", 100)), false, 21, "\x02\x0a"},
	} {
		t.Run(c.what, func(t *testing.T) {
			raw, err := net.Dial("tcp", g.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
			if c.bytes {
				for _, b := range c.says {
					_, _ = raw.Write([]byte{b})
				}
			} else {
				_, _ = raw.Write(c.says)
			}
			head := make([]byte, 7)
			if _, err := io.ReadFull(raw, head); err != nil || head[0] != c.kind || c.alert != "" && string(head[5:]) != c.alert {
				t.Errorf("%x, %v", head, err)
			}
		})
	}
	fresh := g.secured(a.trust())
	askBy(t, fresh, bufio.NewReader(fresh), "a.test")
}

// TestProtocolsThatAreNotSpoken: what was agreed upon by ALPN is what a connection is taken for, whatever comes then; what nobody speaks is agreed
// upon with nobody.
func TestProtocolsThatAreNotSpoken(t *testing.T) {
	a := newIssuer(t)
	g := startListening(t, "listeners: ["+a.listener("")+"]\n"+hello)
	offer := func(protocols ...string) *tls.Config {
		cfg := a.trust()
		cfg.NextProtos = protocols
		return cfg
	}
	if c, err := tls.Dial("tcp", g.addr.String(), offer("spdy/3")); err == nil {
		t.Error("spdy/3 was agreed upon")
		c.Close()
	} else if !strings.Contains(err.Error(), "no application protocol") {
		t.Error(err)
	}
	c := g.secured(offer("h2"))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if b, err := io.ReadAll(c); strings.Contains(string(b), "hello") || strings.Contains(string(b), "HTTP/1.1") || err != nil {
		t.Errorf("HTTP/1.1 after h2: %q, %v", b, err)
	}
	c = g.secured(offer("http/1.1"))
	_, _ = io.WriteString(c, "GARBAGE\r\n\r\n")
	if b, err := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || err != nil {
		t.Errorf("garbage: %q, %v", b, err)
	}
	fresh := g.secured(offer("http/1.1"))
	askBy(t, fresh, bufio.NewReader(fresh), "a.test")
}
