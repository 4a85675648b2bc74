package plugins_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wasmgate/config"
)

// folders are those of the plugins.
func folders(t *testing.T) (list []string) {
	t.Helper()
	mains, err := filepath.Glob("*/main.go")
	if err != nil || len(mains) < 8 {
		t.Fatalf("%d plugins, %v", len(mains), err)
	}
	for _, name := range mains {
		list = append(list, filepath.Dir(name))
	}
	return append(list, "tenant-router")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryPluginIsTold holds the table and the pages to the folders.
func TestEveryPluginIsTold(t *testing.T) {
	table := read(t, "README.md")
	for _, name := range folders(t) {
		if strings.Count(table, "| ["+name+"]("+name+") |") != 1 {
			t.Errorf("README.md's table does not have %s", name)
		}
		page := read(t, filepath.Join(name, "README.md"))
		if !strings.HasPrefix(page, "# "+name+"\n") {
			t.Errorf("the page of %s begins otherwise", name)
		}
		if name == "tenant-router" {
			continue
		}
		for _, part := range []string{"\n## Configuration\n", "\n## Costs\n", "go test -run=- -bench=. ./plugins/" + name + "\n", "\n```yaml\nlisteners:\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("the page of %s lacks %q", name, part)
			}
		}
		if left := regexp.MustCompile(`\b(FUEL|TIME|MOST)\w*`).FindString(page); left != "" {
			t.Errorf("the page of %s has %s", name, left)
		}
	}
}

// TestExamples has the gateway read every block of YAML that is a configuration.
func TestExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	for _, name := range folders(t) {
		for i, m := range blocks.FindAllStringSubmatch(read(t, filepath.Join(name, "README.md")), -1) {
			text, whole := m[1], strings.HasPrefix(m[1], "listeners:")
			if !whole {
				text = "listeners: [{ address: ':0' }]\nupstreams: { users: { targets: ['http://h'] }, acme-upstream: { targets: ['http://h'] } }\n" + text
			}
			_, report, err := config.Load(config.Source{
				File: name + "/README.md", Data: []byte(text), Stat: func(string) error { return nil }, Lookup: func(string) (string, bool) { return "x", true },
			})
			if err != nil {
				t.Errorf("%s, block %d: %v", name, i, err)
			}
			for _, w := range report.Warnings {
				if whole { // in a part of a configuration nobody uses the plugin
					t.Errorf("%s, block %d: %v", name, i, w)
				}
			}
		}
	}
}

// TestCopying does what README.md says, in a folder of its own.
func TestCopying(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "README.md"), "## Copying one")
	_, text, _ = strings.Cut(text, "```sh\n")
	text, _, _ = strings.Cut(text, "```")
	folder := filepath.Join(t.TempDir(), "my-plugin")
	if strings.Count(text, "../my-plugin") != 2 {
		t.Fatalf("the commands are others:\n%s", text)
	}
	text = strings.ReplaceAll(text, "../my-plugin", folder)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", text)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=") // nothing is fetched
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module, err := os.ReadFile(filepath.Join(folder, "my-plugin.wasm"))
	if err != nil || !strings.HasPrefix(string(module), "\x00asm") {
		t.Errorf("%d bytes, %v", len(module), err)
	}
}
