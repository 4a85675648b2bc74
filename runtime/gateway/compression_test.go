package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// prose is a text that shrinks, of n bytes.
func prose(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of a page that is neither short nor very interesting\n", i*i)
	}
	return b.String()[:n]
}

func gzipped(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.Bytes()
}

func gunzip(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// unpack has the programs that people have undo a coding: none of the gateway's libraries.
func unpack(t *testing.T, coding string, b []byte) string {
	t.Helper()
	switch coding {
	case "":
		return string(b)
	case "gzip":
		return gunzip(t, b)
	case "zstd":
		file := filepath.Join(t.TempDir(), "body.zst")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return run(t, "zstd", "-dcq", file)
	}
	t.Fatalf("the coding %q", coding)
	return ""
}

// ask sends a request and returns the answer with its body as it is on the wire.
func (g *gate) ask(method, path, body string, fields ...string) (*http.Response, []byte) {
	g.Helper()
	req, err := http.NewRequest(method, g.url(path), strings.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		b = append(b, "...cut off"...)
	}
	return resp, b
}

// library answers with pages: /N of N bytes, with fields that the query names.
func library(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path[strings.LastIndex(r.URL.Path, "/"):], "/"))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for k, v := range r.URL.Query() {
			w.Header().Set(k, v[0])
		}
		w.Header().Set("X-Asked", r.Header.Get("Accept-Encoding"))
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", strconv.Itoa(n))
		if strings.Contains(r.Header.Get("If-None-Match"), `"v1"`) {
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, prose(n))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAnswersAreCompressedForWhoTakesIt(t *testing.T) {
	s := library(t)
	g := start(t, fmt.Sprintf(`
upstreams: { web: { targets: ['%s'] } }
routes:
  - { match: { path_prefix: /off }, upstream: web }
  - { match: { path_prefix: /stripped }, upstream: web, compression: {}, request_headers: { remove: [accept-encoding] } }
  - { match: { path_prefix: /best }, upstream: web, compression: { level: best, encodings: [gzip, br] } }
  - { match: { path: /local }, respond: { status: 200, headers: { content-type: text/plain, etag: '"x"' }, body: %q }, compression: { encodings: gzip } }
  - { upstream: web, compression: {} }
`, s.URL, prose(5000)))
	for _, c := range []struct {
		path, accept, coding string
	}{
		{"/5000", "gzip", "gzip"},
		{"/5000", "gzip, zstd", "zstd"},
		{"/5000", "zstd;q=0.5, gzip", "gzip"},
		{"/5000", "", ""},
		{"/5000", "identity", ""},
		{"/900000", "gzip", "gzip"},
		{"/900000", "zstd", "zstd"},
		{"/900000?Cache-Control=no-transform", "zstd", ""},
		{"/999", "gzip", ""},
		{"/5000?Content-Type=image/png", "gzip", ""},
		{"/off/5000", "gzip", ""},
		{"/stripped/5000", "gzip", "gzip"},
		{"/best/50000", "gzip", "gzip"},
		{"/local", "gzip", "gzip"},
		{"/local", "zstd", ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, b := g.ask(method, c.path, "", "Accept-Encoding", c.accept)
			coding := resp.Header.Get("Content-Encoding")
			if resp.StatusCode != 200 || coding != c.coding {
				t.Errorf("%s %s for %q: %s, %q; want %q", method, c.path, c.accept, resp.Status, coding, c.coding)
				continue
			}
			tag, length := resp.Header.Get("ETag"), resp.ContentLength
			if weak := strings.HasPrefix(tag, "W/"); weak != (coding != "") {
				t.Errorf("%s %s for %q: %s", method, c.path, c.accept, tag)
			}
			if varies := resp.Header.Get("Vary") == "Accept-Encoding"; coding != "" && !varies {
				t.Errorf("%s %s for %q: Vary %q", method, c.path, c.accept, resp.Header.Get("Vary"))
			}
			if method == "HEAD" {
				if coding != "" && length >= 0 || len(b) > 0 {
					t.Errorf("HEAD %s: %d bytes, said to be %d", c.path, len(b), length)
				}
				continue
			}
			path, _, _ := strings.Cut(c.path, "?")
			n, _ := strconv.Atoi(path[strings.LastIndex(path, "/")+1:])
			if c.path == "/local" {
				n = 5000
			}
			if got := unpack(t, coding, b); got != prose(n) {
				t.Errorf("%s for %q: %d bytes came of %d", c.path, c.accept, len(got), len(b))
			}
			if coding != "" && len(b) > n/2 {
				t.Errorf("%s for %q: %d bytes", c.path, c.accept, len(b))
			}
		}
	}
	if resp, _ := g.ask("GET", "/5000", ""); resp.Header.Get("Vary") != "Accept-Encoding" || resp.ContentLength != 5000 {
		t.Errorf("for nobody: %v", resp.Header)
	}
	if resp, _ := g.ask("GET", "/stripped/5000", "", "Accept-Encoding", "gzip"); resp.Header.Get("X-Asked") != "" {
		t.Errorf("the upstream was asked for %s", resp.Header.Get("X-Asked"))
	}
	// A cache that has the compressed page asks whether it is good still, by the tag that it was given.
	if resp, _ := g.ask("GET", "/5000", "", "Accept-Encoding", "gzip", "If-None-Match", `W/"v1"`); resp.StatusCode != 304 || resp.Header.Get("ETag") != `W/"v1"` {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

// TestCurlTakesCompressedAnswers: curl asks for all that it can undo, and gets the page; with HTTP/1.0 until the connection closes.
func TestCurlTakesCompressedAnswers(t *testing.T) {
	s := library(t)
	g := start(t, fmt.Sprintf("upstreams: { web: { targets: ['%s'] } }\nroutes: [{ upstream: web, compression: {} }]\n", s.URL))
	for _, version := range []string{"--http1.1", "--http1.0"} {
		head := filepath.Join(t.TempDir(), "head")
		got := run(t, "curl", "-sS", version, "--compressed", "-D", head, g.url("/300000"))
		fields, err := os.ReadFile(head)
		if err != nil || got != prose(300000) {
			t.Errorf("%s: %d bytes, %v", version, len(got), err)
		}
		if !strings.Contains(string(fields), "Content-Encoding: ") {
			t.Errorf("%s: it was not compressed:\n%s", version, fields)
		}
	}
}

// TestEventsAreNotHeldBack: an event is there before the upstream has sent the next one, in whatever coding.
func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-next:
				if event == "" {
					return
				}
				_, _ = io.WriteString(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	g := start(t, fmt.Sprintf("upstreams: { web: { targets: ['%s'] } }\nroutes: [{ upstream: web, compression: {} }]\n", s.URL))
	for _, kind := range []string{"text/event-stream", "application/json"} { // the second as a long poll
		req, _ := http.NewRequest("GET", g.url("/?type="+kind), nil)
		transport := &http.Transport{} // asks for gzip, and undoes it
		resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if !resp.Uncompressed {
			t.Fatalf("%s: it was not compressed", kind)
		}
		lines := bufio.NewScanner(resp.Body)
		for i := range 20 {
			next <- fmt.Sprintf("data: %d\n", i)
			if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
				t.Fatalf("%s, event %d: %q, %v", kind, i, lines.Text(), lines.Err())
			}
		}
		if next <- ""; lines.Scan() || lines.Err() != nil {
			t.Errorf("%s: at the end %q, %v", kind, lines.Text(), lines.Err())
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
	}
}

// looker is a filter in Go in a plugin's place: it does what the path asks for with bodies.
type looker struct{ filter.Filter }

func (looker) WantsResponse() bool { return true }

func (looker) Request(x *exchange.Exchange, _ filter.Role, _ int) (filter.Verdict, error) {
	return touch(x, x.RequestBody, string(x.Request.Path), &x.Request.Head)
}

func (looker) Response(x *exchange.Exchange, _ int) (filter.Verdict, error) {
	return touch(x, x.ResponseBody, string(x.Request.Path), &x.Response.Head)
}

func touch(x *exchange.Exchange, b exchange.Body, path string, h *http1.Head) (filter.Verdict, error) {
	seen, _ := h.GetID(http1.FieldContentEncoding)
	h.Add("X-Seen", "coding="+string(seen))
	switch {
	case strings.Contains(path, "/hold"):
		held, _, err := b.Hold(4 << 20)
		if err != nil {
			return filter.Continue, err
		}
		b.Replace(bytes.ToUpper(held))
	case strings.Contains(path, "/stage"):
		b.Stage(upper{})
	}
	return filter.Continue, nil
}

type upper struct{}

func (upper) Chunk(_ *netloop.Task, dst, data []byte, _ bool, _ *http1.Head) ([]byte, *fault.Error) {
	return append(dst, bytes.ToUpper(data)...), nil
}

// startLooking starts a gateway in which looker has the place of the plugin called looks.
func startLooking(t *testing.T, text string) *gate {
	t.Helper()
	before := runtime.NumGoroutine()
	c := load(t, fmt.Sprintf("listeners: [{ name: test, address: '127.0.0.1:0' }]\nplugins: { looks: { module: %q } }\n%s", module(t, probe), text))
	log := &testkit.Buffer{}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(log), Filter: func(_ string, f filter.Filter) filter.Filter { return looker{f} }})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		testkit.Eventually(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	return &gate{t, g, g.Addr("test"), log}
}

const looking = `
upstreams: { web: { targets: ['%s'] } }
routes:
  - { match: { path_prefix: /anew }, plugins: [looks], upstream: web, compression: { encodings: [zstd, gzip] }, decompress: { requests: true, responses: true } }
  - { match: { path_prefix: /small }, plugins: [looks], upstream: web, decompress: { requests: true, responses: true, max_size: 100KiB } }
  - { match: { path_prefix: /raw }, plugins: [looks], upstream: web }
  - { plugins: [looks], upstream: web, decompress: { requests: true, responses: true } }
`

// TestPluginsSeePlainAnswers: a plugin that asks for a body has it without its coding, and the client gets what the plugin made of
// it, in a coding of the gateway's if there is one; a plugin that does not ask changes nothing.
func TestPluginsSeePlainAnswers(t *testing.T) {
	text := prose(200_000)
	packed := gzipped(text)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain")
		h.Set("Content-Encoding", "gzip")
		h.Set("ETag", `"v1"`)
		h.Set("Repr-Digest", "sha-256=:AA==:")
		if strings.HasSuffix(r.URL.Path, "/broken") {
			_, _ = w.Write(append(packed[:len(packed)/2:len(packed)/2], "and nonsense"...))
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(packed)))
		_, _ = w.Write(packed)
	}))
	t.Cleanup(s.Close)
	g := startLooking(t, fmt.Sprintf(looking, s.URL))
	for _, c := range []struct {
		path, accept   string
		coding, seen   string
		body           string
		untouched, cut bool
	}{
		{path: "/x", accept: "gzip", coding: "gzip", body: text, untouched: true},
		{path: "/anew/x", accept: "zstd, gzip", coding: "gzip", body: text, untouched: true},
		{path: "/hold", accept: "gzip", body: strings.ToUpper(text)},
		{path: "/stage", accept: "gzip", body: strings.ToUpper(text)},
		{path: "/anew/hold", accept: "zstd", coding: "zstd", body: strings.ToUpper(text)},
		{path: "/anew/stage", accept: "zstd", coding: "zstd", body: strings.ToUpper(text)},
		{path: "/anew/stage", accept: "gzip", coding: "gzip", body: strings.ToUpper(text)},
		{path: "/anew/stage", accept: "", body: strings.ToUpper(text)},
		{path: "/raw/x", accept: "gzip", coding: "gzip", body: text, seen: "gzip", untouched: true},
	} {
		resp, b := g.ask("GET", c.path, "", "Accept-Encoding", c.accept)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != c.coding || resp.Header.Get("X-Seen") != "coding="+c.seen {
			t.Errorf("%s for %q: %s %v", c.path, c.accept, resp.Status, resp.Header)
			continue
		}
		if got := unpack(t, c.coding, b); got != c.body {
			t.Errorf("%s for %q: %d bytes of %d", c.path, c.accept, len(got), len(c.body))
		}
		wantTag, wantDigest := `W/"v1"`, ""
		if c.untouched {
			wantTag, wantDigest = `"v1"`, "sha-256=:AA==:"
			if !bytes.Equal(b, packed) || resp.ContentLength != int64(len(packed)) {
				t.Errorf("%s for %q: it is not what the upstream sent", c.path, c.accept)
			}
		}
		if resp.Header.Get("ETag") != wantTag || resp.Header.Get("Repr-Digest") != wantDigest {
			t.Errorf("%s for %q: %v", c.path, c.accept, resp.Header)
		}
	}
	for path, want := range map[string]string{"/small/hold": "502", "/hold/broken": "502"} {
		if resp, b := g.ask("GET", path, ""); resp.Status[:3] != want {
			t.Errorf("%s: %s %.100s", path, resp.Status, b)
		}
	}
	for _, path := range []string{"/small/stage", "/stage/broken"} {
		if resp, b := g.ask("GET", path, ""); resp.StatusCode != 200 || !strings.HasSuffix(string(b), "...cut off") {
			t.Errorf("%s: %s, %d bytes", path, resp.Status, len(b))
		}
	}
}

