package proxywasm

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// MetricKind is what a metric of a plugin's is.
type MetricKind uint8

// The kinds, with the numbers of the ABI.
const (
	Counter MetricKind = iota
	Gauge
	Histogram
)

// HistogramBuckets is how many buckets a histogram has: bucket i counts values below 2^i, the last one all others.
const HistogramBuckets = 41

// Metric is a plugin's metric as it stands, all loops together.
type Metric struct {
	Name    string
	Kind    MetricKind
	Value   int64                    // of a counter or gauge
	Count   uint64                   // of a histogram's values
	Sum     uint64                   // of them
	Buckets [HistogramBuckets]uint64 // each its own count, not that of those before it
}

// metrics are those of the plugins that share VMs.
type metrics struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*metric] // by number; replaced when one is added
	ids  map[metricKey]uint32
}

type metricKey struct {
	kind MetricKind
	name string
}

type metric struct {
	metricKey
	owner   string // the plugin that defined it first
	value   atomic.Int64
	count   atomic.Uint64
	buckets *[HistogramBuckets]atomic.Uint64
}

// define returns the id of a metric; 0: there are too many. The two low bits are its kind.
func (m *metrics) define(owner string, kind MetricKind, name string) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := metricKey{kind, name}
	if id, ok := m.ids[key]; ok {
		return id
	}
	var list []*metric
	if old := m.list.Load(); old != nil {
		list = *old
	}
	if len(list) >= maxMetrics {
		return 0
	}
	it := &metric{metricKey: key, owner: owner}
	if kind == Histogram {
		it.buckets = &[HistogramBuckets]atomic.Uint64{}
	}
	list = append(list[:len(list):len(list)], it)
	id := uint32(len(list))<<2 | uint32(kind) //nolint:gosec // at most a thousand
	if m.ids == nil {
		m.ids = map[metricKey]uint32{}
	}
	m.ids[key] = id
	m.list.Store(&list)
	return id
}

func (m *metrics) find(id uint32) *metric {
	list := m.list.Load()
	n := id >> 2
	if list == nil || n == 0 || int64(n) > int64(len(*list)) {
		return nil
	}
	if it := (*list)[n-1]; uint32(it.kind) == id&3 {
		return it
	}
	return nil
}

func (m *metrics) increment(id uint32, by int64) status {
	it := m.find(id)
	switch {
	case it == nil:
		return statusNotFound
	case it.kind == Histogram, it.kind == Counter && by < 0:
		return statusBadArgument
	}
	it.value.Add(by)
	return statusOK
}

func (m *metrics) record(id uint32, value uint64) status {
	it := m.find(id)
	if it == nil {
		return statusNotFound
	}
	switch it.kind {
	case Counter: // as in Envoy
		it.value.Add(int64(value)) //nolint:gosec // it wraps, as the guest wants it
	case Gauge:
		it.value.Store(int64(value)) //nolint:gosec // a negative one
	default:
		it.buckets[min(bits.Len64(value), HistogramBuckets-1)].Add(1)
		it.value.Add(int64(value)) //nolint:gosec // the sum
		it.count.Add(1)
	}
	return statusOK
}

func (m *metrics) get(id uint32) (uint64, status) {
	it := m.find(id)
	switch {
	case it == nil:
		return 0, statusNotFound
	case it.kind == Histogram:
		return 0, statusBadArgument
	}
	return uint64(it.value.Load()), statusOK //nolint:gosec // as the guest wants it
}

// of returns the metrics that a plugin defined.
func (m *metrics) of(owner string) (all []Metric) {
	list := m.list.Load()
	if list == nil {
		return nil
	}
	for _, it := range *list {
		if it.owner != owner {
			continue
		}
		one := Metric{Name: it.name, Kind: it.kind, Value: it.value.Load()}
		if it.kind == Histogram {
			one.Value, one.Sum, one.Count = 0, uint64(one.Value), it.count.Load() //nolint:gosec // as it was added
			for b := range it.buckets {
				one.Buckets[b] = it.buckets[b].Load()
			}
		}
		all = append(all, one)
	}
	return all
}
