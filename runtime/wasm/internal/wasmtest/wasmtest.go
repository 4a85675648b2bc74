// Package wasmtest builds small WebAssembly modules for tests, byte by byte, so that no assembler is needed. It checks
// nothing: what it builds may be as wrong as a test wants it.
package wasmtest

import "encoding/binary"

// Value types.
const (
	I32       = 0x7f
	I64       = 0x7e
	F32       = 0x7d
	F64       = 0x7c
	V128      = 0x7b
	FuncRef   = 0x70
	ExternRef = 0x6f
	Void      = 0x40 // as a block type
)

// Opcodes that tests use.
const (
	Unreachable  = 0x00
	Nop          = 0x01
	BlockOp      = 0x02
	LoopOp       = 0x03
	IfOp         = 0x04
	ElseOp       = 0x05
	EndOp        = 0x0b
	BrOp         = 0x0c
	BrIfOp       = 0x0d
	BrTableOp    = 0x0e
	ReturnOp     = 0x0f
	CallOp       = 0x10
	IndirectOp   = 0x11
	Drop         = 0x1a
	Select       = 0x1b
	LocalGetOp   = 0x20
	LocalSetOp   = 0x21
	LocalTeeOp   = 0x22
	GlobalGetOp  = 0x23
	GlobalSetOp  = 0x24
	I32LoadOp    = 0x28
	I32StoreOp   = 0x36
	MemorySizeOp = 0x3f
	MemoryGrowOp = 0x40
	I32ConstOp   = 0x41
	I64ConstOp   = 0x42
	I32Eqz       = 0x45
	I32Eq        = 0x46
	I32LtU       = 0x49
	I32Add       = 0x6a
	I32Sub       = 0x6b
	I32Mul       = 0x6c
	I32DivU      = 0x6e
	I32And       = 0x71
	I32Or        = 0x72
	I32Xor       = 0x73
	I32Shl       = 0x74
	I32ShrU      = 0x76
	I64Add       = 0x7c
	RefNullOp    = 0xd0
	RefFuncOp    = 0xd2
)

// Code joins pieces of code: bytes, ints (one byte each) and byte slices.
func Code(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case byte:
			b = append(b, p)
		case []byte:
			b = append(b, p...)
		default:
			panic("wasmtest: code is made of ints, bytes and byte slices")
		}
	}
	return b
}

