package modules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/internal/testkit"
)

// trusting is a fetcher that trusts an authority.
func trusting(t *testing.T, ca string, change func(*Options)) *Fetcher {
	t.Helper()
	return fetcher(t, func(o *Options) {
		o.CAFile = ca
		if change != nil {
			change(o)
		}
	})
}

func TestURL(t *testing.T) {
	module := moduleOf("url", 300_000)
	var asked atomic.Int32
	answer := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/m.wasm" || r.URL.RawQuery != "v=1" || r.Header.Get("Authorization") != "" || !strings.HasPrefix(r.UserAgent(), "wasmgate/") || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("asked with %v %v", r.URL, r.Header)
		}
		w.Write(module)
	}
	secure, ca := serve(t, true, answer)
	plain, _ := serve(t, false, answer)
	for _, base := range []string{secure, plain, strings.Replace(plain, "127.0.0.1", "localhost", 1)} {
		f := trusting(t, ca, nil)
		ref := refTo(base+"/m.wasm?v=1", digestOf(module))
		asked.Store(0)
		if info := has(t, f, ref, module); info.Layout != LayoutURL || info.Cached || info.Took <= 0 {
			t.Errorf("%+v", info)
		}
		if info := has(t, f, ref, module); !info.Cached || asked.Load() != 1 {
			t.Errorf("%+v, asked %d times", info, asked.Load())
		}
		// Another process, and a server that is not there: the digest is known.
		other := fetcher(t, func(o *Options) { o.CacheDir = f.o.CacheDir })
		if info := has(t, other, refTo("https://nobody.invalid/", ref.Digest), module); !info.Cached {
			t.Errorf("%+v", info)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	f := fetcher(t, func(o *Options) { o.MaxSize = 10 })
	path := filepath.Join(dir, "m.wasm")
	write(t, path, []byte("anything, of any length"))
	if info := has(t, f, config.Module{Path: path}, []byte("anything, of any length")); info.Layout != LayoutFile || info.Cached {
		t.Errorf("%+v", info)
	}
	e := fails(t, f, config.Module{Path: filepath.Join(dir, "none.wasm")}, KindNotFound, "no such file")
	if !errors.Is(e, os.ErrNotExist) {
		t.Errorf("%v", e)
	}
	fails(t, f, config.Module{Path: dir}, KindFile, "directory")
}

// TestReferencesThatWereNotChecked come from elsewhere than a config.
func TestReferencesThatWereNotChecked(t *testing.T) {
	f := fetcher(t, nil)
	for _, ref := range []config.Module{
		{URL: "https://h/a"},
		{URL: "https://h/a", Digest: "../../../etc/passwd"},
		{URL: "https://h/a", Digest: strings.Repeat("A", 64)},
		{URL: "http://example.com/a", Digest: digestOf(nil)},
		{URL: "ftp://h/a", Digest: digestOf(nil)},
		{URL: "oci://h/../../a", Digest: digestOf(nil)},
		{URL: "https://h/a", Digest: digestOf(nil), Path: "x"},
	} {
		fails(t, f, ref, KindFormat, "not a reference")
	}
}

// hostile are servers that do what they should not, and what is said of them.
var hostile = map[string]struct {
	answer http.HandlerFunc
	kind   Kind
	words  []string
}{
	"another content": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("other")) }, KindDigest, []string{"the module from", "5 bytes", "wants a look"}},
	"compressed": {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		w.Write([]byte("other"))
	}, KindDigest, []string{"Content-Encoding: br"}},
	"nothing":          {func(http.ResponseWriter, *http.Request) {}, KindDigest, []string{"0 bytes"}},
	"a page":           {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!DOCTYPE html><html>") }, KindDigest, []string{"a page for people"}},
	"401":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, KindUnauthorized, []string{"401 Unauthorized", "credentials"}},
	"403":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, KindUnauthorized, []string{"403 Forbidden", "credentials"}},
	"404":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, KindNotFound, []string{"404 Not Found", "check the URL"}},
	"410":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, KindNotFound, []string{"410"}},
	"204":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, KindRefused, []string{"204"}},
	"206":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, KindRefused, []string{"206"}},
	"500":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, KindBusy, []string{"500", "(4 tries)"}},
	"429":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, KindBusy, []string{"429", "(4 tries)"}},
	"said to be huge":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100001") }, KindTooLarge, []string{"100001", "100000 are allowed"}},
	"without an end":   {endless, KindTooLarge, []string{"100000 are allowed"}},
	"compressed bomb":  {bomb, KindDigest, []string{"Content-Encoding: gzip"}},
	"cut off":          {cutOff("Content-Length: 1000\r\n\r\nabc"), KindUnreachable, []string{"closed the connection", "after 3 bytes", "(4 tries)"}},
	"cut off, chunked": {cutOff("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), KindUnreachable, []string{"closed the connection", "after 3 bytes"}},
	"cut off, early":   {cutOff(""), KindUnreachable, nil},
	"bad chunks":       {cutOff("Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), KindUnreachable, nil},
	"huge head":        {cutOff("X: " + strings.Repeat("a", 2*maxHeadBytes) + "\r\n\r\n"), KindUnreachable, nil},
	"redirect loop":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, KindRefused, []string{"redirects more than 5 times"}},
	"longer and longer": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path+"a", http.StatusTemporaryRedirect)
	}, KindRefused, []string{"redirects more than"}},
	"to plain HTTP": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
	}, KindRefused, []string{"redirects from https to http://"}},
	"to a secret": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://u:secret@"+r.Host+"/there?secret", http.StatusFound)
	}, KindRefused, []string{"/there;"}},
	"to a file": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	}, KindRefused, []string{"redirects from https to file:///"}},
	"to nowhere": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }, KindRefused, []string{"302"}},
}

