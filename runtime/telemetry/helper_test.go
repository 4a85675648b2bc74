package telemetry

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// patience is how long a test waits for something that must come.
const patience = 20 * time.Second

// collector is an OTLP receiver: it decodes what it is sent, as a real one does, and remembers it.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	url string // for Traces.Endpoint

	mu       sync.Mutex
	answer   *coltracepb.ExportTraceServiceResponse
	spans    []*tracepb.Span
	resource map[string]any
	scope    string
	header   http.Header
	path     string
	sizes    []int // of the batches, in bytes
}

func (c *collector) take(req *coltracepb.ExportTraceServiceRequest, size int, path string, header http.Header) *coltracepb.ExportTraceServiceResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, size)
	c.path, c.header = path, header
	for _, rs := range req.ResourceSpans {
		c.resource = attributes(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			c.scope = ss.Scope.Name
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	if c.answer != nil {
		return c.answer
	}
	return &coltracepb.ExportTraceServiceResponse{}
}

// all returns the spans that arrived, told apart by name.
func (c *collector) all() spanList {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Export makes a collector a gRPC service.
func (c *collector) Export(ctx context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	header := http.Header{}
	for k, v := range md {
		header[http.CanonicalHeaderKey(k)] = v
	}
	return c.take(req, proto.Size(req), "", header), nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		in, _ = gzip.NewReader(r.Body)
	}
	b, err := io.ReadAll(in)
	req := &coltracepb.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(b, req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b, _ = proto.Marshal(c.take(req, len(b), r.URL.Path, r.Header))
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(b)
}

func httpCollector(t testing.TB) *collector {
	c := &collector{}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func grpcCollector(t testing.TB) *collector {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + l.Addr().String()}
	s := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(s, c)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return c
}

// nowhere is the address of a collector that is down.
func nowhere(t testing.TB) string {
	return fmt.Sprintf("http://127.0.0.1:%d", testkit.Port(t))
}

// start starts telemetry with the environment that t.Setenv gives, and ends it with the test.
func start(t testing.TB, o Options) *Telemetry {
	t.Helper()
	if o.Loops == 0 {
		o.Loops = 1
	}
	if o.Env == nil {
		o.Env = os.Getenv
	}
	tel, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, tel) })
	return tel
}

// finish hands over what was recorded: afterwards it is where it shall be.
func finish(t testing.TB, tel *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// eventually waits for a fact that another goroutine brings about and that can only be asked for.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

type spanList []*tracepb.Span

// one returns the span with this name; there must be one.
func (l spanList) one(t testing.TB, name string) *tracepb.Span {
	t.Helper()
	var found []*tracepb.Span
	for _, s := range l {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q among %v, want one", len(found), name, l.names())
	}
	return found[0]
}

func (l spanList) names() (names []string) {
	for _, s := range l {
		names = append(names, s.Name)
	}
	return names
}

// below returns the names of the spans whose parent is s, in the order in which they began.
func (l spanList) below(s *tracepb.Span) (names []string) {
	l = slices.Clone(l)
	slices.SortStableFunc(l, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	for _, c := range l {
		if string(c.ParentSpanId) == string(s.SpanId) && string(c.TraceId) == string(s.TraceId) {
			names = append(names, c.Name)
		}
	}
	return names
}

func attributes(list []*commonpb.KeyValue) map[string]any {
	m := make(map[string]any, len(list))
	for _, kv := range list {
		var v any
		switch x := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			v = x.StringValue
		case *commonpb.AnyValue_IntValue:
			v = x.IntValue
		case *commonpb.AnyValue_DoubleValue:
			v = x.DoubleValue
		case *commonpb.AnyValue_BoolValue:
			v = x.BoolValue
		case *commonpb.AnyValue_ArrayValue:
			v = x.ArrayValue.String()
		}
		if _, twice := m[kv.Key]; twice {
			v = "TWICE: " + fmt.Sprint(v)
		}
		m[kv.Key] = v
	}
	return m
}

// wantAttributes compares all attributes of s.
func wantAttributes(t testing.TB, s *tracepb.Span, want map[string]any) {
	t.Helper()
	got := attributes(s.Attributes)
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s: %s is %v (%T), want %v (%T)", s.Name, k, got[k], got[k], want[k], want[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("%s: attributes that nobody expects: %v", s.Name, got)
	}
}

// wall is when the requests of the tests began, and loopTime the same moment by the loop's clock.
const (
	loopTime = int64(5_000 * time.Second)
	ms       = int64(time.Millisecond)
)

var wall = time.Date(2026, 3, 1, 12, 30, 45, 678_901_000, time.UTC).UnixNano()

