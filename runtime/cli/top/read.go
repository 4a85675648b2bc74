package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wasmgate/runtime/admin"
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
type source struct {
	base, shown, token string
	client             *http.Client
}

func newSource(o Options) *source {
	s := &source{base: strings.TrimSuffix(o.Admin, "/"), shown: o.Admin, token: o.Token, client: o.Client}
	if !strings.Contains(s.base, "://") {
		s.base = "http://" + s.base
	}
	if s.client == nil {
		s.client = &http.Client{Timeout: 5 * time.Second}
	}
	return s
}

// read asks for everything that there is to show, and for the parts that are wanted.
func (s *source) read(ctx context.Context, parts part) (*reading, error) {
	r := &reading{answers: map[string]sum{}, failures: map[string]float64{}, lag: map[int]float64{}}
	for path, into := range map[string]any{"/version": &r.process, "/upstreams": &r.upstreams, "/plugins": &r.plugins, "/connections?limit=10000": &r.connections} {
		if strings.HasPrefix(path, "/connections") && parts&ofConnections == 0 {
			continue
		}
		if err := s.get(ctx, path, func(body io.Reader) error { return json.NewDecoder(body).Decode(into) }); err != nil {
			return nil, err
		}
	}
	if err := s.get(ctx, "/metrics", r.metrics); err != nil {
		return nil, err
	}
	r.at = time.Now()
	return r, nil
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

func (s *source) get(ctx context.Context, path string, read func(io.Reader) error) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("--admin %s is no address: %w", s.shown, err)
	}
	if s.token != "" {
		q.Header.Set("Authorization", "Bearer "+s.token)
	}
	a, err := s.client.Do(q)
	if err != nil {
		return fmt.Errorf("the admin endpoint at %s cannot be reached: %w; is the gateway running, and is this its admin.address?", s.shown, errors.Unwrap(err))
	}
	defer a.Body.Close()
	body := io.LimitReader(a.Body, maxAnswer)
	switch {
	case a.StatusCode == http.StatusUnauthorized && s.token == "":
		return fmt.Errorf("the gateway at %s wants a token: give the file that has one with --token-file", s.shown)
	case a.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the gateway at %s does not accept the token", s.shown)
	case a.StatusCode != http.StatusOK:
		said, _ := io.ReadAll(io.LimitReader(body, 500))
		return fmt.Errorf("GET %s of the gateway at %s: %s: %s", path, s.shown, a.Status, printable(strings.TrimSpace(string(said))))
	}
	if err := read(body); err != nil {
		return fmt.Errorf("what %s answers to GET %s is not a gateway's: %w", s.shown, path, err)
	}
	return nil
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
