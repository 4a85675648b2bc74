//go:build linux && !wasmgate_portable

package gateway_test

const portableLoops = false
