package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	thisModule    = "wasmgate/examples/jaeger"
	jaegerPackage = "github.com/jaegertracing/jaeger/cmd/jaeger"

	// What Jaeger logs once every listener is open and the pipeline runs.
	readyLine = "Everything is ready"
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
	*process
	Ports Ports
}

// Start starts the Jaeger program at path and returns when it takes spans and answers queries. It ends with ctx at the
// latest.
func Start(ctx context.Context, path string, p Ports) (*Jaeger, error) {
	run, err := startProcess(ctx, "Jaeger", []string{path, "--config", "yaml:" + jaegerConfig}, p.env(), func(line string) bool {
		return strings.Contains(line, readyLine)
	})
	if err != nil {
		return nil, err
	}
	return &Jaeger{run, p}, nil
}

// BuildAndStart starts a Jaeger that is built first.
func BuildAndStart(ctx context.Context, p Ports, progress io.Writer) (*Jaeger, error) {
	path, err := Build(ctx, progress)
	if err != nil {
		return nil, err
	}
	return Start(ctx, path, p)
}
