package telemetry

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// span is a span that has ended, as exporters read it. The embedded interface is nil: it only supplies the method by
// which the SDK keeps others from implementing the interface unawares; every method that returns something is here.
type span struct {
	tracesdk.ReadOnlySpan
	maker   *spanMaker
	name    string
	kind    trace.SpanKind
	context trace.SpanContext
	parent  trace.SpanContext
	start   int64
	end     int64
	attrs   []attribute.KeyValue
	events  []tracesdk.Event
	links   []tracesdk.Link
	status  tracesdk.Status
	dropped int
}

func (s *span) Name() string                                { return s.name }
func (s *span) SpanContext() trace.SpanContext              { return s.context }
func (s *span) Parent() trace.SpanContext                   { return s.parent }
func (s *span) SpanKind() trace.SpanKind                    { return s.kind }
func (s *span) StartTime() time.Time                        { return time.Unix(0, s.start) }
func (s *span) EndTime() time.Time                          { return time.Unix(0, max(s.start, s.end)) }
func (s *span) Attributes() []attribute.KeyValue            { return s.attrs }
func (s *span) Links() []tracesdk.Link                      { return s.links }
func (s *span) Events() []tracesdk.Event                    { return s.events }
func (s *span) Status() tracesdk.Status                     { return s.status }
func (s *span) InstrumentationScope() instrumentation.Scope { return s.maker.scope }
func (s *span) InstrumentationLibrary() instrumentation.Library { //nolint:staticcheck // part of the interface
	return s.maker.scope
}
func (s *span) Resource() *resource.Resource { return s.maker.resource }
func (s *span) DroppedAttributes() int       { return s.dropped }
func (s *span) DroppedLinks() int            { return 0 }
func (s *span) DroppedEvents() int           { return 0 }
func (s *span) ChildSpanCount() int          { return 0 }

// bytes is about how much the span takes when it is sent.
func (s *span) bytes() int {
	const perSpan, perAttribute = 96, 32
	n := perSpan + len(s.name) + len(s.status.Description) + attributeBytes(s.attrs)
	for i := range s.events {
		n += perAttribute + attributeBytes(s.events[i].Attributes)
	}
	return n + perSpan*len(s.links) + perAttribute*len(s.attrs)
}

func attributeBytes(attrs []attribute.KeyValue) (n int) {
	for _, kv := range attrs {
		n += len(kv.Key)
		if kv.Value.Type() == attribute.STRING {
			n += len(kv.Value.AsString())
		}
	}
	return n
}

func (s *span) set(kv ...attribute.KeyValue) { s.attrs = append(s.attrs, kv...) }

// setText sets an attribute that is left out when it is empty.
func (s *span) setText(k attribute.Key, v string) {
	if v != "" {
		s.attrs = append(s.attrs, k.String(valid(v)))
	}
}

func (s *span) setCount(k attribute.Key, v uint64) { s.set(k.Int64(int64(v))) }

func (s *span) setSeconds(k attribute.Key, d time.Duration) { s.set(k.Float64(d.Seconds())) }

func (s *span) setAddress(addr, port attribute.Key, a netip.AddrPort) {
	if a.IsValid() {
		s.set(addr.String(a.Addr().Unmap().String()), port.Int(int(a.Port())))
	}
}

// setHost splits host:port; without a port it is the scheme's.
func (s *span) setHost(hostport string, tls bool) {
	if hostport == "" {
		return
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), "80"
		if tls {
			port = "443"
		}
	}
	s.setText(attrServerAddress, host)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		s.set(attrServerPort.Int(int(n)))
	}
}

// event adds an event, unless the time says that it did not happen.
func (s *span) event(at int64, name string, attrs ...attribute.KeyValue) {
	if at != 0 {
		s.events = append(s.events, tracesdk.Event{Name: name, Time: time.Unix(0, at), Attributes: attrs})
	}
}

// fail marks the span as failed by e.
func (s *span) fail(e *fault.Error) {
	text := e.Error()
	text = valid(text[:min(len(text), maxErrorText)])
	s.status = tracesdk.Status{Code: codes.Error, Description: text}
	s.set(attrErrorType.String(e.Kind.String()), attrErrorSource.String(e.Source.String()))
	s.event(max(s.start, s.end), eventException, attrExcType.String(e.Kind.String()), attrExcMessage.String(text))
}

// failStatus marks the span as failed by a status code (HTTP semantic conventions, "Status").
func (s *span) failStatus(status int) {
	s.status.Code = codes.Error
	s.set(attrErrorType.String(strconv.Itoa(status)))
}

// maxErrorText bounds the text of an error on a span, in bytes: a plugin or a peer may have had a say in it.
const maxErrorText = 1 << 10

// clientAddress is a client's address as it is told of. A zone means nothing here, and where a proxy said who the client
// is it may be any text that the client liked.
func clientAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// valid makes text that came from outside fit for a protobuf string: one bad byte would cost the whole batch.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// spanMaker turns records into spans. It belongs to the exporter's goroutine.
type spanMaker struct {
	ids      ids
	resource *resource.Resource
	scope    instrumentation.Scope
	spans    []tracesdk.ReadOnlySpan // made and not yet exported
}

