package proxywasm

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
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
	yielded   bool
	resume    func()

	calls    map[uint32]*call
	lastCall uint32
	pending  []*call // made before there was a loop

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

// root is a plugin in a VM.
type root struct {
	context
	vm         *vm
	core       *core
	period     time.Duration // of its tick
	timer      *netloop.Timer
	queues     int // that it reads
	waiting    []waitingItems
	loop       atomic.Pointer[netloop.Loop] // the VM's, for who tells it of a queue
	properties *properties
	failed     *fault.Error // its configuration
	ending     bool         // it answered false to on_done
	waker      *netloop.Task
}

func newVM(g *group) *vm {
	v := &vm{group: g, contexts: map[uint32]*context{}, calls: map[uint32]*call{}}
	v.resume = func() {
		v.yielded = true
		if v.task != nil {
			v.task.Wake()
		}
	}
	return v
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
	for _, p := range v.pending {
		p.start()
	}
	v.pending = nil
	v.sweeper = l.AfterFunc(sweepEvery, v.sweep)
}

// background says whether the VM does something that no request asks for.
func (v *vm) background() bool {
	for _, r := range v.roots {
		if r.period > 0 || r.queues > 0 {
			return true
		}
	}
	return len(v.pending)+len(v.calls) > 0
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
	if v.cell.breaker.Done(now, false) {
		k.opened(now, v.cell)
	}
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
	if v.task == nil || v.alone > 0 {
		return
	}
	t := v.task
	v.yielded = false
	t.Loop().Post(v.resume)
	for !v.yielded && !t.Loop().Closing() {
		t.Park()
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

// root returns a plugin's root context, and makes it if the plugin is newer than the VM.
func (v *vm) root(t *netloop.Task, k *core) (*root, *fault.Error) {
	for _, r := range v.roots {
		if r.core == k {
			return r, r.failed
		}
	}
	return v.newRoot(t, k)
}

// newRoot makes a plugin's root context: creates it, starts and configures it.
func (v *vm) newRoot(t *netloop.Task, k *core) (*root, *fault.Error) {
	defer v.leave()
	if !v.enter(t) {
		return nil, v.dead
	}
	for _, r := range v.roots { // another request's, meanwhile
		if r.core == k {
			return r, r.failed
		}
	}
	r := &root{vm: v, core: k}
	r.id, r.context.root = v.newID(), r
	if v.loop != nil {
		r.loop.Store(v.loop)
	}
	v.contexts[r.id] = &r.context
	v.roots = append(v.roots, r)
	for _, step := range [...]struct {
		cb    callback
		phase string
		arg   uint64
	}{{onContextCreate, "start", 0}, {onVMStart, "start", uint64(len(v.group.vmConfig))}, {onConfigure, "configure", uint64(len(k.options.Config))}} {
		if !v.has(step.cb) {
			continue
		}
		ok, err := v.run(&r.context, step.phase, step.cb, uint64(r.id), step.arg)
		switch {
		case err != nil:
			return r, err
		case step.cb != onContextCreate && ok == 0:
			r.failed = k.named(refused("%s answered false: the plugin refuses its configuration (its log may say why)", callbackTypes[step.cb].name), step.phase)
			return r, r.failed
		}
	}
	return r, nil
}

// arm sets the period of a root context's tick.
func (r *root) arm(period time.Duration) {
	r.period = period
	if r.vm.loop == nil {
		return
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	if period > 0 {
		r.timer = r.vm.loop.AfterFunc(period, r.tick)
	}
}

// tick calls the guest, and again after its period, but not more than a tenth of the time.
func (r *root) tick() {
	v := r.vm
	r.timer = nil
	v.loop.Go(func(t *netloop.Task) {
		begun := v.loop.Tick()
		if _, err := v.call(t, &r.context, "tick", onTick, uint64(r.id)); err != nil {
			r.core.count(v.loop, err)
			return
		}
		if r.timer == nil && r.period > 0 && v.dead == nil {
			r.timer = v.loop.AfterFunc(max(r.period, tickShare*time.Duration(v.loop.Tick()-begun)), r.tick)
		}
	})
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

// bid tells a root context that it is over, and waits a little for it if it asks for that.
func (v *vm) bid(t *netloop.Task, r *root) {
	v.roots = slices.DeleteFunc(v.roots, func(o *root) bool { return o == r }) // a request that comes now gets a new one
	ok, err := v.call(t, &r.context, "close", onDone, uint64(r.id))
	if err == nil && ok == 0 {
		r.ending, r.waker = true, t
		until := v.loop.AfterFunc(v.group.grace, t.Wake)
		end := v.loop.Now() + int64(v.group.grace)
		for r.ending && v.dead == nil && v.loop.Now() < end && !v.loop.Closing() {
			t.Park()
		}
		until.Stop()
		r.ending, r.waker = false, nil
	}
	if v.dead == nil {
		_, _ = v.call(t, &r.context, "close", onDelete, uint64(r.id))
	}
	v.quit(r)
	delete(v.contexts, r.id)
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

// alloc has the guest give n bytes of its memory, above 0. What it gives is checked. A guest that fails over it ends.
func (v *vm) alloc(in *wasm.Instance, n int) (ptr uint32, b []byte) {
	if v.depth >= nested {
		in.Failf(fault.PluginTrap, "the guest's allocator and the host call each other too deeply")
	}
	stack := v.stacks[v.depth][:1]
	stack[0] = uint64(n) //nolint:gosec // above 0
	v.depth++
	v.alone++
	current, effective := v.current, v.effective
	err := in.Call(v.group.functions[onAllocate].f, stack)
	v.current, v.effective = current, effective
	v.alone--
	v.depth--
	if err != nil {
		in.Fail(fault.From(err))
	}
	ptr = uint32(stack[0]) //nolint:gosec // an i32 is in the low half
	b, ok := in.Bytes(ptr, uint32(n))
	if ptr == 0 || !ok || len(b) < n {
		in.Failf(fault.PluginMemory, "the guest's allocator was asked for %d bytes and gave 0x%x, which is not that many bytes of its memory", n, ptr)
	}
	return ptr, b
}

// give puts bytes into memory that the guest allocates, and tells it where and how many. No bytes are a null pointer.
func (v *vm) give(in *wasm.Instance, data []byte, ptrAt, sizeAt uint64) status {
	var ptr uint32
	if len(data) > 0 {
		in.Charge(int64(len(data)))
		var b []byte
		ptr, b = v.alloc(in, len(data))
		copy(b, data)
	}
	if !put32(in, ptrAt, ptr) || !put32(in, sizeAt, uint32(len(data))) { //nolint:gosec // it fits into the guest's memory
		return statusBadMemory
	}
	return statusOK
}

// memory returns n bytes of the guest's. No bytes are anywhere.
func memory(in *wasm.Instance, ptr, n uint64) ([]byte, bool) {
	if uint32(n) == 0 { //nolint:gosec // i32s are in the low halves
		return nil, true
	}
	b, ok := in.Bytes(uint32(ptr), uint32(n)) //nolint:gosec // see above
	return b, ok
}

func put32(in *wasm.Instance, at uint64, v uint32) bool {
	b, ok := in.Bytes(uint32(at), 4) //nolint:gosec // an i32 is in the low half
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

func put64(in *wasm.Instance, at, v uint64) bool {
	b, ok := in.Bytes(uint32(at), 8) //nolint:gosec // an i32 is in the low half
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}
