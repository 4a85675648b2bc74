package secure_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
)

// newCertificate makes one for the name "a.test" that vouches for itself.
func newCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func newGroup(t testing.TB) *netloop.Group {
	t.Helper()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// serve listens, and runs fn as the task of each connection that has done its handshake.
func serve(t testing.TB, g *netloop.Group, cfg *tls.Config, fn func(*netloop.Task, *secure.Conn)) string {
	t.Helper()
	ln, err := g.Listen("127.0.0.1:0", netloop.ListenOptions{Accept: func(nc *netloop.Conn) {
		nc.Go(func(task *netloop.Task, nc *netloop.Conn) {
			c := secure.Server(nc, cfg, nil)
			if err := c.Handshake(task, task.Loop().Now()+int64(10*time.Second)); err != nil {
				t.Errorf("handshake: %v", err)
				return
			}
			fn(task, c)
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String()
}

func dial(t testing.TB, addr string, pool *x509.CertPool, version uint16) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "a.test", MinVersion: version, MaxVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func soon[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing happens")
	}
	return v
}

// TestBothWaysAtOnce is a tunnel: one task writes while another reads what comes back, far more than the sockets' buffers
// hold, so that both park again and again. At the end close_notify passes each way.
func TestBothWaysAtOnce(t *testing.T) {
	const size = 8 << 20
	cert, _ := newCertificate(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
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
	failed := make(chan error, 2)
	l := newGroup(t).Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			conn, err := l.Dial(task, ln.Addr().(*net.TCPAddr).AddrPort(), 0, netloop.DialOptions{})
			if err != nil {
				failed <- err
				return
			}
			s := secure.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			if err := s.Handshake(task, 0); err != nil {
				failed <- err
				return
			}
			l.Go(func(task *netloop.Task) { failed <- writeCounted(task, s, size) })
			failed <- readCounted(task, s, size)
		})
	})
	for range 2 {
		if err := soon(t, failed); err != nil {
			t.Fatal(err)
		}
	}
}

func writeCounted(t *netloop.Task, s *secure.Conn, size int) error {
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

func readCounted(t *netloop.Task, s *secure.Conn, size int) error {
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

// idler answers each message with itself, and has no task while it waits for one.
type idler struct {
	t     testing.TB
	conn  *secure.Conn
	got   []byte
	tried chan struct{} // there was nothing to read
	ended chan error
}

func (d *idler) wait() {
	if !d.conn.Quiet() {
		d.t.Error("waits for what is there")
	}
	d.conn.Net().OnEvent(func(c *netloop.Conn) { c.Go(d.serve) })
}

func (d *idler) serve(task *netloop.Task, _ *netloop.Conn) {
	var b [7]byte // less than a record, so that crypto/tls has some left
	for {
		n, err := d.conn.TryRead(b[:])
		switch {
		case err != nil:
			d.ended <- err
			return
		case n == 0:
			d.wait()
			d.tried <- struct{}{}
			return
		}
		for _, c := range b[:n] {
			if d.got = append(d.got, c); c == '\n' {
				if _, err := d.conn.Write(task, d.got); err != nil {
					d.ended <- err
					return
				}
				d.got = d.got[:0]
			}
		}
	}
}

// TestNothingToReadIsNoError: records arrive a byte at a time, and the server has no task in between. It sees whole
// messages, and then the end.
func TestNothingToReadIsNoError(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cert, pool := newCertificate(t)
			d := &idler{t: t, tried: make(chan struct{}, 100), ended: make(chan error, 1)}
			addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
				d.conn = c
				d.serve(task, nil)
			})
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			slow := &dribbler{Conn: raw, t: t}
			c := tls.Client(slow, &tls.Config{RootCAs: pool, ServerName: "a.test", MinVersion: version, MaxVersion: version})
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			soon(t, d.tried)
			slow.seen = d.tried
			for _, message := range []string{"short\n", "longer than the buffer\n", "exactl\n"} {
				if _, err := c.Write([]byte(message)); err != nil {
					t.Fatal(err)
				}
				back := make([]byte, len(message))
				if _, err := io.ReadFull(c, back); err != nil || string(back) != message {
					t.Fatalf("%q, %v came back for %q", back, err, message)
				}
			}
			slow.seen = nil
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := soon(t, d.ended); err != io.EOF {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// dribbler writes a byte at a time, and waits until the peer has seen that this is all there is.
type dribbler struct {
	net.Conn
	t    testing.TB
	seen chan struct{} // nil: it writes as others do
}

func (d *dribbler) Write(b []byte) (int, error) {
	if d.seen == nil {
		return d.Conn.Write(b)
	}
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		soon(d.t, d.seen)
	}
	return len(b), nil
}

// TestOneRecordNeedsNoSecondLook: after a record that came alone the connection is known to be quiet.
func TestOneRecordNeedsNoSecondLook(t *testing.T) {
	cert, pool := newCertificate(t)
	quiet := make(chan bool, 1)
	addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(task, b)
			if err != nil {
				return
			}
			quiet <- c.Quiet()
			if _, err := c.Write(task, b[:n]); err != nil {
				return
			}
		}
	})
	c := dial(t, addr, pool, tls.VersionTLS13)
	b := make([]byte, 1)
	for i := range 3 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if !soon(t, quiet) && i > 0 { // the first may have come with the end of the handshake
			t.Error("a record was read whole, and more is taken to be there")
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadGoesOnAfterADeadline: a deadline that has passed does not end the connection, and nothing is taken to be there that is not.
func TestReadGoesOnAfterADeadline(t *testing.T) {
	cert, pool := newCertificate(t)
	results, quiet := make(chan error, 2), make(chan bool, 1)
	addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		b := make([]byte, 10)
		c.Net().SetReadDeadline(task.Loop().Now() + 1)
		_, err := c.Read(task, b)
		results <- err
		quiet <- c.Quiet()
		c.Net().SetReadDeadline(0)
		_, err = c.Read(task, b)
		results <- err
	})
	c := dial(t, addr, pool, tls.VersionTLS13)
	if err := soon(t, results); !errors.Is(err, netloop.ErrDeadline) {
		t.Errorf("past the deadline: %v", err)
	}
	if !soon(t, quiet) {
		t.Error("nothing has come, and more is taken to be there: who goes by that asks again and again")
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := soon(t, results); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestHandshakeHasADeadline: whoever says nothing, or not all of it, is given up.
func TestHandshakeHasADeadline(t *testing.T) {
	cert, _ := newCertificate(t)
	failed := make(chan error, 1)
	ln, err := newGroup(t).Listen("127.0.0.1:0", netloop.ListenOptions{Accept: func(nc *netloop.Conn) {
		nc.Go(func(task *netloop.Task, nc *netloop.Conn) {
			c := secure.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}}, []byte{22, 3, 1})
			failed <- c.Handshake(task, task.Loop().Now()+int64(20*time.Millisecond))
			_ = c.Close()
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := soon(t, failed); !errors.Is(err, netloop.ErrDeadline) {
		t.Errorf("the handshake ended with %v", err)
	}
}

// TestHandshakeKnowsItsTask: what crypto/tls calls back may wait, off the loop.
func TestHandshakeKnowsItsTask(t *testing.T) {
	cert, pool := newCertificate(t)
	served := make(chan bool, 1)
	cfg := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (c *tls.Certificate, err error) {
		secure.Task(h.Context()).Await(func() { c = &cert })
		return c, nil
	}}
	addr := serve(t, newGroup(t), cfg, func(*netloop.Task, *secure.Conn) { served <- true })
	dial(t, addr, pool, tls.VersionTLS13)
	soon(t, served)
}

// TestLargeWritesOfManySizes: small pieces go out as they are, larger ones are collected while records are small.
func TestLargeWritesOfManySizes(t *testing.T) {
	cert, pool := newCertificate(t)
	message := make([]byte, 300_000)
	_, _ = rand.Read(message)
	addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		for at, size := 0, 1; at < len(message); size = size*3 + 1 {
			n := min(size, len(message)-at)
			if _, err := c.Write(task, message[at:at+n]); err != nil {
				t.Error(err)
				return
			}
			at += n
		}
		if err := c.CloseWrite(task); err != nil {
			t.Error(err)
		}
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		got, err := io.ReadAll(dial(t, addr, pool, version))
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("%s: %d bytes came of %d, %v", tls.VersionName(version), len(got), len(message), err)
		}
	}
}

// TestTruncationIsAnError: an end of the connection in the midst of a record is not an end of what was said.
func TestTruncationIsAnError(t *testing.T) {
	cert, pool := newCertificate(t)
	ended := make(chan error, 1)
	addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		_, err := c.Read(task, make([]byte, 10))
		ended <- err
	})
	c := dial(t, addr, pool, tls.VersionTLS13)
	if _, err := c.NetConn().Write([]byte{23, 3, 3, 0, 100, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	_ = c.NetConn().Close()
	if err := soon(t, ended); err == nil || err == io.EOF {
		t.Errorf("the connection was cut, and the error is %v", err)
	}
}

// TestWhoEndedTheConnection: between two records the end of the connection is told from the end of what was said.
func TestWhoEndedTheConnection(t *testing.T) {
	cert, pool := newCertificate(t)
	cut := make(chan bool, 1)
	addr := serve(t, newGroup(t), &tls.Config{Certificates: []tls.Certificate{cert}}, func(task *netloop.Task, c *secure.Conn) {
		if _, err := io.ReadFull(reading{c, task}, make([]byte, 3)); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(task, make([]byte, 10)); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		cut <- c.Cut()
		_ = c.Close()
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, notice := range []bool{true, false} {
			c := dial(t, addr, pool, version)
			_, _ = c.Write([]byte("abc"))
			if notice {
				_ = c.CloseWrite()
			} else {
				_ = c.NetConn().(*net.TCPConn).CloseWrite()
			}
			if soon(t, cut) == notice {
				t.Errorf("version %x: close_notify was sent: %t, and it is said to be cut: %t", version, notice, !notice)
			}
		}
	}
}

// reading is a connection as an io.Reader of a task.
type reading struct {
	*secure.Conn
	task *netloop.Task
}

func (r reading) Read(b []byte) (int, error) { return r.Conn.Read(r.task, b) }
