package telemetry

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// sample is one line of the metrics page.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// family is what stands below one TYPE line.
type family struct {
	name, kind, help string
	samples          []sample
}

// exposition is a page of the Prometheus text format, version 0.0.4, as a strict reader understands it.
type exposition map[string]*family

// parse reads a page, and fails the test where the format says that a reader may refuse it.
func parse(t testing.TB, page string) exposition {
	t.Helper()
	if !strings.HasSuffix(page, "\n") {
		t.Fatal("the page's last line has no end")
	}
	e := exposition{}
	var f *family
	for _, line := range strings.Split(strings.TrimSuffix(page, "\n"), "\n") {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			if e[name] != nil {
				t.Fatalf("family %s comes twice", name)
			}
			f = &family{name: name, help: help}
			e[name] = f
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if f == nil || f.name != name || f.kind != "" || len(f.samples) > 0 {
				t.Fatalf("TYPE of %s is not behind its HELP", name)
			}
			f.kind = kind
			continue
		}
		s := parseSample(t, line)
		base := s.name
		if f != nil && f.kind == histo {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
		}
		if f == nil || base != f.name {
			t.Fatalf("%q is not in a family of its own", line)
		}
		f.samples = append(f.samples, s)
	}
	for _, f := range e {
		f.check(t)
	}
	return e
}

func parseSample(t testing.TB, line string) sample {
	t.Helper()
	s := sample{labels: map[string]string{}}
	i := strings.IndexAny(line, "{ ")
	if i < 1 {
		t.Fatalf("no sample: %q", line)
	}
	s.name = line[:i]
	rest := line[i:]
	if rest[0] == '{' {
		for rest = rest[1:]; rest[0] != '}'; {
			name, after, ok := strings.Cut(rest, `="`)
			if !ok {
				t.Fatalf("labels of %q", line)
			}
			var v strings.Builder
			for i = 0; after[i] != '"'; i++ {
				if after[i] == '\\' {
					i++
					v.WriteByte(map[byte]byte{'n': '\n', '\\': '\\', '"': '"'}[after[i]])
				} else {
					v.WriteByte(after[i])
				}
			}
			if _, twice := s.labels[name]; twice || !isWord(name) {
				t.Fatalf("label %q of %q", name, line)
			}
			s.labels[name] = v.String()
			rest = strings.TrimPrefix(after[i+1:], ",")
		}
		rest = rest[1:]
	}
	var err error
	if s.value, err = strconv.ParseFloat(strings.TrimPrefix(rest, " "), 64); err != nil || rest[0] != ' ' || !isWord(s.name) {
		t.Fatalf("no sample: %q", line)
	}
	return s
}

func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_0123456789") == "" && (s[0] < '0' || s[0] > '9')
}

// check holds the family against what its type promises.
func (f *family) check(t testing.TB) {
	t.Helper()
	if f.help == "" || !slices.Contains([]string{counter, gauge, histo}, f.kind) {
		t.Errorf("%s has type %q and help %q", f.name, f.kind, f.help)
	}
	if total := strings.HasSuffix(f.name, "_total"); total != (f.kind == counter) {
		t.Errorf("%s is a %s: counters, and nothing else, end in _total", f.name, f.kind)
	}
	seen := map[string]bool{}
	for _, s := range f.samples {
		k := s.key()
		if seen[k] {
			t.Errorf("%s comes twice", k)
		}
		seen[k] = true
	}
	if f.kind == histo {
		f.checkBuckets(t)
	}
}

func (s *sample) key() string {
	var l []string
	for k, v := range s.labels {
		l = append(l, k+"="+strconv.Quote(v))
	}
	sort.Strings(l)
	return s.name + "{" + strings.Join(l, ",") + "}"
}

// checkBuckets: each histogram's buckets never fall, and the last is the count.
func (f *family) checkBuckets(t testing.TB) {
	t.Helper()
	var last, bound float64
	for _, s := range f.samples {
		switch s.name {
		case f.name + "_bucket":
			le, err := strconv.ParseFloat(s.labels["le"], 64)
			if err != nil || s.value < last || bound != 0 && le <= bound {
				t.Errorf("%s: bucket %q has %v after %v", f.name, s.labels["le"], s.value, last)
			}
			last, bound = s.value, le
		case f.name + "_count":
			if s.value != last {
				t.Errorf("%s: count %v, last bucket %v", f.name, s.value, last)
			}
			last, bound = 0, 0
		}
	}
}

