// Package native turns a module that speaks the native plugin ABI (sdk/abi.md) into a filter: it writes the view of an
// exchange into the guest's memory, calls it once, checks its answer, and does what it says, as a whole or not at all.
//
// Nothing in it is a library of others: the layouts are package sdk/abi's, which the Go SDK shares, and what runs the
// guest is package wasm.
//
// A call costs no allocation: views are written straight into the guest's memory, answers are read there. The guest is
// hostile: every pointer, length, number and string of its answer is checked before any of it has an effect.
//
// A guest that calls an upstream is parked within its call: its instance stays taken, the loop serves others. A body that is
// held is read before an instance is taken, so that a slow client has none.
package native

import (
	"fmt"
	"strings"

	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/sdk/abi"
)

// ABI is what modules are compiled for that New takes.
var ABI = wasm.ABI{Name: abi.Module, Hosts: hosts}

// Speaks says whether a module speaks the native ABI, in any version.
func Speaks(m *meter.Module) bool {
	for _, e := range m.Exports {
		if _, ok := major(e.Name); ok {
			return true
		}
	}
	return false
}

// major returns N of a name that begins with "wasmgate_vN", and what follows is "_" or nothing.
func major(name string) (n string, ok bool) {
	rest, ok := strings.CutPrefix(name, abi.ExportPrefix)
	if !ok {
		return "", false
	}
	n, _, _ = strings.Cut(rest, "_")
	return n, n != "" && strings.Trim(n, "0123456789") == ""
}

// hosts checks that the module speaks this version, and returns what it may import.
func hosts(m *meter.Module) ([]wasm.HostModule, error) {
	const ours = "1"
	names := make([]string, 0, len(m.Exports)+len(m.Imports))
	for _, e := range m.Exports {
		names = append(names, e.Name)
	}
	for _, i := range m.Imports {
		names = append(names, i.Module)
	}
	spoken := false
	for _, name := range names {
		n, ok := major(name)
		if ok && n != ours {
			return nil, fmt.Errorf("the module speaks version %s of the native plugin ABI (%s), this gateway version %s", n, name, ours)
		}
		spoken = spoken || ok
	}
	if !spoken {
		return nil, fmt.Errorf("the module does not speak the native plugin ABI: it exports nothing that begins with wasmgate_v%s_", ours)
	}
	if mem, ok := m.Export(abi.ExportMemory); !ok || mem.Kind != meter.KindMemory {
		return nil, fmt.Errorf("the module does not export its memory as %q", abi.ExportMemory)
	}
	return []wasm.HostModule{hostModule(), wasm.WASI()}, nil
}

// functions are a module's exports.
type functions struct {
	arena, configure, request, response, resize, body, tick wasm.Func
	hasResponse, hasResize, hasBody, hasTick                bool
}

func findFunctions(c *wasm.Compiled) (f functions, err error) {
	one, answer := []meter.ValueType{meter.I32}, []meter.ValueType{meter.I64}
	for _, e := range []struct {
		name     string
		params   []meter.ValueType
		at       *wasm.Func
		optional *bool
	}{
		{abi.ExportArena, one, &f.arena, nil}, {abi.ExportConfigure, one, &f.configure, nil}, {abi.ExportRequest, one, &f.request, nil},
		{abi.ExportResponse, one, &f.response, &f.hasResponse},
		{abi.ExportResize, []meter.ValueType{meter.I32, meter.I32}, &f.resize, &f.hasResize},
		{abi.ExportBody, one, &f.body, &f.hasBody}, {abi.ExportTick, one, &f.tick, &f.hasTick},
	} {
		if _, there := c.Lookup(e.name); !there && e.optional != nil {
			continue
		}
		if *e.at, err = c.Func(e.name, e.params, answer); err != nil {
			return f, err
		}
		if e.optional != nil {
			*e.optional = true
		}
	}
	return f, nil
}
