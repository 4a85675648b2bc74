package main

import (
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1, 100}, 1},
	} {
		in := append([]float64(nil), c.in...)
		if got := median(in); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want)
		}
		for i := range in {
			if in[i] != c.in[i] {
				t.Fatalf("median reorders its argument: %v was %v", in, c.in)
			}
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func cpus(xs ...float64) []sample {
	var s []sample
	for _, x := range xs {
		s = append(s, sample{ok: !math.IsNaN(x), cpu: x})
	}
	return s
}

// TestMedianRatio: a slow round of the machine is slow for both, and so does not count; a ratio of the medians would be
// another figure.
func TestMedianRatio(t *testing.T) {
	none := math.NaN()
	for name, c := range map[string]struct {
		rounds, base []sample
		want         float64
	}{
		"same round":     {cpus(5, 50, 6), cpus(10, 100, 10), 0.5},
		"missing rounds": {cpus(5, none, 9), cpus(10, 10, none), 0.5},
		"zero":           {cpus(5, 5), cpus(0, 10), 0.5},
		"shorter":        {cpus(5), cpus(10, 1), 0.5},
	} {
		if got := medianRatio(c.rounds, c.base, cpuOf); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := medianRatio(cpus(none), cpus(1), cpuOf); !math.IsNaN(got) {
		t.Errorf("no common round: %v", got)
	}
	if got := medianOf(cpus(1, none, 3), cpuOf); got != 2 {
		t.Errorf("median of the rounds there are is %v, want 2", got)
	}
}

func TestTable(t *testing.T) {
	rows := []row{
		{name: "nginx", about: "proxying only", rounds: []sample{{ok: true, cpu: 10, perSec: 50000, p50: 1, p99: 2, memory: 8}}},
		{name: "nginx+lua", about: "a script decides", rounds: []sample{{ok: true, cpu: 12.5, perSec: 40000, p50: 1.25, p99: 3, memory: 10}}},
		{name: "apache", about: "proxying only", rounds: []sample{{problem: "Non-2xx or 3xx responses: 3"}}},
	}
	want := strings.Join([]string{
		"| candidate | decides | CPU µs/request | × nginx | × nginx+lua | requests/s | × nginx | p50 ms | p99 ms | × nginx | MiB |",
		"| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
		"| nginx | proxying only | 10.00 | 1.00 | 0.80 | 50000 | 1.00 | 1.00 | 2.00 | 1.00 | 8.0 |",
		"| nginx+lua | a script decides | 12.50 | 1.25 | 1.00 | 40000 | 0.80 | 1.25 | 3.00 | 1.50 | 10.0 |",
		"| apache | proxying only | NOT A RESULT |  |  |  |  |  |  |  |  |",
	}, "\n") + "\n"
	if got := table(rows, []string{"nginx+lua", "haproxy+lua", "nginx"}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if p := rows[2].problem(); p != "round 1: Non-2xx or 3xx responses: 3" {
		t.Errorf("the problem is told as %q", p)
	}
	rows[0], rows[2] = rows[2], rows[0]
	if got := table(rows, nil); !strings.Contains(got, "| nginx | proxying only | 10.00 | – | 50000 | – |") {
		t.Errorf("relation to a baseline that is not a result:\n%s", got)
	}
}
