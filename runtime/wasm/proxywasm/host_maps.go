package proxywasm

import (
	"bytes"
	"time"

	"wasmgate/runtime/wasm"
)

func hostMapSize(v *vm, in *wasm.Instance, a []uint64) status {
	var m fieldMap
	if !v.mapOf(uint32(a[0]), &m) { //nolint:gosec // an i32 is in the low half
		return statusBadArgument
	}
	n, size := m.count()
	in.Charge(int64(2 * n))
	if !put32(in, a[1], uint32(size)) { //nolint:gosec // of a head
		return statusBadMemory
	}
	return statusOK
}

func hostMapPairs(v *vm, in *wasm.Instance, a []uint64) status {
	var m fieldMap
	if !v.mapOf(uint32(a[0]), &m) { //nolint:gosec // an i32 is in the low half
		return statusBadArgument
	}
	v.scratch = m.appendPairs(v.scratch[:0])
	return v.give(in, v.scratch, a[1], a[2])
}

// mapAnd finds the map that a call's first argument names, and the bytes that the next two are.
func (v *vm) mapAnd(in *wasm.Instance, a []uint64, m *fieldMap) ([]byte, status) {
	if !v.mapOf(uint32(a[0]), m) { //nolint:gosec // an i32 is in the low half
		return nil, statusBadArgument
	}
	b, ok := memory(in, a[1], a[2])
	if !ok {
		return nil, statusBadMemory
	}
	return b, statusOK
}

func hostSetMap(v *vm, in *wasm.Instance, a []uint64) status {
	var m fieldMap
	raw, st := v.mapAnd(in, a, &m)
	if st != statusOK {
		return st
	}
	in.Charge(int64(len(raw)))
	p, ok := readPairs(raw)
	if !ok {
		return statusBadArgument
	}
	return m.setAll(in, p)
}

func hostMapValue(v *vm, in *wasm.Instance, a []uint64) status {
	var m fieldMap
	name, st := v.mapAnd(in, a, &m)
	if st != statusOK {
		return st
	}
	value, ok := m.get(name[:min(len(name), maxName)])
	if !ok && v.group.version != version010 {
		return statusNotFound
	}
	return v.give(in, value, a[3], a[4]) // a view, which stays as it is whatever the guest's allocator does
}

func changeField(how edit) hostCall {
	return func(v *vm, in *wasm.Instance, a []uint64) status {
		var m fieldMap
		name, st := v.mapAnd(in, a, &m)
		if st != statusOK {
			return st
		}
		var value []byte
		if how != editRemove {
			var ok bool
			if value, ok = memory(in, a[3], a[4]); !ok {
				return statusBadMemory
			}
		}
		in.Charge(int64(len(name)+len(value)) / 4)
		return m.change(in, how, name, value)
	}
}

// buffer returns the bytes of a buffer, and the body that can be changed through it, if it is one.
func (v *vm) buffer(id uint32) (b []byte, d *side, there bool) {
	c := v.effectiveContext()
	switch id {
	case bufferVMConfig:
		return v.group.vmConfig, nil, true
	case bufferConfig:
		return v.owner().options.Config, nil, true
	case bufferCall:
		if v.answer == nil {
			return nil, nil, false
		}
		return v.answer.Answer, nil, true
	case bufferGRPC:
		return v.received, nil, v.receiving
	case bufferRequest, bufferResponse, bufferDownstream, bufferUpstream:
		if c == nil || c.stream == nil || c.stream.tcp != (id >= bufferDownstream) {
			return nil, nil, false
		}
		d = &c.stream.req
		if id == bufferResponse || id == bufferUpstream {
			d = &c.stream.resp
		}
		return d.body, d, d.shown
	}
	return nil, nil, false
}

// span returns b from start on, at most n bytes of it.
func span(b []byte, start, n uint32) []byte {
	b = b[min(int64(start), int64(len(b))):]
	return b[:min(int64(n), int64(len(b)))]
}

