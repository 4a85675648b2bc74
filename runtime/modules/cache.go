package modules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"wasmgate/runtime/internal/private"
)

// cache keeps what was fetched: one file for each module, manifest and layer, called by its SHA-256 digest. What is read
// is held against its name, so that nothing has to be believed of the folder, and a file that broke is fetched anew.
//
// Several processes may use one folder: a file appears whole or not at all, has the same content whoever writes it, and one
// that goes while it is read stays readable.
type cache struct {
	dir string
	max int64
	mu  sync.Mutex // one pruning at a time
}

// cacheTemporary ends the names of files that are being written. An old one is what a process left that was killed.
const (
	cacheTemporary    = ".tmp"
	cacheTemporaryAge = time.Hour
)

// openCache opens a folder, and makes it if it is not there. dir "" is the one in the user's cache folder.
func openCache(dir string, most int64) (*cache, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no folder for fetched modules: %w; name one, or do without", err)
		}
		dir = filepath.Join(base, "wasmgate", "modules")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for fetched modules: %w", err)
	}
	if err := private.Folder(dir); err != nil {
		return nil, fmt.Errorf("the folder for fetched modules: %w", err)
	}
	c := &cache{dir: dir, max: most}
	c.prune("")
	return c, nil
}

// get returns what has that digest, if it is there, whole, and not longer than most.
func (c *cache) get(digest string, most int64) ([]byte, bool) {
	if c == nil || !isDigest(digest) {
		return nil, false
	}
	name := filepath.Join(c.dir, digest)
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil, false
	}
	b := make([]byte, info.Size())
	if _, err = io.ReadFull(f, b); err != nil || digestOf(b) != digest {
		_ = os.Remove(name)
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // what was used last goes last; a folder that cannot be written to is pruned by nobody
	return b, true
}

// has says whether something is called by that digest.
func (c *cache) has(digest string) bool {
	if c == nil || !isDigest(digest) {
		return false
	}
	info, err := os.Stat(filepath.Join(c.dir, digest))
	return err == nil && info.Mode().IsRegular()
}

// put keeps b under its digest.
func (c *cache) put(digest string, b []byte) error {
	if c == nil || int64(len(b)) > c.max {
		return nil
	}
	tmp, err := os.CreateTemp(c.dir, digest+".*"+cacheTemporary)
	if err != nil {
		return fmt.Errorf("not kept for the next start: %w", err)
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.dir, digest))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("not kept for the next start: %w", err)
	}
	c.prune(digest)
	return nil
}

// prune removes what was not used for the longest time until the rest is within bounds; just is what was put last.
func (c *cache) prune(just string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var kept []fs.FileInfo
	var total int64
	for _, file := range files {
		info, err := file.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
		case isDigest(info.Name()):
			kept = append(kept, info)
			total += info.Size()
		case strings.HasSuffix(info.Name(), cacheTemporary) && time.Since(info.ModTime()) > cacheTemporaryAge:
			_ = os.Remove(filepath.Join(c.dir, info.Name()))
		}
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range kept {
		if total <= c.max {
			return
		}
		if info.Name() != just && os.Remove(filepath.Join(c.dir, info.Name())) == nil {
			total -= info.Size()
		}
	}
}

// digestOf is the SHA-256 of b in hexadecimal digits.
func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// isDigest says whether s is a SHA-256 in lower-case hexadecimal digits; nothing else becomes the name of a file.
func isDigest(s string) bool {
	return len(s) == 2*sha256.Size && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}
