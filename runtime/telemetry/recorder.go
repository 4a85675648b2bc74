package telemetry

import (
	"slices"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/upstream/facts"
)

// Recorder takes down what happens on one loop. Only that loop may use it, and nothing in it waits.
type Recorder struct {
	cells   *cells
	ids     ids
	spans   *recordQueue // nil: traces are off
	lines   *lineQueue   // nil: there is no access log
	log     zerolog.Logger
	clock   lineClock
	scratch []byte // for text that is made on the way

	format       *format // nil: lines are JSON
	redact       redaction
	text, raw    []byte // the line that is being written, and a value that is escaped
	sessionTrace exchange.Trace
	logged       logSampler

	sampler     sampler
	keeper      keeper
	propagation []propagation
	baggage     []string
	refusals    *limiter // of connections that could not be opened
	segment     int64
	answers     bool

	errors errorRing
	recent *recent // nil: requests are not kept to look at

	live  []*facts.Connection // that are told of while they live
	swept int                 // where Sweep was last

	forget time.Duration // for how long counters are told that are not in force
}

func newRecorder(t *Telemetry) *Recorder {
	r := &Recorder{
		cells: newCells(), ids: newIDs(), sampler: t.sampler, keeper: t.keeper, propagation: t.propagation, baggage: t.baggage,
		refusals: t.refusals, segment: t.segment, answers: t.answers, forget: t.forget, scratch: make([]byte, 0, 256),
	}
	if t.export != nil {
		r.spans = t.export.queue(func() { r.cells.spansDropped.Add(1) })
	}
	if t.lines != nil {
		r.lines = t.lines.queue(&r.cells.linesDropped)
		r.log = zerolog.New(r.lines)
		r.format, r.redact, r.logged = t.format, t.redact, t.logged
	}
	return r
}

// Begin is called when a request's head was parsed, before anything changes it. It decides whether the request is
// traced, and fills in x.Trace and x.Asked as far as something will tell of them.
func (r *Recorder) Begin(x *exchange.Exchange) {
	if r.spans != nil {
		r.sample(x)
	}
	if r.recent != nil {
		r.recent.begin(x)
	}
	if r.lines != nil || r.recent != nil || x.Trace.Recorded() {
		recordAsked(x)
	}
	if r.format != nil {
		r.format.note(x)
	}
}

// sample decides by what the caller says, or else by ratio. What is not sampled goes on as it came, unless it may be kept
// at the end: then those behind must have been told the ids under which it is.
func (r *Recorder) sample(x *exchange.Exchange) {
	c := callerOf(&x.Request.Head, r.propagation)
	sampled := c.sampled
	followed := c.decided && r.sampler.parentBased
	if !c.joined {
		if (followed && !sampled || r.sampler.bound == 0 && !followed) && !r.keeper.on() {
			return
		}
		c.traceID = r.ids.trace()
	}
	if !followed {
		sampled = randomBelow(c.traceID, r.sampler.bound)
	}
	if !sampled && !r.keeper.on() {
		return
	}
	x.Trace = exchange.Trace{Sampled: sampled, Tail: !sampled, Debug: c.debug, TraceID: c.traceID, Parent: c.spanID, Server: r.ids.span()}
	r.takeTracestate(x, c.from == w3c)
}

// begins decides about a trace that has no caller, and gives it its id.
func (r *Recorder) begins() (id [16]byte, sampled bool) {
	if r.spans == nil || r.sampler.bound == 0 {
		return id, false
	}
	id = r.ids.trace()
	return id, randomBelow(id, r.sampler.bound)
}

// StartAttempt is called before the request head is written to an upstream, for each attempt. It gives the attempt of
// a traced request its span, and the head the fields that name it. Of a request that is not traced, and will not be, it
// changes nothing: a traceparent of the client's goes on as it came.
func (r *Recorder) StartAttempt(x *exchange.Exchange, a *exchange.Attempt) {
	if !x.Trace.Told() {
		return
	}
	a.SpanID = r.ids.span()
	r.propagate(x, a.SpanID)
}

// Answer is called when the gateway itself is about to answer, with the head of the answer made. It names the request's
// trace there, if that is asked for.
func (r *Recorder) Answer(x *exchange.Exchange) {
	if r.answers && x.Trace.Told() {
		r.scratch = AppendTraceparent(r.scratch[:0], &x.Trace, x.Trace.Server)
		x.Response.SetID(http1.FieldTraceparent, r.scratch)
	}
}

