package telemetry

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

const (
	callerTrace  = "11223344556677889900aabbccddeeff"
	callerSpan   = "1122334455667788"
	callerParent = "traceparent: 00-" + callerTrace + "-" + callerSpan + "-01"
)

// A request comes with a caller's trace; its first attempt opens a connection; Jaeger shows both, over both transports.
func TestARequestAndItsConnectionAreSeenByACollector(t *testing.T) {
	for name, c := range map[string]struct {
		protocol string
		receive  func(testing.TB) *collector
	}{"http": {ProtocolHTTP, httpCollector}, "grpc": {ProtocolGRPC, grpcCollector}} {
		t.Run(name, func(t *testing.T) {
			got := c.receive(t)
			tel := start(t, Options{
				Build:  Build{Version: "1.2.3"},
				Traces: Traces{Endpoint: got.url, Protocol: c.protocol, Headers: map[string]string{"authorization": "Bearer secret"}, ServiceName: "edge"},
			})
			sent := userRequest(t, tel.Loop(0))
			finish(t, tel)
			checkUserRequest(t, got.all(), sent)
			if got.resource["service.name"] != "edge" || got.resource["service.version"] != "1.2.3" || got.scope != "wasmgate" {
				t.Errorf("resource %v, scope %q", got.resource, got.scope)
			}
			if got.header.Get("Authorization") != "Bearer secret" {
				t.Errorf("the collector was sent %v without the configured field", got.header)
			}
			if name == "http" && got.path != "/v1/traces" {
				t.Errorf("spans went to %s", got.path)
			}
		})
	}
}

// userRequest is a request that a plugin looks at and that goes out on a connection opened for it. It returns the
// traceparent that the upstream was sent.
func userRequest(t *testing.T, r *Recorder) (traceparent string) {
	x := request(t, "POST /users/42?token=secret HTTP/1.1", "Host: api.test:8080", "User-Agent: curl/8", callerParent, "Tracestate: vendor=1")
	r.Begin(x)
	x.Route, x.Routed = "user-by-id", at(2)
	x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant", Phase: "request_head", Started: at(1), Took: time.Duration(ms), Fuel: 1234, Outcome: "route"})
	x.Tags = append(x.Tags, exchange.Tag{Key: "tenant", Value: "blue"}, exchange.Tag{Key: "tenant", Value: "green"})
	c := connection(900)
	r.ConnOpened(c)
	x.Request.SetPath([]byte("/v2/users/42"))
	a := attempt(x, r, c)
	traceparent = headerValue(x, "traceparent")
	x.FirstByte, x.BytesIn, x.BytesOut = a.FirstByte, 11, 2222
	end(r, x, 200)
	c.BytesIn, c.BytesOut = 3000, 400
	c.Closed, c.WhyClosed = wall+int64(time.Minute), facts.CloseIdleTimeout
	r.ConnClosed(c)
	return traceparent
}

func headerValue(x *exchange.Exchange, name string) string {
	v, _ := x.Request.Get(name)
	return string(v)
}

