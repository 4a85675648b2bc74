package gateway_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// startTraced starts a gateway whose configuration says how it traces; keys is what telemetry.traces has beside the endpoint.
func startTraced(t *testing.T, env map[string]string, keys, text string) (*site, *spans) {
	t.Helper()
	collector := &spans{}
	receiver := httptest.NewServer(collector)
	t.Cleanup(receiver.Close)
	s := &site{T: t, access: filepath.Join(t.TempDir(), "access.log"), output: &testkit.Buffer{}, opened: map[string]int{}, closed: map[string]int{}}
	text = fmt.Sprintf("telemetry: { access_log: { output: %q }, traces: { endpoint: %q, %s } }\nadmin: { address: '127.0.0.1:0' }\nplugin_cache: { dir: 'off' }\n%s",
		s.access, receiver.URL, keys, text)
	c, _, err := config.Load(config.Source{File: "traced.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Gateway, err = gateway.New(gateway.Options{Config: c, Log: zerolog.New(s.output), Env: func(k string) string { return env[k] }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s, collector
}

// below are the children of a span, by name.
func (s *spans) below(of *tracepb.Span) (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if string(span.ParentSpanId) == string(of.SpanId) && string(span.TraceId) == string(of.TraceId) {
			list = append(list, span.Name)
		}
	}
	return list
}

// only is the one span of this name and these attributes.
func (s *spans) only(t *testing.T, name string, attributes ...string) *tracepb.Span {
	t.Helper()
	list := s.named(name, attributes...)
	if len(list) != 1 {
		t.Fatalf("%d spans %s %v", len(list), name, attributes)
	}
	return list[0]
}

// TestTheRequestThatFailedIsThereInTheMorning: an operator traces no request at all, since there are too many, and is told
// in the morning of one that failed in the night, by the id in its answer. The trace is there, with both attempts and the
// connections that could not be opened; so is that of a name that DNS does not know. Requests that went well left nothing but
// the ids that their upstream was told. It shows "traces of errors are kept".
func TestTheRequestThatFailedIsThereInTheMorning(t *testing.T) {
	var told atomic.Value
	well := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told.Store(r.Header.Get("Traceparent") + " " + r.Header.Get("B3"))
	}))
	t.Cleanup(well.Close)
	names := dnstest.New(t)
	names.Fail("nobody.test.", dns.RcodeNameError)
	s, collector := startTraced(t, map[string]string{"OTEL_SERVICE_NAME": "edge"}, "sample: 0, answers: true, propagation: [w3c, b3]", fmt.Sprintf(`listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams:
  well: { targets: ['%s'] }
  gone: { targets: ['http://127.0.0.1:%d'], health: { passive: { failures: 100 } } }
  nameless: { targets: ['http://nobody.test'], dns: { server: '%s' }, retries: { attempts: 1 } }
routes:
  - { name: gone, match: { path_prefix: /gone }, upstream: gone }
  - { name: nameless, match: { path_prefix: /nameless }, upstream: nameless }
  - { name: well, upstream: well }
`, well.URL, freePort(t), names.Addr()))

	get := func(path string) (status int, trace string) {
		resp, err := http.Get(s.url(path))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if p := strings.Split(resp.Header.Get("Traceparent"), "-"); len(p) == 4 {
			trace = p[1]
		}
		return resp.StatusCode, trace
	}
	for range 20 {
		if status, trace := get("/"); status != 200 || trace != "" {
			t.Fatalf("status %d, trace %q", status, trace)
		}
	}
	if p, b3, _ := strings.Cut(told.Load().(string), " "); !strings.HasSuffix(p, "-00") || len(p) != 55 || !strings.HasPrefix(b3, p[3:52]+"-0-") {
		t.Errorf("an upstream was told %q and %q", p, b3)
	}
	status, gone := get("/gone")
	if status != 502 || gone == "" {
		t.Fatalf("status %d, trace %q", status, gone)
	}
	if status, _ := get("/nameless"); status != 502 {
		t.Fatalf("status %d", status)
	}
	s.lines(22)
	if n := s.metric(`wasmgate_telemetry_requests_kept_total{why="error"}`); n != "2" {
		t.Errorf("%s kept", n)
	}
	s.Close()

	request := collector.only(t, "GET gone", "wasmgate.kept", "error", "http.route", "gone")
	if hex.EncodeToString(request.TraceId) != gone {
		t.Errorf("the trace is %x, and the answer said %s", request.TraceId, gone)
	}
	attempts := collector.named("GET gone", "wasmgate.upstream", "gone")
	if len(attempts) != 2 {
		t.Fatalf("%d attempts", len(attempts))
	}
	for _, a := range attempts {
		if c := collector.linked(t, a); attribute(c, "wasmgate.connection.why_closed") != "connect_failed" {
			t.Errorf("an attempt links to %v", c)
		}
	}
	var trail []string
	for _, e := range request.Events {
		trail = append(trail, e.Name)
	}
	if got := strings.Join(trail, " "); got != "request.head_read route.matched request.routed attempt.begun attempt.begun retry.refused response.first_byte exception" {
		t.Errorf("the trail is %s", got)
	}
	nameless := collector.linked(t, collector.only(t, "GET nameless", "wasmgate.upstream", "nameless"))
	if below := collector.below(nameless); len(below) != 1 || below[0] != "dns.lookup" || attribute(nameless, "error.type") != "dns" {
		t.Errorf("the connection to nobody: %v, below it %v", nameless, below)
	}
	if list := collector.named("GET well"); len(list) > 0 {
		t.Errorf("requests that went well were told of: %v", list)
	}
}

// TestASessionThatLastsForDaysIsSeenNow: the connection behind a session of TCP mode that has not ended is seen in segments, and so
// is one that lies in the pool. It shows "a long connection is seen before it ends".
func TestASessionThatLastsForDaysIsSeenNow(t *testing.T) {
	database := startDatabase(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	well := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(well.Close)
	s, collector := startTraced(t, nil, "segment: 100ms", fmt.Sprintf(`listeners:
  - { name: db, address: '127.0.0.1:0', mode: tcp, upstream: db }
  - { name: test, address: '127.0.0.1:0' }
upstreams:
  db: { targets: ['http://%s'] }
  well: { targets: ['%s'] }
routes: [{ upstream: well }]
`, database, well.URL))
	c, err := net.Dial("tcp", s.at("db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("select 1")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(s.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	for _, upstream := range []string{"db", "well"} {
		testkit.Eventually(t, "the connection of "+upstream+" is told of", func() bool {
			list := collector.named("upstream.connection.segment", "wasmgate.upstream", upstream)
			return len(list) > 1 && attribute(list[1], "wasmgate.connection.why_closed") == ""
		})
	}
	if list := collector.named("tcp.session db"); len(list) > 0 {
		t.Errorf("the session has ended: %v", list)
	}
}
