// Package toolchain builds plugins with the compilers of the SDKs' languages, wherever those are: in PATH, where Debian
// puts them, or where .ci/sdk-tools has installed them. It runs them with os/exec of the standard library: they are
// programs, and each is the reference for its language.
package toolchain

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Language is a language that there is an SDK for. Its text is the name of the SDK's folder.
type Language string

// The languages.
const (
	Go             Language = "go"
	Rust           Language = "rust"
	Zig            Language = "zig"
	AssemblyScript Language = "assemblyscript"
	C              Language = "c"
)

// Languages are all of them.
var Languages = []Language{Go, Rust, Zig, AssemblyScript, C}

// Missing says which compiler is not installed, and what installs it.
type Missing struct {
	Language Language
	What     string
	Install  string
}

func (m *Missing) Error() string {
	return fmt.Sprintf("%s: %s is not installed; %s", m.Language, m.What, m.Install)
}

// Toolchain knows where an SDK is and where compilers are.
type Toolchain struct {
	// SDK is the folder with the SDKs, this package's own among them: an absolute path.
	SDK string
	// Tools is where .ci/sdk-tools installs; default: wasmgate/sdk-tools in the user's cache folder.
	Tools string
	// Work is a folder for what compilers leave behind to be quicker the next time; default: one for each Build.
	Work string
}

// Source is a plugin's folder. What is in it depends on its language: a main package of Go; one C file; a Cargo package;
// src/main.zig; assembly/index.ts.
type Source struct {
	Language Language
	Folder   string
}

// buildLimit is how long a compiler may take: the first run of one fills its own caches.
const buildLimit = 10 * time.Minute

