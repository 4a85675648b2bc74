package examples

import (
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
	"wasmgate/runtime/wasm/native"
	"wasmgate/sdk/toolchain"
)

var measure = flag.Bool("measure", false, "measure what a decision costs in each language, and print the table of sdk/README.md")

// measured are the decisions that are measured: of suites' plugins, with their configurations. The first one's module and
// memory are told.
var measured = []struct {
	column, suite string
	message       message
}{
	{"tenant router", "tenants", message{line: "GET /app/users/1?page=2", fields: []string{"X-Tenant: acme", "Accept: */*", "User-Agent: curl/8"}}},
	{"header policy", "requests", message{fields: []string{"Cookie: a=1", "X-Old: 1", "Accept: */*", "User-Agent: curl/8"}}},
	{"authorisation, kept", "credentials", message{fields: []string{"Authorization: Bearer ann", "Accept: */*", "User-Agent: curl/8"}}},
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
		fmt.Fprintf(&table, " %s |", m.column)
	}
	fmt.Fprintf(&table, " fuel | module | an instance's memory |\n|---|%s\n", strings.Repeat("---|", len(measured)+3))
	for _, l := range toolchain.Languages {
		fmt.Fprintf(&table, "| `%s` |", l)
		var first string
		for _, m := range measured {
			s := suites[slices.IndexFunc(suites, func(s suite) bool { return s.name == m.suite })]
			b := module(t, example(s.example, l))
			h, err := start(t, compiled(t, b), s.config)
			if err != nil {
				t.Fatal(err)
			}
			took, stats := h.decisionTime(&m.message)
			fmt.Fprintf(&table, " %.2f µs |", took.Seconds()*1e6)
			if first == "" {
				first = fmt.Sprintf(" %d | %s | %s |", stats.Fuel/stats.Calls, size(int64(len(b))), size(stats.MemoryBytes))
			}
		}
		fmt.Fprintln(&table, first)
	}
	t.Logf("one decision, host included, on %s/%s; the last three columns are of the first:\n%s", runtime.GOOS, runtime.GOARCH, table.String())
}

func size(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KB", n>>10)
}

// decisionTime is what the plugin's part of a request takes: many short rounds are run with the plugin and without it, and
// the best of each count.
func (h *host) decisionTime(m *message) (took time.Duration, s native.Stats) {
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
		for range rounds {
			without, with = min(without, round(false)), min(with, round(true))
		}
	})
	return (with - without) / requests, h.plugin.Stats()
}