func endless(w http.ResponseWriter, r *http.Request) {
	chunk := make([]byte, 1<<16)
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// bomb is small for who sends it, and would be large for who unpacks it.
func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Write(bombContent())
}

var bombContent = sync.OnceValue(func() []byte { return gzipped(make([]byte, 20<<20)) })

func cutOff(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		if text != "" {
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\n" + text)
			_ = rw.Flush()
		}
		c.Close()
	}
}

func TestHostileServers(t *testing.T) {
	module := moduleOf("never", 1000)
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			url, ca := serve(t, true, c.answer)
			f := trusting(t, ca, func(o *Options) { o.MaxSize = 100_000 })
			fails(t, f, refTo(url+"/", digestOf(module)), c.kind, c.words...)
			if left, _ := filepath.Glob(filepath.Join(f.o.CacheDir, "*")); len(left) > 0 {
				t.Errorf("the cache holds %v", left)
			}
		})
	}
}

// TestSlowServers are given up after the time that nothing came, or after all the time that a try may take.
func TestSlowServers(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	stalling := func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("abc"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	dripping := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			<-tick.C
			w.Write([]byte("a"))
			_ = http.NewResponseController(w).Flush()
		}
	}
	short := func(o *Options) { o.Stall, o.Tries = 300*time.Millisecond, 2 }
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		change func(*Options)
		words  []string
	}{
		"silent":   {silent, short, []string{"does not answer", "(2 tries)"}},
		"stalling": {stalling, short, []string{"brought nothing for 300ms", "after 3 bytes", "(2 tries)"}},
		"dripping": {dripping, func(o *Options) { o.Timeout, o.Tries = 300*time.Millisecond, 2 }, []string{"had not brought all of it after 300ms", "plugin_sources.timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			url, ca := serve(t, true, c.answer)
			f, ref := trusting(t, ca, c.change), refTo(url, digestOf(nil))
			for range 4 { // where the machine stood still, the time was over before the server had done its part
				_, _, err := f.Fetch(context.Background(), ref)
				e, missing := (*Error)(nil), func(word string) bool { return !strings.Contains(err.Error(), word) }
				if errors.As(err, &e) && e.Kind == KindTimeout && e.Ref == ref && e.Temporary() && strings.HasPrefix(e.Error(), Short(ref)+": ") && !slices.ContainsFunc(c.words, missing) {
					return
				}
			}
			if e := fails(t, f, ref, KindTimeout, c.words...); !e.Temporary() {
				t.Error("not temporary")
			}
		})
	}
}

