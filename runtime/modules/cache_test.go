package modules

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func newCache(t *testing.T, most int64) *cache {
	t.Helper()
	c, err := openCache(filepath.Join(t.TempDir(), "modules"), most)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// content is some bytes and their digest.
func content(name string, size int) (string, []byte) {
	b := bytes.Repeat([]byte(name), size/len(name)+1)[:size]
	return digestOf(b), b
}

func (c *cache) must(t *testing.T, digest string, b []byte) {
	t.Helper()
	if err := c.put(digest, b); err != nil {
		t.Fatal(err)
	}
}

// names are the files in the folder.
func (c *cache) names(t *testing.T) string {
	t.Helper()
	files, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

func TestCache(t *testing.T) {
	c := newCache(t, 1000)
	if info, err := os.Stat(c.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	d, b := content("a", 100)
	if _, ok := c.get(d, 1000); ok || c.has(d) {
		t.Error("an empty cache has something")
	}
	c.must(t, d, b)
	got, ok := c.get(d, 100)
	if !ok || !bytes.Equal(got, b) || !c.has(d) || c.names(t) != d {
		t.Errorf("%q, %v; the folder holds %s", got, ok, c.names(t))
	}
	if info, err := os.Stat(filepath.Join(c.dir, d)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, ok := c.get(d, 99); ok {
		t.Error("more than was allowed was read")
	}
	for _, bad := range []string{"", ".", "../" + d, strings.ToUpper(d), d + "0"} {
		if _, ok := c.get(bad, 1000); ok || c.has(bad) {
			t.Errorf("%q is in the cache", bad)
		}
	}
	var none *cache
	if _, ok := none.get(d, 1000); ok || none.has(d) || none.put(d, b) != nil {
		t.Error("no cache has something")
	}
}

// TestCacheIsNotBelieved changes what is in the folder: what is not what its name says is removed, and fetched anew.
func TestCacheIsNotBelieved(t *testing.T) {
	module := moduleOf("kept", 1000)
	asked := 0
	url, ca := serve(t, true, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Write(module)
	})
	f := trusting(t, ca, nil)
	ref := refTo(url, digestOf(module))
	file := filepath.Join(f.o.CacheDir, ref.Digest)
	has(t, f, ref, module)
	for i, broken := range [][]byte{moduleOf("evil", 1000), module[:500], nil, append(bytes.Clone(module), 0)} {
		write(t, file, broken)
		if info := has(t, f, ref, module); info.Cached || asked != i+2 {
			t.Errorf("%+v, asked %d times", info, asked)
		}
	}
	// Neither a folder nor a link to what is elsewhere.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if info := has(t, f, ref, module); info.Cached || info.NotKept == nil {
		t.Errorf("%+v", info)
	}
}

// TestSeeded has what people put into the folder by hand, as README.md says.
func TestSeeded(t *testing.T) {
	module := moduleOf("by hand", 100)
	dir := filepath.Join(t.TempDir(), "modules")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, l := range layouts(module) {
		for _, b := range l.blobs {
			write(t, filepath.Join(dir, b.Digest.Encoded()), b.content)
		}
	}
	write(t, filepath.Join(dir, digestOf(module)), module)
	f := fetcher(t, func(o *Options) { o.CacheDir = dir })
	has(t, f, refTo("https://nobody.invalid/m.wasm", digestOf(module)), module)
	for _, l := range layouts(module) {
		ref := refTo("oci://nobody.invalid/"+l.name, l.blobs[len(l.blobs)-1].Digest.Encoded())
		if info := has(t, f, ref, module); !info.Cached || info.Layout != l.is || !f.has(ref) {
			t.Errorf("%s: %+v", l.name, info)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(t, 1000)
	age := func(d string, ago time.Duration) {
		t.Helper()
		at := time.Now().Add(-ago)
		if err := os.Chtimes(filepath.Join(c.dir, d), at, at); err != nil {
			t.Fatal(err)
		}
	}
	var digests []string
	for i, name := range []string{"a", "b", "c"} {
		d, b := content(name, 300)
		c.must(t, d, b)
		age(d, time.Duration(10-i)*time.Hour)
		digests = append(digests, d)
	}
	if _, ok := c.get(digests[0], 300); !ok { // now it is the one that was used last
		t.Fatal("a is gone")
	}
	d, b := content("d", 300)
	c.must(t, d, b)
	if c.has(digests[1]) || !c.has(digests[0]) || !c.has(digests[2]) || !c.has(d) {
		t.Errorf("the folder holds %s", c.names(t))
	}
	d, b = content("e", 1000)
	c.must(t, d, b)
	if c.names(t) != d {
		t.Errorf("the folder holds %s", c.names(t))
	}
	large, b := content("f", 1001)
	c.must(t, large, b)
	if c.names(t) != d {
		t.Errorf("the folder holds %s", c.names(t))
	}
	if again, err := openCache(c.dir, 999); err != nil || again.names(t) != "" {
		t.Errorf("%v; a smaller cache holds %s", err, c.names(t))
	}
}

// TestCacheLeavesOthersAlone keeps what it did not write, and removes what a process left that was killed.
func TestCacheLeavesOthersAlone(t *testing.T) {
	c := newCache(t, 10)
	old := time.Now().Add(-2 * cacheTemporaryAge)
	for _, name := range []string{"README", digestOf(nil) + ".1" + cacheTemporary, digestOf(nil) + ".2" + cacheTemporary} {
		write(t, filepath.Join(c.dir, name), make([]byte, 100))
		if !strings.HasSuffix(name, ".2"+cacheTemporary) {
			if err := os.Chtimes(filepath.Join(c.dir, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.prune("")
	if got, want := c.names(t), "README "+digestOf(nil)+".2"+cacheTemporary; got != want && got != digestOf(nil)+".2"+cacheTemporary+" README" {
		t.Errorf("the folder holds %s, want %s", got, want)
	}
}

func TestCacheFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CacheDir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 700") || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	if _, err := New(Options{CacheDir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := filepath.Join(dir, "cache", "wasmgate", "modules"); f.cache.dir != want {
		t.Errorf("%s, want %s", f.cache.dir, want)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "do without") {
		t.Errorf("%v", err)
	}
}

// TestFetchWithoutCache has nothing to keep what it fetches in, or no room.
func TestFetchWithoutCache(t *testing.T) {
	module := moduleOf("not kept", 1000)
	asked := 0
	url, ca := serve(t, true, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Write(module)
	})
	for i, change := range []func(*Options){
		func(o *Options) { o.NoCache, o.CacheDir = true, "/nowhere" },
		func(o *Options) { o.CacheBytes = 100 },
	} {
		f := trusting(t, ca, change)
		for range 2 {
			if info := has(t, f, refTo(url, digestOf(module)), module); info.Cached || info.NotKept != nil {
				t.Errorf("%+v", info)
			}
		}
		if asked != 2*(i+1) {
			t.Errorf("asked %d times", asked)
		}
	}
	f := trusting(t, ca, nil)
	if err := os.RemoveAll(f.o.CacheDir); err != nil {
		t.Fatal(err)
	}
	if info := has(t, f, refTo(url, digestOf(module)), module); info.NotKept == nil || !strings.Contains(info.NotKept.Error(), f.o.CacheDir) {
		t.Errorf("%+v", info)
	}
}

// TestCacheOfSeveralProcesses has processes write, read and prune in one folder at the same time: each reads what it
// wrote, or nothing, and the folder stays within its bounds.
func TestCacheOfSeveralProcesses(t *testing.T) {
	if dir := os.Getenv("WASMGATE_TEST_CACHE"); dir != "" {
		busyProcess(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "modules")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCacheOfSeveralProcesses$")
			cmd.Env = append(os.Environ(), "WASMGATE_TEST_CACHE="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	c, err := openCache(dir, processBytes)
	if err != nil {
		t.Fatal(err)
	}
	left, total := strings.Fields(c.names(t)), int64(0)
	for _, name := range left {
		b, ok := c.get(name, processBytes)
		if !ok {
			t.Errorf("%s is broken", name)
		}
		total += int64(len(b))
	}
	if total > processBytes || total == 0 {
		t.Errorf("%d bytes are left", total)
	}
}

const processBytes = 50_000

func busyProcess(t *testing.T, dir string) {
	c, err := openCache(dir, processBytes)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i := range 300 {
		d, b := content(fmt.Sprintf("content %d ", i%20), 5000)
		got, ok := c.get(d, processBytes)
		if ok {
			found++
			if !bytes.Equal(got, b) {
				t.Fatalf("%s is something else", d)
			}
			continue
		}
		c.must(t, d, b)
	}
	t.Logf("found %d", found)
}
