package httpwasm

import (
	"net/http/httptest"
	"testing"

	"github.com/http-wasm/http-wasm-host-go/tck"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
)

// TestTCK is the public conformance kit of http-wasm, whole.
func TestTCK(t *testing.T) {
	backend := httptest.NewServer(tck.BackendHandler())
	t.Cleanup(backend.Close)
	p, _ := load(t, tck.GuestWASM, Options{Loops: 2}, wasm.Limits{})
	g := newGate(t, setup{backend: backend.Listener.Addr(), loops: 2, route: []filter.Filter{p}})
	t.Run("TCK", func(t *testing.T) { tck.Run(t, client, g.url) })
}
