package top

import (
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/cli/ask"
)

// part is a part of a reading, which need not be read where nobody looks at it.
type part int

const (
	ofConnections part = 1 << iota
	all           part = ofConnections
)

// reading is what the gateway said at one time.
type reading struct {
	at          time.Time
	process     admin.Process
	upstreams   []admin.Upstream
	plugins     []admin.Plugin
	connections admin.Connections
	answers     map[string]sum     // by upstream: times to the first byte of answers
	failures    map[string]float64 // by upstream: attempts that failed
	lag         map[int]float64    // by loop: its longest turn of late, in seconds
}

// sum is how much there was of something in all, and how often.
type sum struct{ value, count float64 }

// source is where readings come from.
type source struct{ ask.Endpoint }

// read asks for everything that there is to show, and for the parts that are wanted.
func (s *source) read(ctx context.Context, parts part) (*reading, error) {
	r := &reading{answers: map[string]sum{}, failures: map[string]float64{}, lag: map[int]float64{}}
	for path, into := range map[string]any{"/version": &r.process, "/upstreams": &r.upstreams, "/plugins": &r.plugins, "/connections?limit=10000": &r.connections} {
		if strings.HasPrefix(path, "/connections") && parts&ofConnections == 0 {
			continue
		}
		if err := s.Get(ctx, path, func(body io.Reader) error { return json.NewDecoder(body).Decode(into) }); err != nil {
			return nil, err
		}
	}
	if err := s.Get(ctx, "/metrics", r.metrics); err != nil {
		return nil, err
	}
	r.at = time.Now()
	return r, nil
}

// metrics takes what the API does not say from the metrics.
func (r *reading) metrics(body io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return err
	}
	for _, m := range families["wasmgate_upstream_first_byte_seconds"].GetMetric() {
		name, was := label(m, "upstream"), sum{}
		was.value, was.count = m.GetHistogram().GetSampleSum(), float64(m.GetHistogram().GetSampleCount())
		r.answers[name] = was
	}
	for _, m := range families["wasmgate_upstream_errors_total"].GetMetric() {
		r.failures[label(m, "upstream")] += m.GetCounter().GetValue()
	}
	for _, m := range families["wasmgate_loop_worst_turn_seconds"].GetMetric() {
		if n, err := strconv.Atoi(label(m, "loop")); err == nil {
			r.lag[n] = m.GetGauge().GetValue()
		}
	}
	return nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
