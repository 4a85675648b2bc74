package pool

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// backend accepts connections, keeps them open, and counts them.
type backend struct {
	net.Listener
	mu       sync.Mutex
	conns    []net.Conn
	ended    bool // what comes now is closed
	accepted atomic.Int64
}

func newBackend(t *testing.T) *backend { return newBackendWith(t, func(net.Conn) {}) }

// newBackendWith runs serve for each connection.
func newBackendWith(t *testing.T, serve func(net.Conn)) *backend {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: ln}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			if b.conns = append(b.conns, c); b.ended {
				c.Close() // it came with the end
			}
			b.mu.Unlock()
			b.accepted.Add(1) // now each finds it
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		b.mu.Lock()
		b.ended = true
		b.mu.Unlock()
		b.each(func(c net.Conn) { c.Close() })
		wg.Wait()
	})
	return b
}

func (b *backend) each(fn func(net.Conn)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		fn(c)
	}
}

// journal remembers why connections were closed.
type journal struct {
	mu     sync.Mutex
	closed []string
}

func (j *journal) ConnReleased(*netloop.Loop, *facts.Connection) {}
func (j *journal) ConnClosed(_ *netloop.Loop, c *facts.Connection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = append(j.closed, c.WhyClosed)
}

func (j *journal) reasons() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.closed)
}

type fixture struct {
	*testing.T
	group   *netloop.Group
	backend *backend
	pool    *Pool
	queue   *Queue
	journal *journal
	wait    time.Duration // how long get waits at the limit
	max     int           // how many may wait
}

func setUp(t *testing.T, loops int, o Options) *fixture {
	g, err := netloop.New(netloop.Options{Loops: loops})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	j, q := &journal{}, NewQueue()
	return &fixture{t, g, newBackend(t), New(loops, o, q, j), q, j, 5 * time.Second, 10000}
}

// task runs fn as a task of loop i and waits for its end.
func (f *fixture) task(i int, fn func(*netloop.Task)) {
	f.Helper()
	done := make(chan struct{})
	f.spawn(i, func(t *netloop.Task) { defer close(done); fn(t) })
	<-done
}

func (f *fixture) spawn(i int, fn func(*netloop.Task)) {
	l := f.group.Loop(i)
	l.Post(func() { l.Go(fn) })
}

// get takes a connection, opens one, or waits, as the owner of a pool does.
func (f *fixture) get(t *netloop.Task, r Request) (*Conn, string, *fault.Error) {
	p := f.pool
	c, why, got := p.Try(t, r)
	if got == Full {
		var err *fault.Error
		if p, c, why, err = f.queue.Wait(t, r, nil, nil, f.wait, f.max); err != nil {
			return nil, why, err
		}
	}
	if c != nil {
		return c, why, nil
	}
	return f.open(t, p, r, why)
}

// open dials with leave.
func (f *fixture) open(t *netloop.Task, p *Pool, r Request, why string) (*Conn, string, *fault.Error) {
	c := f.dial(t, why)
	if c == nil {
		p.GiveUp(t.Loop())
		return nil, why, fault.New(fault.Connect, fault.Upstream, 502, "refused")
	}
	c.Owner = r.Owner
	p.Opened(c)
	return c, why, nil
}

func (f *fixture) dial(t *netloop.Task, why string) *Conn {
	nc, err := t.Loop().Dial(t, f.backend.Addr().(*net.TCPAddr).AddrPort(), 0, netloop.DialOptions{})
	if err != nil {
		return nil
	}
	return &Conn{Net: nc, Stream: nc, Facts: facts.Connection{Address: netip.AddrPort{}, WhyOpened: why}}
}

func (f *fixture) mustGet(t *netloop.Task, want string) *Conn {
	f.Helper()
	c, why, err := f.get(t, Request{Repeatable: true})
	if err != nil || why != want {
		f.Errorf("got a connection with reason %q, %v; want %q", why, err, want)
		runtime.Goexit()
	}
	return c
}

func (f *fixture) eventually(what string, fact func() bool) {
	f.Helper()
	for end := time.Now().Add(10 * time.Second); !fact(); runtime.Gosched() {
		if time.Now().After(end) {
			f.Fatalf("waited 10 s in vain: %s; open %d idle %d waiting %d, closed %v", what, f.pool.Open(), f.pool.Idle(), f.queue.Waiting(), f.journal.reasons())
		}
	}
}

func TestAConnectionIsReusedAndCountsItsRequests(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Release("")
		again := f.mustGet(task, "")
		if again != c || c.Facts.Requests != 2 {
			t.Errorf("the second request got %p with %d requests, want %p with 2", again, c.Facts.Requests, c)
		}
		other := f.mustGet(task, facts.NewNoIdle)
		other.Release("")
		again.Release("")
		if f.mustGet(task, "") != again {
			t.Error("the connection that was used last is to be taken first")
		}
	})
	if n := f.pool.Open(); n != 2 {
		t.Errorf("%d connections are open, want 2", n)
	}
}

