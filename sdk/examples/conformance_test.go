package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"wasmgate/sdk/toolchain"
)

// TestConformance runs the conformance kit on the SDKs that are not in Go or C: those are tested beside the kit.
func TestConformance(t *testing.T) {
	kit := filepath.Join(t.TempDir(), "conformance")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", kit, "../conformance").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, l := range []toolchain.Language{toolchain.Rust, toolchain.Zig, toolchain.AssemblyScript} {
		t.Run(string(l), func(t *testing.T) {
			plugin := filepath.Join(t.TempDir(), "plugin.wasm")
			b := module(t, toolchain.Source{Language: l, Folder: filepath.Join(sdk, string(l), "conformance")})
			if err := os.WriteFile(plugin, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), kit, plugin).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestSDKs runs the SDKs' own tests, and those of the examples, which need no gateway.
func TestSDKs(t *testing.T) {
	tools := toolchain.Toolchain{SDK: sdk, Work: work()}
	for _, l := range []toolchain.Language{toolchain.Rust, toolchain.Zig} {
		folders := []string{filepath.Join(sdk, string(l))}
		for _, name := range examples {
			folders = append(folders, example(name, l).Folder)
		}
		for _, folder := range folders {
			name, err := filepath.Rel(sdk, folder)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name, func(t *testing.T) {
				key(t, toolchain.Source{Language: l, Folder: folder}) // reads the files
				skipMissing(t, tools.Test(t.Context(), toolchain.Source{Language: l, Folder: folder}))
			})
		}
	}
}
