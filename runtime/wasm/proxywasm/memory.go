package proxywasm

import (
	"encoding/binary"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm"
)

// alloc has the guest give n bytes of its memory, above 0. What it gives is checked. A guest that fails over it ends.
func (v *vm) alloc(in *wasm.Instance, n int) (ptr uint32, b []byte) {
	if v.depth >= nested {
		in.Failf(fault.PluginTrap, "the guest's allocator and the host call each other too deeply")
	}
	stack := v.stacks[v.depth][:1]
	stack[0] = uint64(n) //nolint:gosec // above 0
	v.depth++
	v.alone++
	current, effective := v.current, v.effective
	err := in.Call(v.group.functions[onAllocate].f, stack)
	v.current, v.effective = current, effective
	v.alone--
	v.depth--
	if err != nil {
		in.Fail(fault.From(err))
	}
	ptr = uint32(stack[0]) //nolint:gosec // an i32 is in the low half
	b, ok := in.Bytes(ptr, uint32(n))
	if ptr == 0 || !ok || len(b) < n {
		in.Failf(fault.PluginMemory, "the guest's allocator was asked for %d bytes and gave 0x%x, which is not that many bytes of its memory", n, ptr)
	}
	return ptr, b
}

// give puts bytes into memory that the guest allocates, and tells it where and how many. No bytes are a null pointer.
func (v *vm) give(in *wasm.Instance, data []byte, ptrAt, sizeAt uint64) status {
	var ptr uint32
	if len(data) > 0 {
		in.Charge(int64(len(data)))
		var b []byte
		ptr, b = v.alloc(in, len(data))
		copy(b, data)
	}
	if !put32(in, ptrAt, ptr) || !put32(in, sizeAt, uint32(len(data))) { //nolint:gosec // it fits into the guest's memory
		return statusBadMemory
	}
	return statusOK
}

// memory returns n bytes of the guest's. No bytes are anywhere.
func memory(in *wasm.Instance, ptr, n uint64) ([]byte, bool) {
	if uint32(n) == 0 { //nolint:gosec // i32s are in the low halves
		return nil, true
	}
	b, ok := in.Bytes(uint32(ptr), uint32(n)) //nolint:gosec // see above
	return b, ok
}

func put32(in *wasm.Instance, at uint64, v uint32) bool {
	b, ok := in.Bytes(uint32(at), 4) //nolint:gosec // an i32 is in the low half
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

func put64(in *wasm.Instance, at, v uint64) bool {
	b, ok := in.Bytes(uint32(at), 8) //nolint:gosec // an i32 is in the low half
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}
