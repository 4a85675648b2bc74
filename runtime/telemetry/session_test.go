package telemetry

import (
	"bytes"
	"net/netip"
	"strconv"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// refused is the error of a dial that r was told of.
func refused(r *Recorder, id uint64) *fault.Error {
	c := connection(id)
	c.Established, c.DialEnd, c.TLSStart, c.TLSEnd, c.Closed, c.WhyClosed = 0, 0, 0, 0, wall+9*ms, facts.CloseConnectFailed
	err := failure(fault.Connect, fault.Upstream, 502, "refused")
	err.Upstream, err.Host, err.Address = c.Upstream, c.Host, c.Address.String()
	c.Err = err
	r.ConnClosed(c)
	err.ConnID, err.ConnTrace, err.ConnSpan = c.ID, c.TraceID, c.SpanID
	return err
}

// Sessions of TCP mode leave these lines, byte for byte: one that went well, one that a balancer passed on and whose
// upstream could not be connected to, and one that came to no upstream at all.
func TestAccessLogLinesOfSessions(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Options{AccessLog: AccessLog{Writer: &out}})
	r := tel.Loop(0)
	s := session(connection(900))
	s.Client.Addr = netip.MustParseAddr("::ffff:198.51.100.9")
	r.Session(s)
	s = session(connection(901))
	s.ConnID, s.Address, s.Acquired, s.BytesIn, s.BytesOut = 0, netip.AddrPort{}, 0, 0, 0
	s.Via, s.SNI, s.Client.Scheme = netip.MustParseAddrPort("10.0.0.9:5000"), "db.test", "tls"
	s.Why, s.Err = exchange.EndConnectFailed, refused(r, 0)
	r.Session(s)
	r.Session(&exchange.Session{Client: s.Client, Started: loopTime, WallStarted: wall, Ended: at(20), Why: exchange.EndDrained})
	finish(t, tel)
	want := `{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","client_port":40000,"listener":"database","scheme":"tcp",` +
		`"bytes_in":11,"bytes_out":2222,"duration_us":20000,"upstream":"users","upstream_host":"users.test:8443",` +
		`"upstream_address":"192.0.2.7:8443","connection_id":900,"pool_wait_us":4000,"why_ended":"client_closed","client_connection":7}` + "\n" +
		`{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","client_port":40000,"via":"10.0.0.9:5000","listener":"database",` +
		`"scheme":"tls","sni":"db.test","bytes_in":0,"bytes_out":0,"duration_us":20000,"upstream":"users","upstream_host":"users.test:8443",` +
		`"upstream_address":"192.0.2.7:8443","pool_wait_us":4000,"why_ended":"connect_failed","client_connection":7,"error":"connect",` +
		`"error_source":"upstream","error_detail":"refused"}` + "\n" +
		`{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","client_port":40000,"listener":"database","scheme":"tls",` +
		`"bytes_in":0,"bytes_out":0,"duration_us":20000,"why_ended":"drained","client_connection":7}` + "\n"
	if out.String() != want {
		t.Errorf("the lines are\n%swant\n%s", out.String(), want)
	}
}

// Sessions are counted by listener, upstream and reason, however many upstreams the reloads of a long life bring.
func TestSessionsAreCounted(t *testing.T) {
	tel := start(t, Options{Loops: 2})
	for i, why := range append([]string{exchange.EndClientClosed, "a reason of tomorrow"}, exchange.EndReasons...) {
		s := session(connection(1))
		s.Why = why
		if why == exchange.EndConnectFailed {
			s.Err = failure(fault.Connect, fault.Upstream, 502, "refused")
		}
		tel.Loop(i % 2).Session(s)
	}
	m, n := scrape(t, tel), float64(len(exchange.EndReasons)+2)
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{n, "wasmgate_sessions_total", []string{"listener", "database", "upstream", "users"}},
		{2, "wasmgate_sessions_total", []string{"reason", exchange.EndClientClosed}},
		{1, "wasmgate_sessions_total", []string{"reason", exchange.EndIdleTimeout}},
		{1, "wasmgate_sessions_total", []string{"reason", "other"}},
		{11 * n, "wasmgate_session_received_bytes_total", []string{"listener", "database", "upstream", "users"}},
		{2222 * n, "wasmgate_session_sent_bytes_total", nil},
		{1, "wasmgate_errors_total", []string{"kind", "connect", "source", "upstream"}},
		{1, "wasmgate_upstream_errors_total", []string{"kind", "connect", "upstream", "users"}},
	} {
		if got := m.value(c.name, c.labels...); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for i := range 3 * maxSeries {
		s := session(connection(1))
		s.Upstream = "up" + strconv.Itoa(i)
		tel.Loop(0).Session(s)
	}
	m = scrape(t, tel)
	if got, series := m.value("wasmgate_sessions_total"), len(m["wasmgate_session_sent_bytes_total"].samples); got != n+3*maxSeries || series != maxSeries+1 {
		t.Errorf("%v sessions in %d series", got, series)
	}
}

