package meter

// immediate says what follows an opcode.
type immediate uint8

const (
	immUnknown immediate = iota
	immNone
	immBlock // block type
	immLabel
	immBrTable
	immCall
	immCallIndirect
	immLocal
	immGlobal
	immMemArg
	immMemory // the memory's index, 0
	immI32
	immI64
	immF32
	immF64
	immSelect // a vector of types
	immTable
	immRefNull
	immRefFunc
	immEnd
	immElse
	immBulk   // prefix 0xfc
	immVector // prefix 0xfd
)

// The opcodes that the rewrite names.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opElse        = 0x05
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opReturn      = 0x0f
	opCall        = 0x10
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemoryGrow  = 0x40
	opI64Const    = 0x42
	opI64LtS      = 0x53
	opI64GeS      = 0x59
	opI64Add      = 0x7c
	opI64Sub      = 0x7d
	opI64ShrU     = 0x88
	opI64ExtendU  = 0xad
	opRefFunc     = 0xd2
	opPrefixBulk  = 0xfc
)

// Weights of instructions that take much longer than one unit of about half a nanosecond.
const (
	costCall     = 4
	costIndirect = 32 // and for a callee that does not pay for itself
	costDivide   = 8  // integer division and remainder
	costRoot     = 4  // floating-point division and square root
	costBulk     = 16 // the fixed part of a bulk operation
	costGrow     = 64
)

type opcode struct {
	imm  immediate
	cost uint8
}

var opcodes = func() (t [256]opcode) {
	set := func(from, to int, imm immediate, cost uint8) {
		for i := from; i <= to; i++ {
			t[i] = opcode{imm, cost}
		}
	}
	set(0x00, 0x01, immNone, 1)
	set(0x02, 0x04, immBlock, 1)
	set(0x05, 0x05, immElse, 1)
	set(0x0b, 0x0b, immEnd, 1)
	set(0x0c, 0x0d, immLabel, 1)
	set(0x0e, 0x0e, immBrTable, 2)
	set(0x0f, 0x0f, immNone, 1)
	set(0x10, 0x10, immCall, costCall)
	set(0x11, 0x11, immCallIndirect, costIndirect)
	set(0x1a, 0x1b, immNone, 1)
	set(0x1c, 0x1c, immSelect, 1)
	set(0x20, 0x22, immLocal, 1)
	set(0x23, 0x24, immGlobal, 1)
	set(0x25, 0x26, immTable, 1)
	set(0x28, 0x3e, immMemArg, 1)
	set(0x3f, 0x3f, immMemory, 1)
	set(0x40, 0x40, immMemory, costGrow)
	set(0x41, 0x41, immI32, 1)
	set(0x42, 0x42, immI64, 1)
	set(0x43, 0x43, immF32, 1)
	set(0x44, 0x44, immF64, 1)
	set(0x45, 0xc4, immNone, 1)
	set(0x6d, 0x70, immNone, costDivide) // i32
	set(0x7f, 0x82, immNone, costDivide) // i64
	set(0x91, 0x91, immNone, costRoot)   // f32.sqrt
	set(0x95, 0x95, immNone, costRoot)   // f32.div
	set(0x9f, 0x9f, immNone, costRoot)   // f64.sqrt
	set(0xa3, 0xa3, immNone, costRoot)   // f64.div
	set(0xd0, 0xd0, immRefNull, 1)
	set(0xd1, 0xd1, immNone, 1)
	set(0xd2, 0xd2, immRefFunc, 1)
	set(0xfc, 0xfc, immBulk, 1)
	set(0xfd, 0xfd, immVector, 1)
	return t
}()

// featureOf names the feature that an opcode belongs to that is not in the table.
func featureOf(op byte) string {
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		return "exceptions"
	case op == 0x12, op == 0x13, op == 0x15:
		return "tail calls"
	case op == 0x14, op >= 0xd4 && op <= 0xd6:
		return "typed function references"
	case op == 0xd3, op == 0xfb:
		return "garbage-collected references"
	case op == 0xfe:
		return "threads"
	case op >= 0xe0 && op <= 0xe6:
		return "stack switching"
	}
	return ""
}

// The instructions of prefix 0xfc from which on a length is paid for.
const (
	bulkMemoryInit = 8
	bulkDataDrop   = 9
	bulkMemoryCopy = 10
	bulkMemoryFill = 11
	bulkTableInit  = 12
	bulkElemDrop   = 13
	bulkTableCopy  = 14
	bulkTableGrow  = 15
	bulkTableSize  = 16
	bulkTableFill  = 17
)

// bulkShift is the power of two by which a bulk operation's length is divided to be paid for; ok is false for
// instructions of the prefix that have no length.
func bulkShift(sub uint32) (shift byte, ok bool) {
	switch sub {
	case bulkMemoryInit, bulkMemoryCopy, bulkMemoryFill:
		return 3, true // BytesPerUnit
	case bulkTableInit, bulkTableCopy, bulkTableGrow, bulkTableFill:
		return 0, true
	}
	return 0, false
}

// vectorImmediate reads what follows a SIMD opcode; false if the opcode is not one.
func vectorImmediate(r *reader, sub uint32) bool {
	switch {
	case sub <= 11, sub == 0x5c, sub == 0x5d:
		r.memArg()
	case sub == 12, sub == 13:
		r.bytes(16)
	case sub >= 0x15 && sub <= 0x22:
		r.byte()
	case sub >= 0x54 && sub <= 0x5b:
		r.memArg()
		r.byte()
	default:
		return sub <= 0xff
	}
	return true
}

func (r *reader) memArg() {
	align := r.u32()
	if r.err == nil && align >= 32 {
		if align&0x40 != 0 {
			r.unsupported("several memories", "a memory access names its memory")
		} else {
			r.fail("an alignment of 2^%d", align)
		}
	}
	r.u32()
}
