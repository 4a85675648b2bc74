package proxywasm

import (
	"strings"

	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
)

// hostCall does the work of a host function, given its arguments; what it returns is the guest's answer.
type hostCall func(v *vm, in *wasm.Instance, a []uint64) status

// hostFunctions are what guests import from env, of all versions of the ABI: SDKs import what their version has not.
func hostFunctions() []wasm.HostFunction {
	var list []wasm.HostFunction
	add := func(name, params string, fuel int64, call hostCall) {
		f := wasm.HostFunction{Name: "proxy_" + name, Results: []meter.ValueType{meter.I32}, Fuel: fuel}
		for _, p := range params {
			t := meter.I32
			if p == 'I' {
				t = meter.I64
			}
			f.Params = append(f.Params, t)
		}
		n, wide := len(params), strings.Contains(params, "I")
		f.Call = func(in *wasm.Instance, stack []uint64) {
			for i := range stack[:n] {
				if !wide || params[i] == 'i' {
					stack[i] &= 1<<32 - 1 // the rest is anything
				}
			}
			stack[0] = uint64(call(in.Owner.(*vm), in, stack))
		}
		list = append(list, f)
	}

	add("log", "iii", 0, hostLog)
	add("get_log_level", "i", 0, hostLogLevel)
	add("get_current_time_nanoseconds", "i", 0, hostTime)
	add("set_tick_period_milliseconds", "i", lookupFuel, hostTick)
	add("get_status", "iii", 0, func(v *vm, in *wasm.Instance, a []uint64) status {
		if !put32(in, a[0], v.code) {
			return statusBadMemory
		}
		return v.give(in, []byte(v.message), a[1], a[2])
	})
	add("set_effective_context", "i", 0, func(v *vm, _ *wasm.Instance, a []uint64) status {
		if v.contexts[uint32(a[0])] == nil { //nolint:gosec // an i32 is in the low half
			return statusBadArgument
		}
		v.effective = uint32(a[0]) //nolint:gosec // see above
		return statusOK
	})
	add("done", "", 0, hostDone)
	add("call_foreign_function", "iiiiii", lookupFuel, hostForeign)

	add("get_header_map_size", "ii", lookupFuel, hostMapSize)
	add("get_header_map_pairs", "iii", lookupFuel, hostMapPairs)
	add("set_header_map_pairs", "iii", lookupFuel, hostSetMap)
	add("get_header_map_value", "iiiii", lookupFuel, hostMapValue)
	add("add_header_map_value", "iiiii", lookupFuel, changeField(editAdd))
	add("replace_header_map_value", "iiiii", lookupFuel, changeField(editReplace))
	add("remove_header_map_value", "iii", lookupFuel, changeField(editRemove))

	add("get_buffer_bytes", "iiiii", 0, hostBuffer)
	add("set_buffer_bytes", "iiiii", 0, hostSetBuffer)
	add("get_buffer_status", "iii", 0, hostBufferStatus)
	add("get_configuration", "ii", 0, hostConfiguration)

	add("get_property", "iiii", lookupFuel, hostProperty)
	add("set_property", "iiii", lookupFuel, hostSetProperty)

	add("continue_stream", "i", 0, func(v *vm, _ *wasm.Instance, a []uint64) status { return v.continueStream(uint32(a[0])) }) //nolint:gosec // an i32
	add("close_stream", "i", 0, func(v *vm, _ *wasm.Instance, a []uint64) status { return v.closeStream(uint32(a[0])) })       //nolint:gosec // an i32
	add("continue_request", "", 0, func(v *vm, _ *wasm.Instance, _ []uint64) status { return v.continueStream(streamRequest) })
	add("continue_response", "", 0, func(v *vm, _ *wasm.Instance, _ []uint64) status { return v.continueStream(streamResponse) })
	add("clear_route_cache", "", 0, func(v *vm, _ *wasm.Instance, _ []uint64) status { return v.clearRoute() })
	add("send_local_response", "iiiiiiii", lookupFuel, hostRespond)

	add("http_call", "iiiiiiiiii", callFuel, hostHTTPCall)
	add("grpc_call", "iiiiiiiiiiii", lookupFuel, hostGRPCCall)
	add("grpc_stream", "iiiiiiiii", lookupFuel, hostGRPCStream)
	add("grpc_send", "iiii", lookupFuel, hostGRPCSend)
	add("grpc_cancel", "i", lookupFuel, hostGRPCCancel)
	add("grpc_close", "i", lookupFuel, hostGRPCClose)

	add("get_shared_data", "iiiii", lookupFuel, hostGetShared)
	add("set_shared_data", "iiiii", lookupFuel, hostSetShared)
	add("register_shared_queue", "iii", lookupFuel, hostRegisterQueue)
	add("resolve_shared_queue", "iiiii", lookupFuel, hostResolveQueue)
	add("dequeue_shared_queue", "iii", lookupFuel, hostDequeue)
	add("enqueue_shared_queue", "iii", lookupFuel, hostEnqueue)

	add("define_metric", "iiii", lookupFuel, hostDefineMetric)
	add("increment_metric", "iI", 0, func(v *vm, _ *wasm.Instance, a []uint64) status {
		return v.group.metrics.increment(uint32(a[0]), int64(a[1])) //nolint:gosec // an i32 and an i64
	})
	add("record_metric", "iI", 0, func(v *vm, _ *wasm.Instance, a []uint64) status {
		return v.group.metrics.record(uint32(a[0]), a[1]) //nolint:gosec // an i32
	})
	add("get_metric", "ii", 0, func(v *vm, in *wasm.Instance, a []uint64) status {
		value, st := v.group.metrics.get(uint32(a[0])) //nolint:gosec // an i32
		if st == statusOK && !put64(in, a[1], value) {
			return statusBadMemory
		}
		return st
	})
	return list
}

