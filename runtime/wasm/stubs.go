package wasm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm/meter"
)

// Merge puts together what several sources give: the functions of modules with the same name are in one, and of two with
// the same name in one module the first stays.
func Merge(sources ...[]HostModule) []HostModule {
	var all []HostModule
	at := map[string]int{}
	type function struct{ module, name string }
	have := map[function]bool{}
	for _, m := range slices.Concat(sources...) {
		i, ok := at[m.Name]
		if !ok {
			i = len(all)
			at[m.Name] = i
			all = append(all, HostModule{Name: m.Name})
		}
		for _, f := range m.Functions {
			if key := (function{m.Name, f.Name}); !have[key] {
				have[key] = true
				all[i].Functions = append(all[i].Functions, f)
			}
		}
	}
	return all
}

// Missing returns what m imports and hosts does not have, or has with another type.
func Missing(m *meter.Module, hosts []HostModule) []meter.Import {
	have := functionsOf(hosts)
	var missing []meter.Import
	for _, imp := range m.Imports {
		if f := have[functionName{imp.Module, imp.Name}]; f == nil || !f.is(imp.Type) {
			missing = append(missing, imp)
		}
	}
	return missing
}

// Answer is what a function does that is there for its name only. It leaves the results in stack; the arguments are there
// before.
type Answer func(in *Instance, imp *meter.Import, stack []uint64)

// Traps is the Answer that ends the guest's call with an error that names the function.
func Traps(in *Instance, imp *meter.Import, _ []uint64) {
	in.Failf(fault.PluginTrap, "the guest calls %s, which the host does not have", ImportName(imp))
}

// Answers is the Answer v, from a function with a result.
func Answers(v uint64) Answer {
	return func(_ *Instance, imp *meter.Import, stack []uint64) {
		if len(imp.Type.Results) > 0 {
			clear(stack[:len(imp.Type.Results)])
			stack[0] = v
		}
	}
}

// Complete returns hosts with a function for each that m imports and hosts does not have (see Missing): real modules import
// dozens that they never call, and must start all the same. Functions that take or give vectors or references are left
// out, and the module is refused for them.
func Complete(m *meter.Module, hosts []HostModule, answer Answer) []HostModule {
	var stubs []HostModule
	for _, imp := range Missing(m, hosts) {
		if !plain(imp.Type) {
			continue
		}
		stubs = append(stubs, HostModule{Name: imp.Module, Functions: []HostFunction{{
			Name: imp.Name, Params: imp.Type.Params, Results: imp.Type.Results,
			Call: func(in *Instance, stack []uint64) { answer(in, &imp, stack) },
		}}})
	}
	return Merge(stubs, hosts)
}

// plain says whether a function's values are numbers. A reference that a host makes up would be followed by native code.
func plain(t meter.FuncType) bool {
	for _, v := range slices.Concat(t.Params, t.Results) {
		if v != meter.I32 && v != meter.I64 && v != meter.F32 && v != meter.F64 {
			return false
		}
	}
	return true
}

// ImportName writes an imported function for people: module, name and type, quoted where they are not what one expects.
func ImportName(imp *meter.Import) string {
	word := func(s string) string {
		const most = 100
		if len(s) > most {
			s = strings.ToValidUTF8(s[:most], "") + "…"
		}
		if q := strconv.Quote(s); s == "" || q[1:len(q)-1] != s {
			return q
		}
		return s
	}
	return fmt.Sprintf("%s.%s%s", word(imp.Module), word(imp.Name), signature(imp.Type.Params, imp.Type.Results))
}

type functionName struct{ module, name string }

func functionsOf(hosts []HostModule) map[functionName]*HostFunction {
	have := map[functionName]*HostFunction{}
	for i := range hosts {
		for j := range hosts[i].Functions {
			f := &hosts[i].Functions[j]
			have[functionName{hosts[i].Name, f.Name}] = f
		}
	}
	return have
}

func (f *HostFunction) is(t meter.FuncType) bool {
	return slices.Equal(f.Params, t.Params) && slices.Equal(f.Results, t.Results)
}
