package wasm

import (
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// FuzzShims calls what compilers import, and WASI, with anything: a guest's call may end in an error, and the gateway does not
// care.
func FuzzShims(f *testing.F) {
	var functions []string
	for form := range shimsByForm {
		functions = append(functions, "env "+form)
	}
	for _, form := range []string{"console.log(i)", "console.error(IiFf)", "console.assert(ii)", "invoke_ii(ii)i", "invoke_vi(ii)", "invoke_j(i)I", "__syscall_openat(iiii)i", "Math.sin(F)F"} {
		functions = append(functions, "env "+form)
	}
	for _, h := range []HostModule{WASI(), WASIUnstable()} {
		for _, fn := range h.Functions {
			functions = append(functions, h.Name+" "+fn.Name+strings.NewReplacer("i32", "i", "i64", "I", ",", "", "->()", "", "->(i)", "i").Replace(signature(fn.Params, fn.Results)))
		}
	}
	slices.Sort(functions)
	names := map[string]bool{}
	functions = slices.DeleteFunc(functions, func(s string) bool { // one of each name can be exported
		_, name, _ := strings.Cut(s, " ")
		name, _, _ = strings.Cut(name, "(")
		was := names[name]
		names[name] = true
		return was
	})
	e, err := New(Options{NoCache: true})
	if err != nil {
		f.Fatal(err)
	}
	c, err := e.Compile(f.Context(), "p", importing(func(m *wt.Module) {
		m.Table(wt.FuncRef, 4)
		m.Elements(0, 0, 1, uint32(len(functions)), uint32(len(functions))+1)
	}, functions...), shimABI, Limits{Fuel: 200_000})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	exports := make([]string, len(functions))
	for i, fn := range functions {
		_, fn, _ = strings.Cut(fn, " ")
		exports[i], _, _ = strings.Cut(fn, "(")
		f.Add(uint16(i), uint64(0), uint64(0), uint64(0), uint64(0), "")
		f.Add(uint16(i), uint64(64), uint64(8), uint64(1), uint64(128), "\x08\x00\x00\x00a\x00\xd8\xdcb\x00\xff")
		f.Add(uint16(i), uint64(1<<32-1), uint64(1<<32-4), uint64(1<<31), uint64(1<<16-1), "\xff\xff\xff\xff")
	}
	sys := &Sys{Args: []string{"a", "bc"}, Env: []string{"A=1"}, Log: func(*Instance, int, []byte, int64) {}}
	f.Fuzz(func(t *testing.T, which uint16, a, b, c2, d uint64, memory string) {
		in, err := c.Instantiate(InstanceOptions{Sys: sys})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if m, ok := in.Bytes(60, uint32(len(memory))); ok {
			copy(m, memory)
		}
		name := exports[int(which)%len(exports)]
		_, err = call(in, name, a, b, c2, d, a, b, c2, d, a, b)
		if err != nil && fault.From(err).Kind == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	})
}
