//go:build !race

package telemetry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
)

// recorded is a request that fails at its first attempt and at its second, told to r again and again.
func recorded(t *testing.T, r *Recorder, fields ...string) (serve func()) {
	x := request(t, append([]string{"GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: curl/8"}, fields...)...)
	conn := connection(1)
	r.ConnOpened(conn)
	refused := failure(fault.Connect, fault.Upstream, 502, "refused")
	return func() {
		x.Trace, x.Attempts, x.Err = exchange.Trace{}, x.Attempts[:0], nil
		r.Begin(x)
		x.Route, x.FirstByte = "user-by-id", at(15)
		attempt(x, r, conn).Err = refused
		attempt(x, r, conn)
		x.Err = refused
		end(r, x, 502)
		r.ConnSegment(conn, wall)
	}
}

// What telemetry does on a loop for a request allocates nothing. (The race detector makes pools forget on purpose.)
func TestARequestIsRecordedWithoutAllocation(t *testing.T) {
	discard := AccessLog{Writer: io.Discard, Query: true}
	share := 0.5
	formatted := func(format string) Options {
		return Options{AccessLog: AccessLog{Writer: io.Discard, Query: true, Sample: &share, Slow: time.Second, Format: formatOf(t, format),
			RedactHeaders: []string{"authorization"}, RedactQuery: []string{"x", "y"}}}
	}
	every := ""
	for _, f := range Fields() {
		every += " $" + f
	}
	for name, c := range map[string]struct {
		traces  bool
		options Options
		fields  []string
	}{
		"nothing":                      {false, Options{}, nil},
		"access log":                   {false, Options{AccessLog: discard}, nil},
		"access log, redacted":         {false, formatted("json"), nil},
		"common":                       {false, formatted("common"), nil},
		"combined":                     {false, formatted("combined"), []string{"Referer: http://a/?x=1\xff"}},
		"every variable":               {false, formatted(every + "$request_header_authorization $request_header_x $response_header_y"), []string{"X: 1", "X: \"2", "Authorization: a"}},
		"access log, a caller's trace": {false, Options{AccessLog: discard}, []string{callerParent}},
		"traces, none sampled":         {true, Options{Traces: Traces{Sample: ratio(0)}, AccessLog: discard}, nil},
		"traces, failures kept":        {true, Options{Traces: Traces{Sample: ratio(0), KeepErrors: true, KeepRate: 1}, AccessLog: discard}, nil},
		"failures kept, a caller's no": {true, Options{Traces: Traces{KeepErrors: true, Slow: 1, KeepRate: 1}}, []string{callerParent[:len(callerParent)-1] + "0", "tracestate: a=b", "tracestate: c=d"}},
		"failures kept, B3":            {true, Options{Traces: Traces{KeepErrors: true, KeepRate: 1, Propagation: []string{PropagateB3, PropagateB3Multi, PropagateW3C}}}, []string{"b3: 0"}},
		"recent requests":              {false, Options{Recent: 16}, nil},
		"recent requests and traces":   {true, Options{Recent: 16, Traces: keeping("")}, nil},
		"traces, the caller says no":   {true, Options{}, []string{callerParent[:len(callerParent)-1] + "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := httpCollector(t)
			if c.traces {
				c.options.Traces.Endpoint = got.url
			}
			tel := start(t, c.options)
			serve := recorded(t, tel.Loop(0), c.fields...)
			if c.traces {
				eventually(t, "the connection is exported", func() bool { return len(got.all()) == 4 })
			}
			for range 2000 {
				serve()
			}
			if n := testing.AllocsPerRun(2000, serve); n != 0 {
				t.Errorf("%v allocations for each request", n)
			}
		})
	}
}

// Nor does it for one that went well and could have been kept.
func TestARequestThatIsNotKeptIsRecordedWithoutAllocation(t *testing.T) {
	tel := start(t, Options{Traces: keeping(nowhere(t))})
	r, conn := tel.Loop(0), connection(1)
	x := request(t, "GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: curl/8")
	serve := func() {
		x.Trace, x.Attempts = exchange.Trace{}, x.Attempts[:0]
		r.Begin(x)
		attempt(x, r, conn)
		end(r, x, 200)
	}
	for range 2000 {
		serve()
	}
	if n := testing.AllocsPerRun(2000, serve); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}

