package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// collectorCommand PORT starts this program as what traces are sent to.
const collectorCommand = "trace-collector"

// collect takes what comes over OTLP/HTTP and drops it: the candidate, and not a collector on the load's CPU, is what is
// measured.
func collect(ctx context.Context, port string) error {
	s := http.Server{
		Addr: "127.0.0.1:" + port, ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/x-protobuf") // an answer without fields has no bytes
		}),
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startCollector starts the collector that candidates send traces to, unless there is one, or none does. The process is
// nil then, which may be stopped.
func (b *bench) startCollector() (*process, error) {
	b.s.collector = b.o.collector
	wanted := false
	for _, c := range b.chosen {
		wanted = wanted || c.sample != ""
	}
	if !wanted || b.s.collector != "" {
		return nil, nil
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b.s.collector = "http://" + address(ports[0])
	p, err := start(b.load, []string{self, collectorCommand, strconv.Itoa(ports[0])}, filepath.Join(b.s.dir, "collector.log"))
	if err != nil {
		return nil, err
	}
	if err := p.listening(ports[0]); err != nil {
		p.stop()
		return nil, fmt.Errorf("the collector: %w", err)
	}
	return p, nil
}

// told is what became of a candidate's telemetry.
type told struct{ spans, spansLost, linesLost float64 }

// toldOf asks a candidate that tells of its requests. Every loss is to be counted: the counters are the candidate's.
func toldOf(ctx context.Context, c *candidate, admin int) (told, error) {
	if c.sample == "" && (!c.log || !strings.HasPrefix(c.name, "wasmgate")) {
		return told{}, nil
	}
	text, err := (&setup{}).get(ctx, c, admin, "/metrics")
	if err != nil {
		return told{}, err
	}
	return told{
		spans: sum(text, "wasmgate_telemetry_spans_exported_total"), spansLost: sum(text, "wasmgate_telemetry_spans_dropped_total"),
		linesLost: sum(text, "wasmgate_telemetry_log_lines_dropped_total"),
	}, nil
}

// sum adds up the samples of a metric in Prometheus' text format.
func sum(text, name string) (total float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64); err == nil {
			total += v
		}
	}
	return total
}

// losses says what came of a candidate's telemetry over all rounds.
func (r *row) losses() []string {
	var all told
	for i := range r.rounds {
		all.spans += r.rounds[i].told.spans
		all.spansLost += r.rounds[i].told.spansLost
		all.linesLost += r.rounds[i].told.linesLost
	}
	if all == (told{}) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %.0f spans sent, %.0f spans or records of them lost, %.0f lines of the access log lost", r.name, all.spans, all.spansLost, all.linesLost)}
}
