package telemetry

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wasmgate/runtime/exchange"
)

// uploaded is what a client of the exporters is handed.
type uploaded struct{ spans []*tracepb.ResourceSpans }

func (*uploaded) Start(context.Context) error { return nil }
func (*uploaded) Stop(context.Context) error  { return nil }
func (u *uploaded) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	u.spans = spans
	return nil
}

// stub is s as OpenTelemetry's exporters read spans.
func stub(s *span, res *resource.Resource, scope instrumentation.Scope) tracesdk.ReadOnlySpan {
	t := tracetest.SpanStub{
		Name: s.name, SpanContext: s.context, Parent: s.parent, SpanKind: s.kind, StartTime: time.Unix(0, s.start), EndTime: time.Unix(0, max(s.start, s.end)),
		Attributes: s.attrs, Status: tracesdk.Status{Code: s.status.code, Description: s.status.text}, DroppedAttributes: s.dropped,
		Resource: res, InstrumentationScope: scope,
	}
	for _, e := range s.events {
		t.Events = append(t.Events, tracesdk.Event{Name: e.name, Time: time.Unix(0, e.at), Attributes: e.attrs})
	}
	for _, l := range s.links {
		var attrs []attribute.KeyValue
		if l.conn != 0 {
			attrs = append(attrs, attrConnID.Int64(int64(l.conn)))
		}
		t.Links = append(t.Links, tracesdk.Link{Attributes: attrs,
			SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: l.trace, SpanID: l.span, TraceFlags: trace.FlagsSampled})})
	}
	return t.Snapshot()
}

// chance makes random spans.
type chance struct {
	*rand.Rand
	ids ids
}

func (c chance) text() string { return strings.Repeat("é.", c.IntN(100)) }

func (c chance) attributes() (attrs []attribute.KeyValue) {
	for range c.IntN(5) {
		k := attribute.Key("k" + c.text())
		attrs = append(attrs, []attribute.KeyValue{
			k.String(c.text()), k.Int64(c.Int64() - c.Int64()), k.Bool(c.IntN(2) == 0), k.Float64(c.NormFloat64()), k.Float64(0), k.Int(0),
			k.StringSlice([]string{c.text(), "", "b"}),
		}[c.IntN(7)])
	}
	return attrs
}

func (c chance) context() trace.SpanContext {
	state, _ := trace.ParseTraceState([]string{"", "a=b", "a=b,c@d=e f"}[c.IntN(3)])
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: c.ids.trace(), SpanID: c.ids.span(), TraceFlags: trace.TraceFlags(c.IntN(2)), TraceState: state, Remote: c.IntN(2) == 0})
}

func (c chance) span(m *spanMaker) *span {
	s := m.next(c.text(), trace.SpanKind(c.IntN(6)), c.context(), trace.SpanContext{}, c.Int64(), c.Int64())
	if c.IntN(2) == 0 {
		s.parent = c.context()
	}
	s.set(c.attributes()...)
	for range c.IntN(4) {
		s.event(1+c.Int64N(1<<60), c.text(), c.attributes()...)
	}
	for range c.IntN(3) {
		s.links = append(s.links, link{c.ids.trace(), c.ids.span(), c.Uint64N(2)})
	}
	if c.IntN(2) == 0 {
		s.status = status{codes.Code(c.IntN(3)), c.text()}
	}
	s.dropped = c.IntN(2) * c.IntN(1000)
	return s
}

