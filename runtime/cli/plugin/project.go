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

// missing says which tools are not there.
func (p *Process) missing(l *language) error {
	var names, install []string
	for _, t := range l.tools {
		if p.has(t.program) {
			continue
		}
		names = append(names, t.program)
		if !slices.Contains(install, t.install) {
			install = append(install, t.install)
		}
	}
	if names == nil {
		return nil
	}
	is := "which is"
	if len(names) > 1 {
		is = "which are"
	}
	return fmt.Errorf("a plugin in %s is built with %s, %s not in PATH\n  install: %s", l.title, strings.Join(names, " and "), is, strings.Join(install, "\n           "))
}

// has says whether a program can be run. clang finds its linker beside itself, too.
func (p *Process) has(program string) bool {
	if _, ok := p.find(program); ok {
		return true
	}
	clang, ok := p.find("clang")
	if program != "wasm-ld" || !ok {
		return false
	}
	if real, err := filepath.EvalSymlinks(clang); err == nil {
		clang = real
	}
	_, err := exec.LookPath(filepath.Join(filepath.Dir(clang), program))
	return err == nil
}

// run builds the project's module. What the compiler says goes to w.
func (p *Process) build(pr *project, strip bool, w io.Writer) error {
	if pr.language == nil {
		return fmt.Errorf("%s is a module and no project's folder: there is nothing to build", pr.module)
	}
	if err := p.missing(pr.language); err != nil {
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
	b := &build{dir: dir, out: out + buildSuffix, strip: strip}
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
	defer os.Remove(b.out)
	for _, c := range commands {
		if err := p.execute(dir, c, w); err != nil {
			return err
		}
	}
	if b.made != "" {
		content, err := os.ReadFile(b.made)
		if err == nil {
			err = os.WriteFile(b.out, content, 0o644) //nolint:gosec // a module is for all to read
		}
		if err != nil {
			return err
		}
	}
	return os.Rename(b.out, out)
}

// execute runs a command of a build.
func (p *Process) execute(dir string, c command, w io.Writer) error {
	path, ok := p.find(c.args[0])
	if !ok {
		return fmt.Errorf("%s is not in PATH", c.args[0])
	}
	cmd := exec.Command(path, c.args[1:]...)
	cmd.Dir, cmd.Env = dir, append(slices.Clone(p.Env), c.env...)
	cmd.Stdout, cmd.Stderr = w, w
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		fmt.Fprintf(w, "%s\n", strings.Join(append(slices.Clone(c.env), c.args...), " "))
		return fmt.Errorf("%s failed: %w", c.args[0], err)
	}
	return err
}
