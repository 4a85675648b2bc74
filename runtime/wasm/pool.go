package wasm

import (
	"runtime"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
)

// Backoff is when a new instance is made after failures.
type Backoff = breaker.Backoff

// Breaker is when a plugin that fails is not called.
type Breaker = breaker.Breaker

// Task is what a Pool needs of the coroutine that asks for an instance; *netloop.Task is one. Await runs fn where it may
// block and parks the coroutine meanwhile. Park returns when Wake was called, before or after; both run on the loop.
type Task interface {
	Await(fn func())
	Park()
	Wake()
}

// PoolOptions says how a Pool works. Zero values mean the defaults.
type PoolOptions struct {
	Loops int // how many loops there are
	// Instance is what instances are made with. Init runs once for each new one, after the module's own start, on the
	// goroutine that made it, with Limits.StartFuel for each call it makes by CallFuel; an error means that the instance
	// is of no use. Init may run for several instances at once.
	Instance InstanceOptions
	Init     func(in *Instance) error
	// MaxPerLoop bounds the instances of one loop, those in use included; default 64. Two are rarely needed: only while
	// a guest is parked in a host function, another serves the loop's other requests.
	MaxPerLoop int
	// MaxParked is how many instances there may be on a loop beyond those, in place of as many that are parked (Pool.Park).
	MaxParked int
	// MaxWaiting bounds the requests that wait on one loop for an instance; default 1024.
	MaxWaiting int
	// MaxWait is how long one waits; default 1 s. It is looked at by Sweep.
	MaxWait time.Duration
	// MaxUses is after how many uses, each from Get to Put, an instance is replaced; 0: never.
	MaxUses int64
	// IdleAfter is after how long without a call an instance is closed; default 5 min, negative: never.
	IdleAfter time.Duration
	Backoff   *Backoff // default breaker.DefaultBackoff
	Breaker   *Breaker // default breaker.DefaultBreaker
}

// Pool keeps a plugin's instances, for each loop its own. Methods with a loop argument run on that loop only, and Close
// when no loop uses it any more.
type Pool struct {
	compiled *Compiled
	options  PoolOptions
	// starts has as many places as instances may start at a time, on whatever loops: more would keep the processors from the
	// loops. Each loop makes one at a time in any case (loopPool.making), so who waits for a place is a goroutine for each loop.
	starts chan struct{}
	loops  []loopPool
}

// loopPool is a loop's part. It is padded to whole cache lines by its size.
type loopPool struct {
	idle     []*Instance // the last one used is the last
	live     int         // instances that exist or are being made
	making   bool        // one of them is: who needs another takes what is free first, that one or one that is given back
	inUse    int
	parked   int // of those in use: their guests wait in a function of the host
	waiting  []*waiter
	backoff  Backoff
	breaker  Breaker
	stats    PoolStats
	draining bool
	_        [64]byte
}

type waiter struct {
	task  Task
	until int64
	woken bool // a place or an instance was freed for it, or it waited too long
	late  bool
}

// PoolStats counts what a loop's part of a pool did. The first two lines are of the moment; Memory is that of the idle
// instances, in bytes, and Open says that the breaker has opened and no call has gone well since.
type PoolStats struct {
	Live, InUse, Parked, Idle, Waiting   int
	Memory                               int64
	Open                                 bool
	Started, StartFailed, Discarded      int64
	Recycled, ClosedIdle, Refused, Opens int64
}

// NewPool returns an empty pool that uses c, which the pool's owner closes after the pool.
func NewPool(c *Compiled, o PoolOptions) *Pool {
	o.Loops = max(o.Loops, 1)
	if o.MaxPerLoop <= 0 {
		o.MaxPerLoop = 64
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 1024
	}
	if o.MaxWait <= 0 {
		o.MaxWait = time.Second
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = 5 * time.Minute
	}
	backoff, calls := breaker.DefaultBackoff, breaker.DefaultBreaker
	if o.Backoff != nil {
		backoff = *o.Backoff
	}
	if o.Breaker != nil {
		calls = *o.Breaker
	}
	p := &Pool{compiled: c, options: o, starts: make(chan struct{}, max(runtime.NumCPU()/2, 1)), loops: make([]loopPool, o.Loops)}
	for i := range p.loops {
		p.loops[i].backoff, p.loops[i].breaker = backoff, calls
	}
	return p
}

// SetParking sets MaxParked and MaxWait, for an owner that knows only from the first instance what is right. It is called
// before the loops use the pool.
func (p *Pool) SetParking(maxParked int, maxWait time.Duration) {
	p.options.MaxParked, p.options.MaxWait = maxParked, maxWait
}

