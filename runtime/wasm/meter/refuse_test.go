package meter_test

import (
	"errors"
	"strings"
	"testing"

	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// body returns a module with one function of that code.
func body(code ...any) []byte {
	m := &wt.Module{}
	m.Memory(1)
	m.Func(m.Type(nil, nil), nil, code...)
	return m.Bytes()
}

func build(f func(m *wt.Module)) []byte {
	m := &wt.Module{}
	f(m)
	return m.Bytes()
}

// TestFeaturesThatAreNotMeteredAreRefused is one module for each; the message names the feature.
func TestFeaturesThatAreNotMeteredAreRefused(t *testing.T) {
	for _, tc := range []struct {
		feature string
		binary  []byte
	}{
		{"tail calls", body(0x12, 0)},
		{"tail calls", body(0x13, 0, 0)},
		{"exceptions", body(0x06, 0x40, 0x07, 0, wt.EndOp)},
		{"exceptions", body(0x08, 0)},
		{"exceptions", body(0x1f, 0x40, 0, wt.EndOp)},
		{"exceptions", build(func(m *wt.Module) { m.Tags(m.Type(nil, nil)) })},
		{"exceptions", build(func(m *wt.Module) { m.ImportRaw("env", "tag", 4, 0, wt.U(m.Type(nil, nil))) })},
		{"threads", body(0xfe, 0x03, 0)},
		{"threads", build(func(m *wt.Module) { m.MemoryRaw(3, 1, 2) })},
		{"64-bit memories", build(func(m *wt.Module) { m.MemoryRaw(4, 1) })},
		{"several memories", build(func(m *wt.Module) { m.Memory(1); m.Memory(1) })},
		{"several memories", body(wt.I32Const(0), 0x28, 0x42, 1, 0, wt.Drop)},
		{"imported memories", build(func(m *wt.Module) { m.ImportRaw("env", "memory", 2, 0, 1) })},
		{"imported tables", build(func(m *wt.Module) { m.ImportRaw("env", "table", 1, wt.FuncRef, 0, 1) })},
		{"imported globals", build(func(m *wt.Module) { m.ImportRaw("env", "g", 3, wt.I32, 0) })},
		{"garbage-collected references", body(0xfb, 0, 0)},
		{"garbage-collected references", []byte("\x00asm\x01\x00\x00\x00\x01\x03\x01\x5f\x00")},
		{"typed function references", body(0x14, 0)},
		{"relaxed SIMD", body(0xfd, wt.U(0x100))},
		{"wide arithmetic", body(0xfc, 19)},
		{"extended constant expressions", build(func(m *wt.Module) { m.Global(wt.I32, false, wt.I32Const(1), wt.I32Const(2), wt.I32Add) })},
		{"components", []byte("\x00asm\x0d\x00\x01\x00")},
		{"stack switching", body(0xe0, 0)},
	} {
		_, err := meter.Rewrite(tc.binary, meter.Options{})
		var e *meter.Error
		if !errors.As(err, &e) || e.Feature != tc.feature || !strings.Contains(err.Error(), tc.feature) {
			t.Errorf("%s: got %v", tc.feature, err)
		}
	}
}

// TestManyWrongTypesAreRefused has more parameters of types that are none than there are bytes before them.
func TestManyWrongTypesAreRefused(t *testing.T) {
	for n := range byte(127) {
		binary := append([]byte("\x00asm\x01\x00\x00\x00\x01"), wt.U(uint32(n)+3)...)
		binary = append(append(binary, 1, 0x60, n), make([]byte, n)...)
		_, err := meter.Rewrite(binary, meter.Options{})
		if err == nil || n > 0 && !strings.Contains(err.Error(), ": 0x00 is not a value type") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestModulesBeyondTheBoundsAreRefused is one module for each bound and for what is malformed in a way that matters.
func TestModulesBeyondTheBoundsAreRefused(t *testing.T) {
	many := func(n int, b ...byte) []byte { return []byte(strings.Repeat(string(b), n)) }
	for _, tc := range []struct {
		message string
		binary  []byte
	}{
		{"not a WebAssembly binary", nil},
		{"not version 1", []byte("\x00asm\x02\x00\x00\x00")},
		{"more than the limit of 16", build(func(m *wt.Module) { m.Memory(17) })},
		{"more than the limit of 100", build(func(m *wt.Module) { m.Table(wt.FuncRef, 101) })},
		{"below its minimum", build(func(m *wt.Module) { m.Memory(5, 2) })},
		{"is reserved", build(func(m *wt.Module) { m.Import(meter.ImportModule, "refill", m.Type(nil, nil)) })},
		{"is reserved", build(func(m *wt.Module) { m.Export(meter.Fuel, 3, m.Global(wt.I64, true, wt.I64Const(0))) })},
		{"more than 50000 locals", build(func(m *wt.Module) {
			m.Declare(m.Type(nil, nil))
			m.RawBody(wt.Code(1, wt.U(1<<32-1), wt.I32, wt.EndOp))
		})},
		{"nested more than", body(many(60_000, wt.BlockOp, wt.Void), many(60_000, wt.EndOp))},
		{"locals and", build(func(m *wt.Module) {
			m.Declare(m.Type(nil, nil))
			m.RawBody(wt.Code(1, wt.U(50_000), wt.I32, many(2_000, wt.BlockOp, wt.Void, wt.EndOp), wt.EndOp))
		})},
		{"branch targets", body(wt.I32Const(0), wt.BrTableOp, wt.U(65_521), many(65_522, 0))},
		{"carry more than", build(func(m *wt.Module) {
			m.Func(m.Type(nil, []byte(strings.Repeat("\x7f", 1000))), nil, wt.I32Const(0), wt.BrTableOp, wt.U(60_000), many(60_001, 0))
		})},
		{"do not fit", []byte("\x00asm\x01\x00\x00\x00\x01\x03\xff\x7f\x60")},
		{"out of order or there twice", []byte("\x00asm\x01\x00\x00\x00\x02\x01\x00\x01\x01\x00")},
		{"is out of range", body(wt.Call(1))},
		{"is out of range", body(wt.GlobalGet(0), wt.Drop)},
		{"there is no local 0", body(wt.Get(0), wt.Drop)},
		{"unknown type", body(wt.BlockOp, wt.S(1), wt.EndOp)},
		{"leaves 2 blocks", body(wt.Br(2))},
		{"goes on behind its end", body(wt.EndOp)},
		{"unexpected end", build(func(m *wt.Module) {
			m.Declare(m.Type(nil, nil))
			m.RawBody(wt.Code(0, wt.BlockOp, wt.Void, wt.EndOp))
		})},
		{"an else without its if", body(wt.ElseOp)},
		{"start function 3 does not exist", build(func(m *wt.Module) { m.Start(3) })},
		{"takes a reference to function 0", body(wt.RefFunc(0), wt.Drop)},
		{"two exports of the name", build(func(m *wt.Module) {
			m.Memory(1)
			m.Export("a", 2, 0)
			m.Export("a", 2, 0)
		})},
		{"more than 200", body(many(200, wt.Nop))},
	} {
		o := meter.Options{MemoryPages: 16, TableElements: 100}
		if tc.message == "more than 200" {
			o.MaxModuleBytes = 200
		}
		if _, err := meter.Rewrite(tc.binary, o); err == nil || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: got %v", tc.message, err)
		}
	}
}

func TestLimitsAreWrittenIntoTheModule(t *testing.T) {
	for _, tc := range []struct {
		limits   []uint32
		min, max uint32
	}{{[]uint32{1}, 1, 16}, {[]uint32{2, 5}, 2, 5}, {[]uint32{2, 65536}, 2, 16}} {
		m, err := meter.Rewrite(build(func(m *wt.Module) { m.Memory(tc.limits...) }), meter.Options{MemoryPages: 16})
		if err != nil || m.MemoryMin != tc.min || m.MemoryMax != tc.max || !m.HasMemory {
			t.Errorf("%v: got %+v, %v", tc.limits, m, err)
		}
	}
}

// TestExportsThatDoNothing are told from others: those with locals too, and not those of the host.
func TestExportsThatDoNothing(t *testing.T) {
	m, err := meter.Rewrite(build(func(m *wt.Module) {
		none, i32 := m.Type(nil, nil), m.Type(nil, []byte{wt.I32})
		m.Export("host", 0, m.Import("env", "f", none))
		m.Memory(1)
		m.Export("nothing", 0, m.Func(none, nil))
		m.Export("locals", 0, m.Func(none, []byte{wt.I32}))
		m.Export("nop", 0, m.Func(none, nil, wt.Nop))
		m.Export("answer", 0, m.Func(i32, nil, wt.I32Const(1)))
		m.Export("memory", 2, 0)
	}), meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"host": false, "nothing": true, "locals": true, "nop": false, "answer": false, "memory": false} {
		if e, ok := m.Export(name); !ok || e.Empty != want {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestNamesAndIndicesMove checks names, imports, exports, the start function, elements and references after the rewrite
// of a module that has all of them, by calling it.
func TestNamesAndIndicesMove(t *testing.T) {
	m := &wt.Module{}
	none, i32 := m.Type(nil, nil), m.Type(nil, []byte{wt.I32})
	m.Import("env", "f", none)
	m.Memory(1)
	m.Table(wt.FuncRef, 4)
	value := m.Global(wt.I32, true, wt.I32Const(0))
	m.Global(wt.FuncRef, false, wt.RefFunc(2))
	start := m.Func(none, nil, wt.I32Const(40), wt.GlobalSet(value))
	two := m.Func(i32, nil, wt.I32Const(2))
	sum := m.Func(i32, nil, wt.GlobalGet(value), wt.I32Const(1), wt.IndirectOp, wt.U(i32), wt.U(0), wt.I32Add)
	ref := m.Func(i32, nil, wt.I32Const(3), wt.RefFunc(two), 0x26, wt.U(0), wt.I32Const(3), wt.IndirectOp, wt.U(i32), wt.U(0))
	m.Start(start)
	m.Elements(1, two)
	m.ElementsRaw(4, wt.I32Const(2), wt.EndOp, wt.U(1), wt.RefFunc(two), wt.EndOp)
	m.Export("sum", 0, sum)
	m.Export("ref", 0, ref)
	m.Names("env.f", "start\nit", "")
	m.Custom(".debug_info", []byte("x"))
	out, err := meter.Rewrite(m.Bytes(), meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"env.f", "wasmgate_meter.refill", "start?it", "", "sum", "ref"}
	if strings.Join(out.Names, ",") != strings.Join(want, ",") {
		t.Errorf("names are %q", out.Names)
	}
	if len(out.Imports) != 1 || out.Imports[0].Module != "env" || len(out.Exports) != 2 || out.Exports[0].Index != 4 {
		t.Errorf("imports %v, exports %v", out.Imports, out.Exports)
	}
	if strings.Contains(string(out.Binary), ".debug_info") {
		t.Error("the debugging information is still there")
	}
	r := newRuntime(t)
	ctx := withRefill(t.Context())
	if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() {}).Export("f").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	mod, err := r.Instantiate(ctx, out.Binary)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"sum": 42, "ref": 2} {
		if got, err := mod.ExportedFunction(name).Call(ctx); err != nil || got[0] != want {
			t.Errorf("%s returns %v, %v", name, got, err)
		}
	}
}
