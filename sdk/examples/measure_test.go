package examples

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/sdk/toolchain"
)

var measure = flag.Bool("measure", false, "measure what a decision costs in each language, and print the table of sdk/README.md")

// measured are the decisions that are measured: the first messages of suites.
var measured = []struct {
	column, suite string
	message       message
}{
	{"tenant router", "tenants", message{line: "GET /app/users/1?page=2", fields: []string{"X-Tenant: acme", "Accept: */*", "User-Agent: curl/8"}}},
	{"authorisation, kept", "credentials", message{fields: []string{"Authorization: Bearer ann", "Accept: */*", "User-Agent: curl/8"}}},
	{"header policy", "requests", message{fields: []string{"Cookie: a=1", "X-Old: 1", "Accept: */*", "User-Agent: curl/8"}}},
}

// TestMeasure prints what a decision takes. It is no test of it: machines differ.
//
//	go test ./sdk/examples -run TestMeasure -measure -v
func TestMeasure(t *testing.T) {
	if !*measure {
		t.Skip("only with -measure: it takes its time, and tells nothing on a machine that does other things")
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| |")
	for _, m := range measured {
		fmt.Fprintf(&table, " %s | fuel | module |", m.column)
	}
	fmt.Fprintf(&table, "\n|---|%s\n", strings.Repeat("---|", 3*len(measured)))
	for _, l := range toolchain.Languages {
		fmt.Fprintf(&table, "| `%s` |", l)
		for _, m := range measured {
			s := suites[slices.IndexFunc(suites, func(s suite) bool { return s.name == m.suite })]
			b := module(t, example(s.example, l))
			h, err := start(t, compiled(t, b), s.config)
			if err != nil {
				t.Fatal(err)
			}
			took, fuel := h.decisionTime(&m.message)
			fmt.Fprintf(&table, " %.2f µs | %d | %s |", took.Seconds()*1e6, fuel, size(len(b)))
		}
		fmt.Fprintln(&table)
	}
	t.Logf("one decision, host included, on %s/%s:\n%s", runtime.GOOS, runtime.GOARCH, table.String())
}

func size(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KB", cmp.Or(n/1024, 1))
}

// decisionTime is what the plugin's part of a request takes: many short rounds are run with the plugin and without it, and
// the best of each count.
func (h *host) decisionTime(m *message) (took time.Duration, fuel uint64) {
	const rounds, requests = 200, 500
	with, without := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	head := m.request()
	h.on(func(task *netloop.Task) {
		x := &exchange.Exchange{Task: task}
		round := func(ask bool) time.Duration {
			begun := time.Now()
			for range requests {
				x.Reset()
				if _, err := x.Request.Parse(head, nil); err != nil {
					h.t.Error(err)
					return 0
				}
				if !ask {
					continue
				}
				if v, err := h.plugin.Request(x, filter.Route, 0); err != nil || v != filter.Continue {
					h.t.Error(v, err)
					return 0
				}
			}
			return time.Since(begun)
		}
		round(true)
		before := h.plugin.Stats()
		for range rounds {
			without, with = min(without, round(false)), min(with, round(true))
		}
		after := h.plugin.Stats()
		fuel = (after.Fuel - before.Fuel) / (after.Calls - before.Calls)
	})
	return (with - without) / requests, fuel
}
