package native

import (
	"wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/sdk/abi"
)

// guestModule is a module for tests, built by hand: its functions return constants and copy prepared bytes, or are
// given as code. Unlike an SDK it can do anything wrong.
type guestModule struct {
	pages    uint32    // of memory; default 4
	arenas   [2]uint64 // default: 8 KiB at 0x1000, 8 KiB at 0x4000
	manifest []byte
	// configured, request and response are the answers; for operations they are made of the list.
	configured, request, response uint64
	list, responseList            []byte
	noResponse                    bool
	requestCode, resizeCode       []byte // instead of what the above makes
	initCode                      []byte // _initialize
	bodyCode, tickCode            []byte // if there are such exports
	configureCode                 []byte // runs before what the above makes
	data                          map[uint32][]byte
	rename                        map[string]string
	extraImports                  []string // of module wasmgate_v1, with type (i32)
}

// The opcodes that the tests use.
const (
	opUnreachable, opLoop, opIf, opElse, opEnd, opBr       = 0x00, 0x03, 0x04, 0x05, 0x0b, 0x0c
	opCall, opDrop, opLocalGet                             = 0x10, 0x1a, 0x20
	opMemoryGrow, opI32Const, opI64Const                   = 0x40, 0x41, 0x42
	void, typeI64, typeI32, typeF64                        = 0x40, 0x7e, 0x7f, 0x7c
	opI64Load, opI64Store, opI64Extend, opI64Add, opI32And = 0x29, 0x37, 0xad, 0x7c, 0x71
)

func i32(v uint32) []byte { return append([]byte{opI32Const}, wasmtest.S(int64(int32(v)))...) }
func i64(v uint64) []byte { return append([]byte{opI64Const}, wasmtest.S(int64(v))...) }

