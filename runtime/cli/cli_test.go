package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/cli/demo"
	"wasmgate/runtime/internal/testkit"
)

// call runs a command that ends by itself.
func call(args ...string) (code int, stdout, stderr string) {
	var out, err testkit.Buffer
	code = Main(Process{Args: args, Stdout: &out, Stderr: &err, Env: []string{"HOME=" + os.TempDir()}})
	return code, out.String(), err.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

func TestRunWithoutConfigSaysWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	code, out, text := call("run")
	if code != exitUsage || out != "" {
		t.Errorf("exit code %d, %q on standard output", code, out)
	}
	contains(t, text, "wasmgate demo", "wasmgate check", "wasmgate.yaml", "targets:")

	// The config that it proposes must be one.
	_, rest, _ := strings.Cut(text, "write wasmgate.yaml:\n")
	proposal, _, _ := strings.Cut(rest, "and then:")
	write(t, defaultFile, proposal)
	code, out, text = call("check")
	if code != exitOK || text != "" {
		t.Errorf("check of the proposal: exit code %d\n%s", code, text)
	}
	contains(t, out, "wasmgate.yaml: ok: 1 listener, 1 route, 1 upstream")
}

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "bad.yaml", "upstreams:\n  app:\n    targets: [\"http://127.0.0.1:3000\"]\n    pool: { enableuse: on }\nlisten: 80\n")
	write(t, "warn.yaml", "upstreams:\n  app: { targets: [\"http://127.0.0.1:3000\"] }\n  spare: { targets: [\"http://127.0.0.1:3001\"] }\nroutes: [{ upstream: app }]\n")
	write(t, "module.yaml", "plugins:\n  p: { module: p.wasm }\nroutes:\n  - plugins: [p]\n")
	write(t, "p.wasm", "not a module")
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr []string
	}{
		{[]string{"check", "bad.yaml"}, exitFailed, "", []string{"bad.yaml:4:13: error: upstreams.app.pool.enableuse", "pool.reuse", "bad.yaml:5:1: error: ", "2 errors"}},
		{[]string{"check", "warn.yaml"}, exitOK, "warn.yaml: ok: 1 listener, 1 route, 2 upstreams; 1 warning\n", []string{"warn.yaml:3:", "warning"}},
		{[]string{"check", "warn.yaml", "--set", "limits.head=1"}, exitFailed, "", []string{"--set", "limits.head"}},
		{[]string{"check", "module.yaml"}, exitFailed, "", []string{"module.yaml:2:16: error: plugins.p.module: the module cannot be used: "}},
		{[]string{"check", "nowhere.yaml"}, exitFailed, "", []string{"nowhere.yaml"}},
		{[]string{"check", "-c", "warn.yaml"}, exitOK, "warn.yaml: ok: 1 listener, 1 route, 2 upstreams; 1 warning\n", nil},
		{[]string{"check", "--config", "warn.yaml", "warn.yaml"}, exitOK, "warn.yaml: ok: 1 listener, 1 route, 2 upstreams; 1 warning\n", nil},
		{[]string{"check", "-c", "bad.yaml", "warn.yaml"}, exitUsage, "", []string{"bad.yaml and warn.yaml", "See: wasmgate check --help"}},
		{[]string{"run", "bad.yaml"}, exitFailed, "", []string{"bad.yaml:4:13: error: "}},
		{[]string{"run", "-c", "bad.yaml", "warn.yaml"}, exitUsage, "", []string{"two configs"}},
		{[]string{"check"}, exitUsage, "", []string{"no wasmgate.yaml"}},
		{[]string{"check", "a", "b"}, exitUsage, "", []string{"See: wasmgate check --help"}},
		{[]string{"chekc"}, exitUsage, "", []string{"unknown command", "check"}},
		{[]string{"inspect", "a.wasm"}, exitUsage, "", []string{`unknown command "inspect" for "wasmgate": did you mean ` + "`wasmgate plugin inspect`?"}},
		{[]string{"plugin", "tests"}, exitUsage, "", []string{`unknown command "tests" for "wasmgate plugin": did you mean ` + "`test`?"}},
		{[]string{"run", "--conifg", "x"}, exitUsage, "", []string{"unknown flag"}},
	} {
		code, out, text := call(c.args...)
		if code != c.code || out != c.stdout {
			t.Errorf("%v: exit code %d, want %d; standard output %q, want %q\n%s", c.args, code, c.code, out, c.stdout, text)
		}
		contains(t, text, c.stderr...)
	}
}

