package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"wasmgate/config"
	"wasmgate/runtime/internal/testkit"
)

// rpcClient is a client of gRPC that sends texts.
type rpcClient struct{ *grpc.ClientConn }

func (p *plant) caller() rpcClient {
	p.Helper()
	return rpcClient{interopDial(p.T, p.addr.String(), []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})), grpc.WithDisableRetry(),
	})}
}

// call makes a call with one message each way.
func (c rpcClient) call(ctx context.Context, method, in string) (out string, err error) {
	request, answer := []byte(in), []byte(nil)
	err = c.Invoke(ctx, method, &request, &answer)
	return string(answer), err
}

// serveCalls starts a server whose one method is fn, and one that talks as long as its client does.
func serveCalls(t *testing.T, fn func(ctx context.Context, in string) (string, error)) (addr string) {
	t.Helper()
	return startGRPC(t, &grpc.ServiceDesc{
		ServiceName: "test.Calls",
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := decode(&in); err != nil {
				return nil, err
			}
			text, err := fn(ctx, string(in))
			out := []byte(text)
			return &out, err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				var in []byte
				if err := s.RecvMsg(&in); err != nil {
					if err == io.EOF {
						return nil
					}
					return err
				}
				if err := s.SendMsg(&in); err != nil {
					return err
				}
			}
		}}},
	})
}

const doCall = "/test.Calls/Do"

func callsConfig(more string, servers ...string) string {
	return fmt.Sprintf("loops: 1\nupstreams: { grpc: { targets: ['http://%s'], protocol: http2%s } }\nroutes: [{ match: { path: /denied }, respond: { status: 401, body: \"who?\\n\" } }, { match: { path: /none/X }, exclude: true }, { upstream: grpc }]\n",
		strings.Join(servers, "', 'http://"), more)
}