// TestSpansAreEncodedAsTheSDKDoes: whatever is in a span, what arrives is what OpenTelemetry's own way would have sent.
func TestSpansAreEncodedAsTheSDKDoes(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(1, 2)), newIDs()}
	res := resource.NewWithAttributes("https://schema.test/1", attribute.String("service.name", "x"), attribute.Int("n", 7), attribute.StringSlice("args", []string{"a", "b"}))
	scope := instrumentation.Scope{Name: "wasmgate", Version: "v1"}
	message, err := resourceMessage(res)
	if err != nil {
		t.Fatal(err)
	}
	theirs := &uploaded{}
	sdk, err := otlptrace.New(t.Context(), theirs)
	if err != nil {
		t.Fatal(err)
	}
	m := &spanMaker{ids: c.ids}
	for range 500 {
		var b []byte
		var stubs []tracesdk.ReadOnlySpan
		m.spans = m.spans[:0]
		for range 1 + c.IntN(4) {
			s := c.span(m)
			b = appendSpan(b, s)
			stubs = append(stubs, stub(s, res, scope))
		}
		if err := sdk.ExportSpans(t.Context(), stubs); err != nil {
			t.Fatal(err)
		}
		ours := batch(b, message, res.SchemaURL(), &commonpb.InstrumentationScope{Name: scope.Name, Version: scope.Version})
		wire, err := proto.Marshal(ours[0])
		if err != nil {
			t.Fatal(err)
		}
		got := &tracepb.ResourceSpans{}
		if err := proto.Unmarshal(wire, got); err != nil {
			t.Fatal(err)
		}
		if want := theirs.spans[0]; !proto.Equal(got, want) {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
	}
}

// ordinary is the record of a request as most are.
func ordinary(t testing.TB) *record {
	x := request(t, "GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)")
	conn := connection(1)
	x.Route, x.FirstByte, x.WallStarted = "user-by-id", at(15), wall
	attempt(x, start(t, Options{}).Loop(0), conn)
	r := &record{kind: requestRecord, started: x.Started, wall: wall, headRead: at(1), matched: at(2), routed: at(3), firstByte: at(15), ended: at(20), route: x.Route, status: 200}
	r.method, r.authority, r.path = r.put(x.Request.Method, maxPath), r.put(x.Request.Authority, maxPath), r.put(x.Request.Path, maxPath)
	r.sentMethod, r.sentAuthority, r.sentPath = r.method, r.authority, r.path
	r.client, r.trace = x.Client, exchange.Trace{TraceID: newIDs().trace(), Server: newIDs().span(), Sampled: true}
	r.lists(x)
	return r
}

// BenchmarkSpans is what the spans of a request cost the exporter: ours until they are bytes, the SDK's until they are
// messages.
func BenchmarkSpans(b *testing.B) {
	m, r := &spanMaker{ids: newIDs()}, ordinary(b)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = buf[:0]
			for _, s := range m.make(r) {
				buf = appendSpan(buf, s)
			}
		}
	})
	b.Run("sdk", func(b *testing.B) {
		res := resource.Empty()
		sdk, err := otlptrace.New(b.Context(), &uploaded{})
		if err != nil {
			b.Fatal(err)
		}
		var stubs []tracesdk.ReadOnlySpan
		for _, s := range m.make(r) {
			stubs = append(stubs, stub(s, res, instrumentation.Scope{}))
		}
		b.ReportAllocs()
		for b.Loop() {
			_ = sdk.ExportSpans(b.Context(), stubs)
		}
	})
}

// BenchmarkRecord is what telemetry costs the loop for a request: without traces, with those of failures kept only, and
// with every request's.
func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct {
		name   string
		traces Traces
	}{{"off", Traces{}}, {"none sampled", Traces{Sample: ratio(0)}}, {"failures kept", Traces{Sample: ratio(0), KeepErrors: true, Slow: time.Second, KeepRate: 100}}, {"all", Traces{Sample: ratio(1)}}} {
		b.Run(c.name, func(b *testing.B) {
			if c.name != "off" {
				c.traces.Endpoint = httpCollector(b).url
			}
			r := start(b, Options{Traces: c.traces}).Loop(0)
			x := request(b, "GET /users/42?x=1 HTTP/1.1", "Host: api.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)")
			conn := connection(1)
			wire := []byte("GET /users/42?x=1 HTTP/1.1\r\nHost: api.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\r\n")
			for b.Loop() {
				x.Trace, x.Attempts, x.Err = exchange.Trace{}, x.Attempts[:0], nil
				x.Request.Reset()
				_, _ = x.Request.Parse(wire, nil)
				r.Begin(x)
				x.Route, x.FirstByte = "user-by-id", at(15)
				attempt(x, r, conn)
				end(r, x, 200)
			}
		})
	}
}
