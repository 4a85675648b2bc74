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
