package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// ips are the addresses of backends as DNS gives them.
func ips(list []*backend) (all []string) {
	for _, b := range list {
		all = append(all, b.ip())
	}
	return all
}

// darken has a backend go dark as a machine does that is taken away: nothing is closed, and nothing is answered.
// Connections that are open stay silent. Whoever connects gets no answer to that either: nobody accepts, and the queue
// of those who wait to be accepted is full, so the kernel drops what asks for more. A machine that is really gone would
// not acknowledge the bytes either, which loopback cannot be told to do without changing the machine's routes; it makes
// no difference until the sockets' own timers end, minutes later.
func darken(t *testing.T, b *backend) {
	t.Helper()
	if runtime.GOOS != "linux" {
		missing(t, "Linux: its way to treat connections that nobody accepts")
	}
	watched := b.serve.Load()
	b.does(func(a *asked) reply {
		if watched != nil {
			(*watched)(a)
		}
		return reply{hang: true}
	})
	b.mu.Lock()
	ln := b.ln.(*net.TCPListener)
	b.mu.Unlock()
	_ = ln.SetDeadline(time.Unix(1, 0)) // ends the loop that accepts, and closes nothing
	plug(t, ln)
}

// plug fills the queue of a listener that nobody accepts from, until the kernel answers no more.
func plug(t *testing.T, ln *net.TCPListener) {
	t.Helper()
	raw, err := ln.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), 0) })
	}
	if err != nil {
		t.Fatal(err)
	}
	unanswered := 0
	for range 8 { // one or two fit
		c, err := net.DialTimeout("tcp", ln.Addr().String(), 50*time.Millisecond)
		if err == nil {
			unanswered = 0
			t.Cleanup(func() { _ = c.Close() })
		} else if unanswered++; unanswered == 2 { // one may have been answered too late for a machine that is busy
			return
		}
	}
	t.Fatalf("%s still answers", ln.Addr())
}

// arrivals remembers when requests arrived at backends.
type arrivals struct {
	mu sync.Mutex
	at map[*backend][]time.Time
}

// watch has the backends answer as usual, and note when they are asked.
func watch(list []*backend) *arrivals {
	a := &arrivals{at: map[*backend][]time.Time{}}
	for _, b := range list {
		b.does(func(*asked) reply {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.at[b] = append(a.at[b], time.Now())
			return reply{}
		})
	}
	return a
}

// last is when the last request arrived at one of the backends.
func (a *arrivals) last(list ...*backend) (t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range list {
		for _, at := range a.at[b] {
			if at.After(t) {
				t = at
			}
		}
	}
	return t
}

// flow is load that goes on steadily: each client sends a GET, and the next one a moment after the answer.
type flow struct {
	requests, failed atomic.Int64
	slowest          atomic.Int64 // of the answers, in nanoseconds
	first            atomic.Pointer[string]
	done             chan struct{}
	once             sync.Once
	clients          sync.WaitGroup
}

// flowing starts clients that ask for / with this Host field.
func flowing(t *testing.T, addr, host string, clients int, pause time.Duration) *flow {
	f := &flow{done: make(chan struct{})}
	t.Cleanup(f.stop)
	for range clients {
		f.clients.Go(func() { f.client(addr, host, pause) })
	}
	return f
}

func (f *flow) client(addr, host string, pause time.Duration) {
	var c net.Conn
	var r *bufio.Reader
	for {
		select {
		case <-f.done:
			if c != nil {
				_ = c.Close()
			}
			return
		case <-time.After(pause):
		}
		if c == nil {
			var err error
			if c, err = net.Dial("tcp", addr); err != nil {
				f.fail(err.Error())
				c = nil
				continue
			}
			r = bufio.NewReader(c)
		}
		begun := time.Now()
		f.requests.Add(1)
		what, keep := ask(c, r, host)
		raise(&f.slowest, int64(time.Since(begun)))
		if what != "" {
			f.fail(what)
		}
		if !keep {
			_ = c.Close()
			c = nil
		}
	}
}

