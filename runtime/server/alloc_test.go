//go:build linux && !wasmgate_portable && !race

package server

import (
	"testing"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/upstream"
)

// TestKeepAliveAllocatesNothing sends requests through client socket, gateway and backend socket. None of the three
// allocates, so every allocation would be the gateway's.
func TestKeepAliveAllocatesNothing(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		buf := make([]byte, 4096)
		for {
			if _, err := c.Conn.Read(buf); err != nil {
				return
			}
			if _, err := c.Conn.Write(answer); err != nil {
				return
			}
		}
	})
	c := newGate(t, b, func(s *Snapshot, _ *upstream.Config) { s.Forwarded.XForwarded = true }).client()
	c.journal.off.Store(true)
	request, buf := []byte("GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\n\r\n"), make([]byte, 4096)
	if n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a proxied request allocates %v times", n)
	}
}

// TestMappingBackAllocatesNothing maps an answer back in storage that was used before.
func TestMappingBackAllocatesNothing(t *testing.T) {
	v, h, scratch := appAtBase(), http1.Head{}, []byte(nil)
	if n := testing.AllocsPerRun(2000, func() {
		h.Reset()
		h.Add("Location", "http://10.0.0.7:8080/base/x")
		h.Add("Refresh", "5; url=/base/y")
		h.Add("Set-Cookie", "a=b; Path=/base; Domain=users.internal")
		scratch = v.head(scratch, &h)
	}); n != 0 || string(h.Value(0)) != "http://gate.example/app/x" {
		t.Errorf("%v allocations; the Location is %s", n, h.Value(0))
	}
}