// scrape asks for the page as Prometheus does.
func scrape(t testing.TB, tel *Telemetry) exposition {
	t.Helper()
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8") || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Fatalf("status %d, fields %v", w.Code, w.Header())
	}
	return parse(t, w.Body.String())
}

// value adds up the samples that have these labels; a suffix of the name, like _count, is that of a histogram.
func (e exposition) value(name string, labels ...string) (sum float64) {
	for _, f := range e {
		for _, s := range f.samples {
			ok := s.name == name
			for i := 0; i < len(labels); i += 2 {
				ok = ok && s.labels[labels[i]] == labels[i+1]
			}
			if ok {
				sum += s.value
			}
		}
	}
	return sum
}

// What two loops saw is added up, by listener, route, upstream and class of the answer.
func TestRequestsAreCounted(t *testing.T) {
	tel := start(t, Options{Loops: 2})
	for i, status := range []int{200, 204, 404, 502, 0} {
		r := tel.Loop(i % 2)
		x := sampled(t, r)
		x.Route, x.BytesIn, x.BytesOut = "user-by-id", 10, 100
		if status == 502 {
			x.Err = failure(fault.Connect, fault.Upstream, 502, "refused")
		}
		if status == 200 {
			c := connection(1)
			r.ConnOpened(c)
			attempt(x, r, c)
		}
		end(r, x, status)
	}
	m := scrape(t, tel)
	for class, n := range map[string]float64{"2xx": 2, "4xx": 1, "5xx": 1, "none": 1} {
		if got := m.value("wasmgate_requests_total", "class", class, "listener", "public", "route", "user-by-id"); got != n {
			t.Errorf("class %s: %v, want %v", class, got, n)
		}
	}
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1, "wasmgate_requests_total", []string{"upstream", "users"}},
		{5, "wasmgate_request_duration_seconds_count", nil},
		{0.1, "wasmgate_request_duration_seconds_sum", nil},
		{50, "wasmgate_request_body_bytes_total", nil},
		{500, "wasmgate_response_body_bytes_total", nil},
		{1, "wasmgate_errors_total", []string{"kind", "connect", "source", "upstream"}},
		{2, "wasmgate_request_duration_seconds_bucket", []string{"le", "0.025", "class", "2xx"}},
		{0, "wasmgate_request_duration_seconds_bucket", []string{"le", "0.01", "class", "2xx"}},
	} {
		if got := m.value(c.name, c.labels...); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%s %v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

// Whether connections are reused, why not, and what that costs is in the metrics.
func TestConnectionsAreCountedWithTheirReasons(t *testing.T) {
	tel := start(t, Options{})
	r := tel.Loop(0)
	c := connection(1)
	r.ConnOpened(c)
	x := sampled(t, r)
	attempt(x, r, c).Err = failure(fault.UpstreamClosed, fault.Upstream, 502, "closed")
	again := attempt(x, r, c)
	again.Reused, again.WhyNew, again.PoolWait = true, "", 0
	end(r, x, 200)
	x = sampled(t, r)
	x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "users", PoolWait: time.Second, Err: failure(fault.PoolExhausted, fault.Gateway, 503, "none")})
	end(r, x, 503)
	c.Closed, c.WhyClosed = wall, facts.ClosePeer
	r.ConnClosed(c)
	failed := connection(2)
	failed.Established, failed.WhyOpened, failed.WhyClosed, failed.TLSEnd = 0, "a reason of tomorrow", facts.CloseConnectFailed, 0
	r.ConnClosed(failed)
	m := scrape(t, tel)
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1, "wasmgate_upstream_requests_total", []string{"connection", "reused", "reason", ""}},
		{1, "wasmgate_upstream_requests_total", []string{"connection", "new", "reason", "no_idle"}},
		{2, "wasmgate_upstream_requests_total", []string{"upstream", "users"}},
		{1, "wasmgate_upstream_errors_total", []string{"kind", "upstream_closed"}},
		{1, "wasmgate_upstream_errors_total", []string{"kind", "pool_exhausted"}},
		{1, "wasmgate_upstream_retries_total", nil},
		{2, "wasmgate_upstream_first_byte_seconds_count", nil},
		{2, "wasmgate_pool_wait_seconds_count", nil},
		{1, "wasmgate_pool_wait_seconds_bucket", []string{"le", "0.00025"}},
		{0.004, "wasmgate_pool_wait_seconds_sum", nil},
		{1, "wasmgate_upstream_connections_opened_total", []string{"reason", "no_idle"}},
		{1, "wasmgate_upstream_connections_opened_total", []string{"reason", "other"}},
		{1, "wasmgate_upstream_connections_closed_total", []string{"reason", "peer_closed"}},
		{1, "wasmgate_upstream_connections_closed_total", []string{"reason", "connect_failed"}},
		{2, "wasmgate_upstream_connection_setup_seconds_count", []string{"phase", "dns"}},
		{2, "wasmgate_upstream_connection_setup_seconds_count", []string{"phase", "connect"}},
		{1, "wasmgate_upstream_connection_setup_seconds_count", []string{"phase", "tls"}},
	} {
		if got := m.value(c.name, c.labels...); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

// Names come from files that people write and from plugins: they never break the page, nor make it grow for ever.
func TestHostileAndCountlessNamesDoNotBreakThePage(t *testing.T) {
	hostile := "a\"} 1\n# TYPE x counter\n\\\xff"
	tel := start(t, Options{Sources: []func(*Live){func(l *Live) { l.Plugins[hostile] = PluginStats{Calls: 3} }}})
	r := tel.Loop(0)
	for i := range 3 * maxSeries {
		x := sampled(t, r)
		x.Route = hostile + strconv.Itoa(i)
		x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: "up" + strconv.Itoa(i), ConnID: 1, Reused: true})
		end(r, x, 200)
	}
	m := scrape(t, tel)
	if n := m.value("wasmgate_requests_total"); n != 3*maxSeries {
		t.Errorf("%v requests counted", n)
	}
	if n := len(m["wasmgate_requests_total"].samples); n != maxSeries+1 {
		t.Errorf("%d series", n)
	}
	if n := m.value("wasmgate_requests_total", "route", "other", "upstream", "other", "listener", "other"); n != 2*maxSeries {
		t.Errorf("%v requests counted as other", n)
	}
	if n := m.value("wasmgate_upstream_requests_total"); n != 3*maxSeries {
		t.Errorf("%v attempts counted", n)
	}
	if m.value("wasmgate_plugin_calls_total", "plugin", strings.ToValidUTF8(hostile, "\uFFFD")) != 3 {
		t.Error("the plugin's name is lost")
	}
}

// The page may be read by many at once while the loops go on, and no counter is ever seen to go back.
func TestCollectionAndLoopsDoNotDisturbEachOther(t *testing.T) {
	tel := start(t, Options{Loops: 2})
	var loops, readers sync.WaitGroup
	const requests = 3000
	for i := range 2 {
		r := tel.Loop(i)
		x, c := request(t, "GET / HTTP/1.1", "Host: a"), connection(1)
		r.ConnOpened(c)
		loops.Go(func() {
			for n := range requests {
				x.Attempts, x.Route = x.Attempts[:0], "r"+strconv.Itoa(n%50)
				r.Begin(x)
				attempt(x, r, c)
				end(r, x, 200)
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			last := 0.0
			for last < 2*requests {
				n := scrape(t, tel).value("wasmgate_requests_total")
				if n < last {
					t.Errorf("%v requests after %v", n, last)
					return
				}
				last = n
			}
		})
	}
	loops.Wait()
	readers.Wait()
}

func TestMetricsCanOnlyBeRead(t *testing.T) {
	tel := start(t, Options{})
	for method, status := range map[string]int{http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405} {
		w := httptest.NewRecorder()
		tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest(method, "/metrics", nil))
		if w.Code != status {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}
