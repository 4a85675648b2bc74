// Package top shows a running gateway in a terminal, as the program top shows a machine: its upstreams, connections, plugins
// and event loops, with rates from two readings of the admin endpoint. Where there is no terminal, it writes them once, as
// plain text.
//
// golang.org/x/term switches the terminal between lines and keys, and asks for its size; the rest is a few of ANSI's control
// sequences, for which a library of widgets would be more to know than to write. Prometheus's own library reads /metrics.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"wasmgate/runtime/cli/ask"
)

// Options are what Run needs.
type Options struct {
	Endpoint ask.Endpoint
	Once     bool          // write all tables once, as plain text; so too if Out is no terminal
	Interval time.Duration // between two readings
	In       io.Reader     // keys; if it is no terminal, there are none
	Out      io.Writer
	Stop     <-chan os.Signal // ends it; nil: only a key does
}

// Run shows the gateway until somebody wants no more, or once. An error says why there is nothing to show; a terminal is left
// as it was found.
func Run(ctx context.Context, o Options) error {
	s := &source{o.Endpoint}
	first, err := s.read(ctx, all)
	if err != nil {
		return err
	}
	out, isFile := o.Out.(*os.File)
	if o.Once || !isFile || !term.IsTerminal(int(out.Fd())) {
		return once(ctx, o, s, first)
	}
	return newScreen(o, s, out, first).run(ctx)
}

// once writes all tables, with the rates of one interval.
func once(ctx context.Context, o Options, s *source, first *reading) error {
	timer := time.NewTimer(o.Interval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-o.Stop:
		return errors.New("stopped before the second reading")
	}
	second, err := s.read(ctx, all)
	if err != nil {
		return err
	}
	_, err = io.WriteString(o.Out, text(first, second, 0))
	return err
}

// text is all tables, each with its heading; width 0: as wide as they are.
func text(before, now *reading, width int) string {
	var b strings.Builder
	fmt.Fprintln(&b, summary(before, now))
	for _, v := range views {
		t := v.table(before, now, 0)
		fmt.Fprintf(&b, "\n%s\n", v.title)
		if len(t.rows) == 0 {
			fmt.Fprintln(&b, "  "+v.none(now))
			continue
		}
		rest := 0
		if v.most > 0 && len(t.rows) > v.most {
			rest = len(t.rows) - v.most
			t.rows = t.rows[:v.most]
		}
		for _, line := range t.lines(width) {
			fmt.Fprintln(&b, strings.TrimRight(line, " "))
		}
		if rest > 0 {
			fmt.Fprintf(&b, "… and %d more\n", rest)
		}
	}
	return b.String()
}
