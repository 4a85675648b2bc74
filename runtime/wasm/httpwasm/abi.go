package httpwasm

import (
	"errors"

	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
)

// hostName is the module that guests import.
const hostName = "http_handler"

// The exports.
const (
	exportRequest  = "handle_request"
	exportResponse = "handle_response"
	exportMemory   = "memory"
	exportStart    = "_start"
)

// features of enable_features.
type features uint32

// The features.
const (
	bufferRequest features = 1 << iota
	bufferResponse
	trailers
	supported = bufferRequest | bufferResponse | trailers
)

// The messages whose fields are meant.
const (
	kindRequest uint32 = iota
	kindResponse
	kindRequestTrailers
	kindResponseTrailers
	kinds
)

var kindNames = [kinds]string{"request", "response", "request trailers", "response trailers"}

// The levels of log begin with debug, -1; wasm's with 0.
const levelNone = 3

// ABI is what modules are compiled for that New takes.
var ABI = wasm.ABI{Name: hostName, Hosts: hosts}

// Speaks says whether a module speaks the http-handler ABI.
func Speaks(m *meter.Module) bool {
	for i := range m.Imports {
		if m.Imports[i].Module == hostName {
			return true
		}
	}
	_, request := m.Export(exportRequest)
	_, response := m.Export(exportResponse)
	return request && response
}

// hosts checks that the module has what the ABI wants of it, and returns what it may import, and something for whatever
// else it imports.
func hosts(m *meter.Module) ([]wasm.HostModule, error) {
	if !Speaks(m) {
		return nil, errors.New("the module does not speak the http-handler ABI of http-wasm: it exports no handle_request and handle_response")
	}
	if mem, ok := m.Export(exportMemory); !ok || mem.Kind != meter.KindMemory {
		return nil, errors.New(`the module does not export its memory as "memory"`)
	}
	return wasm.Complete(m, known(m), wasm.Traps), nil
}

// known returns what we have of what the module imports.
func known(m *meter.Module) []wasm.HostModule {
	return wasm.Merge([]wasm.HostModule{hostModule(), wasm.WASI(), wasm.WASIUnstable()}, wasm.Shims(m))
}

// functions are a module's exports.
type functions struct {
	request, response, start wasm.Func
	hasStart                 bool
	deaf                     bool // handle_response does nothing
}

func findFunctions(c *wasm.Compiled) (f functions, err error) {
	if f.request, err = c.Func(exportRequest, nil, types("I")); err != nil {
		return f, err
	}
	if f.response, err = c.Func(exportResponse, types("ii"), nil); err != nil {
		return f, err
	}
	e, _ := c.Module().Export(exportResponse)
	f.deaf = e.Empty
	if _, initializes := c.Lookup("_initialize"); initializes {
		return f, nil
	}
	if _, f.hasStart = c.Lookup(exportStart); f.hasStart {
		f.start, err = c.Func(exportStart, nil, nil)
	}
	return f, err
}

// types writes a list of types: i is i32, I is i64.
func types(s string) []meter.ValueType {
	list := make([]meter.ValueType, len(s))
	for i := range list {
		list[i] = meter.I32
		if s[i] == 'I' {
			list[i] = meter.I64
		}
	}
	return list
}
