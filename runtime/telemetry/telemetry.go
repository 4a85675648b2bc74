package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/sdk/instrumentation"
)

// Options are what New needs.
type Options struct {
	Loops     int // how many event loops there are; each gets a Recorder
	Build     Build
	Traces    Traces
	AccessLog AccessLog
	Log       zerolog.Logger      // for what telemetry itself has to say: a collector that is away, a disk that is full
	Env       func(string) string // the process' environment, for the OTEL_* variables; nil: none is set
	Sources   []func(*Live)       // asked at each collection of metrics, by any goroutine, several at once
}

// Traces says where spans go. They are on if Endpoint is set here or in OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT, unless
// OTEL_SDK_DISABLED is true or OTEL_TRACES_EXPORTER is none.
type Traces struct {
	Endpoint    string            // a URL; https means TLS; without a path /v1/traces is used for HTTP
	Protocol    string            // ProtocolHTTP or ProtocolGRPC; empty: what OTEL_EXPORTER_OTLP_(TRACES_)PROTOCOL says, else HTTP
	Headers     map[string]string // sent with each export
	Sample      *float64          // the share of requests without a caller's decision that is traced, 0 to 1; nil: OTEL_TRACES_SAMPLER, else 1
	ServiceName string            // empty: OTEL_SERVICE_NAME, else "wasmgate"
	Segment     time.Duration     // how often a connection in use is told of while it lives; 0: 30 s
}

// AccessLog says where a line for each request goes.
type AccessLog struct {
	Output string    // "stdout", "stderr", or a file that is appended to; empty: there is no access log
	Writer io.Writer // instead of Output
	Query  bool      // log the query too: it may hold what should not be kept
}

// defaultSegment is how often a connection in use is told of while it lives.
const defaultSegment = 30 * time.Second

// Telemetry is where all loops' facts go. It outlives configurations.
type Telemetry struct {
	recorders []*Recorder
	export    *exporter   // nil: traces are off
	lines     *lineWriter // nil: there is no access log
	sources   []func(*Live)
	build     Build
	sampler   sampler
	segment   int64 // nanoseconds
	query     bool
	members   memberChanges
	ended     atomic.Bool
}

// New starts telemetry. Shutdown ends it.
func New(o Options) (*Telemetry, error) {
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	t := &Telemetry{sources: o.Sources, build: o.Build, query: o.AccessLog.Query, segment: int64(o.Traces.Segment)}
	if t.segment <= 0 {
		t.segment = int64(defaultSegment)
	}
	if err := t.openTraces(&o); err != nil {
		return nil, err
	}
	if err := t.openAccessLog(&o); err != nil {
		if t.export != nil {
			_ = t.export.end(context.Background()) // the error that is returned came first
		}
		return nil, err
	}
	for range o.Loops {
		t.recorders = append(t.recorders, newRecorder(t))
	}
	if t.export != nil {
		go t.export.run()
	}
	if t.lines != nil {
		go t.lines.run()
	}
	return t, nil
}

func (t *Telemetry) openTraces(o *Options) (err error) {
	traces := o.Traces
	switch {
	case strings.EqualFold(o.Env("OTEL_SDK_DISABLED"), "true"), o.Env("OTEL_TRACES_EXPORTER") == "none",
		traces.Endpoint == "" && otlp(o.Env, "ENDPOINT") == "":
		return nil
	}
	if traces.Protocol == "" {
		traces.Protocol = otlp(o.Env, "PROTOCOL")
	}
	if t.sampler, err = newSampler(&traces, o.Env); err != nil {
		return err
	}
	res, err := newResource(&traces, o.Build)
	if res == nil {
		return fmt.Errorf("traces: resource: %w", err)
	}
	if err != nil {
		o.Log.Warn().Err(err).Msg("traces will not say all about where they come from")
	}
	to, closer, err := newSpanExporter(&traces, o.Env)
	if err != nil {
		return err
	}
	maker := spanMaker{ids: newIDs(), resource: res, scope: instrumentation.Scope{Name: "wasmgate", Version: o.Build.Version}}
	t.export = newExporter(to, closer, maker, o.Log)
	return nil
}

func (t *Telemetry) openAccessLog(o *Options) error {
	out, closer := o.AccessLog.Writer, io.Closer(nil)
	switch {
	case out != nil:
	case o.AccessLog.Output == "":
		return nil
	case o.AccessLog.Output == "stdout":
		out = os.Stdout
	case o.AccessLog.Output == "stderr":
		out = os.Stderr
	default:
		f, err := os.OpenFile(o.AccessLog.Output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return fmt.Errorf("access log: %w", err)
		}
		out, closer = f, f
	}
	t.lines = newLineWriter(out, closer, o.Log)
	return nil
}

// Loop returns the recorder of the loop with this index. Only that loop may use it.
func (t *Telemetry) Loop(i int) *Recorder { return t.recorders[i] }

// Shutdown hands over what is left, within the time that ctx gives, and ends what New started. The loops should have
// ended: what they record later is dropped. Only the first call does anything.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.ended.Swap(true) {
		return nil
	}
	// At once: an output that hangs must not take the time that the traces need, and the other way round.
	var lines error
	written := make(chan struct{})
	go func() {
		defer close(written)
		if t.lines != nil {
			lines = t.lines.shutdown(ctx)
		}
	}()
	var traces error
	if t.export != nil {
		traces = t.export.shutdown(ctx)
	}
	<-written
	return errors.Join(lines, traces)
}