func checkUserRequest(t *testing.T, got spanList, traceparent string) {
	t.Helper()
	server, client := got.one(t, "POST user-by-id"), got.one(t, "POST users")
	if id(server.TraceId) != callerTrace || id(server.ParentSpanId) != callerSpan || server.Kind != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the server span does not go on with the caller's trace: %v", server)
	}
	if server.TraceState != "vendor=1" || server.StartTimeUnixNano != uint64(wall) || server.EndTimeUnixNano != uint64(wall+20*ms) {
		t.Errorf("tracestate %q, from %d to %d", server.TraceState, server.StartTimeUnixNano, server.EndTimeUnixNano)
	}
	wantAttributes(t, server, map[string]any{
		"http.request.method": "POST", "url.scheme": "http", "url.path": "/users/42", "http.route": "user-by-id",
		"user_agent.original": "curl/8", "server.address": "api.test", "server.port": int64(8080), "client.address": "198.51.100.9",
		"network.peer.address": "10.0.0.1", "network.peer.port": int64(40000), "network.protocol.version": "1.1",
		"http.request.body.size": int64(11), "http.response.body.size": int64(2222), "http.response.status_code": int64(200),
		"wasmgate.listener": "public", "wasmgate.client.connection.id": int64(7), "wasmgate.client.connection.ordinal": int64(3),
		"wasmgate.tag.tenant": "green",
	})
	wantEvents(t, server, "request.head_read", 1, "plugin.decided", 2, "request.routed", 2, "attempt.begun", 2, "response.first_byte", 15)
	if below := got.below(server); !slices.Equal(below, []string{"plugin.call tenant", "POST users"}) {
		t.Errorf("below the server span are %v", below)
	}
	wantAttributes(t, got.one(t, "plugin.call tenant"), map[string]any{
		"wasmgate.plugin.name": "tenant", "wasmgate.plugin.phase": "request_head", "wasmgate.plugin.fuel": int64(1234), "wasmgate.plugin.outcome": "route"})

	if want := "00-" + callerTrace + "-" + id(client.SpanId) + "-01"; traceparent != want {
		t.Errorf("the upstream was sent traceparent %q, want the attempt's %q", traceparent, want)
	}
	if client.Kind != tracepb.Span_SPAN_KIND_CLIENT || client.StartTimeUnixNano != uint64(wall+2*ms) || client.EndTimeUnixNano != uint64(wall+19*ms) {
		t.Errorf("the attempt: %v", client)
	}
	wantAttributes(t, client, map[string]any{
		"http.request.method": "POST", "url.scheme": "https", "url.path": "/v2/users/42", "url.full": "https://api.test:8080/v2/users/42",
		"server.address": "users.test", "server.port": int64(8443), "network.peer.address": "192.0.2.7", "network.peer.port": int64(8443),
		"http.response.status_code": int64(200), "wasmgate.upstream": "users", "wasmgate.connection.id": int64(900),
		"wasmgate.connection.ordinal": int64(1), "wasmgate.connection.reused": false, "wasmgate.connection.age": 0.0,
		"wasmgate.connection.idle": 0.0, "wasmgate.connection.why_new": "no_idle", "wasmgate.pool.wait": 0.004, "wasmgate.dns.age": 2.0, "wasmgate.attempt.number": int64(1),
	})
	wantEvents(t, client, "target.chosen", 6, "request.sent", 7, "response.first_byte", 15)
	if below := got.below(client); !slices.Equal(below, []string{"wait_for_connection", "wait_for_answer", "response.body"}) {
		t.Errorf("below the attempt are %v", below)
	}
	root := got.one(t, "upstream.connection")
	if len(client.Links) != 1 || string(client.Links[0].SpanId) != string(root.SpanId) || string(client.Links[0].TraceId) != string(root.TraceId) {
		t.Errorf("the attempt's links are %v, want the connection %s", client.Links, id(root.SpanId))
	} else if a := attributes(client.Links[0].Attributes); a["wasmgate.connection.id"] != int64(900) || len(a) != 1 {
		t.Errorf("the link's attributes: %v", a)
	}
	checkConnection(t, got, root)
}

func checkConnection(t *testing.T, got spanList, root *tracepb.Span) {
	t.Helper()
	if len(root.ParentSpanId) != 0 || id(root.TraceId) == callerTrace {
		t.Errorf("the connection's span is not the root of a trace of its own: %v", root)
	}
	if root.StartTimeUnixNano != uint64(wall+2*ms) || root.EndTimeUnixNano != uint64(wall+6*ms) {
		t.Errorf("the connection was opened from %d to %d", root.StartTimeUnixNano, root.EndTimeUnixNano)
	}
	who := map[string]any{"wasmgate.connection.id": int64(900), "wasmgate.upstream": "users", "server.address": "users.test",
		"server.port": int64(8443), "network.peer.address": "192.0.2.7", "network.peer.port": int64(8443)}
	wantAttributes(t, root, with(who, map[string]any{
		"wasmgate.connection.why_opened": "no_idle", "tls.protocol.version": "1.3", "tls.next_protocol": "http/1.1",
		"wasmgate.tls.server_name": "users.test", "wasmgate.dns.age": 2.0, "wasmgate.dns.ttl": 60.0, "wasmgate.dns.server": "10.0.0.53:53",
		"wasmgate.dns.stale": false}))
	if below := got.below(root); !slices.Equal(below, []string{"dns.lookup", "tcp.connect", "tls.handshake", "upstream.connection.segment"}) {
		t.Errorf("below the connection's root are %v", below)
	}
	wantAttributes(t, got.one(t, "dns.lookup"), map[string]any{"dns.question.name": "users.test", "wasmgate.dns.server": "10.0.0.53:53"})
	wantAttributes(t, got.one(t, "tcp.connect"), map[string]any{"network.peer.address": "192.0.2.7", "network.peer.port": int64(8443)})
	wantAttributes(t, got.one(t, "tls.handshake"), map[string]any{"wasmgate.tls.server_name": "users.test", "tls.protocol.version": "1.3",
		"tls.cipher": "TLS_AES_128_GCM_SHA256", "tls.resumed": true})
	wantAttributes(t, got.one(t, "upstream.connection.segment"), with(who, map[string]any{
		"wasmgate.connection.segment": int64(1), "wasmgate.connection.requests": int64(1), "wasmgate.connection.bytes_in": int64(3000),
		"wasmgate.connection.bytes_out": int64(400), "wasmgate.connection.idle_total": 0.0, "wasmgate.connection.moved": int64(0),
		"wasmgate.connection.age": 59.998, "wasmgate.connection.why_closed": "idle_timeout"}))
}

