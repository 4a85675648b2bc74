package telemetry

import "sync/atomic"

// bounds are the upper bounds of the histograms' buckets, in nanoseconds: from a fast answer of a neighbour to a
// request timeout. They are fixed, so that figures of different gateways and versions can be added up.
var bounds = [...]int64{250e3, 500e3, 1e6, 2500e3, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, 2500e6, 5e9, 10e9, 30e9, 60e9}

// histogram counts durations. One loop writes it; anybody may read it.
type histogram struct {
	counts [len(bounds) + 1]atomic.Uint64 // not cumulative; the last is for what is longer than every bound
	sum    atomic.Int64                   // nanoseconds
}

func (h *histogram) observe(ns int64) {
	ns = max(ns, 0) // a clock that was set back
	i := 0
	for i < len(bounds) && ns > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	if ns > 0 {
		h.sum.Add(ns)
	}
}

// totals is a histogram as read, or several added up.
type totals struct {
	counts [len(bounds) + 1]uint64
	sum    int64
}

func (t *totals) add(h *histogram) {
	if h == nil {
		return
	}
	for i := range h.counts {
		t.counts[i] += h.counts[i].Load()
	}
	t.sum += h.sum.Load()
}

func (t *totals) count() (n uint64) {
	for _, c := range t.counts {
		n += c
	}
	return n
}
