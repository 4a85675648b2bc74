package pool

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// counting answers each byte with one, and counts the requests that are with it at once.
type counting struct {
	*backend
	busy, most atomic.Int64
	fickle     atomic.Bool // it closes one connection in four after an answer, without a word
}

func newCounting(t *testing.T) *counting {
	b := &counting{}
	b.backend = newBackendWith(t, func(c net.Conn) {
		defer c.Close()
		buf := make([]byte, 1)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			n := b.busy.Add(1)
			for m := b.most.Load(); n > m && !b.most.CompareAndSwap(m, n); m = b.most.Load() {
			}
			b.busy.Add(-1)
			if _, err := c.Write(buf); err != nil || b.fickle.Load() && rand.IntN(4) == 0 {
				return
			}
		}
	})
	return b
}

func TestAThousandTasksOnSixteenLoopsKeepTheLimit(t *testing.T) {
	const loops, tasks, limit, rounds = 16, 1000, 10, 3
	f := setUp(t, loops, Options{MaxConnections: limit, KeepIdle: limit})
	b := newCounting(t)
	f.backend, f.wait = b.backend, time.Minute
	var wg sync.WaitGroup
	var held, most atomic.Int64
	for i := range tasks {
		wg.Add(1)
		f.spawn(i%loops, func(task *netloop.Task) {
			defer wg.Done()
			for range rounds {
				c, _, err := f.get(task, Request{Repeatable: i%3 > 0})
				if err != nil {
					t.Error(err)
					return
				}
				n := held.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if err := ask(task, c); err != nil {
					t.Error(err)
				}
				held.Add(-1)
				c.Release("")
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || b.most.Load() > limit || b.accepted.Load() > limit || f.pool.Open() > limit {
		t.Errorf("held %d, busy at the backend %d, accepted %d, open %d; the limit is %d", most.Load(), b.most.Load(), b.accepted.Load(), f.pool.Open(), limit)
	}
	if f.queue.Waiting() != 0 || f.pool.Open() != f.pool.Idle() {
		t.Errorf("afterwards: waiting %d, open %d, idle %d", f.queue.Waiting(), f.pool.Open(), f.pool.Idle())
	}
}

// Everything that can happen to a connection and a waiter happens here at once; what must remain is the limits, and that
// nobody is forgotten.
func TestNoWakeUpIsLostAndNoPlaceLeaks(t *testing.T) {
	t.Run("steady backend", func(t *testing.T) { stress(t, false) })
	t.Run("fickle backend", func(t *testing.T) { stress(t, true) })
}

func stress(t *testing.T, fickle bool) {
	const loops, tasks, limit = 8, 400, 3
	f := setUp(t, loops, Options{MaxConnections: limit, KeepIdle: limit, MinIdle: 1, LearnIdle: true})
	b := newCounting(t)
	b.fickle.Store(fickle)
	f.backend, f.wait = b.backend, time.Minute
	second := New(loops, Options{MaxConnections: limit, MaxRequests: 5}, f.queue, f.journal)
	pools := []*Pool{f.pool, second}
	reasons := []string{"", "", "", "", facts.CloseError, facts.CloseUpstreamSaidClose}
	var wg sync.WaitGroup
	var held [2]atomic.Int64
	var failed atomic.Int64
	for i := range tasks {
		wg.Add(1)
		f.spawn(i%loops, func(task *netloop.Task) {
			defer wg.Done()
			dice := rand.New(rand.NewPCG(uint64(i), 1))
			for range 8 {
				r := Request{Repeatable: dice.IntN(2) == 0, Fresh: dice.IntN(8) == 0}
				if dice.IntN(4) == 0 {
					r.Owner = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(dice.IntN(4))}), 1)
				}
				k := dice.IntN(2)
				p := pools[k]
				var only *Pool
				if dice.IntN(3) == 0 {
					only = p
				}
				c, why, got := p.Try(task, r)
				if got == Full {
					limit := time.Minute
					if dice.IntN(10) == 0 {
						limit = time.Duration(dice.IntN(int(10 * time.Millisecond)))
					}
					var err *fault.Error
					if p, c, why, err = f.queue.Wait(task, r, only, nil, limit, tasks); err != nil {
						if limit == time.Minute {
							t.Error(err)
						}
						failed.Add(1)
						continue
					}
				}
				if k = 0; p == second {
					k = 1
				}
				if n := held[k].Add(1); n > int64(limit) {
					t.Errorf("%d at once", n)
				}
				if c == nil && dice.IntN(10) == 0 {
					held[k].Add(-1)
					p.GiveUp(task.Loop())
					continue
				}
				if c == nil {
					var err *fault.Error
					if c, _, err = f.open(task, p, r, why); err != nil {
						held[k].Add(-1)
						t.Error(err)
						continue
					}
				}
				if c.Owner != r.Owner || c.Net.Loop() != task.Loop() {
					t.Errorf("for %v on loop %d: a connection of %v on loop %d", r.Owner, task.Loop().Index(), c.Owner, c.Net.Loop().Index())
				}
				reason := reasons[dice.IntN(len(reasons))]
				if err := ask(task, c); err != nil {
					reason = facts.ClosePeer
					if !fickle {
						t.Error(err)
					}
				}
				held[k].Add(-1)
				c.Release(reason)
				if dice.IntN(20) == 0 && second.TryAhead() {
					second.OpenedIdle(f.dial(task, facts.OpenPrewarm))
				}
			}
		})
	}
	wg.Wait()
	if n := f.queue.Waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	for i, p := range pools {
		f.eventually("places are in use by idle connections only", func() bool { return p.Open() == p.Idle() && p.ahead.Load() == 0 })
		p.CloseIdle(f.group, facts.CloseDraining)
		f.eventually("no place is left over", func() bool { return p.Open() == 0 })
		if held[i].Load() != 0 {
			t.Error(held[i].Load())
		}
	}
}

// line makes waiters that arrive one after another, on all loops in turn, and notes in which order they are served.
func (f *fixture) line(waiters int, only func(i int) *Pool, served func(i int)) *sync.WaitGroup {
	var wg sync.WaitGroup
	loops := len(f.group.Loops())
	for i := range waiters {
		wg.Add(1)
		f.spawn(i%loops, func(task *netloop.Task) {
			defer wg.Done()
			r := Request{Repeatable: i%2 == 0, Fresh: i%5 == 0}
			p, c, why, err := f.queue.Wait(task, r, only(i), nil, time.Minute, waiters)
			if err != nil {
				f.Error(i, err)
				return
			}
			if c == nil {
				if c, _, err = f.open(task, p, r, why); err != nil {
					f.Error(i, err)
					return
				}
			}
			served(i)
			c.Release("")
		})
		f.eventually("the waiter stands in the queue", func() bool { return f.queue.Waiting() == i+1 })
	}
	return &wg
}

func TestAThousandWaitersAreServedInOrderOfArrival(t *testing.T) {
	for _, limit := range []int{1, 8} {
		const waiters = 1000
		f := setUp(t, 16, Options{MaxConnections: limit})
		f.backend = newCounting(t).backend
		var held []*Conn
		f.task(0, func(task *netloop.Task) {
			for range limit {
				c, _, _ := f.get(task, Request{})
				held = append(held, c)
			}
		})
		var mu sync.Mutex
		var done [waiters]bool
		first, served := 0, 0 // all before first are done
		wg := f.line(waiters, func(i int) *Pool {
			if i%3 == 0 {
				return f.pool
			}
			return nil
		}, func(i int) {
			mu.Lock()
			defer mu.Unlock()
			earlier := 0 // who came before i and is not done has a place: it was given one before i was
			for _, d := range done[first:max(first, i)] {
				if !d {
					earlier++
				}
			}
			if earlier >= limit {
				t.Errorf("limit %d: waiter %d was served while %d who came before it were not", limit, i, earlier)
			}
			for done[i] = true; first < waiters && done[first]; first++ {
			}
			served++
		})
		f.task(0, func(*netloop.Task) {
			for _, c := range held {
				c.Release("")
			}
		})
		wg.Wait()
		if served != waiters || f.pool.Open() > limit {
			t.Errorf("limit %d: %d served, %d open", limit, served, f.pool.Open())
		}
	}
}

func TestAFreePlaceServesTheFirstWhoAcceptsThePool(t *testing.T) {
	f := setUp(t, 2, Options{MaxConnections: 1})
	other := New(2, Options{MaxConnections: 1}, f.queue, f.journal)
	var mine, others *Conn
	f.task(0, func(task *netloop.Task) {
		mine = f.mustGet(task, facts.NewFirst)
		if _, _, got := other.Try(task, Request{}); got != Leave {
			t.Error(got)
		}
		others, _, _ = f.open(task, other, Request{}, facts.NewFirst)
	})
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	names := map[*Pool]string{f.pool: "f", other: "o"}
	for i, accept := range []func(*Pool) bool{
		func(p *Pool) bool { return p == other },
		nil,
		func(p *Pool) bool { return p == f.pool },
		nil,
	} {
		wg.Add(1)
		f.spawn(i%2, func(task *netloop.Task) {
			defer wg.Done()
			p, c, why, err := f.queue.Wait(task, Request{Repeatable: true}, nil, accept, time.Minute, 10)
			if err != nil || (c == nil) != (i == 2) {
				t.Errorf("%d: %q %v", i, why, err)
				return
			}
			mu.Lock()
			order = append(order, string(rune('0'+i))+names[p])
			mu.Unlock()
			if i == 0 {
				c.Release("")
			}
		})
		f.eventually("it waits", func() bool { return f.queue.Waiting() == i+1 })
	}
	inOrder := func(want string) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return strings.Join(order, " ") == want }
	}
	f.task(0, func(task *netloop.Task) {
		if _, _, got := f.pool.Try(task, Request{}); got != Full {
			t.Errorf("a newcomer got %v while others wait", got)
		}
		mine.Release("") // for 1, who keeps it
	})
	f.eventually("the first who accepts it", inOrder("1f"))
	f.task(0, func(*netloop.Task) { others.Release("") }) // for 0, then 3
	f.eventually("the others, in order", inOrder("1f 0o 3o"))
	f.pool.SetOptions(Options{MaxConnections: 2}) // leave to open one, for 2
	f.eventually("the last", inOrder("1f 0o 3o 2f"))
	wg.Wait()
}