func TestCheckReadsStandardInput(t *testing.T) {
	var out, text testkit.Buffer
	code := Main(Process{Args: []string{"check", "-"}, Stdin: strings.NewReader("routes: [{ upstream: nothing }]"), Stdout: &out, Stderr: &text})
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	contains(t, text.String(), "stdin:1:", "nothing")
}

func TestSmallCommands(t *testing.T) {
	_, version, _ := call("version")
	_, flag, _ := call("--version")
	if version != flag || !strings.HasPrefix(version, "wasmgate ") {
		t.Errorf("version says %q, --version %q", version, flag)
	}
	_, help, _ := call()
	contains(t, help, "demo", "check", "run", "version", "completion")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, script, _ := call("completion", shell); code != exitOK || !strings.Contains(script, "wasmgate") {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(script))
		}
	}
}

// running is a run command under way.
type running struct {
	t       *testing.T
	log     testkit.Buffer
	signals chan os.Signal
	ended   chan int
	checked int // how much of the log has been looked at
}

func startRun(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, signals: make(chan os.Signal, 4), ended: make(chan int, 1)}
	home, over := t.TempDir(), make(chan struct{})
	go func() {
		defer close(over)
		r.ended <- Main(Process{
			Args: append([]string{"run"}, args...), Stdout: io.Discard, Stderr: &r.log, Env: []string{"GOMAXPROCS=2", "HOME=" + home},
			Signals: func() <-chan os.Signal { return r.signals },
		})
	}()
	t.Cleanup(func() {
		for range 2 { // the second one ends it at once
			select {
			case r.signals <- syscall.SIGTERM:
			default:
			}
		}
		<-over // before the folders go in which it writes and reads
	})
	return r
}

// logs waits for a line that the log did not have before the last call.
func (r *running) logs(message string) {
	r.t.Helper()
	testkit.Eventually(r.t, message+"\n"+r.log.String(), func() bool {
		text := r.log.String()
		i := strings.Index(text[r.checked:], `"message":"`+message)
		if i < 0 {
			return false
		}
		r.checked += i + len(message)
		return true
	})
}

var listening = regexp.MustCompile(`"address":"([^"]+)","time":"?[^,]*"?,"message":"listening"`)

func (r *running) url() string {
	r.t.Helper()
	var url string
	testkit.Eventually(r.t, "it listens", func() bool {
		m := listening.FindStringSubmatch(r.log.String())
		if m != nil {
			url = "http://" + m[1]
		}
		return m != nil
	})
	return url
}

