package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// bench is one comparison: what is to be measured, and what came out.
type bench struct {
	o       *options
	s       *setup
	out     io.Writer // progress
	cpus    string    // of the candidates
	load    string    // of the backend and wrk
	chosen  []*candidate
	rows    []row
	missing []string // candidates left out, and why
	bad     []string // candidates whose figures are not a result, and why
}

// prepare finds out what can be measured and builds wasmgate. Close what it returns.
func prepare(ctx context.Context, o *options, progress io.Writer) (*bench, error) {
	generator := "wrk"
	if o.http2 {
		generator = "h2load"
	}
	if m := tools("nginx", generator, "taskset")(nil); m != "" {
		return nil, fmt.Errorf("missing: %s (nginx is the backend, %s the load, taskset binds them to CPUs)", m, generator)
	}
	if n := runtime.NumCPU(); n < 2 {
		return nil, errors.New("missing: a second CPU, for the backend and the load")
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wasmgate-benchmark-")
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, out: progress, s: &setup{dir: dir, root: root, workers: o.workers(), http2: o.http2, tls: o.tls, http3: o.http3}}
	b.cpus, b.load = o.cpus(runtime.NumCPU())
	if o.tls {
		if err := b.s.issue(); err != nil {
			b.close()
			return nil, err
		}
	}
	if err := b.choose(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// moduleRoot finds the sources of wasmgate, from a current folder within them.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "wasmgate").Output()
	if err != nil {
		return "", fmt.Errorf("the current folder is not in the sources of wasmgate: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *bench) choose(ctx context.Context) error {
	// Workers of peers may run as another user.
	if err := os.Chmod(b.s.dir, 0o755); err != nil {
		return err
	}
	var err error
	if b.s.plugin, err = filepath.Abs(first(b.o.plugin, filepath.Join(b.s.root, pluginModule))); err != nil {
		return err
	}
	if b.o.binary != "" {
		if b.s.binary, err = filepath.Abs(b.o.binary); err != nil {
			return err
		}
	}
	names := b.o.names
	switch {
	case len(names) > 0:
	case b.o.bulk:
		names = bulkNames()
	default:
		names = requestNames()
	}
	for _, name := range names {
		c, ok := find(name)
		if !ok {
			return fmt.Errorf("no candidate %q", name)
		}
		if m := c.missing(b.s); m != "" {
			b.missing = append(b.missing, fmt.Sprintf("%s left out, missing: %s", name, m))
			fmt.Fprintln(b.out, b.missing[len(b.missing)-1])
			continue
		}
		if strings.HasPrefix(name, "wasmgate") {
			if err := b.s.build(ctx); err != nil {
				return err
			}
		}
		b.chosen = append(b.chosen, c)
		b.rows = append(b.rows, row{name: c.name, about: c.about})
	}
	if len(b.chosen) == 0 {
		return errors.New("no candidate is left")
	}
	return nil
}

func (b *bench) close() { _ = os.RemoveAll(b.s.dir) }

// run measures every candidate in turn, round after round, so that whatever else happens on the machine happens to all.
func (b *bench) run(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	b.s.backend = ports[0]
	backend, err := b.startBackend()
	if err != nil {
		return err
	}
	defer backend.stop()
	collector, err := b.startCollector()
	if err != nil {
		return err
	}
	defer collector.stop()
	for round := range b.o.rounds {
		for i, c := range b.chosen {
			s := b.measureOne(ctx, c)
			if err := ctx.Err(); err != nil {
				return err
			}
			b.rows[i].rounds = append(b.rows[i].rounds, s)
			fmt.Fprintf(b.out, "round %d %s: %s\n", round+1, c.name, b.figures(s))
		}
	}
	for i := range b.rows {
		if p := b.rows[i].problem(); p != "" {
			b.bad = append(b.bad, fmt.Sprintf("NOT A RESULT: %s, %s", b.rows[i].name, p))
		}
	}
	return nil
}

func (b *bench) measureOne(ctx context.Context, c *candidate) sample {
	if b.o.bulk {
		return b.measureBulk(ctx, c)
	}
	return b.measure(ctx, c)
}

// figures is a sample in a line.
func (b *bench) figures(s sample) string {
	switch {
	case s.problem != "":
		return "NOT A RESULT: " + s.problem
	case b.o.bulk:
		return fmt.Sprintf("%.0f MiB/s, %.0f ms CPU/GiB", s.perSec, s.cpu)
	}
	return fmt.Sprintf("%.2f µs/request, %.0f requests/s, p99 %s ms", s.cpu, s.perSec, number(s.p99, 2))
}

// startBackend starts what candidates lead to.
func (b *bench) startBackend() (*process, error) {
	if b.o.bulk {
		return b.startSource()
	}
	config, err := b.s.render("backend.conf", "backend.conf", b.s.fields(nil, 0, 0))
	if err != nil {
		return nil, err
	}
	backend, err := start(b.load, nginxCommand(b.s, config), filepath.Join(b.s.dir, "backend.log"))
	if err != nil {
		return nil, err
	}
	if err := backend.listening(b.s.backend); err != nil {
		backend.stop()
		return nil, fmt.Errorf("the backend: %w", err)
	}
	return backend, nil
}

// started starts a candidate, alone; ports are what it listens on for clients, and for operators if it does.
func (b *bench) started(c *candidate) (p *process, ports []int, err error) {
	if ports, err = freePorts(2); err != nil {
		return nil, nil, err
	}
	command, err := b.s.prepare(c, ports[0], ports[1])
	if err != nil {
		return nil, nil, err
	}
	if p, err = start(b.cpus, command, filepath.Join(b.s.dir, c.name+".log")); err != nil {
		return nil, nil, err
	}
	if err := p.listening(ports[0]); err != nil {
		p.stop()
		return nil, nil, err
	}
	return p, ports, nil
}

// failed is a sample that is no result.
func failed(err error) sample { return sample{problem: err.Error()} }

// measure starts a candidate, sends it requests and stops it.
func (b *bench) measure(ctx context.Context, c *candidate) sample {
	p, ports, err := b.started(c)
	if err != nil {
		return failed(err)
	}
	port := ports[0]
	defer p.stop()
	if err := b.s.probe(ctx, c, port, b.o.path); err != nil {
		return failed(err)
	}
	send := runWrk
	switch {
	case b.o.handshakes != "":
		send = runShakes
	case b.o.http2:
		send = runH2load
	case b.o.http3 && !c.http1:
		send = runHTTP3
	}
	if _, err := send(ctx, b.load, b.o, port, time.Second); err != nil { // connections open, caches warm
		return failed(err)
	}
	before, err1 := p.cpu()
	l, err2 := send(ctx, b.load, b.o, port, b.o.duration())
	after, err3 := p.cpu()
	if err := errors.Join(err1, err2, err3); err != nil {
		return failed(err)
	}
	if l.bad != "" {
		return failed(errors.New(l.bad))
	}
	told, err := toldOf(ctx, c, ports[1])
	if err != nil {
		return failed(err)
	}
	return sample{
		told: told, ok: true, cpu: float64((after - before).Microseconds()) / float64(l.requests), perSec: l.perSec,
		p50: milliseconds(l.p50), p99: milliseconds(l.p99), memory: float64(p.memory()) / (1 << 20),
	}
}

func milliseconds(d time.Duration) float64 {
	if d == unknown {
		return math.NaN()
	}
	return float64(d) / float64(time.Millisecond)
}

// probe sees that a candidate does the work at all: that it gives the backend's answer, and that one which shall decide
// about requests has told the backend what it decided.
func (s *setup) probe(ctx context.Context, c *candidate, port int, path string) error {
	body, err := s.get(ctx, c, port, path)
	if err != nil {
		return err
	}
	if body != answerBody {
		return fmt.Errorf("the answer has %d bytes and is not the backend's, which has %d", len(body), len(answerBody))
	}
	if !c.scripts {
		return nil
	}
	const want = "tenant-router " + tenant
	if body, err = s.get(ctx, c, port, probePath); err == nil && body != want {
		err = fmt.Errorf("it does not decide: the backend saw x-routed-by and x-tenant-id as %q, not %q", body, want)
	}
	return err
}

func (s *setup) get(ctx context.Context, c *candidate, port int, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin(s.tls, port)+path, nil)
	if err != nil {
		return "", err
	}
	for _, h := range requestHeaders {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!s.http2)
	protocols.SetUnencryptedHTTP2(s.http2 && !s.tls)
	protocols.SetHTTP2(s.http2 && s.tls)
	client := http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true, Protocols: protocols, TLSClientConfig: clientTLS()}}
	if s.http3 && !c.http1 {
		transport := newHTTP3()
		defer transport.Close()
		client.Transport = transport
	}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", path, res.StatusCode)
	}
	return string(body), err
}

