package gateway

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/tcp"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// bytesTo is an upstream as listeners in TCP mode use it: each session gets a connection of its own, to members that
// are chosen, and judged, as those of requests are.
type bytesTo struct{ *upstream.Upstream }

// tunnelFor is what an upstream must know of a session.
func tunnelFor(r tcp.Request) upstream.Request {
	return upstream.Request{
		Request: pool.Request{Fresh: true, Owner: r.Client}, Tunnel: true, Destination: r.Destination,
		Key: upstream.Key(r.Client.Addr().Unmap().AsSlice()), HasKey: true,
	}
}

// Acquire implements tcp.Upstream.
func (u bytesTo) Acquire(t *netloop.Task, r tcp.Request) (tcp.Acquired, *fault.Error) {
	a, err := u.Upstream.Acquire(t, tunnelFor(r))
	if err != nil {
		return tcp.Acquired{Queued: a.Queued, Failed: a.Failed}, err
	}
	a.Report(t.Loop(), health.Success) // it took the connection; what it says on it is its client's to judge
	return tcp.Acquired{
		Net: a.Net, Stream: a.Stream, Facts: &a.Facts, Queued: a.Queued, Failed: a.Failed,
		Release: func(reason string) { a.Release(reason) },
	}, nil
}
