// Package cli is the command line: run, check, explain, plugin, demo, top, version and the shells' completions. Arguments, environment,
// standard streams, signals and the exit code are touched here and nowhere else, so that everything below can be run
// several times in one process, and this package by a test.
//
// cobra reads commands and flags, because help and completions for four shells come with it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Process is the state of a process as far as commands use it.
type Process struct {
	Args   []string // without the program's name
	Env    []string // as os.Environ gives it; of a name that is there twice, the last one counts
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signals is called by commands that stay up; until then an interrupt ends the process. Nil: there are none.
	Signals func() <-chan os.Signal
}

// OS is the real process.
func OS() Process {
	return Process{
		Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Signals: func() <-chan os.Signal {
			c := make(chan os.Signal, 4)
			signal.Notify(c, append([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, reopenSignals...)...)
			return c
		},
	}
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // it is not clear what was asked for
)

// told is an error whose text has been written already; only its exit code is left.
type told int

func (t told) Error() string { return fmt.Sprintf("exit code %d", int(t)) }

// Main runs the command that the process was started with, until it ends, and returns the exit code: 0, 1 if it
// failed, 2 if the command line is wrong.
func Main(p Process) int {
	p = p.complete()
	root := newRoot(&p)
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	called, err := root.ExecuteC()
	err = ofPlugin(err)
	var code told
	var failed failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &failed):
		fmt.Fprintln(p.Stderr, "wasmgate:", failed.error)
		return exitFailed
	}
	if sub := ofPlugins(root, p.Args); sub != "" {
		err = fmt.Errorf("%w: did you mean `%s`?", err, sub)
	}
	fmt.Fprintf(p.Stderr, "wasmgate: %s\nSee: %s --help\n", err, called.CommandPath())
	return exitUsage
}

// ofPlugins is the command below plugin that arguments name without that word; "" if they do not.
func ofPlugins(root *cobra.Command, args []string) string {
	if len(args) == 0 {
		return ""
	}
	if _, _, err := root.Find(args[:1]); err == nil {
		return ""
	}
	c, rest, err := root.Find([]string{"plugin", args[0]})
	if err != nil || len(rest) > 0 {
		return ""
	}
	return c.CommandPath()
}

// failure is an error of what a command does; others are mistakes in the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func newRoot(p *Process) *cobra.Command {
	root := &cobra.Command{
		Use:   "wasmgate",
		Short: "An HTTP gateway whose decisions are made by WebAssembly plugins",
		Long: `wasmgate is an HTTP gateway. Which upstream a request goes to, and with which headers, can be decided by
sandboxed WebAssembly plugins. Upstream connections are reused, and each of them can tell who used it.`,
		Example: `  wasmgate demo                 see it work: upstreams, a plugin and requests, all in this process
  wasmgate check wasmgate.yaml  say everything that is wrong with a config
  wasmgate explain /some/path   say where a request would go, and why
  wasmgate run                  serve ./wasmgate.yaml`,
		Version:       readBuild().String(),
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(newRun(p), newCheck(p), newExplain(p), newPlugin(p), newDemo(p), newTop(p), newVersion(p))
	return root
}

// complete fills in what the caller left open.
func (p Process) complete() Process {
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	if p.Stdout == nil {
		p.Stdout = io.Discard
	}
	if p.Stderr == nil {
		p.Stderr = io.Discard
	}
	if p.Signals == nil {
		p.Signals = func() <-chan os.Signal { return nil }
	}
	return p
}

// getenv is os.Getenv on the process's environment.
func (p *Process) getenv(name string) string {
	for _, kv := range slices.Backward(p.Env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// color says whether w is a terminal whose user has nothing against colours (https://no-color.org).
func (p *Process) color(w io.Writer) bool {
	if p.getenv("NO_COLOR") != "" || p.getenv("TERM") == "dumb" {
		return false
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
