package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestC(t *testing.T) {
	module, err := os.ReadFile("../c/conformance/conformance.wasm")
	if err != nil {
		t.Fatal(err)
	}
	conforms(t, module)
}

func TestGo(t *testing.T) { conforms(t, goModule(t, "wasmgate/sdk/go/conformance")) }

func conforms(t *testing.T, module []byte) {
	list, err := check(module, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Differs != "" {
			t.Errorf("%s\n%s", v.Name, v.Differs)
		}
	}
}

// TestCommittedModule builds the C plugin anew, as .ci/plugins does.
func TestCommittedModule(t *testing.T) {
	built := clang(t, "clang", "-std=c11", "-Wl,--strip-all")
	committed, err := os.ReadFile("../c/conformance/conformance.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, committed) {
		t.Errorf("conformance.wasm has %d bytes, and %d when it is built from its source with this clang: .ci/plugins builds it anew", len(committed), len(built))
	}
}

// TestCPlusPlus compiles the same source as C++: the header is for both.
func TestCPlusPlus(t *testing.T) { conforms(t, clang(t, "clang++", "-x", "c++", "-std=c++20")) }

func clang(t *testing.T, program string, options ...string) []byte {
	t.Helper()
	need(t, program)
	need(t, "wasm-ld") // clang calls it
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	args := append([]string{"--target=wasm32", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--stack-first", "-I", "../c", "-o", out}, options...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if text, err := exec.CommandContext(ctx, program, append(args, "../c/conformance/conformance.c")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// goModule builds a plugin in Go.
func goModule(t *testing.T, pkg string) []byte {
	t.Helper()
	need(t, "go")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// TestDifferencesAreSaid runs a plugin that does not do what the commands say.
func TestDifferencesAreSaid(t *testing.T) {
	module, err := os.ReadFile("../../plugins/tenant-router/tenant-router.wasm")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	failed, err := report(&text, io.Discard, module)
	if err != nil {
		t.Fatal(err)
	}
	if want := "DIFFERS  continue\n  wanted:\n    continue\n  got:\n    refused: the plugin refuses its configuration: config.default is missing"; failed < 50 || !strings.Contains(text.String(), want) {
		t.Errorf("%d differ:\n%s", failed, text.String())
	}
	if _, err := report(&text, io.Discard, []byte("no module")); err == nil {
		t.Error("a file that is no module is run")
	}
}
