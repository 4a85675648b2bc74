package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"wasmgate/runtime/upstream/facts"
)

// What Prometheus asks for: without native histograms, and with them.
const (
	acceptOpenMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	acceptProtobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

// scrapeAs asks for the page in a format, and returns it as it comes.
func scrapeAs(t testing.TB, tel *Telemetry, accept string) (body []byte, format expfmt.Format) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Fatalf("status %d, fields %v", w.Code, w.Header())
	}
	return w.Body.Bytes(), expfmt.ResponseFormat(w.Header())
}

// families reads a page in the text format, or in protobuf.
func families(t testing.TB, body []byte, format expfmt.Format) map[string]*dto.MetricFamily {
	t.Helper()
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(bytes.NewReader(body), format)
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[f.GetName()] = f
	}
}

// labelled are the samples with a label of this value.
func labelled(f *dto.MetricFamily, name, value string) (list []*dto.Metric) {
	for _, m := range f.GetMetric() {
		if slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value }) {
			list = append(list, m)
		}
	}
	return list
}

// counted is telemetry in which requests of several durations have ended: nine are traced, the last not.
func counted(t *testing.T) (tel *Telemetry, spans *collector) {
	spans = httpCollector(t)
	tel = start(t, Options{Loops: 2, Traces: Traces{Endpoint: spans.url, Sample: ratio(0)}})
	c := connection(1)
	tel.Loop(0).ConnOpened(c)
	for i, took := range []int64{0, 100e3, 300e3, 5 * ms, 5*ms + 1, 70 * ms, 800 * ms, 3000 * ms, 100_000 * ms, 9 * ms} {
		r := tel.Loop(i % 2)
		flags := "01"
		if i == 9 {
			flags = "00"
		}
		x := request(t, "GET / HTTP/1.1", "Host: a", fmt.Sprintf("traceparent: 00-%032x-1122334455667788-%s", i+1, flags))
		r.Begin(x)
		a := attempt(x, r, c)
		a.Queued = 2 * time.Millisecond
		x.StatusSent, x.Ended = 200, x.Started+took
		r.End(x)
	}
	return tel, spans
}

// Who names no format gets the text format, and who names one that it knows gets that: the figures are the same.
func TestAReaderGetsTheFormatThatItAsksFor(t *testing.T) {
	tel, _ := counted(t)
	for _, c := range []struct{ accept, kind string }{
		{"", "text/plain"},
		{"*/*", "text/plain"},
		{"text/html,application/xhtml+xml,*/*;q=0.8", "text/plain"},
		{"application/vnd.google.protobuf;proto=another;encoding=delimited", "text/plain"},
		{strings.Repeat("a/b;q=x,,;", 1000), "text/plain"},
		{acceptOpenMetrics, "application/openmetrics-text"},
		{acceptProtobuf, "application/vnd.google.protobuf"},
	} {
		body, format := scrapeAs(t, tel, c.accept)
		if c.kind == "application/openmetrics-text" {
			if !bytes.HasSuffix(body, []byte("# EOF\n")) || !bytes.Contains(body, []byte("# TYPE wasmgate_requests counter\n")) {
				t.Errorf("not OpenMetrics:\n%s", body)
			}
			continue
		}
		if !strings.HasPrefix(string(format), c.kind) {
			t.Errorf("%q gets %q", c.accept, format)
			continue
		}
		all := families(t, body, format)
		h := labelled(all["wasmgate_request_duration_seconds"], "class", "2xx")
		if len(h) == 0 {
			t.Fatalf("%.40q: no durations", c.accept)
		}
		if len(h) != 1 || h[0].Histogram.GetSampleCount() != 10 || math.Abs(h[0].Histogram.GetSampleSum()-103.8894) > 1e-3 {
			t.Errorf("%.40q: %d samples, count %d, sum %v", c.accept, len(h), h[0].Histogram.GetSampleCount(), h[0].Histogram.GetSampleSum())
			continue
		}
		if native := h[0].Histogram.Schema != nil; native != (c.kind == "application/vnd.google.protobuf") {
			t.Errorf("%q: native %v", c.accept, native)
		}
	}
}

// A native histogram's buckets hold each duration where its bounds say, and add up to the count, as in the classic one.
func TestNativeHistogramsHoldWhatClassicOnesDo(t *testing.T) {
	tel, _ := counted(t)
	body, format := scrapeAs(t, tel, acceptProtobuf)
	checked := 0
	for name, f := range families(t, body, format) {
		if f.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		for _, m := range f.Metric {
			checked++
			h := m.Histogram
			sum := h.GetZeroCount()
			key, n, deltas := int32(0), int64(0), h.PositiveDelta
			lowest, highest := 0.0, 0.0
			for _, s := range h.PositiveSpan {
				key += s.GetOffset()
				for range s.GetLength() {
					n += deltas[0]
					deltas = deltas[1:]
					if n < 0 {
						t.Fatalf("%s: %d in bucket %d", name, n, key)
					}
					if n > 0 {
						if highest = math.Exp2(float64(key) / 8); lowest == 0 {
							lowest = math.Exp2(float64(key-1) / 8)
						}
					}
					sum += uint64(n)
					key++
				}
			}
			if h.GetSchema() != 3 || len(deltas) != 0 || sum != h.GetSampleCount() || h.GetZeroThreshold() > 1e-6 || len(h.PositiveSpan) == 0 {
				t.Errorf("%s: the native buckets hold %d of %d: %v", name, sum, h.GetSampleCount(), h)
			}
			if name == "wasmgate_request_duration_seconds" && (h.GetZeroCount() != 1 || lowest > 100e-6 || lowest < 90e-6 || highest < 100 || highest > 110) {
				t.Errorf("%s: %d at once, from %v to %v", name, h.GetZeroCount(), lowest, highest)
			}
		}
	}
	if checked < 5 {
		t.Errorf("%d histograms", checked)
	}
}

