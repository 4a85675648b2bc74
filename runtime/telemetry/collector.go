package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/grpc/credentials"
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

// receiver is a collector and how it is spoken to.
type receiver struct {
	endpoint *url.URL // with the whole path, for HTTP
	headers  map[string]string
	tls      *tls.Config
	timeout  time.Duration // of one attempt to send a batch
	gzip     bool
}

// newSpanExporter connects to the collector. It does not fail because the collector is away: only what is wrong in o
// is an error. What o leaves open the OTEL_EXPORTER_OTLP_* variables say. closer closes the connections that the exporter
// leaves idle when it ends.
func newSpanExporter(o *Traces, env func(string) string) (to otlptrace.Client, closer func(), err error) {
	closer = func() {}
	c, err := newReceiver(&destination{signalTraces, o.Endpoint, o.Protocol, o.Headers, &o.TLS}, env)
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	if o.Protocol == ProtocolGRPC {
		to = c.grpc()
	} else {
		to, closer = c.http()
	}
	if err := to.Start(context.Background()); err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	return to, closer, nil
}

// destination is where a signal goes, as far as the configuration says it.
type destination struct {
	signal             signal
	endpoint, protocol string
	headers            map[string]string
	tls                *TLS
}

func newReceiver(o *destination, env func(string) string) (c *receiver, err error) {
	switch o.protocol {
	case "", ProtocolHTTP, ProtocolGRPC:
	default:
		return nil, fmt.Errorf("protocol %q is not known: %s or %s", o.protocol, ProtocolHTTP, ProtocolGRPC)
	}
	c = &receiver{headers: o.headers, timeout: o.signal.batchTimeout(env), gzip: o.signal.otlp(env, "COMPRESSION") == "gzip"}
	if c.endpoint, err = endpointOf(o, env); err != nil {
		return nil, err
	}
	if len(c.headers) == 0 {
		if c.headers, err = o.signal.environmentHeaders(env); err != nil {
			return nil, err
		}
	}
	if c.endpoint.Scheme == "https" {
		c.tls, err = o.collectorTLS(env)
	}
	return c, err
}

func (c *receiver) http() (client otlptrace.Client, closer func()) {
	transport := c.transport()
	compression := otlptracehttp.NoCompression
	if c.gzip {
		compression = otlptracehttp.GzipCompression
	}
	return otlptracehttp.NewClient(
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal}),
		otlptracehttp.WithEndpointURL(c.endpoint.String()), otlptracehttp.WithHeaders(c.headers), otlptracehttp.WithCompression(compression),
		otlptracehttp.WithTimeout(c.timeout), otlptracehttp.WithHTTPClient(c.client(transport)),
	), transport.CloseIdleConnections
}

func (c *receiver) client(transport *http.Transport) *http.Client {
	return &http.Client{Transport: transport, Timeout: c.timeout}
}

// transport is one of ours: theirs is one for all clients of the process, and stays when the exporter ends.
func (c *receiver) transport() *http.Transport {
	transport, _ := http.DefaultTransport.(*http.Transport)
	transport = transport.Clone()
	transport.TLSClientConfig = c.tls
	return transport
}

func (c *receiver) grpc() otlptrace.Client {
	opts := []otlptracegrpc.Option{
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryTotal}),
		otlptracegrpc.WithEndpointURL(c.endpoint.String()), otlptracegrpc.WithHeaders(c.headers), otlptracegrpc.WithTimeout(c.timeout),
	}
	if c.tls != nil {
		opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(c.tls)))
	}
	if c.gzip {
		opts = append(opts, otlptracegrpc.WithCompressor("gzip"))
	}
	return otlptracegrpc.NewClient(opts...)
}

// endpointOf is where the signal is sent to. One for all signals, and one without a path, gets the signal's path.
func endpointOf(o *destination, env func(string) string) (*url.URL, error) {
	endpoint, what, whole := o.endpoint, "endpoint", true
	own := "OTEL_EXPORTER_OTLP_" + string(o.signal) + "_ENDPOINT"
	if endpoint == "" {
		if endpoint, what = env(own), own; endpoint == "" {
			endpoint, what, whole = env("OTEL_EXPORTER_OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT", false
		}
		if o.protocol == ProtocolGRPC && !strings.Contains(endpoint, "://") { // the environment may leave the scheme out
			if strings.EqualFold(o.signal.otlp(env, "INSECURE"), "true") {
				endpoint = "http://" + endpoint
			} else {
				endpoint = "https://" + endpoint
			}
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s %q must be a URL such as http://localhost:4318", what, endpoint)
	}
	if o.protocol != ProtocolGRPC && (!whole || u.Path == "" || u.Path == "/") {
		if u.Path = path.Join("/", u.Path, o.signal.path()); what == own {
			u.Path = "/" // it is taken as it is
		}
	}
	return u, nil
}

// collectorTLS reads the certificates. A client's is read again for each connection, so that a new one is used when it is
// there; one that cannot be read then leaves the last one.
func (d *destination) collectorTLS(env func(string) string) (*tls.Config, error) {
	o := d.tls
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName, InsecureSkipVerify: o.InsecureSkipVerify} //nolint:gosec // whoever configures it is warned
	ca, cert, key := o.CA, o.Cert, o.Key
	if ca == "" {
		ca = d.signal.otlp(env, "CERTIFICATE")
	}
	if cert == "" && key == "" {
		cert, key = d.signal.otlp(env, "CLIENT_CERTIFICATE"), d.signal.otlp(env, "CLIENT_KEY")
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("the collector's authority: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the collector's authority: %s has no certificate in PEM", ca)
		}
	}
	switch {
	case cert == "" && key == "":
		return c, nil
	case cert == "" || key == "":
		return nil, errors.New("a client certificate for the collector and its key belong together")
	}
	last, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the client certificate for the collector: %w", err)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if pair, err := tls.LoadX509KeyPair(cert, key); err == nil {
			return &pair, nil
		}
		return &last, nil
	}
	return c, nil
}

// batchTimeout is the time for one attempt to send a batch. The environment gives it in milliseconds.
func (s signal) batchTimeout(env func(string) string) time.Duration {
	if ms, err := strconv.ParseUint(s.otlp(env, "TIMEOUT"), 10, 31); err == nil && ms > 0 {
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

// newResource says who exports. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to it; the name service has the last word.
// An error beside a resource is about a detail that could not be found out.
func newResource(service string, b Build, env func(string) string) (*resource.Resource, error) {
	base := []attribute.KeyValue{attribute.String("service.name", "wasmgate")}
	if b.Version != "" {
		base = append(base, attribute.String("service.version", b.Version))
	}
	said, wrong := environmentResource(env)
	opts := []resource.Option{resource.WithAttributes(base...), resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithProcessPID(), resource.WithAttributes(said...)}
	if service != "" {
		opts = append(opts, resource.WithAttributes(attribute.String("service.name", service)))
	}
	res, err := resource.New(context.Background(), opts...)
	return res, errors.Join(wrong, err)
}
