package plugin

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// live is a command that stays up.
type live struct {
	called
	t       *testing.T
	signals chan os.Signal
	ended   chan struct{}
	checked int // how much of its output has been looked at
}

func begin(t *testing.T, args ...string) *live {
	t.Helper()
	l := &live{t: t, signals: make(chan os.Signal, 4), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		l.run(&Process{Env: environment(t), Stdout: &l.stdout, Stderr: &l.stderr, Signals: func() <-chan os.Signal { return l.signals }}, args...)
	}()
	t.Cleanup(func() {
		select {
		case l.signals <- os.Interrupt:
		default:
		}
		<-l.ended
	})
	return l
}

// eventually waits for something that compilers are needed for, which take their time on a machine that has other things
// to do. what says what there is instead.
func eventually(t *testing.T, what func() string, fact func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	late := time.After(2 * time.Minute)
	for !fact() {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what())
		}
	}
}

// says waits for a text that its output did not have before the last call.
func (l *live) says(text string) {
	l.t.Helper()
	eventually(l.t, func() string { return text + "\n" + l.stdout.String() + l.stderr.String() }, func() bool {
		i := strings.Index(l.stdout.String()[l.checked:], text)
		if i < 0 {
			return false
		}
		l.checked += i + len(text)
		return true
	})
}

// ends interrupts it.
func (l *live) ends() {
	l.t.Helper()
	l.signals <- syscall.SIGINT
	select {
	case <-l.ended:
	case <-time.After(20 * time.Second):
		l.t.Fatal("it does not end")
	}
	if l.err != nil {
		l.t.Errorf("it ended with %v", l.err)
	}
}

func newC(t *testing.T) (dir, source string) {
	t.Helper()
	needs(t, &cLanguage)
	dir = filepath.Join(t.TempDir(), "my-plugin")
	succeeds(t, "new", dir, "--lang", "c")
	return dir, filepath.Join(dir, "my-plugin.c")
}

// TestWatch changes sources and tests while they are watched.
func TestWatch(t *testing.T) {
	dir, source := newC(t)
	l := begin(t, "test", dir, "--watch")
	l.says("5 tests passed")
	l.says("Waiting for a change")
	edit(t, source, "wg_deny(403)", "wg_deny(404)")
	l.says("want: 403")
	l.says("1 of 5 tests failed")
	edit(t, source, "wg_deny(404)", "wg_deny(40")
	eventually(t, l.stderr.String, func() bool { return strings.Contains(l.stderr.String(), "wasmgate: clang failed") })
	l.says("Waiting for a change")
	edit(t, source, "wg_deny(40", "wg_deny(404)")
	l.says("1 of 5 tests failed")
	test := filepath.Join(dir, "my-plugin.test.yaml")
	edit(t, test, "status: 403", "status: 404")
	l.says("5 tests passed")
	edit(t, test, "status: 404", "stauts: 404")
	eventually(t, l.stderr.String, func() bool { return strings.Contains(l.stderr.String(), "did you mean `status`?") })
	write(t, filepath.Join(dir, "more.test.yaml"), "tests: [{ name: one more, request: { url: / } }]")
	edit(t, test, "stauts: 404", "status: 404")
	l.says("6 tests passed")
	l.ends()
}

// TestWatchModule replaces a module, as a build elsewhere does.
func TestWatchModule(t *testing.T) {
	dir, source := newC(t)
	succeeds(t, "build", dir)
	alone := t.TempDir()
	place := func() {
		write(t, filepath.Join(alone, "next"), read(t, filepath.Join(dir, "my-plugin.wasm")))
		if err := os.Rename(filepath.Join(alone, "next"), filepath.Join(alone, "p.wasm")); err != nil {
			t.Fatal(err)
		}
	}
	place()
	write(t, filepath.Join(alone, "p.test.yaml"), "tests: [{ name: ping, request: { url: /ping }, expect: { body: \"pong\\n\" } }]")
	l := begin(t, "test", filepath.Join(alone, "p.wasm"), "-w")
	l.says("1 test passed")
	l.says("Waiting for a change")
	edit(t, source, `"pong\n"`, `"pang\n"`)
	succeeds(t, "build", dir)
	place()
	l.says(`got:  "pang\n"`)
	l.ends()
}

var address = regexp.MustCompile(`A gateway on (http://127\.0\.0\.1:\d+) around (\S+)`)

func (l *live) url() string {
	l.t.Helper()
	l.says("Ctrl-C ends.")
	return address.FindStringSubmatch(l.stdout.String())[1]
}

