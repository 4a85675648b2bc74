package plugin

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// environment is this process's, with the compilers that .ci/sdk-tools installs.
func environment(t *testing.T) []string {
	t.Helper()
	path := os.Getenv("PATH")
	if cache, err := os.UserCacheDir(); err == nil {
		for _, pattern := range []string{"zig-*/ziglang", "assemblyscript-*/node_modules/.bin"} {
			found, _ := filepath.Glob(filepath.Join(cache, "wasmgate", "sdk-tools", pattern))
			for _, dir := range found {
				path += string(filepath.ListSeparator) + dir
			}
		}
	}
	return append(os.Environ(), "PATH="+path, "GOFLAGS=", "GOWORK=off")
}

// called is a command that was run.
type called struct {
	stdout, stderr testkit.Buffer
	err            error
}

// command runs a command that ends by itself.
func call(t *testing.T, args ...string) *called {
	t.Helper()
	c := &called{}
	c.run(&Process{Env: environment(t), Stdout: &c.stdout, Stderr: &c.stderr, Signals: func() <-chan os.Signal { return nil }}, args...)
	return c
}

func (c *called) run(p *Process, args ...string) {
	command := Command(p)
	command.SilenceErrors, command.SilenceUsage = true, true
	command.SetArgs(args)
	command.SetOut(p.Stdout)
	command.SetErr(p.Stderr)
	c.err = command.Execute()
}

// succeeds runs a command and returns what it says.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	c := call(t, args...)
	if c.err != nil {
		t.Fatalf("%v: %v\n%s%s", args, c.err, c.stdout.String(), c.stderr.String())
	}
	return c.stdout.String()
}

// fails runs a command that ought to fail, and compares its error, or what it wrote if that is all.
func fails(t *testing.T, told bool, want string, args ...string) *called {
	t.Helper()
	c := call(t, args...)
	var f Failed
	switch {
	case c.err == nil:
		t.Errorf("%v: no error\n%s%s", args, c.stdout.String(), c.stderr.String())
	case errors.As(c.err, &f) && f.Told != told:
		t.Errorf("%v: told %v", args, f.Told)
	case told && !strings.Contains(c.stdout.String()+c.stderr.String(), want), !told && !strings.Contains(c.err.Error(), want):
		t.Errorf("%v: %v\n%s%s\nwant: %s", args, c.err, c.stdout.String(), c.stderr.String(), want)
	}
	return c
}

// needs skips a test whose language's tools are not there.
func needs(t *testing.T, l *language) {
	t.Helper()
	p := &Process{Env: environment(t)}
	if err := p.missing(l, "."); err != nil {
		if os.Getenv("WASMGATE_TEST_ALL") != "" {
			t.Fatalf("%v, and WASMGATE_TEST_ALL is set", err)
		}
		t.Skip(err)
	}
}

// write writes a file in one step, since some are watched: nobody sees half of it, however long the test stands still.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file+".part", []byte(text), 0o600), os.Rename(file+".part", file)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// edit replaces a text in a file, which must be there, and more in the same step: was, is, was, is.
func edit(t *testing.T, file, was, is string, more ...string) {
	t.Helper()
	text := read(t, file)
	for more = append([]string{was, is}, more...); len(more) > 0; more = more[2:] {
		if !strings.Contains(text, more[0]) {
			t.Fatalf("%s has no %q", file, more[0])
		}
		text = strings.Replace(text, more[0], more[1], 1)
	}
	write(t, file, text)
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

// sh runs commands in a folder, with this program as wasmgate if they ask for it.
func sh(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.Command("sh", "-e", "-c", commands)
	cmd.Dir, cmd.Env = dir, environment(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	return string(out)
}