// End is called when the request has ended in whatever way, with x.Ended set. It counts it, decides whether it is kept if
// it was not sampled, writes its line, and hands over what its spans are made of.
func (r *Recorder) End(x *exchange.Exchange) {
	if x.Trace.Tail {
		r.keep(x)
	}
	rec := r.told(x)
	r.count(x, rec != nil)
	r.countTunnel(x)
	if r.recent != nil {
		r.recent.end(r, x)
	}
	r.noteErrors(x)
	if r.lines != nil && r.keeps(x.Err != nil || x.StatusSent >= 500 || rpcFailed(&x.RPC), x.Ended-x.Started) {
		if r.format != nil {
			r.formatLine(x)
		} else {
			r.line(x)
		}
	}
	if rec != nil {
		r.takeBaggage(rec, x)
		r.spans.give(rec)
	}
}

// told returns the record of an exchange that spans are made of, filled in; nil: of this one there are none.
func (r *Recorder) told(x *exchange.Exchange) *record {
	if !x.Trace.Sampled && x.Trace.Kept == "" || r.spans == nil {
		return nil
	}
	rec := r.spans.take()
	if rec != nil {
		fillRequest(rec, x)
	}
	return rec
}

// count counts a request; traced says that there will be a trace of it.
func (r *Recorder) count(x *exchange.Exchange, traced bool) {
	upstream := ""
	if a := x.Attempt(); a != nil {
		upstream = a.Upstream
	}
	s := r.cells.request(x.Client.Server, x.Route, upstream)
	took, h := x.Ended-x.Started, s.histogram(x.StatusSent)
	h.observe(took)
	if traced {
		h.example(took, x.Trace.TraceID, x.Trace.Server, x.WallStarted+took)
	}
	if x.BytesIn > 0 {
		s.bytesIn.Add(uint64(x.BytesIn))
	}
	if x.BytesOut > 0 {
		s.bytesOut.Add(uint64(x.BytesOut))
	}
	if x.Compressed.Coding != "" {
		r.cells.compressed.add(&x.Compressed)
	}
	if x.Decompressed.Coding != "" {
		r.cells.decompressed.add(&x.Decompressed)
	}
	if x.Err != nil {
		r.cells.errors[x.Err.Kind][x.Err.Source].Add(1)
	}
	r.countAttempts(x, s.last, traced)
}

// countAttempts counts what was asked of upstreams; last is the one that it probably was.
func (r *Recorder) countAttempts(x *exchange.Exchange, last *upstreamSeries, traced bool) {
	for i := range x.Attempts {
		a := &x.Attempts[i]
		up := last
		if up == nil || up.name != a.Upstream {
			up = r.cells.upstream(a.Upstream)
		}
		up.attempt(a)
		if traced {
			up.example(x, a)
		}
		if ordinal(a, i) > 1 {
			up.again[max(slices.Index(againWhy[:], a.Why), 0)].Add(1)
		}
	}
}

// EndCall is called when a request of a plugin's own has ended: its attempts are counted as all are, and are spans in the
// trace of the request that the plugin made it for. If that is not sampled they are kept for what they are themselves: what
// will become of that is not known yet.
func (r *Recorder) EndCall(x *exchange.Exchange) {
	if x.Trace.Tail {
		r.keep(x)
	}
	rec := r.told(x)
	r.countAttempts(x, nil, rec != nil)
	r.noteErrors(x)
	if rec != nil {
		rec.kind, rec.plugin = callRecord, x.Plugin
		r.spans.give(rec)
	}
}

func (s *upstreamSeries) attempt(a *exchange.Attempt) {
	switch {
	case a.ConnID == 0: // it never had a connection
	case a.Reused:
		s.reused.Add(1)
	default:
		s.fresh[slot(openSlots, a.WhyNew, reasonSlots)].Add(1)
	}
	if a.PoolWait > 0 && a.ConnID != 0 {
		s.wait.observe(int64(a.PoolWait))
	}
	if a.Queued > 0 {
		s.queue.observe(int64(a.Queued))
	}
	if a.FirstByte != 0 && a.Sent != 0 {
		s.firstByte.observe(a.FirstByte - a.Sent)
	}
	if a.Err != nil {
		s.errors[a.Err.Kind].Add(1)
	}
	if a.Refused != "" {
		if i := slices.Index(refusedWhy[:], a.Refused); i >= 0 {
			s.refused[i].Add(1)
		}
	}
}