// Park says that the guest of an instance in use will wait in a function of the host for something that takes long; Unpark
// that it goes on. Meanwhile another instance may take its place.
func (p *Pool) Park(loop int) {
	l := &p.loops[loop]
	l.parked++
	if l.live < p.most(l) {
		l.wakeOne()
	}
}

// Unpark ends Park.
func (p *Pool) Unpark(loop int) { p.loops[loop].parked-- }

// most is how many instances there may be now.
func (p *Pool) most(l *loopPool) int {
	return p.options.MaxPerLoop + min(l.parked, p.options.MaxParked)
}

// Compiled is what the pool makes instances of.
func (p *Pool) Compiled() *Compiled { return p.compiled }

// Spawn makes an instance that belongs to no loop yet. It may run on any goroutine: with Add this is how a pool is warmed
// up before it serves.
func (p *Pool) Spawn() (*Instance, error) {
	in, err := p.compiled.Instantiate(p.options.Instance)
	if err != nil {
		return nil, err
	}
	if p.options.Init != nil {
		if err := p.options.Init(in); err != nil {
			in.Close()
			f := fault.From(err)
			if f.Plugin == "" {
				named := *f
				named.Plugin = p.compiled.name
				f = &named
			}
			return nil, f
		}
	}
	return in, nil
}

// Add gives an instance made by Spawn to a loop, as an idle one. Before the loops run, any goroutine may do this.
func (p *Pool) Add(loop int, now int64, in *Instance) {
	l := &p.loops[loop]
	l.live++
	l.stats.Started++
	in.lastUsed, in.loop = now, loop
	l.idle = append(l.idle, in)
}

// Get returns an instance for one call or several, to be given back by Put or Discard. It makes one if none is idle, in
// t.Await, or in place if t is nil. The error is a *fault.Error of kind PluginUnavailable (breaker
// open, backing off, all in use for too long) or what went wrong with the start. An idle instance costs no allocation.
func (p *Pool) Get(t Task, loop int, now int64) (*Instance, error) {
	l := &p.loops[loop]
	if !l.breaker.Allow(now) {
		return nil, p.refuse(l, "it failed too often: its breaker is open for %v", time.Duration(l.breaker.RetryAfter(now)))
	}
	if in := l.pop(); in != nil {
		return in, nil
	}
	in, err := p.acquire(t, l, loop, now)
	if err != nil {
		l.breaker.Cancel()
	}
	return in, err
}

func (l *loopPool) pop() *Instance {
	n := len(l.idle)
	if n == 0 {
		return nil
	}
	in := l.idle[n-1]
	l.idle[n-1] = nil
	l.idle = l.idle[:n-1]
	l.inUse++
	return in
}

// full says whether no instance can be made now.
func (p *Pool) full(l *loopPool) bool { return l.making || l.live >= p.most(l) }

// acquire makes an instance, or waits for one where there are enough.
func (p *Pool) acquire(t Task, l *loopPool, loop int, now int64) (*Instance, error) {
	var w *waiter
	for full := p.full(l); ; {
		for full {
			if w == nil {
				if t == nil || len(l.waiting) >= p.options.MaxWaiting {
					return nil, p.refuse(l, "all %d instances of this loop are in use", l.live)
				}
				w = &waiter{task: t, until: now + int64(p.options.MaxWait)}
			}
			l.wait(w)
			if w.late {
				return nil, p.refuse(l, "none of the %d instances of this loop was free within %v", l.live, p.options.MaxWait)
			}
			if in := l.pop(); in != nil {
				return in, nil
			}
			full = p.full(l)
		}
		if ok, wait := l.backoff.Ready(now); !ok {
			if w != nil {
				l.wakeOne() // who waits behind this one would wait in vain
			}
			return nil, p.refuse(l, "it failed to start or to answer several times in a row: the next instance is made in %v", time.Duration(wait))
		}
		in, err := p.make(t, l, loop, now)
		if err == nil || !p.crowded(t, l, err) {
			return in, err
		}
		if in := l.pop(); in != nil { // given back meanwhile
			return in, nil
		}
		full = true
	}
}

// make makes an instance that is in use.
func (p *Pool) make(t Task, l *loopPool, loop int, now int64) (in *Instance, err error) {
	l.live++
	l.making = true
	if t == nil {
		in, err = p.Spawn()
	} else {
		t.Await(func() {
			p.starts <- struct{}{}
			defer func() { <-p.starts }()
			in, err = p.Spawn()
		})
	}
	l.making = false
	if err != nil {
		l.live--
		l.stats.StartFailed++
		if !p.crowded(t, l, err) {
			l.backoff.Fail(now)
			l.wakeOne()
		}
		return nil, err
	}
	l.stats.Started++
	in.loop = loop
	l.inUse++
	if !p.full(l) {
		l.wakeOne()
	}
	return in, nil
}

