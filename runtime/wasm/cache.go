package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
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
	"wasmgate/runtime/wasm/meter"
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

// cache keeps compiled code on disk: a directory for each module, named by the SHA-256 of it and of how it is rewritten, that
// is used as wazero's cache directory for this module alone. Beside wazero's file there is the module as it was rewritten,
// which takes longer than to load what was compiled of it. wazero checks the code in an entry with a CRC and trusts the rest,
// so that each entry is sealed with its SHA-256 when it was written, and thrown away when the seal does not fit.
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

// cacheKey is what a module's entry is named by: its digest, and how it is rewritten.
func cacheKey(digest [sha256.Size]byte, o meter.Options) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%x meter %d %+v", digest, meter.Version, o))
	return hex.EncodeToString(sum[:])
}

// entry is a module's directory.
type entry struct {
	dir    string
	sealed bool // what is in it is what was written
}

// entry returns the one of that key, emptied if what it holds is not what was written, or cannot be read. It is not ok to be
// used if that could not be done.
func (c *cache) entry(key string) (e entry, ok bool) {
	e.dir = filepath.Join(c.root, key)
	sum, err := sumOf(e.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return e, true
	}
	want, sealErr := os.ReadFile(filepath.Join(e.dir, sealName))
	if e.sealed = err == nil && sealErr == nil && string(want) == sum; e.sealed {
		return e, true
	}
	return e, os.RemoveAll(e.dir) == nil
}

// seal notes what was written to the entry, or that it was used.
func (e *entry) seal() {
	name := filepath.Join(e.dir, sealName)
	if _, err := os.Stat(name); err == nil {
		now := time.Now()
		_ = os.Chtimes(e.dir, now, now)
		return
	}
	sum, err := sumOf(e.dir)
	if err != nil {
		return
	}
	_ = e.write(sealName, []byte(sum)) // without its seal the entry is written anew the next time
}

// write writes a file of the entry, whole or not at all.
func (e *entry) write(name string, data []byte) error {
	tmp, err := os.CreateTemp(e.dir, name+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(e.dir, name))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// meteredName is the file of an entry that has the module as it was rewritten.
const meteredName = "metered"

// metered is a meter.Module without debugging information, as it is kept.
type metered struct {
	Binary                 []byte
	Name                   string
	Names                  []string
	Imports                []meter.Import
	Exports                []meter.Export
	MemoryMin, MemoryMax   uint32
	HasMemory, GrowsMemory bool
	Functions              int
	Named                  bool
}

// module returns what the entry has of the rewritten module; nil if it has nothing.
func (e *entry) module() *meter.Module {
	if !e.sealed {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(e.dir, meteredName))
	if err != nil {
		return nil
	}
	var m metered
	if gob.NewDecoder(bytes.NewReader(b)).Decode(&m) != nil {
		return nil
	}
	return &meter.Module{
		Binary: m.Binary, Name: m.Name, Names: m.Names, Imports: m.Imports, Exports: m.Exports, MemoryMin: m.MemoryMin, MemoryMax: m.MemoryMax,
		HasMemory: m.HasMemory, GrowsMemory: m.GrowsMemory, Functions: m.Functions, Named: m.Named,
	}
}

// keep writes the rewritten module to an entry that is not sealed yet. One with debugging information, which is much larger, is
// rewritten each time.
func (e *entry) keep(m *meter.Module) {
	if e.sealed || m.Debug != nil {
		return
	}
	var b bytes.Buffer
	if gob.NewEncoder(&b).Encode(&metered{
		m.Binary, m.Name, m.Names, m.Imports, m.Exports, m.MemoryMin, m.MemoryMax, m.HasMemory, m.GrowsMemory, m.Functions, m.Named,
	}) == nil {
		_ = e.write(meteredName, b.Bytes()) // or it is rewritten the next time, too
	}
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