func TestKickServesThoseWhoAcceptAPoolNow(t *testing.T) {
	f := setUp(t, 2, Options{MaxConnections: 1})
	var accepted atomic.Bool
	var got *Conn
	done := make(chan struct{})
	f.task(1, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst).Release("") })
	f.spawn(0, func(task *netloop.Task) {
		defer close(done)
		var err *fault.Error
		if _, got, _, err = f.queue.Wait(task, Request{Repeatable: true}, nil, func(*Pool) bool { return accepted.Load() }, time.Minute, 1); err != nil {
			t.Error(err)
			return
		}
		got.Release("")
	})
	f.eventually("it waits", func() bool { return f.queue.Waiting() == 1 })
	f.task(0, func(task *netloop.Task) { f.mustGet(task, "").Release("") }) // nobody waits for this pool
	accepted.Store(true)
	f.queue.Kick()
	<-done
	if got == nil || f.pool.Open() != 1 {
		t.Error("the idle connection is what it should have got")
	}
}

func TestANewPoolServesThoseWhoWait(t *testing.T) {
	f := setUp(t, 1, Options{MaxConnections: 1})
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst) })
	done := make(chan *Pool)
	f.spawn(0, func(task *netloop.Task) {
		p, c, why, err := f.queue.Wait(task, Request{Repeatable: true}, nil, nil, time.Minute, 1)
		if err != nil || c != nil || why != facts.NewFirst {
			t.Errorf("%v %q %v", c, why, err)
		}
		p.GiveUp(task.Loop())
		task.Await(func() { done <- p })
	})
	f.eventually("it waits", func() bool { return f.queue.Waiting() == 1 })
	p := New(1, Options{}, f.queue, nil)
	if <-done != p {
		t.Error("another pool served it")
	}
}

