package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
)

// Options are what New needs.
type Options struct {
	Loops     int // how many event loops there are; each gets a Recorder
	Build     Build
	Traces    Traces
	Metrics   Metrics
	AccessLog AccessLog
	Recent    int                 // how many recent requests are kept to look at (Recorder.RecentTraces), for all loops together; 0: none
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
	TLS         TLS               // for an https endpoint
	Sample      *float64          // the share of requests without a caller's decision that is traced, 0 to 1; nil: OTEL_TRACES_SAMPLER, else 1
	ServiceName string            // empty: OTEL_SERVICE_NAME, else "wasmgate"
	Segment     time.Duration     // how often a connection in use is told of while it lives; 0: 30 s
	KeepErrors  bool              // keep requests that were not sampled, if they have failed
	Slow        time.Duration     // keep those that took longer; 0: none for that
	KeepRate    int               // of those, how many in a second at most; 0: none
	Propagation []string          // PropagateW3C, PropagateB3, PropagateB3Multi: how traces are told, the one that counts most first; none: W3C
	Baggage     []string          // members of the field baggage that become attributes
	Answers     bool              // name the trace in the gateway's own answers
}

// TLS is how the collector is verified and what it is shown. What is empty OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE
// and _CLIENT_KEY say.
type TLS struct {
	CA                 string // PEM file of the authorities that are trusted instead of the system's
	ServerName         string // empty: the endpoint's host
	InsecureSkipVerify bool
	Cert, Key          string // PEM files of a client certificate
}

// Metrics says where metrics are sent to, beside being read at the metrics endpoint. They are if Endpoint is set here or in
// OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or OTEL_METRICS_EXPORTER is otlp and OTEL_EXPORTER_OTLP_ENDPOINT set: that one alone is
// as a rule a collector of traces, who knows no metrics. OTEL_SDK_DISABLED turns it off.
type Metrics struct {
	Endpoint    string            // a URL; https means TLS; without a path /v1/metrics is used for HTTP
	Protocol    string            // ProtocolHTTP or ProtocolGRPC; empty: what OTEL_EXPORTER_OTLP_(METRICS_)PROTOCOL says, else HTTP
	Headers     map[string]string // sent with each export
	TLS         TLS               // for an https endpoint
	ServiceName string            // empty: OTEL_SERVICE_NAME, else "wasmgate"
	Interval    time.Duration     // between two exports; 0: OTEL_METRIC_EXPORT_INTERVAL, else 1 min
	Forget      time.Duration     // how long counters under names that are not in force any more are told; 0: 10 min
}

// AccessLog says where a line for each request goes, and what is in it.
type AccessLog struct {
	Output string        // "stdout", "stderr", or a file that is appended to; empty: there is no access log
	Syslog *Syslog       // instead of Output
	Writer io.Writer     // instead of both
	Query  bool          // log queries too: they may hold what should not be kept
	Format []Part        // of a line; nil: it is JSON
	Sample *float64      // the share of requests that have a line, 0 to 1; nil: all. What failed always has one
	Slow   time.Duration // a request that took so long always has one too; 0: none is slow
	Buffer int           // bytes for each loop by which the output may fall behind before lines are dropped; 0: 1 MiB

	RedactHeaders []string // fields whose values are written as ***, in any case
	RedactQuery   []string // parameters of queries whose values are
}

// defaultSegment is how often a connection in use is told of while it lives.
const defaultSegment = 30 * time.Second

// Telemetry is where all loops' facts go. It outlives configurations.
type Telemetry struct {
	recorders   []*Recorder
	export      *exporter   // nil: traces are off
	lines       *lineWriter // nil: there is no access log
	sources     []func(*Live)
	build       Build
	sampler     sampler
	keeper      keeper
	propagation []propagation
	baggage     []string
	refusals    *limiter
	segment     int64   // nanoseconds
	format      *format // nil: lines are JSON
	redact      redaction
	logged      logSampler
	answers     bool
	members     memberChanges
	forget      time.Duration
	turns       worstTurns
	push        *pusher // nil: metrics are only read
	ended       atomic.Bool
}

// refusedRate is how many connections that could not be opened are told of in a second.
const refusedRate = 100

