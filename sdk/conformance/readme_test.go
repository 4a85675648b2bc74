package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// block is a file or commands in the SDKs' README: after the file's name, or after nothing.
var block = regexp.MustCompile("(?:`([a-z-]+/[a-z_.]+|first\\.yaml)`[^\n]*:\n\n)?```(go|c|sh|yaml)\n((?s:.*?))```")

// TestReadme writes down the first plugin as sdk/README.md has it, builds it with the commands that stand there, and
// runs it.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	need(t, "sh")
	dir := t.TempDir()
	var builds []string
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		name, body := m[1], m[3]
		if name != "" {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(body, "-o first.wasm") || strings.HasPrefix(body, "go test") {
			builds = append(builds, body)
		}
		if strings.HasPrefix(body, "go mod init") {
			need(t, "go")
			commands(t, dir, strings.ReplaceAll(body, "/path/to/this/repository", root))
		}
	}
	if err := os.Symlink(filepath.Join(root, "sdk"), filepath.Join(dir, "sdk")); err != nil {
		t.Fatal(err)
	}
	if len(builds) != 3 {
		t.Fatalf("%d builds and tests found, of 3", len(builds))
	}
	for _, sh := range builds {
		program := "go"
		if strings.HasPrefix(sh, "clang") {
			program = "clang"
		}
		t.Run(program, func(t *testing.T) {
			need(t, program)
			if program == "clang" {
				need(t, "wasm-ld") // clang calls it
			}
			commands(t, dir, sh)
			module, err := os.ReadFile(filepath.Join(dir, "first.wasm"))
			if err != nil {
				t.Fatal(err)
			}
			firstPlugin(t, module)
		})
	}
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("WASMGATE_TEST_ALL") != "" {
		t.Fatalf("%s is not installed, and WASMGATE_TEST_ALL is set", program)
	}
	t.Skipf("needs %s, which is not installed", program)
}

func commands(t *testing.T, dir, sh string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", sh)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", sh, err, out)
	}
}

func firstPlugin(t *testing.T, module []byte) {
	t.Helper()
	h, err := newHost(module, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, c := range []testCase{
		{name: "ping", line: "GET /ping", want: "respond\nstatus 200\nbody pong\n\nanswer content-type: text/plain"},
		{name: "internal", line: "GET /internal/x", want: "respond\nstatus 403"},
		{name: "beta", fields: []string{"X-Beta: yes"}, want: "continue\nfield x-beta: yes\nfield x-variant: beta"},
		{name: "others", line: "GET /internals", want: "continue"},
	} {
		if d := h.run(&c); d != "" {
			t.Errorf("%s\n%s", c.name, d)
		}
	}
}