// Each bucket's exemplar is a trace that was exported, and lies within the bucket; a request that was not traced is none.
func TestExemplarsLeadToTracesThatThereAre(t *testing.T) {
	tel, spans := counted(t)
	body, format := scrapeAs(t, tel, acceptProtobuf)
	open, _ := scrapeAs(t, tel, acceptOpenMetrics)
	plain, _ := scrapeAs(t, tel, "")
	finish(t, tel)
	servers, attempts := map[string]string{}, map[string]string{} // traces by span
	for _, s := range spans.all() {
		switch s.Name {
		case "GET":
			servers[id(s.SpanId)] = id(s.TraceId)
		case "GET users":
			attempts[id(s.SpanId)] = id(s.TraceId)
		}
	}
	all := families(t, body, format)
	for name, want := range map[string]struct {
		spans map[string]string
		least int
	}{
		"wasmgate_request_duration_seconds": {servers, 7}, "wasmgate_upstream_first_byte_seconds": {attempts, 1},
		"wasmgate_pool_wait_seconds": {attempts, 1}, "wasmgate_pool_queue_wait_seconds": {attempts, 1},
	} {
		n := 0
		for _, m := range all[name].GetMetric() {
			below := 0.0
			for _, b := range m.Histogram.Bucket {
				if e := b.Exemplar; e != nil {
					n++
					trace, span := e.Label[0].GetValue(), e.Label[1].GetValue()
					if e.Label[0].GetName() != "trace_id" || e.Label[1].GetName() != "span_id" || want.spans[span] != trace {
						t.Errorf("%s: %v is not a span of the trace", name, e.Label)
					}
					if v := e.GetValue(); v > b.GetUpperBound() || v < below || e.Timestamp.AsTime().UnixNano() < wall {
						t.Errorf("%s: %v in the bucket up to %v", name, e, b.GetUpperBound())
					}
					if !strings.Contains(string(open), `# {trace_id="`+trace+`",span_id="`+span+`"} `) {
						t.Errorf("%s: OpenMetrics has no exemplar %s", name, trace)
					}
				}
				below = b.GetUpperBound()
			}
			if n != len(m.Histogram.Exemplars) {
				t.Errorf("%s: %d exemplars of buckets, %d of the native histogram", name, n, len(m.Histogram.Exemplars))
			}
		}
		if n < want.least {
			t.Errorf("%s: %d exemplars", name, n)
		}
	}
	if bytes.Contains(plain, []byte("trace_id")) {
		t.Error("the text format has no exemplars")
	}
	if len(servers) != 9 {
		t.Errorf("%d traces", len(servers))
	}
}

// A request that was not sampled, and is kept because it failed, is an exemplar too; one that could not be handed over is none.
func TestWhatIsKeptIsAnExemplar(t *testing.T) {
	spans := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: spans.url, Sample: ratio(0), KeepErrors: true, KeepRate: 1}})
	r := tel.Loop(0)
	var kept string
	for i := range 3 {
		x := request(t, "GET / HTTP/1.1", "Host: a")
		r.Begin(x)
		x.StatusSent, x.Ended = 500, x.Started+ms // at the same moment: the rate allows the first
		if r.End(x); i == 0 {
			kept = id(x.Trace.TraceID[:])
		}
	}
	body, _ := scrapeAs(t, tel, acceptOpenMetrics)
	if n := bytes.Count(body, []byte("trace_id=")); n != 1 || !bytes.Contains(body, []byte(kept)) {
		t.Errorf("%d exemplars, the trace that was kept is %s:\n%s", n, kept, body)
	}
	finish(t, tel)
	if got := id(spans.all().one(t, "GET").TraceId); got != kept {
		t.Errorf("the trace is %s", got)
	}
}

// The reasons for which connections come and go are each a series of their own, in every format.
func TestEveryReasonIsTold(t *testing.T) {
	tel := start(t, Options{})
	r := tel.Loop(0)
	for _, why := range facts.OpenReasons {
		for _, end := range facts.CloseReasons {
			c := connection(1)
			c.WhyOpened, c.WhyClosed = why, end
			r.ConnOpened(c)
			r.ConnClosed(c)
		}
	}
	body, format := scrapeAs(t, tel, acceptProtobuf)
	all := families(t, body, format)
	for _, why := range facts.OpenReasons {
		if m := labelled(all["wasmgate_upstream_connections_opened_total"], "reason", why); len(m) != 1 || m[0].Counter.GetValue() != float64(len(facts.CloseReasons)) {
			t.Errorf("opened for %s: %v", why, m)
		}
	}
	for _, why := range facts.CloseReasons {
		if m := labelled(all["wasmgate_upstream_connections_closed_total"], "reason", why); len(m) != 1 || m[0].Counter.GetValue() != float64(len(facts.OpenReasons)) {
			t.Errorf("closed for %s: %v", why, m)
		}
	}
}
