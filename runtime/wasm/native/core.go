package native

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	crand "crypto/rand"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// core is a plugin's instances and what they have in common. Plugins that differ only in what they are granted share it.
type core struct {
	options     Options
	compiled    *wasm.Compiled
	functions   functions
	startFuel   int64
	manifest    *abi.Manifest // set by the first instance, before there is another
	rawManifest []byte
	pool        *wasm.Pool
	cells       []cell
	report      *wasm.Reporter
	closed      atomic.Bool
	users       atomic.Int32
	metrics     metrics
	ticker      ticker
}

// cell is a loop's part of a core. Only counters are read by others.
type cell struct {
	random *rand.ChaCha8
	timer  *netloop.Timer
	seen   atomic.Pointer[netloop.Loop] // set by the first call on the loop

	calls, fuel                                      atomic.Uint64
	failures                                         [fault.Kinds]atomic.Uint64
	live, started, discarded, recycled, idle, opened atomic.Int64
	memory                                           atomic.Int64
	open                                             atomic.Bool
	parked, outbound, outboundFailed, pieces, ticks  atomic.Int64
	metrics                                          []metricCell
	outbounds                                        []*outbound // not in use
	_                                                [64]byte
}

func newCore(c *wasm.Compiled, o Options) (*core, error) {
	k := &core{options: o, compiled: c, startFuel: c.Limits().StartFuel, report: wasm.NewReporter(wasm.ReporterOptions{
		Plugin: o.Name, Loops: o.Loops, Level: o.LogLevel, Rate: o.LogRate, Log: o.Log,
	})}
	var err error
	if k.functions, err = findFunctions(c); err != nil {
		return nil, &fault.Error{Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Plugin: o.Name, Phase: "compile", Err: err}
	}
	k.cells = make([]cell, o.Loops)
	for i := range k.cells {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		k.cells[i].random = rand.NewChaCha8(seed)
	}
	o.Sys.Log = k.outputLine
	k.pool = wasm.NewPool(c, wasm.PoolOptions{
		Loops: o.Loops, Instance: wasm.InstanceOptions{Owner: k, Sys: &o.Sys}, Init: k.start, MaxPerLoop: o.MaxPerLoop,
		MaxUses: o.RecycleAfter, IdleAfter: o.IdleAfter, Backoff: o.Backoff, Breaker: o.Breaker,
	})
	return k, k.warm()
}

// warm starts an instance for each loop, so that no request waits for one: a Go guest takes milliseconds. The first is
// alone, because it says what the manifest is; with Options.Lazy that is all that it is for.
func (k *core) warm() error {
	for i := range k.cells {
		in, err := k.pool.Spawn()
		if err != nil {
			k.pool.Close()
			f := *fault.From(err)
			f.Plugin, f.Phase = k.options.Name, "start"
			return &f
		}
		if i == 0 {
			k.settle(in)
		}
		if k.options.Lazy {
			in.Close()
			return nil
		}
		k.pool.Add(i, 0, in)
		k.publish(i)
	}
	return nil
}

// parkedMemory is the memory that instances may have whose guests wait for an upstream, where nothing else is said.
const parkedMemory = 256 << 20

// settle decides what the manifest and the size of the first instance say.
func (k *core) settle(in *wasm.Instance) {
	o := &k.options
	parked, wait := max(o.MaxParked, 0), o.MaxWait
	if len(k.manifest.Calls) > 0 {
		if o.MaxParked == 0 {
			each := max(in.MemoryBytes(), 1) * int64(o.Loops)
			parked = int(min(max(parkedMemory/each, 16), 1024))
		}
		if o.MaxCalls > 0 {
			parked = min(parked, max(o.MaxCalls-o.MaxPerLoop, 0))
		}
		if wait <= 0 {
			wait = 10 * time.Second
		}
	} else {
		parked = 0
	}
	if wait <= 0 {
		wait = time.Second
	}
	k.pool.SetParking(parked, wait)
	k.metrics.init(k.manifest.Metrics)
	for i := range k.cells {
		k.cells[i].metrics = k.metrics.cells()
	}
}

// meet is called with the first call on a loop.
func (k *core) meet(l *netloop.Loop) {
	c := &k.cells[l.Index()]
	c.seen.Store(l)
	c.timer = l.AfterFunc(sweepEvery, func() { k.sweep(l) })
}

// sweep looks after a loop's instances, and again after a while.
func (k *core) sweep(l *netloop.Loop) {
	if k.closed.Load() {
		return
	}
	i := l.Index()
	k.pool.Sweep(i, l.Now())
	k.publish(i)
	k.cells[i].timer = l.AfterFunc(sweepEvery, func() { k.sweep(l) })
}

// publish makes the pool's figures readable by others than the loop.
func (k *core) publish(i int) {
	s, c := k.pool.Stats(i), &k.cells[i]
	c.live.Store(int64(s.Live))
	c.started.Store(s.Started)
	c.discarded.Store(s.Discarded)
	c.recycled.Store(s.Recycled)
	c.idle.Store(s.ClosedIdle)
	c.opened.Store(s.Opens)
	c.memory.Store(s.Memory)
	c.open.Store(s.Open)
	c.parked.Store(int64(s.Parked))
}

func (k *core) stats() (s Stats) {
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
		s.BreakerOpen = s.BreakerOpen || c.open.Load()
		s.Parked += c.parked.Load()
		s.Outbound += uint64(c.outbound.Load())             //nolint:gosec // not negative
		s.OutboundFailed += uint64(c.outboundFailed.Load()) //nolint:gosec // see above
		s.Pieces += uint64(c.pieces.Load())                 //nolint:gosec // see above
		s.Ticks += uint64(c.ticks.Load())                   //nolint:gosec // see above
	}
	return s
}

// close closes all instances, each on the loop that it belongs to, and waits for that.
func (k *core) close() {
	if k.closed.Swap(true) {
		return
	}
	ticks := k.ticker.end()
	for i := range k.cells {
		c := &k.cells[i]
		l := c.seen.Load()
		if ticks && i == k.options.TickLoop.Index() {
			l = k.options.TickLoop // it has begun, and met the loop or is about to
		}
		if l == nil {
			k.pool.Drain(i)
			k.publish(i)
			continue
		}
		done := make(chan struct{})
		l.Post(func() {
			if c.timer != nil {
				c.timer.Stop()
			}
			k.ticker.stop()
			k.pool.Drain(i)
			k.publish(i)
			close(done)
		})
		select {
		case <-done:
		case <-l.Ended(): // nobody else touches its part any more
			k.pool.Drain(i)
			k.publish(i)
		}
	}
	k.compiled.Close()
}

// fail counts and logs a failure on a loop, and returns the error for the request.
func (k *core) fail(l *netloop.Loop, err error, phase uint32) *fault.Error {
	f := *fault.From(err)
	f.Plugin, f.Phase = k.options.Name, phaseNames[phase]
	c := &k.cells[l.Index()]
	c.failures[f.Kind].Add(1)
	k.publish(l.Index())
	k.report.Failed(l.Now(), &f)
	return &f
}

// say says something about the plugin; what key names is said once in a while.
func (k *core) say(l *netloop.Loop, phase, level uint32, text, key string) {
	k.report.Say(l.Now(), phaseNames[phase], level, text, key, phaseNames[phase])
}

// opened says that the breaker opened.
func (k *core) opened(l *netloop.Loop, phase uint32) {
	text := "the plugin failed too often: its breaker is open, and requests follow on_error (" + k.options.OnError.String() + ") without a call"
	k.report.Say(l.Now(), phaseNames[phase], abi.LogError, text, "breaker")
}