// example notes down that the trace of x tells of the attempt.
func (s *upstreamSeries) example(x *exchange.Exchange, a *exchange.Attempt) {
	wall := x.WallStarted + x.Ended - x.Started
	if a.PoolWait > 0 && a.ConnID != 0 {
		s.wait.example(int64(a.PoolWait), x.Trace.TraceID, a.SpanID, wall)
	}
	if a.Queued > 0 {
		s.queue.example(int64(a.Queued), x.Trace.TraceID, a.SpanID, wall)
	}
	if a.FirstByte != 0 && a.Sent != 0 {
		s.firstByte.example(a.FirstByte-a.Sent, x.Trace.TraceID, a.SpanID, wall)
	}
}

// ConnOpened is called when an upstream connection is established, before the first attempt takes it. It counts it,
// and gives it the span that attempts link to and that is exported at once: c.TraceID, c.SpanID, c.Sampled. One that was
// opened for a health check is told of when it ends, if the check has failed: nothing links to it, and there is one for
// each address every few seconds.
func (r *Recorder) ConnOpened(c *facts.Connection) {
	up := r.cells.upstream(c.Upstream)
	up.opened[slot(openSlots, c.WhyOpened, reasonSlots)].Add(1)
	up.setup(c)
	if c.WhyOpened != facts.OpenHealthCheck {
		r.giveSetup(c)
		r.lives(c)
	}
}

// giveSetup exports the root span of a connection that was established.
func (r *Recorder) giveSetup(c *facts.Connection) {
	if rec := r.connRecord(c, setupRecord); rec != nil {
		c.SegmentFrom = c.Established
		r.spans.give(rec)
	}
}

// setup counts how long each phase of opening took.
func (s *upstreamSeries) setup(c *facts.Connection) {
	if c.DNSEnd != 0 {
		s.dns.observe(c.DNSEnd - c.DNSStart)
	}
	if c.DNSAnswerAt != 0 && c.DialStart != 0 {
		s.dnsAge.observe(int64(c.DNSAge()))
	}
	if c.DialEnd != 0 {
		s.connect.observe(c.DialEnd - c.DialStart)
	}
	if c.TLSEnd != 0 {
		s.tls.observe(c.TLSEnd - c.TLSStart)
	}
}

// connRecord starts the trace of a connection: it returns the record of its root span, or nil when there shall be none,
// because traces are off or the exporter is behind. Nothing must link to a span that will not come.
func (r *Recorder) connRecord(c *facts.Connection, kind recordKind) *record {
	c.Sampled, c.TraceID, c.SpanID = false, [16]byte{}, [8]byte{}
	if r.spans == nil || r.sampler == (sampler{}) { // no request is ever traced: nothing would link to it
		return nil
	}
	rec := r.spans.take()
	if rec == nil {
		return nil
	}
	c.Sampled, c.TraceID, c.SpanID = true, r.ids.trace(), r.ids.span()
	rec.kind = kind
	rec.connection(c)
	return rec
}

// ConnSegment may be called whenever something happens to a connection that lives, such as its return to the pool, with
// the time as Unix nanoseconds. If it was used since, and the last segment is long enough ago, another one is exported.
func (r *Recorder) ConnSegment(c *facts.Connection, now int64) {
	if !c.Sampled || now-c.SegmentFrom < r.segment || c.Requests == c.SegmentRequests {
		return
	}
	r.giveSegment(c, now, false)
}

func (r *Recorder) giveSegment(c *facts.Connection, to int64, last bool) {
	rec := r.spans.take()
	if rec == nil {
		return
	}
	c.Segments++
	rec.kind, rec.from, rec.to, rec.last = segmentRecord, c.SegmentFrom, to, last
	rec.connection(c)
	c.SegmentFrom, c.SegmentRequests = to, c.Requests
	r.spans.give(rec)
}

// ConnClosed is called when an upstream connection has ended, also when it could not be opened (c.Established is 0) and
// ConnOpened was not called.
func (r *Recorder) ConnClosed(c *facts.Connection) {
	up := r.cells.upstream(c.Upstream)
	up.closed[slot(closeSlots, c.WhyClosed, reasonSlots)].Add(1)
	r.gone(c)
	r.noteConnection(c)
	if c.Established == 0 {
		up.opened[slot(openSlots, c.WhyOpened, reasonSlots)].Add(1)
		up.setup(c)
		if !r.refusals.allow(c.Closed, int64(time.Second)) { // an upstream that is down, and many who ask for it
			r.cells.spansLimited.Add(1)
		} else if rec := r.connRecord(c, setupRecord); rec != nil {
			r.spans.give(rec)
		}
		return
	}
	if c.WhyOpened == facts.OpenHealthCheck && c.Err != nil {
		r.giveSetup(c)
	}
	if c.Sampled && r.spans != nil {
		r.giveSegment(c, c.Closed, true)
	}
}
