package telemetry

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	colmetricpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricpb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// metricCollector takes metrics over OTLP.
type metricCollector struct {
	colmetricpb.UnimplementedMetricsServiceServer
	url string

	mu       sync.Mutex
	taken    int
	path     string
	header   http.Header
	resource map[string]any
	metrics  map[string]*metricpb.Metric // the last of each name
}

func (c *metricCollector) take(req *colmetricpb.ExportMetricsServiceRequest) *colmetricpb.ExportMetricsServiceResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken++
	c.metrics = map[string]*metricpb.Metric{}
	for _, rm := range req.ResourceMetrics {
		c.resource = attributes(rm.Resource.Attributes)
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.metrics[m.Name] = m
			}
		}
	}
	return &colmetricpb.ExportMetricsServiceResponse{}
}

func (c *metricCollector) Export(_ context.Context, req *colmetricpb.ExportMetricsServiceRequest) (*colmetricpb.ExportMetricsServiceResponse, error) {
	return c.take(req), nil
}

func (c *metricCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	req := &colmetricpb.ExportMetricsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(b, req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b, _ = proto.Marshal(c.take(req))
	c.mu.Lock()
	c.path, c.header = r.URL.Path, r.Header
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(b)
}

func (c *metricCollector) exports() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// metricCollectors are one for each protocol.
func metricCollectors(t *testing.T) map[string]*metricCollector {
	overHTTP, overGRPC := &metricCollector{}, &metricCollector{}
	h := httptest.NewServer(overHTTP)
	t.Cleanup(h.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	colmetricpb.RegisterMetricsServiceServer(g, overGRPC)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	overHTTP.url, overGRPC.url = h.URL, "http://"+l.Addr().String()
	return map[string]*metricCollector{ProtocolHTTP: overHTTP, ProtocolGRPC: overGRPC}
}

// point is the data point with this attribute.
func point(m *metricpb.Metric, key, value string) any {
	switch d := m.GetData().(type) {
	case *metricpb.Metric_Sum:
		for _, p := range d.Sum.DataPoints {
			if attributes(p.Attributes)[key] == value {
				return p
			}
		}
	case *metricpb.Metric_ExponentialHistogram:
		for _, p := range d.ExponentialHistogram.DataPoints {
			if attributes(p.Attributes)[key] == value {
				return p
			}
		}
	case *metricpb.Metric_Histogram:
		for _, p := range d.Histogram.DataPoints {
			if attributes(p.Attributes)[key] == value {
				return p
			}
		}
	}
	return nil
}

// Metrics arrive over both protocols under their own names: counters that grow, gauges, and exponential histograms whose
// exemplars are spans that arrive too.
func TestMetricsAreSentOverOTLP(t *testing.T) {
	for protocol, c := range metricCollectors(t) {
		t.Run(protocol, func(t *testing.T) {
			spans := httpCollector(t)
			guest := func(l *Live) {
				l.Plugins["guest"] = PluginStats{Metrics: []PluginMetric{{Name: "took", Kind: histo, Bounds: []float64{1, 5}, Counts: []uint64{2, 0, 1}, Sum: 12.5}}}
			}
			tel := start(t, Options{
				Traces: Traces{Endpoint: spans.url}, Sources: []func(*Live){guest, live}, Build: Build{Version: "1"},
				Metrics: Metrics{Endpoint: c.url, Protocol: protocol, Interval: 10 * time.Millisecond, ServiceName: "edge", Headers: map[string]string{"x-tenant": "a"}},
			})
			r := tel.Loop(0)
			for _, took := range []int64{3 * ms, 9 * ms, 0} {
				x := sampled(t, r)
				x.StatusSent, x.Ended = 200, x.Started+took
				r.End(x)
			}
			eventually(t, "metrics come again and again", func() bool { return c.exports() > 2 })
			finish(t, tel)
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.resource["service.name"] != "edge" || c.resource["service.version"] != "1" {
				t.Errorf("the resource is %v", c.resource)
			}
			if protocol == ProtocolHTTP && (c.path != "/v1/metrics" || c.header.Get("X-Tenant") != "a") {
				t.Errorf("path %q, fields %v", c.path, c.header)
			}
			sum, _ := point(c.metrics["wasmgate_requests_total"], "class", "2xx").(*metricpb.NumberDataPoint)
			if sum.GetAsDouble() != 3 || sum.GetStartTimeUnixNano() == 0 || !c.metrics["wasmgate_requests_total"].GetSum().GetIsMonotonic() {
				t.Errorf("requests: %v", sum)
			}
			if m := c.metrics["wasmgate_upstream_members"]; m.GetGauge() == nil {
				t.Errorf("members: %v", m)
			}
			h, _ := point(c.metrics["wasmgate_request_duration_seconds"], "class", "2xx").(*metricpb.ExponentialHistogramDataPoint)
			checkExponential(t, h, spans.all())
			if u := c.metrics["wasmgate_request_duration_seconds"].GetUnit(); u != "s" {
				t.Errorf("the unit is %q", u)
			}
			g, _ := point(c.metrics["wasmgate_plugin_custom_took"], "plugin", "guest").(*metricpb.HistogramDataPoint)
			if g.GetCount() != 3 || len(g.GetBucketCounts()) != 3 || g.GetBucketCounts()[2] != 1 || g.GetSum() != 12.5 {
				t.Errorf("a plugin's histogram: %v", g)
			}
		})
	}
}

// checkExponential: of three requests one took no time, one 3 ms and one 9 ms, and each has a trace.
func checkExponential(t *testing.T, h *metricpb.ExponentialHistogramDataPoint, spans spanList) {
	t.Helper()
	if h.GetCount() != 3 || h.GetZeroCount() != 1 || h.GetScale() != 3 || math.Abs(h.GetSum()-0.012) > 1e-9 {
		t.Fatalf("durations: %v", h)
	}
	var at []float64
	for i, n := range h.Positive.BucketCounts {
		if n > 0 {
			lower := math.Exp2(float64(int(h.Positive.Offset)+i) / 8)
			at = append(at, lower)
		}
	}
	if len(at) != 2 || at[0] >= 0.003 || at[0]*1.0906 < 0.003 || at[1] >= 0.009 || at[1]*1.0906 < 0.009 {
		t.Errorf("3 and 9 ms are in the buckets from %v", at)
	}
	if len(h.Exemplars) != 3 {
		t.Errorf("%d exemplars", len(h.Exemplars))
	}
	for _, e := range h.Exemplars {
		found := false
		for _, s := range spans {
			found = found || string(s.TraceId) == string(e.TraceId) && string(s.SpanId) == string(e.SpanId)
		}
		if !found {
			t.Errorf("no span %s of trace %s", id(e.SpanId), id(e.TraceId))
		}
	}
}

// A collector that is away costs its exports, which are counted, and nothing else; it is said.
func TestAMetricCollectorThatIsAwayIsCounted(t *testing.T) {
	for _, protocol := range []string{ProtocolHTTP, ProtocolGRPC} {
		var said messages
		tel := start(t, Options{Log: said.log(), Metrics: Metrics{Endpoint: nowhere(t), Protocol: protocol, Interval: time.Millisecond}})
		eventually(t, "exports fail", func() bool {
			return scrape(t, tel).value("wasmgate_telemetry_metric_exports_total", "result", "failed") > 0
		})
		eventually(t, "it is said", func() bool { return strings.Contains(said.String(), "metrics cannot be exported") })
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // to stop at once
		if err := tel.Shutdown(ctx); err == nil {
			t.Errorf("%s: Shutdown says nothing of what it did not wait for", protocol)
		}
	}
}

// Metrics are sent where somebody asked for it, and the endpoint of all signals alone does not: it may know traces only.
func TestMetricsAreSentOnlyWhereThatIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		env    map[string]string
		config string
		sent   bool
		where  string
	}{
		"nothing":               {nil, "", false, ""},
		"all signals":           {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "", false, ""},
		"all signals, asked":    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "otlp"}, "", true, "http://c:4318/v1/metrics"},
		"its own":               {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/x"}, "", true, "http://m:1/x"},
		"the configuration":     {nil, "http://m:4318", true, "http://m:4318/v1/metrics"},
		"none":                  {map[string]string{"OTEL_METRICS_EXPORTER": "none"}, "http://m:4318", false, ""},
		"the whole SDK":         {map[string]string{"OTEL_SDK_DISABLED": "true"}, "http://m:4318", false, ""},
		"traces have their own": {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1"}, "http://m:4318", true, "http://m:4318/v1/metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			tel := &Telemetry{}
			err := tel.openMetrics(&Options{Metrics: Metrics{Endpoint: c.config}, Env: environment(c.env)})
			if err != nil || (tel.push != nil) != c.sent {
				t.Fatalf("sent %v, %v", tel.push != nil, err)
			}
			if !c.sent {
				return
			}
			defer tel.push.end(context.Background())
			u, err := endpointOf(&destination{signal: signalMetrics, endpoint: c.config}, environment(c.env))
			if err != nil || u.String() != c.where {
				t.Errorf("to %v, %v", u, err)
			}
		})
	}
	for name, m := range map[string]Metrics{"protocol": {Endpoint: "http://m:1", Protocol: "carrier pigeon"}, "scheme": {Endpoint: "ftp://m:1"}, "file": {Endpoint: "https://m:1", TLS: TLS{CA: "/nowhere"}}} {
		if _, err := New(Options{Metrics: m}); err == nil || !strings.HasPrefix(err.Error(), "metrics: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
