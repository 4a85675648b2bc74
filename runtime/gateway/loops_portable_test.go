//go:build !linux || wasmgate_portable

package gateway_test

// portableLoops: promises about time are those of the loops of Linux.
const portableLoops = true
