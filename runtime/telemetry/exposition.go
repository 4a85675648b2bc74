package telemetry

import (
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// page gathers metrics in Prometheus's own model, from which its library writes each of its formats. The samples of a family
// follow its head. A family without samples is not told of: the text format has no place for it.
type page struct{ families []*dto.MetricFamily }

const (
	counter = "counter"
	gauge   = "gauge"
	histo   = "histogram"
)

var metricTypes = map[string]*dto.MetricType{
	counter: dto.MetricType_COUNTER.Enum(), gauge: dto.MetricType_GAUGE.Enum(), histo: dto.MetricType_HISTOGRAM.Enum(),
}

func (p *page) family(name, kind, help string) {
	p.families = append(p.families, &dto.MetricFamily{Name: proto.String(name), Help: proto.String(help), Type: metricTypes[kind]})
}

func (p *page) head(m metric) { p.family(m.name, m.kind, m.help) }

// add begins another sample of the family; labels are names and values in turn.
func (p *page) add(labels []string) (*dto.Metric, dto.MetricType) {
	f := p.families[len(p.families)-1]
	m := &dto.Metric{}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(labels[i]), Value: proto.String(valid(labels[i+1]))})
	}
	f.Metric = append(f.Metric, m)
	return m, f.GetType()
}

// value adds a sample of a counter or a gauge.
func (p *page) value(v float64, labels ...string) {
	m, kind := p.add(labels)
	if kind == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &v}
		return
	}
	m.Gauge = &dto.Gauge{Value: &v}
}

func (p *page) count(v uint64, labels ...string) { p.value(float64(v), labels...) }

// full returns the families that have samples.
func (p *page) full() []*dto.MetricFamily {
	return slices.DeleteFunc(p.families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

// histogram adds t, as a classic histogram and a native one in one.
func (p *page) histogram(t *totals, labels ...string) {
	m, _ := p.add(labels)
	count := t.count()
	h := &dto.Histogram{
		SampleCount: &count, SampleSum: proto.Float64(float64(t.sum) / 1e9),
		Schema: proto.Int32(schema), ZeroThreshold: proto.Float64(zeroThreshold), ZeroCount: proto.Uint64(t.native[0]),
	}
	m.Histogram = h
	sum := uint64(0)
	for i, bound := range bounds {
		sum += t.classic[i]
		h.Bucket = append(h.Bucket, &dto.Bucket{
			CumulativeCount: proto.Uint64(sum), UpperBound: proto.Float64(float64(bound) / 1e9), Exemplar: t.traced[i].model(),
		})
	}
	if e := t.traced[len(bounds)].model(); e != nil { // else the bucket is understood
		h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: &count, UpperBound: proto.Float64(math.Inf(1)), Exemplar: e})
	}
	for _, b := range h.Bucket {
		if b.Exemplar != nil {
			h.Exemplars = append(h.Exemplars, b.Exemplar)
		}
	}
	h.PositiveSpan, h.PositiveDelta = t.spans()
}

// maxGap is up to how many empty native buckets are told, rather than a new span begun.
const maxGap = 2

// spans are the native buckets as Prometheus has them: runs, and in them the difference of each to the one before.
func (t *totals) spans() (spans []*dto.BucketSpan, deltas []int64) {
	next, before := 0, int64(0) // where the last span ended
	for i, n := range t.native[1:] {
		if n == 0 {
			continue
		}
		key := i + 1 + least
		if gap := key - next; spans == nil || gap > maxGap {
			spans = append(spans, &dto.BucketSpan{Offset: proto.Int32(int32(gap)), Length: proto.Uint32(0)})
		} else {
			for range gap {
				deltas, before = append(deltas, -before), 0
				*spans[len(spans)-1].Length++
			}
		}
		deltas, before = append(deltas, int64(n)-before), int64(n)
		*spans[len(spans)-1].Length++
		next = key + 1
	}
	if spans == nil { // it says that the histogram is a native one
		spans = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	return spans, deltas
}

// Labels of exemplars: the names that Grafana looks for.
const (
	exemplarTrace = "trace_id"
	exemplarSpan  = "span_id"
)

// model is the exemplar as Prometheus has it; nil for none.
func (t *traced) model() *dto.Exemplar {
	if t.wall == 0 {
		return nil
	}
	return &dto.Exemplar{
		Label: []*dto.LabelPair{
			{Name: proto.String(exemplarTrace), Value: proto.String(hex.EncodeToString(t.trace[:]))},
			{Name: proto.String(exemplarSpan), Value: proto.String(hex.EncodeToString(t.span[:]))},
		},
		Value: proto.Float64(float64(t.took) / 1e9), Timestamp: timestamppb.New(time.Unix(0, t.wall)),
	}
}

// sortedKeys makes a page's order the same each time.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
