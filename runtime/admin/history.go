package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxHistory is how many changes are remembered.
const maxHistory = 100

// history is who changed what, the newest last.
type history struct {
	mu   sync.Mutex
	list []Change
}

func (h *history) add(c Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) == maxHistory {
		h.list = slices.Delete(h.list, 0, 1)
	}
	h.list = append(h.list, c)
}

// newest returns them, the newest first.
func (h *history) newest() []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := append([]Change{}, h.list...)
	slices.Reverse(list)
	return list
}

// record has the operation change something, and writes down who it was, what, and what became of it.
func (a *api) record(op *operation, who string, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body is longer than 64 KiB, or did not come whole", http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := Change{Time: time.Now(), By: who, From: r.RemoteAddr, What: op.id, Object: shorten(r.URL.Path, 300), Said: shorten(string(body), 1000)}
	if q := r.URL.RawQuery; q != "" {
		c.Said = shorten(q+" "+c.Said, 1000)
	}
	seen := &statusWriter{ResponseWriter: w}
	op.serve(a, seen, withWho(r, who))
	if c.Status = seen.status; c.Status == 0 {
		c.Status = http.StatusOK
	}
	line := a.Log.Info()
	if c.Status >= 400 {
		line = a.Log.Warn()
	}
	line.Str("by", c.By).Str("from", c.From).Str("operation", c.What).Str("object", c.Object).Str("said", c.Said).Int("status", c.Status).Msg("admin: " + result(c.Status))
	if r.URL.Query().Get("dry_run") != "true" {
		a.history.add(c)
	}
}

func result(status int) string {
	if status >= 400 {
		return "a change was refused; nothing has changed"
	}
	return "a change was made"
}

// statusWriter notes the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// whoKey is where a request has who asks.
type whoKey struct{}

func withWho(r *http.Request, who string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), whoKey{}, who))
}

// asks is who asks; "": it is not known, and need not be.
func asks(r *http.Request) string {
	who, _ := r.Context().Value(whoKey{}).(string)
	return who
}
