package proxywasm

import (
	stdcontext "context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// missing skips a test for want of something, or fails it where nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("WASMGATE_TEST_ALL") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// guest builds a plugin in testdata with its language's own tools, once for each state of its sources.
func guest(t *testing.T, language string, build func(t *testing.T, dir string) (module string)) []byte {
	t.Helper()
	source := filepath.Join("testdata", language)
	h := sha256.New()
	err := filepath.WalkDir(source, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	cache = filepath.Join(cache, "wasmgate", "test-guests")
	file := filepath.Join(cache, fmt.Sprintf("%s-%x.wasm", language, h.Sum(nil)[:8]))
	if module, err := os.ReadFile(file); err == nil {
		return module
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(build(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if os.MkdirAll(cache, 0o700) == nil {
		if part := file + fmt.Sprint(os.Getpid()); os.WriteFile(part, module, 0o600) == nil {
			_ = os.Rename(part, file)
		}
	}
	return module
}

// tool runs a program in a folder.
func tool(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := stdcontext.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		missing(t, "%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// rust builds with a Rust that has the target wasm32-unknown-unknown: Debian's rustc with libstd-rust-dev-wasm32, or another.
func rust(t *testing.T, dir string) string {
	t.Helper()
	for _, rustc := range []string{"/usr/bin/rustc", "rustc"} {
		rustc, err := exec.LookPath(rustc)
		if err != nil {
			continue
		}
		root, err := exec.Command(rustc, "--print", "sysroot").Output()
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(root)), "lib/rustlib/wasm32-unknown-unknown")); err != nil {
			continue
		}
		cargo := filepath.Join(filepath.Dir(rustc), "cargo")
		args, env := []string{"build", "--locked", "--release", "--target", "wasm32-unknown-unknown"}, []string{"RUSTC=" + rustc, "CARGO_TARGET_DIR=" + filepath.Join(dir, "target")}
		version, _ := exec.Command(cargo, "--version").Output()
		var minor int
		if _, err := fmt.Sscanf(string(version), "cargo 1.%d", &minor); err == nil && minor < 68 { // its registry is a repository of all crates otherwise
			args, env = append([]string{"-Z", "sparse-registry"}, args...), append(env, "RUSTC_BOOTSTRAP=1")
		}
		tool(t, dir, env, cargo, args...)
		return filepath.Join(dir, "target/wasm32-unknown-unknown/release/guest.wasm")
	}
	missing(t, "no Rust with the target wasm32-unknown-unknown: apt-get install cargo rustc libstd-rust-dev-wasm32")
	return ""
}

func assemblyScript(t *testing.T, dir string) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		missing(t, "no npm: apt-get install npm")
	}
	tool(t, dir, nil, "npm", "ci", "--no-audit", "--no-fund")
	tool(t, dir, nil, "npm", "run", "build")
	return filepath.Join(dir, "build/guest.wasm")
}

var sdks = map[string]func(*testing.T, string) string{"rust": rust, "assemblyscript": assemblyScript}

// TestPluginsOfPublicSDKs runs plugins as their authors write them, with the public Rust SDK and the public AssemblyScript
// SDK, which do the same.
func TestPluginsOfPublicSDKs(t *testing.T) {
	for language, build := range sdks {
		t.Run(language, func(t *testing.T) {
			module := guest(t, language, build)
			b := newBench(t)
			f := &caller{answer: func(t *netloop.Task, c *filter.Call) *fault.Error {
				t.Sleep(5 * time.Millisecond)
				if token, _ := c.Fields.Get("authorization"); string(token) != "Bearer good" {
					c.Status = 403
					return nil
				}
				c.Status, c.Answer = 200, []byte("anna")
				c.AnswerFields.Add("content-type", "text/plain")
				return nil
			}}
			p := b.mustLoad(module, Options{Name: "guest", Config: []byte("the config"), RootID: "guest", Grants: granted(f), LogLevel: wasm.LogInfo}, wasm.Limits{Fuel: 50_000_000})
			if says := b.says(); len(says) > 0 {
				t.Errorf("%q", says)
			}

			r := b.exchange(message{head: "GET /x HTTP/1.1\nHost: example.com\nX-Secret: s\nX-Bad: a\xffb"}, okAnswer, p)
			if got := fields(&r.x.Request.Head); r.err != nil || got != "Host: example.com\nX-Bad: a\xffb\nx-sdk: guest\nx-count: 1\nx-source: 192.0.2.7:4711\n" {
				t.Errorf("%v %q", r.err, got)
			}
			if got := fields(&r.x.Response.Head); got != "Content-Length: 5\nx-config: the config\n" || r.got != "hello" {
				t.Errorf("%q %q", got, r.got)
			}
			b.awaitSays("done: /x 200")
			b.awaitSays("queued: /x")

			r = b.exchange(message{head: "GET /deny HTTP/1.1\nHost: h"}, okAnswer, p)
			if r.verdict != filter.Respond || r.x.Local.Status != 403 || string(r.x.Local.Body) != "denied" {
				t.Errorf("%v %+v", r.verdict, r.x.Local)
			}
			if why, _ := r.x.Response.Get("x-why"); string(why) != "denied" {
				t.Errorf("%q", why)
			}

			r = b.exchange(message{head: "GET /x HTTP/1.1\nHost: h\nX-Tenant: acme"}, okAnswer, p)
			if string(r.x.Request.Authority) != "acme.internal" || r.err != nil {
				t.Errorf("%s %v", r.x.Request.Authority, r.err)
			}
			b.on(func(task *netloop.Task) {
				r := b.begin(task, message{head: "GET /x HTTP/1.1\nHost: h\nX-Tenant: acme"})
				r.ask(filter.Route, p)
				r.end(p)
				if r.verdict != filter.Rematch {
					t.Errorf("%v", r.verdict)
				}
			})

			for _, body := range [][]string{{"abc"}, {"a", "b", "c"}} {
				for _, chunked := range []bool{false, true} {
					r = b.exchange(message{head: "POST /body HTTP/1.1\nHost: h", body: body, chunked: chunked}, message{head: "HTTP/1.1 200 OK", body: body, chunked: chunked}, p)
					if r.err != nil || r.sendErr != nil || r.sent != "ABC!" || r.got != "[abc]" {
						t.Errorf("%v %v: sent %q, got %q", r.err, r.sendErr, r.sent, r.got)
					}
				}
			}

			r = b.exchange(message{head: "GET /auth HTTP/1.1\nHost: h\nAuthorization: Bearer good"}, okAnswer, p)
			if user, _ := r.x.Request.Get("x-user"); r.err != nil || r.verdict != filter.Continue || string(user) != "anna" {
				t.Errorf("%v %v %q", r.err, r.verdict, user)
			}
			r = b.exchange(message{head: "POST /auth HTTP/1.1\nHost: h", body: []string{"abc"}}, okAnswer, p)
			if r.err != nil || r.verdict != filter.Respond || r.x.Local.Status != 401 || string(r.x.Local.Body) != "who are you?" {
				t.Errorf("%v %v %+v", r.err, r.verdict, r.x.Local)
			}
			if calls := f.calls(); len(calls) != 2 || calls[0] != "guest 3 GET auth /check \"\" authorization: Bearer good\n 2s" {
				t.Errorf("%q", calls)
			}

			m := p.Metrics()
			if len(m) != 1 || m[0].Name != "requests" || m[0].Value != 10 {
				t.Errorf("%+v", m)
			}
			testkit.Eventually(t, "it has ticked", func() bool {
				_, _, ok := p.core.group.space.data.Get(0, []byte("ticks"), nil)
				return ok
			})
			testkit.Eventually(t, "all streams are gone", func() bool { return p.Stats().Streams == 0 }) // ends that take long are made on a task of their own
			if s := p.Stats(); s.Discarded != 0 || s.Live != 1 {
				t.Errorf("%+v", s)
			}
			manyAtOnce(t, b, p)
		})
	}
}

// manyAtOnce has many requests wait for their calls at the same time, in one machine.
func manyAtOnce(t *testing.T, b *bench, p *Plugin) {
	t.Helper()
	const n = 200
	done := make(chan *ride, n)
	begun := time.Now()
	l := b.group.Loop(0)
	for i := range n {
		l.Post(func() {
			l.Go(func(task *netloop.Task) {
				token := "good"
				if i%3 == 0 {
					token = "bad"
				}
				r := b.begin(task, message{head: "GET /auth HTTP/1.1\nHost: h\nAuthorization: Bearer " + token})
				r.ask(filter.Route, p)
				r.end(p)
				done <- r
			})
		})
	}
	for range n {
		r := <-done
		token, _ := r.x.Request.Get("authorization")
		user, _ := r.x.Request.Get("x-user")
		if good := string(token) == "Bearer good"; r.err != nil || good != (string(user) == "anna") || good == (r.verdict == filter.Respond) {
			t.Errorf("%s: %v %v %q", token, r.err, r.verdict, user)
		}
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("they took %v", d)
	}
}
