package gateway_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// need returns the path of a program, or ends the test: it is skipped, or fails where everything must be there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	missing(t, program)
	return ""
}

// missing ends a test that cannot run here.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("WASMGATE_TEST_ALL") != "" {
		t.Fatalf("needs %s, and WASMGATE_TEST_ALL is set", what)
	}
	t.Skipf("needs %s", what)
}

// run runs a program and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, need(t, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

var answered = regexp.MustCompile(`(\d+) requests in`)

// thorough says that tests take their full numbers, as with task thorough. With the others they take a tenth of the time,
// which leaves go test's ten minutes for a package enough room on a machine that does other work as well.
func thorough() bool { return os.Getenv("WASMGATE_THOROUGH") != "" }

// reuse sends 100,000 requests (10,000 unless it is thorough) in one run of wrk through a gateway with this config, and fails
// if a request does, or if nginx accepts more connections than there are clients. The run is repeated, longer, if it was too
// short for so many; with the race detector it is as short as it is.
func reuse(t *testing.T, loops, clients int, config func(*nginx) string, path string, more ...string) {
	t.Helper()
	enough := 10_000
	if thorough() {
		enough = 100_000
	}
	for seconds := 2; ; seconds *= 2 {
		n := startNginx(t)
		g := start(t, fmt.Sprintf("loops: %d\n", loops)+config(n))
		out := run(t, "wrk", append(more, "-t1", "--timeout", "10s", "-c"+strconv.Itoa(clients), fmt.Sprintf("-d%ds", seconds), g.url(path))...)
		m := answered.FindStringSubmatch(out)
		if m == nil || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			t.Fatalf("wrk saw errors:\n%s", out)
		}
		if got := n.accepted(); got > clients {
			t.Errorf("nginx accepted %d connections for %d clients\n%s", got, clients, out)
		}
		count, _ := strconv.Atoi(m[1])
		if count >= enough || raceEnabled {
			t.Logf("%d requests", count)
			return
		}
	}
}

// freePort is a port that nobody listens on at the moment, and that nobody else takes before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	return testkit.Port(t)
}

// nginx is a real nginx that answers every request with its path, and counts its connections.
type nginx struct {
	t     *testing.T
	port  int
	asked int // connections of our own: each question for the status is one
}

func startNginx(t *testing.T) *nginx {
	t.Helper()
	program := need(t, "nginx")
	n := &nginx{t: t, port: freePort(t)}
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`worker_processes 1; daemon off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
 fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen 127.0.0.1:%[2]d backlog=4096; location = /status { stub_status; }
 location / { default_type text/plain; add_header X-Path $request_uri; add_header X-Cmd $http_x_answer; add_header X-Smuggled $http_x_smuggled; return 200 "you asked for $request_uri at $host\n"; } } }`, dir, n.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-c", conf)
	output := &testkit.Buffer{}
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	testkit.Eventually(t, "nginx listens: "+output.String(), func() bool {
		c, err := net.Dial("tcp", n.addr())
		if err == nil {
			n.asked++
			c.Close()
		}
		return err == nil
	})
	return n
}

func (n *nginx) addr() string { return "127.0.0.1:" + strconv.Itoa(n.port) }

// accepted is how many connections nginx has accepted from others than the test itself.
func (n *nginx) accepted() int {
	n.t.Helper()
	n.asked++
	m := regexp.MustCompile(`\n (\d+) \d+ \d+`).FindStringSubmatch(get(n.t, "http://"+n.addr()+"/status"))
	if m == nil {
		n.t.Fatal("nginx's status page was not understood")
	}
	count, _ := strconv.Atoi(m[1])
	return count - n.asked
}

// gate is a gateway under test.
type gate struct {
	*testing.T
	*gateway.Gateway
	addr netip.AddrPort
	log  *testkit.Buffer
}

// load reads a config; a listener, no access log and no admin endpoint are added to it.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	text = "telemetry: { access_log: { output: 'off' } }\nadmin: { address: '' }\nplugin_cache: { dir: 'off' }\n" + text
	c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t *testing.T, text string) *gate {
	t.Helper()
	return startListening(t, "listeners: [{ name: test, address: '127.0.0.1:0' }]\n"+text)
}

// startListening is start with a config that has listeners, one of them called test.
func startListening(t *testing.T, text string) *gate {
	t.Helper()
	before := runtime.NumGoroutine()
	c := load(t, text)
	log := &testkit.Buffer{}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(log)})
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

func (g *gate) url(path string) string { return "http://" + g.addr.String() + path }

// get asks by a connection of its own, and returns the body.
func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return readAll(t, resp)
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pester asks a thousand times in a second by several connections, until stop is called; it returns how many answers with
// another status than 200 came. It costs as little as it can, so that what the gateway suffers is not the pestering itself.
func pester(t *testing.T, addr netip.AddrPort, path string, clients int) (stop func() int64) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range clients {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			tick := time.NewTicker(time.Duration(clients) * time.Millisecond)
			defer tick.Stop()
			request, r := []byte("GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"), bufio.NewReader(c)
			for {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				if _, err := c.Write(request); err != nil {
					t.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				if resp.StatusCode != 200 {
					failed.Add(1)
				}
			}
		})
	}
	return func() int64 {
		close(done)
		wg.Wait()
		return failed.Load()
	}
}

func writePEM(t *testing.T, path string, certificate []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eachConn serves each connection to an address of its own on a goroutine, and closes it then; open are those goroutines, and the one
// that accepts until the listener is closed.
func eachConn(t *testing.T, serve func(net.Conn)) (ln net.Listener, open *sync.WaitGroup) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open = &sync.WaitGroup{}
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	return ln, open
}

// startDatabase is a server that speaks no HTTP, for listeners in TCP mode: it serves each connection, and closes it then.
func startDatabase(t *testing.T, serve func(net.Conn)) net.Addr {
	t.Helper()
	ln, _ := eachConn(t, serve)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr()
}
