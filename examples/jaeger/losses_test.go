//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
)

const (
	queueFull    = `wasmgate_telemetry_spans_dropped_total{reason="queue_full"}`
	exportFailed = `wasmgate_telemetry_spans_dropped_total{reason="export_failed"}`
	exported     = `wasmgate_telemetry_spans_exported_total`
)

// TestNoRequestNoticesWhatBecomesOfJaeger: while every request is traced, Jaeger stops to answer, goes on, is gone, and
// comes back. No request fails for it; what is lost is counted; what comes after is there again.
func TestNoRequestNoticesWhatBecomesOfJaeger(t *testing.T) {
	theJaeger(t) // it can be built
	p := freePorts(t, 4)
	ports := Ports{OTLPHTTP: p[0], OTLPGRPC: p[1], Query: p[2], QueryGRPC: p[3]}
	begin := func() *Jaeger {
		j, err := Start(context.Background(), running.path, ports)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.cmd.Process.Kill(); <-j.ended })
		return j
	}
	j := begin()
	up := startUpstream(t)
	g := runGateway(t, filepath.Join("tour", "warm.yaml"), fmt.Sprintf("SHOP=127.0.0.1:%d", up.port), "OTLP="+ports.OTLPURL())
	c := &load{T: t, Gateway: g}

	c.until("spans are exported", func() bool { return c.metric(exported) > 0 })

	sendSignal(t, j, syscall.SIGSTOP) // connections are accepted still, and nobody answers
	lost := c.metric(queueFull)
	c.until("the queue is full", func() bool { return c.metric(queueFull) > lost })

	sendSignal(t, j, syscall.SIGCONT)
	before := c.metric(exported)
	c.until("spans are exported again", func() bool { return c.metric(exported) > before })

	if err := j.Stop(); err != nil {
		t.Fatal(err)
	}
	lost = c.metric(exportFailed)
	c.until("batches are given up", func() bool { return c.metric(exportFailed) > lost })

	begin()
	before = c.metric(exported)
	c.until("spans are exported once more", func() bool { return c.metric(exported) > before })
	c.visible(ports)
	eventually(t, "every request is counted, behind its answer", func() (bool, string) {
		n := c.metric(`wasmgate_requests_total{listener="public",route="everything",upstream="shop",class="2xx"}`)
		return n == float64(c.sent), fmt.Sprintf("%v requests are counted, %d were sent", n, c.sent)
	})
	t.Logf("%d requests, all answered; %v spans exported, %v records that found no room, %v spans of batches that were given up",
		c.sent, c.metric(exported), c.metric(queueFull), c.metric(exportFailed))
}

// load sends requests, each of which must be answered.
type load struct {
	*testing.T
	*Gateway
	sent int
}

func (c *load) metric(name string) float64 {
	c.Helper()
	n, err := c.Metric(c.Context(), name)
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// until sends requests until a fact has come about.
func (c *load) until(what string, fact func() bool) {
	c.Helper()
	eventually(c.T, what, func() (bool, string) {
		for range 100 {
			c.send(nil)
		}
		return fact(), fmt.Sprintf("%d requests so far", c.sent)
	})
}

func (c *load) send(header http.Header) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.URL+"/", nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Header = header
	c.sent++
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatalf("request %d: %v", c.sent, err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || string(body) != "you asked for /" {
		c.Fatalf("request %d: status %d, %q, %v", c.sent, res.StatusCode, body, err)
	}
}

// visible sends a request whose trace must be in Jaeger.
func (c *load) visible(p Ports) {
	c.Helper()
	const trace = "5eed0000000000000000000000000001"
	eventually(c.T, "a trace of now in the Jaeger of now", func() (bool, string) {
		c.send(http.Header{"Traceparent": {"00-" + trace + "-" + clientSpan + "-01"}})
		found, err := NewAPI(p.QueryURL()).Trace(c.Context(), trace)
		if err != nil {
			c.Fatal(err)
		}
		return len(found) == 1, fmt.Sprintf("%d requests", c.sent)
	})
}

func sendSignal(t *testing.T, j *Jaeger, s syscall.Signal) {
	t.Helper()
	if err := j.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
