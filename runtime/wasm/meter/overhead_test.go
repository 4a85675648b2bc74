package meter_test

import (
	"slices"
	"testing"
	"time"
)

// overheadPairs is how many pairs of slices are compared at least, and sliceTime about how long a slice takes.
const (
	overheadPairs = 99
	sliceTime     = time.Millisecond
)

// BenchmarkMetering compares a request's call of the tenant routers with and without the rewrite, in one process: short
// slices of both take turns, so that what the machine does meanwhile befalls both alike, and overhead-% is the median of
// the pairs' ratios. The way into native code and back, which each call takes, is part of both. What the host core adds to
// a call, the counter's setting and reading included, is what BenchmarkCall of package wasm shows.
//
//	go test -run '^$' -bench Metering ./runtime/wasm/meter
//
// What it shall stay below is 5.
func BenchmarkMetering(b *testing.B) {
	for _, router := range tenantRouters {
		b.Run(router.name, func(b *testing.B) {
			binary := router.binary(b)
			plain, metered := newPlugin(b, binary, false), newPlugin(b, binary, true)
			for _, p := range []*plugin{plain, metered} {
				p.view("users.example.com", "/v1/users/12345/orders", "tenant-42")
			}
			compare(b, plain, metered)
		})
	}
}

// slice makes n calls and returns how long they took.
func timeSlice(b *testing.B, p *plugin, n int) time.Duration {
	if p.fuel != nil {
		p.fuel.Set(bigSlice)
	}
	begin := time.Now()
	for range n {
		if err := p.run(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

func compare(b *testing.B, plain, metered *plugin) {
	const warm = 2000
	timeSlice(b, metered, warm)
	n := max(1, int(warm*sliceTime/max(1, timeSlice(b, plain, warm))))
	pairs := max(b.N, overheadPairs)
	ratios, without, with := make([]float64, pairs), make([]float64, pairs), make([]float64, pairs)
	b.ResetTimer()
	for i := range pairs {
		var t [2]time.Duration
		for k := range 2 { // who is first takes turns too
			if which := (i + k) % 2; which == 0 {
				t[0] = timeSlice(b, plain, n)
			} else {
				t[1] = timeSlice(b, metered, n)
			}
		}
		without[i], with[i] = float64(t[0])/float64(n), float64(t[1])/float64(n)
		ratios[i] = with[i] / without[i]
	}
	_, used, _ := metered.call()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*(median(ratios)-1), "overhead-%")
	b.ReportMetric(median(without), "plain-ns/call")
	b.ReportMetric(median(with), "metered-ns/call")
	b.ReportMetric(float64(used), "units/call")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
