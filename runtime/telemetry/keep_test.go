package telemetry

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

const callerSaysNo = "traceparent: 00-" + callerTrace + "-" + callerSpan + "-00"

// keeping are the traces of an operator who samples nothing, and keeps what went wrong.
func keeping(url string) Traces {
	return Traces{Endpoint: url, Sample: ratio(0), KeepErrors: true, Slow: time.Second, KeepRate: 100}
}

// The one request of a thousand that failed is seen whole in the morning, with its retry and its plugin, although nothing
// is sampled; the others cost nothing but that those behind were told that they are not.
func TestWhatFailedIsKeptAlthoughNothingIsSampled(t *testing.T) {
	got := httpCollector(t)
	var log strings.Builder
	o := keeping(got.url)
	o.Baggage = []string{"tenant.id", "user"}
	tel := start(t, Options{Traces: o, AccessLog: AccessLog{Writer: &log}})
	r, c := tel.Loop(0), connection(1)
	r.ConnOpened(c)
	for range 200 {
		x := request(t, "GET /fine HTTP/1.1", "Host: a")
		r.Begin(x)
		attempt(x, r, c)
		if p := headerValue(x, "traceparent"); !strings.HasSuffix(p, "-00") {
			t.Fatalf("the upstream was sent traceparent %q", p)
		}
		end(r, x, 200)
	}

	x := request(t, "GET /users/42?x=1 HTTP/1.1", "Host: api.test", "Tracestate: vendor=1", "Baggage: tenant.id=bl%C3%BCe;ttl=1 , other=2, tenant.id=second", callerSaysNo)
	r.Begin(x)
	x.Route, x.Matched, x.Routed = "user-by-id", at(1), at(2)
	x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant", Phase: "request_head", Started: at(1), Took: time.Duration(ms), Fuel: 1234, Outcome: "route"})
	first := attempt(x, r, c)
	first.Status, first.Err = 0, failure(fault.UpstreamClosed, fault.Upstream, 502, "closed")
	second := attempt(x, r, c)
	second.Why, second.Status, second.Started, second.Acquired = exchange.AgainRetry, 503, at(19), at(19)
	sent := headerValue(x, "traceparent")
	x.FirstByte = at(19)
	end(r, x, 503)
	finish(t, tel)

	server := got.all().one(t, "GET user-by-id")
	if id(server.TraceId) != callerTrace || id(server.ParentSpanId) != callerSpan || server.TraceState != "vendor=1" {
		t.Errorf("the server span does not go on with the caller's trace: %v", server)
	}
	a := attributes(server.Attributes)
	if a["wasmgate.kept"] != "error" || a["url.path"] != "/users/42" || a["wasmgate.baggage.tenant.id"] != "blüe" || a["wasmgate.baggage.user"] != nil {
		t.Errorf("the server span: %v", a)
	}
	if below := got.all().below(server); !slices.Equal(below, []string{"plugin.call tenant", "GET users", "GET users"}) {
		t.Errorf("below the server span are %v", below)
	}
	last := ""
	for _, s := range got.all() {
		if s.Kind != tracepb.Span_SPAN_KIND_CLIENT || !strings.HasPrefix(s.Name, "GET") {
			continue
		}
		last = id(s.SpanId)
		if len(s.Links) != 1 || attributes(s.Attributes)["wasmgate.kept"] != "error" {
			t.Errorf("an attempt: %v", s)
		}
	}
	if want := "00-" + callerTrace + "-" + last + "-00"; sent != want {
		t.Errorf("the upstream was sent traceparent %q, want the attempt's %q", sent, want)
	}
	if lines := log.String(); strings.Count(lines, callerTrace) != 1 || strings.Count(lines, "trace_id") != 1 {
		t.Errorf("the access log names %d traces", strings.Count(lines, "trace_id"))
	}
	m := scrape(t, tel)
	if n := m.value("wasmgate_telemetry_requests_kept_total", "why", "error"); n != 1 {
		t.Errorf("%v requests counted as kept", n)
	}
}

