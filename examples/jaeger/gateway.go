package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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
	*process
	URL   string // of its listener
	Admin string // base address of its admin endpoint
}

// StartGateway starts wasmgate with a configuration whose ${...} env sets, and returns when it serves. It ends with ctx at
// the latest.
func StartGateway(ctx context.Context, program, file string, env ...string) (*Gateway, error) {
	g := &Gateway{}
	run, err := startProcess(ctx, "the gateway", []string{program, "run", "-c", file}, env, func(line string) bool {
		var said struct{ Message, Address string }
		if json.Unmarshal([]byte(line), &said) != nil {
			return false
		}
		switch {
		case said.Message == listeningLine:
			g.URL = "http://" + said.Address
		case strings.HasPrefix(said.Message, adminLine):
			g.Admin = "http://" + said.Address
		}
		return said.Message == gatewayReady
	})
	if err != nil {
		return nil, err
	}
	g.process = run
	return g, nil
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