// A session's span says what it was and leads to the connection that carried it.
func TestASessionLinksToItsConnection(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
	r, c := tel.Loop(0), connection(900)
	r.ConnOpened(c)
	s := session(c)
	s.Via, s.SNI = netip.MustParseAddrPort("10.0.0.9:5000"), "db.test"
	r.Session(s)
	finish(t, tel)
	span, root := got.all().one(t, "tcp.session database"), got.all().one(t, "upstream.connection")
	wantAttributes(t, span, map[string]any{
		"wasmgate.listener": "database", "server.address": "db.test", "client.address": "198.51.100.9", "client.port": int64(40000),
		"network.peer.address": "10.0.0.9", "network.peer.port": int64(5000), "wasmgate.client.connection.id": int64(7),
		"wasmgate.session.bytes_in": int64(11), "wasmgate.session.bytes_out": int64(2222), "wasmgate.session.why_ended": "client_closed",
		"wasmgate.upstream": "users", "wasmgate.upstream.host": "users.test:8443", "wasmgate.upstream.address": "192.0.2.7:8443",
		"wasmgate.connection.id": int64(900), "wasmgate.pool.wait": 0.004, "wasmgate.dns.age": 2.0,
	})
	wantEvents(t, span, "session.routed", 1, "session.connected", 5)
	if span.Kind != tracepb.Span_SPAN_KIND_SERVER || span.StartTimeUnixNano != uint64(wall) || span.EndTimeUnixNano != uint64(wall+20*ms) {
		t.Errorf("%v", span)
	}
	wantLink(t, span, root)
	if below := got.all().below(span); len(below) != 1 || below[0] != "wait_for_connection" {
		t.Errorf("below the session are %v", below)
	}
}

func wantLink(t *testing.T, from, to *tracepb.Span) {
	t.Helper()
	if len(from.Links) != 1 || string(from.Links[0].SpanId) != string(to.SpanId) || string(from.Links[0].TraceId) != string(to.TraceId) {
		t.Errorf("the links of %s are %v, want %s", from.Name, from.Links, id(to.SpanId))
	}
}

// What could not be connected to has a trace, and who wanted it leads there: also where the gateway's own machine was at
// fault, which is said by an error around that of the dial.
func TestWhoCouldNotConnectLinksToTheConnectionThatFailed(t *testing.T) {
	for name, wrap := range map[string]func(*fault.Error) *fault.Error{
		"refused":        func(err *fault.Error) *fault.Error { return err },
		"no descriptors": func(err *fault.Error) *fault.Error { return &fault.Error{Kind: fault.Connect, Status: 503, Err: err} },
	} {
		t.Run(name, func(t *testing.T) {
			got := httpCollector(t)
			tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
			r := tel.Loop(0)
			err := wrap(refused(r, 0))
			s := session(connection(1))
			s.ConnID, s.Host, s.Address, s.Acquired, s.Why, s.Err = 0, "", netip.AddrPort{}, 0, exchange.EndConnectFailed, err
			r.Session(s)
			x := request(t, "GET / HTTP/1.1", "Host: a")
			r.Begin(x)
			x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "users", Started: at(3), Ended: at(4), Err: err})
			x.Err = err
			end(r, x, 502)
			finish(t, tel)
			all := got.all()
			root := all.one(t, "upstream.connection")
			for _, span := range []*tracepb.Span{all.one(t, "tcp.session database"), all.one(t, "GET users")} {
				wantLink(t, span, root)
				if a := attributes(span.Attributes); a["wasmgate.connection.id"] != nil || a["error.type"] != "connect" {
					t.Errorf("%v", a)
				}
			}
			if a := attributes(all.one(t, "GET users").Attributes); a["server.address"] != "users.test" || a["network.peer.address"] != "192.0.2.7" {
				t.Errorf("the attempt: %v", a)
			}
			if a := attributes(all.one(t, "tcp.session database").Attributes); a["wasmgate.upstream.address"] != "192.0.2.7:8443" {
				t.Errorf("the session: %v", a)
			}
		})
	}
}