// The trail of a request says what was decided, in the order in which it was.
func TestTheTrailSaysWhatWasDecidedAndWhy(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
	r := tel.Loop(0)
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	gone := refused(r, 0)
	gone.ConnBegan, gone.ConnEnded, gone.Ejected = at(9), at(10), true
	x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant", Phase: "request_head", Started: at(1), Took: time.Duration(ms), Fuel: 77, Outcome: "route"})
	x.Route, x.Matched, x.Routed, x.FirstByte = "all", at(1), at(2), at(18)
	x.Attempts = append(x.Attempts, exchange.Attempt{Number: 1, Upstream: "users", Started: at(2), Ended: at(9), Queued: time.Duration(3 * ms), Err: failure(fault.PoolExhausted, fault.Gateway, 503, "full")})
	r.StartAttempt(x, x.Attempt())
	x.Attempts = append(x.Attempts, exchange.Attempt{
		Number: 2, Why: exchange.AgainRetry, Upstream: "users", Started: at(9), Acquired: at(15), Sent: at(15), FirstByte: at(18), BodySent: at(16), Ended: at(19), Status: 503,
		Queued: time.Duration(2 * ms), Setup: exchange.Setup{DNS: time.Duration(1 * ms), Connect: time.Duration(1 * ms), TLS: time.Duration(2 * ms)},
		Chosen: "next", Passed: 2, Refused: exchange.RefusedBudget, Failed: []*fault.Error{gone}, Ejected: true,
	})
	r.StartAttempt(x, x.Attempt())
	end(r, x, 503)
	finish(t, tel)

	server := got.all().one(t, "GET all")
	wantEvents(t, server, "request.head_read", 1, "route.matched", 1, "plugin.decided", 2, "request.routed", 2, "attempt.begun", 2, "attempt.begun", 9,
		"response.first_byte", 18, "retry.refused", 19)
	if a := attributes(server.Events[2].Attributes); a["wasmgate.plugin.fuel"] != int64(77) || a["wasmgate.plugin.outcome"] != "route" {
		t.Errorf("the plugin's decision: %v", a)
	}
	if a := attributes(server.Events[5].Attributes); a["error.type"] != "pool_exhausted" || a["wasmgate.attempt.why"] != "retry" || a["wasmgate.attempt.number"] != int64(2) {
		t.Errorf("the second attempt was begun for %v", a)
	}
	var spans []string
	for _, s := range got.all() {
		if strings.HasPrefix(s.Name, "wait") || s.Name == "response.body" {
			spans = append(spans, fmt.Sprint(s.Name, " ", (int64(s.StartTimeUnixNano)-wall)/ms, "-", (int64(s.EndTimeUnixNano)-wall)/ms))
		}
		if s.Name == "GET users" && len(s.Events) > 1 && s.Events[0].Name == "target.chosen" {
			if a := attributes(s.Events[0].Attributes); a["wasmgate.target.chosen"] != "next" || a["wasmgate.target.passed"] != int64(2) {
				t.Errorf("the target was chosen by %v", a)
			}
		}
	}
	want := []string{"wait_for_connection 2-9", "wait.queue 6-9", "wait_for_connection 9-15", "wait.failed 9-10", "wait.tls 13-15", "wait.connect 12-13",
		"wait.queue 10-12", "wait.dns 9-10", "wait_for_answer 15-18", "response.body 18-19"}
	if !slices.Equal(spans, want) {
		t.Errorf("what took time was\n%v, want\n%v", spans, want)
	}
}