func hostBuffer(v *vm, in *wasm.Instance, a []uint64) status {
	if uint32(a[0]) >= buffers { //nolint:gosec // i32s are in the low halves
		return statusBadArgument
	}
	b, _, ok := v.buffer(uint32(a[0])) //nolint:gosec // see above
	if !ok {
		return statusNotFound
	}
	return v.give(in, span(b, uint32(a[1]), uint32(a[2])), a[3], a[4]) //nolint:gosec // see above
}

func hostBufferStatus(v *vm, in *wasm.Instance, a []uint64) status {
	if uint32(a[0]) >= buffers { //nolint:gosec // i32s are in the low halves
		return statusBadArgument
	}
	b, _, ok := v.buffer(uint32(a[0])) //nolint:gosec // see above
	if !ok {
		return statusNotFound
	}
	if !put32(in, a[1], uint32(len(b))) || !put32(in, a[2], 0) { //nolint:gosec // bounded
		return statusBadMemory
	}
	return statusOK
}

func hostSetBuffer(v *vm, in *wasm.Instance, a []uint64) status {
	if uint32(a[0]) >= buffers { //nolint:gosec // i32s are in the low halves
		return statusBadArgument
	}
	b, d, ok := v.buffer(uint32(a[0])) //nolint:gosec // see above
	if !ok {
		return statusNotFound
	}
	data, ok := memory(in, a[3], a[4])
	switch {
	case !ok:
		return statusBadMemory
	case d == nil:
		return statusBadArgument
	}
	in.Charge(int64(len(data)+len(b)) / 4)
	if len(b)+len(data) > 2*v.owner().options.MaxBody {
		return statusInternal
	}
	d.splice(int(uint32(a[1])), int(uint32(a[2])), data) //nolint:gosec // see above
	return statusOK
}

// hostConfiguration is get_configuration of 0.1.0: the VM's in on_vm_start, the plugin's in on_configure.
func hostConfiguration(v *vm, in *wasm.Instance, a []uint64) status {
	config := v.owner().options.Config
	if v.phase == "start" {
		config = v.group.vmConfig
	}
	return v.give(in, config, a[0], a[1])
}

func hostProperty(v *vm, in *wasm.Instance, a []uint64) status {
	path, ok := memory(in, a[0], a[1])
	if !ok {
		return statusBadMemory
	}
	if len(path) > maxName {
		return statusNotFound
	}
	path = bytes.TrimSuffix(path, []byte{0})
	in.Charge(int64(len(path)))
	if v.scratch, ok = v.property(v.scratch[:0], path); !ok {
		return statusNotFound
	}
	return v.give(in, v.scratch, a[2], a[3])
}

func hostSetProperty(v *vm, in *wasm.Instance, a []uint64) status {
	path, ok := memory(in, a[0], a[1])
	value, ok2 := memory(in, a[2], a[3])
	if !ok || !ok2 {
		return statusBadMemory
	}
	in.Charge(int64(len(path) + len(value)))
	c := v.effectiveContext()
	if c == nil || c.root == nil || len(path) > maxName {
		return statusBadArgument
	}
	p := c.root.properties
	switch {
	case c.stream != nil:
		p = c.stream.propertiesOf(true)
	case p == nil:
		p = &properties{}
		c.root.properties = p
	}
	if !p.set(bytes.TrimSuffix(path, []byte{0}), value) {
		return statusBadArgument
	}
	return statusOK
}

func hostTime(v *vm, in *wasm.Instance, a []uint64) status {
	now := time.Now().UnixNano()
	if v.loop != nil {
		now = v.loop.WallNow()
	}
	if !put64(in, a[0], uint64(now)) { //nolint:gosec // after 1970
		return statusBadMemory
	}
	return statusOK
}

func hostTick(v *vm, _ *wasm.Instance, a []uint64) status {
	r := v.rootOf()
	if r == nil {
		return statusBadArgument
	}
	period := time.Duration(uint32(a[0])) * time.Millisecond //nolint:gosec // an i32 is in the low half
	if period > 0 {
		period = max(period, minTick)
	}
	r.arm(period)
	return statusOK
}
