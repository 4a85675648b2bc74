package telemetry

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// shift moves a request that begins to so many milliseconds later.
func shift(x *exchange.Exchange, by int64) { x.Started, x.HeadRead = x.Started+by*ms, x.HeadRead+by*ms }

// Without a collector of traces the last failure is there whole, and those behind were told nothing.
func TestRecentRequestsAreThereWithoutACollector(t *testing.T) {
	r := start(t, Options{Recent: 4}).Loop(0)
	c := connection(9)
	x := request(t, "GET /users/42?x=secret HTTP/1.1", "Host: api.test")
	r.Begin(x)
	if x.Trace.Told() || !x.Trace.Recorded() {
		t.Errorf("the trace is %+v", x.Trace)
	}
	x.AddCall(exchange.PluginCall{Plugin: "tenant", Phase: "request", Started: at(1), Took: time.Millisecond, Outcome: "route"})
	x.Route = "users"
	attempt(x, r, c).Err = failure(fault.Connect, fault.Upstream, 502, "refused")
	if _, told := x.Request.Get("traceparent"); told {
		t.Error("the upstream was told of a trace that nobody has")
	}
	attempt(x, r, c)
	end(r, x, 502)

	list := r.RecentTraces(10, nil)
	if len(list) != 1 {
		t.Fatalf("%d requests are kept", len(list))
	}
	if s := list[0]; s.Kept != RecentFailed || s.Exported || s.Route != "users" || s.Path != "/users/42" || s.Attempts != 2 || s.Status != 502 ||
		s.Upstream != "users" || s.Address != "192.0.2.7:8443" || s.ConnID != 9 || s.Client != "198.51.100.9" || s.Ended-s.Started != 20*ms {
		t.Errorf("it is told as %+v", s)
	}
	id, err := hex.DecodeString(list[0].ID)
	if err != nil || r.RecentRequest([16]byte{1}) != nil {
		t.Error(err)
	}
	q := r.RecentRequest([16]byte(id))
	read(t, x, "GET /else HTTP/1.1", "Host: a") // what it was made of is another request's now
	var names []string
	for _, s := range q.Spans() {
		names = append(names, s.Name)
	}
	if len(names) < 4 || names[0] != "GET users" || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "tenant") }) {
		t.Errorf("the spans are %q", names)
	}
	all := q.Spans()
	if root := all[0]; root.Kind != "server" || root.Parent != "" || root.Attributes["url.path"] != "/users/42" || len(root.Events) < 4 || root.Err == "" {
		t.Errorf("the first span is %+v", root)
	}
	below := slices.IndexFunc(all, func(s RecentSpan) bool { return s.Kind == "client" && s.Parent == all[0].ID })
	if below < 0 || all[below].Attributes["wasmgate.connection.id"] != int64(9) {
		t.Errorf("the attempts' spans are %+v", all)
	}
}

// A flood of requests that go well does not push out the one that failed; nor does it cost more than its rate.
func TestRecentRequestsAreASampleAndWhatFailed(t *testing.T) {
	tel := start(t, Options{Recent: 8, Loops: 2})
	r := tel.Loop(1)
	one := func(after int64, status int) {
		x := request(t, "GET /"+strings.Repeat("x", 8)+" HTTP/1.1", "Host: a")
		shift(x, after)
		r.Begin(x)
		x.StatusSent, x.Ended = status, x.Started+ms
		r.End(x)
	}
	one(0, 503)
	for i := range int64(1000) {
		one(100+i, 200)
	}
	kept := map[string]int{}
	for _, s := range r.RecentTraces(100, nil) {
		kept[s.Kept]++
	}
	if kept[RecentFailed] != 1 || kept[RecentSample] != 2 {
		t.Errorf("kept are %v; half of two places each, of 8 for two loops, is for either", kept)
	}
	if n := len(tel.Loop(0).RecentTraces(100, nil)); n != 0 {
		t.Errorf("the other loop has %d", n)
	}
	newest := r.RecentTraces(1, func(s *RecentTrace) bool { return s.Kept == RecentSample })
	if len(newest) != 1 || newest[0].Started < wall {
		t.Errorf("the newest is %+v", newest)
	}
}

func TestRecentRequestsThatAreSlow(t *testing.T) {
	r := start(t, Options{Recent: 4, Traces: Traces{Slow: 10 * time.Millisecond}}).Loop(0)
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	end(r, x, 200)
	if list := r.RecentTraces(9, nil); len(list) != 1 || list[0].Kept != RecentSlow {
		t.Errorf("kept is %+v", list)
	}
	off := start(t, Options{}).Loop(0)
	off.Begin(x)
	end(off, x, 500)
	if off.RecentTraces(9, nil) != nil || off.RecentRequest([16]byte{}) != nil || x.Trace.TraceID != [16]byte{} && off.recent != nil {
		t.Error("something is kept although nothing shall be")
	}
}

