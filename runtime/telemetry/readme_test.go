package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// table returns the rows of the table below this heading of README.md, by column.
func table(t *testing.T, heading string) (rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var columns []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case columns == nil:
			columns = cells
		case strings.Trim(cells[0], "-:") == "" && cells[0] != "":
		case len(cells) != len(columns):
			t.Errorf("%s: %q has %d cells, want %d", heading, line, len(cells), len(columns))
		default:
			row := map[string]string{}
			for i, c := range columns {
				row[c] = cells[i]
			}
			rows = append(rows, row)
		}
	}
	if !found || len(rows) == 0 {
		t.Fatalf("README.md has no table below %q", heading)
	}
	return rows
}

// compare holds what is documented against what was emitted, in both directions.
func compare(t *testing.T, documented, emitted map[string]bool) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(documented)) {
		if !emitted[k] {
			t.Errorf("documented and never emitted: %s", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(emitted)) {
		if !documented[k] {
			t.Errorf("emitted and not documented: %s", k)
		}
	}
}

// emitEverything makes telemetry emit all that it can.
func emitEverything(t *testing.T, r *Recorder) {
	trap := &fault.Error{Kind: fault.PluginTrap, Source: fault.Plugin, Status: 500, Plugin: "tenant", Phase: "request_head", Detail: "unreachable", Err: errors.New("trap")}
	closed := failure(fault.UpstreamClosed, fault.Upstream, 502, "closed")

	x := request(t, "BREW /users/42?page=2 HTTP/1.1", "Host: api.test:8080", "User-Agent: curl/8", callerParent)
	x.Client.TLS = &exchange.TLS{
		Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "http/1.1", ServerName: "api.test", Resumed: true,
		Peer: &exchange.Certificate{Subject: "CN=alice", Issuer: "CN=authority", SHA256: "0a0b"},
	}
	r.Begin(x)
	x.Route, x.Routed, x.FirstByte, x.BytesIn, x.BytesOut = "user-by-id", at(2), at(15), 10, 20
	x.Compressed = exchange.Recoded{Coding: "gzip", In: 100, Out: 20}
	x.RPC.Is = true
	x.RPC.Ended(14)
	x.Decompressed = exchange.Recoded{Coding: "br", In: 20, Out: 100}
	x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant", Phase: "request_head", Started: at(1), Took: 1, Fuel: 5, Outcome: "trap", Err: trap})
	for i := range maxTags + 1 {
		x.Tags = append(x.Tags, exchange.Tag{Key: fmt.Sprint("key", i), Value: "v"})
	}
	c := connection(1)
	r.ConnOpened(c)
	first := attempt(x, r, c)
	first.Err, first.WhyClosed = closed, facts.CloseError
	first.ResetSent, first.ResetReceived = "CANCEL", "INTERNAL_ERROR"
	second := attempt(x, r, c)
	second.Reused, second.WhyNew, second.WhyClosed, second.Age, second.Idle = true, "", facts.CloseMaxRequests, 2, 1
	second.Why, second.Queued, second.HTTP2 = exchange.AgainHedge, 1, true
	x.Err = trap
	end(r, x, 500)

	x = request(t, "GET / HTTP/1.1", "Host: a")
	x.Client.Version = exchange.HTTP3
	r.Begin(x)
	attempt(x, r, c)
	x.Tunnel.Protocol, x.Tunnel.Why, x.BytesIn = exchange.TunnelWebSocket, exchange.EndDrained, 1
	r.TunnelBegan(x)
	end(r, x, 101)
	emitKept(t, r, c, trap)
	c.Closed, c.WhyClosed, c.Err = wall+int64(time.Minute), facts.CloseError, closed
	c.GoAwayReceived, c.GoAwaySent = "NO_ERROR", "PROTOCOL_ERROR"
	r.ConnClosed(c)
	for _, phase := range []int{1, 2, 3} {
		c := connection(uint64(phase))
		c.Established, c.Closed, c.WhyClosed, c.TLSEnd = 0, wall+9*ms, facts.CloseConnectFailed, 0
		c.Err = failure(fault.TLS, fault.Upstream, 502, "certificate")
		if phase <= 2 {
			c.Err.Kind, c.DialEnd, c.TLSStart = fault.Connect, 0, 0
		}
		if phase == 1 {
			c.Err.Kind, c.DNSEnd, c.DialStart = fault.DNS, 0, 0
		}
		r.ConnClosed(c)
	}
	check := connection(9)
	check.WhyOpened = facts.OpenHealthCheck
	r.ConnOpened(check)
	check.Closed, check.WhyClosed, check.Err = wall+int64(time.Second), facts.CloseHealthCheckEnded, closed
	r.ConnClosed(check)
	s := session(c)
	s.Via, s.SNI, s.Client.Scheme = netip.MustParseAddrPort("10.0.0.9:5000"), "db.test", "tls"
	s.Why, s.Err = exchange.EndUpstreamReset, &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Detail: "reset", Err: errors.New("reset by peer")}
	r.Session(s)
}

