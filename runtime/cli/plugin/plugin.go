// Package plugin is the part of the command line that plugins are written with: new, build, test, inspect, run and
// bench. A language is one entry of a table (languages.go): its files, its compiler, and how to get that.
//
// What it needs of the process it is handed; cobra reads the commands, as in the rest of the command line.
package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wasmgate/runtime/telemetry"
)

// Process is what commands may use of the process.
type Process struct {
	Env            []string // as os.Environ gives it
	Stdout, Stderr io.Writer
	Color          func(io.Writer) bool
	Signals        func() <-chan os.Signal // called by commands that stay up
	Build          telemetry.Build

	slow time.Duration // see patience; 0 is the default
}

// Failed is an error of what a command does; others are mistakes in the command line. If it is Told, its text has been
// written already.
type Failed struct {
	error
	Told bool
}

// Unwrap is the error itself.
func (f Failed) Unwrap() error { return f.error }

// errTold is an error that was written already.
var errTold = Failed{errors.New("failed"), true}

// failing makes an error of what a command did one that is told as such.
func failing(err error) error {
	var f Failed
	if err == nil || errors.As(err, &f) {
		return err
	}
	return Failed{error: err}
}

// Command is `wasmgate plugin`.
func Command(p *Process) *cobra.Command {
	c := &cobra.Command{
		Use:   "plugin",
		Short: "Write, build, test and try plugins",
		Long: `Write, build, test and try plugins. The way of a first one:

  wasmgate plugin new hello --lang go    a project that builds, with the SDK in it and a test
  cd hello
  wasmgate plugin test                   builds it, and sends it the requests of hello.test.yaml
  wasmgate plugin run                    a gateway around it: try it with curl; a change is built and swapped in`,
	}
	c.DisableFlagsInUseLine = true
	c.Args, c.SuggestionsMinimumDistance = known, 2
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(newNew(p), newBuild(p), newTest(p), newRun(p), newInspect(p), newBench(p))
	return c
}

// known refuses a subcommand that there is not.
func known(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := ""
	for _, name := range c.SuggestionsFor(args[0]) {
		text += fmt.Sprintf(", or `%s`", name)
	}
	if text != "" {
		text = ": did you mean " + strings.TrimPrefix(text, ", or ") + "?"
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), text)
}

// getenv is os.Getenv on the process's environment.
func (p *Process) getenv(name string) string {
	value := ""
	for _, kv := range p.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// paint puts texts into colours, where the terminal has them.
type paint bool

func (p *Process) paint(w io.Writer) paint { return paint(p.Color != nil && p.Color(w)) }

var colours = map[string]string{"bold": "1", "faint": "2", "good": "32", "bad": "31", "warn": "33"}

func (p paint) in(colour, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + colours[colour] + "m" + s + "\x1b[0m"
}
