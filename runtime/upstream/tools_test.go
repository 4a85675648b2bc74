package upstream

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
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
	onChange       func(MemberEvent) // may be nil
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
	j.changes = append(j.changes, e)
	f := j.onChange
	j.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// reasons are why connections were closed, in order.
func (j *journal) reasons() (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.closed {
		list = append(list, c.WhyClosed)
	}
	return list
}

// closedFor is how many connections to an address were closed for a reason.
func (j *journal) closedFor(ip, reason string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.closed {
		if c.WhyClosed == reason && c.Address.Addr().String() == ip {
			n++
		}
	}
	return n
}

// openedTo is how many connections were opened to an address.
func (j *journal) openedTo(ip string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.opened {
		if c.Address.Addr().String() == ip {
			n++
		}
	}
	return n
}

// story is what was told of an address, state by state.
func (j *journal) story(ip string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []string
	for _, e := range j.changes {
		if e.Address.Addr().String() == ip {
			list = append(list, e.State)
		}
	}
	return strings.Join(list, " ")
}

// told waits until that was told of an address, and no more.
func (f *fixture) told(ip, want string) {
	f.Helper()
	f.eventually("of "+ip+" it is told: "+want, func() bool { return len(f.story(ip)) >= len(want) })
	if got := f.story(ip); got != want {
		f.Errorf("of %s it is told: %s; want %s", ip, got, want)
	}
}

type fixture struct {
	*testing.T
	*journal
	group    *netloop.Group
	names    *resolve.Resolver
	hosts    string
	port     uint16
	servers  map[string]net.Listener
	accepted sync.Map // ip -> *atomic.Int64
	serving  sync.WaitGroup
}

// setUp listens on these addresses, all with one port, which is the test's own; names come from a hosts file that the test writes.
func setUp(t *testing.T, listen ...string) *fixture {
	t.Helper()
	return setUpLoops(t, 1, listen...)
}

func setUpLoops(t *testing.T, loops int, listen ...string) *fixture {
	t.Helper()
	before := runtime.NumGoroutine()
	g, err := netloop.New(netloop.Options{Loops: loops})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	f := &fixture{
		T: t, journal: &journal{}, group: g, hosts: filepath.Join(t.TempDir(), "hosts"), servers: map[string]net.Listener{},
		port: uint16(testkit.Port(t)), //nolint:gosec // it is one
	}
	f.names = resolve.New(resolve.Options{Hosts: f.hosts})
	t.Cleanup(func() {
		g.Close()
		f.names.Close()
		for ip := range f.servers {
			f.stop(ip)
		}
		f.serving.Wait()
		if n := g.Panics(); n > 0 {
			t.Errorf("%d panics on loops", n)
		}
		f.eventually("no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	for _, ip := range listen {
		f.serve(ip)
	}
	return f
}

// serve accepts connections on an address, and keeps them until the other side ends.
func (f *fixture) serve(ip string) {
	f.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, fmt.Sprint(f.port)))
	if err != nil {
		f.Fatal(err)
	}
	f.servers[ip] = ln
	count, _ := f.accepted.LoadOrStore(ip, new(atomic.Int64))
	f.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			count.(*atomic.Int64).Add(1)
			f.serving.Go(func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1)) // until the other side ends
			})
		}
	})
}

// stop has an address refuse connections; those that are open stay.
func (f *fixture) stop(ip string) {
	_ = f.servers[ip].Close()
	delete(f.servers, ip)
}

// connections is how many an address has accepted, once it has all that were opened to it.
func (f *fixture) connections(ip string) int {
	f.Helper()
	n, ok := f.accepted.Load(ip)
	if !ok {
		return 0
	}
	count := n.(*atomic.Int64)
	f.eventually(ip+" has accepted what was opened to it", func() bool { return int(count.Load()) >= f.openedTo(ip) })
	return int(count.Load())
}

func (f *fixture) eventually(what string, fact func() bool) {
	f.Helper()
	testkit.Eventually(f.T, what, fact)
}

