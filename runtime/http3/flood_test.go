package http3

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// firstDatagram is what a client begins a handshake with.
func firstDatagram(t testing.TB, b *bench) []byte {
	t.Helper()
	trap, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := b.client.Clone()
		c.NextProtos = []string{"h3"}
		_, _ = quic.DialAddr(ctx, trap.LocalAddr().String(), c, nil)
	}()
	defer func() { cancel(); <-done }()
	in := make([]byte, 2000)
	n, _, err := trap.ReadFrom(in)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(in[:n])
}

// flood begins so many handshakes, each from a socket of its own, that never get on, and returns what closes the sockets.
func flood(t testing.TB, b *bench, sockets int) (end func()) {
	t.Helper()
	var list []net.Conn
	for range sockets {
		c, err := net.Dial("udp", b.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
		if _, err := c.Write(firstDatagram(t, b)); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for _, c := range list {
			_ = c.Close()
		}
	}
}
