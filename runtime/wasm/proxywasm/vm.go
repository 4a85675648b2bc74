package proxywasm

import (
	"slices"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// vm is an instance of a module and the contexts in it. Until attach it belongs to whoever makes it, then to a loop.
type vm struct {
	group   *group
	in      *wasm.Instance
	starter *core // for whom it was made: it is told what happens outside of any context

	loop *netloop.Loop // nil: not yet attached
	cell *cell
	dead *fault.Error // why it can be called no more

	contexts map[uint32]*context
	last     uint32 // the context id that was given out last
	roots    []*root
	streams  int

	// A call of the guest may let others of the loop run: then others wait for their turn here.
	running  bool
	task     *netloop.Task // whose call it is; nil: it must not park
	waiting  []*turn
	deferred []func(*netloop.Task)
	alone    int // above 0: the call must not let others run now

	current   *context // of the callback that runs
	effective uint32   // what the guest made of it; 0: nothing
	phase     string
	answer    *filter.Call // of the http_call whose callback runs
	code      uint32       // what get_status says
	message   string

	calls    map[uint32]*call
	grpc     map[uint32]*grpcCall
	lastCall uint32
	pending  []interface{ start() } // calls made before there was a loop

	// What a callback about a gRPC call sees.
	grpcNow      *grpcCall   // the head of its answer
	grpcTrailers *http1.Head // or its trailers
	received     []byte      // or a message
	receiving    bool

	used    int64 // when it was called last
	sweeper *netloop.Timer
	scratch []byte   // what host functions put together
	target  []byte   // a :path
	name    [16]byte // of a pseudo-header field
	scheme  [8]byte
	stacks  [nested][8]uint64
	depth   int
}

// nested is how deep calls of the guest nest: the callback, an allocation in it, and whatever that does.
const nested = 8

// turn is a task that waits for the VM.
type turn struct {
	task *netloop.Task
	come bool
}

// context is what the guest knows by an id: a root context or a stream.
type context struct {
	id     uint32
	root   *root   // itself, if it is one
	stream *stream // nil for a root context
}

func newVM(g *group) *vm {
	return &vm{group: g, contexts: map[uint32]*context{}, calls: map[uint32]*call{}, grpc: map[uint32]*grpcCall{}}
}

// attach makes the VM a loop's.
func (v *vm) attach(l *netloop.Loop, c *cell) {
	v.loop, v.cell, c.vm = l, c, v
	v.in.Yielder = v
	v.used = l.Now()
	c.live.Add(1)
	c.started.Add(1)
	c.memory.Store(v.in.MemoryBytes())
	for _, r := range v.roots {
		r.loop.Store(l)
		r.arm(r.period)
		r.tellWaiting()
	}
	v.sweeper = l.AfterFunc(sweepEvery, v.sweep)
	for _, p := range v.pending { // a call may be answered, and end the VM, at once
		if v.dead == nil {
			p.start()
		}
	}
	v.pending = nil
}

// background says whether the VM does something that no request asks for.
func (v *vm) background() bool {
	for _, r := range v.roots {
		if r.period > 0 || r.queues > 0 {
			return true
		}
	}
	return len(v.pending)+len(v.calls)+len(v.grpc) > 0
}

// has says whether the guest has a callback.
func (v *vm) has(cb callback) bool { return v.group.functions[cb].there }

// enter waits until nobody else calls the VM. It says whether it can be called.
func (v *vm) enter(t *netloop.Task) bool {
	if v.running {
		w := &turn{task: t}
		v.waiting = append(v.waiting, w)
		for !w.come {
			t.Park() // who runs leaves in any case, also when the loop ends
		}
	}
	v.running, v.task = true, t
	return v.dead == nil
}

// leave lets the next one call the VM, and has done what had to wait.
func (v *vm) leave() {
	v.running, v.task = false, nil
	if len(v.waiting) > 0 {
		w := v.waiting[0]
		v.waiting = v.waiting[1:]
		v.running, w.come = true, true
		w.task.Wake()
		return
	}
	if len(v.deferred) > 0 && v.loop != nil {
		list := v.deferred
		v.deferred = nil
		v.loop.Go(func(t *netloop.Task) {
			for _, fn := range list {
				fn(t)
			}
		})
	}
}

// later has fn called, on a task of its own, when nobody calls the VM.
func (v *vm) later(fn func(*netloop.Task)) {
	v.deferred = append(v.deferred, fn)
	if !v.running {
		v.leave()
	}
}

// call calls the guest in a context: it waits for its turn, and returns the callback's answer. With a nil task nobody may
// be in the VM, and nobody else gets a turn until it is over.
func (v *vm) call(t *netloop.Task, c *context, phase string, cb callback, args ...uint64) (uint64, *fault.Error) {
	if !v.group.functions[cb].there {
		return callbackTypes[cb].otherwise, nil
	}
	defer v.leave()
	if !v.enter(t) {
		return 0, v.dead
	}
	return v.run(c, phase, cb, args...)
}

// run is call for who has the turn.
func (v *vm) run(c *context, phase string, cb callback, args ...uint64) (uint64, *fault.Error) {
	fn := &v.group.functions[cb]
	stack := v.stacks[v.depth][:]
	copy(stack, args)
	v.current, v.effective, v.phase = c, 0, phase
	v.depth++
	fuel := v.group.module.Limits().Fuel
	if cb <= onConfigure && (c.stream == nil) || v.loop == nil {
		fuel = v.group.module.Limits().StartFuel
	}
	err := v.in.CallFuel(fn.f, stack, fuel)
	v.depth--
	v.current, v.effective = nil, 0
	v.count(c)
	if err != nil {
		return 0, v.die(c, fault.From(err), phase)
	}
	if !fn.answer {
		return callbackTypes[cb].otherwise, nil
	}
	return uint64(uint32(stack[0])), nil //nolint:gosec // an i32 is in the low half
}

// count notes what the last call took.
func (v *vm) count(c *context) {
	if v.loop == nil || c.root == nil {
		return
	}
	v.used = v.loop.Now()
	cell := &c.root.core.cells[v.loop.Index()]
	cell.calls.Add(1)
	cell.fuel.Add(uint64(v.in.FuelUsed())) //nolint:gosec // not negative
}

// die ends the VM after a call that failed.
func (v *vm) die(c *context, err *fault.Error, phase string) *fault.Error {
	k := v.starter
	if c.root != nil {
		k = c.root.core
	}
	f := k.named(err, phase)
	if v.loop == nil { // it starts: who started it will say so
		v.dead = f
		v.quitAll()
		v.in.Close()
		return f
	}
	now := v.loop.Now()
	v.end(f)
	v.cell.discarded.Add(1)
	v.cell.backoff.Fail(now)
	k.report.Failed(now, f)
	v.cell.done(now, k, false)
	return f
}

// end makes the VM one that nobody can call, and frees it. Streams that are paused wake up and find that out.
func (v *vm) end(why *fault.Error) {
	if v.dead != nil {
		return
	}
	v.dead = why
	if v.cell.vm == v {
		v.cell.vm = nil
	}
	v.cell.live.Add(-1)
	v.cell.memory.Store(0)
	v.sweeper.Stop()
	v.quitAll()
	for _, c := range v.contexts {
		switch s := c.stream; {
		case s == nil:
		case s.lingers:
			s.release()
		default:
			s.failed = why
			s.wake()
		}
	}
	clear(v.contexts)
	clear(v.calls)
	for _, c := range v.grpc {
		c.Cancel()
	}
	clear(v.grpc)
	v.in.Close()
}

// abandon frees a VM without telling the guest.
func (v *vm) abandon() {
	if v.dead != nil {
		return
	}
	if v.loop != nil {
		v.end(refused("it is closed"))
		return
	}
	v.dead = refused("it is closed")
	v.quitAll()
	v.in.Close()
}

func (v *vm) quitAll() {
	for _, r := range v.roots {
		v.quit(r)
	}
}

// quit ends what a root context does in the background.
func (v *vm) quit(r *root) {
	if r == nil {
		return
	}
	r.period = 0
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.queues > 0 {
		r.queues = 0
		v.group.shared.queues.quit(r)
	}
}

// Yield is called between two slices of a call that takes long: others of the loop get their turn.
func (v *vm) Yield() {
	if v.task != nil && v.alone == 0 {
		v.task.Yield()
	}
}

// newID returns an id that no context has.
func (v *vm) newID() uint32 {
	for {
		if v.last++; v.last != 0 && v.contexts[v.last] == nil {
			return v.last
		}
	}
}

// sweep looks after the VM: once a second.
func (v *vm) sweep() {
	if v.dead != nil {
		return
	}
	v.cell.memory.Store(v.in.MemoryBytes())
	now := v.loop.Now()
	if !v.running {
		v.in.Shrink()
		for _, c := range v.contexts {
			if s := c.stream; s != nil && s.lingers && now >= s.until {
				s.lingers = false
				v.later(s.bury)
			}
		}
		if v.group.idleAfter > 0 && v.streams == 0 && !v.background() && now-v.used >= int64(v.group.idleAfter) {
			v.cell.idle.Add(1)
			v.loop.Go(v.retire)
		}
	}
	v.sweeper = v.loop.AfterFunc(sweepEvery, v.sweep)
}

// retire closes a VM in which nothing happens.
func (v *vm) retire(t *netloop.Task) {
	for _, r := range slices.Clone(v.roots) {
		v.bid(t, r)
	}
	if v.streams == 0 && v.dead == nil {
		v.end(refused("it was idle"))
	}
}

// shutdown ends a plugin's part of the VM, and all of it if it was the last.
func (v *vm) shutdown(t *netloop.Task, k *core, last bool) {
	for _, r := range slices.Clone(v.roots) {
		if r.core == k && v.dead == nil {
			v.bid(t, r)
		}
	}
	if last {
		v.end(refused("it is closed"))
	}
}

// effectiveContext is the context that host functions work on.
func (v *vm) effectiveContext() *context {
	if v.effective != 0 {
		if c := v.contexts[v.effective]; c != nil {
			return c
		}
	}
	return v.current
}
