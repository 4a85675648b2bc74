package telemetry

import (
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/upstream/facts"
)

// spanMaker turns records into spans. It belongs to the exporter's goroutine, and makes no garbage.
type spanMaker struct {
	ids   ids
	spans []*span // of the record; those that it was given before are behind its length
	text  []byte  // that spans of the record have views of
}

// next is an empty span.
func (m *spanMaker) next(name string, kind trace.SpanKind, context, parent trace.SpanContext, start, end int64) *span {
	n := len(m.spans)
	if n < cap(m.spans) {
		m.spans = m.spans[:n+1]
	} else {
		m.spans = append(m.spans, nil)
	}
	if m.spans[n] == nil {
		m.spans[n] = &span{maker: m}
	}
	s := m.spans[n]
	s.clear()
	s.name, s.kind, s.context, s.parent, s.start, s.end = name, kind, context, parent, start, end
	return s
}

// child makes a span below parent.
func (m *spanMaker) child(parent *span, name string, kind trace.SpanKind, start, end int64) *span {
	return m.next(name, kind, parent.context.WithSpanID(m.ids.span()).WithRemote(false), parent.context, start, end)
}

// join puts texts together, in memory of the maker's.
func (m *spanMaker) join(texts ...string) string {
	from := len(m.text)
	for _, t := range texts {
		m.text = append(m.text, t...)
	}
	return view(m.text[from:])
}

// address is an address as a text, in memory of the maker's.
func (m *spanMaker) address(a netip.Addr) string {
	from := len(m.text)
	m.text = a.Unmap().AppendTo(m.text)
	return view(m.text[from:])
}

// make turns r into spans, which are there until r changes or the next one is made.
func (m *spanMaker) make(r *record) []*span {
	m.spans, m.text = m.spans[:0], m.text[:0]
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
	if r.trace.Kept != "" {
		for _, s := range m.spans {
			s.setText(attrKept, r.trace.Kept)
		}
	}
	return m.spans
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
	parent := span{context: r.context()}
	for i := range r.attempts {
		m.attempt(&parent, r, i)
	}
	for _, s := range m.spans {
		s.setText(attrPlugin, r.plugin)
	}
}

func (m *spanMaker) request(r *record) {
	end := r.ended
	if end == 0 {
		end = max(r.started, r.headRead, r.routed, r.firstByte)
	}
	context := r.context()
	method, original := knownMethod(r.get(r.method))
	s := m.next(m.spanName(method, r.route), trace.SpanKindServer, context, trace.SpanContext{}, r.at(r.started), r.at(end))
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
		s.set(attrClientAddress.String(m.address(clientAddress(r.client.Addr))))
	}
	s.setAddress(attrPeerAddress, attrPeerPort, r.client.Peer)
	s.set(attrProtocol.String(cmp.Or(r.client.Version, exchange.HTTP11)))
	s.setTLS(r.client.TLS)
	if r.client.Version == exchange.HTTP3 { // all others go over TCP, which the conventions take for granted
		s.set(attrTransport.String("quic"))
	}
	s.setCount(attrClientConn, r.client.Conn)
	s.setCount(attrClientOrdinal, r.client.Ordinal)
	s.set(attrRequestBody.Int64(r.bytesIn), attrResponseBody.Int64(r.bytesOut))
	if r.status != 0 {
		s.set(attrStatus.Int(r.status))
	}
	s.setText(attrTunnel, r.tunnel.Protocol)
	s.setText(attrTunnelWhyEnded, r.tunnel.Why)
	for i, t := range r.tags {
		if !hasTag(r.tags[i+1:], t.Key) { // the last one counts: keys must be unique
			s.set(attribute.String(attrTagPrefix+valid(t.Key), valid(t.Value)))
		}
	}
	if s.dropped = r.dropped; r.dropped > 0 {
		s.set(attrDropped.Int(r.dropped))
	}
	s.setRPC(r)
	if r.err != nil {
		s.fail(r.err)
		if r.status > 0 && r.status < 500 && !rpcFailed(&r.rpc) {
			s.status = status{} // the client's doing: not an error of the server
		}
	} else if rpcFailed(&r.rpc) {
		s.status.code = codes.Error
		s.set(attrErrorType.String(grpc.Code(r.rpc.Status).String()))
	} else if r.status >= 500 {
		s.failStatus(r.status)
	}
	for _, member := range r.baggage {
		s.setText(attribute.Key(attrBaggagePrefix+member.name), decoded(string(r.text[member.value.from:member.value.to])))
	}
	for i := range r.calls {
		m.call(s, r, &r.calls[i])
	}
	for i := range r.attempts {
		m.attempt(s, r, i)
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

func (m *spanMaker) call(parent *span, r *record, c *exchange.PluginCall) {
	start := r.at(c.Started)
	s := m.child(parent, m.join(spanPlugin, " ", valid(c.Plugin)), trace.SpanKindInternal, start, start+int64(c.Took))
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
	root := trace.NewSpanContext(trace.SpanContextConfig{TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: trace.FlagsSampled})
	s := m.next(spanConnection, trace.SpanKindInternal, root, trace.SpanContext{}, c.Opened, end)
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
		if c.TLSSuite != "" {
			p.setText(attrTLSCipher, c.TLSSuite)
			p.set(attrTLSResumed.Bool(c.TLSResumed))
		}
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
	s := m.next(spanSegment, trace.SpanKindInternal, root.WithSpanID(m.ids.span()), root, r.from, r.to)
	m.identify(s, r)
	s.set(attrConnSegment.Int(c.Segments))
	s.setCount(attrConnRequests, c.Requests)
	s.setCount(attrConnBytesIn, c.BytesIn)
	s.setCount(attrConnBytesOut, c.BytesOut)
	s.setSeconds(attrConnIdleTotal, c.IdleTotal)
	s.set(attrConnMoved.Int(c.MovedBetweenLoops))
	s.setSeconds(attrConnAge, time.Duration(r.to-c.Opened))
	s.setText(attrGoAwayReceived, c.GoAwayReceived)
	s.setText(attrGoAwaySent, c.GoAwaySent)
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
func (m *spanMaker) spanName(method, target string) string {
	if method == "_OTHER" {
		method = "HTTP"
	}
	if target == "" {
		return method
	}
	return m.join(method, " ", valid(target))
}

// randomBelow says whether a trace with this id is to be sampled by ratio, as OpenTelemetry's TraceIDRatioBased does.
func randomBelow(id [16]byte, bound uint64) bool { return binary.BigEndian.Uint64(id[8:])>>1 < bound }
