package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
)

func newInspect(p *Process) *cobra.Command {
	var asJSON bool
	var config string
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Tell what a module is, what it wants, and what a call of it takes",
		Long: `Tells a module's ABI, what it imports and exports, how large it is and of what, which language and tools it is of, and
whether a trap in it could tell names and lines. It is started, without any grant, to ask what it wants: phases, headers,
upstreams, calls, state. Then it is sent a sample request. What the gateway would refuse is told with its reason; the
exit code is 1 then.

A plugin that wants a configuration gets that of its tests (NAME.test.yaml beside it), or --config.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("one FILE is wanted: wasmgate plugin inspect FILE")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return failing(p.inspect(args[0], config, asJSON))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for programs: JSON")
	c.Flags().StringVar(&config, "config", "", "the plugin's configuration: `text`, or @FILE")
	return c
}

func (p *Process) inspect(name, config string, asJSON bool) error {
	pr, err := open([]string{name})
	if err != nil {
		return err
	}
	module, err := p.prepare(pr, false)
	if err != nil {
		return err
	}
	files, _ := readTests(pr.tests()) // what is wrong with tests is said where they are run
	limits, settings := limitsOf(files)
	if config != "" {
		if settings.Config, err = configText(config); err != nil {
			return err
		}
	}
	settings.Name = pr.name
	h, err := plugintest.New(plugintest.Options{})
	if err != nil {
		return err
	}
	defer h.Close()
	i := h.Inspect(pr.module, module, limits, settings)
	if asJSON {
		e := json.NewEncoder(p.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(i)
	} else {
		tellInspection(p.Stdout, p.paint(p.Stdout), i)
	}
	if err == nil && len(i.Refused) > 0 {
		err = errTold
	}
	return err
}

// configText is a plugin's configuration as it is given to a command.
func configText(s string) ([]byte, error) {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		return os.ReadFile(name)
	}
	return []byte(s), nil
}

// tellInspection writes what there is to know about a module for people.
func tellInspection(w io.Writer, paint paint, i *plugintest.Inspection) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s  %s\n", paint.in("faint", fmt.Sprintf("%-10s", name)), value)
		}
	}
	row("file", fmt.Sprintf("%s, %s", i.File, bytesText(int64(i.Size))))
	abi := i.ABI
	if i.Version != "" {
		abi += " " + i.Version
	}
	row("ABI", abi)
	for _, r := range i.Refused {
		row("refused", paint.in("bad", strings.ReplaceAll(r, "\n", "\n            ")))
	}
	row("language", strings.Join(append(nonEmpty(i.Language), i.Tools...), "; "))
	row("module", i.Name)
	row("traps", trapsText(i))
	var parts []string
	for _, s := range i.Sections {
		if s.Size >= 1000 || s.Name == "code" || s.Name == "data" {
			parts = append(parts, s.Name+" "+bytesText(int64(s.Size)))
		}
	}
	row("sections", strings.Join(parts, ", "))
	if i.Functions > 0 {
		row("functions", suite.Thousands(int64(i.Functions)))
		row("memory", fmt.Sprintf("%s at the start, %s at most", bytesText(int64(i.MemoryPages)<<16), bytesText(int64(i.MemoryMax)<<16)))
	}
	row("imports", list(i.Imports, "nothing"))
	row("exports", list(i.Exports, "nothing"))
	tellWants(row, paint, i.Wants)
	for _, n := range i.Notes {
		row("note", paint.in("warn", printable(n)))
	}
	if s := i.Sample; s != nil {
		decision := s.Decision
		if s.Status != 0 {
			decision += " " + strconv.Itoa(s.Status)
		}
		if s.Upstream != "" {
			decision += " " + s.Upstream
		}
		row("sample", fmt.Sprintf("%s: %s; %s, %s fuel, %s of memory", s.Request, decision, suite.Micros(s.Micros), suite.Thousands(s.Fuel), bytesText(s.Memory)))
	}
}

func tellWants(row func(name, value string), paint paint, w *plugintest.Wants) {
	if w == nil {
		return
	}
	if w.Refused != "" {
		row("start", paint.in("warn", "it does not start, so that it cannot be asked what it wants: ")+w.Refused+" (see --config)")
	}
	row("wants", list(w.Phases, ""))
	for _, r := range []struct {
		name   string
		values []string
	}{
		{"headers of requests", w.RequestHeaders}, {"headers of answers", w.ResponseHeaders}, {"upstreams", w.Upstreams}, {"calls", w.Calls},
		{"state", w.State}, {"bodies", w.Bodies}, {"ticks", nonEmpty(w.Tick)}, {"metrics", w.Metrics},
	} {
		if len(r.values) > 0 {
			row("", r.name+": "+strings.Join(r.values, ", "))
		}
	}
	if w.Clock {
		row("", "clock: it imports one, and its time stands still without the grant")
	}
}

func trapsText(i *plugintest.Inspection) string {
	switch {
	case len(i.Exports) == 0:
		return ""
	case i.Lines:
		return "tell names and lines"
	case i.Names:
		return "tell names" + linesText(i)
	}
	return "tell neither names nor lines: build without -s / --strip"
}

// linesText says of a module without debugging information where lines come from in its language.
func linesText(i *plugintest.Inspection) string {
	tools := strings.Join(append(nonEmpty(i.Language), i.Tools...), " ")
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(tools, w) })
	}
	switch {
	case has("AssemblyScript"):
		return "; failed assertions and exceptions tell their line themselves"
	case has("Rust", "rustc"):
		return " (no lines: build with wasmgate plugin build, or CARGO_PROFILE_RELEASE_DEBUG=1)"
	case has("Go"):
		return "; Go's panics tell their lines themselves"
	}
	return " (no lines: build with -g)"
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// list writes names, several to a line.
func list(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	var b strings.Builder
	width := 0
	for k, n := range names {
		switch {
		case k > 0 && width+len(n) > 100:
			b.WriteString(",\n            ")
			width = 0
		case k > 0:
			b.WriteString(", ")
			width += 2
		}
		b.WriteString(n)
		width += len(n)
	}
	return b.String()
}
