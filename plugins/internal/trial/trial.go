// Package trial tries plugins as their users would: it builds the modules from their folders, runs the gateway with
// the configuration that a folder's README.md shows, in front of an upstream that tells what it was asked, and measures
// what a decision costs.
//
// It uses the gateway's own packages, and net/http for the client and the upstream, which must not be the gateway's work.
package trial

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
)

// build is the command of plugins/README.md, with the folder it is about as ".".
var build = []string{"build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"}

// built are modules, by their folders.
var (
	building sync.Mutex
	built    = map[string][]byte{}
)

func buildIn(folder string) ([]byte, error) {
	building.Lock()
	defer building.Unlock()
	if b := built[folder]; b != nil {
		return b, nil
	}
	dir, err := os.MkdirTemp("", "trial")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out := filepath.Join(dir, "plugin.wasm")
	cmd := exec.CommandContext(ctx, "go", append(build, out, ".")...) //nolint:gosec // our own command
	cmd.Dir, cmd.Env = folder, append(cmd.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err == nil {
		built[folder] = b
	}
	return b, err
}

// Module is the plugin in the test's folder, built as plugins/README.md says. It is built once.
func Module(t testing.TB) []byte {
	t.Helper()
	return moduleIn(t, ".")
}

func moduleIn(t testing.TB, folder string) []byte {
	t.Helper()
	b, err := buildIn(folder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// folderOf is where a plugin is, as seen from the test's folder: that of a plugin, or plugins itself.
func folderOf(name string) string {
	if _, err := os.Stat(filepath.Join(name, "main.go")); err == nil {
		return name
	}
	return filepath.Join("..", name)
}

var example = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Example is a block of YAML in the folder's README.md, from 0.
func Example(t testing.TB, n int) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := example.FindAllStringSubmatch(string(text), -1)
	if n >= len(blocks) {
		t.Fatalf("README.md has %d blocks of YAML", len(blocks))
	}
	return blocks[n][1]
}

// Gate is a gateway with a plugin, in front of an upstream.
type Gate struct {
	t    testing.TB
	addr string
}

// Upstreams are what handles the requests to each host of an example's targets, such as app.internal:8080.
type Upstreams map[string]http.Handler

// modulePath is what depends on where an example runs, beside what overrides say.
var modulePath = regexp.MustCompile(`module: +plugins/([a-z-]+)/[a-z-]+\.wasm`)

// overrides make an example a test's: its first listener is on a free port, and believes in X-Forwarded-For.
var overrides = []string{
	"listeners[0].address=127.0.0.1:0", "listeners[0].name=test", "listeners[0].trusted_proxies=[127.0.0.1/32]",
	"telemetry.access_log.output=off", "admin.address=", "plugin_cache.dir=off",
}

// Start runs the gateway with a configuration that is written for readers: its modules are built, and each host of its targets
// becomes an upstream with that handler.
func Start(t testing.TB, yaml string, upstreams Upstreams) *Gate {
	t.Helper()
	for host, handler := range upstreams {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		if !strings.Contains(yaml, host) {
			t.Fatalf("the configuration does not speak of %s:\n%s", host, yaml)
		}
		yaml = strings.ReplaceAll(yaml, host, server.Listener.Addr().String())
	}
	g, err := newGateway(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return &Gate{t, g.Addr("test").String()}
}

// Refused is why the gateway does not start with a configuration.
func Refused(t testing.TB, yaml string) error {
	t.Helper()
	_, err := newGateway(t, yaml)
	if err == nil {
		t.Fatalf("the gateway takes the configuration:\n%s", yaml)
	}
	return err
}

func newGateway(t testing.TB, yaml string) (*gateway.Gateway, error) {
	t.Helper()
	if !modulePath.MatchString(yaml) {
		t.Fatalf("the configuration has no module of plugins/:\n%s", yaml)
	}
	dir := t.TempDir()
	yaml = modulePath.ReplaceAllStringFunc(yaml, func(module string) string {
		name := modulePath.FindStringSubmatch(module)[1]
		file := filepath.Join(dir, name+".wasm")
		if err := os.WriteFile(file, moduleIn(t, folderOf(name)), 0o600); err != nil {
			t.Fatal(err)
		}
		return "module: " + file
	})
	c, report, err := config.Load(config.Source{File: "README.yaml", Data: []byte(yaml), Overrides: overrides})
	if err != nil || len(report.Warnings) > 0 {
		t.Fatalf("%v %v\n%s", err, report.Warnings, yaml)
	}
	log := &lines{t: t}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(log)})
	if err == nil {
		t.Cleanup(func() {
			g.Close()
			log.end()
		})
	}
	return g, err
}

// lines are the gateway's log: shown with a test that fails.
type lines struct {
	t    testing.TB
	mu   sync.Mutex
	over bool
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// end has what comes later dropped: the test is over.
func (l *lines) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}

// Answer is an answer and its body.
type Answer struct {
	*http.Response
	Text string
}

// Get asks for a path. fields has names and values in turn; Host is the authority.
func (g *Gate) Get(path string, fields ...string) Answer {
	g.t.Helper()
	return g.Do("GET", path, fields...)
}

// Do sends a request without a body, and follows no redirects.
func (g *Gate) Do(method, path string, fields ...string) Answer {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.addr+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if req.Header.Add(fields[i], fields[i+1]); fields[i] == "Host" {
			req.Host = fields[i+1]
		}
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return Answer{resp, string(body)}
}

// Raw sends bytes as they are, on a connection of its own, and returns the status line of the answer.
func (g *Gate) Raw(request string) string {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(request)); err != nil {
		g.t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := c.Read(line)
	if err != nil {
		g.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(line[:n]), "\r\n")
	return first
}