// report is the Markdown text: what was measured with what, and the table.
func (b *bench) report() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s: %s of %d s, %d connections, %s on CPU %s; backend and wrk on CPU %s.\n",
		time.Now().Format(time.DateOnly), plural(b.o.rounds, "round"), b.o.seconds, b.o.connections, plural(b.s.workers, "worker"), b.cpus, b.load)
	fmt.Fprintf(&t, "%s\n\n", strings.Join(b.environment(), "; "))
	if b.o.bulk {
		t.WriteString(bulkTable(b.rows))
	} else {
		t.WriteString(table(b.rows, strings.Split(b.o.against, ",")))
	}
	notes := append(b.bad, b.missing...)
	for i := range b.rows {
		notes = append(notes, b.rows[i].losses()...)
	}
	if len(notes) > 0 {
		fmt.Fprintf(&t, "\n- %s\n", strings.Join(notes, "\n- "))
	}
	return t.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// environment names the machine and the versions of what ran on it.
func (b *bench) environment() []string {
	env := []string{cpuModel(), firstLine("uname", "-sr"), runtime.Version()}
	seen := map[string]bool{}
	for _, v := range append([][]string{{"nginx", "-v"}, {"wrk", "-v"}}, b.versions()...) {
		if line := firstLine(v...); line != "" && !seen[line] {
			seen[line] = true
			env = append(env, line)
		}
	}
	return env
}

func (b *bench) versions() [][]string {
	var commands [][]string
	for _, c := range b.chosen {
		switch {
		case c.version != nil:
			commands = append(commands, c.version)
		case b.o.binary != "":
			commands = append(commands, []string{b.s.binary, "version"})
		default:
			commands = append(commands, []string{"git", "-C", b.s.root, "log", "-1", "--format=wasmgate at commit %h"})
		}
	}
	return commands
}

func firstLine(command ...string) string {
	out, _ := exec.Command(command[0], command[1:]...).CombinedOutput() // wrk -v ends with 1
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, " Copyright")
	return strings.TrimSpace(strings.TrimPrefix(line, "Server version: "))
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