// emitKept is a request that its caller does not want to be traced, and that fails.
func emitKept(t *testing.T, r *Recorder, c *facts.Connection, trap *fault.Error) {
	x := request(t, "GET /users/42 HTTP/1.1", "Host: api.test", strings.TrimSuffix(callerParent, "1")+"0", "Baggage: tenant.id=blue")
	r.Begin(x)
	x.Route, x.Matched, x.Routed, x.FirstByte = "user-by-id", at(1), at(2), at(15)
	x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant", Phase: "request_head", Started: at(1), Took: 1, Fuel: 5, Outcome: "route"})
	a := attempt(x, r, c)
	a.Setup, a.Queued, a.BodySent = exchange.Setup{DNS: 1, Connect: 1, TLS: 1}, 1, at(8)
	a.Failed, a.Ejected = append(a.Failed, refused(r, 77)), true
	a.Failed[0].Ejected, a.Failed[0].ConnBegan, a.Failed[0].ConnEnded = true, at(3), at(4)
	a.Err, a.Refused = failure(fault.UpstreamClosed, fault.Upstream, 502, "closed"), exchange.RefusedAttempts
	silent := attempt(x, r, c)
	silent.FirstByte, silent.Status, silent.Err = 0, 0, failure(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer")
	x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "users", Why: exchange.AgainRetry, Started: at(19), Ended: at(20), Err: trap})
	r.StartAttempt(x, x.Attempt())
	end(r, x, 500)

	s, was := session(c), r.sampler
	s.Why, s.Err, r.sampler = exchange.EndUpstreamReset, failure(fault.UpstreamClosed, fault.Upstream, 0, "reset"), ratioSampler(0, true)
	r.Session(s)
	r.sampler = was
}

// live fills in what other packages know.
func live(l *Live) {
	l.Gateway = GatewayStats{Panics: 1, Reloaded: time.Unix(0, wall)}
	l.Listeners["public"] = ListenerStats{Accepted: 1, Open: 1, Handshakes: map[string]uint64{"done": 2, "timeout": 1}, HTTP3: true, Retried: 1}
	l.Shown = append(l.Shown, ShownCertificate{"public", "api.test", time.Unix(0, wall)}, ShownCertificate{"public", "api.test", time.Unix(0, wall+1)})
	l.Upstreams["users"] = UpstreamStats{Active: 1, Idle: 2, Waiting: 3, Members: map[string]int{"healthy": 1}, LearnedIdle: time.Second, DNSAge: time.Second}
	l.Stores["limits"] = StoreStats{Keys: 1, Bytes: 2, MaxBytes: 3}
	l.Certificates["a.example.com"] = CertificateStats{NotAfter: time.Unix(2e9, 0), Obtained: 1, Renewed: 2, Failed: 3}
	l.Plugins["tenant"] = PluginStats{Calls: 1, Failures: map[string]uint64{"plugin_trap": 1}, BreakerOpen: true}
	l.Loops = append(l.Loops, LoopStats{Busy: time.Second})
}