// TestGRPCErrors: what the gateway answers itself is a status, and what an upstream ends a stream with has one too.
func TestGRPCErrors(t *testing.T) {
	reset := func(code http2.ErrCode) string {
		addr, end := byHand(t, func(f *http2.Framer, _ net.Conn, h *http2.HeadersFrame) { _ = f.WriteRSTStream(h.StreamID, code) })
		t.Cleanup(end)
		return addr
	}
	for name, c := range map[string]struct {
		server, more, path string
		want               codes.Code
		says               string
	}{
		"denied by a rule":     {"127.0.0.1:1", "", "/denied", codes.Unauthenticated, "who?"},
		"no route":             {"127.0.0.1:1", "", "/none/X", codes.Unimplemented, "404 Not Found"},
		"nobody is there":      {"127.0.0.1:1", "", doCall, codes.Unavailable, "502 Bad Gateway: connect"},
		"never answers":        {serveCalls(t, func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", nil }), ", timeouts: { request: 100ms }", doCall, codes.DeadlineExceeded, "request_timeout"},
		"NO_ERROR":             {reset(http2.ErrCodeNo), "", doCall, codes.Internal, "upstream_closed"},
		"PROTOCOL_ERROR":       {reset(http2.ErrCodeProtocol), "", doCall, codes.Internal, "upstream_closed"},
		"INTERNAL_ERROR":       {reset(http2.ErrCodeInternal), "", doCall, codes.Internal, "upstream_closed"},
		"REFUSED_STREAM":       {reset(http2.ErrCodeRefusedStream), "", doCall, codes.Unavailable, "upstream_closed"},
		"CANCEL":               {reset(http2.ErrCodeCancel), "", doCall, codes.Canceled, "upstream_closed"},
		"ENHANCE_YOUR_CALM":    {reset(http2.ErrCodeEnhanceYourCalm), "", doCall, codes.ResourceExhausted, "upstream_closed"},
		"INADEQUATE_SECURITY":  {reset(http2.ErrCodeInadequateSecurity), "", doCall, codes.PermissionDenied, "upstream_closed"},
		"a method that is not": {serveCalls(t, nil), "", "/test.Calls/Nothing", codes.Unimplemented, "unknown method Nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlant(t, callsConfig(", health: { passive: { failures: 0 } }"+c.more, c.server))
			_, err := p.caller().call(t.Context(), c.path, "x")
			if s := status.Convert(err); s.Code() != c.want || !strings.Contains(s.Message(), c.says) {
				t.Errorf("%s %q; want %s %q", s.Code(), s.Message(), c.want, c.says)
			}
		})
	}
}

// TestGRPCErrorsOfOthers: an answer that is not of gRPC, and says no status, is the client's to understand.
func TestGRPCErrorsOfOthers(t *testing.T) {
	s := startH2(t, 10, h2Echo)
	p := startPlant(t, callsConfig("", s.addr))
	_, err := p.caller().call(t.Context(), "/x/y", "x")
	if got := status.Convert(err); got.Code() != codes.Unknown {
		t.Errorf("%s %q", got.Code(), got.Message())
	}
}

// TestGRPCDeadlines: a call ends with the patience of its client, its server is told how much of it is left, and is not blamed.
func TestGRPCDeadlines(t *testing.T) {
	type tale struct {
		call string
		left time.Duration
	}
	told := make(chan tale, 100)
	server := serveCalls(t, func(ctx context.Context, in string) (string, error) {
		at, ok := ctx.Deadline()
		if !ok {
			at = time.Now().Add(-time.Second)
		}
		told <- tale{in, time.Until(at)}
		<-ctx.Done()
		return "", status.Error(codes.DeadlineExceeded, "too late") // the context's error may be that it was cancelled
	})
	p := startPlant(t, callsConfig(", timeouts: { request: 20s }, health: { passive: { failures: 1, fail_on_status: [500-599] } }", server))
	c := p.caller()
	// patient says whether the server was told, in time, of a patience. If the machine stands still for that long, it is not.
	patient := func(call string, patience time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := c.call(ctx, doCall, call); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		for {
			select {
			case said := <-told:
				if said.call != call { // it was late itself
					continue
				}
				if said.left > patience {
					t.Errorf("the server is told of %v", said.left)
				}
				return said.left > 0
			case <-time.After(100 * time.Millisecond):
				return false
			}
		}
	}
	for n := range 5 {
		patience := 200 * time.Millisecond
		for try := 1; !patient(fmt.Sprintf("%d %d", n, try), patience); try++ {
			if try == 5 {
				t.Fatalf("the server is not told of %v", patience)
			}
			patience *= 2
		}
	}
	if m := p.upstream("grpc").Members[0]; m.Health != "healthy" {
		t.Errorf("the server is %s: %s", m.Health, m.Why)
	}
	// The route's own time is the smaller one.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = c.call(ctx, doCall, "an hour") }()
	said := <-told
	for said.call != "an hour" {
		said = <-told
	}
	if said.left <= 0 || said.left > 20*time.Second {
		t.Errorf("the server is told of %v", said.left)
	}
	cancel()
	<-gone
}

// TestGRPCDeadlineAtTheGateway: a client that does not keep its own time is told DEADLINE_EXCEEDED.
func TestGRPCDeadlineAtTheGateway(t *testing.T) {
	server := serveCalls(t, func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", status.Error(codes.DeadlineExceeded, "too late") // the context's error may be that it was cancelled
	})
	addr, end := byHand(t, func(*http2.Framer, net.Conn, *http2.HeadersFrame) {}) // and one that does not, either
	t.Cleanup(end)
	for name, server := range map[string]string{"a server": server, "a server that never answers": addr} {
		p := startPlant(t, webConfig(server, ""))
		c := p.webAsk(doCall, webBinary, webFrame("x"), "Grpc-Timeout", "50m")
		if messages, code, text, _ := c.all(t); len(messages) > 0 || code != "4" {
			t.Errorf("%s: %q %s %s", name, messages, code, text)
		}
	}
}