func code(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func copyMemory(to, from, n uint32) []byte {
	return code(i32(to), i32(from), i32(n), 0xfc, 0x0a, 0, 0)
}

func fillMemory(to, value, n uint32) []byte {
	return code(i32(to), i32(value), i32(n), 0xfc, 0x0b, 0)
}

func section(id byte, items ...[]byte) []byte {
	var body []byte
	body = append(body, wasmtest.U(uint32(len(items)))...)
	for _, it := range items {
		body = append(body, it...)
	}
	return append(append([]byte{id}, wasmtest.U(uint32(len(body)))...), body...)
}

func bytesOf(b []byte) []byte { return append(wasmtest.U(uint32(len(b))), b...) }

const (
	manifestAt = 0x8000
	listAt     = 0x10000
	responseAt = 0x20000
)

// The indices of the imported functions.
const (
	callLog = iota
	callGetHeader
	callCall
	callCallAnswer
	callKVGet
	callKVSet
	callKVDelete
	callKVAdd
	callReadBody
	callMetric
)

// build assembles the module.
func (g guestModule) build() []byte {
	if g.pages == 0 {
		g.pages = 4
	}
	arenas := g.arenas
	if arenas == [2]uint64{} {
		arenas = [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x2000, 0x4000)}
	}
	if g.manifest != nil && g.configured == 0 {
		g.configured = uint64(len(g.manifest))
	}
	_, answerAt := abi.Unpack(arenas[1])
	put := func(from uint32, b []byte, answer uint64) []byte {
		if b == nil {
			return i64(answer)
		}
		if answer == 0 {
			answer = abi.Pack(uint32(abi.CodeOperations), uint32(len(b)))
		}
		return code(copyMemory(answerAt, from, uint32(len(b))), i64(answer))
	}
	if g.requestCode == nil {
		g.requestCode = put(listAt, g.list, g.request)
	}
	manifestCode := i64(g.configured)
	if g.manifest != nil {
		manifestCode = code(copyMemory(answerAt, manifestAt, uint32(len(g.manifest))), i64(g.configured))
	}
	manifestCode = code(g.configureCode, manifestCode)
	type function struct {
		name string
		typ  byte
		code []byte
	}
	functions := []function{
		{abi.ExportArena, 0, code(opLocalGet, 0, opIf, typeI64, i64(arenas[1]), opElse, i64(arenas[0]), opEnd)},
		{abi.ExportConfigure, 0, manifestCode},
		{abi.ExportRequest, 0, g.requestCode},
	}
	if !g.noResponse {
		functions = append(functions, function{abi.ExportResponse, 0, put(responseAt, g.responseList, g.response)})
	}
	if g.resizeCode != nil {
		functions = append(functions, function{abi.ExportResize, 1, g.resizeCode})
	}
	if g.initCode != nil {
		functions = append(functions, function{abi.ExportInit, 2, g.initCode})
	}
	if g.bodyCode != nil {
		functions = append(functions, function{abi.ExportBody, 0, g.bodyCode})
	}
	if g.tickCode != nil {
		functions = append(functions, function{abi.ExportTick, 0, g.tickCode})
	}
	types := [][]byte{
		{0x60, 1, typeI32, 1, typeI64}, {0x60, 2, typeI32, typeI32, 1, typeI64}, {0x60, 0, 0},
		{0x60, 3, typeI32, typeI32, typeI32, 0}, {0x60, 6, typeI32, typeI32, typeI32, typeI32, typeI32, typeI32, 1, typeI32},
		{0x60, 1, typeI32, 0},
		{0x60, 5, typeI32, typeI32, typeI32, typeI32, typeI32, 1, typeI64}, {0x60, 2, typeI32, typeI32, 1, typeI32},
		{0x60, 7, typeI32, typeI32, typeI32, typeI32, typeI32, typeI32, typeI64, 1, typeI64}, {0x60, 4, typeI32, typeI32, typeI32, typeI32, 1, typeI64},
		{0x60, 6, typeI32, typeI32, typeI32, typeI64, typeI64, typeI32, 1, typeI32}, {0x60, 4, typeI32, typeI32, typeI32, typeI32, 1, typeI32},
		{0x60, 2, typeI32, typeF64, 0},
	}
	imported := func(name string, typ byte) []byte {
		return append(append(bytesOf([]byte(abi.Module)), bytesOf([]byte(name))...), 0, typ)
	}
	imports := [][]byte{
		imported(abi.ImportLog, 3), imported(abi.ImportGetHeader, 4), imported(abi.ImportCall, 6), imported(abi.ImportCallAnswer, 7),
		imported(abi.ImportKVGet, 6), imported(abi.ImportKVSet, 8), imported(abi.ImportKVDelete, 9), imported(abi.ImportKVAdd, 10),
		imported(abi.ImportReadBody, 11), imported(abi.ImportMetric, 12),
	}
	for _, n := range g.extraImports {
		imports = append(imports, imported(n, 5))
	}
	var decls, bodies [][]byte
	exports := [][]byte{append(bytesOf([]byte("memory")), 2, 0)}
	for i, f := range functions {
		decls = append(decls, []byte{f.typ})
		bodies = append(bodies, bytesOf(append(append([]byte{0}, f.code...), opEnd)))
		name := f.name
		if n, ok := g.rename[name]; ok {
			name = n
		}
		exports = append(exports, append(append(bytesOf([]byte(name)), 0), wasmtest.U(uint32(len(imports)+i))...))
	}
	segment := func(at uint32, b []byte) []byte { return code(0, i32(at), opEnd, bytesOf(b)) }
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = append(m, section(1, types...)...)
	m = append(m, section(2, imports...)...)
	m = append(m, section(3, decls...)...)
	m = append(m, section(5, append([]byte{0}, wasmtest.U(g.pages)...))...)
	m = append(m, section(7, exports...)...)
	m = append(m, section(10, bodies...)...)
	segments := [][]byte{segment(manifestAt, g.manifest), segment(listAt, g.list), segment(responseAt, g.responseList)}
	for at, b := range g.data {
		segments = append(segments, segment(at, b))
	}
	return append(m, section(11, segments...)...)
}
