package wasm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"wasmgate/runtime/internal/private"
)

// wazeroVersion is the version that go.mod asks for; a test compares them. wazero finds its own version in the binary's
// build information, where it is missing in some builds, and code of another version must never be run.
const wazeroVersion = "v1.12.0"

// How much the cache keeps, beyond what was used in the last hour.
const (
	cacheMaxBytes   = 512 << 20
	cacheMaxEntries = 1_000
	cacheMinAge     = time.Hour
)

// cache keeps compiled code on disk: a directory for each rewritten module, named by its SHA-256, that is used as
// wazero's cache directory for this module alone. wazero checks the code in an entry with a CRC and trusts the rest, so
// that each entry is sealed with its SHA-256 when it was written, and thrown away when the seal does not fit.
//
// That guards against what breaks, not against who writes: the directory belongs to this user alone.
type cache struct{ root string }

const sealName = "seal"

func openCache(dir string) (*cache, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no directory for compiled plugins: %w; name one, or do without", err)
		}
		dir = filepath.Join(base, "wasmgate", "wasm")
	}
	root := filepath.Join(dir, fmt.Sprintf("wazero-%s-%s-%s", wazeroVersion, runtime.GOOS, runtime.GOARCH))
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("the directory for compiled plugins: %w", err)
	}
	for _, d := range []string{dir, root} {
		if err := private.Folder(d); err != nil {
			return nil, fmt.Errorf("the directory for compiled plugins, whose content is run: %w", err)
		}
	}
	c := &cache{root: root}
	c.prune(time.Now())
	return c, nil
}

// dir is the directory for that module, emptied if what it holds is not what was written, or cannot be read. It is not ok
// to be used if that could not be done.
func (c *cache) dir(binary []byte) (dir string, ok bool) {
	dir = c.entry(binary)
	sum, err := sumOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dir, true
	}
	if want, sealErr := os.ReadFile(filepath.Join(dir, sealName)); err == nil && sealErr == nil && string(want) == sum {
		return dir, true
	}
	return dir, os.RemoveAll(dir) == nil
}

// seal notes what was written for that module, or that it was used.
func (c *cache) seal(binary []byte) {
	dir := c.entry(binary)
	name := filepath.Join(dir, sealName)
	if _, err := os.Stat(name); err == nil {
		now := time.Now()
		_ = os.Chtimes(dir, now, now)
		return
	}
	sum, err := sumOf(dir)
	if err != nil {
		return
	}
	tmp, err := os.CreateTemp(dir, sealName+".*.tmp")
	if err != nil {
		return
	}
	_, err = tmp.WriteString(sum)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil { // without its seal the entry is written anew the next time
		_ = os.Remove(tmp.Name())
	}
}

func (c *cache) entry(binary []byte) string {
	sum := sha256.Sum256(binary)
	return filepath.Join(c.root, hex.EncodeToString(sum[:]))
}

// sumOf is the digest of all files below dir, apart from the seal, with their names.
func sumOf(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == sealName {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a file", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%d %s\n", len(rel), rel)
		n, err := io.Copy(h, f)
		fmt.Fprintf(h, "\n%d\n", n)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// prune removes the entries that were not used for the longest time, until the rest is within bounds.
func (c *cache) prune(now time.Time) {
	type entry struct {
		path string
		used time.Time
		size int64
	}
	var entries []entry
	var total int64
	dirs, err := os.ReadDir(c.root)
	if err != nil {
		return
	}
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil {
			continue
		}
		e := entry{path: filepath.Join(c.root, d.Name()), used: info.ModTime()}
		_ = filepath.WalkDir(e.path, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				if info, err := d.Info(); err == nil {
					e.size += info.Size()
				}
			}
			return nil
		})
		total += e.size
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.used.Compare(b.used) })
	for i, e := range entries {
		if total <= cacheMaxBytes && len(entries)-i <= cacheMaxEntries || now.Sub(e.used) < cacheMinAge {
			return
		}
		if os.RemoveAll(e.path) == nil {
			total -= e.size
		}
	}
}