// TestGRPCCancels: a client that does not wait any more ends its call at the server, although nothing was to be sent.
func TestGRPCCancels(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	server := serveCalls(t, func(ctx context.Context, _ string) (string, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return "", ctx.Err()
	})
	p := startPlant(t, callsConfig("", server))
	c := p.caller()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() { defer close(gone); _, _ = c.call(ctx, doCall, "x") }()
		<-begun
		cancel()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatal("the call goes on")
		}
		<-gone
	}
	if open := p.upstream("grpc").Members[0].Open; open != 1 {
		t.Errorf("%d connections", open)
	}
}

// TestGRPCRetries: a call is made again by the status that it was answered with, if the config says so.
func TestGRPCRetries(t *testing.T) {
	var calls atomic.Int64
	server := serveCalls(t, func(_ context.Context, in string) (string, error) {
		if calls.Add(1)%3 != 0 {
			return "", status.Error(codes.Unavailable, "not now")
		}
		return fmt.Sprint(len(in)), nil
	})
	for name, c := range map[string]struct {
		on, in string
		want   codes.Code
		calls  int64
	}{
		"named":           {"grpc-unavailable", "x", codes.OK, 3},
		"a large message": {"grpc-unavailable", strings.Repeat("x", 30_000), codes.OK, 3},
		"one too large":   {"grpc-unavailable", strings.Repeat("x", 300_000), codes.Unavailable, 1},
		"not named":       {"grpc-resource-exhausted", "x", codes.Unavailable, 1},
	} {
		p := startPlant(t, callsConfig(", retries: { attempts: 3, on: ["+c.on+"], budget_least: 1000 }, health: { passive: { failures: 0 } }", server))
		conn := p.caller()
		for range 5 {
			calls.Store(0)
			out, err := conn.call(t.Context(), doCall, c.in)
			if status.Code(err) != c.want || calls.Load() != c.calls || c.want == codes.OK && out != fmt.Sprint(len(c.in)) {
				t.Errorf("%s: %q %v after %d calls", name, out, err, calls.Load())
			}
		}
	}
}

// TestGRPCEjects: a server whose calls fail is left alone as one that answers 503 is; one whose clients err is not.
func TestGRPCEjects(t *testing.T) {
	var fail atomic.Pointer[codes.Code]
	set := func(c codes.Code) { fail.Store(&c) }
	bad := serveCalls(t, func(ctx context.Context, _ string) (string, error) {
		if c := *fail.Load(); c != codes.OK {
			_ = grpc.SendHeader(ctx, metadata.Pairs("x-begun", "yes")) // so that the status is in trailers
			return "", status.Error(c, "no")
		}
		return "fine", nil
	})
	for code, ejected := range map[codes.Code]bool{codes.Unavailable: true, codes.Internal: true, codes.InvalidArgument: false, codes.NotFound: false, codes.Unimplemented: false} {
		set(code)
		p := startPlant(t, callsConfig(", health: { passive: { failures: 3, fail_on_status: [500-599], eject_for: 5m, recover_all: false } }", bad))
		c := p.caller()
		for range 5 {
			_, _ = c.call(t.Context(), doCall, "x")
		}
		want := map[bool]string{true: "ejected", false: "healthy"}[ejected]
		testkit.Eventually(t, code.String()+": it is "+want, func() bool { return p.upstream("grpc").Members[0].Health == want })
	}
}

// longStream is how long the stream of TestGRPCStreamOutlivesReloads lasts, and how often the config changes: WASMGATE_STREAM=10m
// is ten minutes with 100 reloads.
func longStream(t *testing.T) (lasts time.Duration, reloads int) {
	text := os.Getenv("WASMGATE_STREAM")
	if text == "" {
		return 5 * time.Second, 10
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("WASMGATE_STREAM: %v", err)
	}
	return d, 100
}