// TestTriesAgain has a server that recovers.
func TestTriesAgain(t *testing.T) {
	module := moduleOf("again", 1000)
	var asked atomic.Int32
	url, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(503)
		case 2:
			cutOff("Content-Length: 1000\r\n\r\nabc")(w, r)
		default:
			w.Write(module)
		}
	})
	if info := has(t, trusting(t, ca, nil), refTo(url, digestOf(module)), module); info.Tries != 3 {
		t.Errorf("%+v", info)
	}
}

func TestRetryAfter(t *testing.T) {
	for given, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "999999999": time.Hour} {
		if e := explainStatus("h", 429, given); e.retryAfter != want || !e.temporary {
			t.Errorf("%q: %v", given, e.retryAfter)
		}
	}
	for failures, most := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 100: 1000} {
		if d := backoff(100, 1000, failures); d < most/2 || d > most {
			t.Errorf("%d failures: %v", failures, d)
		}
	}
}

// TestRedirects are followed on https, and credentials do not go to another host.
func TestRedirects(t *testing.T) {
	module := moduleOf("redirected", 1000)
	store, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("%s was sent to another host", a)
		}
		w.Write(module)
	})
	var asked []string
	url, _ := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Authorization"))
		if r.URL.Path == "/a" {
			http.Redirect(w, r, "/b", http.StatusMovedPermanently)
			return
		}
		http.Redirect(w, r, store+"/stored", http.StatusFound)
	})
	host := strings.TrimPrefix(url, "https://")
	f := trusting(t, ca, func(o *Options) {
		o.Hosts = map[string]Host{host: {Credentials: "LOGIN"}}
		o.Env = func(string) string { return "user:secret" }
	})
	has(t, f, refTo(url+"/a", digestOf(module)), module)
	if fmt.Sprint(asked) != "[Basic dXNlcjpzZWNyZXQ= Basic dXNlcjpzZWNyZXQ=]" {
		t.Errorf("asked with %q", asked)
	}
}

func TestURLCredentials(t *testing.T) {
	module, want := moduleOf("locked", 10), "Bearer a-token"
	url, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			w.WriteHeader(401)
			return
		}
		w.Write(module)
	})
	host := strings.TrimPrefix(url, "https://")
	f := trusting(t, ca, func(o *Options) {
		o.Hosts = map[string]Host{host: {Credentials: "TOKEN", CAFile: ca}}
		o.Env = func(name string) string { return map[string]string{"TOKEN": "a-token"}[name] }
	})
	fails(t, trusting(t, ca, nil), refTo(url, digestOf(module)), KindUnauthorized, "401", "plugin_sources.hosts."+host+".credentials")
	has(t, f, refTo(url, digestOf(module)), module)
}

// TestNames says what a resolver could not do.
func TestNames(t *testing.T) {
	f := fetcher(t, nil)
	var fault net.DNSError
	f.transport.secure.DialContext = func(context.Context, string, string) (net.Conn, error) {
		dns := fault
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &dns}
	}
	fault = net.DNSError{Err: "no such host", Name: "plugins.invalid", IsNotFound: true}
	if e := fails(t, f, refTo("https://plugins.invalid/a", digestOf(nil)), KindName, "no host called plugins.invalid", "spelling"); e.Temporary() {
		t.Error("temporary")
	}
	fault = net.DNSError{Err: "server misbehaving", Name: "plugins.invalid", IsTemporary: true}
	fails(t, f, refTo("https://plugins.invalid/a", digestOf(nil)), KindName, "could not be looked up", "misbehaving", "(4 tries)")
}