func with(m ...map[string]any) map[string]any {
	all := map[string]any{}
	for _, m := range m {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// wantEvents compares the span's events with names and their milliseconds after the request's start.
func wantEvents(t testing.TB, s *tracepb.Span, want ...any) {
	t.Helper()
	var got []any
	for _, e := range s.Events {
		got = append(got, e.Name, int((int64(e.TimeUnixNano)-wall)/ms))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the events %v, want %v", s.Name, got, want)
	}
}

// A long-lived connection is seen before it ends: one segment for each period in which it was used.
func TestAConnectionIsToldOfWhileItLives(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url, Segment: time.Minute}})
	r, c := tel.Loop(0), connection(1)
	r.ConnOpened(c)
	minute := int64(time.Minute)
	c.Requests = 5
	r.ConnSegment(c, c.Established+minute-1) // too early
	r.ConnSegment(c, c.Established+minute)
	r.ConnSegment(c, c.Established+3*minute) // not used since
	c.Requests = 6
	r.ConnSegment(c, c.Established+4*minute)
	c.Closed, c.WhyClosed = c.Established+5*minute, facts.ClosePeer
	r.ConnClosed(c)
	finish(t, tel)

	var told [][4]any
	for _, s := range got.all() {
		if s.Name == "upstream.connection.segment" {
			a := attributes(s.Attributes)
			told = append(told, [4]any{a["wasmgate.connection.segment"], a["wasmgate.connection.requests"],
				time.Duration(int64(s.EndTimeUnixNano - s.StartTimeUnixNano)), a["wasmgate.connection.why_closed"]})
		}
	}
	want := [][4]any{{int64(1), int64(5), time.Minute, nil}, {int64(2), int64(6), 3 * time.Minute, nil}, {int64(3), int64(6), time.Minute, "peer_closed"}}
	if !slices.Equal(told, want) {
		t.Errorf("segments %v, want %v", told, want)
	}
}

// What could not be opened has a trace too, and the phase that failed says why.
func TestConnectionsThatFailSayInWhichPhase(t *testing.T) {
	for name, c := range map[string]struct {
		kind fault.Kind
		undo func(c *facts.Connection)
		want string // the failed phase; empty: none of them, only the whole
	}{
		"no name":     {fault.DNS, func(c *facts.Connection) { c.DialStart, c.DialEnd, c.TLSStart, c.TLSEnd = 0, 0, 0, 0 }, "dns.lookup"},
		"denied":      {fault.Denied, func(c *facts.Connection) { c.DialStart, c.DialEnd, c.TLSStart, c.TLSEnd = 0, 0, 0, 0 }, ""},
		"refused":     {fault.Connect, func(c *facts.Connection) { c.DialEnd, c.TLSStart, c.TLSEnd = 0, 0, 0 }, "tcp.connect"},
		"certificate": {fault.TLS, func(c *facts.Connection) { c.TLSEnd = 0 }, "tls.handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			got := httpCollector(t)
			tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
			conn := connection(1)
			c.undo(conn)
			conn.Established, conn.Closed, conn.WhyClosed = 0, wall+9*ms, facts.CloseConnectFailed
			conn.Err = failure(c.kind, fault.Upstream, 502, "for a reason")
			tel.Loop(0).ConnClosed(conn)
			finish(t, tel)
			for _, s := range got.all() {
				failed := s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR
				if want := s.Name == c.want || s.Name == "upstream.connection"; failed != want {
					t.Errorf("%s failed: %v, want %v", s.Name, failed, want)
				}
				if failed && (attributes(s.Attributes)["error.type"] != c.kind.String() || s.Status.Message != c.kind.String()+": for a reason") {
					t.Errorf("%s: %v", s.Name, s)
				}
			}
			root := got.all().one(t, "upstream.connection")
			if a := attributes(root.Attributes); a["wasmgate.connection.why_closed"] != "connect_failed" || root.EndTimeUnixNano != uint64(conn.Closed) {
				t.Errorf("%v", root)
			}
		})
	}
}