// TestGRPCStreamOutlivesReloads talks both ways all the time while the config changes.
func TestGRPCStreamOutlivesReloads(t *testing.T) {
	server := serveCalls(t, nil)
	numbered := func(n int) string {
		return callsConfig(fmt.Sprintf(", queue: { max: %d }", 100+n), server) + fmt.Sprintf("limits: { body: %d }\n", 1<<30+n)
	}
	p := startPlant(t, numbered(0))
	lasts, reloads := longStream(t)
	s, err := p.caller().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Calls/Echo")
	if err != nil {
		t.Fatal(err)
	}
	var sent, got atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 2)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			select {
			case <-stop:
				done <- s.CloseSend()
				return
			case <-tick.C:
			}
			out := fmt.Appendf(nil, "message %d", n)
			if err := s.SendMsg(&out); err != nil {
				done <- fmt.Errorf("message %d: %w", n, err)
				return
			}
			sent.Store(n + 1)
		}
	}()
	go func() {
		for n := int64(0); ; n++ {
			var in []byte
			err := s.RecvMsg(&in)
			if err == io.EOF {
				err = nil
			} else if err == nil && string(in) == fmt.Sprintf("message %d", n) {
				got.Store(n + 1)
				continue
			}
			if err != nil || n != sent.Load() {
				err = fmt.Errorf("message %d of %d: %q %w", n, sent.Load(), in, err)
			}
			done <- err
			return
		}
	}()
	every := time.NewTicker(lasts / time.Duration(reloads))
	defer every.Stop()
	for n := 1; n <= reloads; n++ {
		select {
		case <-every.C:
		case err := <-done:
			t.Fatalf("the stream has ended after %d reloads: %v", n-1, err)
		}
		before := got.Load()
		p.reload(numbered(n))
		testkit.Eventually(t, "messages go on", func() bool { return got.Load() > before+2 })
	}
	close(stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d messages each way in %v, with %d reloads", got.Load(), lasts, reloads)
}

// TestGRPCSilence: a side of a call may be silent as long as the other is not, and the call ends when both are. A machine that stands
// still silences both: then it has another try, with more time.
func TestGRPCSilence(t *testing.T) {
	tick := 100 * time.Millisecond
	for try := 1; ; try++ {
		err := silence(t, tick)
		if err == nil {
			return
		}
		if try == 4 {
			t.Fatal(err)
		}
		tick *= 2
	}
}

// silence is a call in which the server says something with each tick, and its client nothing. The error is that the call has ended
// before the server was silent, too.
func silence(t *testing.T, tick time.Duration) error {
	t.Helper()
	hurry := make(chan struct{}, 1)
	server := startGRPC(t, &grpc.ServiceDesc{ServiceName: "test.Calls", Streams: []grpc.StreamDesc{{
		StreamName: "Tell", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				out := []byte("tick")
				if err := s.SendMsg(&out); err != nil {
					return err
				}
				select {
				case <-time.After(tick):
				case <-hurry:
					<-s.Context().Done()
					return s.Context().Err()
				}
			}
		},
	}}})
	p := startPlant(t, callsConfig(fmt.Sprintf(", timeouts: { idle_read: %v }", 6*tick), server)+fmt.Sprintf("limits: { body_idle_timeout: %v }\n", 2*tick))
	s, err := p.caller().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Calls/Tell")
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	for time.Since(since) < 20*tick { // the client says nothing
		var in []byte
		if err := s.RecvMsg(&in); err != nil {
			return fmt.Errorf("after %v: %w", time.Since(since), err)
		}
	}
	hurry <- struct{}{}
	for err == nil {
		var in []byte
		err = s.RecvMsg(&in)
	}
	if code := status.Code(err); code != codes.Canceled && code != codes.DeadlineExceeded {
		t.Errorf("a call in which nobody says anything ends with %v", err)
	}
	return nil
}

// TestGRPCReadme: the example is a config without a fault.
func TestGRPCReadme(t *testing.T) {
	text, err := os.ReadFile("../grpc/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok {
		t.Fatal("it has no example")
	}
	if _, report, err := config.Load(config.Source{File: "example.yaml", Data: []byte(example)}); err != nil || len(report.Warnings) > 0 {
		t.Errorf("%v %v", err, report)
	}
}
