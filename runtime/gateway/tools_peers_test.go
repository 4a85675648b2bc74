package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// site is a gateway whose config has its listeners too, with an admin endpoint and an access log, and what was seen of
// its upstream connections.
type site struct {
	*testing.T
	*gateway.Gateway
	access string // the access log's file
	output *testkit.Buffer

	mu     sync.Mutex
	opened map[string]int // upstream connections by why they were opened
	closed map[string]int
}

// siteConfig reads a config that says nothing of telemetry, admin and plugin_cache.
func siteConfig(t testing.TB, access, text string) *config.Config {
	t.Helper()
	text = fmt.Sprintf("telemetry: { access_log: { output: %q } }\nadmin: { address: '127.0.0.1:0' }\nplugin_cache: { dir: 'off' }\n%s", access, text)
	c, _, err := config.Load(config.Source{File: "site.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func startSite(t *testing.T, text string) *site {
	t.Helper()
	leavesNothing(t)
	s := &site{T: t, access: filepath.Join(t.TempDir(), "access.log"), output: &testkit.Buffer{}, opened: map[string]int{}, closed: map[string]int{}}
	var err error
	s.Gateway, err = gateway.New(gateway.Options{Config: siteConfig(t, s.access, text), Log: zerolog.New(s.output), Watcher: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

var watched sync.Map // tests

// leavesNothing has the test end without a goroutine more than it has now. Only the first call counts: gateways of one
// test start goroutines while others begin.
func leavesNothing(t *testing.T) {
	if _, again := watched.LoadOrStore(t, true); again {
		return
	}
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		watched.Delete(t)
		http.DefaultClient.CloseIdleConnections()
		testkit.Eventually(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
}

// Exchange implements gateway.Watcher.
func (s *site) Exchange(*exchange.Exchange) {}

// ConnOpened implements gateway.Watcher.
func (s *site) ConnOpened(c *facts.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened[c.WhyOpened]++
}

// ConnClosed implements gateway.Watcher.
func (s *site) ConnClosed(c *facts.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed[c.WhyClosed]++
}

func (s *site) openedFor(why string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened[why]
}

func (s *site) closedFor(why string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed[why]
}

// reasons are those for which connections were opened and closed so far.
func (s *site) reasons() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("opened %v, closed %v", s.opened, s.closed)
}

func (s *site) at(listener string) string { return s.Addr(listener).String() }

// url is one of the listener "test".
func (s *site) url(path string) string { return "http://" + s.at("test") + path }

// admin asks the admin endpoint, and returns its status and body.
func (s *site) admin(path string) (int, string) {
	s.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + s.AdminAddr().String() + path)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, readAll(s.T, resp)
}

// poolSays is what the admin endpoint says of an upstream's connections.
type poolSays struct {
	Open    int `json:"connections_open"`
	Idle    int `json:"connections_idle"`
	Waiting int `json:"requests_waiting"`
	Members []struct {
		Open        int    `json:"connections_open"`
		Idle        int    `json:"connections_idle"`
		LearnedIdle string `json:"learned_idle_timeout"`
		LearnedFrom string `json:"learned_from"`
	}
}

func (s *site) pool(upstream string) (p poolSays) {
	s.Helper()
	_, text := s.admin("/upstreams/" + upstream)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		s.Fatalf("%v in %s", err, text)
	}
	return p
}

// metric is the value of a metric's line that begins like this.
func (s *site) metric(line string) string {
	s.Helper()
	_, text := s.admin("/metrics")
	for l := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(l, line+" "); ok {
			return v
		}
	}
	return ""
}

// accessLine is a line of the access log.
type accessLine struct {
	Client, Listener, Path, Protocol, Error string
	Status                                  int
	Conn                                    uint64 `json:"client_connection"`
	WhyNew                                  string `json:"why_new"`
	WhyClosed                               string `json:"why_closed"`
	Detail                                  string `json:"error_detail"`
	Time                                    time.Time
}

// lines waits until the access log has n lines and returns them in the order of the requests: each loop writes its own in
// its own time.
func (s *site) lines(n int) (list []accessLine) {
	s.Helper()
	testkit.Eventually(s.T, fmt.Sprintf("the access log has %d lines", n), func() bool {
		text, _ := os.ReadFile(s.access)
		list = list[:0]
		for line := range bytes.Lines(text) {
			var l accessLine
			if json.Unmarshal(line, &l) == nil {
				list = append(list, l)
			}
		}
		return len(list) >= n
	})
	slices.SortStableFunc(list, func(a, b accessLine) int { return a.Time.Compare(b.Time) })
	return list
}

// peer starts a program that serves on 127.0.0.1:$PORT, and returns that address once it listens.
func peer(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	port := strconv.Itoa(freePort(t))
	cmd := exec.Command(need(t, program), args...)
	cmd.Env = append(append(os.Environ(), "PORT="+port, "RUN="+t.TempDir()), env...)
	output := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	addr := "127.0.0.1:" + port
	testkit.Eventually(t, program+" listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", program, output)
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return addr
}

// parityFile is one of examples/parity.
func parityFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../examples/parity", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// httpd starts Debian's Apache with a config of examples/parity/apache.
func httpd(t *testing.T, conf string, env ...string) string {
	t.Helper()
	args := []string{"-f", parityFile(t, "apache/"+conf), "-DFOREGROUND"}
	if os.Getuid() == 0 { // which it would not serve as
		args = append(args, "-c", "User nobody", "-c", "Group nogroup")
	}
	return peer(t, env, "apache2", args...)
}

// haproxy starts Debian's HAProxy with a config of examples/parity/haproxy.
func haproxy(t *testing.T, conf string, env ...string) string {
	t.Helper()
	return peer(t, env, "haproxy", "-db", "-f", parityFile(t, "haproxy/"+conf))
}

// nginxLog is an nginx that answers as a block of its config says, and notes down every request.
type nginxLog struct {
	*testing.T
	addr, log string
}

// nginxRequest is what it notes down: which request of which connection it was, who asked as the PROXY protocol says, and
// two fields.
type nginxRequest struct{ Connection, Ordinal, Proxy, ForwardedFor, Path string }

// startNginxLog starts one with something more for its listen directive, and for its server block.
func startNginxLog(t *testing.T, listen, block string) *nginxLog {
	t.Helper()
	dir := t.TempDir()
	n := &nginxLog{T: t, log: filepath.Join(dir, "access.log")}
	conf := filepath.Join(dir, "nginx.conf")
	port := freePort(t)
	text := fmt.Sprintf(`worker_processes 1; daemon off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http { log_format seen escape=json '{"Connection":"$connection","Ordinal":"$connection_requests","Proxy":"$proxy_protocol_addr","ForwardedFor":"$http_x_forwarded_for","Path":"$request_uri"}';
 access_log %[1]s/access.log seen; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
 fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; keepalive_requests 1000000;
 server { listen 127.0.0.1:%[2]d backlog=4096 %[3]s; %[4]s
 location / { default_type text/plain; return 200 "you asked for $request_uri\n"; } } }`, dir, port, listen, block)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(need(t, "nginx"), "-e", filepath.Join(dir, "error.log"), "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	n.addr = "127.0.0.1:" + strconv.Itoa(port)
	testkit.Eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return n
}

// requests waits until it has noted down n requests since skip, and returns them.
func (n *nginxLog) requests(skip, count int) (list []nginxRequest) {
	n.Helper()
	testkit.Eventually(n.T, fmt.Sprintf("nginx has noted down %d requests", skip+count), func() bool {
		text, _ := os.ReadFile(n.log)
		list = list[:0]
		for line := range bytes.Lines(text) {
			var r nginxRequest
			if json.Unmarshal(line, &r) == nil {
				list = append(list, r)
			}
		}
		return len(list) >= skip+count
	})
	return list[skip:]
}

// connections is on how many connections the requests came.
func connections(list []nginxRequest) int {
	seen := map[string]bool{}
	for _, r := range list {
		seen[r.Connection] = true
	}
	return len(seen)
}

// origin is a backend that counts connections, and notes down what it was sent.
type origin struct {
	addr                 string
	accepted, open, most atomic.Int64
	used, requests       atomic.Int64 // connections with a request, and requests
	idle                 atomic.Int64 // nanoseconds after which it closes a connection that waits for its next request
	answer               atomic.Pointer[func(w io.Writer, r *originRequest) (stay bool)]

	mu    sync.Mutex
	heads []string
}

// originRequest is a request as it came, with its head byte for byte.
type originRequest struct {
	*http.Request
	head string
	body []byte
	nth  int // of its connection, from 1
}

const originOK = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"

// startOrigin starts one; answer may be nil, or be changed later.
func startOrigin(t *testing.T, answer func(w io.Writer, r *originRequest) (stay bool)) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: ln.Addr().String()}
	o.answers(answer)
	var conns sync.Map
	var ended atomic.Bool
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		ended.Store(true)
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			if ended.Load() { // it came with the end
				_ = c.Close()
			}
			o.accepted.Add(1)
			n := o.open.Add(1)
			for was := o.most.Load(); n > was && !o.most.CompareAndSwap(was, n); was = o.most.Load() {
			}
			wg.Go(func() {
				o.serve(c)
				o.open.Add(-1)
				_ = c.Close()
				conns.Delete(c)
			})
		}
	})
	return o
}

