package proxywasm

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// group is plugins that share their VMs, and those VMs: one for each loop. Mostly it is one plugin.
type group struct {
	shared    *Shared
	loops     *netloop.Group
	module    *wasm.Compiled
	vmID      string
	vmConfig  []byte
	space     *space
	version   version
	functions functions
	sys       wasm.Sys
	idleAfter time.Duration
	grace     time.Duration
	cells     []cell
	metrics   metrics

	compiled []*wasm.Compiled // one handle of each member; guarded by Shared.mu, like members, which is replaced when it changes
	members  []*core

	mu    sync.Mutex
	fresh []*vm // made outside of loops, and not yet on one
}

// cell is a loop's part of a group. Only counters are read by others.
type cell struct {
	vm      *vm // nil: there is none
	making  bool
	waiting []*netloop.Task // for the VM that is made
	backoff breaker.Backoff
	breaker breaker.Breaker
	slowEnd bool // ends of streams take long: they get a task of their own

	seen   atomic.Bool // something has run on the loop
	closed atomic.Bool

	live, started, discarded, idle, opened atomic.Int64
	memory                                 atomic.Int64
	open                                   atomic.Bool
	_                                      [64]byte
}

func newGroup(s *Shared, c *wasm.Compiled, o *Options) (g *group, err error) {
	g = &group{
		shared: s, loops: o.Group, vmID: o.VMID, vmConfig: bytes.Clone(o.VMConfig), module: c, compiled: []*wasm.Compiled{c}, sys: o.Sys,
		idleAfter: o.IdleAfter, grace: closeGrace, cells: make([]cell, len(o.Group.Loops())),
	}
	if g.version, err = versionOf(c.Module()); err != nil {
		return nil, err
	}
	if g.functions, err = findFunctions(c); err != nil {
		return nil, err
	}
	backoff, calls := breaker.DefaultBackoff, breaker.DefaultBreaker
	if o.Backoff != nil {
		backoff = *o.Backoff
	}
	if o.Breaker != nil {
		calls = *o.Breaker
	}
	for i := range g.cells {
		g.cells[i].backoff, g.cells[i].breaker = backoff, calls
	}
	g.sys.Log = outputLine
	return g, nil
}

// fits says whether a plugin with these options runs in the group's VMs.
func (g *group) fits(c *wasm.Compiled, o *Options) bool {
	return g.vmID == o.VMID && g.loops == o.Group && g.module.Same(c) && bytes.Equal(g.vmConfig, o.VMConfig) && slices.Equal(g.sys.Env, o.Sys.Env) && g.sys.Clock == o.Sys.Clock
}

// spawn makes a VM with a root context for each of these plugins. It may run on any goroutine. The error is that of the
// plugin that is asked for, or of the VM; another plugin's is kept in its root context.
func (g *group) spawn(members []*core, asked *core) (*vm, *fault.Error) {
	v := newVM(g)
	v.starter = asked
	in, err := g.module.Instantiate(wasm.InstanceOptions{Owner: v, Sys: &g.sys})
	if err != nil {
		return nil, asked.named(fault.From(err), "start")
	}
	v.in = in
	for _, cb := range [...]callback{onMain, onMainVoid, onStart} {
		// A reactor has _initialize, which has run, and perhaps main; a command has _start.
		_, reactor := g.module.Lookup("_initialize")
		if reactor == (cb == onStart) || !g.functions[cb].there {
			continue
		}
		if _, err := v.call(nil, &context{}, "start", cb); err != nil {
			in.Close()
			return nil, asked.named(err, "start")
		}
		break
	}
	for _, k := range members {
		r, err := v.newRoot(nil, k)
		if v.dead != nil || k == asked && err != nil {
			if v.dead == nil {
				in.Close()
				v.quit(r)
			}
			return nil, asked.named(err, "configure")
		}
	}
	return v, nil
}