// run is one run in which everything is emitted.
func run(t *testing.T) (spans *collector, page exposition, log []map[string]any) {
	var out bytes.Buffer
	c := httpCollector(t)
	tel := start(t, Options{
		Build: Build{Version: "1"}, Sources: []func(*Live){live}, Traces: Traces{Endpoint: c.url, KeepErrors: true, KeepRate: 2, Baggage: []string{"tenant.id"}},
		AccessLog: AccessLog{Writer: &out, Query: true},
	})
	emitEverything(t, tel.Loop(0))
	tel.MemberChanged("users", "joined")
	finish(t, tel)
	return c, scrape(t, tel), logLinesOf(t, out.Bytes())
}

// spanNames says what README.md calls the spans whose names depend on the request.
func documentedName(s *tracepb.Span) string {
	switch {
	case strings.HasPrefix(s.Name, "tcp.session "):
		return "tcp.session {listener}"
	case s.Kind == tracepb.Span_SPAN_KIND_SERVER:
		return "{method} {route}"
	case s.Kind == tracepb.Span_SPAN_KIND_CLIENT && (strings.HasPrefix(s.Name, "HTTP ") || strings.HasPrefix(s.Name, "GET ")):
		return "{method} {upstream}"
	case strings.HasPrefix(s.Name, "plugin.call "):
		return "plugin.call {plugin}"
	}
	return s.Name
}

// README.md documents every span, attribute, event and link there is, and no other.
func TestTheTableOfSpansIsTrue(t *testing.T) {
	c, _, _ := run(t)
	emitted := map[string]bool{}
	add := func(on string, attrs map[string]any) {
		for k, v := range attrs {
			if strings.HasPrefix(k, attrTagPrefix) {
				k = attrTagPrefix + "{key}"
			}
			if strings.HasPrefix(k, attrBaggagePrefix) {
				k = attrBaggagePrefix + "{name}"
			}
			kind := map[string]string{"string": "string", "int64": "int", "float64": "double", "bool": "bool"}[fmt.Sprintf("%T", v)]
			emitted[strings.Join([]string{on, "attribute", k, kind}, " ; ")] = true
		}
	}
	for _, s := range c.all() {
		name := documentedName(s)
		kind := strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_"))
		emitted[strings.Join([]string{"", "span", name, kind}, " ; ")] = true
		add(name, attributes(s.Attributes))
		for _, e := range s.Events {
			emitted[strings.Join([]string{name, "event", e.Name, ""}, " ; ")] = true
			add("event "+e.Name, attributes(e.Attributes))
		}
		for _, l := range s.Links {
			emitted[strings.Join([]string{name, "link", "upstream.connection", ""}, " ; ")] = true
			add("link", attributes(l.Attributes))
		}
	}
	add("resource", c.resource)

	documented := map[string]bool{}
	for _, row := range table(t, "Spans") {
		for on := range strings.SplitSeq(row["on"], ", ") {
			k := strings.Join([]string{strings.Trim(on, "`"), row["what"], row["name"], row["type"]}, " ; ")
			if documented[k] {
				t.Errorf("documented twice: %s", k)
			}
			documented[k] = true
		}
		if row["meaning"] == "" {
			t.Errorf("%s has no meaning", row["name"])
		}
		ours := strings.HasPrefix(row["name"], "wasmgate.")
		if row["what"] == "attribute" && ours != (row["from"] == "ours") || row["from"] != "ours" && row["from"] != "semconv" && row["from"] != ".NET" {
			t.Errorf("%s is said to be from %q", row["name"], row["from"])
		}
		checkUnit(t, row)
	}
	compare(t, documented, emitted)
}

