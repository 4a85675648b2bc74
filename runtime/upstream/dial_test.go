package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// silent is an address that answers no SYN, since nobody accepts and its queue is full; open has it answer again.
func (f *fixture) silent(ip string) (open func()) {
	f.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // as listeners have it
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(f.port), Addr: netip.MustParseAddr(ip).As4()})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		f.Fatal(err)
	}
	var filling []net.Conn
	for failed := 0; failed < 3; { // one may have failed because the machine stood still
		c, err := net.DialTimeout("tcp", f.hostport(ip), 100*time.Millisecond)
		if err != nil {
			failed++
			continue
		}
		filling, failed = append(filling, c), 0
	}
	var taken []int // they stay open: one of the gateway's may be among them
	empty := sync.OnceFunc(func() {
		_ = unix.SetNonblock(fd, true)
		for {
			nfd, _, err := unix.Accept(fd)
			if err != nil { // there are no more, also none that were given up above
				return
			}
			taken = append(taken, nfd)
		}
	})
	f.Cleanup(func() {
		for _, c := range filling {
			_ = c.Close()
		}
		for _, nfd := range taken {
			_ = unix.Close(nfd)
		}
		_ = unix.Close(fd)
	})
	return empty
}

// dual is an upstream of one name with an address of each family; it may not connect for a minute.
func (f *fixture) dual(change func(*Config)) *Upstream {
	f.host("127.0.0.1 dual.test\n::1 dual.test\n")
	return f.upstream(func(c *Config) {
		c.Connect, c.Targets = time.Minute, []Target{{Host: "dual.test", Port: f.port}}
		if change != nil {
			change(c)
		}
	})
}

// ipv6 skips what needs an IPv6 loopback.
func (f *fixture) ipv6() {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		f.Skipf("needs ::1 on loopback: %v", err)
	}
	_ = ln.Close()
}

// TestASilentAddressIsNotWaitedFor: the one of the other family is tried after a moment (RFC 8305). The connection that
// comes too late is for the next request.
func TestASilentAddressIsNotWaitedFor(t *testing.T) {
	f := setUp(t)
	f.ipv6()
	open := f.silent("127.0.0.1")
	f.serve("::1")
	u := f.dual(nil)
	var list []Acquired
	begun := time.Now()
	for range 2 { // each of the two begins once
		list = append(list, f.hold(u, any))
	}
	for _, a := range list {
		if got := a.Facts.Address.Addr().String(); got != "::1" {
			t.Errorf("given to %s", got)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	open() // its next SYN is answered
	f.eventually("the late connection is idle", func() bool { return f.state(u, "127.0.0.1").Idle == 1 })
	var a Acquired
	for a.Conn == nil || a.Facts.Address.Addr().String() == "::1" {
		a = f.hold(u, any)
		list = append(list, a)
	}
	if a.WhyNew != "" || a.Facts.Requests != 1 {
		t.Errorf("a new connection was opened: %s, and %d requests", a.WhyNew, a.Facts.Requests)
	}
	f.release(list...)
	if s := u.Stats(); s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}

// TestAnIdleConnectionOfTheOtherFamilyWins over an address that does not answer; that one's failure is not forgotten.
func TestAnIdleConnectionOfTheOtherFamilyWins(t *testing.T) {
	f := setUp(t)
	f.ipv6()
	_ = f.silent("127.0.0.1")
	f.serve("::1")
	u := f.dual(func(c *Config) {
		c.Connect = 400 * time.Millisecond
		c.Health.Passive = health.Passive{Failures: 1, OnConnect: true}
	})
	f.release(f.hold(u, Request{Token: []byte(f.tokenOf(u, "::1")), Connect: time.Minute})) // that one is to be there
	for range 4 {
		if got := f.via(u, any); got != "::1" {
			t.Errorf("given to %s", got)
		}
	}
	if n := f.connections("::1"); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
	f.eventually("who did not answer is ejected", func() bool { return f.state(u, "127.0.0.1").Health == "ejected" })
	f.eventually("its place is free", func() bool { return f.state(u, "127.0.0.1").Open == 0 })
}

// tokenOf waits until an address is known.
func (f *fixture) tokenOf(u *Upstream, ip string) (token string) {
	f.eventually("the address is known", func() bool {
		for _, m := range u.Members() {
			if strings.Contains(m.Address, ip) {
				token = m.Token
			}
		}
		return token != ""
	})
	return token
}

func TestBothFamiliesRefuse(t *testing.T) {
	f := setUp(t)
	u := f.dual(nil)
	_, err := f.ask(u, any)
	if err == nil || err.Kind != fault.Connect || !err.Retryable {
		t.Fatalf("%v", err)
	}
	if s := u.Stats(); s.Open != 0 || len(f.reasons()) != 2 {
		t.Errorf("%+v, %v", s, f.reasons())
	}
}

// TestASessionIsNotGivenToTheOtherFamily: that may be another server.
func TestASessionIsNotGivenToTheOtherFamily(t *testing.T) {
	f := setUp(t)
	f.ipv6()
	f.serve("::1")
	u := f.dual(nil)
	_, err := f.ask(u, session(f.tokenOf(u, "127.0.0.1")))
	if err == nil || err.Kind != fault.Connect || !strings.Contains(err.Error(), "127.0.0.1") || f.connections("::1") != 0 {
		t.Errorf("%v", err)
	}
}

func TestAConnectionThatTakesTooLong(t *testing.T) {
	f := setUp(t)
	_ = f.silent("127.0.0.1")
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1") })
	_, err := f.ask(u, Request{Connect: 20 * time.Millisecond})
	if err == nil || err.Kind != fault.ConnectTimeout || err.Status != 504 || !strings.Contains(err.Error(), "within 20ms (timeouts.connect)") {
		t.Errorf("%v", err)
	}
	if s := u.Stats(); s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestWhatTheGatewayLacksEjectsNobody: a gateway without descriptors would call all its targets dead.
func TestWhatTheGatewayLacksEjectsNobody(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Targets = f.targets("127.0.0.1")
		c.Health.Passive = health.Passive{Failures: 1, OnConnect: true}
	})
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 1
	var err *fault.Error
	f.on(0, func(task *netloop.Task) {
		if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); e != nil {
			t.Error(e)
		}
		_, err = u.Acquire(task, any)
		if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); e != nil {
			t.Error(e)
		}
	})
	if err == nil || err.Source != fault.Gateway || err.Status != 503 || !strings.Contains(err.Error(), syscall.EMFILE.Error()) {
		t.Fatalf("%v", err)
	}
	if s := f.state(u, "127.0.0.1"); s.Health != "healthy" || s.Open != 0 {
		t.Errorf("%+v", s)
	}
	if got := f.via(u, any); got != "127.0.0.1" {
		t.Errorf("given to %s", got)
	}
}

