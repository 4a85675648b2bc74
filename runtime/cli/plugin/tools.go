package plugin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tool returns one of the language's tools.
func (l *language) tool(program string) *tool {
	for i := range l.tools {
		if l.tools[i].program == program {
			return &l.tools[i]
		}
	}
	return &tool{program: program} // clang++ comes with clang
}

// locate finds a tool for a project in dir.
func (t *tool) locate(p *Process, dir string) (args []string, ok bool) {
	if t.find != nil {
		return t.find(p, dir)
	}
	path, ok := p.find(t.program)
	return []string{path}, ok
}

// missing says which tools are not there.
func (p *Process) missing(l *language, dir string) error {
	var names, install []string
	for i := range l.tools {
		t := &l.tools[i]
		if _, ok := t.locate(p, dir); ok {
			continue
		}
		if t.partly != nil {
			if err := t.partly(p); err != nil {
				return err
			}
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
	return fmt.Errorf("a plugin in %s is built with %s, %s not there\n  install: %s", l.title, strings.Join(names, " and "), is, strings.Join(install, "\n           "))
}

// find looks a program up in the PATH of the process's environment.
func (p *Process) find(program string) (path string, ok bool) {
	for _, dir := range filepath.SplitList(p.getenv("PATH")) {
		if dir == "" {
			continue // the folder that one happens to be in is no place for programs
		}
		if file, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return file, true
		}
	}
	return "", false
}

// answer is the first line of what a program says.
func (p *Process) answer(args ...string) string { return p.answerIn("", args...) }

// answerIn is answer of a program that is called in a folder.
func (p *Process) answerIn(dir string, args ...string) string {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Dir = p.Env, dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

// findLinker finds wasm-ld, which clang calls and finds beside itself, too.
func findLinker(p *Process, _ string) ([]string, bool) {
	if path, ok := p.find("wasm-ld"); ok {
		return []string{path}, true
	}
	clang, ok := p.find("clang")
	if !ok {
		return nil, false
	}
	if target, err := filepath.EvalSymlinks(clang); err == nil {
		clang = target
	}
	path, err := exec.LookPath(filepath.Join(filepath.Dir(clang), "wasm-ld"))
	return []string{path}, err == nil
}

// findCargo finds a cargo beside a rustc that has the standard library for WebAssembly: the first one in PATH may be
// rustup's without it, while the distribution's has it.
func findCargo(p *Process, dir string) ([]string, bool) {
	for _, place := range filepath.SplitList(p.getenv("PATH")) {
		if place == "" {
			continue
		}
		rustc, err := exec.LookPath(filepath.Join(place, "rustc"))
		if err != nil {
			continue
		}
		cargo, err := exec.LookPath(filepath.Join(place, "cargo"))
		if err != nil {
			continue
		}
		sysroot := p.answerIn(dir, rustc, "--print", "sysroot") // there may be a rust-toolchain.toml
		if _, err := os.Stat(filepath.Join(sysroot, "lib", "rustlib", rustTarget, "lib")); sysroot != "" && err == nil {
			return []string{cargo}, true
		}
	}
	return nil, false
}

// partlyCargo is about a cargo whose compiler has no standard library for WebAssembly.
func partlyCargo(p *Process) error {
	if _, ok := p.find("cargo"); !ok {
		return nil
	}
	return errors.New("cargo is there, Rust's standard library for " + rustTarget + " is not\n  install: rustup target add " + rustTarget +
		", or apt-get install rustc cargo libstd-rust-dev-wasm32 (Debian, Ubuntu)")
}

// errSetup is about a project of AssemblyScript in which that was not done.
var errSetup = errors.New("node is there, AssemblyScript's compiler is not\n  install: npm install, in the project's folder")

// partlyASC is about a node without the compiler.
func partlyASC(p *Process) error {
	if _, ok := p.find("node"); !ok {
		return nil
	}
	return errSetup
}

// findASC finds AssemblyScript's compiler, in the project first.
func findASC(p *Process, dir string) ([]string, bool) {
	node, ok := p.find("node")
	if !ok {
		return nil, false
	}
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	asc := filepath.Join(dir, "node_modules", "assemblyscript", "bin", "asc.js")
	if _, err := os.Stat(asc); err == nil {
		return []string{node, asc}, true
	}
	path, ok := p.find("asc")
	return []string{path}, ok
}

// findZig finds the compiler, in PATH or as a package of Python's.
func findZig(p *Process, _ string) ([]string, bool) {
	if path, ok := p.find("zig"); ok {
		return []string{path}, true
	}
	python, ok := p.find("python3")
	if !ok || p.answer(python, "-m", "ziglang", "version") == "" {
		return nil, false
	}
	return []string{python, "-m", "ziglang"}, true
}
