package telemetry

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
)

// Session is called when a session of a listener in TCP mode has ended in whatever way. It counts it, writes its line,
// and hands over what its spans are made of. There is no caller whose decision could be followed, so the ratio alone
// says whether a session is traced.
func (r *Recorder) Session(s *exchange.Session) {
	r.countSession(s)
	r.noteSession(s)
	var t exchange.Trace
	if t.TraceID, t.Sampled = r.begins(); t.Sampled {
		t.Server = r.ids.span()
	} else {
		r.keepSession(s, &t)
	}
	if r.lines != nil && r.keeps(s.Err != nil, 0) { // a long session is none that is slow
		if r.sessionTrace = t; r.format != nil {
			r.formatSession(s)
		} else {
			r.sessionLine(s, &t)
		}
	}
	if !t.Sampled && t.Kept == "" {
		return
	}
	if rec := r.spans.take(); rec != nil {
		rec.kind, rec.session, rec.trace = sessionRecord, *s, t
		r.spans.give(rec)
	}
}

type sessionKey struct{ listener, upstream string }

// sessionSeries counts the sessions with one combination of listener and upstream.
type sessionSeries struct {
	sessionKey
	ended    [endSlots]atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	last     *upstreamSeries // nil: they had no upstream
	rest     rest
}

// endSlots is enough for the reasons of a session's end, and one for words that are not among them.
const endSlots = 16

var endReasons = slots(exchange.EndReasons, endSlots)

func (r *Recorder) countSession(s *exchange.Session) {
	c := r.cells.session(sessionKey{s.Client.Server, s.Upstream})
	c.ended[slot(endReasons, s.Why, endSlots)].Add(1)
	if s.BytesIn > 0 {
		c.bytesIn.Add(uint64(s.BytesIn))
	}
	if s.BytesOut > 0 {
		c.bytesOut.Add(uint64(s.BytesOut))
	}
	if s.Err == nil {
		return
	}
	r.cells.errors[s.Err.Kind][s.Err.Source].Add(1)
	if c.last != nil {
		c.last.errors[s.Err.Kind].Add(1)
	}
}

// session returns the series of these names.
func (c *cells) session(k sessionKey) *sessionSeries {
	s := c.sessions[k]
	if s == nil && len(c.sessions) >= maxSeries {
		k = sessionKey{otherName, otherName}
		s = c.sessions[k]
	}
	if s == nil {
		s = &sessionSeries{sessionKey: k}
		if k.upstream != "" {
			s.last = c.upstream(k.upstream)
		}
		c.sessions[k] = s
		publish(&c.sessionList, s)
	}
	return s
}

// sessionLine writes the access log's line of s. Its fields are documented in README.md; those that do not apply are
// left out.
func (r *Recorder) sessionLine(s *exchange.Session, t *exchange.Trace) {
	e := r.log.Log()
	if e == nil {
		return // logging as a whole was switched off
	}
	e.RawJSON("time", r.clock.json(s.WallStarted+s.Ended-s.Started))
	if s.Client.Addr.IsValid() {
		r.scratch = clientAddress(s.Client.Addr).AppendTo(r.scratch[:0])
		e.Bytes("client", r.scratch)
	}
	if s.Client.Peer.IsValid() {
		e.Int("client_port", int(s.Client.Peer.Port()))
	}
	r.address(e, "via", s.Via)
	e.Str("listener", s.Client.Server).Str("scheme", s.Client.Scheme)
	text(e, "sni", s.SNI)
	e.Int64("bytes_in", s.BytesIn).Int64("bytes_out", s.BytesOut).Int64("duration_us", micros(s.Ended-s.Started))
	if s.Upstream != "" {
		e.Str("upstream", s.Upstream)
		r.where(e, s.Host, s.Address, s.Err)
		if s.ConnID != 0 {
			e.Uint64("connection_id", s.ConnID)
		}
		e.Int64("pool_wait_us", micros(int64(s.PoolWait)))
	}
	e.Str("why_ended", s.Why).Uint64("client_connection", s.Client.Conn)
	if s.Err != nil {
		lineError(e, s.Err)
	}
	if t.Sampled || t.Kept != "" {
		e.Hex("trace_id", t.TraceID[:]).Hex("span_id", t.Server[:])
	}
	e.Send()
}

// where writes which server it was, as the configuration calls it, and the other end of the socket. Without a
// connection it is the server that could not be connected to, if there was one.
func (r *Recorder) where(e *zerolog.Event, host string, address netip.AddrPort, err *fault.Error) {
	if address.IsValid() || err == nil {
		text(e, "upstream_host", host)
		r.address(e, "upstream_address", address)
		return
	}
	err = dialError(err)
	text(e, "upstream_host", err.Host)
	text(e, "upstream_address", err.Address)
}