func ask(t *testing.T, url string, fields ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// TestRun tries a plugin: asks, changes it, breaks it, mends it.
func TestRun(t *testing.T) {
	dir, source := newC(t)
	l := begin(t, "run", dir, "--port", "0")
	url := l.url()
	contains(t, l.stdout.String(), "curl -i "+url+"/ping\n", "curl -i '"+url+"/internal/users?id=7'\n", "curl -i -H 'host: app.example.com' -H 'x-beta: yes' "+url+"/orders\n", "curl -i --data-binary hello "+url+"/internals\n")
	if status, body := ask(t, url+"/ping"); status != 200 || body != "pong\n" {
		t.Errorf("ping: %d, %q", status, body)
	}
	l.says("GET /ping → respond 200  (")
	l.says("set content-type: text/plain")
	l.says("body: pong")
	l.says("200 from the plugin or the gateway, in all ")
	if status, body := ask(t, url+"/orders?id=1", "x-beta", "yes"); status != 200 || !strings.Contains(body, "Upstream app got:\n\nGET /orders?id=1\n") || !strings.Contains(body, "X-Variant: beta") {
		t.Errorf("orders: %d, %q", status, body)
	}
	l.says("GET /orders?id=1 → continue  (")
	l.says("set x-variant: beta")
	l.says("200 from upstream app, in all ")
	if status, _ := ask(t, url+"/internal/x"); status != 403 {
		t.Errorf("internal: %d", status)
	}
	l.says("GET /internal/x → deny 403")

	edit(t, source, "/* Called for each request. */", "static __attribute__((noinline)) void explode(void) {\n  __builtin_trap();\n}",
		`wg_set_header(WG_STR("x-variant"), WG_STR("beta"))`, `{ wg_log(WG_INFO, WG_STR("a beta user")); explode(); }`)
	l.says("swapped in: ")
	if status, _ := ask(t, url+"/", "x-beta", "yes"); status != 503 {
		t.Errorf("a trap: %d", status)
	}
	l.says("plugin_trap: plugin my-plugin, phase request: unreachable, in explode (my-plugin.c:")
	l.says("GET / → fail")
	l.says("503 from the plugin or the gateway: plugin_trap, in all ")
	if n := strings.Count(l.stdout.String(), "unreachable, in explode"); n != 1 {
		t.Errorf("the trap is told %d times:\n%s", n, l.stdout.String())
	}
	edit(t, source, `explode(); }`, `}`)
	l.says("swapped in: ")
	if status, _ := ask(t, url+"/", "x-beta", "yes"); status != 200 {
		t.Errorf("after it was mended: %d", status)
	}
	l.says("a beta user")
	edit(t, source, "wg_deny(403)", "wg_deny(40")
	l.says("not swapped in, the one before goes on: clang failed")
	if status, _ := ask(t, url+"/internal/x"); status != 403 {
		t.Errorf("internal, with a plugin that cannot be built: %d", status)
	}
	l.ends()
}

// TestRunWithUpstreams is about a module alone, whose upstreams are echoes of their own or real ones.
func TestRunWithUpstreams(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("the real one")) }))
	defer backend.Close()
	module := filepath.Join(t.TempDir(), "router.wasm")
	write(t, module, read(t, "../../../plugins/tenant-router/tenant-router.wasm"))
	config := `{"default":"users","tenants":{"acme":"acme-upstream"}}`
	l := begin(t, "run", module, "--port", "0", "--config", config, "--upstream", "users="+backend.URL)
	url := l.url()
	contains(t, l.stdout.String(), "Upstream users is "+backend.URL+". Any other answers with what reached it. Each decision")
	if _, body := ask(t, url, "x-tenant", "acme"); !strings.HasPrefix(body, "Upstream acme-upstream got:") {
		t.Errorf("%q", body)
	}
	l.says("→ route acme-upstream")
	l.says("set x-tenant-id: acme")
	l.says("attribute tenant.id: acme")
	if _, body := ask(t, url); body != "the real one" {
		t.Errorf("%q", body)
	}
	l.says("→ route users")
	l.says("200 from upstream users")
	l.ends()

	fails(t, false, "config.default is missing", "run", module, "--port", "0")
	fails(t, false, `--upstream nam=http://h:1: the plugin asks for no upstream "nam"; there are acme-upstream, app, users (app is the route's)`,
		"run", module, "--port", "0", "--config", config, "--upstream", "nam=http://h:1")
	for _, bad := range []string{"nonsense", "users=nonsense", "users=ftp://h", "http://"} {
		fails(t, false, "--upstream "+bad+": that is no URL of an upstream; write [NAME=]http://HOST:PORT", "run", module, "--upstream", bad)
	}
	odd := filepath.Join(filepath.Dir(module), "a name.v2.wasm") // none that a config takes
	write(t, odd, read(t, "../../../plugins/tenant-router/tenant-router.wasm"))
	l = begin(t, "run", odd, "--port", "0", "--config", config)
	if status, _ := ask(t, l.url()); status != 200 {
		t.Errorf("%d", status)
	}
	l.ends()
	fails(t, false, "router.wasm.x: no such file", "run", module+".x")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	fails(t, false, "port "+port+" cannot be used", "run", module, "--config", config, "--port", port)
}

// TestRunOtherABIs serves plugins of Proxy-Wasm and http-wasm.
func TestRunOtherABIs(t *testing.T) {
	l := begin(t, "run", "../../wasm/proxywasm/testdata/tenant.wasm", "--port", "0")
	if _, body := ask(t, l.url()+"/orders", "x-tenant", "acme"); !strings.Contains(body, "Host: acme.internal\n") || !strings.Contains(body, "X-Routed-By: tenant\n") {
		t.Errorf("%s", body)
	}
	l.says("GET /orders → rematch  (")
	l.says("authority: acme.internal\n    set x-routed-by: tenant\n")
	l.ends()

	l = begin(t, "run", "../../wasm/httpwasm/testdata/redact.wasm", "--port", "0", "--config", "secret")
	if _, body := ask(t, l.url()+"/my-secret", "x-field", "this secret stays"); !strings.Contains(body, "GET /my-######\n") || !strings.Contains(body, "X-Field: this ###### stays\n") {
		t.Errorf("%s", body)
	}
	l.says("GET /my-secret → continue  (")
	l.says("  answer 200 → continue  (")
	l.ends()
}
