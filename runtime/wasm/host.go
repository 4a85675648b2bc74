package wasm

import (
	"context"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/wasm/meter"
)

// HostModule is a module of functions that guests import.
type HostModule struct {
	Name      string
	Functions []HostFunction
}

// HostFunction is a function that guests import.
type HostFunction struct {
	Name            string
	Params, Results []meter.ValueType
	// Fuel is what a call costs the guest, in units; 0 means DefaultHostFuel. A function whose work depends on its
	// arguments charges for that with Instance.Charge before it does it.
	Fuel int64
	// Call gets the arguments in stack and leaves the results there, as wazero does. It ends the guest's call with an
	// error by Instance.Fail. It may park its coroutine: the guest is resumed where it was.
	Call func(in *Instance, stack []uint64)
}

// DefaultHostFuel is what a call of the host costs: leaving and entering native code takes about 50 ns.
const DefaultHostFuel = 100

// hostCall is a HostFunction as wazero calls it.
type hostCall struct {
	fuel int64
	call func(in *Instance, stack []uint64)
}

// Call finds the instance by the context that its call was made with.
func (h *hostCall) Call(ctx context.Context, mod api.Module, stack []uint64) {
	in := ctx.(*callContext).in
	if in.mod == nil { // the module's start function runs
		in.bind(mod)
	}
	if h.fuel > 0 {
		in.Charge(h.fuel)
	}
	h.call(in, stack)
}

func instantiateHost(ctx context.Context, r wazero.Runtime, m HostModule) error {
	b := r.NewHostModuleBuilder(m.Name)
	for _, f := range m.Functions {
		fuel := f.Fuel
		if fuel == 0 {
			fuel = DefaultHostFuel
		}
		b.NewFunctionBuilder().WithGoModuleFunction(&hostCall{fuel, f.Call}, valueTypes(f.Params), valueTypes(f.Results)).Export(f.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func valueTypes(types []meter.ValueType) []api.ValueType {
	out := make([]api.ValueType, len(types))
	for i, t := range types {
		out[i] = api.ValueType(t)
	}
	return out
}

// meterHost is what the rewrite of package meter imports.
var meterHost = HostModule{Name: meter.ImportModule, Functions: []HostFunction{
	{Name: meter.Refill, Fuel: -1, Call: func(in *Instance, _ []uint64) { in.refill() }},
	{
		Name: meter.MemoryGrow, Params: []meter.ValueType{meter.I32}, Results: []meter.ValueType{meter.I32}, Fuel: -1,
		Call: func(in *Instance, stack []uint64) { stack[0] = uint64(in.growMemory(uint32(stack[0]))) },
	},
}}

// callContext is the context that guest calls are made with: it holds the instance, and nothing else.
type callContext struct{ in *Instance }

func (*callContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*callContext) Done() <-chan struct{}       { return nil }
func (*callContext) Err() error                  { return nil }
func (*callContext) Value(any) any               { return nil }
