package telemetry

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/upstream/facts"
)

func (m *spanMaker) attempt(parent *span, r *record, i int) {
	a := &r.attempts[i]
	end := a.Ended
	if end == 0 {
		end = max(a.Started, a.Acquired, a.Sent, a.FirstByte)
	}
	method, original := knownMethod(r.get(r.sentMethod))
	s := m.child(parent, m.spanName(method, a.Upstream), trace.SpanKindClient, r.at(a.Started), r.at(end))
	if a.SpanID != [8]byte{} {
		s.context = s.context.WithSpanID(a.SpanID)
	}
	s.set(attrMethod.String(method))
	s.setText(attrMethodOriginal, original)
	s.setText(attrUpstream, a.Upstream)
	c := carrierOf(a.Host, a.Address, a.ConnID, a.ConnTrace, a.ConnSpan, a.Err)
	s.setHost(c.host, a.TLS)
	scheme := "http"
	if a.TLS {
		scheme = "https"
	}
	s.set(attrScheme.String(scheme))
	if a.HTTP2 {
		s.set(attrProtocol.String(exchange.HTTP2))
	}
	if path := r.get(r.sentPath); path != "" {
		s.set(attrURL.String(m.join(scheme, "://", r.get(r.sentAuthority), path)), attrPath.String(path))
	}
	s.setAddress(attrPeerAddress, attrPeerPort, c.address)
	n := r.number(i)
	if s.set(attrAttemptNumber.Int(n)); n > 1 {
		s.set(attrResend.Int(n - 1))
	}
	s.setText(attrAttemptWhy, a.Why)
	if a.Status != 0 {
		s.set(attrStatus.Int(a.Status))
	}
	m.attemptConnection(s, a)
	c.link(s)
	s.event(r.at(a.Acquired), eventChosen, attrChosen.String(cmp.Or(a.Chosen, facts.ChosenBalance)), attrPassed.Int(a.Passed))
	s.event(r.at(a.Sent), eventSent)
	switch {
	case a.BodySent > a.FirstByte:
		s.event(r.at(a.FirstByte), eventFirstByte)
		s.event(r.at(a.BodySent), eventBodySent)
	default:
		s.event(r.at(a.BodySent), eventBodySent)
		s.event(r.at(a.FirstByte), eventFirstByte)
	}
	switch {
	case a.Err != nil:
		s.fail(a.Err)
	case a.Status >= 400:
		s.failStatus(a.Status)
	}
	if a.Ejected {
		at := s.end
		if a.Err == nil && a.FirstByte != 0 {
			at = r.at(a.FirstByte)
		}
		s.ejected(at, c.host, c.address)
	} else if a.Err != nil {
		s.ejectedBy(dialError(a.Err))
	}
	m.phases(s, r, a)
}

// phaseLeast is how long a part of an attempt must have lasted to be a span of its own: its events tell of the others.
const phaseLeast = int64(time.Millisecond)

// phases makes spans of the parts of an attempt that took time.
func (m *spanMaker) phases(s *span, r *record, a *exchange.Attempt) {
	switch {
	case a.Acquired > a.Started:
		m.wait(m.child(s, spanWait, trace.SpanKindInternal, r.at(a.Started), r.at(a.Acquired)), r, waited{a.Setup, a.Queued, a.Failed})
	case a.Acquired == 0 && a.Ended > a.Started && a.Err != nil:
		w := m.child(s, spanWait, trace.SpanKindInternal, r.at(a.Started), r.at(a.Ended))
		m.wait(w, r, waited{a.Setup, a.Queued, a.Failed})
		w.fail(a.Err)
	}
	part := func(name string, from, to int64, err *fault.Error) {
		if from == 0 || to-from < phaseLeast {
			return
		}
		if p := m.child(s, name, trace.SpanKindInternal, r.at(from), r.at(to)); err != nil {
			p.fail(err)
		}
	}
	if a.FirstByte == 0 {
		part(spanAnswer, a.Sent, a.Ended, a.Err) // in vain
		return
	}
	part(spanAnswer, a.Sent, a.FirstByte, nil)
	part(spanBody, a.FirstByte, a.Ended, a.Err)
}

// waited is what an attempt or a session has waited for until it had a connection.
type waited struct {
	setup  exchange.Setup
	queued time.Duration
	failed []*fault.Error // of servers that were tried in vain
}

// wait makes spans of what was waited for. When other servers were tried in vain is known; of the rest how long each took,
// and in which order they were.
func (m *spanMaker) wait(w *span, r *record, on waited) {
	for _, err := range on.failed {
		m.failed(w, r, err)
	}
	end := w.end
	before := func(name string, took time.Duration) {
		if took > 0 {
			start := max(end-int64(took), w.start)
			m.child(w, name, trace.SpanKindInternal, start, end)
			end = start
		}
	}
	before(spanWaitTLS, on.setup.TLS)
	before(spanWaitDial, on.setup.Connect)
	before(spanQueue, on.queued)
	before(spanWaitDNS, on.setup.DNS)
}

