package proxywasm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
)

// status is what a host function answers.
type status uint32

// The statuses that are answered.
const (
	statusOK            status = 0
	statusNotFound      status = 1
	statusBadArgument   status = 2
	statusBadMemory     status = 6
	statusEmpty         status = 7
	statusCASMismatch   status = 8
	statusInternal      status = 10
	statusBroken        status = 11 // of a call, in get_status
	statusUnimplemented status = 12
)

// The actions that callbacks answer. The Proxy-Wasm specification has the first two, Envoy the rest.
const (
	actionContinue      = 0
	actionPause         = 1
	actionEndStream     = 2 // on headers: Continue; on a body: Pause
	actionStopNoBuffer  = 3 // on a body: what was given is the plugin's now. On headers: stop everything
	actionStopWatermark = 4 // on headers: stop everything
)

// The maps.
const (
	mapRequest uint32 = iota
	mapRequestTrailers
	mapResponse
	mapResponseTrailers
	mapGRPCInitial
	mapGRPCTrailing
	mapCall
	mapCallTrailers
	maps
)

// The buffers.
const (
	bufferRequest uint32 = iota
	bufferResponse
	bufferDownstream
	bufferUpstream
	bufferCall
	bufferGRPC
	bufferVMConfig
	bufferConfig
	bufferForeign
	buffers
)

// The streams that can be continued and closed.
const (
	streamRequest uint32 = iota
	streamResponse
	streamDownstream
	streamUpstream
	streams
)

// marker begins the name of the export by which a module says its version.
const marker = "proxy_abi_version_"

// version is one of the ABI's.
type version uint8

const (
	unknownVersion version = iota
	version010
	version020
	version021
	versionHigress // 0.2.1 and Redis calls, and what Envoy calls StopIteration means that
)

var versions = map[string]version{"0_1_0": version010, "0_2_0": version020, "0_2_1": version021, "0_2_100": versionHigress}

// ABI is what modules are compiled for that New takes.
var ABI = wasm.ABI{Name: "proxy-wasm", Hosts: hosts}

// Speaks says whether a module speaks Proxy-Wasm, in any version.
func Speaks(m *meter.Module) bool {
	return slices.ContainsFunc(m.Exports, func(e meter.Export) bool { return strings.HasPrefix(e.Name, marker) })
}

// versionOf returns the highest version that the module speaks and we know.
func versionOf(m *meter.Module) (version, error) {
	v, others := unknownVersion, []string(nil)
	for _, e := range m.Exports {
		name, ok := strings.CutPrefix(e.Name, marker)
		switch {
		case !ok:
		case versions[name] == unknownVersion:
			others = append(others, e.Name)
		default:
			v = max(v, versions[name])
		}
	}
	switch {
	case v != unknownVersion:
		return v, nil
	case len(others) > 0:
		return v, fmt.Errorf("the module speaks a version of Proxy-Wasm (%s) other than 0.1.0, 0.2.0, 0.2.1 and Higress's 0.2.100", strings.Join(others, ", "))
	}
	return v, errors.New("the module does not speak Proxy-Wasm: it exports nothing that begins with " + marker)
}

// hosts returns what the module may import, and something for whatever else it imports.
func hosts(m *meter.Module) ([]wasm.HostModule, error) {
	if _, err := versionOf(m); err != nil {
		return nil, err
	}
	if mem, ok := m.Export("memory"); !ok || mem.Kind != meter.KindMemory {
		return nil, errors.New(`the module does not export its memory as "memory"`)
	}
	if _, ok := allocator(m); !ok {
		return nil, errors.New("the module exports neither proxy_on_memory_allocate nor malloc: the host cannot give it anything")
	}
	return wasm.Complete(m, known(m), absent), nil
}

// known returns what we have of what the module imports.
func known(m *meter.Module) []wasm.HostModule {
	own := wasm.HostModule{Name: "env", Functions: hostFunctions()}
	for _, imp := range m.Imports { // the specification of 0.1.0 has functions without a result that answer a status elsewhere
		if imp.Module == "env" && len(imp.Type.Results) == 0 {
			if i := slices.IndexFunc(own.Functions, func(f wasm.HostFunction) bool { return f.Name == imp.Name }); i >= 0 {
				own.Functions[i] = silent(own.Functions[i])
			}
		}
	}
	return wasm.Merge([]wasm.HostModule{own}, wasm.Shims(m), []wasm.HostModule{wasm.WASI(), wasm.WASIUnstable()})
}

// silent is f without its result.
func silent(f wasm.HostFunction) wasm.HostFunction {
	call := f.Call
	f.Results = nil
	f.Call = func(in *wasm.Instance, a []uint64) {
		var stack [16]uint64
		copy(stack[:], a)
		call(in, stack[:])
	}
	return f
}

// absent answers for functions that are not known: UNIMPLEMENTED, or what WASI says instead.
func absent(in *wasm.Instance, imp *meter.Import, stack []uint64) {
	answer := uint64(statusUnimplemented)
	if strings.HasPrefix(imp.Module, "wasi_") {
		const noSys = 52
		answer = noSys
	}
	wasm.Answers(answer)(in, imp, stack)
}

