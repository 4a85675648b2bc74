//go:build unix

package wasm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCacheDirectoryMustBePrivate checks that code is not taken from where others can write, and that the message says
// what to do.
func TestCacheDirectoryMustBePrivate(t *testing.T) {
	refused := func(dir string, words ...string) {
		t.Helper()
		_, err := New(Options{CacheDir: dir})
		if err == nil {
			t.Fatalf("%s was taken", dir)
		}
		for _, w := range append(words, dir) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	for _, mode := range []os.FileMode{0o755, 0o770, 0o701} {
		dir := cacheDir(t)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused(dir, "must be private", "chmod 700")
	}

	dir := cacheDir(t) // the directory within it must be, too
	if _, err := New(Options{CacheDir: dir}); err != nil {
		t.Fatal(err)
	}
	inner, _ := filepath.Glob(filepath.Join(dir, "wazero-*"))
	if len(inner) != 1 {
		t.Fatalf("the directory holds %v", inner)
	}
	if err := os.Chmod(inner[0], 0o777); err != nil {
		t.Fatal(err)
	}
	refused(dir, "must be private")

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(file, "not a directory")
	refused("/proc/self/nothing")
}