// U is an unsigned LEB128.
func U(v uint32) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// S is a signed LEB128.
func S(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Instructions with an operand.
func I32Const(v int32) []byte       { return Code(I32ConstOp, S(int64(v))) }
func I64Const(v int64) []byte       { return Code(I64ConstOp, S(v)) }
func Get(i uint32) []byte           { return Code(LocalGetOp, U(i)) }
func Set(i uint32) []byte           { return Code(LocalSetOp, U(i)) }
func Tee(i uint32) []byte           { return Code(LocalTeeOp, U(i)) }
func GlobalGet(i uint32) []byte     { return Code(GlobalGetOp, U(i)) }
func GlobalSet(i uint32) []byte     { return Code(GlobalSetOp, U(i)) }
func Call(f uint32) []byte          { return Code(CallOp, U(f)) }
func Br(l uint32) []byte            { return Code(BrOp, U(l)) }
func BrIf(l uint32) []byte          { return Code(BrIfOp, U(l)) }
func RefFunc(f uint32) []byte       { return Code(RefFuncOp, U(f)) }
func I32Load(offset uint32) []byte  { return Code(I32LoadOp, 2, U(offset)) }
func I32Store(offset uint32) []byte { return Code(I32StoreOp, 2, U(offset)) }

// BrTable is br_table; the last label is the default.
func BrTable(labels ...uint32) []byte {
	b := Code(BrTableOp, U(uint32(len(labels)-1)))
	for _, l := range labels {
		b = append(b, U(l)...)
	}
	return b
}

// Block, Loop and If are blocks without a value, or with another type if one is given first.
func Block(body ...any) []byte { return Code(BlockOp, Void, Code(body...), EndOp) }
func Loop(body ...any) []byte  { return Code(LoopOp, Void, Code(body...), EndOp) }
func If(body ...any) []byte    { return Code(IfOp, Void, Code(body...), EndOp) }

// Memory instructions.
var (
	MemoryFill = []byte{0xfc, 11, 0}
	MemoryCopy = []byte{0xfc, 10, 0, 0}
	MemoryGrow = []byte{0x40, 0}
	MemorySize = []byte{0x3f, 0}
)

// Module is a module being built. Indices are what the format says: imports come first.
type Module struct {
	sections [14][]byte
	counts   [14]uint32
	raw      []byte
}

var order = [...]int{1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11}

func (m *Module) add(section int, b ...any) uint32 {
	m.sections[section] = append(m.sections[section], Code(b...)...)
	m.counts[section]++
	return m.counts[section] - 1
}

func name(s string) []byte { return Code(U(uint32(len(s))), []byte(s)) }

// Type adds a function type.
func (m *Module) Type(params, results []byte) uint32 {
	return m.add(1, 0x60, U(uint32(len(params))), params, U(uint32(len(results))), results)
}

// Import adds an imported function, and must be called before Func.
func (m *Module) Import(module, function string, t uint32) uint32 {
	return m.add(2, name(module), name(function), 0, U(t))
}

// ImportRaw adds an import of another kind.
func (m *Module) ImportRaw(module, field string, desc ...any) {
	m.add(2, name(module), name(field), Code(desc...))
}

// Func adds a function with locals of the types given; the body's end is added. It returns the index among all functions.
func (m *Module) Func(t uint32, locals []byte, body ...any) uint32 {
	i := m.add(3, U(t))
	b := U(uint32(len(locals)))
	for _, l := range locals {
		b = append(b, 1, l)
	}
	m.RawBody(Code(b, Code(body...), EndOp))
	return m.counts[2] + i
}

// Declare adds a function without a body, for RawBody.
func (m *Module) Declare(t uint32) uint32 { return m.counts[2] + m.add(3, U(t)) }

// RawBody adds a body.
func (m *Module) RawBody(b []byte) { m.add(10, U(uint32(len(b))), b) }

// Table adds a table of references.
func (m *Module) Table(ref byte, limits ...uint32) { m.add(4, ref, limit(limits)) }

// Memory adds a memory: a minimum, and a maximum if there is one.
func (m *Module) Memory(limits ...uint32) { m.add(5, limit(limits)) }

// MemoryRaw adds a memory of any form.
func (m *Module) MemoryRaw(b ...any) { m.add(5, Code(b...)) }

func limit(l []uint32) []byte {
	if len(l) == 1 {
		return Code(0, U(l[0]))
	}
	return Code(1, U(l[0]), U(l[1]))
}

// Global adds a global with that constant.
func (m *Module) Global(t byte, mutable bool, init ...any) uint32 {
	mut := 0
	if mutable {
		mut = 1
	}
	return m.add(6, t, mut, Code(init...), EndOp)
}

// Export exports a function (kind 0), table (1), memory (2) or global (3).
func (m *Module) Export(n string, kind byte, i uint32) { m.add(7, name(n), kind, U(i)) }

// Start sets the start function.
func (m *Module) Start(f uint32) { m.sections[8] = U(f) }

// Elements adds an active segment for table 0.
func (m *Module) Elements(offset int32, funcs ...uint32) {
	b := Code(0, I32Const(offset), EndOp, U(uint32(len(funcs))))
	for _, f := range funcs {
		b = append(b, U(f)...)
	}
	m.add(9, b)
}

// ElementsRaw adds a segment of any form.
func (m *Module) ElementsRaw(b ...any) { m.add(9, Code(b...)) }

// Data adds an active segment, or a passive one where offset is negative.
func (m *Module) Data(offset int32, b []byte) {
	if offset < 0 {
		m.add(11, 1, U(uint32(len(b))), b)
		return
	}
	m.add(11, 0, I32Const(offset), EndOp, U(uint32(len(b))), b)
}

// DataCount adds the section that announces data segments.
func (m *Module) DataCount(n uint32) { m.sections[12] = U(n) }

// Tags adds a tag section with one tag.
func (m *Module) Tags(t uint32) { m.add(13, 0, U(t)) }

// Custom adds a custom section at the end.
func (m *Module) Custom(n string, b []byte) {
	c := Code(name(n), b)
	m.raw = Code(m.raw, 0, U(uint32(len(c))), c)
}

// Names adds a name section with names of functions, by index.
func (m *Module) Names(names ...string) {
	b := U(uint32(len(names)))
	for i, n := range names {
		b = Code(b, U(uint32(i)), name(n))
	}
	m.Custom("name", Code(1, U(uint32(len(b))), b))
}

// Bytes is the module.
func (m *Module) Bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range order {
		s := m.sections[id]
		switch {
		case len(s) == 0:
			continue
		case id != 8 && id != 12:
			s = Code(U(m.counts[id]), s)
		}
		out = Code(out, id, U(uint32(len(s))), s)
	}
	return append(out, m.raw...)
}
