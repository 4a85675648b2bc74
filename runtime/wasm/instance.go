package wasm

import (
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm/meter"
)

// Slice is the fuel after which a guest comes back to the host: 50 to 100 µs of most guests' time.
const Slice = 1 << 17

// maxNested is how deep the guest and the host may call each other.
const maxNested = 8

// Yielder lets others run: between two slices of fuel its Yield is called, and may park the coroutine.
type Yielder interface{ Yield() }

// InstanceOptions says what belongs to one instance.
type InstanceOptions struct {
	Owner any  // Instance.Owner from the start
	Sys   *Sys // what WASI functions give; nil: nothing is granted, output is dropped
}

// Instance is a module's memory, tables and globals, with everything needed to call it. One caller uses it at a time.
type Instance struct {
	// Owner is free for the user of the instance: this is how host functions find the request that a call is for.
	Owner any
	// Yielder is called between slices of fuel, if it is set.
	Yielder Yielder

	plugin string
	unit   *unit
	ctx    callContext
	mod    api.Module
	memory api.Memory
	fuel   counter

	functions [][]api.Function        // by depth of nesting and Func
	running   [maxNested]api.Function // by depth
	depth     int
	budget    int64 // of the call under way
	left      int64 // of the budget, not yet given to the guest
	used      int64 // by the last call
	uses      int64 // how often a pool has had it back
	slices    int64
	refused   uint32 // pages that memory.grow asked for in vain in the call under way
	reserved  int64  // bytes of memory that are accounted for
	broken    bool
	closed    bool
	sys       sysState

	lastUsed int64 // by Pool
	loop     int   // by Pool
}

// The errors that end a guest's call from within a host function.
var (
	errFuel  = errors.New("out of fuel")
	errStack = errors.New("stack overflow")
	errDepth = errors.New("guest and host call each other too deeply")
)

// Instantiate makes an instance and runs the module's start function and its export _initialize, if there are any. It
// may run on any goroutine. The error is a *fault.Error.
func (c *Compiled) Instantiate(o InstanceOptions) (*Instance, error) {
	u := c.unit
	in := &Instance{Owner: o.Owner, plugin: c.name, unit: u, budget: u.limits.StartFuel, left: u.limits.StartFuel}
	in.ctx.in = in
	in.sys.init(o.Sys)
	in.reserved = int64(u.module.MemoryMin) << 16
	if !u.engine.reserve(in.reserved) {
		f := fault.New(fault.PluginMemory, fault.Plugin, 503, "the memory of all plugin instances together has reached its limit of %d MiB", u.engine.limit>>20)
		f.Plugin, f.Phase = c.name, "start"
		return nil, f
	}
	u.retain()
	u.engine.instances.Add(1)
	// The name is empty so that any number of instances can live in one runtime, and no start function is named: the
	// module's own start function runs here, exports are called below, with their fuel set.
	mod, err := u.runtime.InstantiateModule(&in.ctx, u.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		f := in.failure("start", err)
		in.Close()
		return nil, f
	}
	if in.mod == nil {
		in.bind(mod)
	}
	if u.hasStart {
		if err := in.CallFuel(u.start, nil, u.limits.StartFuel); err != nil {
			in.Close()
			return nil, err
		}
	}
	return in, nil
}

func (in *Instance) bind(mod api.Module) {
	in.mod = mod
	if in.unit.module.HasMemory { // wazero returns a nil pointer in an interface if not
		in.memory = mod.Memory()
	}
	in.fuel = newCounter(mod)
	in.functions = [][]api.Function{make([]api.Function, len(in.unit.functions))}
}

// Close frees the instance. It must not be running. Closing twice does nothing.
func (in *Instance) Close() {
	if in.closed {
		return
	}
	in.closed, in.broken = true, true
	if in.mod != nil {
		_ = in.mod.Close(&in.ctx)
	}
	in.unit.engine.inUse.Add(-in.reserved)
	in.unit.engine.instances.Add(-1)
	in.functions, in.memory, in.mod = nil, nil, nil
	in.unit.release()
}

// Plugin is the plugin's name.
func (in *Instance) Plugin() string { return in.plugin }

// Broken reports whether a call failed: the instance's state is unknown then, and all that is left is to close it.
func (in *Instance) Broken() bool { return in.broken }

// FuelUsed is what the last call used, in units.
func (in *Instance) FuelUsed() int64 { return in.used }

// MemoryBytes is the size of the guest's memory.
func (in *Instance) MemoryBytes() int64 {
	if in.memory == nil {
		return 0
	}
	return int64(in.memory.Size())
}

// Bytes is a view of n bytes of the guest's memory, or false if they are not all inside. It is invalid after the next
// call of the guest, and after memory growth.
func (in *Instance) Bytes(offset, n uint32) ([]byte, bool) {
	if in.memory == nil {
		return nil, n == 0
	}
	return in.memory.Read(offset, n)
}