// A server that could not be connected to, so that another was asked, is seen where the request waited for it: what it failed
// with, that it was ejected with that, and the way to the trace of the connection that never was. So is the server of an attempt
// whose answer was one too many. Sessions tell of it as requests do.
func TestServersTriedInVainAreSeen(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
	r, c := tel.Loop(0), connection(900)
	r.ConnOpened(c)
	gone := refused(r, 0)
	gone.ConnBegan, gone.ConnEnded, gone.Ejected = at(2), at(3), true
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	a := attempt(x, r, c)
	a.Failed, a.Ejected, a.Status = []*fault.Error{gone}, true, 503
	end(r, x, 503)
	x = request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	a = attempt(x, r, c)
	a.Upstream, a.FirstByte, a.Status, a.Err = "silent", 0, 0, failure(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer")
	end(r, x, 504)
	s := session(c)
	s.Failed, s.Setup, s.Queued = []*fault.Error{gone}, exchange.Setup{Connect: time.Duration(ms)}, time.Duration(ms)
	r.Session(s)
	finish(t, tel)

	all := got.all()
	var root *tracepb.Span
	for _, s := range all {
		if s.Name == "upstream.connection" && attributes(s.Attributes)["wasmgate.connection.why_closed"] == "connect_failed" {
			root = s
		}
	}
	var failed []*tracepb.Span
	for _, s := range all {
		if s.Name == "wait.failed" {
			failed = append(failed, s)
			wantLink(t, s, root)
			wantEvents(t, s, "exception", 3, "target.ejected", 3)
			wantAttributes(t, s, map[string]any{"server.address": "users.test", "server.port": int64(8443), "network.peer.address": "192.0.2.7",
				"network.peer.port": int64(8443), "error.type": "connect", "wasmgate.error.source": "upstream"})
		}
	}
	if len(failed) != 2 {
		t.Fatalf("%d spans of servers tried in vain", len(failed))
	}
	client := all.one(t, "GET users")
	var ejected []*tracepb.Span_Event
	for _, e := range client.Events {
		if e.Name == "target.ejected" {
			ejected = append(ejected, e)
		}
	}
	if len(ejected) != 1 || attributes(ejected[0].Attributes)["network.peer.address"] != "192.0.2.7" {
		t.Errorf("the attempt tells of ejections %v", ejected)
	}
	for _, s := range all { // what was waited for in vain is a part of the attempt as well
		if s.Name == "wait_for_answer" && string(s.ParentSpanId) == string(all.one(t, "GET silent").SpanId) {
			wantEvents(t, s, "exception", 19)
			if s.StartTimeUnixNano != uint64(wall+7*ms) || s.EndTimeUnixNano != uint64(wall+19*ms) {
				t.Errorf("%v", s)
			}
		}
	}
	if list := all.below(all.one(t, "GET silent")); !slices.Equal(list, []string{"wait_for_connection", "wait_for_answer"}) {
		t.Errorf("below the attempt without an answer are %v", list)
	}
	var below []string
	for _, s := range all {
		if strings.HasPrefix(s.Name, "wait.") && string(s.TraceId) != string(client.TraceId) {
			below = append(below, s.Name)
		}
	}
	if want := []string{"wait.failed", "wait.connect", "wait.queue"}; !slices.Equal(below, want) {
		t.Errorf("the session waited for %v, want %v", below, want)
	}
}

// What is kept is what failed or was slow, as far as the operator wants it, and nothing of an operator who wants nothing.
func TestWhatIsKept(t *testing.T) {
	broken := failure(fault.UpstreamClosed, fault.Upstream, 502, "closed")
	both := keeping("")
	errorsOnly, slowOnly, none, never := both, both, both, both
	errorsOnly.Slow, slowOnly.KeepErrors, none.KeepRate = 0, false, 0
	for name, c := range map[string]struct {
		traces Traces
		env    string
		status int
		err    *fault.Error
		took   time.Duration
		want   any
	}{
		"fine":                     {both, "", 200, nil, time.Millisecond, nil},
		"the upstream's 500":       {both, "", 500, nil, time.Millisecond, "error"},
		"cut off":                  {both, "", 200, broken, time.Millisecond, "error"},
		"slow":                     {both, "", 200, nil, 2 * time.Second, "slow"},
		"slow and failed":          {both, "", 502, broken, 2 * time.Second, "error"},
		"a tunnel":                 {both, "", 101, nil, time.Hour, nil},
		"slow, errors wanted only": {errorsOnly, "", 200, nil, time.Hour, nil},
		"failed, slow wanted only": {slowOnly, "", 502, broken, time.Millisecond, nil},
		"failed, nothing wanted":   {none, "", 502, broken, time.Hour, nil},
		"failed, traces never":     {never, "always_off", 502, broken, time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := httpCollector(t)
			c.traces.Endpoint = got.url
			if c.env != "" {
				c.traces.Sample = nil
			}
			tel := start(t, Options{Traces: c.traces, Env: func(k string) string { return map[string]string{"OTEL_TRACES_SAMPLER": c.env}[k] }})
			r := tel.Loop(0)
			x := request(t, "GET / HTTP/1.1", "Host: a", callerSaysNo)
			r.Begin(x)
			x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "users"})
			r.StartAttempt(x, x.Attempt())
			if told := headerValue(x, "traceparent"); (told == strings.TrimPrefix(callerSaysNo, "traceparent: ")) != (name == "failed, nothing wanted" || name == "failed, traces never") {
				t.Errorf("the upstream was sent traceparent %q", told)
			}
			x.Err, x.StatusSent, x.Ended = c.err, c.status, x.Started+int64(c.took)
			r.End(x)
			finish(t, tel)
			if c.want == nil {
				if n := len(got.all()); n > 0 {
					t.Errorf("%d spans", n)
				}
				return
			}
			if a := attributes(got.all().one(t, "GET").Attributes); a["wasmgate.kept"] != c.want {
				t.Errorf("kept: %v, want %v", a["wasmgate.kept"], c.want)
			}
		})
	}
}

