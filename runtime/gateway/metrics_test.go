package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	colmetricpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// number is the value of a metric's line that begins like this; 0 if there is none.
func (s *site) number(line string) float64 {
	s.Helper()
	text := s.metric(line)
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.Fatalf("%s is %q", line, text)
	}
	return v
}

// page is all of /metrics in a format.
func (s *site) page(accept string) string {
	s.Helper()
	req, _ := http.NewRequest(http.MethodGet, "http://"+s.AdminAddr().String()+"/metrics", nil)
	req.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	return readAll(s.T, resp)
}

// TestAMetricMovesWhenItsThingHappens: everything happens once that the metrics tell of, and each moves with its own.
func TestAMetricMovesWhenItsThingHappens(t *testing.T) {
	hold, holding := make(chan struct{}), make(chan struct{}, 2)
	o := startOrigin(t, func(w io.Writer, r *originRequest) bool {
		if strings.HasPrefix(r.URL.Path, "/hold") {
			holding <- struct{}{}
			<-hold
		}
		if r.URL.Path == "/broken" {
			_, err := io.WriteString(w, "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")
			return err == nil
		}
		_, err := io.WriteString(w, originOK)
		return err == nil
	})
	_, port, _ := net.SplitHostPort(o.addr)
	text := fmt.Sprintf(`loops: 1
listeners:
  - { name: test, address: '127.0.0.1:0' }
  - { name: bytes, address: '127.0.0.1:0', mode: tcp, upstream: checked }
upstreams:
  app: { targets: ['http://localhost:%[1]s'] }
  narrow: { targets: ['http://127.0.0.1:%[1]s'], pool: { max_connections: 1, acquire_timeout: 20s } }
  once: { targets: ['http://127.0.0.1:%[1]s'], pool: { reuse: never } }
  ahead: { targets: ['http://127.0.0.1:%[1]s'], pool: { min_idle: 1 } }
  checked: { targets: ['http://127.0.0.1:%[1]s'], health: { active: { type: tcp, interval: 100ms } } }
  gone: { targets: ['http://127.0.0.1:%[2]d'], health: { passive: { failures: 1, eject_for: 60s } } }
plugins:
  trap: { module: %[3]s, config: trap, state: [notes], breaker: { failures: 0 } }
routes:
  - { name: narrow, match: { path_prefix: /narrow }, rewrite: { path: /hold }, upstream: narrow }
  - { name: once, match: { path_prefix: /once }, upstream: once }
  - { name: gone, match: { path_prefix: /gone }, upstream: gone }
  - { name: trap, match: { path_prefix: /trap }, plugins: [trap], upstream: app }
  - { name: all, upstream: app }
`, port, freePort(t), module(t, "runtime/gateway/testdata/hostile.wasm"))
	s := startSite(t, text)
	ask := func(path string, status int) {
		t.Helper()
		resp, err := http.Get(s.url(path))
		if err != nil {
			t.Error(err)
			return
		}
		if readAll(t, resp); resp.StatusCode != status {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	for _, step := range []struct {
		what  string
		do    func()
		moves map[string]float64 // by at least
	}{
		{"a request", func() { ask("/", 200) }, map[string]float64{
			`wasmgate_requests_total{listener="test",route="all",upstream="app",class="2xx"}`:                 1,
			`wasmgate_request_duration_seconds_count{listener="test",route="all",upstream="app",class="2xx"}`: 1,
			`wasmgate_response_body_bytes_total{listener="test",route="all",upstream="app"}`:                  3,
			`wasmgate_upstream_connections_opened_total{upstream="app",reason="first"}`:                       1,
			`wasmgate_upstream_requests_total{upstream="app",connection="new",reason="first"}`:                1,
			`wasmgate_upstream_first_byte_seconds_count{upstream="app"}`:                                      1,
			`wasmgate_upstream_connection_setup_seconds_count{upstream="app",phase="connect"}`:                1,
			`wasmgate_upstream_dns_age_seconds_count{upstream="app"}`:                                         1,
			`wasmgate_pool_wait_seconds_count{upstream="app"}`:                                                1,
			`wasmgate_client_connections_accepted_total{listener="test"}`:                                     1,
		}},
		{"another", func() { ask("/", 200) }, map[string]float64{
			`wasmgate_upstream_requests_total{upstream="app",connection="reused",reason=""}`: 1,
		}},
		{"one that the upstream refuses", func() { ask("/broken", 503) }, map[string]float64{
			`wasmgate_requests_total{listener="test",route="all",upstream="app",class="5xx"}`: 1,
		}},
		{"two at once", func() {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { ask("/hold", 200) })
			}
			<-holding
			<-holding
			hold <- struct{}{}
			hold <- struct{}{}
			both.Wait()
		}, map[string]float64{`wasmgate_upstream_connections_opened_total{upstream="app",reason="no_idle"}`: 1}},
		{"a queue", func() {
			var both sync.WaitGroup
			both.Go(func() { ask("/narrow", 200) })
			<-holding
			both.Go(func() { ask("/narrow", 200) })
			testkit.Eventually(t, "the second waits", func() bool { return s.number(`wasmgate_pool_waiting{upstream="narrow"}`) == 1 })
			hold <- struct{}{}
			<-holding
			hold <- struct{}{}
			both.Wait()
		}, map[string]float64{`wasmgate_pool_queue_wait_seconds_count{upstream="narrow"}`: 1, `wasmgate_pool_wait_seconds_count{upstream="narrow"}`: 2}},
		{"a connection for one request", func() { ask("/once", 200) }, map[string]float64{
			`wasmgate_upstream_connections_closed_total{upstream="once",reason="reuse_never"}`: 1,
		}},
		{"another for one request", func() { ask("/once", 200) }, map[string]float64{
			`wasmgate_upstream_requests_total{upstream="once",connection="new",reason="reuse_never"}`: 1,
		}},
		{"an upstream that is gone", func() { ask("/gone", 502) }, map[string]float64{
			`wasmgate_upstream_retries_total{upstream="gone",why="retry"}`:                        1,
			`wasmgate_upstream_retries_refused_total{upstream="gone",why="attempts"}`:             1,
			`wasmgate_upstream_errors_total{upstream="gone",kind="connect"}`:                      2,
			`wasmgate_upstream_connections_closed_total{upstream="gone",reason="connect_failed"}`: 1,
			`wasmgate_upstream_member_changes_total{upstream="gone",state="ejected"}`:             1,
			`wasmgate_upstream_members{upstream="gone",health="ejected"}`:                         1,
			`wasmgate_errors_total{kind="connect",source="upstream"}`:                             1,
		}},
		{"a plugin that traps", func() {
			ask("/trap", 503)
			ask("/trap", 503) // by another instance: one that has trapped is thrown away
		}, map[string]float64{
			`wasmgate_plugin_calls_total{plugin="trap"}`:                       1,
			`wasmgate_plugin_failures_total{plugin="trap",kind="plugin_trap"}`: 1,
			`wasmgate_plugin_fuel_total{plugin="trap"}`:                        1,
			`wasmgate_plugin_instances_started_total{plugin="trap"}`:           1,
			`wasmgate_errors_total{kind="plugin_trap",source="plugin"}`:        1,
		}},
		{"a session", func() {
			c := call(t, s.at("bytes"))
			c.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			_ = c.Close()
		}, map[string]float64{
			`wasmgate_sessions_total{listener="bytes",upstream="checked",reason="client_closed"}`:  1,
			`wasmgate_upstream_connections_opened_total{upstream="checked",reason="tunnel"}`:       1,
			`wasmgate_upstream_connections_closed_total{upstream="checked",reason="tunnel_ended"}`: 1,
			`wasmgate_client_connections_accepted_total{listener="bytes"}`:                         1,
		}},
		{"a health check", func() {}, map[string]float64{`wasmgate_upstream_connections_opened_total{upstream="checked",reason="health_check"}`: 1}},
		{"a config that is right", func() {
			if err := s.Reload(siteConfig(t, s.access, text)); err != nil {
				t.Error(err)
			}
		}, map[string]float64{`wasmgate_config_reloads_total{result="done"}`: 1}},
		{"time", func() {}, map[string]float64{`wasmgate_loop_busy_seconds_total{loop="0"}`: 1e-9}},
	} {
		before := map[string]float64{}
		for line := range step.moves {
			before[line] = s.number(line)
		}
		step.do()
		for line, by := range step.moves {
			testkit.Eventually(t, fmt.Sprintf("%s: %s grows by %v", step.what, line, by), func() bool { return s.number(line) >= before[line]+by })
		}
	}
	testkit.Eventually(t, "a connection is opened ahead", func() bool {
		return s.number(`wasmgate_upstream_connections_opened_total{upstream="ahead",reason="prewarm"}`) >= 1
	})
	for line, want := range map[string]float64{
		`wasmgate_config_last_reload_successful`: 1, `wasmgate_store_keys{store="notes"}`: 0, `wasmgate_store_max_bytes{store="notes"}`: 64 << 20,
		`wasmgate_upstream_dns_stale_members{upstream="app"}`: 0, `wasmgate_client_connections_refused_total{listener="test"}`: 0,
	} {
		if got := s.number(line); got != want || s.metric(line) == "" {
			t.Errorf("%s is %v, want %v", line, got, want)
		}
	}
}