// TestPluginsSeePlainRequests is the same for what clients send.
func TestPluginsSeePlainRequests(t *testing.T) {
	text := prose(100_000)
	packed := gzipped(text)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		h := w.Header()
		h.Set("X-Got", fmt.Sprintf("%q %d %d %v %s", r.Header.Get("Content-Encoding"), r.ContentLength, len(b), err, r.Header.Get("X-Seen")))
		h.Set("X-Digest", r.Header.Get("Content-Digest"))
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	g := startLooking(t, fmt.Sprintf(looking, s.URL))
	shout := strings.ToUpper(text)
	for _, c := range []struct{ path, coding, body, got, answer string }{
		{"/x", "gzip", string(packed), fmt.Sprintf(`"gzip" %d %[1]d <nil> coding=`, len(packed)), string(packed)},
		{"/raw/x", "gzip", string(packed), fmt.Sprintf(`"gzip" %d %[1]d <nil> coding=gzip`, len(packed)), string(packed)},
		{"/hold", "gzip", string(packed), fmt.Sprintf(`"" %d %[1]d <nil> coding=`, len(text)), shout},
		{"/stage", "gzip", string(packed), fmt.Sprintf(`"" -1 %d <nil> coding=`, len(text)), shout},
		{"/stage", "", text, fmt.Sprintf(`"" -1 %d <nil> coding=`, len(text)), shout},
		{"/hold", "unheard-of", text, fmt.Sprintf(`"unheard-of" %d %[1]d <nil> coding=unheard-of`, len(text)), shout},
	} {
		fields := []string{"Content-Digest", "sha-256=:AA==:"}
		if c.coding != "" {
			fields = append(fields, "Content-Encoding", c.coding)
		}
		resp, b := g.ask("POST", c.path, c.body, fields...)
		if got := resp.Header.Get("X-Got"); resp.StatusCode != 200 || got != c.got {
			t.Errorf("%s, %q: the upstream got %s %s, want %s\n%.200s", c.path, c.coding, resp.Status, got, c.got, b)
		}
		if string(b) != c.answer {
			t.Errorf("%s, %q: %d bytes came back, of %d", c.path, c.coding, len(b), len(c.answer))
		}
		if digest := resp.Header.Get("X-Digest"); (digest == "") != (strings.Contains(c.path, "/hold") || strings.Contains(c.path, "/stage")) && c.coding == "gzip" {
			t.Errorf("%s, %q: the digest is %q", c.path, c.coding, digest)
		}
	}
	bomb := string(gzipped(strings.Repeat("\x00", 8<<20)))
	for _, c := range []struct{ path, body, want string }{
		{"/hold", bomb, "413: max_ratio"},
		{"/stage", bomb, "413: max_ratio"},
		{"/small/hold", string(gzipped(prose(200_000))), "413: max_size"},
		{"/small/stage", string(gzipped(prose(200_000))), "413: max_size"},
		{"/hold", string(packed[:5000]), "400: ends too early"},
		{"/stage", string(packed[:5000]), "400: ends too early"},
		{"/hold", "no gzip at all", "400: is broken"},
		{"/hold", string(packed) + "more", "400: "},
		{"/x", bomb, "200: "},
	} {
		resp, b := g.ask("POST", c.path, c.body, "Content-Encoding", "gzip")
		status, says, _ := strings.Cut(c.want, ": ")
		if resp.Status[:3] != status || !strings.Contains(strings.ToLower(string(b)), says) {
			t.Errorf("%s: %s %.200s, want %s", c.path, resp.Status, b, c.want)
		}
	}
}

// TestAWasmPluginChangesACompressedAnswer: the same with a plugin as it is in production.
func TestAWasmPluginChangesACompressedAnswer(t *testing.T) {
	text := prose(100_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(gzipped(text))
	}))
	t.Cleanup(s.Close)
	g := start(t, fmt.Sprintf(`
upstreams: { web: { targets: ['%s'] } }
plugins: { changes: { module: %q, config: "response_end setbody 1 2147483647 0 !" } }
routes:
  - { plugins: [changes], upstream: web, compression: {}, decompress: { responses: true } }
`, s.URL, module(t, probe)))
	for _, coding := range []string{"", "gzip", "zstd"} {
		resp, b := g.ask("GET", "/", "", "Accept-Encoding", coding)
		if got := unpack(t, resp.Header.Get("Content-Encoding"), b); resp.Header.Get("Content-Encoding") != coding || got != text+"!" {
			t.Errorf("%q: %v, %d bytes that end with %q", coding, resp.Header, len(got), got[max(0, len(got)-20):])
		}
	}
}
