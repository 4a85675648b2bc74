package wasm

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// script is a task whose life on the loop is written down: each Park does the next of what others do meanwhile.
type script struct {
	parks  []func()
	awaits int
	wakes  int
}

func (s *script) Await(fn func()) {
	s.awaits++
	fn()
}

func (s *script) Park() {
	next := s.parks[0]
	s.parks = s.parks[1:]
	next()
}

func (s *script) Wake() { s.wakes++ }

const second = int64(time.Second)

// newPool returns a pool of instances with an export fine and one that traps, closed with the test.
func newPool(t *testing.T, o PoolOptions) *Pool {
	t.Helper()
	binary := module(func(m *wt.Module) {
		none := m.Type(nil, nil)
		m.Export("fine", 0, m.Func(none, nil))
		m.Export("trap", 0, m.Func(none, nil, wt.Unreachable))
	})
	if o.Backoff == nil {
		o.Backoff = &Backoff{}
	}
	p := NewPool(compile(t, newEngine(t, Options{}), binary, Limits{}), o)
	t.Cleanup(p.Close)
	return p
}

func get(t *testing.T, p *Pool, task Task, now int64) *Instance {
	t.Helper()
	in, err := p.Get(task, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// wantStats compares what matters of a pool's figures.
func wantStats(t *testing.T, p *Pool, want string) {
	t.Helper()
	s := p.Stats(0)
	got := fmt.Sprintf("live %d, in use %d, idle %d, waiting %d", s.Live, s.InUse, s.Idle, s.Waiting)
	if got != want {
		t.Errorf("the pool has: %s, not: %s", got, want)
	}
}

// TestPoolReusesTheInstanceUsedLast has two in use at once; then the warm one serves, and the other is closed when it was
// idle for long enough.
func TestPoolReusesTheInstanceUsedLast(t *testing.T) {
	task := &script{}
	p := newPool(t, PoolOptions{IdleAfter: 10 * time.Second})
	a, b := get(t, p, task, 0), get(t, p, task, 0)
	if a == b || task.awaits != 2 {
		t.Fatalf("the same instance twice, or made on the loop: %d", task.awaits)
	}
	wantStats(t, p, "live 2, in use 2, idle 0, waiting 0")
	p.Put(0, 1, a)
	p.Put(0, 1, b)
	for now := range int64(20) {
		in := get(t, p, task, now*second)
		if in != b {
			t.Fatal("the cold instance serves")
		}
		p.Put(0, now*second, in)
		p.Sweep(0, now*second)
	}
	wantStats(t, p, "live 1, in use 0, idle 1, waiting 0")
	if s := p.Stats(0); s.ClosedIdle != 1 || s.Started != 2 {
		t.Errorf("%+v", s)
	}
	p.Sweep(0, 100*second)
	wantStats(t, p, "live 0, in use 0, idle 0, waiting 0")
	p.Put(0, 100*second, get(t, p, task, 100*second)) // from zero again
}

func TestPoolKeepsIdleInstancesIfAsked(t *testing.T) {
	p := newPool(t, PoolOptions{IdleAfter: -1})
	p.Put(0, 0, get(t, p, nil, 0))
	p.Sweep(0, 1<<60)
	wantStats(t, p, "live 1, in use 0, idle 1, waiting 0")
}

func TestPoolReplacesInstancesThatWereUsedEnough(t *testing.T) {
	p := newPool(t, PoolOptions{MaxUses: 3})
	seen := map[*Instance]bool{}
	for range 9 {
		in := get(t, p, nil, 0)
		must(t, in, "fine")
		seen[in] = true
		p.Put(0, 0, in)
	}
	if s := p.Stats(0); len(seen) != 3 || s.Recycled != 3 || s.Live != 0 {
		t.Errorf("%d instances, %+v", len(seen), s)
	}
}

func TestPoolDiscardsWhatBroke(t *testing.T) {
	p := newPool(t, PoolOptions{})
	a := get(t, p, nil, 0)
	if _, err := call(a, "trap"); err == nil {
		t.Fatal("no trap")
	}
	p.Put(0, 0, a) // a broken one is never put back
	b := get(t, p, nil, 0)
	if a == b || b.Broken() {
		t.Error("a broken instance serves again")
	}
	p.Discard(0, 0, b) // an answer that was not valid
	if s := p.Stats(0); s.Discarded != 2 || s.Live != 0 {
		t.Errorf("%+v", s)
	}
}

// TestPoolKeepsLoopsApart uses two loops of one pool.
func TestPoolKeepsLoopsApart(t *testing.T) {
	p := newPool(t, PoolOptions{Loops: 2, MaxPerLoop: 1})
	in, err := p.Spawn()
	if err != nil {
		t.Fatal(err)
	}
	p.Add(1, 0, in)
	a := get(t, p, nil, 0)
	b, err := p.Get(nil, 1, 0)
	if err != nil || b != in || a == in {
		t.Errorf("loop 1 got %p, made for it was %p: %v", b, in, err)
	}
	p.Put(0, 0, a)
	p.Put(1, 0, b)
	p.Drain(0)
	if p.Stats(0).Live != 0 || p.Stats(1).Live != 1 {
		t.Errorf("after Drain(0): %+v %+v", p.Stats(0), p.Stats(1))
	}
}

// TestRequestsWaitForABusyInstance has one instance and three requests: they get it one after the other, in their order.
func TestRequestsWaitForABusyInstance(t *testing.T) {
	p := newPool(t, PoolOptions{MaxPerLoop: 1, MaxWaiting: 2})
	busy := get(t, p, nil, 0)
	var order []string
	third := &script{}
	second := &script{parks: []func(){func() {
		// While the second is parked the third comes, and then the instance is put back.
		third.parks = []func(){func() {
			_, err := p.Get(&script{}, 0, 0)
			wantFault(t, err, fault.PluginUnavailable, "all 1 instances of this loop are in use")
			wantStats(t, p, "live 1, in use 1, idle 0, waiting 2")
			p.Put(0, 0, busy)
			// The second runs now, as far as the test's stack lets it: it is woken, the third is not.
			in := get(t, p, nil, 0)
			order = append(order, "overtakes")
			p.Put(0, 0, in)
		}}
		in := get(t, p, third, 0)
		order = append(order, "third")
		p.Put(0, 0, in)
	}}}
	in := get(t, p, second, 0)
	order = append(order, "second")
	if in != busy || !slices.Equal(order, []string{"overtakes", "third", "second"}) {
		t.Errorf("%v", order)
	}
	if second.wakes != 1 || third.wakes != 1 {
		t.Errorf("woken %d and %d times", second.wakes, third.wakes)
	}
	p.Put(0, 0, in)
	wantStats(t, p, "live 1, in use 0, idle 1, waiting 0")
	in = get(t, p, nil, 0)
	_, err := p.Get(nil, 0, 0) // without a task nobody can wait
	wantFault(t, err, fault.PluginUnavailable, "in use")
	p.Put(0, 0, in)
}

// TestWaitingEnds lets a request wait for too long. It was overtaken in between: that neither costs it its place nor gives
// it more time.
func TestWaitingEnds(t *testing.T) {
	p := newPool(t, PoolOptions{MaxPerLoop: 1, MaxWait: 2 * time.Second})
	busy := get(t, p, nil, 0)
	var task *script
	task = &script{parks: []func(){
		func() {
			p.Put(0, 1, busy)
			busy = get(t, p, nil, 1) // another one was faster
			if task.wakes != 1 {
				t.Error("not woken")
			}
		},
		func() {
			p.Sweep(0, 2*second-1)
			if task.wakes != 1 {
				t.Error("woken before its time")
			}
		},
		func() {
			later := &waiter{task: &script{}, until: 3 * second}
			p.loops[0].waiting = append(p.loops[0].waiting, later)
			p.Sweep(0, 2*second)
			if later.woken {
				t.Error("one that came later was woken too")
			}
			p.loops[0].waiting = nil
		},
	}}
	_, err := p.Get(task, 0, 0)
	wantFault(t, err, fault.PluginUnavailable, "none of the 1 instances of this loop was free within 2s")
	p.Put(0, 0, busy)
}

// TestRefusalIsPassedOn has two requests wait for an instance that then breaks, while the next may not be made yet: both
// are told so at once, not only the first.
func TestRefusalIsPassedOn(t *testing.T) {
	p := newPool(t, PoolOptions{MaxPerLoop: 1, Backoff: &Backoff{Base: time.Second, Max: time.Second}})
	busy := get(t, p, nil, 0)
	other := &waiter{task: &script{}, until: second}
	_, err := p.Get(&script{parks: []func(){func() {
		p.loops[0].waiting = append(p.loops[0].waiting, other)
		p.Discard(0, 0, busy)
	}}}, 0, 0)
	wantFault(t, err, fault.PluginUnavailable, "the next instance is made in")
	if !other.woken {
		t.Error("the second waits on, and nobody will ever wake it")
	}
}

// TestDrainedPoolTakesNothingBack drains with one instance in use and one idle.
// TestACrowdOfInstancesStartsInTurn: a crowd of requests that finds no instance must not keep the processors from the loops
// while it has its own made.
func TestACrowdOfInstancesStartsInTurn(t *testing.T) {
	var starting, most atomic.Int64
	p := newPool(t, PoolOptions{Init: func(in *Instance) error {
		most.Store(max(most.Load(), starting.Add(1)))
		goruntime.Gosched()
		starting.Add(-1)
		return nil
	}})
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	defer g.Close()
	var all sync.WaitGroup
	all.Add(30)
	g.Loop(0).Post(func() {
		for range 30 {
			g.Loop(0).Go(func(task *netloop.Task) {
				defer all.Done()
				if in, err := p.Get(task, 0, 0); err != nil {
					t.Error(err)
				} else {
					t.Cleanup(func() { p.Put(0, 0, in) })
				}
			})
		}
	})
	all.Wait()
	wantStats(t, p, "live 30, in use 30, idle 0, waiting 0")
	if limit := max(goruntime.NumCPU()/2, 1); int(most.Load()) > limit {
		t.Errorf("%d started at a time; at most %d may", most.Load(), limit)
	}
}

func TestDrainedPoolTakesNothingBack(t *testing.T) {
	p := newPool(t, PoolOptions{})
	a, b := get(t, p, nil, 0), get(t, p, nil, 0)
	p.Put(0, 0, a)
	p.Drain(0)
	wantStats(t, p, "live 1, in use 1, idle 0, waiting 0")
	must(t, b, "fine")
	p.Put(0, 0, b)
	wantStats(t, p, "live 0, in use 0, idle 0, waiting 0")
	if s := p.Stats(0); s.Recycled != 0 {
		t.Errorf("%+v", s)
	}
}

// TestStartsThatFailBackOff has Init fail: each failure in a row costs more time, and what went well forgives.
func TestStartsThatFailBackOff(t *testing.T) {
	broken := true
	inits := 0
	p := newPool(t, PoolOptions{
		Backoff: &Backoff{Free: 2, Base: time.Second, Max: 4 * time.Second},
		Init: func(in *Instance) error {
			inits++
			if broken {
				return errors.New("no manifest")
			}
			return nil
		},
	})
	now := int64(0)
	for range 3 {
		_, err := p.Get(nil, 0, now)
		wantFault(t, fault.From(err), fault.Internal, "no manifest")
	}
	_, err := p.Get(nil, 0, now)
	wantFault(t, err, fault.PluginUnavailable, "failed to start", "the next instance is made in")
	if s := p.Stats(0); s.StartFailed != 3 || s.Refused != 1 || s.Live != 0 || inits != 3 {
		t.Errorf("%+v, %d inits", s, inits)
	}
	now += second
	if _, err = p.Get(nil, 0, now); inits != 4 || err == nil {
		t.Errorf("no attempt after the delay: %v", err)
	}
	broken = false
	_, err = p.Get(nil, 0, now+second/2)
	wantFault(t, err, fault.PluginUnavailable, "the next instance")
	now += 4 * second
	p.Put(0, now, get(t, p, nil, now))
	p.Drain(0)
	broken = true
	for range 2 { // free again
		if _, err := p.Get(nil, 0, now); err == nil || fault.From(err).Kind != fault.Internal {
			t.Errorf("got %v", err)
		}
	}
}

// TestBreakerOfAPool has calls fail until the breaker opens, probes it, and closes it.
func TestBreakerOfAPool(t *testing.T) {
	p := newPool(t, PoolOptions{Breaker: &Breaker{Failures: 3, Percent: 50, Window: time.Minute, Open: 10 * time.Second}})
	opened := 0
	for range 3 {
		in := get(t, p, nil, 0)
		if _, err := call(in, "trap"); err == nil {
			t.Fatal("no trap")
		}
		if p.Discard(0, 0, in) {
			opened++
		}
	}
	if s := p.Stats(0); opened != 1 || s.Opens != 1 || !s.Open {
		t.Errorf("opened %d times: %+v", opened, s)
	}
	_, err := p.Get(nil, 0, 9*second)
	wantFault(t, err, fault.PluginUnavailable, "breaker is open for 1s")
	probe := get(t, p, nil, 10*second)
	_, err = p.Get(nil, 0, 10*second) // one at a time
	wantFault(t, err, fault.PluginUnavailable, "breaker is open")
	p.Put(0, 10*second, probe)
	if s := p.Stats(0); s.Open {
		t.Errorf("%+v", s)
	}
	p.Put(0, 10*second, get(t, p, nil, 10*second))
}

// TestIdleInstancesGiveTheirStackBack has a call use a deep stack and go well.
func TestIdleInstancesGiveTheirStackBack(t *testing.T) {
	binary := module(func(m *wt.Module) {
		m.Export("dig", 0, m.Func(m.Type([]byte{wt.I32}, nil), nil, wt.Get(0), wt.If(wt.Get(0), wt.I32Const(1), wt.I32Sub, wt.Call(0))))
	})
	p := NewPool(compile(t, newEngine(t, Options{}), binary, Limits{}), PoolOptions{})
	t.Cleanup(p.Close)
	in := get(t, p, nil, 0)
	must(t, in, "dig", 5000)
	if n := functionStack(in.functions[0][0]); n <= shrunkStack {
		t.Fatalf("the stack has %d bytes: the field was not found, or 5000 calls are not deep", n)
	}
	p.Put(0, 0, in)
	p.Sweep(0, 0)
	if in.functions[0][0] != nil {
		t.Error("the stack is still there")
	}
	in = get(t, p, nil, 0)
	must(t, in, "dig", 5)
	p.Put(0, 0, in)
}