func (m *spanMaker) add(s *span) *span {
	s.maker = m
	m.spans = append(m.spans, s)
	return s
}

// child makes a span below parent.
func (m *spanMaker) child(parent *span, name string, kind trace.SpanKind, start, end int64) *span {
	return m.add(&span{
		name: name, kind: kind, start: start, end: end, parent: parent.context,
		context: parent.context.WithSpanID(m.ids.span()).WithRemote(false),
	})
}

// make turns r into spans.
func (m *spanMaker) make(r *record) {
	if why := r.trace.Kept; why != "" {
		defer func(first int) {
			for _, s := range m.spans[first:] {
				s.(*span).setText(attrKept, why)
			}
		}(len(m.spans))
	}
	switch r.kind {
	case requestRecord:
		m.request(r)
	case callRecord:
		m.outbound(r)
	case setupRecord:
		m.setup(r)
	case segmentRecord:
		m.segment(r)
	case sessionRecord:
		m.session(r)
	}
}

// at says when something was. The loop's clock is monotonic; at what time it was what is known of the start.
func (r *record) at(loopTime int64) int64 {
	if loopTime == 0 {
		return 0
	}
	return r.wall + loopTime - r.started
}

// context is that of the server's span.
func (r *record) context() trace.SpanContext {
	state, _ := trace.ParseTraceState(r.trace.State) // refused: it is left out
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: r.trace.TraceID, SpanID: r.trace.Server, TraceFlags: r.flags(), TraceState: state,
	})
}

// flags are what those behind the gateway were told. Of a request that was kept they were told that it is not sampled.
func (r *record) flags() trace.TraceFlags {
	if r.trace.Kept != "" {
		return 0
	}
	return trace.FlagsSampled
}

// outbound makes the spans of a request of a plugin's own: children of the span of the request that it was made for.
func (m *spanMaker) outbound(r *record) {
	first := len(m.spans)
	for i := range r.attempts {
		m.attempt(&span{context: r.context()}, r, i, r.at)
	}
	for _, s := range m.spans[first:] {
		s.(*span).setText(attrPlugin, r.plugin)
	}
}

func (m *spanMaker) request(r *record) {
	wall := r.at
	end := r.ended
	if end == 0 {
		end = max(r.started, r.headRead, r.routed, r.firstByte)
	}
	context := r.context()
	method, original := knownMethod(r.get(r.method))
	s := m.add(&span{name: spanName(method, r.route), kind: trace.SpanKindServer, context: context, start: wall(r.started), end: wall(end)})
	if r.trace.Parent != [8]byte{} {
		s.parent = context.WithSpanID(r.trace.Parent).WithRemote(true)
	}
	s.set(attrMethod.String(method), attrScheme.String(r.client.Scheme))
	s.setText(attrMethodOriginal, original)
	s.setText(attrPath, r.get(r.path))
	s.setText(attrRoute, r.route)
	s.setText(attrUserAgent, r.get(r.agent))
	s.setText(attrListener, r.client.Server)
	s.setHost(r.get(r.authority), r.client.Scheme == "https")
	if r.client.Addr.IsValid() {
		s.set(attrClientAddress.String(clientAddress(r.client.Addr).String()))
	}
	s.setAddress(attrPeerAddress, attrPeerPort, r.client.Peer)
	s.set(attrProtocol.String(protocol(r.minor)))
	s.setCount(attrClientConn, r.client.Conn)
	s.setCount(attrClientOrdinal, r.client.Ordinal)
	s.set(attrRequestBody.Int64(r.bytesIn), attrResponseBody.Int64(r.bytesOut))
	if r.status != 0 {
		s.set(attrStatus.Int(r.status))
	}
	for i, t := range r.tags {
		if !hasTag(r.tags[i+1:], t.Key) { // the last one counts: keys must be unique
			s.set(attribute.String(attrTagPrefix+valid(t.Key), valid(t.Value)))
		}
	}
	if s.dropped = r.dropped; r.dropped > 0 {
		s.set(attrDropped.Int(r.dropped))
	}
	if r.err != nil {
		s.fail(r.err)
		if r.status > 0 && r.status < 500 {
			s.status = tracesdk.Status{} // the client's doing: not an error of the server
		}
	} else if r.status >= 500 {
		s.failStatus(r.status)
	}
	for _, member := range r.baggage {
		s.setText(attribute.Key(attrBaggagePrefix+member.name), decoded(string(r.text[member.value.from:member.value.to])))
	}
	for i := range r.calls {
		m.call(s, &r.calls[i], wall)
	}
	for i := range r.attempts {
		m.attempt(s, r, i, wall)
	}
	m.trail(s, r)
}

func hasTag(tags []exchange.Tag, key string) bool {
	for _, t := range tags {
		if t.Key == key {
			return true
		}
	}
	return false
}

