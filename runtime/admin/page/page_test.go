package page

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(method, path string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

// paths of everything that is served, with their types.
func paths(t *testing.T) map[string]string {
	t.Helper()
	names, err := fs.Glob(files, "*")
	if err != nil || len(names) < 5 {
		t.Fatalf("%v, %v", names, err)
	}
	list := map[string]string{"/": "text/html; charset=utf-8"}
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, ".js"):
			list["/page/"+name] = "text/javascript; charset=utf-8"
		case strings.HasSuffix(name, ".css"):
			list["/page/"+name] = "text/css; charset=utf-8"
		case strings.HasSuffix(name, ".svg"):
			list["/page/"+name] = "image/svg+xml"
		}
	}
	return list
}

func TestFilesAreServedWithCare(t *testing.T) {
	for path, kind := range paths(t) {
		w := ask("GET", path)
		if w.Code != 200 || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
		for name, want := range map[string]string{
			"Content-Type": kind, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, not %q", path, name, got, want)
			}
		}
		said := w.Header().Get("Content-Security-Policy") + ";"
		for _, want := range []string{
			"default-src 'none';", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "img-src 'self' data:;", "base-uri 'none';",
			"form-action 'none';", "frame-ancestors 'none';", "require-trusted-types-for 'script';", "trusted-types 'none';",
		} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %s is not in the policy %s", path, want, said)
			}
		}
		if strings.Contains(said, "unsafe") || strings.Contains(said, "*") {
			t.Errorf("%s: the policy is %s", path, said)
		}
	}
	for _, path := range []string{"/index.html", "/page/", "/page/index.html", "/page/page.go", "/page/../page.go", "/x"} {
		if w := ask("GET", path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestUnchangedFilesAreNotSentAgain(t *testing.T) {
	tags := map[string]string{}
	for path := range paths(t) {
		tag := ask("GET", path).Header().Get("ETag")
		if other, ok := tags[tag]; ok || len(tag) < 20 {
			t.Errorf("%s and %s have the tag %s", path, other, tag)
		}
		tags[tag] = path
		if again := ask("GET", path).Header().Get("ETag"); again != tag {
			t.Errorf("%s: the tag is %s, then %s", path, tag, again)
		}
		if w := ask("GET", path, "If-None-Match: "+tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
			t.Errorf("%s: %d with %d bytes, though it is the same", path, w.Code, w.Body.Len())
		}
		if w := ask("GET", path, `If-None-Match: "another"`); w.Code != 200 {
			t.Errorf("%s: %d, though it is another one", path, w.Code)
		}
	}
}

var (
	loads   = regexp.MustCompile(`(?:src|href|action|srcset)\s*=\s*["']?([^"'\s>]*)|\bfrom\s+'([^']*)'|@import\s*(\S*)|url\(([^)]*)`)
	scripts = regexp.MustCompile(`<script[^>]*>([^<]*)`)
	inline  = regexp.MustCompile(`\s(?:on[a-z]+|style)\s*=\s*["']`)
)

// TestNothingComesFromElsewhere: what a file loads is another one that is served.
func TestNothingComesFromElsewhere(t *testing.T) {
	served := paths(t)
	for path := range served {
		text := ask("GET", path).Body.String()
		for _, m := range loads.FindAllStringSubmatch(text, -1) {
			what := m[1] + m[2] + m[3] + m[4]
			if name, ok := strings.CutPrefix(what, "./"); ok {
				what = "/page/" + name
			}
			if _, ok := served[what]; !ok {
				t.Errorf("%s loads %q by %s", path, what, m[0])
			}
		}
		// Namespaces, and the example of a URL in a field, are no addresses that anything is loaded from.
		text = strings.NewReplacer(`xmlns="http://www.w3.org/2000/svg"`, "", `'http://www.w3.org/2000/svg'`, "", "placeholder: 'http://10.0.0.7:8080'", "").Replace(text)
		for _, no := range []string{"http://", "https://", "//cdn", "importScripts", "sendBeacon"} {
			if strings.Contains(text, no) {
				t.Errorf("%s has %s", path, no)
			}
		}
	}
}

// TestTextStaysText: names are hostile, so nothing that makes markup or code of text is used.
func TestTextStaysText(t *testing.T) {
	for path, kind := range paths(t) {
		text := ask("GET", path).Body.String()
		if strings.HasPrefix(kind, "text/html") {
			for _, m := range scripts.FindAllStringSubmatch(text, -1) {
				if strings.TrimSpace(m[1]) != "" {
					t.Errorf("a script in the page: %s", m[1])
				}
			}
			if found := inline.FindString(text); found != "" || strings.Contains(text, "<style") {
				t.Errorf("code or style in the page: %q", found)
			}
			continue
		}
		for _, no := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "createContextualFragment", "setHTML", ".srcdoc", "javascript:", "cssText"} {
			if strings.Contains(text, no) {
				t.Errorf("%s uses %s", path, no)
			}
		}
	}
}
