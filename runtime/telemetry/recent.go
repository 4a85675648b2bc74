package telemetry

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/internal/unixaddr"
)

// Why a request is among the recent ones: RecentTrace.Kept.
const (
	RecentFailed = "error"
	RecentSlow   = "slow"
	RecentSample = "sample"
)

// Of what is kept a loop keeps so many in a second, and so many at once.
const (
	failedRate, failedBurst = 20, 64
	sampleRate, sampleBurst = 1, 16
)

// defaultSlow is what a slow request takes where Traces.Slow does not say.
const defaultSlow = 5 * time.Second

// recent is the last requests of a loop, to look at without a collector of traces. It belongs to the loop, and so does what
// it has: whoever looks asks the loop. Half of its places are for requests that failed or were slow, half for a sample of
// the others. Of the sample the calls of plugins are noted down too; of others what every request has anyway.
type recent struct {
	failed, sample  recentRing
	slow            int64 // ns
	failures, picks bucket
}

// recentRing is records, which are used again.
type recentRing struct {
	places []*kept
	next   int
}

// kept is a request that is kept.
type kept struct {
	record
	why      string
	exported bool
}

func newRecent(places int, slow time.Duration) *recent {
	if slow <= 0 {
		slow = defaultSlow
	}
	n := max(1, places/2)
	return &recent{
		failed: recentRing{places: make([]*kept, n)}, sample: recentRing{places: make([]*kept, n)}, slow: int64(slow),
		failures: newBucket(failedRate, failedBurst), picks: newBucket(sampleRate, sampleBurst),
	}
}

// bucket is tokens that come evenly. It belongs to a loop.
type bucket struct {
	every, whole int64 // that a token takes to come, and a full bucket
	taken        int64 // the time up to which tokens were taken
}

func newBucket(perSecond, burst int64) bucket {
	every := int64(time.Second) / perSecond
	return bucket{every: every, whole: every * burst, taken: -every * burst}
}

func (b *bucket) take(now int64) bool {
	next := max(b.taken, now-b.whole) + b.every
	if next > now {
		return false
	}
	b.taken = next
	return true
}

// begin decides whether the request is one of the sample.
func (c *recent) begin(x *exchange.Exchange) { x.Trace.Local = c.picks.take(x.Started) }

// end keeps the request, if it is one to keep.
func (c *recent) end(r *Recorder, x *exchange.Exchange) {
	ring, why := &c.failed, ""
	switch {
	case x.Err != nil || x.StatusSent >= 500 || rpcFailed(&x.RPC):
		why = RecentFailed
	case x.Ended-x.Started > c.slow && x.StatusSent != 101: // a tunnel is as long as it is
		why = RecentSlow
	}
	if why == "" || !c.failures.take(x.Ended) {
		if ring = &c.sample; !x.Trace.Local {
			return
		}
		if why == "" {
			why = RecentSample
		}
	}
	exported := x.Trace.Sampled || x.Trace.Kept != ""
	if x.Trace.TraceID == [16]byte{} {
		x.Trace.TraceID = r.ids.trace() // of its own: nobody else knows the request by it
	}
	k := ring.take()
	fillRequest(&k.record, x)
	k.why, k.exported = why, exported
	if k.trace.Server == [8]byte{} {
		k.trace.Server = r.ids.span()
	}
}

func (c *recentRing) take() *kept {
	p := &c.places[c.next]
	c.next = (c.next + 1) % len(c.places)
	if *p == nil {
		*p = new(kept)
	}
	(*p).clear()
	return *p
}

// newest calls fn for what the ring has, the newest first, until it returns false.
func (c *recentRing) newest(fn func(*kept) bool) {
	for i := range c.places {
		k := c.places[(c.next+2*len(c.places)-1-i)%len(c.places)]
		if k == nil || !fn(k) {
			return
		}
	}
}

// RecentTrace is a recent request in a line. Times are Unix nanoseconds.
type RecentTrace struct {
	ID                 string // of its trace, in hexadecimal
	Kept               string // why: one of the Recent reasons
	Exported           bool   // it is exported under this id
	Started, Ended     int64
	Listener, Client   string
	Method, Host, Path string // as the client sent them
	Route              string
	Upstream, Address  string // of the last attempt
	ConnID             uint64
	Attempts           int
	Upstreams          []string // of all attempts
	Status             int
	Err                string
}

