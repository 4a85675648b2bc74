package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"wasmgate/runtime/internal/testkit"
)

// rawCodec passes messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }
func (rawCodec) Name() string                    { return "proto" }

// startGRPC starts a server of the public gRPC library, with one service, and returns its address.
func startGRPC(t *testing.T, service *grpc.ServiceDesc) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}))
	service.HandlerType = (*any)(nil)
	s.RegisterService(service, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// startEcho starts one with a method that greets, and one that talks both ways.
func startEcho(t *testing.T) (addr string) {
	t.Helper()
	return startGRPC(t, &grpc.ServiceDesc{
		ServiceName: "test.Echo",
		Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := decode(&in); err != nil {
				return nil, err
			}
			return greet(ctx, string(in))
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return talk(s) }}},
	})
}

func greet(ctx context.Context, in string) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch in {
	case "fail":
		return nil, status.Error(codes.PermissionDenied, "no way: 100 %")
	case "slow":
		<-ctx.Done()
		return nil, status.Error(codes.DeadlineExceeded, "too late") // the context's error may be that it was cancelled
	case "large":
		b := make([]byte, 5<<20)
		return &b, nil
	}
	b := fmt.Appendf(nil, "hi %s %s", in, strings.Join(md.Get("x-meta"), ","))
	return &b, nil
}

// talk says three things, the next one when the one before was repeated.
func talk(s grpc.ServerStream) error {
	want := []string{"first", "a", "bc"}
	for i, say := range []string{"a", "bc", "last"} {
		var in []byte
		if err := s.RecvMsg(&in); err != nil || string(in) != want[i] {
			return status.Errorf(codes.InvalidArgument, "%q %v", in, err)
		}
		out := []byte(say)
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
	var in []byte
	if err := s.RecvMsg(&in); err != io.EOF {
		return status.Errorf(codes.InvalidArgument, "%q %v", in, err)
	}
	s.SetTrailer(metadata.Pairs("x-sum", "3"))
	return nil
}

// grpcConfig has a route whose plugin does what the script says, and may call the upstream grpc.
func grpcConfig(web, server, more string, script ...string) string {
	return fmt.Sprintf(`loops: 1
upstreams: { web: { targets: ['http://%s'] }, grpc: { targets: ['http://%s'], protocol: http2%s } }
plugins: { guard: { module: %q, calls: [grpc], config: %q } }
routes: [{ plugins: [guard], upstream: web }]
`, web, server, more, "../../"+probe, strings.Join(script, "\n"))
}

var decides = []string{"request return 1", "grpc_message stream 0", "grpc_message copybody 5 x-answer", "grpc_message resume 0", "grpc_close status", "grpc_close stream 0", "grpc_close respond 403 denied -1"}

// TestGRPCCallOfAPlugin: a request waits for the answer of a gRPC server.
func TestGRPCCallOfAPlugin(t *testing.T) {
	server, b := startEcho(t), startBackends(t, 1)[0]
	saw := tells(b, "x-answer")
	for name, c := range map[string]struct {
		call   string
		status int
		want   string
	}{
		"answered":  {"grpccall grpc test.Echo Greet 2000 anna x-meta m", 200, "x-answer=hi anna m"},
		"as Envoy":  {"grpcproto grpc test.Echo Greet 2000 anna x-meta m", 200, "x-answer=hi anna m"},
		"denied":    {"grpccall grpc test.Echo Greet 2000 fail", 403, "status -> 0 7 no way: 100 %"},
		"no method": {"grpccall grpc test.Echo Nothing 2000 x", 403, "status -> 0 12 "},
		"too late":  {"grpccall grpc test.Echo Greet 50 slow", 403, "status -> 0 4 "},
		"too large": {"grpccall grpc test.Echo Greet 5000 large", 403, "status -> 0 8 a message of 5242880 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlant(t, grpcConfig(b.addr, server, ", health: { passive: { failures: 0 } }", append([]string{"request " + c.call}, decides...)...))
			for range 3 {
				if a := p.ask("GET", "/x"); a.status != c.status {
					t.Errorf("%d %s; %s", a.status, a.body, p.journal)
				}
				if seen := saw.last(); c.status == 200 && !strings.HasSuffix(seen, c.want) {
					t.Errorf("the upstream saw %q", seen)
				}
			}
			if c.status != 200 && !strings.Contains(p.journal.String(), strings.TrimSpace(c.want)) {
				t.Errorf("%s", p.journal)
			}
			if opened := p.upstream("grpc").Members[0].Open; opened != 1 {
				t.Errorf("%d connections", opened)
			}
		})
	}
}

// TestGRPCStreamOfAPlugin talks both ways with a gRPC server, for many requests at a time.
func TestGRPCStreamOfAPlugin(t *testing.T) {
	server, b := startEcho(t), startBackends(t, 1)[0]
	tells(b)
	p := startPlant(t, grpcConfig(b.addr, server, "", "request grpcstream grpc test.Echo Talk", "request grpcsend 0 first 0", "request return 1",
		"grpc_message grpcecho last", "grpc_trailers pairs 5", "grpc_close status", "grpc_close stream 0", "grpc_close resume 0"))
	for range 20 {
		if a := p.ask("GET", "/x"); a.status != 200 {
			t.Errorf("%d %s; %s", a.status, a.body, p.journal)
		}
	}
	for _, says := range []string{"x-sum=3", "grpc_close(1 1 0)", "status -> 0 0"} {
		if !strings.Contains(p.journal.String(), says) {
			t.Errorf("it does not say %s: %s", says, p.journal)
		}
	}
	if opened := p.upstream("grpc").Members[0].Open; opened != 1 {
		t.Errorf("%d connections", opened)
	}
}

