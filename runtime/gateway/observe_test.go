package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// spans are those that a gateway has sent to its collector.
type spans struct {
	mu  sync.Mutex
	all []*tracepb.Span
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	req := &coltracepb.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(b, req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			s.all = append(s.all, ss.Spans...)
		}
	}
}

// named are the spans of this name whose attributes have these values; attributes are names and values in turn.
func (s *spans) named(name string, attributes ...string) (list []*tracepb.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		fits := span.Name == name
		for i := 0; i < len(attributes); i += 2 {
			fits = fits && attribute(span, attributes[i]) == attributes[i+1]
		}
		if fits {
			list = append(list, span)
		}
	}
	return list
}

// attribute is the value of an attribute that is text, or "true"; "" if there is none.
func attribute(s *tracepb.Span, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == key {
			if kv.Value.GetBoolValue() {
				return "true"
			}
			return kv.Value.GetStringValue()
		}
	}
	return ""
}

// linked is the connection's span that s links to.
func (s *spans) linked(t *testing.T, from *tracepb.Span) *tracepb.Span {
	t.Helper()
	for _, c := range s.named("upstream.connection") {
		if len(from.Links) == 1 && string(from.Links[0].SpanId) == string(c.SpanId) && string(from.Links[0].TraceId) == string(c.TraceId) {
			return c
		}
	}
	t.Fatalf("%s has the links %v, none of which is a connection that was told of", from.Name, from.Links)
	return nil
}