// get returns the loop's VM, and makes one if there is none. It parks t meanwhile.
func (g *group) get(t *netloop.Task, asked *core) (*vm, *fault.Error) {
	l := t.Loop()
	c := &g.cells[l.Index()]
	c.seen.Store(true)
	for c.vm == nil {
		switch {
		case c.closed.Load() || l.Closing():
			return nil, refused("it is closed")
		case c.making:
			c.waiting = append(c.waiting, t)
			for c.making && !l.Closing() {
				t.Park()
			}
			c.waiting = slices.DeleteFunc(c.waiting, func(w *netloop.Task) bool { return w == t })
			continue
		}
		if ok, wait := c.backoff.Ready(l.Now()); !ok {
			return nil, refused("it failed to start or to answer several times in a row: it is started anew in %v", time.Duration(wait))
		}
		if err := g.make(t, c, asked); err != nil {
			return nil, err
		}
	}
	return c.vm, nil
}

func refused(format string, args ...any) *fault.Error {
	return fault.New(fault.PluginUnavailable, fault.Plugin, 503, format, args...)
}

// make makes a loop's VM.
func (g *group) make(t *netloop.Task, c *cell, asked *core) *fault.Error {
	members := g.shared.membersOf(g)
	if !slices.Contains(members, asked) {
		return refused("it is closed")
	}
	var v *vm
	var err *fault.Error
	c.making = true
	t.Await(func() { v, err = g.spawn(members, asked) })
	c.making = false
	for _, w := range c.waiting {
		w.Wake()
	}
	switch {
	case err != nil:
		c.backoff.Fail(t.Loop().Now())
		return err
	case c.closed.Load() || t.Loop().Closing():
		v.abandon()
		return refused("it is closed")
	}
	v.attach(t.Loop(), c)
	return nil
}

// place gives a VM that was made outside of loops to a loop.
func (g *group) place(v *vm, l *netloop.Loop) {
	g.mu.Lock()
	g.fresh = append(g.fresh, v)
	g.mu.Unlock()
	l.Post(func() {
		c := &g.cells[l.Index()]
		c.seen.Store(true) // before it is taken: close waits for the loop, or finds the VM on the list
		if !g.taken(v) {
			return
		}
		if c.closed.Load() || c.vm != nil || c.making {
			v.abandon()
			return
		}
		v.attach(l, c)
	})
}

// taken takes a VM off the list of those that are not yet on a loop, and says whether it was there.
func (g *group) taken(v *vm) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.fresh, v)
	if i < 0 {
		return false
	}
	g.fresh = slices.Delete(g.fresh, i, i+1)
	return true
}

// everywhere has a VM made on each loop that has none.
func (g *group) everywhere(asked *core) {
	for _, l := range g.loops.Loops() {
		l.Post(func() {
			if c := &g.cells[l.Index()]; c.vm == nil && !c.making && !c.closed.Load() {
				l.Go(func(t *netloop.Task) {
					if _, err := g.get(t, asked); err != nil {
						asked.report.Failed(l.Now(), asked.named(err, "start"))
					}
				})
			}
		})
	}
}

// close ends a plugin's root contexts on all loops, and the VMs if it was the last in them, and waits for that.
func (g *group) close(k *core) {
	last := g.shared.leave(g, k)
	if last {
		g.mu.Lock()
		fresh := g.fresh
		g.fresh = nil
		g.mu.Unlock()
		for _, v := range fresh {
			v.abandon()
		}
	}
	over := make([]chan struct{}, len(g.cells))
	for i := range g.cells {
		c := &g.cells[i]
		if last {
			c.closed.Store(true)
		}
		if !c.seen.Load() {
			continue // nothing was ever there, nor will it be
		}
		done := make(chan struct{})
		over[i] = done
		l := g.loops.Loop(i)
		l.Post(func() { c.leave(l, k, last, func() { close(done) }) })
	}
	for i, done := range over {
		if done == nil {
			continue
		}
		select {
		case <-done:
		case <-g.loops.Loop(i).Ended(): // nobody else touches its part any more
			if c := &g.cells[i]; last && c.vm != nil {
				c.vm.abandon()
				c.vm = nil
			}
		}
	}
	if last {
		for _, c := range g.compiled {
			c.Close()
		}
	}
}

// leave ends a plugin's root context on a loop, and calls done when that is over.
func (c *cell) leave(l *netloop.Loop, k *core, last bool, done func()) {
	v := c.vm
	if v == nil {
		done()
		return
	}
	l.Go(func(t *netloop.Task) {
		defer done()
		v.shutdown(t, k, last)
	})
}
