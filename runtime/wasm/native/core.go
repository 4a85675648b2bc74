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
	functions   functions
	startFuel   int64
	manifest    *abi.Manifest // set by the first instance, before there is another
	rawManifest []byte
	keeper      *wasm.Keeper
	cells       []cell
	report      *wasm.Reporter
	closed      atomic.Bool
	users       atomic.Int32
	metrics     metrics
	ticker      ticker
}

// cell is a loop's part of a core, beside the keeper's. Only counters are read by others.
type cell struct {
	random *rand.ChaCha8

	outbound, outboundFailed, pieces, ticks atomic.Uint64
	metrics                                 []metricCell
	outbounds                               []*outbound // not in use
	_                                       [64]byte
}

// newCore returns a core whose first instance has started, and to which c belongs, also if that fails.
func newCore(c *wasm.Compiled, o Options) (*core, error) {
	k := &core{options: o, startFuel: c.Limits().StartFuel, report: wasm.NewReporter(wasm.ReporterOptions{
		Plugin: o.Name, Loops: o.Loops, Level: o.LogLevel, Rate: o.LogRate, Log: o.Log,
	})}
	var err error
	if k.functions, err = findFunctions(c); err != nil {
		c.Close()
		return nil, &fault.Error{Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Plugin: o.Name, Phase: "compile", Err: err}
	}
	k.cells = make([]cell, o.Loops)
	for i := range k.cells {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		k.cells[i].random = rand.NewChaCha8(seed)
	}
	o.Sys.Log = k.outputLine
	k.keeper = wasm.NewKeeper(c, wasm.KeeperOptions{
		Plugin: o.Name, OnError: o.OnError, Report: k.report, Lazy: o.Lazy, First: k.settle, Pool: wasm.PoolOptions{
			Loops: o.Loops, Instance: wasm.InstanceOptions{Owner: k, Sys: &o.Sys}, Init: k.start, MaxPerLoop: o.MaxPerLoop,
			MaxUses: o.RecycleAfter, IdleAfter: o.IdleAfter, Backoff: o.Backoff, Breaker: o.Breaker,
		},
	})
	if err := k.keeper.Warm(); err != nil {
		k.keeper.Close()
		return nil, err
	}
	return k, nil
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
	k.keeper.Pool().SetParking(parked, wait)
	k.metrics.init(k.manifest.Metrics)
	for i := range k.cells {
		k.cells[i].metrics = k.metrics.cells()
	}
}

func (k *core) stats() Stats {
	s := Stats{Stats: k.keeper.Stats()}
	for i := range k.cells {
		c := &k.cells[i]
		s.Outbound += c.outbound.Load()
		s.OutboundFailed += c.outboundFailed.Load()
		s.Pieces += c.pieces.Load()
		s.Ticks += c.ticks.Load()
	}
	return s
}

// close ends the ticks, and closes all instances, each on the loop that it belongs to.
func (k *core) close() {
	if k.closed.Swap(true) {
		return
	}
	if k.ticker.end() {
		l, done := k.options.TickLoop, make(chan struct{})
		l.Post(func() {
			k.ticker.stop()
			close(done)
		})
		select {
		case <-done:
		case <-l.Ended():
		}
	}
	k.keeper.Close()
}

// fail counts and logs a failure on a loop, and returns the error for the request.
func (k *core) fail(l *netloop.Loop, err error, phase uint32) *fault.Error {
	return k.keeper.Failed(l, err, phaseNames[phase])
}

// say says something about the plugin; what key names is said once in a while.
func (k *core) say(l *netloop.Loop, phase, level uint32, text, key string) {
	k.report.Say(l.Now(), phaseNames[phase], level, text, key, phaseNames[phase])
}
