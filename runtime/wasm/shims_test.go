package wasm

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// importing is a module that imports functions, given as "module name(params)results", and exports each as "name", with a
// memory and what build adds.
func importing(build func(m *wt.Module), functions ...string) []byte {
	return module(func(m *wt.Module) {
		types := make([]uint32, len(functions))
		names := make([]string, len(functions))
		params := make([]int, len(functions))
		for i, f := range functions {
			host, rest, _ := strings.Cut(f, " ")
			name, rest, _ := strings.Cut(rest, "(")
			in, out, _ := strings.Cut(rest, ")")
			types[i] = m.Type(codes(wasiTypes(in)), codes(wasiTypes(out)))
			m.Import(host, name, types[i])
			names[i], params[i] = name, len(in)
		}
		m.Memory(1, 4)
		m.Export("memory", 2, 0)
		for i := range functions {
			var body []byte
			for p := range params[i] {
				body = append(body, wt.Get(uint32(p))...)
			}
			m.Export(names[i], 0, m.Func(types[i], nil, body, wt.Call(uint32(i))))
		}
		if build != nil {
			build(m)
		}
	})
}

var shimABI = ABI{Name: "shims", Hosts: func(m *meter.Module) ([]HostModule, error) {
	return Complete(m, Merge([]HostModule{WASI(), WASIUnstable()}, Shims(m)), Traps), nil
}}

