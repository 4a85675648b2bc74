package wasmgate

import "wasmgate/sdk/abi"

// Metrics of the plugin's own are exported by the gateway beside its own, with the plugin's name. Declare them in package
// variables, in init, or in the function given to Configure. Names have a-z, 0-9, _ and ., and begin with a letter.

// A Counter counts what only grows.
type Counter struct{ id uint32 }

// An UpDownCounter counts what also shrinks.
type UpDownCounter struct{ id uint32 }

// A Gauge is what was measured last, in whatever instance.
type Gauge struct{ id uint32 }

// A Histogram counts values by their size.
type Histogram struct{ id uint32 }

// NewCounter declares a counter.
func NewCounter(name, description string) Counter {
	return Counter{declareMetric(abi.MetricCounter, name, description, nil)}
}

// NewUpDownCounter declares a counter that may shrink.
func NewUpDownCounter(name, description string) UpDownCounter {
	return UpDownCounter{declareMetric(abi.MetricUpDown, name, description, nil)}
}

// NewGauge declares a gauge.
func NewGauge(name, description string) Gauge {
	return Gauge{declareMetric(abi.MetricGauge, name, description, nil)}
}

// NewHistogram declares a histogram with the bounds of its buckets, ascending; without any they are the gateway's, which
// are good for milliseconds.
func NewHistogram(name, description string, bounds ...float64) Histogram {
	return Histogram{declareMetric(abi.MetricHistogram, name, description, bounds)}
}

func declareMetric(kind uint32, name, description string, bounds []float64) uint32 {
	m := &plugin.manifest.Metrics
	for i := range *m {
		if (*m)[i].Name == name {
			return uint32(i) //nolint:gosec // some hundred
		}
	}
	*m = append(*m, abi.Metric{Type: kind, Name: string([]byte(name)), Description: string([]byte(description)), Bounds: bounds})
	return uint32(len(*m) - 1) //nolint:gosec // the host refuses more than some hundred
}

// Add adds to the counter; v is not negative.
func (c Counter) Add(v float64) { hostMetric(c.id, v) }

// Add adds to the counter.
func (c UpDownCounter) Add(v float64) { hostMetric(c.id, v) }

// Set sets the gauge.
func (g Gauge) Set(v float64) { hostMetric(g.id, v) }

// Observe counts a value.
func (h Histogram) Observe(v float64) { hostMetric(h.id, v) }