// RecentTraces are the loop's last requests that fit, the newest first, so many at most. It runs on the loop.
func (r *Recorder) RecentTraces(most int, fits func(*RecentTrace) bool) (list []RecentTrace) {
	if r.recent == nil {
		return nil
	}
	for _, ring := range [...]*recentRing{&r.recent.failed, &r.recent.sample} {
		n := 0
		ring.newest(func(k *kept) bool {
			if s := k.summary(); fits == nil || fits(&s) {
				list = append(list, s)
				n++
			}
			return n < most
		})
	}
	slices.SortStableFunc(list, func(a, b RecentTrace) int { return int(b.Started - a.Started) })
	return list[:min(len(list), most)]
}

// copy is a text of the record that stays when the record is used again.
func (k *kept) copy(c cut) string { return strings.Clone(k.get(c)) }

func (k *kept) summary() RecentTrace {
	s := RecentTrace{
		ID: hex.EncodeToString(k.trace.TraceID[:]), Kept: k.why, Exported: k.exported, Started: k.at(k.started), Ended: k.at(k.ended),
		Listener: k.client.Server, Method: k.copy(k.method), Host: k.copy(k.authority), Path: k.copy(k.path), Route: k.route,
		Attempts: len(k.attempts) + k.attemptsDropped, Status: k.status,
	}
	if k.client.Addr.IsValid() {
		s.Client = clientAddress(k.client.Addr).String()
	}
	for i := range k.attempts {
		a := &k.attempts[i]
		if s.Upstreams = append(s.Upstreams, a.Upstream); i == len(k.attempts)-1 {
			s.Upstream, s.ConnID = a.Upstream, a.ConnID
			if a.Address.IsValid() {
				s.Address = unixaddr.Text(a.Address)
			}
		}
	}
	if k.err != nil {
		s.Err = valid(k.err.Error())
	}
	return s
}

// RecentRequest is one recent request, copied from the loop.
type RecentRequest struct {
	RecentTrace
	record *record
}

// RecentRequest is the request with this trace id, if the loop has it. It runs on the loop; what it returns may be used on
// any goroutine.
func (r *Recorder) RecentRequest(id [16]byte) (found *RecentRequest) {
	if r.recent == nil {
		return nil
	}
	for _, ring := range [...]*recentRing{&r.recent.failed, &r.recent.sample} {
		ring.newest(func(k *kept) bool {
			if k.trace.TraceID == id {
				c := k.record
				c.text, c.attempts, c.calls = slices.Clone(c.text), slices.Clone(c.attempts), slices.Clone(c.calls)
				c.tags, c.baggage = slices.Clone(c.tags), slices.Clone(c.baggage)
				found = &RecentRequest{k.summary(), &c}
			}
			return found == nil
		})
	}
	return found
}

// RecentSpan is a span of a recent request, as it would be exported. Times are Unix nanoseconds.
type RecentSpan struct {
	ID, Parent, Name, Kind string
	Start, End             int64
	Attributes             map[string]any
	Events                 []RecentEvent
	Err                    string
}

// RecentEvent is a moment of a span.
type RecentEvent struct {
	Name       string
	At         int64
	Attributes map[string]any
}

// Spans are the request's spans, in the order of their start.
func (q *RecentRequest) Spans() (list []RecentSpan) {
	m := spanMaker{ids: newIDs()} // it and the record are used for nothing else, so that their texts stay
	for _, s := range m.make(q.record) {
		out := RecentSpan{ID: s.context.SpanID().String(), Name: s.name, Kind: s.kind.String(), Start: s.start, End: max(s.start, s.end), Attributes: attributeMap(s.attrs)}
		if s.parent.SpanID().IsValid() {
			out.Parent = s.parent.SpanID().String()
		}
		if s.kind == trace.SpanKindUnspecified {
			out.Kind = trace.SpanKindInternal.String()
		}
		for i := range s.events {
			e := &s.events[i]
			out.Events = append(out.Events, RecentEvent{Name: e.name, At: e.at, Attributes: attributeMap(e.attrs)})
		}
		if out.Err = s.status.text; out.Err == "" && s.status.code == codes.Error {
			out.Err = fmt.Sprint(out.Attributes["error.type"])
		}
		list = append(list, out)
	}
	slices.SortStableFunc(list, func(a, b RecentSpan) int { return int(a.Start - b.Start) })
	return list
}

func attributeMap(attrs []attribute.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range attrs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}
