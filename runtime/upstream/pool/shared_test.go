package pool

import (
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// fakeSession is a Session with room for so many.
type fakeSession struct {
	room int
	dead bool
	net  *netloop.Conn
}

func (s *fakeSession) Room(users int) bool { return !s.dead && users < s.room }
func (s *fakeSession) Alive() bool         { return !s.dead }
func (s *fakeSession) Close()              { _ = s.net.Close() }

// shared takes a connection whose Session has room for two, opens one, or waits; nil: none was to be had.
func (f *fixture) shared(t *netloop.Task) (*Conn, string) {
	p, r := f.pool, Request{Repeatable: true}
	c, why, got := p.Try(t, r)
	if got == Full {
		var err *fault.Error
		if p, c, why, err = f.queue.Wait(t, r, nil, nil, f.wait, f.max); err != nil {
			return nil, why
		}
	}
	if c == nil {
		if c = f.dial(t, why); c == nil {
			p.GiveUp(t.Loop())
			return nil, why
		}
		c.Session = &fakeSession{room: 2, net: c.Net}
		p.Opened(c)
	}
	return c, why
}

var sharedOptions = Options{Shared: true, IdleTimeout: time.Hour}

func TestRequestsShareAConnection(t *testing.T) {
	f := setUp(t, 1, sharedOptions)
	f.task(0, func(task *netloop.Task) {
		a, why := f.shared(task)
		b, none := f.shared(task)
		if a != b || why != facts.NewFirst || none != "" || a.Facts.Requests != 2 {
			t.Errorf("%q, %q, request %d", why, none, b.Facts.Requests)
		}
		c, why := f.shared(task)
		if c == a || why != facts.NewNoIdle || f.pool.Open() != 2 || f.pool.Idle() != 0 {
			t.Errorf("%q, %d open", why, f.pool.Open())
		}
		if a.Release("") != "" || f.pool.Idle() != 0 {
			t.Error("a connection in use is idle")
		}
		if d, why := f.shared(task); d != a || why != "" {
			t.Errorf("%q", why)
		}
		a.Release("")
		a.Release("")
		c.Release("")
		if f.pool.Idle() != 2 || f.pool.Open() != 2 {
			t.Errorf("%d of %d are idle", f.pool.Idle(), f.pool.Open())
		}
		if d, why := f.shared(task); d != c || why != "" { // the one that was used last
			t.Errorf("%q", why)
		}
	})
}

// TestASessionThatEnds takes no further request, and is closed when the last one has ended.
func TestASessionThatEnds(t *testing.T) {
	f := setUp(t, 1, sharedOptions)
	f.task(0, func(task *netloop.Task) {
		a, _ := f.shared(task)
		_, _ = f.shared(task)
		a.Gone(facts.ClosePeer)
		if b, _ := f.shared(task); b == a {
			t.Error("it was given out")
		}
		if why := a.Release(""); why != "" || a.Net.Closed() {
			t.Errorf("%q", why)
		}
		if why := a.Release(""); why != facts.ClosePeer || !a.Net.Closed() {
			t.Errorf("%q", why)
		}
		b, _ := f.shared(task)
		b.Release("")
		b.Release("")
		b.Gone(facts.CloseError) // while it is idle
		if !b.Net.Closed() || f.pool.Open() != 0 {
			t.Errorf("%d are open", f.pool.Open())
		}
		c, _ := f.shared(task)
		c.Session.(*fakeSession).dead = true
		if why := c.Release(""); why != facts.ClosePeer {
			t.Errorf("%q", why)
		}
	})
	if got := f.journal.reasons(); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// TestOneIsOpenedForMany: requests that come at once wait for the connection that the first of them opens.
func TestOneIsOpenedForMany(t *testing.T) {
	f := setUp(t, 1, sharedOptions)
	const n = 10
	done := make(chan *Conn, n)
	for range n {
		f.spawn(0, func(task *netloop.Task) {
			c, _ := f.shared(task)
			done <- c
		})
	}
	for range n {
		<-done
	}
	if open := f.pool.Open(); open != n/2 {
		t.Errorf("%d connections for %d requests, two on each", open, n)
	}
}

// TestWaitersShare: those who wait at the limit get what becomes free of a connection in use.
func TestWaitersShare(t *testing.T) {
	o := sharedOptions
	o.MaxConnections = 1
	f := setUp(t, 1, o)
	var conn *Conn
	f.task(0, func(task *netloop.Task) {
		conn, _ = f.shared(task)
		_, _ = f.shared(task)
	})
	const n = 6
	done := make(chan *Conn, n)
	for range n {
		f.spawn(0, func(task *netloop.Task) {
			c, _ := f.shared(task)
			done <- c
		})
	}
	f.eventually("all wait", func() bool { return f.queue.Waiting() == n })
	for range n {
		f.task(0, func(*netloop.Task) { conn.Release("") })
		if c := <-done; c != conn {
			t.Error("another connection, or none")
		}
	}
	if f.pool.Open() != 1 {
		t.Errorf("%d are open", f.pool.Open())
	}
}

// TestSharedConnectionsStayOnTheirLoop: another loop opens its own, and at the limit takes the place of an idle one.
func TestSharedConnectionsStayOnTheirLoop(t *testing.T) {
	o := sharedOptions
	o.MaxConnections = 1
	f := setUp(t, 2, o)
	f.task(0, func(task *netloop.Task) {
		c, _ := f.shared(task)
		c.Release("")
	})
	f.task(1, func(task *netloop.Task) {
		c, _ := f.shared(task)
		if c == nil || c.Net.Loop() != task.Loop() || c.Facts.MovedBetweenLoops != 0 {
			t.Error("it moved, or there is none")
		}
		c.Release("")
	})
	if got := f.journal.reasons(); len(got) != 1 || got[0] != facts.CloseMadePlace || f.pool.Open() != 1 {
		t.Errorf("%q, %d open", got, f.pool.Open())
	}
}

// TestSharedConnectionsRetire: by their idle timeout, their age, and the requests that they have served.
func TestSharedConnectionsRetire(t *testing.T) {
	for want, change := range map[string]func(*Options){
		facts.CloseIdleTimeout: func(o *Options) { o.IdleTimeout = 20 * time.Millisecond },
		facts.CloseMaxAge:      func(o *Options) { o.MaxAge = 20 * time.Millisecond },
		facts.CloseMaxRequests: func(o *Options) { o.MaxRequests = 2 },
		facts.CloseDraining:    func(*Options) {},
	} {
		t.Run(want, func(t *testing.T) {
			o := sharedOptions
			change(&o)
			f := setUp(t, 1, o)
			f.task(0, func(task *netloop.Task) {
				a, _ := f.shared(task)
				_, _ = f.shared(task)
				a.Release("")
				if want == facts.CloseDraining {
					f.pool.Drain(f.group, facts.CloseDraining)
				}
				a.Release("")
			})
			f.eventually("it is closed", func() bool { return f.pool.Open() == 0 }) // the reason was told before
			if got := f.journal.reasons(); len(got) != 1 || got[0] != want {
				t.Errorf("closed for %q, want %q", got, want)
			}
		})
	}
}
