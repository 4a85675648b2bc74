package proxywasm

import (
	"slices"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

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
			r.failed = k.named(&fault.Error{Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Err: &wasm.Refusal{
				VM: step.cb == onVMStart, Text: callbackTypes[step.cb].name + " answered false: the plugin refuses its configuration (its log may say why)",
			}}, step.phase)
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
	if period > 0 && !r.core.options.NoTicks {
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
