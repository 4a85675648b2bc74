package plugin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
	"wasmgate/runtime/wasm"
)

// benched is what plugin bench has to tell; the fields are those of its JSON.
type benched struct {
	Module string       `json:"module"`
	Starts startFigures `json:"start"`
	Cases  []caseFigure `json:"cases"`
}

type startFigures struct {
	Compile  float64 `json:"compile_ms"`
	Cached   float64 `json:"from_cache_ms"`
	Instance float64 `json:"instance_ms"`
	Memory   int64   `json:"memory"`
}

type caseFigure struct {
	Name   string  `json:"name"`
	Phase  string  `json:"phase"`
	Calls  int     `json:"calls"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Rate   float64 `json:"calls_per_second"`
	Fuel   int64   `json:"fuel"`
	Memory int64   `json:"memory"`
	Failed int     `json:"failed"`
	Why    string  `json:"failure,omitempty"` // the first one
}

func newBench(p *Process) *cobra.Command {
	var asJSON bool
	var config string
	var least time.Duration
	c := &cobra.Command{
		Use:   "bench [DIR|FILE]",
		Short: "Measure what a plugin's calls and its start take",
		Long: `Builds the project in DIR (default: this folder), or takes the module FILE. Sends the requests of its tests, or a sample if
it has none, through the plugin again and again, on one event loop and without a gateway. The upstreams that the plugin
calls answer as its tests say, at once. Tells the time of a call (median, 99th percentile, calls in a second on one CPU),
its fuel, the memory of the instance, and what a start takes: compiling, the same from the cache, an instance.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := p.bench(args, config, least)
			if err != nil {
				return failing(err)
			}
			if asJSON {
				e := json.NewEncoder(p.Stdout)
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				return failing(e.Encode(b))
			}
			p.tellBench(b)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for programs: JSON")
	c.Flags().StringVar(&config, "config", "", "the plugin's configuration: `text`, or @FILE; default: that of its tests")
	c.Flags().DurationVar(&least, "time", time.Second, "how long each request is sent again and again")
	return c
}

// mostCalls bounds what is remembered of one request.
const mostCalls = 2_000_000

func (p *Process) bench(args []string, config string, least time.Duration) (*benched, error) {
	pr, err := open(args)
	if err != nil {
		return nil, err
	}
	module, err := p.prepare(pr, true)
	if err != nil {
		return nil, err
	}
	files, err := readTests(pr.tests())
	if err != nil {
		return nil, told(p, err)
	}
	limits, settings := limitsOf(files)
	settings.Name = pr.name
	if config != "" {
		if settings.Config, err = configText(config); err != nil {
			return nil, err
		}
	}
	b := &benched{Module: pr.module}
	if err := b.start(module, limits, settings); err != nil {
		return nil, p.unconfigured(pr, pr.named(err))
	}
	h, err := plugintest.New(plugintest.Options{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var cases []suite.NamedCase
	for _, f := range files {
		cases = append(cases, f.Cases()...)
	}
	if len(cases) == 0 {
		cases = []suite.NamedCase{{Name: "a sample: GET http://example.com/", Config: settings.Config, Case: plugintest.Case{Request: plugintest.Sample}}}
	}
	m, err := h.LoadAs(pr.name, module, limits)
	if err != nil {
		return nil, pr.named(err)
	}
	defer m.Close()
	for _, c := range cases {
		if config != "" {
			c.Config = settings.Config
		}
		if err := b.measure(m, settings, c, least); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return b, nil
}

func (b *benched) start(module []byte, limits wasm.Limits, s plugintest.Settings) error {
	dir, err := os.MkdirTemp("", "wasmgate-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	starts, err := plugintest.MeasureStarts(module, limits, s, filepath.Join(dir, "cache"))
	if err != nil {
		return err
	}
	b.Starts = startFigures{ms(starts.Compile), ms(starts.Cached), ms(starts.Instance), starts.Memory}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func (b *benched) measure(m *plugintest.Module, s plugintest.Settings, c suite.NamedCase, least time.Duration) error {
	s.Config = c.Config
	c.Apply(&s, m.Host())
	plugin, err := m.Start(s)
	if err != nil {
		return err
	}
	defer plugin.Close()
	f, err := plugin.Measure(c.Case, least, mostCalls)
	if err != nil {
		return err
	}
	add := func(phase string, m *plugintest.Measured) {
		row := caseFigure{
			Name: c.Name, Phase: phase, Calls: m.Calls, P50: float64(m.P50) / 1e3, P99: float64(m.P99) / 1e3, Rate: m.PerSecond, Fuel: m.Fuel, Memory: f.Memory, Failed: m.Failed,
		}
		if m.Failure != nil {
			row.Why = m.Failure.Error()
		}
		b.Cases = append(b.Cases, row)
	}
	add("request", &f.Request)
	if f.Response != nil {
		add("response", f.Response)
	}
	return nil
}

func (p *Process) tellBench(b *benched) {
	paint := p.paint(p.Stdout)
	s := b.Starts
	fmt.Fprintf(p.Stdout, "%s\n", paint.in("bold", b.Module))
	fmt.Fprintf(p.Stdout, "  compiled in %s, taken from the cache in %s; an instance starts in %s and has %s of memory\n\n",
		suite.Micros(s.Compile*1e3), suite.Micros(s.Cached*1e3), suite.Micros(s.Instance*1e3), bytesText(s.Memory))
	width := 4
	for _, c := range b.Cases {
		width = max(width, min(utf8.RuneCountInString(c.Name), 60))
	}
	head := fmt.Sprintf("  %-*s  %-8s  %9s  %9s  %10s  %10s  %10s", width, "", "phase", "median", "p99", "calls/s", "fuel", "memory")
	fmt.Fprintln(p.Stdout, paint.in("faint", strings.TrimRight(head, " ")))
	for _, c := range b.Cases {
		failed := ""
		if c.Failed > 0 {
			failed = paint.in("bad", fmt.Sprintf("  %d of %d failed", c.Failed, c.Calls))
		}
		name := c.Name
		if utf8.RuneCountInString(name) > width {
			name = string([]rune(name)[:width-1]) + "…"
		}
		name += strings.Repeat(" ", width-utf8.RuneCountInString(name))
		fmt.Fprintf(p.Stdout, "  %s  %-8s  %9s  %9s  %10s  %10s  %10s%s\n", name, c.Phase,
			suite.Micros(c.P50), suite.Micros(c.P99), suite.Thousands(int64(c.Rate)), suite.Thousands(c.Fuel), bytesText(c.Memory), failed)
		if c.Why != "" {
			fmt.Fprintf(p.Stdout, "    %s\n", paint.in("bad", printable(c.Why)))
		}
	}
}