// rootOf is the root context of what host functions work on; nil while the VM starts.
func (v *vm) rootOf() *root {
	if c := v.effectiveContext(); c != nil {
		return c.root
	}
	return nil
}

// owner is the plugin that a host function works for.
func (v *vm) owner() *core {
	if r := v.rootOf(); r != nil {
		return r.core
	}
	return v.starter
}

// say says something about the plugin, on whatever goroutine.
func (v *vm) say(level uint32, text string, key ...string) {
	k, now := v.owner(), int64(0)
	if v.loop != nil {
		now = v.loop.Now()
	}
	k.report.Say(now, v.phase, level, text, key...)
}

// The ABI's log levels are trace, debug, info, warn, error, critical.
var levels = [...]uint32{wasm.LogDebug, wasm.LogDebug, wasm.LogInfo, wasm.LogWarn, wasm.LogError, wasm.LogError}

func hostLog(v *vm, in *wasm.Instance, a []uint64) status {
	if a[0] >= uint64(len(levels)) {
		return statusBadArgument
	}
	text, ok := memory(in, a[1], a[2])
	if !ok {
		return statusBadMemory
	}
	level := levels[a[0]]
	if level < v.owner().report.Level() {
		return statusOK
	}
	in.Charge(logFuel + int64(len(text)))
	v.line(level, text, 0)
	return statusOK
}

func hostLogLevel(v *vm, in *wasm.Instance, a []uint64) status {
	level := [...]uint32{wasm.LogDebug: 1, wasm.LogInfo: 2, wasm.LogWarn: 3, wasm.LogError: 4}
	answer := uint32(5)
	if l := v.owner().report.Level(); l <= wasm.LogError {
		answer = level[l]
	}
	if !put32(in, a[0], answer) {
		return statusBadMemory
	}
	return statusOK
}

// hostDone is done(): the context has answered false to on_done, and is ready now.
func hostDone(v *vm, _ *wasm.Instance, _ []uint64) status {
	c := v.effectiveContext()
	switch {
	case c == nil || c.root == nil:
	case c.stream != nil && c.stream.lingers:
		c.stream.lingers = false
		v.deferred = append(v.deferred, c.stream.bury)
		return statusOK
	case c.stream == nil && c.root.ending:
		c.root.ending = false
		c.root.waker.Wake()
		return statusOK
	}
	return statusNotFound
}

// hostForeign is call_foreign_function(name, arguments, results).
func hostForeign(v *vm, in *wasm.Instance, a []uint64) status {
	name, ok := memory(in, a[0], a[1])
	if _, ok2 := memory(in, a[2], a[3]); !ok || !ok2 {
		return statusBadMemory
	}
	answer := statusNotFound
	switch string(name[:min(len(name), maxName)]) {
	case "clear_route_cache":
		answer = v.clearRoute()
	case "declare_property": // properties need no declaration: they are bytes
		answer = statusOK
	}
	for _, at := range a[4:6] {
		if uint32(at) != 0 && !put32(in, at, 0) { //nolint:gosec // an i32
			return statusBadMemory
		}
	}
	return answer
}

// clearRoute notes that the routes shall be matched again.
func (v *vm) clearRoute() status {
	if c := v.effectiveContext(); c != nil && c.stream != nil {
		c.stream.cleared = true
	}
	return statusOK
}

func (v *vm) continueStream(which uint32) status {
	c := v.effectiveContext()
	if which >= streams {
		return statusBadArgument
	}
	if c == nil || c.stream == nil {
		return statusOK
	}
	return c.stream.resume(which)
}

func (v *vm) closeStream(which uint32) status {
	c := v.effectiveContext()
	if which >= streams {
		return statusBadArgument
	}
	if c != nil && c.stream != nil {
		c.stream.closed = true
		c.stream.wake()
	}
	return statusOK
}

// resume lets a paused message go on.
func (s *stream) resume(which uint32) status {
	d := &s.req
	if which == streamResponse || which == streamUpstream {
		d = &s.resp
	}
	if tcp := which >= streamDownstream; tcp != s.tcp {
		return statusBadArgument // it has no such stream
	}
	d.resumed = true
	if d.waiter != nil {
		d.waiter.Wake()
	}
	return statusOK
}

// hostRespond is send_local_response(status, details, body, headers, grpc_status).
func hostRespond(v *vm, in *wasm.Instance, a []uint64) status {
	_, ok := memory(in, a[1], a[2])
	body, ok2 := memory(in, a[3], a[4])
	raw, ok3 := memory(in, a[5], a[6])
	if !ok || !ok2 || !ok3 {
		return statusBadMemory
	}
	in.Charge(int64(len(body) + len(raw)))
	fields, ok := readPairs(raw)
	if !ok {
		return statusBadArgument
	}
	c := v.effectiveContext()
	if c == nil || c.stream == nil || c.stream.x == nil {
		return statusOK // nobody waits for it
	}
	s := c.stream
	if s.resp.begun && !s.resp.open || s.x.StatusSent != 0 {
		v.say(wasm.LogWarn, "send_local_response came when the answer had begun: it has no effect", "late answer")
		return statusOK
	}
	if s.local.set {
		return statusOK // the first one counts, as everywhere
	}
	if !s.local.respond(&s.x.Request, int(uint32(a[0])), body, fields, int32(a[7])) { //nolint:gosec // i32s are in the low halves
		return statusBadArgument
	}
	s.wake()
	return statusOK
}
