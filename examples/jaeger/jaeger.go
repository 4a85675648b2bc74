package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	thisModule    = "wasmgate/examples/jaeger"
	jaegerPackage = "github.com/jaegertracing/jaeger/cmd/jaeger"

	// What Jaeger logs once every listener is open and the pipeline runs.
	readyLine = "Everything is ready"
	// How long Jaeger may take to start, and to end after it was asked to.
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
	// How much of the log is kept to explain a failure, in lines.
	logKept = 40
)

//go:embed jaeger.yaml
var jaegerConfig string

// Ports are where Jaeger listens, on 127.0.0.1.
type Ports struct{ OTLPHTTP, OTLPGRPC, Query, QueryGRPC int }

// DefaultPorts are the ports that everything speaking OTLP or Jaeger expects.
var DefaultPorts = Ports{OTLPHTTP: 4318, OTLPGRPC: 4317, Query: 16686, QueryGRPC: 16685}

// QueryURL is the base address of the query API.
func (p Ports) QueryURL() string { return "http://127.0.0.1:" + strconv.Itoa(p.Query) }

// OTLPURL is the base address for OTLP over HTTP.
func (p Ports) OTLPURL() string { return "http://127.0.0.1:" + strconv.Itoa(p.OTLPHTTP) }

func (p Ports) env() []string {
	set := func(name string, port int) string { return name + "=" + strconv.Itoa(port) }
	return []string{
		set("JAEGER_OTLP_HTTP_PORT", p.OTLPHTTP), set("JAEGER_OTLP_GRPC_PORT", p.OTLPGRPC),
		set("JAEGER_QUERY_PORT", p.Query), set("JAEGER_QUERY_GRPC_PORT", p.QueryGRPC),
	}
}

// Build builds Jaeger into this module's folder and returns the program's path. The first time takes minutes; later
// ones find everything in Go's build cache. Checksums are verified as for every Go module.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "jaeger")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	args := []string{"go", "build", "-v", "-trimpath", "-o", path, jaegerPackage}
	if nice, err := exec.LookPath("nice"); err == nil {
		args = append([]string{nice}, args...) // minutes of all CPUs: let everything else go first
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	fmt.Fprintln(progress, "building Jaeger; the first time takes minutes")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("starting go build: %w", err)
	}
	last := countPackages(stderr, progress)
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("building Jaeger: %w\n%s", err, last)
	}
	fmt.Fprintf(progress, "built Jaeger in %s\n", time.Since(began).Round(100*time.Millisecond))
	return path, nil
}

// countPackages reads what go build -v says, a package a line, and shows how far it is. It returns the last lines.
func countPackages(r io.Reader, progress io.Writer) string {
	var last tail
	n := 0
	for s := bufio.NewScanner(r); s.Scan(); {
		last.add(s.Text())
		if n++; n%200 == 0 {
			fmt.Fprintf(progress, "  %d packages\n", n)
		}
	}
	return last.String()
}

// moduleDir finds this module's folder, which holds the go.mod that says what Jaeger is built from.
func moduleDir(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module of the current folder: %w", err)
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
	if path != thisModule {
		return "", fmt.Errorf("the current folder is of module %q: use go run -C examples/jaeger", path)
	}
	return dir, nil
}

// Jaeger is a running Jaeger.
type Jaeger struct {
	Ports Ports

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone; err is then set
	err   error
	log   tail
}

// Start starts the Jaeger program at path and returns when it takes spans and answers queries. It ends with ctx at the
// latest.
func Start(ctx context.Context, path string, p Ports) (*Jaeger, error) {
	j := &Jaeger{Ports: p, ended: make(chan struct{})}
	j.cmd = exec.CommandContext(ctx, path, "--config", "yaml:"+jaegerConfig)
	j.cmd.Env = append(os.Environ(), p.env()...)
	j.cmd.Cancel = func() error { return j.cmd.Process.Signal(os.Interrupt) }
	j.cmd.WaitDelay = stopTimeout
	ready := make(chan struct{})
	watch := &lineWriter{line: func(s string) {
		j.log.add(s)
		if ready != nil && strings.Contains(s, readyLine) {
			close(ready)
			ready = nil
		}
	}}
	j.cmd.Stdout, j.cmd.Stderr = watch, watch // the same writer twice: os/exec then writes from one goroutine
	isReady := ready
	if err := j.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting Jaeger: %w", err)
	}
	go func() {
		j.err = j.cmd.Wait()
		close(j.ended)
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-isReady:
		return j, nil
	case <-j.ended:
		return nil, j.failure("did not start")
	case <-timer.C:
		_ = j.Stop()
		return nil, j.failure(fmt.Sprintf("was not ready after %s", startTimeout))
	}
}

// Wait keeps Jaeger running until ctx ends, then stops it. That it ended by itself is an error.
func (j *Jaeger) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return j.Stop()
	case <-j.ended:
		return j.failure("ended by itself")
	}
}

// Stop asks Jaeger to end, and ends it if it does not. It returns when the process is gone.
func (j *Jaeger) Stop() error {
	if err := j.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = j.cmd.Process.Kill() // a system that cannot signal
	}
	select {
	case <-j.ended:
	case <-time.After(stopTimeout):
		_ = j.cmd.Process.Kill()
		<-j.ended
	}
	return nil
}

func (j *Jaeger) failure(what string) error {
	return fmt.Errorf("Jaeger %s (%v); the end of its log:\n%s", what, j.err, &j.log)
}

// tail keeps the last lines of a log. Its methods may be called from any goroutine.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == logKept {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// lineWriter calls line for each line written to it.
type lineWriter struct {
	line func(string)
	rest []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.line(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
}
