package secure_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
)

// TestIdleConnectionsAreSmall measures what a connection costs that waits for a request, beyond its socket: after its
// handshake, and after a request and its answer.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const clients, most = 300, 9 << 10
	cert, pool := newCertificate(t)
	g := newGroup(t)
	var held []*secure.Conn
	waits := make(chan struct{}, clients)
	addr := serve(t, g, &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		held = append(held, c)
		request := make([]byte, 4096)
		n, err := c.Read(task, request)
		if err == nil {
			_, err = c.Write(task, request[:n])
		}
		if err != nil {
			t.Error(err)
		}
		c.Net().OnEvent(func(*netloop.Conn) {})
		waits <- struct{}{}
	})
	// The clients are small too: what they need for TLS is given up once the server waits.
	var sockets []net.Conn
	before := heap()
	for range clients {
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		sockets = append(sockets, raw)
		_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
		c := tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: "a.test"})
		if _, err := c.Write(make([]byte, 300)); err != nil {
			t.Fatal(err)
		}
		soon(t, waits)
	}
	each := (heap() - before) / clients
	t.Logf("an idle connection holds %d bytes", each)
	if each > most {
		t.Errorf("an idle connection holds %d bytes, more than %d", each, most)
	}
	runtime.KeepAlive(sockets)
	runtime.KeepAlive(held)
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