// Build builds a plugin to the file out. The error is a *Missing if a compiler is not installed, and otherwise has what
// the compiler said.
func (t *Toolchain) Build(ctx context.Context, s Source, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	b, done, err := t.begin(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	b.out = out
	switch s.Language {
	case Go:
		return b.golang()
	case Rust:
		return b.rust()
	case Zig:
		return b.zig()
	case AssemblyScript:
		return b.assemblyScript()
	case C:
		return b.c()
	}
	return fmt.Errorf("there is no SDK for %q", s.Language)
}

// Test runs the tests that a plugin's folder, or an SDK's, has in its own language: they run on this machine, without
// WebAssembly and without a gateway. AssemblyScript and C have none.
func (t *Toolchain) Test(ctx context.Context, s Source) error {
	b, done, err := t.begin(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	switch s.Language {
	case Go:
		return b.run(nil, "go", "test", ".")
	case Rust:
		return b.rustTest()
	case Zig:
		return b.zigTest()
	}
	return nil
}

// begin makes the folder of a build, and what removes it.
func (t *Toolchain) begin(ctx context.Context, s Source) (b *build, done func(), err error) {
	folder, err := filepath.Abs(s.Folder)
	if err != nil {
		return nil, nil, err
	}
	work, done := t.Work, func() {}
	if work == "" {
		if work, err = os.MkdirTemp("", "wasmgate-plugin-"); err != nil {
			return nil, nil, err
		}
		done = func() { _ = os.RemoveAll(work) }
	}
	b = &build{Toolchain: t, ctx: ctx, folder: folder, work: filepath.Join(work, string(s.Language))}
	return b, done, os.MkdirAll(b.work, 0o700)
}

// build is one build.
type build struct {
	*Toolchain
	ctx          context.Context
	folder, work string
	out          string
}

func (b *build) golang() error {
	if _, err := exec.LookPath("go"); err != nil {
		return &Missing{Go, "go", "see https://go.dev/doc/install"}
	}
	return b.run([]string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS="},
		"go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", b.out, ".")
}

func (b *build) c() error {
	files, err := filepath.Glob(filepath.Join(b.folder, "*.c"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("there is no C file in %s", b.folder)
	}
	for _, program := range []string{"clang", "wasm-ld"} { // clang calls the other
		if _, err := exec.LookPath(program); err != nil {
			return &Missing{C, program, "apt-get install clang lld"}
		}
	}
	return b.run(nil, append([]string{"clang", "--target=wasm32", "-std=c11", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--stack-first",
		"-Wl,--strip-all", "-I", filepath.Join(b.SDK, "c"), "-o", b.out}, files...)...)
}

func (b *build) rust() error {
	rustc, cargo, err := b.findRust()
	if err != nil {
		return err
	}
	err = b.run([]string{"RUSTC=" + rustc}, cargo, "build", "--quiet", "--release", "--offline", "--target", rustTarget, "--target-dir", b.work)
	if err != nil {
		return err
	}
	name, err := cargoName(filepath.Join(b.folder, "Cargo.toml"))
	if err != nil {
		return err
	}
	module, err := os.ReadFile(filepath.Join(b.work, rustTarget, "release", strings.ReplaceAll(name, "-", "_")+".wasm"))
	if err != nil {
		return err
	}
	return os.WriteFile(b.out, module, 0o600)
}

func (b *build) rustTest() error {
	rustc, cargo, err := b.findRust()
	if err != nil {
		return err
	}
	return b.run([]string{"RUSTC=" + rustc, "RUSTDOC=" + filepath.Join(filepath.Dir(rustc), "rustdoc")},
		cargo, "test", "--quiet", "--offline", "--target-dir", b.work)
}

// cargoName reads the package's name.
func cargoName(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "name" {
			return strings.Trim(strings.TrimSpace(value), `"`), nil
		}
	}
	return "", fmt.Errorf("%s: there is no name", file)
}

func (b *build) zig() error {
	zig, err := b.findZig()
	if err != nil {
		return err
	}
	// What sdk/zig/build.zig asks for, without the time that "zig build" takes to build itself first. The mode is the only
	// thing that a plugin's own build.zig changes.
	mode := "ReleaseSafe"
	if text, err := os.ReadFile(filepath.Join(b.folder, "build.zig")); err == nil && strings.Contains(string(text), ".optimize = .ReleaseFast") {
		mode = "ReleaseFast"
	}
	return b.run(nil, append(zig, "build-exe", "-target", "wasm32-freestanding", "-O", mode, "-fno-entry", "-rdynamic", "-fstrip", "--stack", "131072",
		"--cache-dir", b.work, "--dep", "wasmgate", "-Mroot="+filepath.Join(b.folder, "src", "main.zig"),
		"-Mwasmgate="+filepath.Join(b.SDK, "zig", "src", "wasmgate.zig"), "-femit-bin="+b.out)...)
}

func (b *build) zigTest() error {
	zig, err := b.findZig()
	if err != nil {
		return err
	}
	root := filepath.Join(b.folder, "src", "main.zig")
	if _, err := os.Stat(root); err != nil { // the SDK itself
		return b.run(nil, append(zig, "test", "--cache-dir", b.work, filepath.Join("src", "wasmgate.zig"))...)
	}
	return b.run(nil, append(zig, "test", "--cache-dir", b.work, "--dep", "wasmgate", "-Mroot="+root,
		"-Mwasmgate="+filepath.Join(b.SDK, "zig", "src", "wasmgate.zig"))...)
}

func (b *build) assemblyScript() error {
	asc, err := b.findAssemblyScript()
	if err != nil {
		return err
	}
	// asc looks for packages by name in folders.
	packages := filepath.Join(b.work, "packages")
	if err := os.MkdirAll(packages, 0o700); err != nil {
		return err
	}
	link := filepath.Join(packages, "wasmgate")
	if err := os.Symlink(filepath.Join(b.SDK, "assemblyscript"), link); err != nil && !os.IsExist(err) {
		return err
	}
	return b.run(nil, append(asc, filepath.Join("assembly", "index.ts"), "--config", filepath.Join(b.SDK, "assemblyscript", "asconfig.json"),
		"--target", "release", "--path", packages, "--outFile", b.out)...)
}

// run runs a compiler in the plugin's folder.
func (b *build) run(env []string, command ...string) error {
	ctx, cancel := context.WithTimeout(b.ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = b.folder
	cmd.Env = append(cmd.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, text)
	}
	return nil
}
