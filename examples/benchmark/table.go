package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// sample is one candidate's figures of one round.
type sample struct {
	ok      bool    // whether there are any
	cpu     float64 // microseconds of CPU for each answered request
	perSec  float64
	p50     float64 // milliseconds
	p99     float64 // milliseconds
	memory  float64 // MiB after the run
	told    told
	problem string
}

// metric takes one figure out of a sample.
type metric func(sample) float64

func cpuOf(s sample) float64    { return s.cpu }
func perSecOf(s sample) float64 { return s.perSec }
func p50Of(s sample) float64    { return s.p50 }
func p99Of(s sample) float64    { return s.p99 }
func memoryOf(s sample) float64 { return s.memory }

// median returns the middle of xs, or the mean of the middle two; NaN if there are none.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	xs = slices.Sorted(slices.Values(xs))
	if mid := len(xs) / 2; len(xs)%2 == 1 {
		return xs[mid]
	} else {
		return (xs[mid-1] + xs[mid]) / 2
	}
}

// medianOf is the median of a figure over the rounds.
func medianOf(rounds []sample, m metric) float64 {
	var xs []float64
	for _, s := range rounds {
		if s.ok {
			xs = append(xs, m(s))
		}
	}
	return median(xs)
}

// medianRatio is the median of what a figure is in relation to another candidate's of the same round. Rounds that only
// one of the two has do not count.
func medianRatio(rounds, base []sample, m metric) float64 {
	var xs []float64
	for i := range min(len(rounds), len(base)) {
		if rounds[i].ok && base[i].ok && m(base[i]) > 0 {
			xs = append(xs, m(rounds[i])/m(base[i]))
		}
	}
	return median(xs)
}

// row is a candidate with its rounds.
type row struct {
	name, about string
	rounds      []sample
}

// problem returns the first thing that kept a round from being a result.
func (r *row) problem() string {
	for i, s := range r.rounds {
		if s.problem != "" {
			return fmt.Sprintf("round %d: %s", i+1, s.problem)
		}
	}
	return ""
}

// table renders rows as Markdown. The first row is the baseline; CPU time is divided by that of the rows named in
// against as well. A row of which any round is not a result has no figures.
func table(rows []row, against []string) string {
	base := &rows[0]
	head := []string{"candidate", "decides", "CPU µs/request", "× " + base.name}
	var others []*row
	for i := range rows {
		if i > 0 && slices.Contains(against, rows[i].name) {
			others = append(others, &rows[i])
			head = append(head, "× "+rows[i].name)
		}
	}
	head = append(head, "requests/s", "× "+base.name, "p50 ms", "p99 ms", "× "+base.name, "MiB")
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	align := []string{"---", "---"}
	for range head[2:] {
		align = append(align, "---:")
	}
	line(align)
	for i := range rows {
		r := &rows[i]
		if r.problem() != "" {
			cells := make([]string, len(head))
			cells[0], cells[1], cells[2] = r.name, r.about, "NOT A RESULT"
			line(cells)
			continue
		}
		ratio := func(to *row, m metric) string {
			if to.problem() != "" {
				return "–"
			}
			return number(medianRatio(r.rounds, to.rounds, m), 2)
		}
		cells := []string{r.name, r.about, number(medianOf(r.rounds, cpuOf), 2), ratio(base, cpuOf)}
		for _, o := range others {
			cells = append(cells, ratio(o, cpuOf))
		}
		line(append(cells, number(medianOf(r.rounds, perSecOf), 0), ratio(base, perSecOf),
			number(medianOf(r.rounds, p50Of), 2), number(medianOf(r.rounds, p99Of), 2), ratio(base, p99Of),
			number(medianOf(r.rounds, memoryOf), 1)))
	}
	return b.String()
}

func number(x float64, digits int) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, x)
}
