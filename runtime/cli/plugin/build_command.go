package plugin

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
	"wasmgate/runtime/wasm"
)

func newBuild(p *Process) *cobra.Command {
	var out string
	var strip bool
	c := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build a plugin's module",
		Long: `Finds out which language the project in DIR (default: this folder) is in, and runs its compiler with what a plugin
needs. The module is DIR/NAME.wasm, by the folder's name. A compiler that is not there is named, and how to get it.

Names of functions, and lines where the language has them, stay in the module, so that a trap says where it was. --strip
leaves them out: the gateway does not need them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			pr, err := open(args)
			if err != nil {
				return failing(err)
			}
			if out != "" {
				pr.module = out
			}
			if err := p.build(pr, strip, p.Stderr); err != nil {
				return failing(err)
			}
			return p.tellModule(pr)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the module's `file`")
	c.Flags().BoolVar(&strip, "strip", false, "leave out names and lines: a smaller module, whose traps do not say where they were")
	return c
}

// tellModule says what was built, and whether the gateway takes it.
func (p *Process) tellModule(pr *project) error {
	module, err := os.ReadFile(pr.module)
	if err != nil {
		return failing(err)
	}
	m, abi, err := plugintest.ReadModule(module, wasm.Limits{})
	if err == nil {
		err = abi.Check(m)
	}
	if err != nil {
		return failing(fmt.Errorf("%s was built, but the gateway would not take it: %w", pr.module, pr.helped(err)))
	}
	_, version := plugintest.Detect(m)
	fmt.Fprintf(p.Stdout, "%s: %s, ABI %s %s, %s\n", pr.module, bytesText(int64(len(module))), abi.Name, version, debugText(m.Named, m.Debug != nil))
	return nil
}

// exporting says, by language, what has a module export what the gateway calls.
var exporting = map[string]string{
	"go": "call wasmgate.Handle in init, and build the package that does", "rust": "write wasmgate::plugin!(T), with T the type that is the Plugin",
	"as": "write export * from \"wasmgate/exports\" in assembly/index.ts", "c": "write WASMGATE_PLUGIN(.request = …) in one of the files",
	"zig": "write comptime { wasmgate.plugin(…); } in src/main.zig",
}

// helped adds to an error about a project's module what its author has forgotten, or should do instead.
func (p *project) helped(err error) error {
	if err == nil || p.language == nil {
		return err
	}
	l := p.language
	if l.like != nil {
		l = l.like
	}
	switch text := err.Error(); {
	case errors.Is(err, plugintest.ErrNoABI) && exporting[l.name] != "":
		return fmt.Errorf("%w\n  help: %s", err, exporting[l.name])
	case l == &asLanguage && (strings.Contains(text, " env.console.") || strings.Contains(text, " env.trace(")):
		return fmt.Errorf("%w\n  help: there is no console; log(Level.Info, text) of \"wasmgate\" writes to the gateway's log", err)
	}
	return err
}

// debugText says what traps can tell.
func debugText(names, lines bool) string {
	switch {
	case lines:
		return "with names and lines"
	case names:
		return "with names"
	}
	return "without names"
}

// bytesText writes a size as it is spoken: 812 B, 5.1 KB, 1.9 MB.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// prepare builds a project, unless nobody wants that, and reads the module.
func (p *Process) prepare(pr *project, build bool) ([]byte, error) {
	if build && pr.language != nil {
		if err := p.build(pr, false, p.Stderr); err != nil {
			return nil, err
		}
	}
	module, err := os.ReadFile(pr.module)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: build it (wasmgate plugin build), or name another", pr.module)
	}
	return module, err
}

// readTests reads files of tests, and says every mistake in all of them.
func readTests(names []string) ([]*suite.File, error) {
	var list []*suite.File
	var errs []error
	for _, name := range names {
		f, err := suite.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, f)
	}
	return list, errors.Join(errs...)
}