// TestGRPCNeedsHTTP2 tells what is wrong with the configuration.
func TestGRPCNeedsHTTP2(t *testing.T) {
	b := startBackends(t, 1)[0]
	text := strings.ReplaceAll(grpcConfig(b.addr, b.addr, "", append([]string{"request grpccall grpc s m 500 x"}, decides...)...), "protocol: http2", "protocol: http1.1")
	p := startPlant(t, text)
	if a := p.ask("GET", "/x"); a.status != 403 || !strings.Contains(p.journal.String(), "upstreams.grpc.protocol: http2") || !strings.Contains(p.journal.String(), "status -> 0 12") {
		t.Errorf("%d %s", a.status, p.journal)
	}
}

// TestHostileGRPCServers: each is an error to the plugin, in time, and harms nobody else.
func TestHostileGRPCServers(t *testing.T) {
	b := startBackends(t, 1)[0]
	tells(b)
	head := func(f *http2.Framer, id uint32, end bool, fields ...string) {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	good := []string{":status", "200", "content-type", "application/grpc"}
	prefix := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, n) }
	for name, c := range map[string]struct {
		do   func(f *http2.Framer, c net.Conn, id uint32)
		code int
	}{
		"never answers":    {func(*http2.Framer, net.Conn, uint32) {}, 4},
		"head and no more": {func(f *http2.Framer, _ net.Conn, id uint32) { head(f, id, false, good...) }, 4},
		"garbage":          {func(_ *http2.Framer, c net.Conn, _ uint32) { _, _ = c.Write(bytes.Repeat([]byte("garbage "), 100)) }, 13},
		"garbage in frames": {func(f *http2.Framer, _ net.Conn, id uint32) {
			head(f, id, false, good...)
			_ = f.WriteData(id, true, []byte("\x07garbage"))
		}, 13},
		"a message too large": {func(f *http2.Framer, _ net.Conn, id uint32) {
			head(f, id, false, good...)
			_ = f.WriteData(id, false, prefix(1<<31))
		}, 8},
		"more than the window": {func(f *http2.Framer, _ net.Conn, id uint32) {
			head(f, id, false, good...)
			_ = f.WriteData(id, false, prefix(4<<20))
			for f.WriteData(id, false, make([]byte, 16<<10)) == nil {
			}
		}, 13},
		"GOAWAY in the middle": {func(f *http2.Framer, c net.Conn, id uint32) {
			head(f, id, false, good...)
			_ = f.WriteGoAway(id, http2.ErrCodeNo, nil)
			_ = f.WriteData(id, false, append(prefix(2), "ok"...))
			head(f, id, true, "grpc-status", "0")
			c.Close()
		}, 0},
		"GOAWAY for all": {func(f *http2.Framer, _ net.Conn, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }, 14},
		"closes":         {func(f *http2.Framer, c net.Conn, id uint32) { head(f, id, false, good...); c.Close() }, 14},
		"trailers alone": {func(f *http2.Framer, _ net.Conn, id uint32) { head(f, id, true, append(good, "grpc-status", "9")...) }, 9},
		"status out of range": {func(f *http2.Framer, _ net.Conn, id uint32) {
			head(f, id, true, append(good, "grpc-status", "4294967296")...)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			addr, end := byHand(t, func(f *http2.Framer, nc net.Conn, h *http2.HeadersFrame) { c.do(f, nc, h.StreamID) })
			defer end()
			limit := 30_000 // milliseconds
			if c.code == 4 {
				limit = 200
			}
			p := startPlant(t, grpcConfig(b.addr, addr, ", health: { passive: { failures: 0 } }", append([]string{fmt.Sprintf("request grpccall grpc s m %d x", limit)}, decides...)...))
			defer p.Close()
			for range 2 {
				a := p.ask("GET", "/x")
				if want := 403; c.code != 0 && (a.status != want || !strings.Contains(p.journal.String(), fmt.Sprintf(" %d)", c.code))) || c.code == 0 && a.status != 200 {
					t.Errorf("%d %s", a.status, p.journal)
				}
			}
		})
	}
}

// TestGRPCStreamEndsWithItsRequest: a stream that nobody ends is reset when the request is over, and its connection is kept.
func TestGRPCStreamEndsWithItsRequest(t *testing.T) {
	b := startBackends(t, 1)[0]
	tells(b)
	ended := make(chan struct{}, 10)
	server := startGRPC(t, &grpc.ServiceDesc{ServiceName: "test.Wait", Streams: []grpc.StreamDesc{{
		StreamName: "Wait", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			if err := s.SendHeader(nil); err != nil {
				return err
			}
			<-s.Context().Done()
			ended <- struct{}{}
			return nil
		},
	}}})
	p := startPlant(t, grpcConfig(b.addr, server, "", "request grpcstream grpc test.Wait Wait", "request grpcsend 0 x 0", "request return 1", "grpc_head stream 0", "grpc_head resume 0"))
	for range 3 {
		if a := p.ask("GET", "/x"); a.status != 200 {
			t.Errorf("%d %s", a.status, p.journal)
		}
	}
	for range 3 {
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("a stream goes on")
		}
	}
	testkit.Eventually(t, "one connection is kept", func() bool { return p.upstream("grpc").Members[0].Open <= 1 })
}