// crowded says that no instance could be made because those that there are have all the memory: then one of them will do.
func (p *Pool) crowded(t Task, l *loopPool, err error) bool {
	return t != nil && l.inUse > 0 && fault.From(err).Kind == fault.PluginMemory
}

func (p *Pool) refuse(l *loopPool, format string, args ...any) error {
	l.stats.Refused++
	f := fault.New(fault.PluginUnavailable, fault.Plugin, 503, format, args...)
	f.Plugin = p.compiled.name
	return f
}

// Put gives an instance back after calls that went well. A broken one is discarded.
func (p *Pool) Put(loop int, now int64, in *Instance) {
	if in.broken {
		p.Discard(loop, now, in)
		return
	}
	l := &p.loops[loop]
	l.backoff.Succeed()
	l.breaker.Done(now, true)
	in.uses++
	p.putBack(l, now, in)
}

func (p *Pool) putBack(l *loopPool, now int64, in *Instance) {
	l.inUse--
	if l.draining || p.options.MaxUses > 0 && in.uses >= p.options.MaxUses {
		l.live--
		if !l.draining {
			l.stats.Recycled++
		}
		in.Close()
	} else {
		in.lastUsed = now
		l.idle = append(l.idle, in)
	}
	l.wakeOne()
}

// Discard closes an instance whose call failed, or whose answer was not valid, and reports whether that opened the
// breaker: what is worth a line in the log.
func (p *Pool) Discard(loop int, now int64, in *Instance) (opened bool) {
	l := &p.loops[loop]
	l.inUse--
	l.live--
	l.stats.Discarded++
	in.Close()
	l.backoff.Fail(now)
	if opened = l.breaker.Done(now, false); opened {
		l.stats.Opens++
	}
	l.wakeOne()
	return opened
}

// wait parks w's task until it is woken. Who was overtaken on the way to what was freed waits in front again, and not for
// longer than before.
func (l *loopPool) wait(w *waiter) {
	w.woken = false
	at := len(l.waiting)
	for at > 0 && l.waiting[at-1].until > w.until {
		at--
	}
	l.waiting = slices.Insert(l.waiting, at, w)
	for !w.woken {
		w.task.Park()
	}
}

// wakeOne lets the one go on that waits longest.
func (l *loopPool) wakeOne() {
	for i, w := range l.waiting {
		if !w.woken {
			l.waiting = append(l.waiting[:0], l.waiting[i+1:]...)
			w.woken = true
			w.task.Wake()
			return
		}
	}
}

// shrunkStack is the native stack that an idle instance may keep for a function.
const shrunkStack = 128 << 10

// surplusAfter is after how long without a call an instance is closed that is there because others were parked.
const surplusAfter = 10 * time.Second

// Sweep ends waits that took too long, closes instances that were idle for too long and gives back stacks that grew. The
// owner calls it on the loop, about every 100 ms to 1 s.
func (p *Pool) Sweep(loop int, now int64) {
	l := &p.loops[loop]
	for len(l.waiting) > 0 && now >= l.waiting[0].until {
		l.waiting[0].late = true
		l.wakeOne()
	}
	keep := l.idle[:0]
	for _, in := range l.idle {
		idle := now - in.lastUsed
		if p.options.IdleAfter > 0 && idle >= int64(p.options.IdleAfter) || l.live > p.most(l) && idle >= int64(surplusAfter) {
			l.live--
			l.stats.ClosedIdle++
			in.Close()
			continue
		}
		in.shrink()
		keep = append(keep, in)
	}
	clear(l.idle[len(keep):])
	l.idle = keep
}

// Drain closes the loop's idle instances, and from now on each that is given back. It runs on the loop.
func (p *Pool) Drain(loop int) {
	l := &p.loops[loop]
	l.draining = true
	for _, in := range l.idle {
		l.live--
		in.Close()
	}
	clear(l.idle)
	l.idle = l.idle[:0]
}

// Close closes the idle instances of all loops, and from now on each that is given back.
func (p *Pool) Close() {
	for i := range p.loops {
		p.Drain(i)
	}
}

// Stats returns what the loop's part did.
func (p *Pool) Stats(loop int) PoolStats {
	l := &p.loops[loop]
	s := l.stats
	s.Live, s.InUse, s.Parked, s.Idle, s.Waiting = l.live, l.inUse, l.parked, len(l.idle), len(l.waiting)
	for _, in := range l.idle {
		s.Memory += in.MemoryBytes()
	}
	s.Open = !l.breaker.Closed()
	return s
}

// shrink drops functions whose native stack grew; they are made anew, with a small one, when they are called again.
func (in *Instance) shrink() {
	for _, functions := range in.functions {
		for i, fn := range functions {
			if fn != nil && functionStack(fn) > shrunkStack {
				functions[i] = nil
			}
		}
	}
	in.running = [maxNested]api.Function{}
}
