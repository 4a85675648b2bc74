// Package page is the operators' page of the admin endpoint: what the API says of routes, upstreams, connections, requests and
// plugins, kept up to date, with a button for the changes that it allows.
//
// It is HTML, CSS and JavaScript as they stand in this folder: no framework and no build step, so that what is read here is
// what a browser runs. Nothing comes from elsewhere. The standard library embeds and serves it.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed index.html *.css *.js *.svg
var files embed.FS

// policy is what the page may do: load its own files, and ask its own origin. It shows names that come from a config or
// from name servers; trusted types see to it that no text becomes markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types by the ends of names: what a system believes of them differs from one to the next.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// file is one as it is served.
type file struct {
	kind, tag string
	content   []byte
}

// Handler serves the page at / and what it consists of below /page/; anything else is not found. Browsers keep the files
// and ask each time whether they are still the same, so a page never goes with the scripts of an older gateway. It can be
// used from any goroutine.
func Handler() http.Handler {
	served := map[string]file{}
	names, _ := fs.Glob(files, "*") // the pattern is well formed
	for _, name := range names {
		content, _ := files.ReadFile(name) // it is in the program
		sum := sha256.Sum256(content)
		f := file{types[path.Ext(name)], `"` + hex.EncodeToString(sum[:12]) + `"`, content}
		if name == "index.html" {
			served["/"] = f
		} else {
			served["/page/"+name] = f
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Type", f.kind)
		h.Set("ETag", f.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	})
}
