package upstream

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// journal remembers what the hooks are told.
type journal struct {
	mu             sync.Mutex
	opened, closed []facts.Connection
	changes        []MemberEvent
}

func (j *journal) ConnReleased(*netloop.Loop, *facts.Connection) {}
func (j *journal) ConnOpened(_ *netloop.Loop, c *facts.Connection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.opened = append(j.opened, *c)
}

func (j *journal) ConnClosed(_ *netloop.Loop, c *facts.Connection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = append(j.closed, *c)
}

func (j *journal) MemberChanged(e MemberEvent) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changes = append(j.changes, e)
}

func (j *journal) reasons() (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.closed {
		list = append(list, c.WhyClosed)
	}
	return list
}

type fixture struct {
	*testing.T
	*journal
	group *netloop.Group
	names *resolve.Resolver
	hosts string
	port  uint16
}

// setUp listens on these addresses, all with one port; names come from a hosts file that the test writes.
func setUp(t *testing.T, listen ...string) *fixture {
	t.Helper()
	before := runtime.NumGoroutine()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	f := &fixture{T: t, journal: &journal{}, group: g, hosts: filepath.Join(t.TempDir(), "hosts")}
	f.names = resolve.New(resolve.Options{Hosts: f.hosts})
	var wg sync.WaitGroup
	var listeners []net.Listener
	for _, ip := range listen {
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, f.port))
		if err != nil {
			t.Skipf("needs %s on loopback: %v", ip, err)
		}
		f.port = uint16(ln.Addr().(*net.TCPAddr).Port)
		listeners = append(listeners, ln)
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					_, _ = c.Read(make([]byte, 1)) // until the other side ends
				})
			}
		})
	}
	t.Cleanup(func() {
		g.Close()
		f.names.Close()
		for _, ln := range listeners {
			ln.Close()
		}
		wg.Wait()
		f.eventually("no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	return f
}

func (f *fixture) eventually(what string, fact func() bool) {
	f.Helper()
	for end := time.Now().Add(10 * time.Second); !fact(); runtime.Gosched() {
		if time.Now().After(end) {
			f.Fatalf("waited 10 s in vain: %s; closed %v", what, f.reasons())
		}
	}
}

func (f *fixture) host(lines string) {
	f.Helper()
	if err := os.WriteFile(f.hosts, []byte(lines), 0o600); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) upstream(change func(*Config)) *Upstream {
	c := Config{Name: "u", Connect: time.Second, Pool: pool.Options{MaxConnections: 10, IdleTimeout: time.Minute}, Queue: Queue{Acquire: time.Second, Max: 10},
		DNS: resolve.NameOptions{MaxTTL: 50 * time.Millisecond}}
	change(&c)
	return New(f.group, c, f.names, f.journal)
}

// acquire takes a connection as a request would.
func (f *fixture) acquire(u *Upstream, authority string, then func(Acquired)) (err *fault.Error) {
	done := make(chan struct{})
	l := f.group.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			var a Acquired
			if a, err = u.Acquire(t, Request{Request: pool.Request{Repeatable: true}, Authority: []byte(authority)}); err == nil {
				then(a)
			}
		})
	})
	<-done
	return err
}

func give(a Acquired) { a.Release("") }

func TestAnAddressThatRefusesIsPassedOverInTheSameRequest(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	f.host("127.0.0.2 two.test\n127.0.0.1 two.test\n")
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "two.test", Port: f.port}} })
	for range 4 {
		if err := f.acquire(u, "", give); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range f.opened {
		if c.Address.Addr().String() != "127.0.0.1" || c.Host != fmt.Sprintf("two.test:%d", f.port) || c.DNSServer != f.hosts {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range f.closed {
		if c.WhyClosed != facts.CloseConnectFailed || c.Err == nil || !strings.Contains(c.Err.Error(), "127.0.0.2") {
			t.Errorf("%+v", c)
		}
	}
}

func TestOnlyTheConnectionsOfVanishedAddressesEnd(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2")
	f.host("127.0.0.1 web.test\n127.0.0.2 web.test\n")
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "web.test", Port: f.port}} })
	for range 2 {
		if err := f.acquire(u, "", give); err != nil {
			t.Fatal(err)
		}
	}
	if s := u.Stats(); s.Idle != 2 {
		t.Fatalf("%+v; want one idle connection for each address", s)
	}
	f.host("127.0.0.2 web.test\n")
	f.eventually("the vanished address drains", func() bool {
		if err := f.acquire(u, "", func(a Acquired) {
			if a.Facts.Address.Addr().String() == "127.0.0.2" && a.WhyNew != "" {
				t.Error("the surviving address lost its warm connection")
			}
			a.Release("")
		}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(f.reasons(), " ") == facts.CloseAddressGone
	})
	if s := u.Stats(); s.Open != 1 {
		t.Errorf("%+v; want the survivor's", s)
	}
}

func TestAnErrorSaysUpstreamHostAndAddress(t *testing.T) {
	f := setUp(t)
	f.host("127.0.0.1 web.test\n")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	ln.Close()
	u := f.upstream(func(c *Config) { c.Targets = []Target{{Host: "web.test", Port: port}} })
	fe := f.acquire(u, "", give)
	if fe == nil || fe.Kind != fault.Connect || !fe.Retryable {
		t.Fatalf("%v", fe)
	}
	for _, part := range []string{"upstream u", "host web.test:", "address 127.0.0.1:", "refused"} {
		if !strings.Contains(fe.Error(), part) {
			t.Errorf("%q lacks %q", fe, part)
		}
	}
}

func TestDynamicTargetsAreAllowedBoundedAndForgotten(t *testing.T) {
	f := setUp(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	u := f.upstream(func(c *Config) {
		c.Dynamic = &Dynamic{Max: 2, Allow: func(a string) (string, uint16, bool) {
			return strings.TrimSuffix(a, ":80"), f.port, strings.HasPrefix(a, "127.")
		}}
	})
	if err := f.acquire(u, "10.0.0.1:80", give); err == nil || err.Kind != fault.Denied || err.Status != 403 {
		t.Errorf("not on the list: %v", err)
	}
	for _, a := range []string{"127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80", "127.0.0.3:80"} {
		if err := f.acquire(u, a, give); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	f.eventually("the third took the place of one of the first two", func() bool { return u.Stats().Open == 2 })
	var held []Acquired
	for a := range *u.dynamic.Load() {
		if err := f.acquire(u, a, func(a Acquired) { held = append(held, a) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.acquire(u, "127.0.0.9:80", give); err == nil || err.Kind != fault.PoolExhausted || err.Status != 503 {
		t.Errorf("all are in use: %v", err)
	}
	f.group.Loop(0).Post(func() {
		for _, a := range held {
			a.Release("")
		}
	})
	if err := f.acquire(f.upstream(func(*Config) {}), "", give); err == nil || err.Kind != fault.Denied {
		t.Errorf("without targets: %v", err)
	}
}