func (f *fixture) host(lines string) {
	f.Helper()
	written := f.hosts + ".new" // who looks meanwhile sees the old file or the new one, and nothing in between
	err := os.WriteFile(written, []byte(lines), 0o600)
	if err == nil {
		err = os.Rename(written, f.hosts)
	}
	if err != nil {
		f.Fatal(err)
	}
}

// quick are look-ups at a server whose answers hold for a moment only.
func quick(s *dnstest.Server) resolve.NameOptions {
	return resolve.NameOptions{Server: s.Addr(), MaxTTL: 20 * time.Millisecond}
}

func (f *fixture) config(change func(*Config)) Config {
	c := Config{Name: "u", Connect: 3 * time.Second, Pool: pool.Options{MaxConnections: 10, IdleTimeout: time.Minute}, Queue: Queue{Acquire: 5 * time.Second, Max: 10},
		DNS: resolve.NameOptions{MaxTTL: 50 * time.Millisecond}}
	if change != nil {
		change(&c)
	}
	return c
}

func (f *fixture) upstream(change func(*Config)) *Upstream {
	return New(f.group, f.config(change), f.names, f.journal)
}

// targets are addresses with the fixture's port.
func (f *fixture) targets(ips ...string) (list []Target) {
	for _, ip := range ips {
		list = append(list, Target{Host: ip, Port: f.port})
	}
	return list
}

func (f *fixture) hostport(ip string) string { return net.JoinHostPort(ip, fmt.Sprint(f.port)) }

// on runs fn as a task of a loop, and waits for its end.
func (f *fixture) on(loop int, fn func(*netloop.Task)) {
	done := make(chan struct{})
	l := f.group.Loop(loop)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

// ask takes a connection as a request on the first loop would.
func (f *fixture) ask(u *Upstream, r Request) (a Acquired, err *fault.Error) {
	f.on(0, func(t *netloop.Task) { a, err = u.Acquire(t, r) })
	return a, err
}

// hold is ask for a request that must get a connection.
func (f *fixture) hold(u *Upstream, r Request) Acquired {
	f.Helper()
	a, err := f.ask(u, r)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

func (f *fixture) release(list ...Acquired) {
	f.on(0, func(*netloop.Task) {
		for i := range list {
			list[i].Release("")
		}
	})
}

// via is the address that a request is given a connection to, which it gives back at once.
func (f *fixture) via(u *Upstream, r Request) string {
	f.Helper()
	a := f.hold(u, r)
	f.release(a)
	return a.Facts.Address.Addr().String()
}

// among says which addresses n requests are given to.
func (f *fixture) among(u *Upstream, n int, r Request) string {
	f.Helper()
	var list []string
	for range n {
		list = append(list, f.via(u, r))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// waiting is a request that stands in the queue.
type waiting struct {
	a    Acquired
	err  *fault.Error
	done chan struct{}
}

// wait has a request stand in the queue.
func (f *fixture) wait(u *Upstream, r Request) *waiting {
	f.Helper()
	w := &waiting{done: make(chan struct{})}
	l := f.group.Loop(0)
	before := u.Stats().Waiting
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(w.done)
			w.a, w.err = u.Acquire(t, r)
		})
	})
	f.eventually("the request waits", func() bool { return u.Stats().Waiting > before })
	return w
}

func (w *waiting) end() (Acquired, *fault.Error) {
	<-w.done
	return w.a, w.err
}

// state is what is known of the member with an address.
func (f *fixture) state(u *Upstream, ip string) (s MemberState) {
	for _, m := range u.Members() {
		if m.Address == f.hostport(ip) {
			s = m
		}
	}
	return s
}

// acquire takes a connection as a request would.
func (f *fixture) acquire(u *Upstream, authority string, then func(Acquired)) (err *fault.Error) {
	f.on(0, func(t *netloop.Task) {
		var a Acquired
		if a, err = u.Acquire(t, Request{Request: pool.Request{Repeatable: true}, Authority: []byte(authority)}); err == nil {
			then(a)
		}
	})
	return err
}

func give(a Acquired) { a.Release("") }
