package telemetry

import (
	"context"
	"fmt"
	"net/url"
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
// is an error. What o leaves open the OTEL_EXPORTER_OTLP_* variables of the process say.
func newSpanExporter(o *Traces) (tracesdk.SpanExporter, error) {
	var client otlptrace.Client
	switch o.Protocol {
	case "", ProtocolHTTP:
		opts := []otlptracehttp.Option{otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal})}
		if o.Endpoint != "" {
			u, err := endpointURL(o.Endpoint)
			if err != nil {
				return nil, err
			}
			if u.Path == "" || u.Path == "/" {
				u.Path = "/v1/traces"
			}
			opts = append(opts, otlptracehttp.WithEndpointURL(u.String()))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlptracehttp.WithHeaders(o.Headers))
		}
		client = otlptracehttp.NewClient(opts...)
	case ProtocolGRPC:
		opts := []otlptracegrpc.Option{otlptracegrpc.WithTimeout(exportTimeout), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal})}
		if o.Endpoint != "" {
			u, err := endpointURL(o.Endpoint)
			if err != nil {
				return nil, err
			}
			opts = append(opts, otlptracegrpc.WithEndpointURL(u.String()))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlptracegrpc.WithHeaders(o.Headers))
		}
		client = otlptracegrpc.NewClient(opts...)
	default:
		return nil, fmt.Errorf("traces: protocol %q is not known: %s or %s", o.Protocol, ProtocolHTTP, ProtocolGRPC)
	}
	exp, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return exp, nil
}

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
	r, err := resource.New(context.Background(), opts...)
	if err != nil && r == nil {
		return nil, fmt.Errorf("traces: resource: %w", err)
	}
	return r, nil // an error beside a resource is about a detail that could not be found out
}
