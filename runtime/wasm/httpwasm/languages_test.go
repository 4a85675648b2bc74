package httpwasm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
)

// TestGuestsInOtherLanguages builds the same plugin in Go, with the standard compiler, and in Rust.
func TestGuestsInOtherLanguages(t *testing.T) {
	for name, build := range map[string]func(to string) *exec.Cmd{
		"go": func(to string) *exec.Cmd {
			c := exec.Command("go", "build", "-buildmode=c-shared", "-o", to, "./testdata/policy_go")
			c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
			return c
		},
		"rust": func(to string) *exec.Cmd {
			return exec.Command(rustc(t), "--edition=2021", "--crate-type=cdylib", "--target=wasm32-unknown-unknown", "-O", "-Cpanic=abort", "-o", to, "testdata/policy.rs")
		},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "m.wasm")
			if out, err := build(to).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			module, err := os.ReadFile(to)
			if err != nil {
				t.Fatal(err)
			}
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s: %d bytes", r.Header.Get("X-Policy"), len(b))
			}))
			t.Cleanup(backend.Close)
			p, _ := load(t, module, Options{Config: []byte("as it is configured")}, wasm.Limits{})
			g := newGate(t, setup{backend: backend.Listener.Addr(), route: []filter.Filter{p}})
			for i := range 3 {
				want := fmt.Sprintf("as it is configured /a/long/path?with=a&query %d 5000: 5000 bytes, signed 7 0", i+1)
				if r := g.send("POST /a/long/path?with=a&query", strings.NewReader(strings.Repeat("b", 5000))); r.status != 200 || r.body != want {
					t.Errorf("%d %q, want %q", r.status, r.body, want)
				}
			}
		})
	}
}

// rustc is one that has the standard library for WebAssembly: the one in PATH may be rustup's, and Debian's beside it.
func rustc(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"rustc", "/usr/bin/rustc"} {
		sysroot, err := exec.Command(program, "--print", "sysroot").Output()
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(sysroot)), "lib/rustlib/wasm32-unknown-unknown/lib")); err == nil {
			return program
		}
	}
	const missing = "a rustc with its library for wasm32-unknown-unknown is missing (Debian: rustc, libstd-rust-dev-wasm32)"
	if os.Getenv("WASMGATE_TEST_ALL") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}
