package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// watched starts a watcher for the files.
func watched(t *testing.T, files ...string) *Watcher {
	t.Helper()
	log := zerolog.Nop()
	w, err := New(&log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.Watch(files)
	return w
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(10 * time.Second):
		t.Fatalf("not noticed: %s", what)
	}
}

func TestWatcherNoticesEveryWayToChangeAFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "wasmgate.yaml")
	write(t, file, "a")
	w := watched(t, file)

	write(t, file, "written")
	expect(t, w, "written in place")

	other := filepath.Join(dir, "new")
	write(t, other, "replaced")
	must(t, os.Rename(other, file))
	expect(t, w, "replaced by another, as editors do")

	must(t, os.Remove(file))
	expect(t, w, "removed")
	write(t, file, "again")
	expect(t, w, "there again")
}

// TestWatcherFollowsLinks does what a mounted ConfigMap does: the file is a link through a link to a folder, and it is
// the latter that is replaced.
func TestWatcherFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"..1", "..2"} {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "wasmgate.yaml"), "version "+version)
	}
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	file := filepath.Join(dir, "wasmgate.yaml")
	must(t, os.Symlink(filepath.Join("..data", "wasmgate.yaml"), file))
	w := watched(t, file)

	must(t, os.Symlink("..2", filepath.Join(dir, "..tmp")))
	must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	expect(t, w, "a link that leads elsewhere")

	write(t, filepath.Join(dir, "..2", "wasmgate.yaml"), "edited where it really is")
	expect(t, w, "what the link leads to")
}

func TestWatchKeepsWhatItKnows(t *testing.T) {
	dir := t.TempDir()
	file, module := filepath.Join(dir, "wasmgate.yaml"), filepath.Join(dir, "m.wasm")
	write(t, file, "a")
	log := zerolog.Nop()
	w, err := New(&log)
	must(t, err)
	w.Close() // from here on this test is the watcher's goroutine
	w.replace([]string{file})
	write(t, file, "changed between two looks")
	w.replace([]string{file, module})
	w.list = nil // Watch's business
	if !w.look() {
		t.Error("a change was lost when another file was added")
	}
	write(t, module, "there now")
	if !w.look() {
		t.Error("a file that was not there has come")
	}
	if w.look() {
		t.Error("noticed twice")
	}
	write(t, file+"~", "a backup that an editor leaves")
	if w.look() {
		t.Error("a neighbour's change is not the file's")
	}
	w.Watch(nil) // must not wait for a watcher that has ended
}

// put is write in one step: nobody sees half of the file, however long the test stands still.
func put(t *testing.T, file, text string) {
	t.Helper()
	write(t, file+".part", text)
	must(t, os.Rename(file+".part", file))
}

func TestWatchList(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.c"), "a")
	log := zerolog.Nop()
	w, err := New(&log)
	must(t, err)
	t.Cleanup(w.Close)
	w.WatchList(func() []string {
		found, _ := filepath.Glob(filepath.Join(dir, "*.c"))
		return append(found, found...) // named twice is once
	})
	put(t, filepath.Join(dir, "b.c"), "b")
	expect(t, w, "a new file")
	put(t, filepath.Join(dir, "b.c"), "bb")
	expect(t, w, "a change of a file that was new")
	must(t, os.Remove(filepath.Join(dir, "a.c")))
	expect(t, w, "a file that is gone")
	put(t, filepath.Join(dir, "c.wasm"), "not in the list")
	put(t, filepath.Join(dir, "b.c"), "bbb")
	expect(t, w, "a change beside something that is not in the list")
	select {
	case <-w.Changed():
		t.Error("noticed twice")
	default:
	}
}