// unknownImports names what the module imports and we do not know, or know with another type.
func unknownImports(m *meter.Module) []string {
	var names []string
	for _, imp := range wasm.Missing(m, known(m)) {
		names = append(names, wasm.ImportName(&imp))
	}
	return names
}

// allocator returns the name of the export that gives memory.
func allocator(m *meter.Module) (string, bool) {
	for _, name := range [...]string{"proxy_on_memory_allocate", "malloc"} {
		if e, ok := m.Export(name); ok && e.Kind == meter.KindFunction && i32s(e.Type.Params, 1) && i32s(e.Type.Results, 1) {
			return name, true
		}
	}
	return "", false
}

// i32s says whether there are n types, all of them i32.
func i32s(types []meter.ValueType, n int) bool {
	return len(types) == n && !slices.ContainsFunc(types, func(t meter.ValueType) bool { return t != meter.I32 })
}

// callback is a function that the guest may export.
type callback int

// The callbacks.
const (
	onContextCreate callback = iota
	onVMStart
	onConfigure
	onDone
	onLog
	onDelete
	onTick
	onQueueReady
	onRequestHeaders
	onRequestBody
	onRequestTrailers
	onResponseHeaders
	onResponseBody
	onResponseTrailers
	onCallResponse
	onGRPCInitial
	onGRPCReceive
	onGRPCTrailing
	onGRPCClose
	onNewConnection
	onDownstreamData
	onUpstreamData
	onDownstreamClose
	onUpstreamClose
	onMain
	onMainVoid
	onStart
	onAllocate
	callbacks
)

// callbackType is a callback's name and type: so many i32, and an i32 as result, or none. Without a result it is otherwise.
var callbackTypes = [callbacks]struct {
	name      string
	params    int
	otherwise uint64
}{
	onContextCreate: {"proxy_on_context_create", 2, 0}, onVMStart: {"proxy_on_vm_start", 2, 1}, onConfigure: {"proxy_on_configure", 2, 1},
	onDone: {"proxy_on_done", 1, 1}, onLog: {"proxy_on_log", 1, 0}, onDelete: {"proxy_on_delete", 1, 0},
	onTick: {"proxy_on_tick", 1, 0}, onQueueReady: {"proxy_on_queue_ready", 2, 0},
	onRequestHeaders: {"proxy_on_request_headers", 3, 0}, onRequestBody: {"proxy_on_request_body", 3, 0}, onRequestTrailers: {"proxy_on_request_trailers", 2, 0},
	onResponseHeaders: {"proxy_on_response_headers", 3, 0}, onResponseBody: {"proxy_on_response_body", 3, 0}, onResponseTrailers: {"proxy_on_response_trailers", 2, 0},
	onCallResponse: {"proxy_on_http_call_response", 5, 0}, onNewConnection: {"proxy_on_new_connection", 1, 0},
	onGRPCInitial: {"proxy_on_grpc_receive_initial_metadata", 3, 0}, onGRPCReceive: {"proxy_on_grpc_receive", 3, 0},
	onGRPCTrailing: {"proxy_on_grpc_receive_trailing_metadata", 3, 0}, onGRPCClose: {"proxy_on_grpc_close", 3, 0},
	onDownstreamData: {"proxy_on_downstream_data", 3, 0}, onUpstreamData: {"proxy_on_upstream_data", 3, 0},
	onDownstreamClose: {"proxy_on_downstream_connection_close", 2, 0}, onUpstreamClose: {"proxy_on_upstream_connection_close", 2, 0},
	onMain: {"main", 2, 0}, onMainVoid: {"__main_void", 0, 0}, onStart: {"_start", 0, 0},
}

// function is a callback as the module has it.
type function struct {
	f      wasm.Func
	there  bool
	params int // that it takes: 0.1.0 has no end_of_stream with headers
	answer bool
}

// functions are those of a module. The last one is never there.
type functions [callbacks + 1]function

// findFunctions looks up the callbacks. One of another type than any version has is an error.
func findFunctions(c *wasm.Compiled) (fs functions, err error) {
	m := c.Module()
	for cb := range callbacks {
		t := &callbackTypes[cb]
		if t.name == "" {
			continue
		}
		e, ok := m.Export(t.name)
		if !ok || e.Kind != meter.KindFunction {
			continue
		}
		n := len(e.Type.Params)
		fits := n == t.params || n == 2 && (cb == onRequestHeaders || cb == onResponseHeaders) || n == 0 && cb == onMain
		if !fits || !i32s(e.Type.Params, n) || len(e.Type.Results) > 1 || !i32s(e.Type.Results, len(e.Type.Results)) {
			if !strings.HasPrefix(t.name, "proxy_") {
				continue // another function of that name
			}
			return fs, fmt.Errorf("the module exports %s, but not with the type that it has in Proxy-Wasm", t.name)
		}
		f, _ := c.Lookup(t.name)
		fs[cb] = function{f: f, there: true, params: n, answer: len(e.Type.Results) == 1}
	}
	name, ok := allocator(m)
	if !ok {
		return fs, errors.New("the module has no allocator")
	}
	f, _ := c.Lookup(name)
	fs[onAllocate] = function{f: f, there: true, params: 1, answer: true}
	return fs, nil
}
