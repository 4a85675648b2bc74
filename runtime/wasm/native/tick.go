package native

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/sdk/abi"
)

// ticker has a core's guest called now and then, on one loop. What a tick may use is what the plugin was granted that was
// bound last.
type ticker struct {
	begun atomic.Int32 // see below
	timer *netloop.Timer

	mu    sync.Mutex // held for a few assignments
	bound []*Plugin
}

// Whether the ticker has begun on its loop, or never will.
const (
	tickerPosted int32 = iota
	tickerBegun
	tickerEnded
)

func (r *ticker) add(p *Plugin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bound = append(r.bound, p)
}

// tickGrace is how long the end of a plugin waits for a tick that waits for an upstream. That is then like any request that is
// still under way: its call ends as it does, and there is no other.
const tickGrace = 5 * time.Second

// remove has no tick use a plugin's grants any more, and waits for the one under way.
func (r *ticker) remove(p *Plugin) {
	p.closed.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bound = slices.DeleteFunc(r.bound, func(b *Plugin) bool { return b == p })
	if p.ticking == 0 {
		return
	}
	late := false
	timer := time.AfterFunc(tickGrace, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		p.done.Broadcast()
	})
	defer timer.Stop()
	for p.ticking > 0 && !late {
		p.done.Wait()
	}
}

// take returns the plugin that the next tick is for, or nil.
func (r *ticker) take() *Plugin {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bound) == 0 {
		return nil
	}
	p := r.bound[len(r.bound)-1]
	p.ticking++
	return p
}

func (r *ticker) give(p *Plugin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.ticking--
	p.done.Broadcast()
}

// begin starts the ticks.
func (k *core) begin() {
	if k.manifest.Tick == 0 || k.options.NoTicks {
		return
	}
	l := k.options.TickLoop
	l.Post(func() {
		if !k.ticker.begun.CompareAndSwap(tickerPosted, tickerBegun) {
			return
		}
		k.keeper.Meet(l) // from here on the end goes by the loop
		k.tick(l)
	})
}

// end says whether ticks have begun, on the loop; if not, they never will.
func (r *ticker) end() (begun bool) {
	return !r.begun.CompareAndSwap(tickerPosted, tickerEnded) && r.begun.Load() == tickerBegun
}

// stop runs on the loop.
func (r *ticker) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (k *core) tick(l *netloop.Loop) {
	if k.closed.Load() || l.Closing() {
		return
	}
	l.Go(func(t *netloop.Task) {
		if p := k.ticker.take(); p != nil {
			p.tick(t)
			k.ticker.give(p)
		}
		if !k.closed.Load() && !l.Closing() {
			k.ticker.timer = l.AfterFunc(time.Duration(k.manifest.Tick)*time.Millisecond, func() { k.tick(l) })
		}
	})
}

// tick calls the guest without an exchange.
func (p *Plugin) tick(t *netloop.Task) {
	k, l := p.core, t.Loop()
	in, err := k.keeper.Get(t)
	if err != nil {
		_ = k.fail(l, err, phaseTick) // there is no request to tell
		return
	}
	g := in.Owner.(*guest)
	g.enter(p, t, nil, phaseTick, nil)
	reported, err := g.tick(l)
	g.leave()
	switch {
	case err != nil && !reported:
		k.keeper.Discard(l, in, phaseNames[phaseTick])
	default:
		k.keeper.Put(l, in)
	}
	if err != nil {
		_ = k.fail(l, err, phaseTick) // there is no request to tell
	}
}

// tick shows the guest the time, and does what it says.
func (g *guest) tick(l *netloop.Loop) (reported bool, err error) {
	k, cell := g.core, &g.core.cells[l.Index()]
	cell.ticks.Add(1)
	if g.arenas[abi.RequestArena].cap < abi.TickFixed {
		if err := g.resize(abi.RequestArena, abi.TickFixed, "a tick"); err != nil {
			return false, err
		}
	}
	abi.AppendTickView(g.bytes(abi.RequestArena)[:0], l.WallNow()/1e6, cell.random.Uint64())
	code, value, err := g.run(k.functions.tick, abi.TickFixed, l)
	if err != nil {
		return false, err
	}
	switch code {
	case abi.CodeContinue:
		if value == 0 {
			return false, nil
		}
	case abi.CodeError:
		text, err := g.text(value)
		if err != nil {
			return false, err
		}
		return true, badAnswer("the plugin reports: %s", text)
	case abi.CodeOperations:
		return false, g.tickOperations(l, value)
	}
	return false, badAnswer("code %d with value %d is not an answer to a tick", code, value)
}

func (g *guest) tickOperations(l *netloop.Loop, n uint32) error {
	list, err := g.answer(n)
	if err != nil {
		return err
	}
	j := judge{g: &g.plugin.grants, m: g.core.manifest, phase: phaseTick}
	if err := j.check(list); err != nil {
		f := badAnswer("an operation list of %d bytes", n)
		f.Err = err
		return f
	}
	g.core.note(l, phaseTick, list)
	return nil
}

// note does what of a checked list says something, and changes nothing.
func (k *core) note(l *netloop.Loop, phase uint32, list []byte) {
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		if ok, err := ops.Next(&op); !ok || err != nil { // err: not after a check
			return
		}
		switch op.Kind {
		case abi.OpLog:
			k.guestLine(l, uint32(op.Number), phase, op.Value, 0) //nolint:gosec // a level
		case abi.OpMetric:
			k.measure(l, op.Number, op.Float)
		}
	}
}
