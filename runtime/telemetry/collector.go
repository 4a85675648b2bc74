package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
)

// Protocols of Traces.Protocol.
const (
	ProtocolHTTP = "http/protobuf"
	ProtocolGRPC = "grpc"
)

// Repetition of a batch that the collector could not take: short, because meanwhile spans pile up.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = time.Second
	retryTotal = 3 * time.Second
)

// newSpanExporter connects to the collector. It does not fail because the collector is away: only what is wrong in o
// is an error. What o leaves open the OTEL_EXPORTER_OTLP_* variables of the process say. closer closes the connections
// that the exporter leaves idle when it ends.
func newSpanExporter(o *Traces, env func(string) string) (to tracesdk.SpanExporter, closer func(), err error) {
	endpoint := ""
	if o.Endpoint != "" {
		u, err := endpointURL(o.Endpoint)
		if err != nil {
			return nil, nil, err
		}
		if o.Protocol != ProtocolGRPC && (u.Path == "" || u.Path == "/") {
			u.Path = "/v1/traces"
		}
		endpoint = u.String()
	}
	var client otlptrace.Client
	closer = func() {}
	switch o.Protocol {
	case "", ProtocolHTTP:
		client, closer = httpClient(o, endpoint, env)
	case ProtocolGRPC:
		client = grpcClient(o, endpoint)
	default:
		return nil, nil, fmt.Errorf("traces: protocol %q is not known: %s or %s", o.Protocol, ProtocolHTTP, ProtocolGRPC)
	}
	if to, err = otlptrace.New(context.Background(), client); err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	return to, closer, nil
}

func httpClient(o *Traces, endpoint string, env func(string) string) (client otlptrace.Client, closer func()) {
	opts := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
		Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal})}
	if endpoint != "" {
		opts = append(opts, otlptracehttp.WithEndpointURL(endpoint))
	}
	if len(o.Headers) > 0 {
		opts = append(opts, otlptracehttp.WithHeaders(o.Headers))
	}
	closer = func() {}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok && !ownCertificates(env) {
		// Their transport is one for all clients of the process, and stays when the exporter ends.
		transport := standard.Clone()
		opts = append(opts, otlptracehttp.WithHTTPClient(&http.Client{Transport: transport, Timeout: batchTimeout(env)}))
		closer = transport.CloseIdleConnections
	}
	return otlptracehttp.NewClient(opts...), closer
}

func grpcClient(o *Traces, endpoint string) otlptrace.Client {
	opts := []otlptracegrpc.Option{otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
		Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal})}
	if endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpointURL(endpoint))
	}
	if len(o.Headers) > 0 {
		opts = append(opts, otlptracegrpc.WithHeaders(o.Headers))
	}
	return otlptracegrpc.NewClient(opts...)
}

// otlp returns what the environment says of OTLP, of traces before of all signals.
func otlp(env func(string) string, name string) string {
	if v := env("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return env("OTEL_EXPORTER_OTLP_" + name)
}

// ownCertificates says whether the environment names certificates; their client knows how to read them.
func ownCertificates(env func(string) string) bool {
	return otlp(env, "CERTIFICATE") != "" || otlp(env, "CLIENT_CERTIFICATE") != "" || otlp(env, "CLIENT_KEY") != ""
}

// batchTimeout is the time for one attempt to send a batch. The environment gives it in milliseconds.
func batchTimeout(env func(string) string) time.Duration {
	if ms, err := strconv.ParseUint(otlp(env, "TIMEOUT"), 10, 31); err == nil && ms > 0 {
		return min(time.Duration(ms)*time.Millisecond, exportTimeout)
	}
	return exportTimeout
}

// lostSpans says how many of n spans did not arrive. A collector may take a batch and refuse some of it, or take it
// with a remark; the exporters tell of both by an error whose type is theirs alone, so that its text must be read.
func lostSpans(n int, err error) int {
	if err == nil {
		return 0
	}
	if m := partialSuccess.FindStringSubmatch(err.Error()); m != nil {
		if rejected, err := strconv.Atoi(m[1]); err == nil {
			return max(0, min(rejected, n))
		}
	}
	return n
}

var partialSuccess = regexp.MustCompile(`(?s)OTLP partial success: .*\((-?[0-9]+) spans rejected\)`)

func endpointURL(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("traces: endpoint: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("traces: endpoint %q must be a URL such as http://localhost:4318", endpoint)
	}
	return u, nil
}

// newResource says who exports. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to it; a name in o has the last word.
// An error beside a resource is about a detail that could not be found out.
func newResource(o *Traces, b Build) (*resource.Resource, error) {
	base := []attribute.KeyValue{attribute.String("service.name", "wasmgate")}
	if b.Version != "" {
		base = append(base, attribute.String("service.version", b.Version))
	}
	opts := []resource.Option{resource.WithAttributes(base...), resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithProcessPID(), resource.WithFromEnv()}
	if o.ServiceName != "" {
		opts = append(opts, resource.WithAttributes(attribute.String("service.name", o.ServiceName)))
	}
	return resource.New(context.Background(), opts...)
}
