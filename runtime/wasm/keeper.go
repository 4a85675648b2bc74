package wasm

import (
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm/meter"
)

// sweepEvery is how often a loop's instances are looked after.
const sweepEvery = 250 * time.Millisecond

// KeeperOptions say whose instances a Keeper keeps, and how.
type KeeperOptions struct {
	Plugin  string // its name
	OnError OnError
	Pool    PoolOptions // Loops in it too
	Report  *Reporter   // of the same plugin
	Lazy    bool        // Warm makes an instance to see whether one can be made, and closes it again
	// First is called with the first instance, by Warm, when it has started; nil: nobody asks.
	First func(*Instance)
}

// Keeper keeps the instances of a plugin on all loops: it looks after its Pool, counts what the plugin does, says what goes
// wrong, and closes everything in the end. Methods that take a task or a loop run on that loop.
type Keeper struct {
	options KeeperOptions
	pool    *Pool
	cells   []keeperCell
	closed  atomic.Bool
}

// keeperCell is a loop's part. Only what is atomic is read by others.
type keeperCell struct {
	timer *netloop.Timer
	seen  atomic.Pointer[netloop.Loop] // set by the first call on the loop

	calls, fuel                                      atomic.Uint64
	failures                                         [fault.Kinds]atomic.Uint64
	live, started, discarded, recycled, idle, opened atomic.Int64
	memory, parked                                   atomic.Int64
	open                                             atomic.Bool
	_                                                [64]byte
}

// Stats is what a plugin did since it was loaded, all loops together.
type Stats struct {
	Calls                                                   uint64 // of the guest
	Fuel                                                    uint64 // units that they used
	Failures                                                [fault.Kinds]uint64
	Live                                                    int64 // instances that exist; up to a quarter of a second old, like those that follow
	Started, Discarded, Recycled, ClosedIdle, BreakerOpened int64
	MemoryBytes                                             int64  // of the linear memories of instances that are not in use
	BreakerOpen                                             bool   // on one loop at least: calls fail at once
	Parked                                                  int64  // instances whose guests, or whose exchanges, wait for an upstream
	LinesHeld                                               uint64 // of the guest's log, over its rate
	Loops                                                   []LoopStats
}

// LoopStats is a loop's part of Stats, by the loop's index.
type LoopStats struct {
	Live, Parked, MemoryBytes int64
	BreakerOpen               bool
}

// NewKeeper returns a keeper without instances. c belongs to it from now on.
func NewKeeper(c *Compiled, o KeeperOptions) *Keeper {
	o.Pool.Loops = max(o.Pool.Loops, 1)
	return &Keeper{options: o, pool: NewPool(c, o.Pool), cells: make([]keeperCell, o.Pool.Loops)}
}

// Pool is the keeper's.
func (k *Keeper) Pool() *Pool { return k.pool }

// Warm makes an instance for each loop, before they serve, so that no request waits for one. The error is the first
// instance's that cannot start; those before it stay.
func (k *Keeper) Warm() error {
	for i := range k.cells {
		in, err := k.pool.Spawn()
		if err != nil {
			f := *fault.From(err)
			f.Plugin, f.Phase = k.options.Plugin, "start"
			return &f
		}
		if i == 0 && k.options.First != nil {
			k.options.First(in)
		}
		if k.options.Lazy {
			in.Close()
			return nil
		}
		k.pool.Add(i, 0, in)
		k.Publish(i)
	}
	return nil
}

// Get is Pool.Get.
func (k *Keeper) Get(t *netloop.Task) (*Instance, error) {
	l := t.Loop()
	k.Meet(l)
	return k.pool.Get(t, l.Index(), l.Now())
}

// Meet looks after the loop's instances from now on, if it does not yet; Get does it too.
func (k *Keeper) Meet(l *netloop.Loop) {
	if c := &k.cells[l.Index()]; c.seen.Load() == nil {
		c.seen.Store(l)
		c.timer = l.AfterFunc(sweepEvery, func() { k.sweep(l) })
	}
}

// Put is Pool.Put.
func (k *Keeper) Put(l *netloop.Loop, in *Instance) { k.pool.Put(l.Index(), l.Now(), in) }

// Drop is Pool.Drop.
func (k *Keeper) Drop(l *netloop.Loop, in *Instance) { k.pool.Drop(l.Index(), in) }

