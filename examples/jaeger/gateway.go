package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Lines of the gateway's log that say where it listens, and that it does.
const (
	listeningLine = "listening"
	adminLine     = "admin endpoint"
	gatewayReady  = "ready"
)

// BuildGateway builds the gateway of this repository into this module's folder and returns the program's path. With nothing
// changed since the last time it only looks.
func BuildGateway(ctx context.Context) (string, error) {
	module, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(module, "wasmgate")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(module, "..", ".."), "-o", path, ".")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return path, nil
}

// Gateway is a running wasmgate.
type Gateway struct {
	URL   string // of its listener
	Admin string // base address of its admin endpoint

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone; err is then set
	err   error
	log   tail
}

// StartGateway starts wasmgate with a configuration whose ${...} env sets, and returns when it serves. It ends with ctx at
// the latest.
func StartGateway(ctx context.Context, program, file string, env ...string) (*Gateway, error) {
	g := &Gateway{ended: make(chan struct{})}
	g.cmd = exec.CommandContext(ctx, program, "run", "-c", file)
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(os.Interrupt) }
	g.cmd.WaitDelay = stopTimeout
	ready := make(chan struct{})
	isReady := ready
	w := &lineWriter{line: func(s string) {
		g.log.add(s)
		var said struct{ Message, Address string }
		if json.Unmarshal([]byte(s), &said) != nil {
			return // a line of the access log, or none in JSON
		}
		switch {
		case said.Message == listeningLine:
			g.URL = "http://" + said.Address
		case strings.HasPrefix(said.Message, adminLine):
			g.Admin = "http://" + said.Address
		case said.Message == gatewayReady && ready != nil:
			close(ready)
			ready = nil
		}
	}}
	g.cmd.Stdout, g.cmd.Stderr = w, w // the same writer twice: os/exec then writes from one goroutine
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the gateway: %w", err)
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.ended)
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-isReady:
		return g, nil
	case <-g.ended:
		return nil, g.failure("did not start")
	case <-timer.C:
		_ = g.Stop()
		return nil, g.failure(fmt.Sprintf("was not ready after %s", startTimeout))
	}
}

// Stop asks the gateway to end, as a service manager does, and returns when it has.
func (g *Gateway) Stop() error {
	if err := g.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = g.cmd.Process.Kill() // a system that cannot signal
	}
	select {
	case <-g.ended:
	case <-time.After(stopTimeout):
		_ = g.cmd.Process.Kill()
		<-g.ended
	}
	return g.err
}

func (g *Gateway) failure(what string) error {
	return fmt.Errorf("the gateway %s (%v); the end of its log:\n%s", what, g.err, &g.log)
}

// Metric returns a metric of the gateway, named with all of its labels as /metrics writes them; 0 if it is not there.
func (g *Gateway) Metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("the gateway's metrics: %w", err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	if err != nil || res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the gateway's metrics: status %d, %w", res.StatusCode, err)
	}
	for line := range bytes.Lines(page) {
		if value, found := strings.CutPrefix(strings.TrimSpace(string(line)), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}