// at is a moment of the loop's clock, so many milliseconds after the request began.
func at(after int64) int64 { return loopTime + after*ms }

// request is an exchange whose head was just read.
func request(t testing.TB, head ...string) *exchange.Exchange {
	t.Helper()
	x := &exchange.Exchange{}
	read(t, x, head...)
	return x
}

// read makes x the exchange of another request.
func read(t testing.TB, x *exchange.Exchange, head ...string) {
	t.Helper()
	x.Reset()
	b := []byte(strings.Join(head, "\r\n") + "\r\n\r\n")
	if n, err := x.Request.Parse(b, nil); err != nil || n != len(b) {
		t.Fatalf("%q: %d of %d bytes, %v", b, n, len(b), err)
	}
	arrive(x)
}

func arrive(x *exchange.Exchange) {
	x.Client = exchange.Client{
		Version: exchange.VersionOf(&x.Request),
		Conn:    7, Ordinal: 3, Peer: netip.MustParseAddrPort("10.0.0.1:40000"), Addr: netip.MustParseAddr("198.51.100.9"),
		Local: netip.MustParseAddrPort("10.0.0.2:8080"), Scheme: "http", Server: "public",
	}
	x.Started, x.HeadRead, x.WallStarted = loopTime, at(1), wall
}

// end lets the request end as most do.
func end(r *Recorder, x *exchange.Exchange, status int) {
	x.StatusSent, x.Ended = status, at(20)
	r.End(x)
}

// connection is one that was opened for the upstream users at the time wall, with a lookup and a handshake.
func connection(id uint64) *facts.Connection {
	after := func(n int64) int64 { return wall + n*ms }
	return &facts.Connection{
		ID: id, Upstream: "users", Host: "users.test:8443", Address: netip.MustParseAddrPort("192.0.2.7:8443"),
		TLS: true, TLSVersion: "1.3", TLSSuite: "TLS_AES_128_GCM_SHA256", TLSResumed: true, ALPN: "http/1.1", ServerName: "users.test", WhyOpened: facts.OpenNoIdle,
		Opened: after(2), DNSStart: after(2), DNSEnd: after(3), DialStart: after(3), DialEnd: after(4), TLSStart: after(4), TLSEnd: after(6),
		Established: after(6), DNSAnswerAt: after(3) - 2*int64(time.Second), DNSTTL: time.Minute, DNSServer: "10.0.0.53:53",
	}
}

// attempt is one that c carried, as its first.
func attempt(x *exchange.Exchange, r *Recorder, c *facts.Connection) *exchange.Attempt {
	c.Requests++
	x.Attempts = append(x.Attempts, exchange.Attempt{
		Upstream: c.Upstream, Host: c.Host, Address: c.Address, TLS: c.TLS, ConnID: c.ID, ConnTrace: c.TraceID, ConnSpan: c.SpanID,
		Ordinal: c.Requests, WhyNew: c.WhyOpened, PoolWait: time.Duration(4 * ms), DNSAge: c.DNSAge(),
		Started: at(2), Acquired: at(6),
	})
	a := x.Attempt()
	r.StartAttempt(x, a)
	a.Sent, a.FirstByte, a.Ended, a.Status = at(7), at(15), at(19), 200
	return a
}

func id(b []byte) string { return hex.EncodeToString(b) }

// messages collects what telemetry has to say.
type messages struct {
	mu sync.Mutex
	b  strings.Builder
}

func (m *messages) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b.Write(b)
}

func (m *messages) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b.String()
}

func (m *messages) log() zerolog.Logger { return zerolog.New(m) }

func failure(k fault.Kind, s fault.Source, status int, detail string) *fault.Error {
	return &fault.Error{Kind: k, Source: s, Status: status, Detail: detail}
}

// session is one of TCP mode that c carried and the client has ended.
func session(c *facts.Connection) *exchange.Session {
	peer := netip.MustParseAddrPort("198.51.100.9:40000")
	return &exchange.Session{
		Client: exchange.Client{
			Conn: 7, Ordinal: 1, Peer: peer, Addr: peer.Addr(), Local: netip.MustParseAddrPort("10.0.0.2:5432"), Scheme: "tcp", Server: "database",
		},
		Upstream: c.Upstream, Host: c.Host, Address: c.Address, TLS: c.TLS, ConnID: c.ID, ConnTrace: c.TraceID, ConnSpan: c.SpanID,
		PoolWait: time.Duration(4 * ms), DNSAge: c.DNSAge(),
		Started: loopTime, WallStarted: wall, Routed: at(1), Acquired: at(5), Ended: at(20), BytesIn: 11, BytesOut: 2222,
		Why: exchange.EndClientClosed,
	}
}