// greeter accepts connections, and tells what they begin with.
func greeter(t *testing.T, n int) (addr netip.AddrPort, greetings chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	greetings = make(chan string, 10)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				b := make([]byte, n)
				_, _ = io.ReadFull(c, b)
				greetings <- string(b)
				_, _ = c.Read(b)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	return ln.Addr().(*net.TCPAddr).AddrPort(), greetings
}

// TestConnectionsSpeakForTheirClient, from their first byte on, and are for its requests only.
func TestConnectionsSpeakForTheirClient(t *testing.T) {
	addr, greetings := greeter(t, len("192.0.2.1:1>192.0.2.9:9"))
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Targets = []Target{{Host: "127.0.0.1", Port: addr.Port()}}
		c.Preface = func(b []byte, src, dst netip.AddrPort) []byte {
			return append(b, src.String()+">"+dst.String()...)
		}
	})
	for i, client := range []string{"192.0.2.1:1", "192.0.2.2:2", "192.0.2.1:1"} {
		r := Request{Request: pool.Request{Owner: netip.MustParseAddrPort(client)}, Destination: netip.MustParseAddrPort("192.0.2.9:9")}
		a := f.hold(u, r)
		f.release(a)
		switch {
		case i == 2:
			if a.WhyNew != "" {
				t.Errorf("a second connection for the same client: %s", a.WhyNew)
			}
		case i < 2:
			if got := <-greetings; got != client+">192.0.2.9:9" {
				t.Errorf("the connection begins with %q", got)
			}
		}
	}
}

func TestTLSOfTargets(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // what it thinks of clients that mistrust it
	server.StartTLS()
	defer server.Close()
	silent, _ := greeter(t, 1<<20)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	port := netip.MustParseAddrPort(server.Listener.Addr().String()).Port()
	for name, c := range map[string]struct {
		port uint16
		tls  *tls.Config
		want string
	}{
		"verified":               {port, &tls.Config{RootCAs: roots}, ""},
		"by another name":        {port, &tls.Config{RootCAs: roots, ServerName: "example.com"}, ""},
		"by a wrong name":        {port, &tls.Config{RootCAs: roots, ServerName: "wrong.test"}, "wrong.test"},
		"by nobody":              {port, &tls.Config{RootCAs: x509.NewCertPool()}, "unknown authority"},
		"without a config of it": {port, nil, "certificate"},
		"no handshake":           {silent.Port(), &tls.Config{RootCAs: roots}, "no TLS handshake within 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			u := f.upstream(func(cfg *Config) {
				cfg.Targets, cfg.TLS, cfg.Handshake = []Target{{Host: "127.0.0.1", Port: c.port, TLS: true}}, c.tls, 10*time.Second
				if strings.Contains(c.want, "50ms") {
					cfg.Handshake = 50 * time.Millisecond
				}
			})
			a, err := f.ask(u, any)
			switch {
			case c.want != "":
				if err == nil || err.Kind != fault.TLS || !err.Retryable || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			case err != nil:
				t.Error(err)
			default:
				if !a.Facts.TLS || a.Facts.TLSVersion != "1.3" || a.Facts.TLSEnd < a.Facts.TLSStart || a.Facts.TLSStart == 0 {
					t.Errorf("%+v", a.Facts)
				}
				f.on(0, func(task *netloop.Task) {
					var b [64]byte
					_, _ = a.Stream.Write(task, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
					if n, err := a.Stream.Read(task, b[:]); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 404") {
						t.Errorf("read %q, %v", b[:n], err)
					}
					a.Release(facts.CloseError)
				})
			}
			if s := u.Stats(); s.Open != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestTunnelsAreNotPooled when they come too late, and are told as such.
func TestTunnelsAreNotPooled(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1") })
	tunnel := Request{Request: pool.Request{Fresh: true}, Tunnel: true}
	a := f.hold(u, tunnel)
	f.on(0, func(task *netloop.Task) {
		if a.Facts.WhyOpened != facts.OpenTunnel {
			t.Errorf("opened for %s", a.Facts.WhyOpened)
		}
		a.Release(facts.CloseTunnelEnded)
		c, err := a.Member.dial(task, facts.OpenTunnel, &tunnel, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, got := a.Member.pool.Try(task, tunnel.Request); got != pool.Leave {
			t.Fatal(got)
		}
		a.Member.ahead(task.Loop(), c)
	})
	if s := u.Stats(); s.Open != 0 {
		t.Errorf("%+v", s)
	}
}
