package native

import (
	"fmt"
	"math"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/sdk/abi"
)

// logFuel is what a line costs besides its bytes, whether it is kept or not: about 5 µs, so that a flood of lines uses up
// the guest's fuel and not the gateway's time.
const logFuel = 10_000

// What a request to an upstream, an operation of a store, and what is known of TLS, cost besides their bytes: as much as the work that they are.
const (
	callFuel   = 10_000
	storeFuel  = 500
	secureFuel = 1000 // a certificate is encoded anew
)

// none is -1 as guests see it.
const none = 1<<32 - 1

// hostModule is what guests import as wasmgate_v1.
func hostModule() wasm.HostModule {
	types := map[rune]meter.ValueType{'i': meter.I32, 'I': meter.I64, 'F': meter.F64}
	sig := func(s string) (t []meter.ValueType) {
		for _, c := range s {
			t = append(t, types[c])
		}
		return t
	}
	return wasm.HostModule{Name: abi.Module, Functions: []wasm.HostFunction{
		{Name: abi.ImportLog, Params: sig("iii"), Fuel: logFuel, Call: hostLog},
		{Name: abi.ImportGetHeader, Params: sig("iiiiii"), Results: sig("i"), Call: hostGetHeader},
		{Name: abi.ImportCall, Params: sig("iiiii"), Results: sig("I"), Fuel: callFuel, Call: hostCall},
		{Name: abi.ImportCallAnswer, Params: sig("ii"), Results: sig("i"), Call: hostCallAnswer},
		{Name: abi.ImportKVGet, Params: sig("iiiii"), Results: sig("I"), Fuel: storeFuel, Call: hostKVGet},
		{Name: abi.ImportKVSet, Params: sig("iiiiiiI"), Results: sig("I"), Fuel: storeFuel, Call: hostKVSet},
		{Name: abi.ImportKVDelete, Params: sig("iiii"), Results: sig("I"), Fuel: storeFuel, Call: hostKVDelete},
		{Name: abi.ImportKVAdd, Params: sig("iiiIIi"), Results: sig("i"), Fuel: storeFuel, Call: hostKVAdd},
		{Name: abi.ImportReadBody, Params: sig("iiii"), Results: sig("i"), Call: hostReadBody},
		{Name: abi.ImportMetric, Params: sig("iF"), Call: hostMetric},
	}}
}

// hostMetric is metric(id, value).
func hostMetric(in *wasm.Instance, a []uint64) {
	g, ok := in.Owner.(*guest)
	if !ok || g.task == nil {
		return
	}
	id, v := uint64(uint32(a[0])), math.Float64frombits(a[1]) //nolint:gosec // an i32 is in the low half
	if err := checkMetric(g.core.manifest, id, v); err != nil {
		in.Failf(fault.PluginTrap, "%s(%d, %v): %v", abi.ImportMetric, id, v, err)
	}
	g.core.measure(g.task.Loop(), id, v)
}

// memory returns n bytes at ptr, or ends the guest's call.
func memory(in *wasm.Instance, name string, ptr, n uint64) []byte {
	b, ok := in.Bytes(uint32(ptr), uint32(n)) //nolint:gosec // an i32 is in the low half
	if !ok {
		in.Failf(fault.PluginTrap, "%s: %d bytes at 0x%x are not in the guest's memory", name, uint32(n), uint32(ptr)) //nolint:gosec // see above
	}
	return b
}

// hostLog is log(level, ptr, len).
func hostLog(in *wasm.Instance, a []uint64) {
	level := uint32(a[0]) //nolint:gosec // an i32 is in the low half
	if level > abi.LogError {
		in.Failf(fault.PluginTrap, "%s: unknown level %d", abi.ImportLog, level)
	}
	text := memory(in, abi.ImportLog, a[1], a[2])
	switch o := in.Owner.(type) {
	case *guest:
		if o.task != nil {
			o.core.guestLine(o.task.Loop(), level, o.phase, text, 0)
			return
		}
		o.core.startLine(level, text, 0)
	case *core:
		o.startLine(level, text, 0)
	}
}

// hostGetHeader is get_header(message, name_ptr, name_len, index, out_ptr, out_cap).
func hostGetHeader(in *wasm.Instance, a []uint64) {
	message, index := uint32(a[0]), int(uint32(a[3])) //nolint:gosec // i32s are in the low halves
	name := memory(in, abi.ImportGetHeader, a[1], a[2])
	out := memory(in, abi.ImportGetHeader, a[4], a[5])
	if message > abi.MessageTLS {
		in.Failf(fault.PluginTrap, "%s: unknown message %d", abi.ImportGetHeader, message)
	}
	g, ok := in.Owner.(*guest)
	a[0] = none
	if !ok || g.x == nil || len(name) > abi.MaxHeaderName {
		return
	}
	if message == abi.MessageTLS {
		in.Charge(secureFuel)
		if value, ok := secureFact(g.x.Client.TLS, string(name), index); ok {
			a[0] = hand(in, out, value)
		}
		return
	}
	h := g.message(message)
	if h == nil {
		return
	}
	in.Charge(int64(2*h.Len() + len(name)))
	if value, ok := valueAt(h, name, index); ok {
		a[0] = hand(in, out, value)
	}
}

// hand gives the guest a value, if there is room for it, and returns its length.
func hand[T string | []byte](in *wasm.Instance, out []byte, value T) uint64 {
	if len(value) <= len(out) {
		in.Charge(int64(len(value) / 8))
		copy(out, value)
	}
	return uint64(len(value))
}

// message returns a message's fields, where the phase has them.
func (g *guest) message(message uint32) *http1.Head {
	switch {
	case message >= abi.MessageRequestTrailers:
		return g.trailersOf(message)
	case message == abi.MessageRequest:
		return &g.x.Request.Head
	case g.phase == abi.PhaseResponse || g.phase == phaseResponseBody:
		return &g.x.Response.Head
	}
	return nil
}

// valueAt returns value k of the fields with that name, in any case.
func valueAt(h *http1.Head, name []byte, k int) ([]byte, bool) {
	for i := range h.Len() {
		if len(h.Name(i)) != len(name) || !http1.EqualFold(h.Name(i), name) {
			continue
		}
		if k == 0 {
			return h.Value(i), true
		}
		k--
	}
	return nil, false
}

// guestLine writes a line of the plugin's, within its limits, on a loop. before is how many lines were held back already.
func (c *core) guestLine(l *netloop.Loop, level, phase uint32, text []byte, before int64) {
	c.report.Guest(l.Index(), l.Now(), phaseNames[phase], level, cut(text), before)
}

// startLine is guestLine while an instance starts, on any goroutine.
func (c *core) startLine(level uint32, text []byte, before int64) {
	c.report.Guest(wasm.NoLoop, 0, "start", level, cut(text), before)
}

// cut cuts a line that is longer than the ABI allows, and says so.
func cut(b []byte) []byte {
	if len(b) <= abi.MaxText {
		return b
	}
	return fmt.Appendf(nil, "%s… (cut: %d bytes)", b[:abi.MaxText], len(b))
}

// outputLine is wasm.Sys.Log: a line on the guest's standard output or error. Each instance holds back what is too much
// of its own; a plugin that gets a new instance again and again is held to the plugin's limit.
func (c *core) outputLine(in *wasm.Instance, stream int, line []byte, suppressed int64) {
	level := abi.LogInfo
	if stream == 2 {
		level = abi.LogWarn
	}
	if g, ok := in.Owner.(*guest); ok && g.task != nil {
		c.guestLine(g.task.Loop(), level, g.phase, line, suppressed)
		return
	}
	c.startLine(level, line, suppressed)
}