// BenchmarkUnsampled is a request that is not traced: without traces, and where it could have been kept.
func BenchmarkUnsampled(b *testing.B) {
	for name, o := range map[string]Traces{"off": {}, "ratio": {Endpoint: "http://127.0.0.1:1", Sample: ratio(0)}, "kept": keeping("http://127.0.0.1:1")} {
		b.Run(name, func(b *testing.B) {
			tel := start(b, Options{Traces: o})
			r, conn := tel.Loop(0), connection(1)
			x := request(b, "GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: curl/8", "Accept: */*")
			var head http1.Head
			head.CopyFrom(&x.Request.Head)
			b.ReportAllocs()
			for b.Loop() {
				x.Request.Head.CopyFrom(&head) // a field that is set again takes room
				x.Trace, x.Attempts = exchange.Trace{}, x.Attempts[:0]
				r.Begin(x)
				attempt(x, r, conn)
				end(r, x, 200)
			}
		})
	}
}

// Nor does it for a session of TCP mode.
func TestASessionIsRecordedWithoutAllocation(t *testing.T) {
	for _, format := range []string{"json", "common", "combined", "$" + strings.Join(Fields(), " $")} {
		tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Sample: ratio(0)}, AccessLog: AccessLog{Writer: io.Discard, Format: formatOf(t, format)}})
		s := session(connection(1))
		s.Why, s.Err = exchange.EndUpstreamReset, failure(fault.UpstreamClosed, fault.Upstream, 0, "reset")
		serve := func() { tel.Loop(0).Session(s) }
		for range 2000 {
			serve()
		}
		if n := testing.AllocsPerRun(2000, serve); n != 0 {
			t.Errorf("%s: %v allocations for each session", format, n)
		}
	}
}

// Nor does a request or a session that is traced, once the records are made: the exporter is held while the loop is measured, for
// what it allocates is not the loop's.
func TestATracedRequestIsRecordedWithoutAllocation(t *testing.T) {
	var hold sync.Mutex
	asked := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case asked <- struct{}{}:
		default:
		}
		hold.Lock()
		hold.Unlock() //nolint:staticcheck // waits until it is let go
	}))
	t.Cleanup(s.Close)
	tel := start(t, Options{Traces: Traces{Endpoint: s.URL}, AccessLog: AccessLog{Writer: io.Discard}})
	r := tel.Loop(0)

	hold.Lock()
	request, ended := recorded(t, r, callerParent), session(connection(2))
	serve := func() { request(); r.Session(ended) }
	<-asked
	for range 2 * recordsPerLoop { // every record is made
		serve()
	}
	hold.Unlock()
	eventually(t, "every record has come back, and the exporter rests", func() bool {
		return r.spans.free.len() == recordsPerLoop && tel.export.waker.state.Load() == asleep
	})
	select {
	case <-asked: // of what was sent before
	default:
	}
	hold.Lock()
	defer hold.Unlock()
	serve()
	<-asked // the exporter is held
	dropped := r.cells.spansDropped.Load()
	if n := testing.AllocsPerRun(500, serve); n != 0 || r.cells.spansDropped.Load() != dropped {
		t.Errorf("%v allocations for each request, %d records dropped", n, r.cells.spansDropped.Load()-dropped)
	}
}

// TestSpansOfARequestAllocateNothing: what the exporter does for a request makes no garbage.
func TestSpansOfARequestAllocateNothing(t *testing.T) {
	m, r := &spanMaker{ids: newIDs()}, ordinary(t)
	var b []byte
	if n := testing.AllocsPerRun(1000, func() {
		b = b[:0]
		for _, s := range m.make(r) {
			b = appendSpan(b, s)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(m.spans) < 2 || len(b) < 500 {
		t.Errorf("%d spans in %d bytes", len(m.spans), len(b))
	}
}
