// Package watch tells when files change. It uses fsnotify, because asking every second would wake an idle process.
package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
)

// settle is how long files must be left alone before a change counts: editors and deployments change several, or one
// in several steps. settleMost is when it counts even if something keeps writing.
const (
	settle     = 100 * time.Millisecond
	settleMost = time.Second
)

// Watcher tells when one of some files changes: is written, replaced by another of its name, or becomes what a symbolic
// link on the way to it leads to. It watches the folders, since a watch on a file ends when the file is replaced, and
// compares the files themselves, since folders change for other reasons too.
type Watcher struct {
	changed chan struct{}
	set     chan watchOrder
	done    chan struct{}
	notify  *fsnotify.Watcher
	log     *zerolog.Logger

	list    func() []string        // which files are watched
	files   map[string]fs.FileInfo // what they were when last looked at; nil: not there
	folders []string
}

// watchOrder asks for files to be watched; done is closed when they are.
type watchOrder struct {
	list func() []string
	done chan struct{}
}

// New returns a watcher that watches nothing yet. What it cannot watch is a warning in the log.
func New(log *zerolog.Logger) (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		changed: make(chan struct{}, 1), set: make(chan watchOrder), done: make(chan struct{}),
		notify: n, log: log, files: map[string]fs.FileInfo{},
	}
	go w.run()
	return w, nil
}

// Watch says which files are watched from now on. A change between the moment that it returns and a later look at the
// files is told, so it is called before they are read.
func (w *Watcher) Watch(files []string) { w.WatchList(func() []string { return files }) }

// WatchList is Watch for files that come and go: list is asked which they are, on another goroutine, each time that
// something happens in one of their folders. A file that is new in the list has changed, and one that is not in it any more.
func (w *Watcher) WatchList(list func() []string) {
	o := watchOrder{list, make(chan struct{})}
	select {
	case w.set <- o:
		<-o.done
	case <-w.done:
	}
}

// Changed receives after a change; several changes may be one.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends the watcher.
func (w *Watcher) Close() {
	_ = w.notify.Close()
	<-w.done
}

func (w *Watcher) run() {
	defer close(w.done)
	var quiet <-chan time.Time // when the files have been left alone long enough
	var since time.Time        // the first event that was not looked into
	stir := func() {
		if since.IsZero() {
			since = time.Now()
		}
		quiet = time.After(min(settle, max(0, settleMost-time.Since(since))))
	}
	for {
		select {
		case o := <-w.set:
			w.list = o.list
			w.replace(o.list())
			close(o.done)
		case _, ok := <-w.notify.Events:
			if !ok {
				return
			}
			stir()
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			w.log.Warn().Err(err).Msg("watching files: events may have been lost, looking at all of them")
			stir()
		case <-quiet:
			quiet, since = nil, time.Time{}
			if w.look() {
				select {
				case w.changed <- struct{}{}:
				default:
				}
			}
		}
	}
}

// replace changes what is watched. Files that were watched before keep what they were when last looked at.
func (w *Watcher) replace(files []string) {
	next := map[string]fs.FileInfo{}
	for _, f := range files {
		info, known := w.files[f]
		if !known {
			info = stat(f)
		}
		next[f] = info
	}
	w.files = next
	w.follow()
}

// follow watches the folders in which the files, and what links to them lead to, are now.
func (w *Watcher) follow() {
	var folders []string
	for f := range w.files {
		folders = append(folders, filepath.Dir(f))
		if target, err := filepath.EvalSymlinks(f); err == nil {
			folders = append(folders, filepath.Dir(target))
		}
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	for _, old := range w.folders {
		if !slices.Contains(folders, old) {
			_ = w.notify.Remove(old) // it may be gone
		}
	}
	for _, folder := range folders {
		if err := w.notify.Add(folder); err != nil {
			w.log.Warn().Err(err).Str("folder", folder).Msg("cannot watch for changes; SIGHUP still reloads")
		}
	}
	w.folders = folders
}

// look says whether a file is another than it was.
func (w *Watcher) look() bool {
	changed := false
	if w.list != nil {
		now := w.list()
		named := map[string]bool{}
		for _, f := range now {
			_, known := w.files[f]
			changed, named[f] = changed || !known, true
		}
		if changed = changed || len(named) != len(w.files); changed {
			w.replace(now)
		}
	}
	for f, was := range w.files {
		if is := stat(f); !same(was, is) {
			w.files[f], changed = is, true
		}
	}
	if changed {
		w.follow()
	}
	return changed
}

func stat(file string) fs.FileInfo {
	info, err := os.Stat(file)
	if err != nil {
		return nil
	}
	return info
}

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
