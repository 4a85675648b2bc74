package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	metricsdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/grpc/credentials"
)

// pushInterval is the time between two exports of metrics, as OpenTelemetry has it.
const pushInterval = time.Minute

// pusher sends what the metrics endpoint would tell to a collector, now and then, from a goroutine of its own. What cannot be
// sent is not kept: the next export has all counters again.
type pusher struct {
	gather   func() []*dto.MetricFamily
	to       metricsdk.Exporter
	closer   func() // closes connections that to leaves idle
	resource *resource.Resource
	scope    instrumentation.Scope
	interval time.Duration
	began    time.Time // the counters did
	log      zerolog.Logger
	notice   notice

	ctx          context.Context // ends what is being sent, when the time for stopping is up
	cancel       context.CancelFunc
	stop, done   chan struct{}
	sent, failed atomic.Uint64
}

// openMetrics makes the pusher, if metrics shall be sent.
func (t *Telemetry) openMetrics(o *Options) error {
	m := o.Metrics
	asked := m.Endpoint != "" || o.Env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != "" ||
		o.Env("OTEL_METRICS_EXPORTER") == "otlp" && o.Env("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	if !asked || strings.EqualFold(o.Env("OTEL_SDK_DISABLED"), "true") || o.Env("OTEL_METRICS_EXPORTER") == "none" {
		return nil
	}
	if m.Protocol == "" {
		m.Protocol = signalMetrics.otlp(o.Env, "PROTOCOL")
	}
	if m.Interval <= 0 {
		m.Interval = pushInterval
		if ms, err := strconv.ParseUint(o.Env("OTEL_METRIC_EXPORT_INTERVAL"), 10, 31); err == nil && ms > 0 {
			m.Interval = time.Duration(ms) * time.Millisecond
		}
	}
	res, err := newResource(m.ServiceName, o.Build, o.Env)
	if res == nil {
		return fmt.Errorf("metrics: resource: %w", err)
	}
	p := &pusher{
		gather: t.metrics, resource: res, scope: instrumentation.Scope{Name: "wasmgate", Version: o.Build.Version}, interval: m.Interval,
		began: time.Now(), log: o.Log, stop: make(chan struct{}), done: make(chan struct{}),
	}
	c, err := newReceiver(&destination{signalMetrics, m.Endpoint, m.Protocol, m.Headers, &m.TLS}, o.Env)
	if err == nil {
		p.to, p.closer, err = c.metrics(m.Protocol)
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	t.push = p
	return nil
}

// metrics is the library's exporter for the receiver.
func (c *receiver) metrics(protocol string) (to metricsdk.Exporter, closer func(), err error) {
	ctx := context.Background()
	if protocol != ProtocolGRPC {
		transport := c.transport()
		compression := otlpmetrichttp.NoCompression
		if c.gzip {
			compression = otlpmetrichttp.GzipCompression
		}
		to, err = otlpmetrichttp.New(ctx,
			otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal}),
			otlpmetrichttp.WithEndpointURL(c.endpoint.String()), otlpmetrichttp.WithHeaders(c.headers), otlpmetrichttp.WithCompression(compression),
			otlpmetrichttp.WithTimeout(c.timeout), otlpmetrichttp.WithHTTPClient(c.client(transport)))
		return to, transport.CloseIdleConnections, err
	}
	opts := []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal}),
		otlpmetricgrpc.WithEndpointURL(c.endpoint.String()), otlpmetricgrpc.WithHeaders(c.headers), otlpmetricgrpc.WithTimeout(c.timeout),
	}
	if c.tls != nil {
		opts = append(opts, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c.tls)))
	}
	if c.gzip {
		opts = append(opts, otlpmetricgrpc.WithCompressor("gzip"))
	}
	to, err = otlpmetricgrpc.New(ctx, opts...)
	return to, func() {}, err
}

func (p *pusher) run() {
	defer close(p.done)
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			p.pass() // the last values of the counters
			return
		case <-tick.C:
			p.pass()
		}
	}
}

func (p *pusher) pass() {
	ctx, cancel := context.WithTimeout(p.ctx, exportTimeout)
	defer cancel()
	err := p.to.Export(ctx, p.convert(p.gather(), time.Now()))
	if err == nil {
		p.sent.Add(1)
		return
	}
	p.failed.Add(1)
	p.notice.say(func(times uint64) {
		p.log.Warn().Err(err).Uint64("failures", times).Msg("metrics cannot be exported: the next export has all counters again")
	})
}

// exports may be asked of a nil pusher: metrics are only read.
func (p *pusher) exports() (sent, failed uint64) {
	if p == nil {
		return 0, 0
	}
	return p.sent.Load(), p.failed.Load()
}