// New starts telemetry. Shutdown ends it.
func New(o Options) (*Telemetry, error) {
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	t := &Telemetry{
		sources: o.Sources, build: o.Build, segment: int64(o.Traces.Segment),
		baggage: o.Traces.Baggage, answers: o.Traces.Answers, refusals: newLimiter(refusedRate),
	}
	if t.forget = o.Metrics.Forget; t.forget <= 0 {
		t.forget = defaultForget
	}
	if t.segment <= 0 {
		t.segment = int64(defaultSegment)
	}
	if err := t.openTraces(&o); err != nil {
		return nil, err
	}
	err := t.openMetrics(&o)
	if err == nil {
		err = t.openAccessLog(&o)
	}
	if err != nil { // it came first: errors of what is closed again are none
		if t.export != nil {
			_ = t.export.end(context.Background())
		}
		if t.push != nil {
			_ = t.push.end(context.Background())
		}
		return nil, err
	}
	for range o.Loops {
		r := newRecorder(t)
		if o.Recent > 0 {
			r.recent = newRecent((o.Recent+o.Loops-1)/o.Loops, o.Traces.Slow)
		}
		t.recorders = append(t.recorders, r)
	}
	if t.export != nil {
		go t.export.run()
	}
	if t.lines != nil {
		go t.lines.run()
	}
	if t.push != nil {
		go t.push.run()
	}
	return t, nil
}

func (t *Telemetry) openTraces(o *Options) (err error) {
	traces := o.Traces
	switch {
	case strings.EqualFold(o.Env("OTEL_SDK_DISABLED"), "true"), o.Env("OTEL_TRACES_EXPORTER") == "none",
		traces.Endpoint == "" && signalTraces.otlp(o.Env, "ENDPOINT") == "":
		return nil
	}
	if traces.Protocol == "" {
		traces.Protocol = signalTraces.otlp(o.Env, "PROTOCOL")
	}
	if t.sampler, err = newSampler(&traces, o.Env); err != nil {
		return err
	}
	if t.propagation, err = newPropagation(traces.Propagation); err != nil {
		return err
	}
	if (t.sampler != sampler{}) { // else there are no traces at all
		t.keeper = newKeeper(&traces)
	}
	res, err := newResource(traces.ServiceName, o.Build, o.Env)
	if res == nil {
		return fmt.Errorf("traces: resource: %w", err)
	}
	if err != nil {
		o.Log.Warn().Err(err).Msg("traces will not say all about where they come from")
	}
	from := origin{schema: res.SchemaURL(), scope: &commonpb.InstrumentationScope{Name: "wasmgate", Version: o.Build.Version}}
	if from.resource, err = resourceMessage(res); err != nil {
		return fmt.Errorf("traces: resource: %w", err)
	}
	to, closer, err := newSpanExporter(&traces, o.Env)
	if err != nil {
		return err
	}
	t.export = newExporter(to, closer, from, o.Log)
	return nil
}

func (t *Telemetry) openAccessLog(o *Options) (err error) {
	a := &o.AccessLog
	if a.Writer == nil && a.Syslog == nil && a.Output == "" {
		return nil
	}
	if a.Format != nil {
		if t.format, err = compile(a); err != nil {
			return err
		}
	}
	if t.logged, err = newLogSampler(a); err != nil {
		return err
	}
	t.redact = redaction{query: a.Query, agent: a.hides("user-agent"), host: a.hides("host")}
	for _, name := range a.RedactQuery {
		t.redact.names = append(t.redact.names, strings.ToLower(name))
	}
	out, err := openOutput(a)
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	t.lines = newLineWriter(out, o.Log)
	if a.Buffer > 0 {
		t.lines.ahead = max(2, (a.Buffer+lineBufferSize-1)/lineBufferSize)
	}
	return nil
}

// ReopenLogs opens the access log's file anew, under the name that it was given: after a rename, further lines go to a new
// file. It returns at once. A file that cannot be opened leaves everything as it is. Lines go to the one file or to the
// other, whole, and in their order.
func (t *Telemetry) ReopenLogs() {
	if t.lines != nil {
		t.lines.reopen.Store(true)
		t.lines.waker.kick(true)
	}
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
	var metrics error
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		if t.push != nil {
			metrics = t.push.shutdown(ctx)
		}
	}()
	var traces error
	if t.export != nil {
		traces = t.export.shutdown(ctx)
	}
	<-written
	<-pushed
	return errors.Join(lines, traces, metrics)
}