func (m *spanMaker) call(parent *span, c *exchange.PluginCall, wall func(int64) int64) {
	start := wall(c.Started)
	s := m.child(parent, spanPlugin+" "+valid(c.Plugin), trace.SpanKindInternal, start, start+int64(c.Took))
	s.setText(attrPlugin, c.Plugin)
	s.setText(attrPluginPhase, c.Phase)
	s.set(attrPluginFuel.Int64(c.Fuel))
	s.setText(attrPluginOutcome, c.Outcome)
	if c.Err != nil {
		s.fail(c.Err)
	}
}

// setup makes the root span of a connection's trace, and one below it for each thing that took time.
func (m *spanMaker) setup(r *record) {
	c := &r.conn
	end := c.Established
	if end == 0 {
		end = max(c.Closed, c.TLSEnd, c.DialEnd, c.DNSEnd, c.Opened)
	}
	s := m.add(&span{
		name: spanConnection, kind: trace.SpanKindInternal, start: c.Opened, end: end,
		context: trace.NewSpanContext(trace.SpanContextConfig{TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: trace.FlagsSampled}),
	})
	m.identify(s, r)
	s.setText(attrConnWhyOpened, c.WhyOpened)
	if c.TLS {
		s.setText(attrTLSVersion, c.TLSVersion)
		s.setText(attrTLSServerName, c.ServerName)
		s.setText(attrTLSALPN, c.ALPN)
	}
	if c.DNSAnswerAt != 0 {
		s.setSeconds(attrDNSAge, c.DNSAge())
		s.setSeconds(attrDNSTTL, c.DNSTTL)
		s.setText(attrDNSServer, c.DNSServer)
		s.set(attrDNSStale.Bool(c.DNSStale))
	}
	phase := func(name string, start, end int64, over bool) *span {
		if start == 0 {
			return nil
		}
		failed := end == 0 || c.Established == 0 && !over
		if end == 0 {
			end = s.end
		}
		p := m.child(s, name, trace.SpanKindClient, start, end)
		if failed && c.Err != nil {
			p.fail(c.Err)
		}
		return p
	}
	if p := phase(spanDNS, c.DNSStart, c.DNSEnd, c.DialStart != 0 || c.Err != nil && c.Err.Kind != fault.DNS); p != nil {
		host, _, err := net.SplitHostPort(c.Host)
		if err != nil {
			host = c.Host
		}
		p.setText(attrQuestion, host)
		p.setText(attrDNSServer, c.DNSServer)
	}
	if p := phase(spanConnect, c.DialStart, c.DialEnd, c.TLSStart != 0); p != nil {
		p.setAddress(attrPeerAddress, attrPeerPort, c.Address)
	}
	if p := phase(spanTLS, c.TLSStart, c.TLSEnd, false); p != nil {
		p.setText(attrTLSServerName, c.ServerName)
		p.setText(attrTLSVersion, c.TLSVersion)
	}
	if c.Established == 0 {
		s.setText(attrConnWhyClosed, c.WhyClosed)
		if c.Err != nil {
			s.fail(c.Err)
		}
	}
}

// segment makes the span of a part of a connection's life, below its root.
func (m *spanMaker) segment(r *record) {
	c := &r.conn
	root := trace.NewSpanContext(trace.SpanContextConfig{TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: trace.FlagsSampled})
	s := m.add(&span{
		name: spanSegment, kind: trace.SpanKindInternal, start: r.from, end: r.to,
		parent: root, context: root.WithSpanID(m.ids.span()),
	})
	m.identify(s, r)
	s.set(attrConnSegment.Int(c.Segments))
	s.setCount(attrConnRequests, c.Requests)
	s.setCount(attrConnBytesIn, c.BytesIn)
	s.setCount(attrConnBytesOut, c.BytesOut)
	s.setSeconds(attrConnIdleTotal, c.IdleTotal)
	s.set(attrConnMoved.Int(c.MovedBetweenLoops))
	s.setSeconds(attrConnAge, time.Duration(r.to-c.Opened))
	if r.last {
		s.setText(attrConnWhyClosed, c.WhyClosed)
		if c.Err != nil {
			s.fail(c.Err)
		}
	}
}

func (m *spanMaker) identify(s *span, r *record) {
	s.setCount(attrConnID, r.conn.ID)
	s.setText(attrUpstream, r.conn.Upstream)
	s.setHost(r.conn.Host, r.conn.TLS)
	s.setAddress(attrPeerAddress, attrPeerPort, r.conn.Address)
	if r.conn.WhyOpened == facts.OpenHealthCheck {
		s.set(attrConnHealthCheck.Bool(true))
	}
}

// knownMethod returns the method as the conventions want it: those that are not known would make a name for each.
func knownMethod(m string) (method, original string) {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return m, ""
	}
	return "_OTHER", m
}

// spanName is the method, and what it was for as the configuration calls it.
func spanName(method, target string) string {
	if method == "_OTHER" {
		method = "HTTP"
	}
	if target == "" {
		return method
	}
	return method + " " + valid(target)
}

func protocol(minor int) string {
	if minor == 0 {
		return "1.0"
	}
	return "1.1"
}

// randomBelow says whether a trace with this id is to be sampled by ratio, as OpenTelemetry's TraceIDRatioBased does.
func randomBelow(id [16]byte, bound uint64) bool { return binary.BigEndian.Uint64(id[8:])>>1 < bound }