// shutdown sends the last values and ends the pusher's goroutine, within the time that ctx gives.
func (p *pusher) shutdown(ctx context.Context) error {
	close(p.stop)
	var late error
	select {
	case <-p.done:
	case <-ctx.Done():
		late = ctx.Err()
		p.cancel()
		<-p.done // exporters must honour their context, so this does not last
	}
	return errors.Join(late, p.end(ctx))
}

// end lets go of the collector.
func (p *pusher) end(ctx context.Context) error {
	p.cancel()
	err := p.to.Shutdown(ctx)
	p.closer()
	return err
}

// convert is what was gathered in OpenTelemetry's model, under the same names. A native histogram becomes an exponential one.
func (p *pusher) convert(families []*dto.MetricFamily, now time.Time) *metricdata.ResourceMetrics {
	scope := metricdata.ScopeMetrics{Scope: p.scope}
	for _, f := range families {
		scope.Metrics = append(scope.Metrics, metricdata.Metrics{
			Name: f.GetName(), Description: f.GetHelp(), Unit: unitOf(f.GetName()), Data: p.points(f, now),
		})
	}
	return &metricdata.ResourceMetrics{Resource: p.resource, ScopeMetrics: []metricdata.ScopeMetrics{scope}}
}

// unitOf reads a metric's unit from its name.
func unitOf(name string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "By"
	}
	return ""
}

func (p *pusher) points(f *dto.MetricFamily, now time.Time) metricdata.Aggregation {
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		sum := metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		for _, m := range f.Metric {
			sum.DataPoints = append(sum.DataPoints, metricdata.DataPoint[float64]{Attributes: attributesOf(m), StartTime: p.began, Time: now, Value: m.Counter.GetValue()})
		}
		return sum
	case dto.MetricType_GAUGE:
		var g metricdata.Gauge[float64]
		for _, m := range f.Metric {
			g.DataPoints = append(g.DataPoints, metricdata.DataPoint[float64]{Attributes: attributesOf(m), Time: now, Value: m.Gauge.GetValue()})
		}
		return g
	}
	if f.Metric[0].Histogram.Schema == nil {
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, m := range f.Metric {
			h.DataPoints = append(h.DataPoints, p.classic(m, now))
		}
		return h
	}
	h := metricdata.ExponentialHistogram[float64]{Temporality: metricdata.CumulativeTemporality}
	for _, m := range f.Metric {
		h.DataPoints = append(h.DataPoints, p.exponential(m, now))
	}
	return h
}

func (p *pusher) classic(m *dto.Metric, now time.Time) metricdata.HistogramDataPoint[float64] {
	h := m.Histogram
	d := metricdata.HistogramDataPoint[float64]{Attributes: attributesOf(m), StartTime: p.began, Time: now, Count: h.GetSampleCount(), Sum: h.GetSampleSum()}
	before := uint64(0)
	for _, b := range h.Bucket {
		d.Bounds = append(d.Bounds, b.GetUpperBound())
		d.BucketCounts = append(d.BucketCounts, b.GetCumulativeCount()-before)
		before = b.GetCumulativeCount()
	}
	d.BucketCounts = append(d.BucketCounts, d.Count-before)
	return d
}

func (p *pusher) exponential(m *dto.Metric, now time.Time) metricdata.ExponentialHistogramDataPoint[float64] {
	h := m.Histogram
	d := metricdata.ExponentialHistogramDataPoint[float64]{
		Attributes: attributesOf(m), StartTime: p.began, Time: now, Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		Scale: h.GetSchema(), ZeroCount: h.GetZeroCount(), ZeroThreshold: h.GetZeroThreshold(),
	}
	n, deltas := int64(0), h.PositiveDelta
	for i, s := range h.PositiveSpan {
		if i == 0 {
			d.PositiveBucket.Offset = s.GetOffset() - 1 // they name a bucket by its lower end, Prometheus by its upper
		} else {
			d.PositiveBucket.Counts = append(d.PositiveBucket.Counts, make([]uint64, s.GetOffset())...)
		}
		for range s.GetLength() {
			n += deltas[0]
			deltas = deltas[1:]
			d.PositiveBucket.Counts = append(d.PositiveBucket.Counts, uint64(n)) //nolint:gosec // a count
		}
	}
	for _, e := range h.Exemplars {
		one := metricdata.Exemplar[float64]{Time: e.GetTimestamp().AsTime(), Value: e.GetValue()}
		for _, l := range e.Label {
			id, _ := hex.DecodeString(l.GetValue()) // we wrote it
			switch l.GetName() {
			case exemplarTrace:
				one.TraceID = id
			case exemplarSpan:
				one.SpanID = id
			}
		}
		d.Exemplars = append(d.Exemplars, one)
	}
	return d
}

func attributesOf(m *dto.Metric) attribute.Set {
	list := make([]attribute.KeyValue, len(m.Label))
	for i, l := range m.Label {
		list[i] = attribute.String(l.GetName(), l.GetValue())
	}
	return attribute.NewSet(list...)
}
