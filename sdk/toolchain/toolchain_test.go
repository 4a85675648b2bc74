package toolchain

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func toolchain(t *testing.T) *Toolchain {
	t.Helper()
	sdk, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return &Toolchain{SDK: sdk, Tools: t.TempDir()}
}

// TestMissing asks for compilers where there are none.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	tools := toolchain(t)
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	for l, want := range map[Language]string{Go: "go: go is not installed", C: "c: clang is not installed; apt-get install clang lld",
		Zig: "pip install ziglang==", AssemblyScript: "assemblyscript: node is not installed"} {
		folder := filepath.Join(tools.SDK, "examples", "header-policy", string(l))
		err := tools.Build(t.Context(), Source{Language: l, Folder: folder}, out)
		var missing *Missing
		if !errors.As(err, &missing) || missing.Language != l || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", l, err, want)
		}
	}
	if err := tools.Build(t.Context(), Source{Language: "cobol", Folder: "."}, out); err == nil || !strings.Contains(err.Error(), `"cobol"`) {
		t.Error(err)
	}
}

func TestWhatACompilerSays(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "plugin.c"), []byte("int f(void) { return nonsense; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := toolchain(t).Build(t.Context(), Source{Language: C, Folder: folder}, filepath.Join(folder, "plugin.wasm"))
	var missing *Missing
	if errors.As(err, &missing) && os.Getenv("WASMGATE_TEST_ALL") == "" {
		t.Skip(missing)
	}
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Error(err)
	}
	if err := toolchain(t).Build(t.Context(), Source{Language: C, Folder: t.TempDir()}, "plugin.wasm"); err == nil {
		t.Error("a folder without sources is built")
	}
}

func TestVersions(t *testing.T) {
	tools := toolchain(t)
	for _, f := range []func() (string, error){tools.ZigVersion, tools.AssemblyScriptVersion} {
		if v, err := f(); err != nil || strings.Count(v, ".") != 2 {
			t.Errorf("%q, %v", v, err)
		}
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{{"0.17.1", "0.17.0", true}, {"0.17.1", "0.16.1", false}, {"0.17", "0.17.3", true}, {"", "0.17.1", false}} {
		if sameMinor(c.a, c.b) != c.same {
			t.Error(c)
		}
	}
	if name, err := cargoName(filepath.Join(tools.SDK, "rust", "Cargo.toml")); name != "wasmgate" || err != nil {
		t.Error(name, err)
	}
}
