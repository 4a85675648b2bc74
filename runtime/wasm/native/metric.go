package native

import (
	"math"
	"sort"
	"sync/atomic"

	"wasmgate/runtime/netloop"
	"wasmgate/sdk/abi"
)

// defaultBounds are those of a histogram that has none of its own: good for milliseconds.
var defaultBounds = []float64{5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000}

// metrics are what a plugin declared to measure. Counts are kept by loop, in its cell; gauges are the plugin's.
type metrics struct {
	declared []abi.Metric
	bounds   [][]float64
	gauges   []atomic.Uint64
}

// metricCell is a loop's part of a metric. Only the loop writes it.
type metricCell struct {
	sum     atomic.Uint64 // a float64's bits
	count   atomic.Uint64
	buckets []atomic.Uint64
}

func (m *metrics) init(declared []abi.Metric) {
	m.declared, m.gauges = declared, make([]atomic.Uint64, len(declared))
	for i := range declared {
		b := declared[i].Bounds
		if declared[i].Type != abi.MetricHistogram {
			b = nil
		} else if len(b) == 0 {
			b = defaultBounds
		}
		m.bounds = append(m.bounds, b)
	}
}

// cells makes a loop's part.
func (m *metrics) cells() []metricCell {
	list := make([]metricCell, len(m.declared))
	for i := range list {
		if m.bounds[i] != nil {
			list[i].buckets = make([]atomic.Uint64, len(m.bounds[i])+1)
		}
	}
	return list
}

// checkMetric judges a value.
func checkMetric(m *abi.Manifest, id uint64, v float64) error {
	switch {
	case id >= uint64(len(m.Metrics)):
		return errMetric
	case math.IsNaN(v) || math.IsInf(v, 0) || v < 0 && m.Metrics[id].Type == abi.MetricCounter:
		return errMeasure
	}
	return nil
}

// measure counts a value that was checked.
func (k *core) measure(l *netloop.Loop, id uint64, v float64) {
	c := &k.cells[l.Index()].metrics[id]
	switch k.metrics.declared[id].Type {
	case abi.MetricGauge:
		k.metrics.gauges[id].Store(math.Float64bits(v))
		return
	case abi.MetricHistogram:
		at := &c.buckets[sort.SearchFloat64s(k.metrics.bounds[id], v)]
		at.Store(at.Load() + 1)
	}
	c.sum.Store(math.Float64bits(math.Float64frombits(c.sum.Load()) + v))
	c.count.Store(c.count.Load() + 1)
}

// Metric is one of a plugin's own metrics, and what it has come to since the plugin was loaded, all loops together.
type Metric struct {
	Name, Description string
	Type              uint32  // abi.Metric…
	Value             float64 // of a histogram: the sum
	// Of a histogram: how many values there were, and of them in each bucket: one for each bound, up to which its values
	// go, and one for those above the last.
	Count   uint64
	Bounds  []float64 // must not be changed
	Buckets []uint64
}

// Metrics returns what the plugin measures, in the manifest's order. It may be called from any goroutine.
func (p *Plugin) Metrics() []Metric {
	k := p.core
	list := make([]Metric, len(k.metrics.declared))
	for i := range list {
		d, m := &k.metrics.declared[i], &list[i]
		*m = Metric{Name: d.Name, Description: d.Description, Type: d.Type, Bounds: k.metrics.bounds[i]}
		if d.Type == abi.MetricGauge {
			m.Value = math.Float64frombits(k.metrics.gauges[i].Load())
			continue
		}
		if m.Bounds != nil {
			m.Buckets = make([]uint64, len(m.Bounds)+1)
		}
		for loop := range k.cells {
			c := &k.cells[loop].metrics[i]
			m.Value += math.Float64frombits(c.sum.Load())
			m.Count += c.count.Load()
			for b := range m.Buckets {
				m.Buckets[b] += c.buckets[b].Load()
			}
		}
	}
	return list
}