// TestClientConnectionsAreCounted: by listener, also over a reload, with those that were turned away.
func TestClientConnectionsAreCounted(t *testing.T) {
	o := startOrigin(t, nil)
	text := fmt.Sprintf(`loops: 1
limits: { connections: 2 }
listeners: [{ name: test, address: '127.0.0.1:0' }, { name: other, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes: [{ upstream: app }]
`, o.addr)
	s := startSite(t, text)
	is := func(metric, listener string, want float64) {
		t.Helper()
		line := fmt.Sprintf("wasmgate_client_connections%s{listener=%q}", metric, listener)
		testkit.Eventually(t, fmt.Sprintf("%s is %v", line, want), func() bool { return s.metric(line) != "" && s.number(line) == want })
	}
	first, second := call(t, s.at("test")), call(t, s.at("other"))
	is("", "test", 1)
	is("", "other", 1)
	third := call(t, s.at("test"))
	if !strings.Contains(func() string { b, _ := io.ReadAll(third); return string(b) }(), "503") {
		t.Error("the third is not told that there are too many")
	}
	is("_refused_total", "test", 1)
	is("_refused_total", "other", 0)
	first.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = first.Close()
	is("", "test", 0)
	is("_accepted_total", "test", 1)
	if err := s.Reload(siteConfig(t, s.access, strings.Replace(text, "name: test", "name: renamed", 1))); err != nil {
		t.Fatal(err)
	}
	is("_accepted_total", "renamed", 1)
	_ = second.Close()
	is("", "other", 0)
	if line := `wasmgate_client_connections{listener="test"}`; s.metric(line) != "" {
		t.Errorf("%s is still told", line)
	}
}

