package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/plugintest/suite"
)

// project is a folder with the sources of a plugin, or a module alone.
type project struct {
	dir      string // as it was named; "" for a module without a project
	name     string // of the plugin
	language *language
	module   string // the file
}

// buildSuffix ends the name of a module while it is built: it becomes the module when it is whole.
const buildSuffix = ".building"

// open finds out what an argument means: a folder with a project, or a module. None is the folder that one is in.
func open(args []string) (*project, error) {
	name := "."
	if len(args) > 0 {
		name = args[0]
	}
	info, err := os.Stat(name)
	switch {
	case err != nil && filepath.Ext(name) == ".wasm":
		return nil, fmt.Errorf("%s is not there: build it (wasmgate plugin build), or name another", name)
	case err != nil:
		return nil, err
	case !info.IsDir():
		if !isModule(name) {
			return nil, fmt.Errorf("%s is no WebAssembly module: name a module (FILE.wasm), or the folder of a project", name)
		}
		return &project{name: strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), module: name}, nil
	}
	l, err := detect(name)
	if err != nil {
		return nil, err
	}
	whole, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	p := &project{dir: name, name: filepath.Base(whole), language: l}
	p.module = filepath.Join(name, p.name+".wasm")
	return p, nil
}

// isModule says whether a file is called a module, or begins as one does.
func isModule(name string) bool {
	if filepath.Ext(name) == ".wasm" {
		return true
	}
	f, err := os.Open(name)
	if err != nil {
		return true // who reads it says what is wrong
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x00asm"
}

// named is an error about the project's module, with its file's name.
func (p *project) named(err error) error { return fmt.Errorf("%s: %w", p.module, p.helped(err)) }

// tests are the files of tests that belong to it.
func (p *project) tests() []string {
	dir := p.dir
	if dir == "" {
		dir = filepath.Dir(p.module)
	}
	found, _ := filepath.Glob(filepath.Join(globbed(dir), "*"+suite.Suffix)) // the pattern is a good one
	if p.dir != "" {
		return found
	}
	// Beside a module there may be tests of others: those of its own name count, or else those that name it, or all if
	// there is one module only.
	var own []string
	for _, f := range found {
		if filepath.Base(f) == p.name+suite.Suffix {
			own = append(own, f)
		}
	}
	if own != nil {
		return own
	}
	modules, _ := filepath.Glob(filepath.Join(globbed(dir), "*.wasm"))
	if len(modules) > 1 {
		return nil
	}
	return found
}

// globbed is a folder's name as a pattern that takes nothing else.
func globbed(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// watched are the files whose change matters.
func (p *project) watched() []string {
	if p.dir != "" {
		return p.language.sources(p.dir)
	}
	return append([]string{p.module}, p.tests()...)
}

// build builds the project's module. What the compiler says goes to w.
func (p *Process) build(pr *project, strip bool, w io.Writer) error {
	if pr.language == nil {
		return fmt.Errorf("%s is a module and no project's folder: there is nothing to build; name the folder that its source is in", pr.module)
	}
	if err := p.missing(pr.language, pr.dir); err != nil {
		return err
	}
	dir, err := filepath.Abs(pr.dir)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(pr.module)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "wasmgate-build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	b := &build{dir: dir, out: out + buildSuffix, strip: strip, work: work, getenv: p.getenv}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			b.files = append(b.files, e.Name())
		}
	}
	commands, err := pr.language.build(b)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(b.out) }() // it is not there any more if all went well
	for _, old := range b.modules() {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	for _, c := range commands {
		if err := p.execute(pr.language, dir, c, w); err != nil {
			return err
		}
	}
	if b.made != "" {
		if err := b.take(); err != nil {
			return err
		}
	}
	return os.Rename(b.out, out)
}

// modules are those that are where the commands write them.
func (b *build) modules() []string {
	found, _ := filepath.Glob(b.made) // the pattern is a good one
	return found
}

// take copies what the commands made to where it belongs.
func (b *build) take() error {
	found := b.modules()
	if len(found) == 0 {
		return errors.New(b.unmade)
	}
	if len(found) > 1 {
		return fmt.Errorf("the build made several modules: %s", strings.Join(found, ", "))
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	return os.WriteFile(b.out, content, 0o644) //nolint:gosec // a module is for all to read
}

// execute runs a command of a build.
func (p *Process) execute(l *language, dir string, c command, w io.Writer) error {
	args := c.args[1:]
	program, _ := l.tool(c.args[0]).locate(p, dir) // it was there a moment ago
	cmd := exec.Command(program[0], append(slices.Clone(program[1:]), args...)...)
	cmd.Dir, cmd.Env = dir, append(slices.Clone(p.Env), c.env...)
	if c.args[0] == "cargo" {
		cmd.Env = append(cmd.Env, "RUSTC="+filepath.Join(filepath.Dir(program[0]), "rustc"))
	}
	if _, file := w.(*os.File); !file {
		w = &oneByOne{w: w}
	}
	cmd.Stdout, cmd.Stderr = w, w
	slow := time.AfterFunc(p.patience(), func() { fmt.Fprintf(w, "%s is still building…\n", c.args[0]) })
	err := cmd.Run()
	slow.Stop()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGINT {
			return errInterrupted
		}
		fmt.Fprintln(w, commandLine(c.env, cmd.Args))
		return fmt.Errorf("%s failed: %w", c.args[0], err)
	}
	return err
}

// errInterrupted is the error of a build whose compiler was interrupted, as Ctrl-C does it with all that runs.
var errInterrupted = errors.New("interrupted")

// patience is how long a compiler may take without a word.
func (p *Process) patience() time.Duration {
	if p.slow > 0 {
		return p.slow
	}
	return 5 * time.Second
}

// oneByOne has several write to what is no file.
type oneByOne struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneByOne) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

// commandLine is a command as it was run, for a shell.
func commandLine(env, args []string) string {
	words := slices.Clone(env)
	for i, w := range words {
		name, value, _ := strings.Cut(w, "=")
		words[i] = name + "=" + quoted(value)
	}
	for _, a := range args {
		words = append(words, quoted(a))
	}
	return strings.Join(words, " ")
}

// unconfigured adds to the error of a plugin that refuses its configuration how to give it one.
func (p *Process) unconfigured(pr *project, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Phase != "configure" && f.Phase != "start" {
		return err
	}
	return fmt.Errorf("%w\n  help: its configuration is plugin.config in %s, or --config", err, pr.name+suite.Suffix)
}