// ends waits for the end of the command.
func (r *running) ends(code int) {
	r.t.Helper()
	select {
	case got := <-r.ended:
		if got != code {
			r.t.Errorf("exit code %d, want %d\n%s", got, code, r.log.String())
		}
	case <-time.After(20 * time.Second):
		r.t.Fatalf("it does not end\n%s", r.log.String())
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func saying(text string) string {
	return "listeners: [{ address: \"127.0.0.1:0\" }]\nadmin: { address: \"\" }\ntelemetry: { access_log: { output: \"off\" } }\n" +
		"routes: [{ respond: { status: 200, body: " + text + " } }]\n"
}

func TestRunReloadsAndStops(t *testing.T) {
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)) // nobody else listens there afterwards
	at := func(text string) string { return strings.ReplaceAll(saying(text), "127.0.0.1:0", address) }
	file := filepath.Join(dir, "gateway.yaml")
	write(t, file, at("one"))
	r := startRun(t, "-c", file)
	url := r.url()
	r.logs("ready")
	if got := get(t, url); got != "one" {
		t.Fatalf("answer %q", got)
	}

	write(t, file, at("two"))
	r.logs("reloaded")
	if got := get(t, url); got != "two" {
		t.Errorf("after a change of the file: %q", got)
	}

	write(t, file, at("three")+"colour: red\nsize: big\n")
	r.logs("error in the config")
	r.logs("error in the config")
	r.logs("reload refused")
	contains(t, r.log.String(), "gateway.yaml:5:1", "gateway.yaml:6:1", `"errors":2`)
	if got := get(t, url); got != "two" {
		t.Errorf("after a change that is no config: %q", got)
	}

	write(t, file, at("four"))
	r.logs("reloaded")
	r.signals <- syscall.SIGHUP
	r.logs("reloaded")
	contains(t, r.log.String(), `"why":"SIGHUP"`)
	if got := get(t, url); got != "four" {
		t.Errorf("after SIGHUP: %q", got)
	}

	r.signals <- syscall.SIGTERM
	r.ends(exitOK)
	contains(t, r.log.String(), `"message":"stopped"`)
	if conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

// holding starts an upstream whose answers wait until release is called, and a gateway in front of it with one request
// under way. The answer, or the error, comes through the channel.
func holding(t *testing.T) (r *running, release func(), answer <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	arrived, hold := make(chan struct{}), make(chan struct{})
	upstream := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-hold
		_, _ = w.Write([]byte("whole"))
	})}
	go func() { _ = upstream.Serve(ln) }()
	release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(func() { release(); upstream.Close() })
	r = startRun(t, "--set", "listeners[0].address=127.0.0.1:0", "--set", "admin.address=", "--set", "limits.drain_timeout=1h",
		"--set", "telemetry.access_log.output=off", "--set", "routes=[{upstream: \"http://"+ln.Addr().String()+"\"}]")
	url := r.url()
	got := make(chan string, 1)
	go func() { got <- get(t, url) }()
	<-arrived
	return r, release, got
}

func TestStopLetsRequestsEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	r, release, answer := holding(t)
	r.signals <- os.Interrupt
	r.logs("stopping")
	release()
	if got := <-answer; got != "whole" {
		t.Errorf("the request under way got %q", got)
	}
	r.ends(exitOK)
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	r, _, answer := holding(t)
	r.signals <- syscall.SIGTERM
	r.logs("stopping")
	r.signals <- syscall.SIGHUP // means nothing any more
	r.signals <- syscall.SIGTERM
	r.logs("stopped by a second signal")
	r.ends(exitOK)
	if got := <-answer; got == "whole" {
		t.Error("the request under way was not cut off")
	}
}

func TestRunFailsWithItsReasons(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "bad.yaml", "a: 1\nb: 2\n")
	code, _, text := call("run", "-c", "bad.yaml")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	contains(t, text, "bad.yaml:1:1", "bad.yaml:2:1", "2 errors")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	write(t, "taken.yaml", strings.ReplaceAll(saying("x"), "127.0.0.1:0", ln.Addr().String()))
	code, _, text = call("run", "-c", "taken.yaml")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	contains(t, text, "wasmgate: ", ln.Addr().String(), "in use")
}

func TestDemoCommand(t *testing.T) {
	code, out, text := call("demo", "--once", "--port", "0")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, text)
	}
	contains(t, out, "Upstream connections", "first to this address", "Decisions of the plugin", "180 of them forwarded")
	if strings.Contains(out, "\x1b[") {
		t.Error("colours without a terminal")
	}
	code, out, _ = call("demo", "--print-config")
	if code != exitOK || out != demo.Config() {
		t.Errorf("exit code %d\n%s", code, out)
	}
	t.Chdir(filepath.Join("..", "..")) // where the path of the module begins
	if _, report, err := config.Load(config.Source{File: "demo.yaml", Data: []byte(out)}); err != nil || len(report.Warnings) > 0 {
		t.Errorf("the printed config: %v\n%s", err, report)
	}
}

func readBody(t *testing.T, answer *http.Response) string {
	t.Helper()
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(b)
}