// TestClientsCannotMakeSeries: whatever hosts, methods, paths and fields a thousand requests have, they are as many series as one.
func TestClientsCannotMakeSeries(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`loops: 1
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes: [{ name: all, upstream: app }]
`, o.addr))
	c := call(t, s.at("test"))
	ask := func(i int) {
		c.say(fmt.Sprintf("M%d /path/%d?q=%d HTTP/1.1\r\nHost: host%d.test\r\nUser-Agent: agent/%d\r\nX-%d: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", i, i, i, i, i, i, i))
	}
	series := func() map[string]bool {
		set := map[string]bool{}
		for line := range strings.Lines(s.page("")) {
			name, _, _ := strings.Cut(line, " ")
			set[name] = true
		}
		return set
	}
	ask(0)
	ask(1) // reuses the connection
	counted := func(n float64) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprintf("%v requests are counted", n), func() bool {
			return s.number(`wasmgate_requests_total{listener="test",route="all",upstream="app",class="2xx"}`) == n
		})
	}
	counted(2)
	before := series()
	for i := range 1000 {
		ask(i + 2)
	}
	counted(1002)
	for line := range series() {
		if !before[line] {
			t.Errorf("a thousand requests have made %s", line)
		}
	}
}

// TestWhatLeftTheConfigIsForgotten: an upstream, a route and a listener that the config no longer has are told of for a while.
func TestWhatLeftTheConfigIsForgotten(t *testing.T) {
	leavesNothing(t)
	o := startOrigin(t, nil)
	configOf := func(generation string) *config.Config {
		c, _, err := config.Load(config.Source{File: "site.yaml", Data: fmt.Appendf(nil, `
telemetry: { access_log: { output: 'off' }, metrics: { forget: 200ms } }
admin: { address: '127.0.0.1:0' }
plugin_cache: { dir: 'off' }
loops: 2
listeners: [{ name: %[1]s, address: '127.0.0.1:0' }]
upstreams: { up-%[1]s: { targets: ['http://%[2]s'] } }
routes: [{ name: %[1]s, upstream: up-%[1]s }]
`, generation, o.addr)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := &site{T: t, access: filepath.Join(t.TempDir(), "access.log"), output: &testkit.Buffer{}, opened: map[string]int{}, closed: map[string]int{}}
	var err error
	if s.Gateway, err = gateway.New(gateway.Options{Config: configOf("old"), Log: zerolog.New(s.output)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for i, generation := range []string{"old", "new"} {
		if i > 0 {
			if err := s.Reload(configOf(generation)); err != nil {
				t.Fatal(err)
			}
		}
		c := call(t, s.at(generation))
		c.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		_ = c.Close()
		testkit.Eventually(t, generation+" is counted", func() bool { return strings.Contains(s.page(""), `upstream="up-`+generation+`"`) })
	}
	testkit.Eventually(t, "what left is forgotten", func() bool { return !strings.Contains(s.page(""), "old") })
	testkit.Eventually(t, "what is in force is told on", func() bool {
		return s.number(`wasmgate_requests_total{listener="new",route="new",upstream="up-new",class="2xx"}`) == 1
	})
}

// metricsTaken is a collector of metrics: it remembers the last value of each counter without attributes that differ.
type metricsTaken struct {
	mu   sync.Mutex
	last map[string]float64
}

func (m *metricsTaken) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	req := &colmetricpb.ExportMetricsServiceRequest{}
	if err != nil || proto.Unmarshal(b, req) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = map[string]float64{}
	for _, rm := range req.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, metric := range sm.Metrics {
				for _, p := range metric.GetSum().GetDataPoints() {
					m.last[metric.Name] += p.GetAsDouble()
				}
				for _, p := range metric.GetExponentialHistogram().GetDataPoints() {
					m.last[metric.Name] += float64(p.GetCount())
				}
			}
		}
	}
}

// TestMetricsAreSentUntilTheEnd: what was counted until the gateway stops arrives at the collector, plugins' figures too,
// although these are closed by then.
func TestMetricsAreSentUntilTheEnd(t *testing.T) {
	taken := &metricsTaken{}
	receiver := httptest.NewServer(taken)
	t.Cleanup(receiver.Close)
	o := startOrigin(t, nil)
	for abi, path := range map[string]string{
		"native": "runtime/gateway/testdata/hostile.wasm", "Proxy-Wasm": "runtime/gateway/testdata/hostile_proxywasm.wasm", "http-wasm": "runtime/gateway/testdata/hostile_httpwasm.wasm",
	} {
		t.Run(abi, func(t *testing.T) {
			leavesNothing(t)
			c, _, err := config.Load(config.Source{File: "site.yaml", Data: fmt.Appendf(nil, `
telemetry: { access_log: { output: 'off' }, metrics: { endpoint: '%s', interval: 1h } }
admin: { address: '' }
plugin_cache: { dir: 'off' }
loops: 1
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
plugins: { trap: { module: %s, config: trap } }
routes: [{ name: trap, match: { path_prefix: /trap }, plugins: [trap], upstream: app }, { upstream: app }]
`, receiver.URL, o.addr, module(t, path))})
			if err != nil {
				t.Fatal(err)
			}
			g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Close)
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			client := call(t, g.Addr("test").String())
			client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			client.say("GET /trap HTTP/1.1\r\nHost: a\r\n\r\n")
			_ = client.Close()
			g.Close()
			taken.mu.Lock()
			defer taken.mu.Unlock()
			for name, want := range map[string]float64{
				"wasmgate_requests_total": 2, "wasmgate_request_duration_seconds": 2, "wasmgate_plugin_failures_total": 1, "wasmgate_client_connections_accepted_total": 1,
			} {
				if got := taken.last[name]; got != want {
					t.Errorf("%s: %v arrived, want %v", name, got, want)
				}
			}
		})
	}
}

var exemplar = regexp.MustCompile(`(?m)^(\w+)_bucket\{.*# \{trace_id="(\w+)",span_id="(\w+)"\}`)

// TestAnExemplarLeadsToItsTrace: who sees a slow request in the metrics comes to its trace, and to the attempt in it.
func TestAnExemplarLeadsToItsTrace(t *testing.T) {
	o := startOrigin(t, nil)
	s, collector := startTold(t, fmt.Sprintf(`loops: 1
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes: [{ name: all, upstream: app }]
`, o.addr))
	call(t, s.at("test")).say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	found := map[string][2]string{}
	testkit.Eventually(t, "the request is an exemplar", func() bool {
		for _, m := range exemplar.FindAllStringSubmatch(s.page("application/openmetrics-text; version=1.0.0"), -1) {
			found[m[1]] = [2]string{m[2], m[3]}
		}
		return len(found) >= 3
	})
	s.Close()
	for metric, span := range map[string]string{
		"wasmgate_request_duration_seconds": "GET all", "wasmgate_upstream_first_byte_seconds": "GET app", "wasmgate_pool_wait_seconds": "GET app",
	} {
		list := collector.named(span)
		if len(list) != 1 {
			t.Fatalf("%d spans %s", len(list), span)
		}
		if got, want := found[metric], [2]string{fmt.Sprintf("%x", list[0].TraceId), fmt.Sprintf("%x", list[0].SpanId)}; got != want {
			t.Errorf("%s leads to %v, its trace is %v", metric, got, want)
		}
	}
}