// Each retry is a span of its own; however many there are, the last one is told of, under its true number.
func TestRetriesAreCountedEvenWhenNotAllAreTold(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r := tel.Loop(0)
	r.Begin(x)
	for range 30 {
		x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "users", Started: at(3), Ended: at(4), Err: failure(fault.Connect, fault.Upstream, 502, "refused")})
		r.StartAttempt(x, x.Attempt())
	}
	x.Attempt().Err, x.Attempt().Status = nil, 404
	end(r, x, 404)
	finish(t, tel)
	var resent []any
	for _, s := range got.all() {
		if s.Kind == tracepb.Span_SPAN_KIND_CLIENT {
			a := attributes(s.Attributes)
			resent = append(resent, a["http.request.resend_count"])
			if a["error.type"] != "connect" && a["error.type"] != "404" {
				t.Errorf("attempt: %v", a)
			}
		}
	}
	if len(resent) != maxAttempts || resent[0] != nil || resent[1] != int64(1) || resent[maxAttempts-1] != int64(29) {
		t.Errorf("resend counts %v", resent)
	}
	if a := attributes(got.all().one(t, "GET").Attributes); a["wasmgate.dropped"] != int64(30-maxAttempts) || a["error.type"] != nil {
		t.Errorf("the server span: %v", a)
	}
}

// Bytes that are no text would cost everybody's batch: whatever a client sends arrives as text, and no more than a bound.
func TestHostileTextDoesNotBreakABatch(t *testing.T) {
	got := grpcCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url, Protocol: ProtocolGRPC}})
	r := tel.Loop(0)
	bad := strings.Repeat("a\xff", 4000)
	for range 700 {
		x := request(t, "GET / HTTP/1.1", "Host: a", "User-Agent: "+bad)
		x.Client.Addr = netip.MustParseAddr("fe80::1%\xff\xfe")
		x.Request.SetPath([]byte("/" + bad))
		x.Request.SetMethod([]byte("BREW\xff"))
		r.Begin(x)
		for range 40 {
			x.Tags = append(x.Tags, exchange.Tag{Key: "k\xff", Value: bad}, exchange.Tag{Key: bad, Value: bad})
		}
		for i := range 20 {
			x.Tags[i].Key = strings.Repeat("k", i)
		}
		x.Calls = append(x.Calls, exchange.PluginCall{Plugin: bad[:20], Phase: "x\xff", Outcome: "y\xff", Err: failure(fault.PluginTrap, fault.Plugin, 500, bad)})
		x.Err = x.Calls[0].Err
		end(r, x, 500)
	}
	finish(t, tel)
	if n := len(got.all()); n != 1400 {
		t.Errorf("%d spans arrived, want 1400: batches of %v bytes", n, got.sizes)
	}
	for _, n := range got.sizes {
		if n > 3<<20 {
			t.Errorf("a batch of %d bytes: collectors refuse more than 4 MiB", n)
		}
	}
	s := got.all()[0]
	if a := attributes(s.Attributes); a["client.address"] != "fe80::1" || a["http.request.method"] != "_OTHER" || a["http.request.method_original"] != "BREW\uFFFD" {
		t.Errorf("%.200v", a)
	}
}

// The conventions want an error where the server failed, and none where the client did.
func TestOnlyTheServersFailuresAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		err    *fault.Error
		failed bool
		kind   any
	}{
		"fine":             {200, nil, false, nil},
		"not found":        {404, nil, false, nil},
		"no route":         {404, failure(fault.NoRoute, fault.Client, 404, "nothing"), false, "no_route"},
		"upstream's 500":   {500, nil, true, "500"},
		"upstream gone":    {502, failure(fault.UpstreamClosed, fault.Upstream, 502, "closed"), true, "upstream_closed"},
		"no answer at all": {0, failure(fault.ClientClosed, fault.Client, 0, "gone"), true, "client_closed"},
	} {
		t.Run(name, func(t *testing.T) {
			got := httpCollector(t)
			tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
			x := request(t, "GET /"+" HTTP/1.1", "Host: a")
			tel.Loop(0).Begin(x)
			x.Err = c.err
			end(tel.Loop(0), x, c.status)
			finish(t, tel)
			s := got.all().one(t, "GET")
			if failed := s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != c.failed || attributes(s.Attributes)["error.type"] != c.kind {
				t.Errorf("failed %v, %v", failed, attributes(s.Attributes))
			}
		})
	}
}