// Discard is Pool.Discard; that the breaker opened is said.
func (k *Keeper) Discard(l *netloop.Loop, in *Instance, phase string) {
	if k.pool.Discard(l.Index(), l.Now(), in) {
		k.options.Report.Say(l.Now(), phase, LogError, "the plugin failed too often: its breaker is open, and requests follow on_error ("+
			k.options.OnError.String()+") without a call", "breaker")
	}
	k.Publish(l.Index())
}

// Called counts a call of the guest, and the fuel that it used.
func (k *Keeper) Called(l *netloop.Loop, fuel int64) {
	c := &k.cells[l.Index()]
	c.calls.Add(1)
	c.fuel.Add(uint64(fuel))
}

// Failed counts and says a failure, and returns it with the plugin's name and the phase.
func (k *Keeper) Failed(l *netloop.Loop, err error, phase string) *fault.Error {
	f := *fault.From(err)
	f.Plugin, f.Phase = k.options.Plugin, phase
	k.cells[l.Index()].failures[f.Kind].Add(1)
	k.Publish(l.Index())
	k.options.Report.Failed(l.Now(), &f)
	return &f
}

// sweep looks after a loop's instances, and again after a while.
func (k *Keeper) sweep(l *netloop.Loop) {
	if k.closed.Load() {
		return
	}
	i := l.Index()
	k.pool.Sweep(i, l.Now())
	k.Publish(i)
	k.cells[i].timer = l.AfterFunc(sweepEvery, func() { k.sweep(l) })
}

// Publish has Stats tell a loop's instances as they are now. It runs on the loop; after failures, and four times a second,
// it is done without.
func (k *Keeper) Publish(i int) {
	s, c := k.pool.Stats(i), &k.cells[i]
	c.started.Store(s.Started)
	c.discarded.Store(s.Discarded)
	c.recycled.Store(s.Recycled)
	c.idle.Store(s.ClosedIdle)
	c.opened.Store(s.Opens)
	c.memory.Store(s.Memory)
	c.parked.Store(int64(s.Parked))
	c.open.Store(s.Open)
	c.live.Store(int64(s.Live)) // the last: who sees how many there are sees what was made and closed for that
}

// Stats may be called from any goroutine.
func (k *Keeper) Stats() (s Stats) {
	for i := range k.cells {
		c := &k.cells[i]
		s.Calls += c.calls.Load()
		s.Fuel += c.fuel.Load()
		for kind := range s.Failures {
			s.Failures[kind] += c.failures[kind].Load()
		}
		s.Live += c.live.Load()
		s.Started += c.started.Load()
		s.Discarded += c.discarded.Load()
		s.Recycled += c.recycled.Load()
		s.ClosedIdle += c.idle.Load()
		s.BreakerOpened += c.opened.Load()
		s.MemoryBytes += c.memory.Load()
		s.Parked += c.parked.Load()
		s.BreakerOpen = s.BreakerOpen || c.open.Load()
		s.Loops = append(s.Loops, LoopStats{Live: c.live.Load(), Parked: c.parked.Load(), MemoryBytes: c.memory.Load(), BreakerOpen: c.open.Load()})
	}
	if k.options.Report != nil {
		s.LinesHeld = k.options.Report.Held()
	}
	return s
}

// Close closes all instances, each on the loop that it belongs to, and waits for that; so it is not called on a loop, and
// before they are closed. What is in use then is closed when it is given back. Closing twice does nothing.
func (k *Keeper) Close() {
	if k.closed.Swap(true) {
		return
	}
	for i := range k.cells {
		c := &k.cells[i]
		l := c.seen.Load()
		if l == nil {
			k.pool.Drain(i)
			k.Publish(i)
			continue
		}
		done := make(chan struct{})
		l.Post(func() {
			c.timer.Stop()
			k.pool.Drain(i)
			k.Publish(i)
			close(done)
		})
		select {
		case <-done:
		case <-l.Ended(): // nobody else touches its part any more
			k.pool.Drain(i)
			k.Publish(i)
		}
	}
	k.pool.compiled.Close()
}

// Drop closes an instance whose call was ended for reasons that are not the guest's: the client went away while the guest
// waited for the body. Unlike after Discard nobody holds that against the plugin.
func (p *Pool) Drop(loop int, in *Instance) {
	l := &p.loops[loop]
	l.inUse--
	l.live--
	in.Close()
	l.breaker.Cancel()
	l.wakeOne()
}

// Grant adds units to what the guest's call that is under way may use, from within a host function that gives it work whose
// size the plugin's limits do not know, such as a body.
func (in *Instance) Grant(units int64) {
	units = min(max(units, 0), meter.MaxSlice-in.budget)
	in.budget += units
	in.left += units
}
