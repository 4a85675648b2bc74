//go:build wasip1

// policy is a guest in Go as the standard compiler builds it: it counts requests in its own memory, says so in a field of
// the request, reads the body, and signs the answer.
package main

import (
	"fmt"
	"strings"
	"unsafe"
)

//go:wasmimport http_handler enable_features
func enableFeatures(features uint32) uint32

//go:wasmimport http_handler get_config
func getConfig(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler get_uri
func getURI(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_header_value
func setHeaderValue(kind uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32)

//go:wasmimport http_handler read_body
func readBody(kind uint32, buf unsafe.Pointer, limit uint32) uint64

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

var (
	config string
	calls  = map[string]int{}
)

func init() {
	enableFeatures(3)
	config = text(getConfig)
}

func main() {}

// text reads a string of any length.
func text(get func(unsafe.Pointer, uint32) uint32) string {
	buf := make([]byte, 16)
	for {
		n := get(unsafe.Pointer(&buf[0]), uint32(len(buf)))
		if n <= uint32(len(buf)) {
			return string(buf[:n])
		}
		buf = make([]byte, n)
	}
}

func set(kind uint32, name, value string) {
	setHeaderValue(kind, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), unsafe.Pointer(unsafe.StringData(value)), uint32(len(value)))
}

func body(kind uint32) string {
	var b strings.Builder
	buf := make([]byte, 1000)
	for {
		got := readBody(kind, unsafe.Pointer(&buf[0]), uint32(len(buf)))
		b.Write(buf[:uint32(got)])
		if got>>32 == 1 {
			return b.String()
		}
	}
}

//go:wasmexport handle_request
func handleRequest() uint64 {
	uri := text(getURI)
	calls[uri]++
	set(0, "x-policy", fmt.Sprintf("%s %s %d %d", config, uri, calls[uri], len(body(0))))
	return 7<<32 | 1
}

//go:wasmexport handle_response
func handleResponse(context, isError uint32) {
	signed := fmt.Sprintf("%s, signed %d %d", body(1), context, isError)
	writeBody(1, unsafe.Pointer(unsafe.StringData(signed)), uint32(len(signed)))
}