// Call calls a function with Limits.Fuel units. stack holds the arguments, and the results afterwards; it must have
// room for the larger of both. The error is a *fault.Error, and the instance is broken then. From within a host function
// it calls the guest anew, on the fuel of the call that is under way. A call that goes well does not allocate.
func (in *Instance) Call(f Func, stack []uint64) error {
	return in.CallFuel(f, stack, in.unit.limits.Fuel)
}

// CallFuel is Call with another amount of fuel.
func (in *Instance) CallFuel(f Func, stack []uint64, fuel int64) error {
	if in.broken {
		return in.unusable()
	}
	if in.depth > 0 {
		return in.callNested(f, stack)
	}
	fn := in.functions[0][f]
	if fn == nil {
		fn = in.function(0, f)
	}
	in.refused = 0
	in.budget = fuel
	slice := min(fuel, Slice)
	in.left = fuel - slice
	in.fuel.set(slice)
	in.running[0], in.depth = fn, 1
	err := fn.CallWithStack(&in.ctx, stack)
	in.depth = 0
	in.used = min(in.budget, in.budget-in.left-in.fuel.get())
	if err != nil {
		return in.failure(in.unit.functions[f], err)
	}
	return nil
}

// callNested calls the guest from within a host function. wazero's functions are not reentrant, so that each depth has
// its own.
func (in *Instance) callNested(f Func, stack []uint64) error {
	if in.depth >= maxNested {
		return in.failure(in.unit.functions[f], errDepth)
	}
	fn := in.function(in.depth, f)
	in.running[in.depth] = fn
	in.depth++
	err := fn.CallWithStack(&in.ctx, stack)
	in.depth--
	if err != nil {
		return in.failure(in.unit.functions[f], err)
	}
	return nil
}

func (in *Instance) function(depth int, f Func) api.Function {
	for len(in.functions) <= depth {
		in.functions = append(in.functions, make([]api.Function, len(in.unit.functions)))
	}
	if in.functions[depth][f] == nil {
		in.functions[depth][f] = in.mod.ExportedFunction(in.unit.functions[f])
	}
	return in.functions[depth][f]
}

// Charge takes units of fuel from the guest, from within a host function. If there are not enough, the guest's call ends
// here, with kind PluginFuel.
func (in *Instance) Charge(units int64) {
	if units < 0 || units > meter.MaxSlice {
		units = meter.MaxSlice
	}
	v := in.fuel.get() - units
	in.fuel.set(v)
	if v < 0 {
		in.refill()
	}
}

// refill gives the guest its next slice.
func (in *Instance) refill() {
	in.slices++
	if in.depth > 0 && functionStack(in.running[in.depth-1]) > in.unit.limits.StackBytes {
		panic(errStack)
	}
	v := in.fuel.get()
	grant := min(in.left, Slice-v)
	in.left -= grant
	if v += grant; v < 0 {
		panic(errFuel)
	}
	in.fuel.set(v)
	if in.Yielder != nil {
		in.Yielder.Yield()
	}
}

// growFuel is what a page of memory costs: having the system provide it, clearing it, and its share of copying the
// memory when it moves. With an eighth of it, a slice of fuel was worth 2 MiB, and a guest that grew kept other requests
// waiting for milliseconds.
const growFuel = 32_768

// growMemory is memory.grow: it returns the old size in pages, or -1.
func (in *Instance) growMemory(delta uint32) uint32 {
	const refused = 1<<32 - 1
	size := in.memory.Size() >> 16
	if delta == 0 {
		return size
	}
	bytes := int64(delta) << 16
	if uint64(size)+uint64(delta) > uint64(in.unit.module.MemoryMax) || !in.unit.engine.reserve(bytes) {
		in.refused = delta
		return refused
	}
	in.reserved += bytes
	in.Charge(int64(delta) * growFuel)
	old, ok := in.memory.Grow(delta)
	if !ok {
		in.reserved -= bytes
		in.unit.engine.inUse.Add(-bytes)
		in.refused = delta
		return refused
	}
	return old
}

// Fail ends the guest's call that is under way, from within a host function, with that error.
func (in *Instance) Fail(err *fault.Error) { panic(err) }

// Failf is Fail with an error of that kind.
func (in *Instance) Failf(kind fault.Kind, format string, args ...any) {
	in.Fail(&fault.Error{Kind: kind, Source: fault.Plugin, Status: 503, Detail: fmt.Sprintf(format, args...)})
}

func (in *Instance) unusable() error {
	return &fault.Error{
		Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Plugin: in.plugin, Detail: "the instance is broken or closed",
	}
}