func (o *origin) answers(answer func(w io.Writer, r *originRequest) (stay bool)) {
	if answer == nil {
		answer = func(w io.Writer, _ *originRequest) bool {
			_, err := io.WriteString(w, originOK)
			return err == nil
		}
	}
	o.answer.Store(&answer)
}

// serve reads requests and answers them, until the connection has been idle for too long.
func (o *origin) serve(c net.Conn) {
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c, &raw))
	for nth := 1; ; nth++ {
		if idle := o.idle.Load(); idle > 0 && nth > 1 {
			_ = c.SetReadDeadline(time.Now().Add(time.Duration(idle)))
		}
		if _, err := r.Peek(1); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Time{})
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		head, _, _ := strings.Cut(raw.String(), "\r\n\r\n")
		if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		raw.Reset()
		if nth == 1 {
			o.used.Add(1)
		}
		o.requests.Add(1)
		o.mu.Lock()
		if len(o.heads) < 1000 {
			o.heads = append(o.heads, head)
		}
		o.mu.Unlock()
		if !(*o.answer.Load())(c, &originRequest{req, head, body, nth}) {
			return
		}
	}
}

// last is the head of the request that came last.
func (o *origin) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.heads) == 0 {
		return ""
	}
	return o.heads[len(o.heads)-1]
}

