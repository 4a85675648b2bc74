package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"wasmgate/config"
)

func newCheck(p *Process) *cobra.Command {
	s := &source{process: p}
	c := &cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with a config",
		Long: `Reads a config as run would, with the environment and --set, and says every mistake at once, each with its place and
what to write instead. Plugins are compiled and given their config, and certificates are read. Nothing listens; modules
that are in no cache are fetched. A module that is not what its digest says is an error; one whose server cannot be asked
is a warning. So is a certificate that clients refuse, now or within 14 days.

The exit code is 0 if the config can be served, also with warnings, and 1 if it cannot.`,
		RunE: func(*cobra.Command, []string) error { return check(p, s) },
	}
	s.addFile(c)
	s.addSet(c)
	return c
}

func check(p *Process, s *source) error {
	if err := s.find(); err != nil {
		return errors.New("check what? No FILE was given, and there is no " + defaultFile + " in this folder")
	}
	c, report, err := s.load()
	untried := err != nil && report.Given("plugins")
	if err == nil {
		err = tryPlugins(p, c, report)
	}
	if len(report.Warnings) > 0 {
		fmt.Fprintln(p.Stderr, report)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		if untried {
			fmt.Fprintln(p.Stderr, "plugins are tried once the rest is right")
		}
		return told(exitFailed)
	}
	fmt.Fprintf(p.Stdout, "%s: ok: %s%s\n", name(s), inventory(c), warnings(report))
	return nil
}

func name(s *source) string {
	switch s.file {
	case "":
		return "environment and --set"
	case "-":
		return "stdin"
	}
	return s.file
}

// inventory counts what a config has.
func inventory(c *config.Config) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{len(c.Listeners), "listener"}, {len(c.Routes), "route"}, {len(c.Plugins), "plugin"}, {len(c.Upstreams), "upstream"}} {
		if part.n > 0 {
			parts = append(parts, plural(part.n, part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func warnings(r *config.Report) string {
	if len(r.Warnings) == 0 {
		return ""
	}
	return "; " + plural(len(r.Warnings), "warning")
}