// What goes on to a collector has the same id in both places.
func TestRecentRequestsHaveTheIdOfTheirTrace(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Recent: 4, Traces: Traces{Endpoint: got.url}})
	r := tel.Loop(0)
	x := request(t, "GET / HTTP/1.1", "Host: a", callerParent)
	r.Begin(x)
	end(r, x, 200)
	finish(t, tel)
	list := r.RecentTraces(9, nil)
	if len(list) != 1 || !list[0].Exported || list[0].ID != id(got.all().one(t, "GET").TraceId) {
		t.Errorf("kept is %+v", list)
	}
	q := r.RecentRequest(x.Trace.TraceID)
	if q == nil || q.Spans()[0].Parent != id(got.all().one(t, "GET").ParentSpanId) || q.Spans()[0].ID != id(got.all().one(t, "GET").SpanId) {
		t.Error("the spans are not those that were exported")
	}
}

func TestRecentErrors(t *testing.T) {
	r := start(t, Options{Recent: 4}).Loop(0)
	c := connection(3)
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	x.Route = "users"
	attempt(x, r, c).Err = failure(fault.Connect, fault.Upstream, 502, "refused")
	x.Err = failure(fault.HeaderTimeout, fault.Upstream, 504, "late")
	attempt(x, r, c).Err = x.Err
	end(r, x, 504)
	s := session(c)
	s.Err = failure(fault.IdleTimeout, fault.Client, 0, "quiet")
	r.Session(s)
	c.Err, c.WhyOpened, c.Established, c.Closed = failure(fault.Connect, fault.Upstream, 0, "check"), facts.OpenHealthCheck, 0, wall
	r.ConnClosed(c)
	call := request(t, "GET / HTTP/1.1", "Host: a")
	call.Plugin = "authz"
	attempt(call, r, c).Err = failure(fault.DNS, fault.Upstream, 0, "no such name")
	call.Ended = at(30)
	r.EndCall(call)

	list := r.RecentErrors(100, nil)
	var of []string
	for i := range list {
		of = append(of, list[i].Of+" "+list[i].Err.Kind.String())
	}
	if want := []string{"call dns", "connection connect", "session idle_read_timeout", "request response_header_timeout", "attempt connect"}; !slices.Equal(of, want) {
		t.Fatalf("the errors are %q, want %q", of, want)
	}
	if e := list[3]; e.Route != "users" || e.Upstream != "users" || e.Host != "users.test:8443" || e.ConnID != 3 || e.Status != 504 || e.TraceID != x.Trace.TraceID || e.At != wall+20*ms {
		t.Errorf("the request's error is %+v", e)
	}
	if some := r.RecentErrors(1, func(e *RecentError) bool { return e.Listener == "database" }); len(some) != 1 || some[0].Of != ErrorOfSession {
		t.Errorf("of the listener: %+v", some)
	}
	for range 2 * maxRecentErrors {
		r.Session(s)
	}
	if n := len(r.RecentErrors(10*maxRecentErrors, nil)); n != maxRecentErrors {
		t.Errorf("%d errors are kept", n)
	}
}

func TestHitsAreCounted(t *testing.T) {
	tel := start(t, Options{Loops: 2})
	for i, route := range []string{"a", "b", "a"} {
		r := tel.Loop(i % 2)
		x := request(t, "GET / HTTP/1.1", "Host: a")
		r.Begin(x)
		x.Route = route
		end(r, x, 200+100*i)
	}
	tel.Loop(0).Session(session(connection(1)))
	listeners, routes := tel.Hits()
	if listeners["public"] != 3 || listeners["database"] != 1 || routes["a"] != 2 || routes["b"] != 1 {
		t.Errorf("%v %v", listeners, routes)
	}
}

func TestTheLogsLevelIsChangedLive(t *testing.T) {
	var out messages
	l, err := NewLog(LogOptions{Output: &out, Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	child := l.With().Str("child", "yes").Logger()
	child.Debug().Msg("one")
	if l.LevelName() != "info" || l.SetLevel("debug") != nil || l.LevelName() != "debug" {
		t.Error(l.LevelName())
	}
	child.Debug().Msg("two")
	if l.SetLevel("loud") == nil || l.SetLevel("off") != nil || l.LevelName() != "off" {
		t.Error(l.LevelName())
	}
	child.Error().Msg("three")
	l.Close()
	if s := out.String(); strings.Contains(s, "one") || !strings.Contains(s, "two") || strings.Contains(s, "three") {
		t.Errorf("the log is %s", s)
	}
}
