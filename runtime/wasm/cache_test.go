package wasm

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/wasm/meter"
)

// cacheDir is a private directory.
func cacheDir(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runWith compiles a module with an engine of its own on that directory and returns what its export run returns.
func runWith(t *testing.T, dir string, binary []byte) uint64 {
	t.Helper()
	e, err := New(Options{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.Compile(t.Context(), "p", binary, abiOf(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Instantiate(InstanceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t, in, "run")
	in.Close()
	c.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return v
}

// entryOf returns the cache entry of a module: its directory, and the file that wazero wrote.
func entryOf(t *testing.T, dir string, binary []byte) (c *cache, folder, code string) {
	t.Helper()
	c, err := openCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(c.root, keyOf(binary))
	_ = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != sealName && d.Name() != meteredName {
			code = path
		}
		return nil
	})
	if code == "" {
		t.Fatalf("nothing was written to %s", folder)
	}
	return c, folder, code
}

// keyOf is the key of a module's entry, with the default limits.
func keyOf(binary []byte) string {
	l := Limits{}.withDefaults()
	return cacheKey(sha256.Sum256(binary), meter.Options{MemoryPages: l.MemoryPages, TableElements: l.TableElements, Debug: true})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCompiledCodeIsFoundByTheNextEngine seals the code of another module in the place of the module's own, as nobody
// but the cache itself does: when the next engine runs that, it has not compiled.
func TestCompiledCodeIsFoundByTheNextEngine(t *testing.T) {
	dir := cacheDir(t)
	one, two := constant(1), constant(2)
	if a, b := runWith(t, dir, one), runWith(t, dir, two); a != 1 || b != 2 {
		t.Fatalf("the modules return %d and %d", a, b)
	}
	_, _, code := entryOf(t, dir, one)
	before, err := os.Stat(code)
	if err != nil {
		t.Fatal(err)
	}
	if v := runWith(t, dir, one); v != 1 {
		t.Fatalf("the second engine returns %d", v)
	}
	if after, err := os.Stat(code); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the entry was written again: %v", err)
	}
	_, folder, code := entryOf(t, dir, one)
	_, _, other := entryOf(t, dir, two)
	copyFile(t, other, code)
	if err := os.Remove(filepath.Join(folder, sealName)); err != nil {
		t.Fatal(err)
	}
	(&entry{dir: folder}).seal()
	if v := runWith(t, dir, one); v != 2 {
		t.Errorf("got %d: the third engine did not use what it found", v)
	}
}

// TestDamagedCodeIsNotRun damages an entry in each way that there is. wazero itself takes some of them: the code of
// another module has a good CRC.
func TestDamagedCodeIsNotRun(t *testing.T) {
	one, two := constant(1), constant(2)
	for name, damage := range map[string]func(t *testing.T, dir, entry, code string){
		"the code of another module": func(t *testing.T, dir, _, code string) {
			_, _, other := entryOf(t, dir, two)
			copyFile(t, other, code)
		},
		"a link to the code of another module": func(t *testing.T, dir, _, code string) {
			_, _, other := entryOf(t, dir, two)
			if err := os.Remove(code); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(other, code); err != nil {
				t.Fatal(err)
			}
		},
		"a flipped bit": func(t *testing.T, _, _, code string) {
			b, err := os.ReadFile(code)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(code, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a file cut off": func(t *testing.T, _, _, code string) {
			if err := os.Truncate(code, 20); err != nil {
				t.Fatal(err)
			}
		},
		"no seal, and the code of another module": func(t *testing.T, dir, entry, code string) {
			_, _, other := entryOf(t, dir, two)
			copyFile(t, other, code)
			if err := os.Remove(filepath.Join(entry, sealName)); err != nil {
				t.Fatal(err)
			}
		},
		"another file beside it": func(t *testing.T, _, entry, _ string) {
			if err := os.WriteFile(filepath.Join(entry, "x"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a file where the directory was": func(t *testing.T, _, entry, _ string) {
			if err := os.RemoveAll(entry); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(entry, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := cacheDir(t)
			runWith(t, dir, one)
			runWith(t, dir, two)
			_, entry, code := entryOf(t, dir, one)
			damage(t, dir, entry, code)
			for range 2 { // compiled anew, and found again
				if v := runWith(t, dir, one); v != 1 {
					t.Errorf("the module returns %d", v)
				}
			}
			c, folder, _ := entryOf(t, dir, one)
			if e, ok := c.entry(keyOf(one)); !ok || !e.sealed || e.dir != folder {
				t.Errorf("the entry is %+v, %v", e, ok)
			}
		})
	}
}

// TestTheRewrittenModuleIsKept: what the next engine finds beside the code is what the rewrite gives, and it is used; a module
// with debugging information, and an entry that is not sealed, are rewritten.
func TestTheRewrittenModuleIsKept(t *testing.T) {
	if kept, all := reflect.TypeFor[metered]().NumField(), reflect.TypeFor[meter.Module]().NumField(); kept != all-2 {
		t.Errorf("%d fields of a rewritten module are kept; it has %d, two of them for debugging", kept, all)
	}
	dir := cacheDir(t)
	for _, name := range []string{"../../plugins/tenant-router/tenant-router.wasm", "proxywasm/testdata/probe.wasm", "httpwasm/testdata/kit.wasm"} {
		binary, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := meter.Rewrite(binary, meter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := entry{dir: filepath.Join(dir, filepath.Base(name))}
		if err := os.Mkdir(e.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		e.keep(want)
		if e.module() != nil {
			t.Error("a module is taken from an entry that is not sealed")
		}
		e.sealed = true
		if got := e.module(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: kept is something else", name)
		}
		want.Debug = map[string][]byte{".debug_info": nil}
		with := entry{dir: t.TempDir()}
		with.keep(want)
		if with.sealed = true; with.module() != nil {
			t.Error("a module with debugging information was kept")
		}
	}

	// Another module in its place: whoever runs that has not rewritten.
	one, two := constant(1), constant(2)
	runWith(t, dir, one)
	runWith(t, dir, two)
	_, folder, code := entryOf(t, dir, one)
	_, other, otherCode := entryOf(t, dir, two)
	copyFile(t, filepath.Join(other, meteredName), filepath.Join(folder, meteredName))
	if err := errors.Join(os.Remove(filepath.Join(folder, sealName)), os.Remove(code)); err != nil {
		t.Fatal(err)
	}
	copyFile(t, otherCode, filepath.Join(filepath.Dir(code), filepath.Base(otherCode)))
	(&entry{dir: folder}).seal()
	if v := runWith(t, dir, one); v != 2 {
		t.Errorf("got %d: the engine rewrote what it could have found", v)
	}
}

func TestCacheForgetsWhatWasNotUsedForLong(t *testing.T) {
	dir := cacheDir(t)
	runWith(t, dir, constant(1))
	c, entry, _ := entryOf(t, dir, constant(1))
	now := time.Now()
	old := now.Add(-2 * cacheMinAge)
	for i := range cacheMaxEntries {
		d := filepath.Join(c.root, strings.Repeat("0", 60)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(d, old, old); err != nil {
			t.Fatal(err)
		}
	}
	c.prune(now)
	left, err := os.ReadDir(c.root)
	if err != nil || len(left) != cacheMaxEntries {
		t.Errorf("%d entries are left, %v", len(left), err)
	}
	if _, err := os.Stat(entry); err != nil {
		t.Errorf("what was used just now is gone: %v", err)
	}
}

// TestWazeroIsTheVersionThatTheCacheIsFor compares go.mod with the version that is part of the cache's path, and with
// which the fields were looked up that wazero does not publish.
func TestWazeroIsTheVersionThatTheCacheIsFor(t *testing.T) {
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.ReplaceAll(string(b), "\n", " "), "github.com/tetratelabs/wazero "+wazeroVersion+" ") {
		t.Errorf("go.mod does not ask for wazero %s", wazeroVersion)
	}
}
