package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wasmgate/sdk/toolchain"
)

// file is a file in a README: its name, and what is in it.
var file = regexp.MustCompile("(?m)^`([A-Za-z./]+)`:\n\n```[a-z]+\n((?s:.*?))```")

// TestReadmes writes down the plugins that the SDKs' READMEs have, builds and tests them, and asks the first of each.
func TestReadmes(t *testing.T) {
	for _, l := range []toolchain.Language{toolchain.Rust, toolchain.Zig, toolchain.AssemblyScript} {
		t.Run(string(l), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(sdk, string(l), "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.Symlink(sdk, filepath.Join(dir, "sdk")); err != nil {
				t.Fatal(err)
			}
			var plugins []string
			for _, m := range file.FindAllStringSubmatch(string(text), -1) {
				name := filepath.Join(dir, m[1])
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(m[2]), 0o600); err != nil {
					t.Fatal(err)
				}
				if plugin, _, _ := strings.Cut(m[1], "/"); len(plugins) == 0 || plugins[len(plugins)-1] != plugin {
					plugins = append(plugins, plugin)
				}
			}
			if len(plugins) == 0 || plugins[0] != "authz" {
				t.Fatalf("the plugins are %q", plugins)
			}
			for _, plugin := range plugins {
				readmePlugin(t, toolchain.Source{Language: l, Folder: filepath.Join(dir, plugin)})
			}
		})
	}
}

func readmePlugin(t *testing.T, s toolchain.Source) {
	tools := toolchain.Toolchain{SDK: sdk, Work: work()}
	skipMissing(t, tools.Test(t.Context(), s))
	h, err := start(t, compiled(t, module(t, s)), "")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(s.Folder) != "authz" {
		return
	}
	for i, c := range []step{
		{message{}, "respond\n< 401\n"},
		{message{fields: []string{"authorization: Bearer ada"}}, allowed("x-user: ada", "authorization: Bearer ada") + checked("Bearer ada")},
		{message{fields: []string{"authorization: Bearer ada"}}, allowed("x-user: ada", "authorization: Bearer ada")},
		{message{fields: []string{"authorization: Bad"}}, "respond\n< 403\n" + checked("Bad")},
	} {
		if got := h.ask(&c.message); got != c.want {
			t.Errorf("step %d: %s\nwant\n%s", i, got, c.want)
		}
	}
}

// checked is the line about a call of that plugin.
func checked(token string) string {
	return strings.NewReplacer("/authorise", "/check", "1s", "5s").Replace(called(token))
}
