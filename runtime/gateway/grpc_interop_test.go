package gateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
)

// interopLog fails the test that runs where the public interop client would end the process.
type interopLog struct{ grpclog.LoggerV2 }

// interopFails ends what the client is at.
var interopFails atomic.Pointer[func(text string)]

func init() { grpclog.SetLoggerV2(interopLog{}) } // before anybody uses it, as it has to be

func (interopLog) Info(...any)                {}
func (interopLog) Infoln(...any)              {}
func (interopLog) Infof(string, ...any)       {}
func (interopLog) Warning(...any)             {}
func (interopLog) Warningln(...any)           {}
func (interopLog) Warningf(string, ...any)    {}
func (interopLog) Error(...any)               {}
func (interopLog) Errorln(...any)             {}
func (interopLog) Errorf(string, ...any)      {}
func (interopLog) V(int) bool                 { return false }
func (interopLog) Fatal(args ...any)          { (*interopFails.Load())(fmt.Sprint(args...)) }
func (interopLog) Fatalln(args ...any)        { (*interopFails.Load())(fmt.Sprint(args...)) }
func (interopLog) Fatalf(f string, a ...any)  { (*interopFails.Load())(fmt.Sprintf(f, a...)) }
func (interopLog) InfoDepth(int, ...any)      {}
func (interopLog) WarningDepth(int, ...any)   {}
func (interopLog) ErrorDepth(int, ...any)     {}
func (interopLog) FatalDepth(_ int, a ...any) { (*interopFails.Load())(fmt.Sprint(a...)) }

// startInterop starts the public interop server.
func startInterop(t *testing.T, options ...grpc.ServerOption) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	recorder := orca.NewServerMetricsRecorder()
	s := grpc.NewServer(append(options, orca.CallMetricsServerOption(recorder))...)
	if err := orca.Register(s, orca.ServiceOptions{ServerMetricsProvider: recorder, MinReportingInterval: time.Second}); err != nil {
		t.Fatal(err)
	}
	grpc_testing.RegisterTestServiceServer(s, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: recorder}))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// interopDial makes a client of the public library.
func interopDial(t *testing.T, addr string, options []grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// interopRun is what a case has.
type interopRun struct {
	*testing.T
	context.Context
	conn *grpc.ClientConn
	grpc_testing.TestServiceClient
	dial func() *grpc.ClientConn
}

// plain is a case of the client's that needs nothing but the stub.
func plain(do func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption), options ...grpc.CallOption) func(*interopRun) {
	return func(r *interopRun) { do(r.Context, r.TestServiceClient, options...) }
}

// soak is rpc_soak and channel_soak, a few calls of each.
func soak(anew bool) func(*interopRun) {
	return func(r *interopRun) {
		interop.DoSoakTest(r.Context, interop.SoakTestConfig{
			RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: time.Minute, OverallTimeout: 5 * time.Minute,
			ServerAddr: r.conn.Target(), NumWorkers: 2, Iterations: 10, MaxFailures: 0, MinTimeBetweenRPCs: time.Millisecond,
			ChannelForTest: func() (*grpc.ClientConn, func()) {
				if !anew {
					return r.conn, func() {}
				}
				c := r.dial()
				return c, func() { _ = c.Close() }
			},
		})
	}
}

// again has another try: where the client stands still between its end and its look at the answer, the answer is there, and the library
// tells of it, or of the client's cancelling, by chance.
func again(do func(*interopRun)) func(*interopRun) {
	return func(r *interopRun) {
		despiteStalls(r.T, func(wrong func(format string, args ...any)) {
			fails := func(text string) { wrong("%s", text); runtime.Goexit() }
			interopFails.Store(&fails)
			done := make(chan struct{})
			go func() { defer close(done); do(r) }()
			<-done
		})
	}
}

// interopCases are the cases of the public interop client, but those that ask Google who the client is, and pick_first_unary,
// which Go's own server does not pass either: it does not say its name.
var interopCases = map[string]func(*interopRun){
	"empty_unary":                 plain(interop.DoEmptyUnaryCall),
	"large_unary":                 plain(interop.DoLargeUnaryCall),
	"client_compressed_unary":     plain(interop.DoLargeUnaryCall, grpc.UseCompressor(gzip.Name)), // the server answers so, too
	"client_streaming":            plain(interop.DoClientStreaming),
	"client_compressed_streaming": plain(interop.DoClientStreaming, grpc.UseCompressor(gzip.Name)),
	"server_streaming":            plain(interop.DoServerStreaming),
	"server_compressed_streaming": plain(interop.DoServerStreaming, grpc.UseCompressor(gzip.Name)),
	"ping_pong":                   plain(interop.DoPingPong),
	"empty_stream":                plain(interop.DoEmptyStream),
	"timeout_on_sleeping_server":  plain(interop.DoTimeoutOnSleepingServer),
	"cancel_after_begin":          again(plain(interop.DoCancelAfterBegin)),
	"cancel_after_first_response": plain(interop.DoCancelAfterFirstResponse),
	"status_code_and_message":     plain(interop.DoStatusCodeAndMessage),
	"special_status_message":      plain(interop.DoSpecialStatusMessage),
	"custom_metadata":             plain(interop.DoCustomMetadata),
	"unimplemented_method":        func(r *interopRun) { interop.DoUnimplementedMethod(r.Context, r.conn) },
	"unimplemented_service": func(r *interopRun) {
		interop.DoUnimplementedService(r.Context, grpc_testing.NewUnimplementedServiceClient(r.conn))
	},
	"rpc_soak":     soak(false),
	"channel_soak": soak(true),
	"orca_per_rpc": func(r *interopRun) { interop.DoORCAPerRPCTest(r.Context, r.TestServiceClient) },
	"orca_oob":     func(r *interopRun) { interop.DoORCAOOBTest(r.Context, r.TestServiceClient) },
}

// interopTry makes all cases through a gateway.
func interopTry(t *testing.T, addr string, transport credentials.TransportCredentials) {
	t.Helper()
	for name, do := range interopCases {
		t.Run(name, func(t *testing.T) {
			fails := func(text string) { t.Helper(); t.Fatal(text) }
			interopFails.Store(&fails)
			options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
			if strings.HasPrefix(name, "orca_") {
				options = append(options, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			c := interopDial(t, addr, options)
			do(&interopRun{T: t, Context: ctx, conn: c, TestServiceClient: grpc_testing.NewTestServiceClient(c), dial: func() *grpc.ClientConn { return interopDial(t, addr, options) }})
		})
	}
}

// TestGRPCInterop has the public interop client and server speak through the gateway, without TLS.
func TestGRPCInterop(t *testing.T) {
	p := startPlant(t, fmt.Sprintf("loops: 2\nupstreams: { grpc: { targets: ['http://%s'], protocol: http2 } }\nroutes: [{ upstream: grpc }]\n", startInterop(t)))
	interopTry(t, p.addr.String(), insecure.NewCredentials())
}

// TestGRPCInteropTLS is TestGRPCInterop with TLS on both sides of the gateway.
func TestGRPCInteropTLS(t *testing.T) {
	a := newIssuer(t)
	a.issue("server", "server.test")
	pair, err := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	server := startInterop(t, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	g := startListening(t, fmt.Sprintf("loops: 2\nlisteners: [%s]\nupstreams: { grpc: { targets: ['https://%s'], protocol: http2, tls: { ca: %q, server_name: server.test } } }\nroutes: [{ upstream: grpc }]\n",
		a.listener(""), server, a.file("ca.pem")))
	interopTry(t, g.addr.String(), credentials.NewTLS(a.trust()))
}
