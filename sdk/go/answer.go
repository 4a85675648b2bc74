package wasmgate

import (
	"unsafe"

	"wasmgate/sdk/abi"
)

// arenaSize is the capacity of each arena at the start.
const arenaSize = 64 << 10

// in is the request arena.
var in = make([]byte, arenaSize)

// out is the answer under way. Its buffer is the published arena until an answer outgrows it.
var out = answer{arena: make([]byte, arenaSize)}

type answer struct {
	arena []byte // as the host knows it
	buf   []byte // what was written
}

func (a *answer) begin() { a.buf = a.arena[:0] }

// settle makes sure that the answer is where the host looks: in the arena, if it is no longer than that.
func (a *answer) settle() uint32 {
	if n := len(a.buf); n > 0 && n <= len(a.arena) && &a.buf[0] != &a.arena[0] {
		copy(a.arena, a.buf)
		a.buf = a.arena[:n]
	}
	return uint32(len(a.buf)) //nolint:gosec // addresses have 32 bits
}

func (a *answer) text(s string) uint64 {
	a.buf = append(a.arena[:0], s[:min(len(s), abi.MaxText)]...)
	return abi.Pack(uint32(abi.CodeError), a.settle())
}

// finish turns the handler's decision and the edits before it into the answer.
func (a *answer) finish(d Decision) uint64 {
	switch {
	case d.code == abi.CodeError:
		return a.text(d.text)
	case d.code == abi.CodeReplace && len(a.buf) == 0:
		a.buf = append(a.buf, d.data...)
		return abi.Pack(uint32(abi.CodeReplace), a.settle())
	case d.code == abi.CodeReplace:
		a.buf = abi.AppendOpText(a.buf, abi.OpSetBody, d.data)
	case d.code == abi.CodeNoMatch || len(a.buf) == 0 && d.code != abi.CodeOperations:
		return abi.Pack(uint32(d.code), d.value)
	case d.code == abi.CodeRoute:
		a.buf = abi.AppendOp32(a.buf, abi.OpUpstream, d.value)
	case d.code == abi.CodeDeny && d.value == 0:
		a.buf = abi.AppendRespond(a.buf, abi.DefaultDeny, "")
	case d.code == abi.CodeDeny:
		a.buf = abi.AppendRespond(a.buf, d.value, "")
	}
	return abi.Pack(uint32(abi.CodeOperations), a.settle())
}

// arena answers wasmgate_v1_arena.
func arena(which uint32) uint64 {
	switch which {
	case abi.RequestArena:
		return place(in)
	case abi.AnswerArena:
		return place(out.arena)
	}
	return 0
}

// resize answers wasmgate_v1_resize: a new request arena, or where the answer that outgrew its arena is.
func resize(which, need uint32) uint64 {
	switch which {
	case abi.RequestArena:
		in = make([]byte, max(int(need), 2*len(in)))
		return place(in)
	case abi.AnswerArena:
		out.arena = out.buf[:cap(out.buf)]
		return place(out.arena)
	}
	return 0
}

func place(b []byte) uint64 {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return abi.Pack(uint32(len(b)), uint32(p)) //nolint:gosec // addresses have 32 bits where the host asks
}

// view makes a string of the bytes of a message without copying.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
