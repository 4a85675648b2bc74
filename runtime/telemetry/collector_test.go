package telemetry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// secret is an authority of our own, a collector's certificate and a client's, as files.
type secret struct {
	ca, cert, key string
	server        *tls.Config
}

func newSecret(t *testing.T) *secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: []string{"collector.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool := x509.NewCertPool()
	own, _ := x509.ParseCertificate(der)
	pool.AddCert(own)
	s := &secret{ca: file("ca.pem", "CERTIFICATE", der), cert: file("cert.pem", "CERTIFICATE", der), key: file("key.pem", "PRIVATE KEY", private)}
	s.server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	return s
}

// receivers are collectors that take spans from those only who show a certificate.
func (s *secret) receivers(t *testing.T) map[string]*collector {
	t.Helper()
	overHTTP := &collector{}
	h := httptest.NewUnstartedServer(overHTTP)
	h.TLS = s.server.Clone()
	h.StartTLS()
	t.Cleanup(h.Close)
	overHTTP.url = h.URL
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	overGRPC := &collector{url: "https://" + l.Addr().String()}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(s.server.Clone())))
	coltracepb.RegisterTraceServiceServer(g, overGRPC)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return map[string]*collector{ProtocolHTTP: overHTTP, ProtocolGRPC: overGRPC}
}

// A collector in another network is spoken to by TLS, with an authority of one's own and a certificate that it asks for:
// by the configuration, or by the standard variables, over both transports.
func TestACollectorIsReachedByTLS(t *testing.T) {
	s := newSecret(t)
	files := TLS{CA: s.ca, ServerName: "collector.test", Cert: s.cert, Key: s.key}
	for protocol, got := range s.receivers(t) {
		t.Run(protocol, func(t *testing.T) {
			for from, o := range map[string]Options{
				"config": {Traces: Traces{Endpoint: got.url, Protocol: protocol, TLS: files}},
				"environment": {Traces: Traces{TLS: TLS{ServerName: "collector.test"}}, Env: environment(map[string]string{
					"OTEL_EXPORTER_OTLP_ENDPOINT": got.url, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_CERTIFICATE": s.ca,
					"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": s.cert, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": s.key,
					"OTEL_EXPORTER_OTLP_HEADERS": "x-from=env%20ironment",
				})},
			} {
				before := len(got.all())
				tel := start(t, o)
				end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
				finish(t, tel)
				if n := len(got.all()) - before; n != 1 {
					t.Errorf("%s: %d spans arrived", from, n)
				}
				if from == "environment" && got.header.Get("X-From") != "env ironment" {
					t.Errorf("the fields of the environment: %v", got.header)
				}
			}
			tel := start(t, Options{Traces: Traces{Endpoint: got.url, Protocol: protocol}}) // nobody whom this collector knows
			end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
			finish(t, tel)
			if n := scrape(t, tel).value("wasmgate_telemetry_spans_dropped_total", "reason", "export_failed"); n != 1 {
				t.Errorf("without certificates %v spans were lost", n)
			}
		})
	}
}

func environment(m map[string]string) func(string) string {
	return func(k string) string { return m[k] }
}

// The environment that is handed down counts, and not the process' own, which OpenTelemetry's libraries read by themselves.
func TestOnlyTheEnvironmentThatIsHandedDownCounts(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "leaked=true")
	t.Setenv("OTEL_SERVICE_NAME", "leaked")
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url}, Env: environment(map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=t%C3%A9st,service.name=named"})})
	end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
	finish(t, tel)
	if got.header.Get("Authorization") != "" {
		t.Error("a secret of the process' environment was sent")
	}
	if r := got.resource; r["leaked"] != nil || r["service.name"] != "named" || r["deployment.environment.name"] != "tést" {
		t.Errorf("resource %v", r)
	}
}

// Where spans go to is as the specification of the variables has it.
func TestWhereSpansGo(t *testing.T) {
	for _, c := range []struct{ config, protocol, env, value, want string }{
		{"http://c:4318", "", "", "", "http://c:4318/v1/traces"},
		{"http://c:4318/", "", "", "", "http://c:4318/v1/traces"},
		{"http://c:4318/otlp/here", "", "", "", "http://c:4318/otlp/here"},
		{"", "", "OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/base", "https://c/base/v1/traces"},
		{"", "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/base", "https://c/base"},
		{"", "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c", "https://c/"},
		{"http://c:4317", ProtocolGRPC, "", "", "http://c:4317"},
		{"", ProtocolGRPC, "OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317", "https://c:4317"},
		{"", "", "OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318", ""},
	} {
		u, err := endpointOf(&destination{signal: signalTraces, endpoint: c.config, protocol: c.protocol}, environment(map[string]string{c.env: c.value}))
		if got := ""; err == nil {
			if got = u.String(); got != c.want {
				t.Errorf("%+v: %s", c, got)
			}
		} else if c.want != "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, o := range map[string]Traces{
		"no authority":     {Endpoint: "https://c", TLS: TLS{CA: "/none"}},
		"half a pair":      {Endpoint: "https://c", TLS: TLS{Cert: "/none"}},
		"no pair":          {Endpoint: "https://c", TLS: TLS{Cert: "/none", Key: "/none"}},
		"not certificates": {Endpoint: "https://c", TLS: TLS{CA: "collector_test.go"}},
	} {
		if _, err := New(Options{Traces: o}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(Options{Traces: Traces{Endpoint: "http://c"}, Env: environment(map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "secret"})}); err == nil {
		t.Error("fields that are none are taken")
	}
}