func TestALoopTakesAnotherLoopsIdleConnectionBeforeItDials(t *testing.T) {
	f := setUp(t, 4, Options{})
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
	for round := range 12 {
		f.task(round%4, func(task *netloop.Task) {
			c := f.mustGet(task, "")
			if c.Net.Loop() != task.Loop() {
				t.Error("the connection belongs to another loop")
			}
			c.Release("")
		})
	}
	if n := f.pool.Open(); n != 1 || f.backend.accepted.Load() > 1 {
		t.Errorf("%d connections were opened, want 1", n)
	}
}

func TestTheLimitHoldsExactlyAndWaitersAreServedInOrder(t *testing.T) {
	const limit, requests = 5, 400
	f := setUp(t, 2, Options{MaxConnections: limit})
	var busy, most atomic.Int64
	var wg sync.WaitGroup
	for i := range requests {
		wg.Add(1)
		f.spawn(i%2, func(task *netloop.Task) {
			defer wg.Done()
			c, _, err := f.get(task, Request{Repeatable: true})
			if err != nil {
				t.Error(err)
				return
			}
			if n := busy.Add(1); n > most.Load() {
				most.Store(n)
			}
			task.Sleep(time.Millisecond)
			busy.Add(-1)
			c.Release("")
		})
	}
	wg.Wait()
	if most.Load() > limit || f.backend.accepted.Load() > limit {
		t.Errorf("%d connections were busy at once and %d were opened; the limit is %d", most.Load(), f.backend.accepted.Load(), limit)
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	const waiters = 20
	f := setUp(t, 1, Options{MaxConnections: 1})
	var order []int
	f.task(0, func(task *netloop.Task) {
		held := f.mustGet(task, facts.NewFirst)
		left := waiters
		for i := range waiters {
			task.Loop().Go(func(waiter *netloop.Task) {
				for f.queue.Waiting() < i { // they come one after another
					waiter.Sleep(time.Millisecond)
				}
				c, _, err := f.get(waiter, Request{Repeatable: true})
				if err != nil {
					t.Error(err)
				} else {
					order = append(order, i)
					c.Release("")
				}
				if left--; left == 0 {
					task.Wake()
				}
			})
		}
		for f.queue.Waiting() < waiters {
			task.Sleep(time.Millisecond)
		}
		held.Release("")
		for left > 0 {
			task.Park()
		}
	})
	if !slices.IsSorted(order) || len(order) != waiters {
		t.Errorf("waiters were served in the order %v", order)
	}
}

func TestWaitingEndsWithAMessageThatSaysWhatIsFull(t *testing.T) {
	f := setUp(t, 1, Options{MaxConnections: 1})
	f.wait, f.max = 200*time.Millisecond, 1
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		_, _, err := f.get(task, Request{})
		if err == nil || err.Kind != fault.PoolExhausted || err.Status != 503 || !strings.Contains(err.Detail, "pool exhausted: 1 of 1 busy for 200ms") || !strings.Contains(err.Detail, "see pool.max_connections") {
			t.Errorf("at the limit: %v", err)
		}
		var second *fault.Error
		task.Loop().Go(func(other *netloop.Task) {
			_, _, second = f.get(other, Request{})
			task.Wake()
		})
		for f.queue.Waiting() == 0 && second == nil {
			task.Sleep(time.Millisecond)
		}
		if _, _, err := f.get(task, Request{}); err == nil || !strings.Contains(err.Detail, "the queue is full") || !strings.Contains(err.Detail, "see queue.max") {
			t.Errorf("with a full queue: %v", err)
		}
		for second == nil {
			task.Park()
		}
		c.Release("")
	})
	if f.pool.Open() != 1 || f.queue.Waiting() != 0 {
		t.Errorf("open %d, waiting %d; want 1, 0", f.pool.Open(), f.queue.Waiting())
	}
}

func TestAConnectionThatTheBackendClosedIsReplacedSilently(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
	f.eventually("accepted", func() bool { return f.backend.accepted.Load() == 1 })
	f.backend.each(func(c net.Conn) { c.Close() })
	f.eventually("the pool has noticed", func() bool { return f.pool.Open() == 0 })
	if got := f.journal.reasons(); fmt.Sprint(got) != "["+facts.ClosePeer+"]" {
		t.Errorf("closed for %v, want peer_closed", got)
	}
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
}