// startTold starts a gateway whose spans go to a collector of ours.
func startTold(t *testing.T, text string) (*site, *spans) {
	t.Helper()
	collector := &spans{}
	receiver := httptest.NewServer(collector)
	t.Cleanup(receiver.Close)
	s := &site{T: t, access: filepath.Join(t.TempDir(), "access.log"), output: &testkit.Buffer{}, opened: map[string]int{}, closed: map[string]int{}}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	var err error
	if s.Gateway, err = gateway.New(gateway.Options{Config: siteConfig(t, s.access, text), Log: zerolog.New(s.output), Env: os.Getenv}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s, collector
}

// TestWhoPassedThroughAndWhereToIsTold: a database is reached by a listener in TCP mode; one of its replicas is down. The
// operator sees each session in the access log, the counters and the traces, and from a session that failed comes to
// the connection that could not be opened. It shows "`mode tcp` beside `mode http`" and
// "a trace for every upstream connection, linked".
func TestWhoPassedThroughAndWhereToIsTold(t *testing.T) {
	database := startDatabase(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	s, collector := startTold(t, fmt.Sprintf(`listeners:
  - { name: db, address: '127.0.0.1:0', mode: tcp, upstream: db }
  - { name: replica, address: '127.0.0.1:0', mode: tcp, upstream: replica }
upstreams:
  db: { targets: ['http://%s'] }
  replica: { targets: ['http://127.0.0.1:%d'] }
`, database, freePort(t)))

	c, err := net.Dial("tcp", s.at("db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("select 1")); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "select 1" {
		t.Fatalf("%q, %v", b, err)
	}
	if refused, err := net.Dial("tcp", s.at("replica")); err == nil { // else it was reset before Dial saw it connected
		defer refused.Close()
		_, _ = io.ReadAll(refused)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}

	s.lines(2)
	for line, want := range map[string]string{
		`wasmgate_sessions_total{listener="db",upstream="db",reason="client_closed"}`:            "1",
		`wasmgate_session_received_bytes_total{listener="db",upstream="db"}`:                     "8",
		`wasmgate_session_sent_bytes_total{listener="db",upstream="db"}`:                         "8",
		`wasmgate_sessions_total{listener="replica",upstream="replica",reason="connect_failed"}`: "1",
		`wasmgate_errors_total{kind="connect",source="upstream"}`:                                "1",
		`wasmgate_upstream_members{upstream="db",health="healthy"}`:                              "1",
		`wasmgate_upstream_member_changes_total{upstream="db",state="joined"}`:                   "1",
		`wasmgate_upstream_breaker_open{upstream="db"}`:                                          "0",
	} {
		if got := s.metric(line); got != want {
			t.Errorf("%s is %q, want %s", line, got, want)
		}
	}
	text, _ := os.ReadFile(s.access)
	port := strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port)
	for _, want := range []string{
		`"client":"127.0.0.1","client_port":` + port + `,"listener":"db","scheme":"tcp","bytes_in":8,"bytes_out":8,`,
		`"upstream":"db","upstream_host":"` + database.String() + `","upstream_address":"` + database.String() + `"`,
		`"why_ended":"client_closed"`, `"why_ended":"connect_failed"`, `"error":"connect","error_source":"upstream"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the access log does not say %s:\n%s", want, text)
		}
	}

	s.Close()
	well, failed := collector.named("tcp.session db"), collector.named("tcp.session replica")
	if len(well) != 1 || len(failed) != 1 {
		t.Fatalf("%d and %d spans of sessions", len(well), len(failed))
	}
	if c := collector.linked(t, well[0]); attribute(c, "wasmgate.upstream") != "db" || attribute(c, "wasmgate.connection.why_opened") != "tunnel" {
		t.Errorf("the session links to %v", c)
	}
	if c := collector.linked(t, failed[0]); attribute(c, "wasmgate.connection.why_closed") != "connect_failed" || attribute(c, "wasmgate.upstream") != "replica" {
		t.Errorf("the session that failed links to %v", c)
	}
}

// TestWhatWasTriedIsTold: a service is gone. Each attempt at it is a span that says why it was made and leads to the
// connection that could not be opened; the failed health checks have spans of their own, those that go well have none.
// It shows "every connect error names upstream, host, address" and "a trace for every upstream connection, linked".
func TestWhatWasTriedIsTold(t *testing.T) {
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	t.Cleanup(well.Close)
	s, collector := startTold(t, fmt.Sprintf(`listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams:
  gone: { targets: ['http://127.0.0.1:%d'], health: { passive: { failures: 100 } } }
  checked: { targets: ['http://127.0.0.1:%d'], health: { active: { type: tcp, interval: 100ms, fall: 2 } } }
  well: { targets: ['%s'], health: { active: { type: http, interval: 100ms } } }
routes: [{ upstream: gone }]
`, freePort(t), freePort(t), well.URL))

	resp, err := http.Get(s.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if resp.StatusCode != 502 {
		t.Errorf("status %d", resp.StatusCode)
	}
	s.lines(1) // the counters are told of a request before its line is written, and that may be after its answer
	testkit.Eventually(t, "the checks have their effect", func() bool {
		return s.metric(`wasmgate_upstream_members{upstream="checked",health="unhealthy"}`) == "1" &&
			s.metric(`wasmgate_upstream_member_changes_total{upstream="checked",state="unhealthy"}`) == "1"
	})
	testkit.Eventually(t, "the other one is asked", func() bool {
		n, _ := strconv.Atoi(s.metric(`wasmgate_upstream_connections_closed_total{upstream="well",reason="health_check_ended"}`))
		return n > 2
	})
	for line, want := range map[string]string{
		`wasmgate_upstream_member_changes_total{upstream="checked",state="unhealthy"}`: "1",
		`wasmgate_upstream_members{upstream="checked",health="healthy"}`:               "0",
		`wasmgate_upstream_members{upstream="well",health="healthy"}`:                  "1",
		`wasmgate_upstream_retries_total{upstream="gone",why="retry"}`:                 "1",
		`wasmgate_upstream_retries_total{upstream="gone",why="hedge"}`:                 "0",
	} {
		if got := s.metric(line); got != want {
			t.Errorf("%s is %q, want %s", line, got, want)
		}
	}
	text, _ := os.ReadFile(s.access)
	for _, want := range []string{`"upstream":"gone","upstream_host":"127.0.0.1:`, `"attempts":2,"attempt_why":"retry"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the access log does not say %s:\n%s", want, text)
		}
	}

	s.Close()
	attempts := collector.named("GET gone")
	if len(attempts) != 2 {
		t.Fatalf("%d spans of attempts", len(attempts))
	}
	first, second := collector.linked(t, attempts[0]), collector.linked(t, attempts[1])
	if first == second || attribute(attempts[0], "wasmgate.attempt.why") != "" || attribute(attempts[1], "wasmgate.attempt.why") != "retry" {
		t.Errorf("the attempts: %v\n%v", attempts[0], attempts[1])
	}
	if n := len(collector.named("upstream.connection", "wasmgate.upstream", "checked")); n < 2 {
		t.Errorf("%d failed checks were told of", n)
	}
	for _, c := range collector.named("upstream.connection", "wasmgate.upstream", "checked") {
		if attribute(c, "wasmgate.connection.health_check") != "true" {
			t.Errorf("not marked as a check: %v", c)
		}
	}
	if list := collector.named("upstream.connection", "wasmgate.upstream", "well"); len(list) > 0 {
		t.Errorf("checks that went well were told of: %v", list)
	}
}