// address writes an address that is left out when it is not valid.
func (r *Recorder) address(e *zerolog.Event, key string, a netip.AddrPort) {
	if a.IsValid() {
		r.scratch = unixaddr.Append(r.scratch[:0], netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		e.Bytes(key, r.scratch)
	}
}

// session makes the server span of a session, and one below it for the time until it had an upstream connection.
func (m *spanMaker) session(r *record) {
	f := &r.session
	r.wall, r.started = f.WallStarted, f.Started
	context := trace.NewSpanContext(trace.SpanContextConfig{TraceID: r.trace.TraceID, SpanID: r.trace.Server, TraceFlags: r.flags()})
	s := m.next(m.join(spanSession, " ", valid(f.Client.Server)), trace.SpanKindServer, context, trace.SpanContext{}, f.WallStarted, r.at(f.Ended))
	s.setText(attrListener, f.Client.Server)
	s.setText(attrServerAddress, f.SNI)
	s.setAddress(attrClientAddress, attrClientPort, netip.AddrPortFrom(clientAddress(f.Client.Addr), f.Client.Peer.Port()))
	peer := f.Client.Peer
	if f.Via.IsValid() {
		peer = f.Via
	}
	s.setAddress(attrPeerAddress, attrPeerPort, peer)
	s.setCount(attrClientConn, f.Client.Conn)
	s.set(attrSessionBytesIn.Int64(f.BytesIn), attrSessionBytesOut.Int64(f.BytesOut))
	s.setText(attrSessionWhyEnded, f.Why)
	s.event(r.at(f.Routed), eventSessionRouted)
	s.event(r.at(f.Acquired), eventSessionConnected)
	if f.Upstream != "" {
		m.sessionUpstream(s, f)
	}
	if f.Err != nil {
		s.fail(f.Err)
		if f.Err.Source == fault.Client {
			s.status = status{} // the client's doing: not an error of the server
		}
	}
	m.sessionWait(s, r)
}

// sessionUpstream says what carried the session, or could not, and links to that connection's span.
func (m *spanMaker) sessionUpstream(s *span, f *exchange.Session) {
	c := carrierOf(f.Host, f.Address, f.ConnID, f.ConnTrace, f.ConnSpan, f.Err)
	s.setText(attrUpstream, f.Upstream)
	s.setText(attrUpstreamHost, c.host)
	if c.address.IsValid() {
		s.set(attrUpstreamAddress.String(unixaddr.Text(netip.AddrPortFrom(c.address.Addr().Unmap(), c.address.Port()))))
	}
	s.setSeconds(attrPoolWait, f.PoolWait)
	if f.ConnID != 0 {
		s.setSeconds(attrDNSAge, f.DNSAge)
	}
	c.link(s)
}

// sessionWait makes the spans of the time until a session had its upstream connection, or had failed to get one.
func (m *spanMaker) sessionWait(s *span, r *record) {
	f := &r.session
	had := f.Acquired
	if had == 0 {
		had = f.Routed + int64(f.PoolWait)
	}
	if f.Routed == 0 || had <= f.Routed {
		return
	}
	w := m.child(s, spanWait, trace.SpanKindInternal, r.at(f.Routed), r.at(had))
	m.wait(w, r, waited{f.Setup, f.Queued, f.Failed})
	if f.Acquired == 0 && f.Err != nil {
		w.fail(f.Err)
	}
}

type sessionTotals struct {
	ended             [endSlots]uint64
	bytesIn, bytesOut uint64
}

func (t *Telemetry) sessionMetrics(p *page) {
	sums := map[sessionKey]*sessionTotals{}
	var keys []sessionKey
	for _, r := range t.recorders {
		for _, s := range *r.cells.sessionList.Load() {
			sum := sums[s.sessionKey]
			if sum == nil {
				sum = new(sessionTotals)
				sums[s.sessionKey] = sum
				keys = append(keys, s.sessionKey)
			}
			for i := range s.ended {
				sum.ended[i] += s.ended[i].Load()
			}
			sum.bytesIn += s.bytesIn.Load()
			sum.bytesOut += s.bytesOut.Load()
		}
	}
	slices.SortFunc(keys, func(a, b sessionKey) int {
		return cmp.Or(cmp.Compare(a.listener, b.listener), cmp.Compare(a.upstream, b.upstream))
	})
	p.head(mSessions)
	for _, k := range keys {
		p.reasons(sums[k].ended[:], exchange.EndReasons, "listener", k.listener, "upstream", k.upstream)
	}
	p.head(mSessionBytesIn)
	for _, k := range keys {
		p.count(sums[k].bytesIn, "listener", k.listener, "upstream", k.upstream)
	}
	p.head(mSessionBytesOut)
	for _, k := range keys {
		p.count(sums[k].bytesOut, "listener", k.listener, "upstream", k.upstream)
	}
}