func TestWaitWithoutTimeTakesWhatIsFree(t *testing.T) {
	f := setUp(t, 1, Options{MaxConnections: 1})
	f.task(0, func(task *netloop.Task) {
		p, c, _, err := f.queue.Wait(task, Request{}, nil, nil, 0, 1)
		if err != nil || c != nil || p != f.pool {
			t.Errorf("%v", err)
		}
		_, _, _, err = f.queue.Wait(task, Request{}, nil, nil, 0, 1)
		if err == nil || err.Kind != fault.PoolExhausted || !strings.Contains(err.Detail, "1 of 1 busy") {
			t.Errorf("%v", err)
		}
		p.GiveUp(task.Loop())
		_, _, _, err = f.queue.Wait(task, Request{}, nil, func(*Pool) bool { return false }, time.Millisecond, 1)
		if err == nil || !strings.Contains(err.Detail, "no target takes requests") {
			t.Errorf("%v", err)
		}
	})
}

func TestAtTheLimitAnIdleOneMakesPlaceForAFreshOne(t *testing.T) {
	f := setUp(t, 2, Options{MaxConnections: 1})
	for loop, want := range []string{facts.NewFirst, facts.NewRetry, facts.NewRetry} {
		f.task(loop%2, func(task *netloop.Task) {
			c, why, err := f.get(task, Request{Repeatable: true, Fresh: loop > 0})
			if err != nil || why != want || c.Facts.Requests != 1 {
				t.Errorf("%q, %v; want %q", why, err, want)
				return
			}
			c.Release("")
		})
	}
	if got := f.journal.reasons(); len(got) != 2 || got[0] != facts.CloseMadePlace || f.pool.Open() != 1 {
		t.Errorf("closed for %v, open %d", got, f.pool.Open())
	}
}

func TestTheGroupEndsWhileRequestsWait(t *testing.T) {
	f := setUp(t, 4, Options{MaxConnections: 1})
	f.task(0, func(task *netloop.Task) { f.mustGet(task, facts.NewFirst) })
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		f.spawn(i%4, func(task *netloop.Task) {
			defer wg.Done()
			if _, _, _, err := f.queue.Wait(task, Request{}, nil, nil, time.Minute, 40); err == nil || err.Kind != fault.ShuttingDown {
				t.Errorf("%v", err)
			}
		})
	}
	f.eventually("they wait", func() bool { return f.queue.Waiting() == 40 })
	f.group.Close()
	wg.Wait()
	if f.queue.Waiting() != 0 {
		t.Error(f.queue.Waiting())
	}
}