// caller is a client's connection.
type caller struct {
	*testing.T
	net.Conn
	r *bufio.Reader
}

func call(t *testing.T, addr string) *caller {
	t.Helper()
	c := dialed(t, addr)
	if c == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialed is call for goroutines: it returns nil if it fails, and the connection is the caller's to close.
func dialed(t *testing.T, addr string) *caller {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	return &caller{t, c, bufio.NewReader(c)}
}

// try sends what it is given and reads the answer.
func (c *caller) try(text string) (head string, body []byte, err error) {
	if _, err := io.WriteString(c.Conn, text); err != nil {
		return "", nil, err
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(c.r, &http.Request{Method: text[:strings.IndexByte(text, ' ')]})
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return "", nil, err
	}
	dump, _ := httputil.DumpResponse(resp, false)
	return string(dump), body, nil
}

// say is try of what must be answered.
func (c *caller) say(text string) (head, body string) {
	c.Helper()
	head, b, err := c.try(text)
	if err != nil {
		c.Fatal(err)
	}
	return head, string(b)
}

// ended says whether the other end has closed the connection.
func (c *caller) ended() bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := c.r.Peek(1)
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// curlConnections asks for the URL several times with one curl, and returns how many connections it took.
func curlConnections(t *testing.T, times int, args ...string) (conns int) {
	t.Helper()
	url := args[len(args)-1]
	args = append(slices.Clone(args[:len(args)-1]), "-sS", "-w", "%{num_connects} %{http_code}\n")
	for range times {
		args = append(args, "-o", "/dev/null", url)
	}
	for line := range strings.Lines(run(t, "curl", args...)) {
		n, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		if status != "200" {
			t.Fatalf("curl %s: %s", url, line)
		}
		more, _ := strconv.Atoi(n)
		conns += more
	}
	return conns
}
