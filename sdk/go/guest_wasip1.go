package wasmgate

import (
	"unsafe"
)

//go:wasmexport wasmgate_v1_arena
func exportArena(which uint32) uint64 { return arena(which) }

//go:wasmexport wasmgate_v1_configure
func exportConfigure(n uint32) uint64 { return configure(in[:n:n]) }

//go:wasmexport wasmgate_v1_request
func exportRequest(n uint32) uint64 { return request(in[:n:n]) }

//go:wasmexport wasmgate_v1_response
func exportResponse(n uint32) uint64 { return response(in[:n:n]) }

//go:wasmexport wasmgate_v1_resize
func exportResize(which, need uint32) uint64 { return resize(which, need) }

//go:wasmimport wasmgate_v1 log
func importLog(level uint32, ptr unsafe.Pointer, n uint32)

//go:wasmimport wasmgate_v1 get_header
func importGetHeader(message uint32, name unsafe.Pointer, nameLen, index uint32, out unsafe.Pointer, room uint32) int32

// Log writes a line to the gateway's log at once. The gateway limits how many lines a plugin writes.
func Log(level Level, text string) {
	importLog(uint32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

func lookup(dst []byte, message uint32, name string, k int) ([]byte, bool) {
	for {
		room := dst[len(dst):cap(dst)]
		n := importGetHeader(message, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), uint32(k),
			unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
		switch {
		case n < 0:
			return dst, false
		case int(n) <= len(room):
			return dst[:len(dst)+int(n)], true
		}
		grown := make([]byte, len(dst), len(dst)+int(n))
		copy(grown, dst)
		dst = grown
	}
}

//go:wasmexport wasmgate_v1_body
func exportBody(n uint32) uint64 { return piece(in[:n:n]) }

//go:wasmexport wasmgate_v1_tick
func exportTick(n uint32) uint64 { return tick(in[:n:n]) }

//go:wasmimport wasmgate_v1 call
func importCall(upstream uint32, request unsafe.Pointer, n uint32, out unsafe.Pointer, room uint32) uint64

//go:wasmimport wasmgate_v1 call_answer
func importCallAnswer(out unsafe.Pointer, room uint32) int32

//go:wasmimport wasmgate_v1 kv_get
func importKVGet(store uint32, key unsafe.Pointer, n uint32, out unsafe.Pointer, room uint32) uint64

//go:wasmimport wasmgate_v1 kv_set
func importKVSet(store uint32, key unsafe.Pointer, n uint32, value unsafe.Pointer, size, version uint32, ttl uint64) uint64

//go:wasmimport wasmgate_v1 kv_delete
func importKVDelete(store uint32, key unsafe.Pointer, n, version uint32) uint64

//go:wasmimport wasmgate_v1 kv_add
func importKVAdd(store uint32, key unsafe.Pointer, n uint32, delta int64, ttl uint64, out unsafe.Pointer) uint32

//go:wasmimport wasmgate_v1 read_body
func importReadBody(message, offset uint32, out unsafe.Pointer, room uint32) int32

//go:wasmimport wasmgate_v1 metric
func importMetric(id uint32, value float64)

func hostCall(s uint32, request, room []byte) uint64 {
	return importCall(s, unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request)), unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
}

func hostCallAnswer(room []byte) {
	importCallAnswer(unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
}

func hostKVGet(s uint32, key string, room []byte) uint64 {
	return importKVGet(s, unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
}

func hostKVSet(s uint32, key string, value []byte, version uint32, ttl uint64) uint64 {
	return importKVSet(s, unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), unsafe.Pointer(unsafe.SliceData(value)), uint32(len(value)), version, ttl)
}

func hostKVDelete(s uint32, key string, version uint32) uint64 {
	return importKVDelete(s, unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), version)
}

func hostKVAdd(s uint32, key string, delta int64, ttl uint64, sum *int64) uint32 {
	return importKVAdd(s, unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), delta, ttl, unsafe.Pointer(sum))
}

func hostReadBody(message, offset uint32, room []byte) int32 {
	return importReadBody(message, offset, unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
}

func hostMetric(id uint32, v float64) { importMetric(id, v) }
