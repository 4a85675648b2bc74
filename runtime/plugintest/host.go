package plugintest

import (
	"context"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// Host is an engine and an event loop. Its methods may be called from any goroutine, but not from the loop.
type Host struct {
	engine *wasm.Engine
	group  *netloop.Group
}

// Options says how a Host works. The zero value is good.
type Options struct {
	// Cache keeps compiled code between runs, in CacheDir, or where the gateway keeps it if that is empty.
	Cache    bool
	CacheDir string
}

// New starts a host.
func New(o Options) (*Host, error) {
	engine, err := wasm.New(wasm.Options{NoCache: !o.Cache, CacheDir: o.CacheDir})
	if err != nil {
		return nil, err
	}
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		return nil, err
	}
	group.Start()
	return &Host{engine: engine, group: group}, nil
}

// Close ends the loop. Plugins are closed before.
func (h *Host) Close() { h.group.Close() }

// Compile compiles a module for an ABI.
func (h *Host) Compile(name string, module []byte, abi wasm.ABI, limits wasm.Limits) (*wasm.Compiled, error) {
	return h.engine.Compile(context.Background(), name, module, abi, limits)
}

// On runs fn as a task of the loop and waits for it.
func (h *Host) On(fn func(*netloop.Task)) {
	done := make(chan struct{})
	l := h.group.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

// Loop is the event loop.
func (h *Host) Loop() *netloop.Loop { return h.group.Loop(0) }

// Now is the loop's clock, in nanoseconds.
func (h *Host) Now() (now int64) {
	h.On(func(t *netloop.Task) { now = t.Loop().Now() })
	return now
}

// Instances is how many instances of plugins exist.
func (h *Host) Instances() int64 { return h.engine.Instances() }