// failed makes the span of a server that could not be connected to, so that another was given the request: it leads to the
// trace of that connection.
func (m *spanMaker) failed(w *span, r *record, err *fault.Error) {
	s := m.child(w, spanFailed, trace.SpanKindInternal, max(r.at(err.ConnBegan), w.start), min(r.at(err.ConnEnded), w.end))
	c := carrierOf("", netip.AddrPort{}, 0, [16]byte{}, [8]byte{}, err)
	s.setHost(c.host, false)
	s.setAddress(attrPeerAddress, attrPeerPort, c.address)
	c.link(s)
	s.fail(err)
	s.ejectedBy(err)
}

// ejectedBy tells that an address is given no requests for a while, if an error says that it was the one too many.
func (s *span) ejectedBy(err *fault.Error) {
	if err.Ejected {
		address, _ := unixaddr.Parse(err.Address)
		s.ejected(s.end, err.Host, address)
	}
}

func (s *span) ejected(at int64, host string, address netip.AddrPort) {
	about := span{maker: s.maker}
	about.setHost(host, false)
	about.setAddress(attrPeerAddress, attrPeerPort, address)
	s.event(at, eventEjected, about.attrs...)
}

// trail adds the events of a request, in the order of their times: what has happened, and what was decided. What has the
// same time, which is that of a turn of the loop, stays in the order of the request's way.
func (m *spanMaker) trail(s *span, r *record) {
	s.event(r.at(r.headRead), eventHeadRead)
	if r.route != "" {
		s.event(r.at(r.matched), eventMatched, attrRoute.String(valid(r.route)))
	}
	for i := range r.calls {
		c := &r.calls[i]
		s.event(r.at(c.Started+int64(c.Took)), eventPlugin, attrPlugin.String(valid(c.Plugin)), attrPluginPhase.String(valid(c.Phase)), attrPluginOutcome.String(valid(c.Outcome)),
			attrPluginFuel.Int64(c.Fuel))
	}
	s.event(r.at(r.routed), eventRouted)
	for i := range r.attempts {
		a := &r.attempts[i]
		n := r.number(i)
		upstream := attrUpstream.String(valid(a.Upstream))
		switch why := r.cause(n - 1); {
		case n == 1:
			s.event(r.at(a.Started), eventBegun, attrAttemptNumber.Int(n), upstream)
		case why == "":
			s.event(r.at(a.Started), eventBegun, attrAttemptNumber.Int(n), upstream, attrAttemptWhy.String(a.Why))
		default:
			s.event(r.at(a.Started), eventBegun, attrAttemptNumber.Int(n), upstream, attrAttemptWhy.String(a.Why), attrErrorType.String(why))
		}
		if a.Refused != "" {
			s.event(r.at(max(a.Ended, a.FirstByte)), eventRefused, attrAttemptNumber.Int(n), attrRefused.String(a.Refused))
		}
	}
	s.event(r.at(r.firstByte), eventFirstByte)
	slices.SortStableFunc(s.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

// number is which attempt of its request the one at a place of the list is, from 1.
func (r *record) number(i int) int {
	a := &r.attempts[i]
	if i > 0 && i == len(r.attempts)-1 {
		i += r.attemptsDropped // those between the others and the last one
	}
	return ordinal(a, i)
}

// cause says what an attempt failed with, or which status was not wanted; "" if that is not known, or it did not fail.
func (r *record) cause(number int) string {
	for i := range r.attempts {
		a := &r.attempts[i]
		switch {
		case r.number(i) != number:
		case a.Err != nil:
			return a.Err.Kind.String()
		case a.Status != 0:
			return strconv.Itoa(a.Status)
		}
	}
	return ""
}

// attemptConnection says how the attempt came to the connection that carried it.
func (m *spanMaker) attemptConnection(s *span, a *exchange.Attempt) {
	s.setSeconds(attrPoolWait, a.PoolWait)
	s.setText(attrConnWhyNew, a.WhyNew)
	s.setText(attrConnWhyClosed, a.WhyClosed)
	s.setText(attrResetReceived, a.ResetReceived)
	s.setText(attrResetSent, a.ResetSent)
	if a.ConnID == 0 {
		return
	}
	s.setCount(attrConnOrdinal, a.Ordinal)
	s.set(attrConnReused.Bool(a.Reused))
	s.setSeconds(attrConnAge, a.Age)
	s.setSeconds(attrConnIdle, a.Idle)
	s.setSeconds(attrDNSAge, a.DNSAge)
}
