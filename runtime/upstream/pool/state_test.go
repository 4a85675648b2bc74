package pool

import (
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

func TestConnectionsAreOpenedAhead(t *testing.T) {
	f := setUp(t, 2, Options{MinIdle: 3, MaxConnections: 4, IdleTimeout: 20 * time.Millisecond})
	f.task(0, func(task *netloop.Task) {
		if n := f.pool.Missing(); n != 3 {
			t.Errorf("%d are missing of 3", n)
		}
		if !f.pool.TryAhead() || f.pool.Missing() != 2 || f.pool.Open() != 1 {
			t.Errorf("one is being opened: %d missing, %d open", f.pool.Missing(), f.pool.Open())
		}
		f.pool.GiveUpAhead(task.Loop())
		for f.pool.TryAhead() {
			c := f.dial(task, facts.OpenPrewarm)
			f.pool.OpenedIdle(c)
			if c.Facts.Requests != 0 {
				t.Error("it has carried nothing")
			}
		}
		if f.pool.Missing() != 0 || f.pool.Idle() != 3 {
			t.Errorf("%d are missing, %d idle", f.pool.Missing(), f.pool.Idle())
		}
		task.Sleep(60 * time.Millisecond)
		if f.pool.Idle() != 3 {
			t.Errorf("idle_timeout closed below min_idle: %d", f.pool.Idle())
		}
		var held []*Conn
		for range 3 {
			c := f.mustGet(task, "")
			if c.Facts.Requests != 1 {
				t.Errorf("this is request 1, not %d", c.Facts.Requests)
			}
			held = append(held, c)
		}
		if n := f.pool.Missing(); n != 1 {
			t.Errorf("%d are missing; there is place for one", n)
		}
		for _, c := range held {
			c.Release("")
		}
		f.pool.Park()
		if f.pool.SetOptions(Options{MinIdle: 10}); f.pool.Missing() != 0 || f.pool.TryAhead() {
			t.Error("a parked pool misses nothing")
		}
	})
}

func TestOpeningAheadFromManyLoopsIsExact(t *testing.T) {
	f := setUp(t, 8, Options{MinIdle: 10})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Add(1)
		f.spawn(i%8, func(task *netloop.Task) {
			defer wg.Done()
			if f.pool.TryAhead() {
				f.pool.OpenedIdle(f.dial(task, facts.OpenPrewarm))
			}
		})
	}
	wg.Wait()
	if f.pool.Idle() > 10 || f.pool.Open() != f.pool.Idle() {
		t.Errorf("%d idle, %d open; want at most 10", f.pool.Idle(), f.pool.Open())
	}
}

func TestAParkedPoolKeepsWhatItHas(t *testing.T) {
	f := setUp(t, 2, Options{MaxConnections: 2})
	f.task(0, func(task *netloop.Task) {
		busy, idle := f.mustGet(task, facts.NewFirst), f.mustGet(task, facts.NewNoIdle)
		idle.Release("")
		f.pool.Park()
		if _, _, got := f.pool.Try(task, Request{Repeatable: true}); got != Full {
			t.Errorf("a parked pool gave %v", got)
		}
		if _, _, _, err := f.queue.Wait(task, Request{}, f.pool, nil, time.Minute, 1); err == nil || !err.Retryable {
			t.Errorf("waiting for a parked pool: %v", err)
		}
		busy.Release("")
		if f.pool.Idle() != 2 || !f.pool.Parked() {
			t.Errorf("%d are idle, want both", f.pool.Idle())
		}
	})
	got := make(chan *Conn, 1)
	f.spawn(1, func(task *netloop.Task) {
		_, c, _, err := f.queue.Wait(task, Request{Repeatable: true}, nil, nil, time.Minute, 1)
		if err != nil {
			t.Error(err)
		}
		got <- c
	})
	f.eventually("it waits", func() bool { return f.queue.Waiting() == 1 })
	f.pool.Unpark()
	if <-got == nil || f.pool.Open() != 2 {
		t.Error("the warm connections are what Unpark brings back")
	}
}

func TestParkingAndDrainingEndTheWaitForThisPoolOnly(t *testing.T) {
	for name, end := range map[string]func(*fixture){
		"park":  func(f *fixture) { f.pool.Park() },
		"drain": func(f *fixture) { f.pool.Drain(f.group, facts.CloseAddressGone) },
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, 2, Options{MaxConnections: 1})
			var held *Conn
			f.task(0, func(task *netloop.Task) { held = f.mustGet(task, facts.NewFirst) })
			ended := make(chan *fault.Error, 2)
			// Who waits for any is to wait in vain, and not before the test has seen both of them wait.
			for _, w := range []struct {
				only  *Pool
				limit time.Duration
			}{{f.pool, time.Minute}, {nil, 2 * time.Second}} {
				f.spawn(1, func(task *netloop.Task) {
					_, _, _, err := f.queue.Wait(task, Request{}, w.only, nil, w.limit, 2)
					ended <- err
				})
			}
			f.eventually("they wait", func() bool { return f.queue.Waiting() == 2 })
			end(f)
			if err := <-ended; err == nil || !err.Retryable {
				t.Errorf("who waits for this pool only: %v", err)
			}
			f.task(0, func(*netloop.Task) { held.Release("") })
			if err := <-ended; err == nil || err.Retryable {
				t.Errorf("who waits for any: %v", err)
			}
		})
	}
}

func TestDrainFromALoopSaysItsReason(t *testing.T) {
	f := setUp(t, 2, Options{MinIdle: 5})
	f.task(1, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
	f.task(0, func(task *netloop.Task) {
		busy, late := f.mustGet(task, ""), (*Conn)(nil)
		other := f.mustGet(task, facts.NewNoIdle)
		other.Release("")
		if f.pool.TryAhead() {
			late = f.dial(task, facts.OpenPrewarm)
		}
		f.pool.Drain(f.group, facts.CloseAddressGone)
		f.pool.Drain(f.group, facts.CloseShutdown)
		f.pool.OpenedIdle(late)
		busy.Release("")
		f.pool.Unpark()
		if _, _, got := f.pool.Try(task, Request{}); got != Full {
			t.Errorf("a drained pool gave %v", got)
		}
	})
	f.eventually("all are closed", func() bool { return f.pool.Open() == 0 })
	for _, r := range f.journal.reasons() {
		if r != facts.CloseAddressGone {
			t.Errorf("closed for %s", r)
		}
	}
	if len(*f.queue.pools.Load()) != 0 {
		t.Error("the queue still knows the pool")
	}
}

func TestCloseIdleClosesWhatIsIdleAndNoMore(t *testing.T) {
	f := setUp(t, 2, Options{})
	f.task(0, func(task *netloop.Task) {
		busy := f.mustGet(task, facts.NewFirst)
		f.mustGet(task, facts.NewNoIdle).Release("")
		f.pool.CloseIdle(f.group, facts.CloseEjected)
		for f.pool.Idle() > 0 {
			task.Sleep(time.Millisecond)
		}
		busy.Release("")
		f.mustGet(task, "").Release("")
	})
	if got := f.journal.reasons(); len(got) != 1 || got[0] != facts.CloseEjected {
		t.Errorf("closed for %v", got)
	}
}

func TestAnAnswerThatFillsTheBufferDoesNotEndTheConnection(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.backend = newCounting(t).backend
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		for range 3 {
			if err := ask(task, c); err != nil { // reads one byte into one: the loop does not know that there is no more
				t.Fatal(err)
			}
			c.Release("")
			if f.mustGet(task, "") != c {
				t.Error("another connection")
			}
		}
	})
}