// Whether a session is traced the ratio says, and a client's doing is no failure of ours.
func TestSessionsAreSampledByRatio(t *testing.T) {
	for share, want := range map[float64]int{0: 0, 1: 40} {
		got := httpCollector(t)
		tel := start(t, Options{Traces: Traces{Endpoint: got.url, Sample: ratio(share)}})
		for range 40 {
			s := session(connection(1))
			s.Why, s.Err = exchange.EndClientReset, failure(fault.ClientClosed, fault.Client, 0, "reset")
			tel.Loop(0).Session(s)
		}
		finish(t, tel)
		n := 0
		for _, s := range got.all() {
			if s.Name != "tcp.session database" {
				continue
			}
			if n++; s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR || attributes(s.Attributes)["error.type"] != "client_closed" {
				t.Errorf("%v", s)
			}
		}
		if n != want {
			t.Errorf("ratio %v: %d of 40 sessions traced", share, n)
		}
	}
}

// Health checks do not fill the collector: those that go well leave no span, and of those that fail all is told, marked.
func TestConnectionsOfHealthChecksAreToldOfWhenTheyFail(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
	r := tel.Loop(0)
	for i, err := range []*fault.Error{nil, failure(fault.HeaderTimeout, fault.Upstream, 504, "no answer")} {
		c := connection(uint64(i) + 1)
		c.WhyOpened = facts.OpenHealthCheck
		r.ConnOpened(c)
		if c.Sampled {
			t.Error("a connection for a check is sampled from the start")
		}
		c.Requests, c.Closed, c.WhyClosed, c.Err = 1, wall+int64(time.Second), facts.CloseHealthCheckEnded, err
		r.ConnClosed(c)
	}
	finish(t, tel)
	all := got.all()
	root, life := all.one(t, "upstream.connection"), all.one(t, "upstream.connection.segment")
	for _, s := range []*tracepb.Span{root, life} {
		if a := attributes(s.Attributes); a["wasmgate.connection.health_check"] != true || a["wasmgate.connection.id"] != int64(2) {
			t.Errorf("%s: %v", s.Name, a)
		}
	}
	if a := attributes(life.Attributes); a["error.type"] != "response_header_timeout" || string(life.ParentSpanId) != string(root.SpanId) {
		t.Errorf("%v", life)
	}
	m := scrape(t, tel)
	if opened, closed := m.value("wasmgate_upstream_connections_opened_total", "reason", facts.OpenHealthCheck),
		m.value("wasmgate_upstream_connections_closed_total", "reason", facts.CloseHealthCheckEnded); opened != 2 || closed != 2 {
		t.Errorf("%v opened, %v closed", opened, closed)
	}
}

// An attempt says which it was and why, in the order in which they were begun, although the one that gave the answer
// stands last.
func TestRetriesAndHedgesAreToldApart(t *testing.T) {
	var out bytes.Buffer
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}, AccessLog: AccessLog{Writer: &out}})
	r, c := tel.Loop(0), connection(1)
	x := request(t, "GET / HTTP/1.1", "Host: a")
	r.Begin(x)
	for _, why := range []string{"", exchange.AgainStale, exchange.AgainRetry, exchange.AgainHedge} {
		a := x.AddAttempt()
		a.Upstream, a.Why, a.ConnID, a.Reused, a.Started, a.Ended = c.Upstream, why, 1, true, at(3), at(4)
	}
	x.Attempts[2], x.Attempts[3] = x.Attempts[3], x.Attempts[2] // the hedge has lost
	end(r, x, 200)
	finish(t, tel)
	seen := map[any][2]any{}
	for _, s := range got.all() {
		if a := attributes(s.Attributes); s.Kind == tracepb.Span_SPAN_KIND_CLIENT {
			seen[a["wasmgate.attempt.number"]] = [2]any{a["wasmgate.attempt.why"], a["http.request.resend_count"]}
		}
	}
	for number, want := range map[any][2]any{int64(1): {}, int64(2): {"stale_connection", int64(1)}, int64(3): {"retry", int64(2)}, int64(4): {"hedge", int64(3)}} {
		if seen[number] != want {
			t.Errorf("attempt %v: %v, want %v", number, seen[number], want)
		}
	}
	m := scrape(t, tel)
	for _, why := range againWhy {
		if n := m.value("wasmgate_upstream_retries_total", "upstream", "users", "why", why); n != 1 {
			t.Errorf("%s: %v", why, n)
		}
	}
	if line := logLinesOf(t, out.Bytes())[0]; line["attempt_why"] != "retry" || line["attempts"] != 4.0 {
		t.Errorf("%v", line)
	}
}
