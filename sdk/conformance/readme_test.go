package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
)

// block is a file or commands in an SDK's README: after the file's name, or after nothing.
var block = regexp.MustCompile("(?:`([a-z-]+/[a-z_.]+)`[^\n]*:\n\n)?```(go|c|sh|yaml)\n((?s:.*?))```")

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

// TestSDKReadmes builds the example of each SDK's README with the commands that stand there, and asks all of them the same.
func TestSDKReadmes(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"go", "c"} {
		t.Run(language, func(t *testing.T) {
			program := map[string]string{"go": "go", "c": "clang"}[language]
			need(t, program)
			if language == "c" {
				need(t, "wasm-ld") // clang calls it
			}
			text, err := os.ReadFile("../" + language + "/README.md")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.Symlink(filepath.Join(root, "sdk"), filepath.Join(dir, "sdk")); err != nil {
				t.Fatal(err)
			}
			run := []string{}
			for _, m := range block.FindAllStringSubmatch(string(text), -1) {
				name, kind, body := m[1], m[2], m[3]
				switch {
				case name != "":
					write(t, filepath.Join(dir, name), body)
				case kind == "sh":
					run = append(run, strings.ReplaceAll(body, "-o authz.wasm .", "-o authz.wasm ./authz"))
				case kind == "go": // a part: it is compiled beside the others
					part := "parts" + strconv.Itoa(len(body))
					write(t, filepath.Join(dir, part, "main.go"), goPart(body))
					run = append(run, "GOOS=wasip1 GOARCH=wasm go build -o /dev/null ./"+part)
				}
			}
			if language == "go" {
				commands(t, dir, "go mod init example.com/authz\ngo mod edit -require=wasmgate@v0.0.0 -replace=wasmgate="+root)
			}
			for _, sh := range run {
				commands(t, dir, sh)
			}
			module, err := os.ReadFile(filepath.Join(dir, "authz.wasm"))
			if err != nil {
				t.Fatal(err)
			}
			authzPlugin(t, module)
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// goPart makes a program of a part of one.
func goPart(body string) string {
	s := "package main\n\nimport (\n"
	for _, p := range []string{"bytes", "strings"} {
		if strings.Contains(body, p+".") {
			s += "\t\"" + p + "\"\n"
		}
	}
	s += "\twasmgate \"wasmgate/sdk/go\"\n)\n\n"
	if strings.Contains(body, "limits.") {
		s += "var limits wasmgate.Store\n\n"
	}
	return s + body + "\nfunc main() {}\n"
}

func authzPlugin(t *testing.T, module []byte) {
	t.Helper()
	h, err := newHost(module, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, c := range []testCase{
		{name: "no token", want: "respond\nstatus 401\nmetric asked 0"},
		{name: "a token", fields: []string{"Authorization: t1"},
			want: "continue\nfield authorization: t1\nfield x-user: yes\ncalled 21 GET /check timeout 5s authorization=t1\nstored sessions t1 \"yes\"\nmetric asked 1"},
	} {
		if d := h.run(&c); d != "" {
			t.Errorf("%s\n%s", c.name, d)
		}
	}
	h.on(func(*netloop.Task) {
		h.stores["sessions"].Set(0, []byte("t2"), []byte("ada"), 0, 0)
		h.calls = nil
	})
	var got string
	h.on(func(task *netloop.Task) { got = h.exchange(task, &testCase{fields: []string{"Authorization: t2"}}) })
	if !strings.Contains(got, "field x-user: ada") || strings.Contains(got, "called") {
		t.Errorf("a token that is known: %s", got)
	}
}