func TestNoTLS(t *testing.T) {
	url, _ := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	fails(t, fetcher(t, nil), refTo(strings.Replace(url, "http:", "https:", 1), digestOf(nil)), KindTLS, "speaks HTTP", "loopback")

	secure, ca := serve(t, true, func(http.ResponseWriter, *http.Request) {})
	fails(t, fetcher(t, nil), refTo(secure, digestOf(nil)), KindTLS, "authority that is not trusted", ".ca_file")
	fails(t, trusting(t, ca, nil), refTo(strings.Replace(secure, "127.0.0.1", "localhost", 1), digestOf(nil)), KindTLS, "another name", "localhost")
}

// TestShared has many ask for one digest: the server is asked once, and nobody who gives up takes it from the others.
func TestShared(t *testing.T) {
	module := moduleOf("shared", 200_000)
	var asked atomic.Int32
	let := make(chan struct{})
	url, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Write(module[:100])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-let:
			w.Write(module[100:])
		case <-r.Context().Done():
		}
	})
	f := trusting(t, ca, nil)
	ref := refTo(url+"/a", digestOf(module))
	ctx, leave := context.WithCancel(context.Background())
	var gone, stay sync.WaitGroup
	ask := func(wg *sync.WaitGroup, ctx context.Context, ref config.Module, want bool) {
		wg.Go(func() {
			b, _, err := f.Fetch(ctx, ref)
			if want != (err == nil) || (want && len(b) != len(module)) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	for i := range 20 {
		ask(&gone, ctx, ref, false)
		ask(&stay, context.Background(), refTo(url+"/"+strconv.Itoa(i), ref.Digest), true)
	}
	waiting := func(n int) func() bool {
		return func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			fl := f.flights[keyOf(ref)]
			return n == 0 && fl == nil || fl != nil && fl.waiting == n
		}
	}
	testkit.Eventually(t, "all wait", waiting(40))
	leave()
	gone.Wait()
	testkit.Eventually(t, "half of them have gone", waiting(20))
	close(let)
	stay.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestNobodyWaits ends a download that nobody waits for, and the next one begins anew.
func TestNobodyWaits(t *testing.T) {
	module := moduleOf("nobody", 1000)
	began, ended := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	url, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			close(began)
			<-r.Context().Done()
			close(ended)
			return
		}
		w.Write(module)
	})
	f := trusting(t, ca, nil)
	ref := refTo(url, digestOf(module))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-began
		cancel()
	}()
	if _, _, err := f.Fetch(ctx, ref); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-ended
	has(t, f, ref, module)
}

// TestAnotherPlace has two URLs of one digest, the first of which fails.
func TestAnotherPlace(t *testing.T) {
	module := moduleOf("mirror", 1000)
	both := make(chan struct{})
	url, ca := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			<-both
			w.WriteHeader(404)
			return
		}
		w.Write(module)
	})
	f := trusting(t, ca, nil)
	bad, good := refTo(url+"/bad", digestOf(module)), refTo(url+"/good", digestOf(module))
	var wg sync.WaitGroup
	wg.Go(func() { fails(t, f, bad, KindNotFound) })
	testkit.Eventually(t, "the first is under way", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.flights[keyOf(bad)] != nil
	})
	wg.Go(func() { has(t, f, good, module) })
	testkit.Eventually(t, "the second waits for it", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		fl := f.flights[keyOf(bad)]
		return fl != nil && fl.waiting == 2
	})
	close(both)
	wg.Wait()
}

// TestClose ends what is under way.
func TestClose(t *testing.T) {
	began := make(chan struct{})
	url, ca := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})
	f := trusting(t, ca, nil)
	var wg sync.WaitGroup
	wg.Go(func() { fails(t, f, refTo(url, digestOf(nil)), KindCanceled) })
	<-began
	f.Close()
	wg.Wait()
	fails(t, f, refTo(url, digestOf(nil)), KindCanceled, "closing")
}
