package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Services of the tour beside the gateway, as Jaeger calls them.
const (
	serviceVisitor = "visitor"
	serviceShop    = "shop"
)

// newTracing is how any service sends its spans to Jaeger: OpenTelemetry's SDK, and OTLP over HTTP.
func newTracing(ctx context.Context, otlp, service string) (*trace.TracerProvider, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(otlp+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("traces of %s: %w", service, err)
	}
	return trace.NewTracerProvider(
		trace.WithBatcher(exporter, trace.WithBatchTimeout(100*time.Millisecond)), // it is looked at soon
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
	), nil
}

// Shop is one server of the upstream of the tour: it answers everything with its own address. otelhttp makes a span of each
// request, in the trace that the gateway's traceparent names.
type Shop struct {
	Addr   string // where it listens
	server *http.Server
}

// NewShop starts a server at an address; with a certificate it speaks TLS.
func NewShop(addr string, tracing *trace.TracerProvider, cert *tls.Certificate) (*Shop, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &Shop{Addr: l.Addr().String()}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s\n", r.URL.Path, s.Addr)
	})
	s.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: otelhttp.NewHandler(answer, "",
		otelhttp.WithTracerProvider(tracing), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Path }))}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}})
	}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

// Close ends the server and its connections.
func (s *Shop) Close() { _ = s.server.Close() }

// NewDying starts a server that dies of its first request: it takes the connection, reads, closes it without an answer, and
// nobody listens there any more.
func NewDying() (addr string, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		_ = l.Close()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 4096))
		_ = c.Close()
	}()
	return l.Addr().String(), func() { _ = l.Close(); <-done }, nil
}

// newCertificate makes a certificate for a name that is its own authority, and that in PEM.
func newCertificate(name string) (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
