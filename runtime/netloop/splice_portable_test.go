//go:build !linux || wasmgate_portable

package netloop

const unsentIsKnown = false
