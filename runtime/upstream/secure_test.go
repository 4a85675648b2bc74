package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
)

// TestTLSBothWaysAtOnce is a tunnel to an https target: one task writes while another reads what comes back, far more than
// the sockets' buffers hold, so that both park again and again. At the end close_notify passes each way.
func TestTLSBothWaysAtOnce(t *testing.T) {
	const size = 8 << 20
	issuer := httptest.NewUnstartedServer(nil) // for its certificate
	issuer.StartTLS()
	defer issuer.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: issuer.TLS.Certificates, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	defer g.Close()
	failed := make(chan error, 2)
	l := g.Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			conn, err := l.Dial(task, ln.Addr().(*net.TCPAddr).AddrPort(), 0, netloop.DialOptions{})
			if err != nil {
				failed <- err
				return
			}
			s := newSecure(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			if err := s.handshake(task); err != nil {
				failed <- err
				return
			}
			l.Go(func(task *netloop.Task) { failed <- writeCounted(task, s, size) })
			failed <- readCounted(task, s, size)
		})
	})
	for range 2 {
		select {
		case err := <-failed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nothing moves")
		}
	}
}

func writeCounted(t *netloop.Task, s *secure, size int) error {
	b := make([]byte, 100_000)
	for sent := 0; sent < size; {
		b = b[:min(cap(b), size-sent)]
		for i := range b {
			b[i] = byte((sent + i) % 251)
		}
		if _, err := s.Write(t, b); err != nil {
			return err
		}
		sent += len(b)
	}
	return s.CloseWrite(t)
}

func readCounted(t *netloop.Task, s *secure, size int) error {
	b := make([]byte, 32<<10)
	for got := 0; ; {
		n, err := s.Read(t, b)
		for i := range n {
			if b[i] != byte((got+i)%251) {
				return io.ErrUnexpectedEOF
			}
		}
		if got += n; err == io.EOF && got == size {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
