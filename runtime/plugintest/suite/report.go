package suite

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Report is what came of all tests of a module.
type Report struct {
	Module  string   `json:"module"`
	Tests   []Result `json:"tests"`
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Verbose bool     `json:"-"` // what the plugin wrote is told of tests that passed, too
}

// Add adds results.
func (r *Report) Add(list []Result) {
	for i := range list {
		if list[i].Passed {
			r.Passed++
		} else {
			r.Failed++
		}
	}
	r.Tests = append(r.Tests, list...)
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Text writes the report for people. paint puts a text into a colour: good, bad or faint.
func (r *Report) Text(w io.Writer, paint func(colour, text string) string) {
	width := 0
	for i := range r.Tests {
		width = max(width, utf8.RuneCountInString(r.Tests[i].Name))
	}
	width = min(width, 60)
	for i := range r.Tests {
		t := &r.Tests[i]
		word := paint("good", "ok  ")
		if !t.Passed {
			word = paint("bad", "FAIL")
		}
		space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(t.Name)))
		cost := costOf(t.Calls)
		if cost == "" {
			space = ""
		}
		fmt.Fprintf(w, "%s  %s%s%s\n", word, t.Name, space, paint("faint", cost))
		if !t.Passed {
			fmt.Fprintf(w, "      %s\n", paint("faint", t.At))
		}
		for _, d := range t.Differences {
			fmt.Fprintf(w, "      %s\n        want: %s\n        got:  %s\n", d.What, paint("good", indent(d.Want)), paint("bad", indent(d.Got)))
		}
		if t.Passed && !r.Verbose {
			continue
		}
		for _, line := range t.Log {
			if t.tells(line) {
				continue
			}
			fmt.Fprintf(w, "      | %s\n", strings.ReplaceAll(line, "\n", "\n      | "))
		}
	}
	fmt.Fprintln(w, r.summary(paint))
}

// tells says whether a line of the log is about a failure that stands among the differences.
func (r *Result) tells(line string) bool {
	_, failure, ok := strings.Cut(line, ": plugin failed: ")
	return ok && slices.ContainsFunc(r.Differences, func(d Difference) bool { return strings.Contains(d.Got, failure) })
}

func (r *Report) summary(paint func(colour, text string) string) string {
	switch {
	case r.Failed > 0:
		return paint("bad", fmt.Sprintf("%d of %s failed", r.Failed, plural(len(r.Tests), "test")))
	case len(r.Tests) == 0:
		return "no tests"
	}
	return paint("good", plural(len(r.Tests), "test")+" passed")
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// indent keeps a text of several lines below its first one.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n              ") }

// costOf says what calls took: the worst of each phase.
func costOf(calls []GuestCall) string {
	var order []string
	worst := map[string]GuestCall{}
	for _, c := range calls {
		w, ok := worst[c.Phase]
		if !ok {
			order = append(order, c.Phase)
		}
		w.Micros, w.Fuel = max(w.Micros, c.Micros), max(w.Fuel, c.Fuel)
		worst[c.Phase] = w
	}
	var b strings.Builder
	for _, phase := range order {
		w := worst[phase]
		fmt.Fprintf(&b, "  %s %s, %s fuel", phase, Micros(w.Micros), Thousands(w.Fuel))
	}
	return b.String()
}

// Micros writes a time given in microseconds as it is spoken: 0.8 µs, 12 µs, 1.4 ms.
func Micros(us float64) string {
	switch {
	case us < 10:
		return fmt.Sprintf("%.1f µs", us)
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.1f s", us/1e6)
}

// Thousands writes a number with commas.
func Thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
