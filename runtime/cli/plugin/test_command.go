package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/watch"
)

// trial is how plugin test was asked for.
type trial struct {
	process *Process
	args    []string
	watch   bool
	json    bool
	verbose bool
	noBuild bool
	module  string
	only    string

	pattern *regexp.Regexp
}

func newTest(p *Process) *cobra.Command {
	t := &trial{process: p}
	c := &cobra.Command{
		Use:   "test [DIR|FILE]",
		Short: "Send a plugin requests, and compare what it decides with what is expected",
		Long: `Builds the project in DIR (default: this folder) and runs its tests, the files *.test.yaml, without a gateway. FILE is a
module, whose tests are beside it, or a file of tests, which may say its module.

For each test it says what the calls of the plugin took, in time and fuel, and for one that failed what differs. The exit
code is 1 if any failed. How tests are written: wasmgate plugin test --schema`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t.args = args
			if schema, _ := c.Flags().GetBool("schema"); schema {
				fmt.Fprint(p.Stdout, suite.Reference())
				return nil
			}
			var err error
			if t.pattern, err = regexp.Compile(t.only); err != nil {
				return fmt.Errorf("--run: %w", err)
			}
			if t.watch {
				return failing(t.follow())
			}
			_, err = t.once()
			return failing(err)
		},
	}
	c.Flags().BoolVarP(&t.watch, "watch", "w", false, "again at each change, until it is interrupted")
	c.Flags().BoolVar(&t.json, "json", false, "for programs: the results as JSON")
	c.Flags().BoolVarP(&t.verbose, "verbose", "v", false, "tell what the plugin writes to the log, also in tests that pass")
	c.Flags().BoolVar(&t.noBuild, "no-build", false, "test the module that is there")
	c.Flags().StringVar(&t.module, "module", "", "another module's `file`")
	c.Flags().StringVar(&t.only, "run", "", "only the tests whose name matches the `expression`")
	c.Flags().Bool("schema", false, "print the keys of test files")
	return c
}

// subject finds out what is tested.
func (t *trial) subject() (*project, []string, error) {
	if len(t.args) == 1 && strings.HasSuffix(t.args[0], ".yaml") {
		name := t.args[0]
		if _, err := os.Stat(name); err != nil {
			return nil, nil, err
		}
		pr, err := open([]string{filepath.Dir(name)})
		if err != nil { // it says its module itself, or it is beside it
			pr = &project{name: strings.TrimSuffix(filepath.Base(name), suite.Suffix)}
			pr.module = filepath.Join(filepath.Dir(name), pr.name+".wasm")
		}
		return pr, []string{name}, nil
	}
	pr, err := open(t.args)
	if err != nil {
		return nil, nil, err
	}
	return pr, pr.tests(), nil
}

// once runs all tests. The files are those whose change matters.
func (t *trial) once() (pr *project, err error) {
	pr, names, err := t.subject()
	if err != nil {
		return nil, err
	}
	if t.module != "" {
		pr = &project{name: strings.TrimSuffix(filepath.Base(t.module), ".wasm"), module: t.module}
	}
	if len(names) == 0 {
		return pr, fmt.Errorf("there are no tests: write %s (see wasmgate plugin test --schema)", filepath.Join(filepath.Dir(pr.module), pr.name+suite.Suffix))
	}
	files, err := readTests(names)
	if err != nil {
		return pr, told(t.process, err)
	}
	report := &suite.Report{Module: pr.module, Verbose: t.verbose}
	h, err := plugintest.New(plugintest.Options{Cache: true})
	if err != nil {
		if h, err = plugintest.New(plugintest.Options{}); err != nil { // it is a matter of time only
			return pr, err
		}
	}
	defer h.Close()
	built := false
	for _, f := range files {
		if err := t.file(h, pr, f, report, &built); err != nil {
			return pr, err
		}
	}
	if t.json {
		err = report.JSON(t.process.Stdout)
	} else {
		report.Text(t.process.Stdout, t.process.paint(t.process.Stdout).in)
	}
	switch {
	case err == nil && report.Failed > 0:
		err = errTold
	case err == nil && len(report.Tests) == 0 && t.only != "":
		err = fmt.Errorf("--run: no test's name matches %q", t.only)
	}
	return pr, err
}

// file runs the tests of one file.
func (t *trial) file(h *plugintest.Host, pr *project, f *suite.File, report *suite.Report, built *bool) error {
	if f.Module != "" && t.module == "" {
		pr = &project{name: pr.name, module: f.Module}
	}
	module, err := t.process.prepare(pr, !t.noBuild && !*built && pr.language != nil)
	if err != nil {
		return err
	}
	*built = *built || pr.language != nil
	m, err := h.LoadAs(pr.name, module, f.Limits())
	if err != nil {
		return pr.named(err)
	}
	defer m.Close()
	f.Keep(t.pattern.MatchString)
	report.Add(f.Run(m, pr.name))
	return nil
}

// told writes an error of several lines as it is.
func told(p *Process, err error) error {
	fmt.Fprintln(p.Stderr, err)
	return errTold
}

// follow runs the tests at each change of a file, until it is interrupted.
func (t *trial) follow() error {
	signals := t.process.Signals()
	log := zerolog.New(zerolog.ConsoleWriter{Out: t.process.Stderr, NoColor: true}).Level(zerolog.WarnLevel)
	w, err := watch.New(&log)
	if err != nil {
		return err
	}
	defer w.Close()
	pr, _, err := t.subject()
	if err != nil {
		return err
	}
	w.WatchList(func() []string { return append(pr.watched(), t.args...) })
	for {
		_, err := t.once()
		if errors.Is(err, errInterrupted) || interrupted(signals) {
			return nil
		}
		var f Failed
		if err != nil && (!errors.As(err, &f) || !f.Told) {
			fmt.Fprintln(t.process.Stderr, "wasmgate:", err)
		}
		if !t.json {
			fmt.Fprintf(t.process.Stdout, "\n%s Waiting for a change; Ctrl-C ends.\n", time.Now().Format(time.TimeOnly))
		}
		for waiting := true; waiting; {
			select {
			case <-w.Changed():
				waiting = false
			case s := <-signals:
				if s != syscall.SIGHUP {
					return nil
				}
				waiting = false
			}
		}
	}
}

// interrupted says whether there was a signal to end. A compiler gets it, too, and what it says then is of no interest.
func interrupted(signals <-chan os.Signal) bool {
	select {
	case s := <-signals:
		return s != syscall.SIGHUP // the tests have just been run
	default:
		return false
	}
}

// limitsOf are those of the first file of tests, for commands that want a plugin as its tests have it.
func limitsOf(files []*suite.File) (wasm.Limits, plugintest.Settings) {
	if len(files) == 0 {
		return wasm.Limits{}, plugintest.Settings{}
	}
	return files[0].Limits(), files[0].Settings("", files[0].Plugin.Config)
}