// ask sends one request; what is empty if it is answered with 200.
func ask(c net.Conn, r *bufio.Reader, host string) (what string, keep bool) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err.Error(), false
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err.Error(), false
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), false
	}
	if resp.StatusCode != 200 {
		what = resp.Status + " " + string(body)
	}
	return what, !resp.Close
}

func (f *flow) fail(what string) {
	f.failed.Add(1)
	f.first.CompareAndSwap(nil, &what)
}

// stop ends the load. A second call does nothing.
func (f *flow) stop() {
	f.once.Do(func() { close(f.done) })
	f.clients.Wait()
}

// String says how it went.
func (f *flow) String() string {
	s := fmt.Sprintf("%d of %d requests failed, the slowest answer took %v", f.failed.Load(), f.requests.Load(), time.Duration(f.slowest.Load()).Round(time.Millisecond))
	if first := f.first.Load(); first != nil {
		line, _, _ := strings.Cut(*first, "\n")
		s += "; the first failure: " + line
	}
	return s
}

// pass waits until so many more requests have been answered.
func (f *flow) pass(t *testing.T, more int64) {
	t.Helper()
	until := f.requests.Load() + more
	testkit.Eventually(t, "requests are answered", func() bool {
		time.Sleep(time.Millisecond) // leave the processor to them
		return f.requests.Load() >= until
	})
}

// namespaced is a command that has these files in the places of the machine's own, in namespaces for users and mounts:
// the machine does not see it, and no privilege is needed. With asUser it does not believe to be root.
func namespaced(t *testing.T, files map[string]string, asUser bool, command ...string) *exec.Cmd {
	t.Helper()
	unshare := need(t, "unshare")
	script, args := "", []string{}
	places := make([]string, 0, len(files))
	for place := range files {
		places = append(places, place)
	}
	slices.Sort(places)
	for _, place := range places {
		script += `mount --bind "$1" "$2" && shift 2 && `
		args = append(args, files[place], place)
	}
	outer := []string{"--user", "--map-root-user", "--mount", "sh", "-c", script + `exec "$@"`, "sh"}
	if out, err := exec.Command(unshare, slices.Concat(outer, args, []string{"true"})...).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("namespaces for users and mounts (unshare --user --mount), in which the system's resolver has files that the test writes in the places of /etc/hosts and /etc/resolv.conf: %v %s", err, out))
	}
	if asUser {
		args = append(args, unshare, "--user", "--map-user=1000", "--map-group=1000", "--")
	}
	return exec.Command(unshare, slices.Concat(outer, args, command)...)
}

// apache is a real Apache with one of the configs of examples/parity/apache.
type apache struct {
	addr string
	log  string // file
}

// startApache starts one whose resolver asks the name server at this address, port 53.
func startApache(t *testing.T, conf, server, backend, parameters string) *apache {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	conf, err := filepath.Abs(filepath.Join("../../examples/parity/apache", conf))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	cmd := namespaced(t, map[string]string{"/etc/resolv.conf": file("resolv.conf", "nameserver "+server+"\n")}, true,
		need(t, "apache2"), "-f", conf, "-DFOREGROUND")
	cmd.Env = append(os.Environ(), "RUN="+dir, fmt.Sprint("PORT=", port), "BACKEND="+backend, "PARAMETERS="+parameters)
	output := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	a := &apache{addr: fmt.Sprintf("127.0.0.1:%d", port), log: filepath.Join(dir, "error.log")}
	testkit.Eventually(t, "apache listens", func() bool {
		c, err := net.Dial("tcp", a.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return a
}

// errors are the lines of its log about backends that it could not reach.
func (a *apache) errors() (lines []string) {
	text, _ := os.ReadFile(a.log)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "proxy") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// startText starts a gateway with this config and nothing else.
func startText(t *testing.T, text string) *gate {
	t.Helper()
	c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	log := &testkit.Buffer{}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return &gate{t, g, g.Addr("test"), log}
}