func startShims(t *testing.T, sys *Sys, build func(m *wt.Module), functions ...string) *Instance {
	t.Helper()
	c, err := newEngine(t, Options{}).Compile(t.Context(), "p", importing(build, functions...), shimABI, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return start(t, c, InstanceOptions{Sys: sys})
}

// putUTF16 writes a string as AssemblyScript keeps it.
func putUTF16(in *Instance, at uint32, s string) {
	units := utf16.Encode([]rune(s))
	b, _ := in.Bytes(at-4, uint32(4+2*len(units)))
	binary.LittleEndian.PutUint32(b, uint32(2*len(units)))
	for i, u := range units {
		binary.LittleEndian.PutUint16(b[4+2*i:], u)
	}
}

func putText(in *Instance, at uint32, s string) {
	b, _ := in.Bytes(at, uint32(len(s)+1))
	copy(b, s)
	b[len(s)] = 0
}

func TestAssemblyScriptAbortsWithItsOwnMessage(t *testing.T) {
	for _, c := range []struct {
		message, file uint32
		want          string
	}{
		{100, 200, "the guest aborted: Größe\u00a0≠ 3, at assembly/index.ts:12:7, in env.abort < abort"},
		{0, 200, "null, at assembly/index.ts:12:7"},
		{100, 0xfffffff0, "at (no string at 0xfffffff0):12:7"},
		{300, 200, "(no string at 0x12c)"}, // its length is beyond memory
		{400, 200, strings.Repeat("x", maxText) + "…, at"},
		{2, 3, "null, at null:12:7"},
	} {
		in := startShims(t, nil, nil, "env abort(iiii)")
		putUTF16(in, 100, "Größe\u00a0≠ 3")
		putUTF16(in, 200, "assembly/index.ts")
		in.put32(296, 0xffffffff)
		putUTF16(in, 400, strings.Repeat("x", maxText+1))
		_, err := call(in, "abort", uint64(c.message), uint64(c.file), 12, 7)
		wantFault(t, err, fault.PluginTrap, c.want)
	}
}

func TestAssemblyScriptsConsole(t *testing.T) {
	var lines []string
	in := startShims(t, &Sys{Log: func(_ *Instance, stream int, line []byte, _ int64) {
		lines = append(lines, string('0'+rune(stream))+" "+string(line))
	}}, nil, "env console.log(i)", "env console.error(i)", "console warn(i)", "env trace(iiFFFFF)", "env console.debug(FiI)",
		"env console.assert(ii)", "env console.time(i)")
	putUTF16(in, 100, "hello\nworld \U0001f600")
	must(t, in, "console.log", 100)
	must(t, in, "console.error", 100)
	must(t, in, "warn", 0)
	must(t, in, "trace", 100, 2, math.Float64bits(1.5), math.Float64bits(-3), 0, 0, 0)
	must(t, in, "trace", 100, 1<<32-1, 0, 0, 0, 0, 0)
	must(t, in, "trace", 100, 1<<31-1, 0, 0, 0, 0, 0)
	must(t, in, "console.debug", math.Float64bits(0.25), 1<<32-5, 1<<64-7)
	must(t, in, "console.assert", 1, 100)
	must(t, in, "console.assert", 0, 100)
	must(t, in, "console.time", 1<<32-1)
	want := []string{
		"1 hello world \U0001f600", "2 hello world \U0001f600", "2 null", "1 trace: hello world \U0001f600 1.5 -3",
		"1 trace: hello world \U0001f600", "1 trace: hello world \U0001f600 0 0 0 0 0", "1 0.25 -5 -7", "2 Assertion failed: hello world \U0001f600",
		"1 (no string at 0xffffffff)",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%q\nwant\n%q", lines, want)
	}
}

func TestAssemblyScriptsNumbers(t *testing.T) {
	in := startShims(t, nil, nil, "env seed()F", "Date now()F", "env Date.now()F", "env performance.now()F", "Math random()F",
		"env Math.sqrt(F)F", "env Math.pow(FF)F", "Math sign(F)F", "env process.exit(i)")
	float := func(name string, args ...float64) float64 {
		raw := make([]uint64, len(args))
		for i, a := range args {
			raw[i] = math.Float64bits(a)
		}
		return math.Float64frombits(must(t, in, name, raw...))
	}
	if a, b := float("seed"), float("seed"); a == b || math.IsNaN(a) {
		t.Errorf("seeds %v and %v", a, b)
	}
	if a, b := float("now"), float("Date.now"); math.Abs(a-fakeStart/1e6-1) > 0.01 || math.Abs(b-a-1) > 0.01 {
		t.Errorf("the time is %v, then %v; nobody granted a clock", a, b)
	}
	if r := float("random"); r < 0 || r >= 1 {
		t.Errorf("random gives %v", r)
	}
	for _, c := range []struct{ got, want float64 }{
		{float("Math.sqrt", 2), math.Sqrt2}, {float("Math.pow", 2, 10), 1024}, {float("sign", -7), -1}, {float("sign", 0), 0},
		{float("performance.now"), 3},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	if !math.IsNaN(float("sign", math.NaN())) {
		t.Error("the sign of no number")
	}
	_, err := call(in, "process.exit", 3)
	wantFault(t, err, fault.PluginTrap, "the guest exited with code 3")
}

func TestEmscripten(t *testing.T) {
	var lines []string
	in := startShims(t, &Sys{Log: func(_ *Instance, _ int, line []byte, _ int64) { lines = append(lines, string(line)) }}, nil,
		"env emscripten_notify_memory_growth(i)", "env emscripten_memcpy_big(iii)i", "env emscripten_memcpy_js(iii)", "env emscripten_memset_js(iii)",
		"env emscripten_resize_heap(i)i", "env emscripten_get_heap_max()i", "env emscripten_get_now()F", "env __syscall_openat(iiii)i",
		"env _mmap_js(iiiiIii)i", "env setTempRet0(i)", "env getTempRet0()i", "env pthread_equal(ii)i", "env __cxa_atexit(iii)i",
		"env getentropy(ii)i", "env emscripten_random()f", "env emscripten_err(i)")
	must(t, in, "emscripten_notify_memory_growth", 0)
	putText(in, 100, "text")
	if v := must(t, in, "emscripten_memcpy_big", 200, 100, 5); v != 200 || in.text(200) != "text" {
		t.Errorf("%d, %q", v, in.text(200))
	}
	must(t, in, "emscripten_memset_js", 201, 'o', 2)
	must(t, in, "emscripten_memcpy_js", 202, 201, 3)
	if in.text(200) != "tooot" {
		t.Errorf("%q", in.text(200))
	}
	must(t, in, "emscripten_err", 200)
	if !slices.Equal(lines, []string{"tooot"}) {
		t.Errorf("%q", lines)
	}
	for _, c := range []struct {
		name string
		args []uint64
		want uint64
	}{
		{"emscripten_resize_heap", []uint64{1}, 1},
		{"emscripten_resize_heap", []uint64{1<<16 + 1}, 1},
		{"emscripten_resize_heap", []uint64{4<<16 + 1}, 0},
		{"emscripten_resize_heap", []uint64{1<<32 - 1}, 0},
		{"emscripten_get_heap_max", nil, 4 << 16},
		{"__syscall_openat", []uint64{1, 2, 3, 4}, 1<<32 - 52},
		{"_mmap_js", []uint64{1, 2, 3, 4, 5, 6, 7}, 1<<32 - 52},
		{"setTempRet0", []uint64{77}, 77},
		{"getTempRet0", nil, 77},
		{"pthread_equal", []uint64{1, 1}, 1},
		{"pthread_equal", []uint64{1, 2}, 0},
		{"__cxa_atexit", []uint64{1, 2, 3}, 0},
		{"getentropy", []uint64{300, 8}, 0},
	} {
		if v := must(t, in, c.name, c.args...); v != c.want {
			t.Errorf("%s%v is %d, want %d", c.name, c.args, v, c.want)
		}
	}
	if in.MemoryBytes() != 2<<16 {
		t.Errorf("%d bytes of memory", in.MemoryBytes())
	}
	if b, _ := in.Bytes(300, 8); binary.LittleEndian.Uint64(b) == 0 {
		t.Error("no randomness")
	}
}

func TestEmscriptensEnds(t *testing.T) {
	for _, c := range []struct {
		function string
		args     []uint64
		kind     fault.Kind
		want     string
	}{
		{"env abort()", nil, fault.PluginTrap, "the guest aborted: abort() was called, in env.abort < abort"},
		{"env _abort_js()", nil, fault.PluginTrap, "abort() was called"},
		{"env __assert_fail(iiii)", []uint64{100, 200, 9, 0}, fault.PluginTrap, "assertion failed: x > 0, at file.c:9, null"},
		{"env __cxa_throw(iii)", []uint64{8, 300, 0}, fault.PluginTrap, "a C++ exception (file.c), which the host cannot pass on"},
		{"env __cxa_throw(iii)", []uint64{8, farOut, 0}, fault.PluginTrap, "a C++ exception"},
		{"env __cxa_begin_catch(i)i", []uint64{8}, fault.PluginTrap, "a C++ exception"},
		{"env __cxa_allocate_exception(i)i", []uint64{8}, fault.PluginTrap, "a C++ exception"},
		{"env __cxa_find_matching_catch_3(i)i", []uint64{8}, fault.PluginTrap, "a C++ exception"},
		{"env _emscripten_throw_longjmp()", nil, fault.PluginTrap, "longjmp, which the host does not have"},
		{"env emscripten_memcpy_js(iii)", []uint64{0, 0xffff, 2}, fault.PluginTrap, "memcpy of 2 bytes from 0xffff to 0x0"},
		{"env emscripten_memset_js(iii)", []uint64{0xffff, 0, 1<<32 - 1}, fault.PluginFuel, "out of fuel"},
		{"env emscripten_memset_js(iii)", []uint64{0xffff, 0, 2}, fault.PluginTrap, "memset of 2 bytes"},
		{"env exit(i)", []uint64{1}, fault.PluginTrap, "exited with code 1"},
		{"env invoke_ii(ii)i", []uint64{0, 5}, fault.PluginTrap, "table index out of range"},
		{"env nobody_knows(iI)f", []uint64{1, 2}, fault.PluginTrap, "the guest calls env.nobody_knows(i32,i64)->(f32), which the host does not have"},
		{"n\u00e4me \u200bx()", nil, fault.PluginTrap, `"\u200bx"()->()`},
	} {
		in := startShims(t, nil, nil, c.function)
		putText(in, 100, "x > 0")
		putText(in, 200, "file.c")
		in.put32(304, 200)
		name, _, _ := strings.Cut(c.function, "(")
		_, name, _ = strings.Cut(name, " ")
		_, err := call(in, name, c.args...)
		wantFault(t, err, c.kind, c.want)
	}
}

// TestCallsThatWouldCatch is C++ built with exceptions that JavaScript catches: calls go through the host, and back.
func TestCallsThatWouldCatch(t *testing.T) {
	in := startShims(t, nil, func(m *wt.Module) {
		double := m.Func(m.Type([]byte{wt.I32}, []byte{wt.I32}), nil, wt.Get(0), wt.Get(0), wt.I32Add)
		deep := m.Func(m.Type([]byte{wt.I32}, []byte{wt.I32}), nil, wt.I32Const(1), wt.Get(0), wt.Call(0))
		spin := m.Func(m.Type([]byte{wt.I32}, []byte{wt.I32}), nil, wt.Loop(wt.Br(0)), wt.I32Const(0))
		malloc := m.Func(m.Type([]byte{wt.I32}, []byte{wt.I32}), nil, wt.I32Const(4096))
		m.Export("malloc", 0, malloc)
		m.Table(wt.FuncRef, 8)
		m.Elements(0, double, deep, 0, spin)
	}, "env invoke_ii(ii)i", "env __cxa_allocate_exception(i)i")
	if v := must(t, in, "invoke_ii", 0, 21); v != 42 {
		t.Errorf("21 twice is %d", v)
	}
	if v := must(t, in, "__cxa_allocate_exception", 8); v != 4096 {
		t.Errorf("memory at %d", v)
	}
	for at, want := range map[uint64]string{
		1: "guest and host call each other too deeply", // itself, again and again
		2: "indirect call type mismatch",               // the host's function
		5: "invalid table access",
		9: "invalid table access",
	} {
		in := start(t, &Compiled{unit: in.unit, name: "p"}, InstanceOptions{})
		_, err := call(in, "invoke_ii", at, 3)
		wantFault(t, err, fault.PluginTrap, want)
	}
	_, err := call(in, "invoke_ii", 3, 3)
	wantFault(t, err, fault.PluginFuel, "out of fuel")
}

func TestMerge(t *testing.T) {
	f := func(name string, fuel int64) HostFunction { return HostFunction{Name: name, Fuel: fuel} }
	got := Merge([]HostModule{{"env", []HostFunction{f("a", 1), f("b", 2)}}, {"w", []HostFunction{f("a", 3)}}},
		[]HostModule{{"env", []HostFunction{f("b", 4), f("c", 5)}}})
	if len(got) != 2 || got[0].Name != "env" || len(got[0].Functions) != 3 || got[0].Functions[1].Fuel != 2 || len(got[1].Functions) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAnswerOfUnknownFunctions(t *testing.T) {
	abi := ABI{Name: "answers", Hosts: func(m *meter.Module) ([]HostModule, error) {
		known := Merge([]HostModule{WASI()})
		if got := Missing(m, known); len(got) != 3 || got[1].Name != "args_get" {
			t.Errorf("missing: %+v", got)
		}
		return Complete(m, known, Answers(12)), nil
	}}
	e := newEngine(t, Options{})
	c, err := e.Compile(t.Context(), "p", importing(nil, "env proxy_new(II)i", "wasi_snapshot_preview1 args_get(I)i", "env nothing()",
		"wasi_snapshot_preview1 args_sizes_get(ii)i"), abi, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	in := start(t, c, InstanceOptions{})
	if v := uint32(must(t, in, "proxy_new", 1<<40, 2)); v != 12 {
		t.Errorf("an unknown function answers %d", v)
	}
	if v := uint32(must(t, in, "args_get", 1)); v != 12 {
		t.Errorf("a known function with another type answers %d", v)
	}
	must(t, in, "nothing")
	must(t, in, "args_sizes_get", 0, 8)
}

// TestFunctionsThatNobodyCanMakeUp are imports that take or give what a host must not invent.
func TestFunctionsThatNobodyCanMakeUp(t *testing.T) {
	e := newEngine(t, Options{})
	for _, v := range []byte{wt.V128, wt.FuncRef, wt.ExternRef} {
		for _, name := range []string{"f", "abort", "console.log", "invoke_v"} {
			for _, params := range [][]byte{{v}, {wt.I32, v}, nil} {
				binary := module(func(m *wt.Module) {
					var results []byte
					if params == nil {
						results = []byte{v}
					}
					m.Import("env", name, m.Type(params, results))
				})
				_, err := e.Compile(t.Context(), "p", binary, shimABI, Limits{})
				wantFault(t, err, fault.PluginUnavailable, "imports what the host does not have")
			}
		}
	}
}

func TestWASIUnstable(t *testing.T) {
	host := WASIUnstable()
	if n := len(host.Functions); n != len(WASI().Functions) {
		t.Errorf("%d functions", n)
	}
	in := startShims(t, nil, nil, "wasi_unstable poll_oneoff(iiii)i", "wasi_unstable clock_time_get(iIi)i", "wasi_unstable fd_seek(iIii)i")
	for i := range uint32(28) {
		in.put32(64+4*i, 0)
	}
	in.put32(64, 99)               // what is the caller's
	in.put32(64+24, 1)             // the monotonic clock
	in.put32(64+32, 1_000_000_000) // from now
	in.put32(64+56, 98)
	in.put32(64+56+8, 1) // a descriptor
	if v := must(t, in, "poll_oneoff", 64, 256, 2, 400); v != wasiOK {
		t.Fatal(v)
	}
	b, _ := in.Bytes(256, 64)
	if b[0] != 99 || b[32] != 98 || b[10] != 0 || b[32+10] != 1 || b[32+8] != wasiBadFD {
		t.Errorf("events: % x", b)
	}
	must(t, in, "clock_time_get", 1, 0, 500)
	if b, _ := in.Bytes(500, 8); binary.LittleEndian.Uint64(b) < 1e9 {
		t.Error("nobody slept")
	}
	if v := must(t, in, "fd_seek", 1, 0, 0, 8); v != wasiBadFD {
		t.Error(v)
	}
}