// An outage makes every request an error: so many are kept as are wanted in a second, from all loops together, the others
// are counted; and a client who makes errors on purpose leaves room for those of the servers.
func TestAStormOfErrorsIsBounded(t *testing.T) {
	got := httpCollector(t)
	o := keeping(got.url)
	o.KeepRate = 20
	tel := start(t, Options{Loops: 2, Traces: o})
	storm := func(err *fault.Error, status int) {
		for i := range 500 {
			r := tel.Loop(i % 2)
			x := sampled(t, r)
			x.Err = err
			end(r, x, status)
		}
	}
	kept := func() float64 { return scrape(t, tel).value("wasmgate_telemetry_requests_kept_total", "why", "error") }
	storm(failure(fault.Malformed, fault.Client, 400, "no request"), 400)
	if n := kept(); n != 10 {
		t.Errorf("%v of the client's errors were kept", n)
	}
	storm(failure(fault.Connect, fault.Upstream, 502, "refused"), 502)
	if n := kept(); n != 20 {
		t.Errorf("%v errors were kept", n)
	}
	if n := scrape(t, tel).value("wasmgate_telemetry_spans_dropped_total", "reason", "rate"); n != 980 {
		t.Errorf("%v are counted as not kept", n)
	}
	for id := range 300 { // and the connections that cannot be opened meanwhile
		c := connection(uint64(id))
		c.Established, c.Closed, c.WhyClosed, c.Err = 0, wall+ms, "connect_failed", failure(fault.Connect, fault.Upstream, 502, "refused")
		tel.Loop(id % 2).ConnClosed(c)
		if c.Sampled != (id < refusedRate) {
			t.Fatalf("connection %d is told of: %v", id, c.Sampled)
		}
	}
	finish(t, tel)
	servers := 0
	for _, s := range got.all() {
		if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
			servers++
		}
	}
	if servers != 20 {
		t.Errorf("%d requests arrived", servers)
	}
}

// The rate is that of all loops at once, and comes back evenly.
func TestTheRateIsExact(t *testing.T) {
	l, second := newLimiter(50), int64(time.Second)
	var wait sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range 8 {
		wait.Go(func() {
			mine := 0
			for range 100 {
				if l.allow(second, second) {
					mine++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			n += mine
		})
	}
	if wait.Wait(); n != 50 {
		t.Errorf("%d at once, want 50", n)
	}
	for i := range 500 { // ten seconds later in all
		if l.allow(second+int64(i+1)*second/50, second) {
			n++
		}
	}
	if n != 550 {
		t.Errorf("%d in ten seconds more, want 500", n-50)
	}
}

// A plugin's own request that fails is kept for itself, and so is a session of TCP mode.
func TestAPluginsCallAndASessionThatFailedAreKept(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: keeping(got.url), AccessLog: AccessLog{Writer: io.Discard}})
	r := tel.Loop(0)
	asking := sampled(t, r)
	x := request(t, "GET /check HTTP/1.1", "Host: auth")
	x.Plugin, x.Trace = "auth", asking.Trace
	x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "auth", Started: at(1), Acquired: at(1), Ended: at(2), Status: 503})
	r.StartAttempt(x, x.Attempt())
	x.Ended = at(3)
	r.EndCall(x)
	s := session(connection(2))
	r.Session(s) // ended well
	s.Why, s.Err = exchange.EndUpstreamReset, failure(fault.UpstreamClosed, fault.Upstream, 0, "reset")
	r.Session(s)
	finish(t, tel)
	call := got.all().one(t, "GET auth")
	if a := attributes(call.Attributes); a["wasmgate.kept"] != "error" || a["wasmgate.plugin.name"] != "auth" || string(call.ParentSpanId) != string(asking.Trace.Server[:]) {
		t.Errorf("the plugin's request: %v", call)
	}
	if a := attributes(got.all().one(t, "tcp.session database").Attributes); a["wasmgate.kept"] != "error" {
		t.Errorf("the session: %v", a)
	}
}

// A collector that is down costs what was kept, counted, and nothing else.
func TestWhatIsKeptForACollectorThatIsDownIsCounted(t *testing.T) {
	tel := start(t, Options{Traces: keeping(nowhere(t))})
	r := tel.Loop(0)
	for range 10 {
		end(r, sampled(t, r), 500)
	}
	eventually(t, "the spans are given up", func() bool {
		return scrape(t, tel).value("wasmgate_telemetry_spans_dropped_total", "reason", "export_failed") == 10
	})
	if m := scrape(t, tel); m.value("wasmgate_requests_total", "class", "5xx") != 10 || m.value("wasmgate_telemetry_requests_kept_total", "why", "error") != 10 {
		t.Error("requests were not counted")
	}
}