// checkUnit: durations and sizes have their units, and a count says of what.
func checkUnit(t *testing.T, row map[string]string) {
	t.Helper()
	want := ""
	switch {
	case row["type"] == "double":
		want = "s"
	case strings.HasSuffix(row["name"], "body.size"), strings.Contains(row["name"], ".bytes_"):
		want = "By"
	}
	if want != "" && row["unit"] != want {
		t.Errorf("the unit of %s is %q, want %q", row["name"], row["unit"], want)
	}
}

// README.md documents every metric with its type, labels and help text, and no other.
func TestTheTableOfMetricsIsTrue(t *testing.T) {
	_, page, _ := run(t)
	emitted := map[string]bool{}
	for _, f := range page {
		labels := map[string]bool{}
		for _, s := range f.samples {
			for l := range s.labels {
				if f.kind != histo || l != "le" {
					labels[l] = true
				}
			}
		}
		emitted[strings.Join([]string{f.name, f.kind, strings.Join(slices.Sorted(maps.Keys(labels)), ", "), f.help}, " ; ")] = true
	}
	documented := map[string]bool{}
	for _, row := range table(t, "Metrics") {
		if strings.HasPrefix(row["name"], "process_") && runtime.GOOS != "linux" {
			continue // read from /proc
		}
		labels := strings.Split(strings.ReplaceAll(row["labels"], "`", ""), ", ")
		slices.Sort(labels)
		documented[strings.Join([]string{row["name"], row["type"], strings.Join(labels, ", "), row["meaning"]}, " ; ")] = true
		base := strings.TrimSuffix(row["name"], "_total")
		if s, b := strings.HasSuffix(base, "_seconds"), strings.HasSuffix(base, "_bytes"); s != (row["unit"] == "s") || b != (row["unit"] == "By") || row["unit"] == "" {
			t.Errorf("the unit of %s is %q", row["name"], row["unit"])
		}
	}
	compare(t, documented, emitted)
}

// README.md documents every field of the access log, and no other: of requests, and of sessions.
func TestTheTablesOfLogFieldsAreTrue(t *testing.T) {
	_, _, log := run(t)
	requests, sessions := []map[string]any{}, []map[string]any{}
	for _, line := range log {
		if line["why_ended"] != nil {
			sessions = append(sessions, line)
		} else {
			requests = append(requests, line)
		}
	}
	compareFields(t, "Access log", requests)
	compareFields(t, "Access log of sessions", sessions)
}

func compareFields(t *testing.T, heading string, log []map[string]any) {
	t.Helper()
	emitted, always := map[string]bool{}, map[string]int{}
	for _, line := range log {
		for k, v := range line {
			kind := map[string]string{"string": "string", "float64": "integer", "bool": "boolean"}[fmt.Sprintf("%T", v)]
			emitted[k+" ; "+kind] = true
			always[k]++
		}
	}
	documented := map[string]bool{}
	for _, row := range table(t, heading) {
		documented[row["field"]+" ; "+row["type"]] = true
		if us := strings.HasSuffix(row["field"], "_us"); us != (row["unit"] == "µs") || row["meaning"] == "" {
			t.Errorf("field %s: unit %q, meaning %q", row["field"], row["unit"], row["meaning"])
		}
		if (row["present"] == "always") && always[row["field"]] != len(log) {
			t.Errorf("field %s is not always there", row["field"])
		}
	}
	compare(t, documented, emitted)
}

// README.md documents every variable of the access log's formats, and no other.
func TestTheTableOfVariablesIsTrue(t *testing.T) {
	documented := map[string]bool{"request_header_NAME": false, "response_header_NAME": false}
	for _, heading := range []string{"Access log", "Access log of sessions"} {
		for _, row := range table(t, heading) {
			documented[row["field"]] = true
		}
	}
	for _, row := range table(t, "Formats of the access log") {
		if _, named := documented[row["variable"]]; named {
			delete(documented, row["variable"])
		} else if row["variable"] != "" && row["meaning"] != "" {
			documented[row["variable"]] = true
		}
	}
	emitted := map[string]bool{}
	for _, f := range Fields() {
		emitted[f] = true
	}
	compare(t, documented, emitted)
}
