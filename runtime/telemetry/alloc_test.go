//go:build !race

package telemetry

import (
	"io"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// What telemetry does on a loop for a request allocates nothing. (The race detector makes pools forget on purpose.)
func TestARequestIsRecordedWithoutAllocation(t *testing.T) {
	discard := AccessLog{Writer: io.Discard, Query: true}
	for name, c := range map[string]struct {
		options Options
		fields  []string
	}{
		"nothing":                     {Options{}, nil},
		"access log":                  {Options{AccessLog: discard}, nil},
		"access log, caller's trace":  {Options{AccessLog: discard}, []string{callerParent}},
		"traces, none sampled":        {Options{Traces: Traces{Sample: ratio(0)}, AccessLog: discard}, nil},
		"traces, caller does not":     {Options{Traces: Traces{}}, []string{callerParent[:len(callerParent)-1] + "0"}},
		"traces, caller's, exporting": {Options{Traces: Traces{}, AccessLog: discard}, []string{callerParent}},
	} {
		t.Run(name, func(t *testing.T) {
			if name[:6] == "traces" {
				c.options.Traces.Endpoint = nowhere(t)
			}
			tel := start(t, c.options)
			r := tel.Loop(0)
			x := request(t, append([]string{"GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: curl/8"}, c.fields...)...)
			conn := connection(1)
			r.ConnOpened(conn)
			refused := failure(fault.Connect, fault.Upstream, 502, "refused")
			serve := func() {
				x.Trace, x.Attempts, x.Err = exchange.Trace{}, x.Attempts[:0], nil
				r.Begin(x)
				x.Route, x.FirstByte = "user-by-id", at(15)
				attempt(x, r, conn).Err = refused
				attempt(x, r, conn)
				x.Err = refused
				end(r, x, 502)
				r.ConnSegment(conn, wall)
			}
			// Records of sampled requests are made until there are enough of them, or the queue is full.
			for range 2 * recordsPerLoop {
				serve()
			}
			if n := testing.AllocsPerRun(2000, serve); n != 0 {
				t.Errorf("%v allocations for each request", n)
			}
		})
	}
}
