package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const rustTarget = "wasm32-unknown-unknown"

// findRust finds a rustc that has the standard library for WebAssembly, and its cargo. The one in PATH may be rustup's
// without it, while Debian's, with it, is in /usr/bin.
func (t *Toolchain) findRust() (rustc, cargo string, err error) {
	for _, program := range []string{"rustc", "/usr/bin/rustc"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		sysroot, err := output(path, "--print", "sysroot")
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(sysroot, "lib", "rustlib", rustTarget, "lib")); err != nil {
			continue
		}
		// A cargo that is newer than the compiler passes options that the compiler does not know.
		if cargo, err := exec.LookPath(filepath.Join(filepath.Dir(path), "cargo")); err == nil {
			return path, cargo, nil
		}
	}
	return "", "", &Missing{Rust, "a rustc for " + rustTarget + " with cargo beside it",
		"apt-get install rustc cargo libstd-rust-dev-wasm32, or rustup target add " + rustTarget}
}

// findZig finds the compiler in the version that the SDK is for.
func (t *Toolchain) findZig() ([]string, error) {
	version, err := t.ZigVersion()
	if err != nil {
		return nil, err
	}
	if path, err := exec.LookPath("zig"); err == nil {
		if v, err := output(path, "version"); err == nil && sameMinor(v, version) {
			return []string{path}, nil
		}
	}
	path := filepath.Join(t.tools(), "zig-"+version, "ziglang", "zig")
	if _, err := os.Stat(path); err == nil {
		return []string{path}, nil
	}
	if v, err := output("python3", "-m", "ziglang", "version"); err == nil && sameMinor(v, version) {
		return []string{"python3", "-m", "ziglang"}, nil
	}
	return nil, &Missing{Zig, "zig " + version, ".ci/sdk-tools or pip install ziglang==" + version + " installs it"}
}

// sameMinor compares the first two numbers of versions: Zig's language differs with the second.
func sameMinor(a, b string) bool {
	minor := func(s string) string {
		parts := strings.SplitN(s, ".", 3)
		return strings.Join(parts[:min(2, len(parts))], ".")
	}
	return minor(a) == minor(b)
}

// findAssemblyScript finds asc and what runs it.
func (t *Toolchain) findAssemblyScript() ([]string, error) {
	version, err := t.AssemblyScriptVersion()
	if err != nil {
		return nil, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, &Missing{AssemblyScript, "node", "see https://nodejs.org; version 20 or later"}
	}
	installed := filepath.Join("node_modules", "assemblyscript")
	for _, folder := range []string{filepath.Join(t.SDK, "assemblyscript", installed), filepath.Join(t.tools(), "assemblyscript-"+version, installed)} {
		asc := filepath.Join(folder, "bin", "asc.js")
		if _, err := os.Stat(asc); err == nil {
			return []string{node, asc}, nil
		}
	}
	if asc, err := exec.LookPath("asc"); err == nil {
		if v, err := output(asc, "--version"); err == nil && sameMinor(strings.TrimPrefix(v, "Version "), version) {
			return []string{asc}, nil
		}
	}
	return nil, &Missing{AssemblyScript, "assemblyscript " + version, ".ci/sdk-tools or npm install in sdk/assemblyscript installs it"}
}

// ZigVersion is the version of Zig that the SDK is for, as its requirements.txt says.
func (t *Toolchain) ZigVersion() (string, error) {
	file := filepath.Join(t.SDK, "zig", "requirements.txt")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if version, ok := strings.CutPrefix(line, "ziglang=="); ok {
			return strings.TrimSpace(version), nil
		}
	}
	return "", fmt.Errorf("%s: ziglang is not pinned", file)
}

// AssemblyScriptVersion is the version of AssemblyScript that the SDK is for, as its package.json says.
func (t *Toolchain) AssemblyScriptVersion() (string, error) {
	file := filepath.Join(t.SDK, "assemblyscript", "package.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var p struct {
		DevDependencies map[string]string `json:"devDependencies"`
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if v := p.DevDependencies["assemblyscript"]; v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%s: assemblyscript is not pinned", file)
}

func (t *Toolchain) tools() string {
	if t.Tools != "" {
		return t.Tools
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "wasmgate", "sdk-tools")
}

// output runs a program that answers at once.
func output(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, args...).Output()
	return string(bytes.TrimSpace(text)), err
}