func TestBytesThatNobodyAskedForEndAConnection(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
	f.eventually("accepted", func() bool { return f.backend.accepted.Load() == 1 })
	f.backend.each(func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n") })
	f.eventually("the pool has noticed", func() bool { return f.pool.Open() == 0 })
	if got := f.journal.reasons(); fmt.Sprint(got) != "["+facts.CloseUnexpectedBytes+"]" {
		t.Errorf("closed for %v, want unexpected_bytes", got)
	}
}

func TestRetirement(t *testing.T) {
	t.Run("max_requests", func(t *testing.T) {
		f := setUp(t, 1, Options{MaxRequests: 2})
		f.task(0, func(task *netloop.Task) {
			f.mustGet(task, facts.NewFirst).Release("")
			f.mustGet(task, "").Release("")
			f.mustGet(task, facts.NewFirst).Release("")
		})
		if got := f.journal.reasons(); fmt.Sprint(got) != "["+facts.CloseMaxRequests+"]" {
			t.Error(got)
		}
	})
	t.Run("max_age", func(t *testing.T) {
		f := setUp(t, 1, Options{MaxAge: 20 * time.Millisecond, MaxAgeJitter: 0.5})
		f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
		f.eventually("an idle one retires by itself", func() bool { return f.pool.Open() == 0 })
		if got := f.journal.reasons(); fmt.Sprint(got) != "["+facts.CloseMaxAge+"]" {
			t.Error(got)
		}
	})
	t.Run("max_age, when it is asked for", func(t *testing.T) {
		f := setUp(t, 2, Options{MaxAge: time.Hour})
		for loop := range 2 { // by its own loop, and by another
			f.task(0, func(task *netloop.Task) {
				c := f.mustGet(task, facts.NewFirst)
				c.Release("")
				c.retireAt = 1
			})
			want := facts.NewRetired
			if loop == 1 {
				want = facts.NewFirst // the loop that has it does not give it away
			}
			f.task(loop, func(task *netloop.Task) { f.mustGet(task, want).Release(facts.CloseError) })
		}
		if got := f.journal.reasons(); fmt.Sprint(got) != "[max_age error max_age error]" {
			t.Error(got)
		}
	})
	t.Run("a limit that was lowered", func(t *testing.T) {
		f := setUp(t, 1, Options{})
		f.task(0, func(task *netloop.Task) {
			one, two := f.mustGet(task, facts.NewFirst), f.mustGet(task, facts.NewNoIdle)
			f.pool.SetOptions(Options{MaxConnections: 1})
			one.Release("")
			two.Release("")
		})
		if got := f.journal.reasons(); fmt.Sprint(got) != "["+facts.CloseAboveKeepIdle+"]" || f.pool.Idle() != 1 {
			t.Error(got)
		}
	})
	t.Run("idle_timeout keeps keep_idle", func(t *testing.T) {
		f := setUp(t, 1, Options{KeepIdle: 2, IdleTimeout: 20 * time.Millisecond})
		f.task(0, func(task *netloop.Task) {
			var held []*Conn
			for range 5 {
				c, _, _ := f.get(task, Request{})
				held = append(held, c)
			}
			for _, c := range held {
				c.Release("")
			}
		})
		f.eventually("three of five are closed", func() bool { return f.pool.Idle() == 2 })
		f.task(0, func(task *netloop.Task) { task.Sleep(60 * time.Millisecond) })
		if f.pool.Idle() != 2 {
			t.Errorf("%d are idle, want keep_idle = 2", f.pool.Idle())
		}
	})
	t.Run("reuse never", func(t *testing.T) {
		f := setUp(t, 1, Options{Reuse: Never})
		f.task(0, func(task *netloop.Task) {
			f.mustGet(task, facts.NewNeverReuse).Release("")
			f.mustGet(task, facts.NewNeverReuse).Release("")
		})
		if got := f.journal.reasons(); len(got) != 2 || got[0] != facts.CloseNeverReuse {
			t.Error(got)
		}
	})
	t.Run("reuse safe", func(t *testing.T) {
		f := setUp(t, 1, Options{Reuse: Safe})
		f.task(0, func(task *netloop.Task) {
			f.mustGet(task, facts.NewFirst).Release("")
			c, why, err := f.get(task, Request{Repeatable: false})
			if err != nil || why != facts.NewSafeOnly {
				t.Errorf("a request that cannot be repeated got %q, %v; want a connection of its own", why, err)
				return
			}
			c.Release("")
		})
	})
	t.Run("drain", func(t *testing.T) {
		f := setUp(t, 2, Options{})
		f.task(0, func(task *netloop.Task) {
			busy, idle := f.mustGet(task, facts.NewFirst), f.mustGet(task, facts.NewNoIdle)
			idle.Release("")
			f.pool.Drain(f.group, facts.CloseDraining)
			for f.pool.Idle() > 0 {
				task.Sleep(time.Millisecond)
			}
			if f.pool.Open() != 1 {
				t.Errorf("%d are open, want the busy one", f.pool.Open())
			}
			busy.Release("")
		})
		if f.pool.Open() != 0 {
			t.Errorf("%d are open after the drain", f.pool.Open())
		}
	})
}

func TestTryAndReleaseAllocateNothing(t *testing.T) {
	o := Options{IdleTimeout: time.Minute, MaxConnections: 10, LearnIdle: true}
	f := setUp(t, 1, o)
	client := netip.MustParseAddrPort("192.0.2.1:1")
	for _, r := range []Request{{Repeatable: true}, {}, {Owner: client}} {
		f.task(0, func(task *netloop.Task) {
			c, _, err := f.get(task, r)
			if err != nil {
				t.Fatal(err)
			}
			c.Release("")
			if n := testing.AllocsPerRun(1000, func() {
				c, _, got := f.pool.Try(task, r)
				if got != Idle {
					t.Fatal(got)
				}
				c.Hint(5*time.Second, 100)
				c.allowed = 0 // the run is longer than that
				c.Release("")
			}); n != 0 {
				t.Errorf("%+v: taking and giving back allocates %v times", r, n)
			}
		})
	}
}
