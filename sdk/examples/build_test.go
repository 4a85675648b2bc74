// Package examples has plugins that are written in every language that there is an SDK for, and the tests that hold them
// to the same decisions: README.md says what each does. It uses the gateway's own host for them and the standard library.
package examples

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"wasmgate/sdk/toolchain"
)

// sdk is the folder of the SDKs.
var sdk = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// work is a folder for what compilers leave behind, the same for all builds of a run.
var work = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "wasmgate-examples-")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(work())
	os.Exit(code)
}

// sourcesOf are the folders and files, from sdk, that a module in a language is built from, besides its own.
var sourcesOf = map[toolchain.Language][]string{
	toolchain.Go:             {"go", "abi"},
	toolchain.Rust:           {"rust/src", "rust/Cargo.toml"},
	toolchain.Zig:            {"zig/src", "zig/requirements.txt"},
	toolchain.AssemblyScript: {"assemblyscript/assembly", "assemblyscript/asconfig.json", "assemblyscript/package.json"},
	toolchain.C:              {"c"},
}

// keep is the folder of modules that were built: the user's cache folder; where all is to be tested, one for this run.
func keep() string {
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("WASMGATE_TEST_ALL") == "" {
		return filepath.Join(cache, "wasmgate", "sdk-examples")
	}
	return filepath.Join(work(), "modules")
}

// module builds a plugin, or takes a module that was built of the same sources before. A compiler that is not installed ends the test as skipped, or
// as failed under WASMGATE_TEST_ALL.
func module(t testing.TB, s toolchain.Source) []byte {
	t.Helper()
	kept := filepath.Join(keep(), key(t, s)+".wasm")
	if b, err := os.ReadFile(kept); err == nil {
		return b
	}
	tools := toolchain.Toolchain{SDK: sdk, Work: work()}
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	skipMissing(t, tools.Build(context.Background(), s, out))
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if os.MkdirAll(keep(), 0o700) == nil && os.WriteFile(kept+".new", b, 0o600) == nil {
		_ = os.Rename(kept+".new", kept)
	}
	return b
}

// skipMissing ends the test if err is not nil: as skipped if it is that a compiler is missing and may be.
func skipMissing(t testing.TB, err error) {
	t.Helper()
	var missing *toolchain.Missing
	switch {
	case errors.As(err, &missing) && os.Getenv("WASMGATE_TEST_ALL") == "":
		t.Skip(missing)
	case err != nil:
		t.Fatal(err)
	}
}

// key is a digest of all that a module is made of. It reads every file, so that the go command knows on what a test's
// result depends.
func key(t testing.TB, s toolchain.Source) string {
	t.Helper()
	h := sha256.New()
	folders := []string{s.Folder, filepath.Join(sdk, "toolchain")}
	for _, f := range sourcesOf[s.Language] {
		folders = append(folders, filepath.Join(sdk, f))
	}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			fmt.Fprintf(h, "%s %d\n", name, len(b))
			h.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return string(s.Language) + "-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// examples are the folders' names.
var examples = []string{"tenant-router", "header-policy", "authorisation"}

// example is the source of an example in a language. In Go and C the tenant router is the plugin that comes with the gateway.
func example(name string, l toolchain.Language) toolchain.Source {
	if name == "tenant-router" && (l == toolchain.Go || l == toolchain.C) {
		return toolchain.Source{Language: l, Folder: filepath.Join(sdk, "..", "plugins", name, string(l))}
	}
	return toolchain.Source{Language: l, Folder: filepath.Join(sdk, "examples", name, string(l))}
}

// inEveryLanguage runs a test for each language, with the module of an example in it.
func inEveryLanguage(t *testing.T, name string, fn func(t *testing.T, module []byte)) {
	for _, l := range toolchain.Languages {
		t.Run(string(l), func(t *testing.T) { fn(t, module(t, example(name, l))) })
	}
}

// TestEveryExampleIsThere holds the folders to the list of languages.
func TestEveryExampleIsThere(t *testing.T) {
	for _, name := range examples {
		for _, l := range toolchain.Languages {
			if _, err := os.Stat(example(name, l).Folder); err != nil {
				t.Errorf("%s is not there in %s", name, l)
			}
		}
	}
	if folders, err := filepath.Glob("*/rust"); err != nil || len(folders) != len(examples) {
		t.Errorf("%d folders have examples, and %d examples are tested: %v", len(folders), len(examples), err)
	}
}
