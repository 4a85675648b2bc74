package telemetry

import (
	"sync/atomic"
	"unsafe"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// maxSeries bounds the label combinations of one loop, of requests and of upstreams each. Names come from the
// configuration, but it can be reloaded for ever; what is beyond the bound is counted under the name "other".
const maxSeries = 1024

const otherName = "other"

// classes are the values of the label class, by StatusSent/100; the first is for requests that got no answer.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// cells are the counters of one loop. Only that loop adds to them, so the additions never contend; they are atomic for
// the goroutine that collects. Series are looked up in maps of the loop's own, and published in a list that is copied
// when one is added, which happens once for each.
type cells struct {
	errors [fault.Kinds][4]atomic.Uint64

	recent    [64]*requestSeries // by a hash of the names' addresses: a look-up that is right nearly always
	requests  map[requestKey]*requestSeries
	upstreams map[string]*upstreamSeries
	sessions  map[sessionKey]*sessionSeries
	tunnels   map[tunnelKey]*tunnelSeries

	requestList  atomic.Pointer[[]*requestSeries]
	upstreamList atomic.Pointer[[]*upstreamSeries]
	sessionList  atomic.Pointer[[]*sessionSeries]
	tunnelList   atomic.Pointer[[]*tunnelSeries]

	spansDropped atomic.Uint64 // the ring was full
	spansLimited atomic.Uint64 // there were too many of their kind
	kept         [len(keptReasons)]atomic.Uint64
	linesDropped atomic.Uint64

	compressed, decompressed codingCells

	_ [cacheLine]byte
}

type requestKey struct{ listener, route, upstream string }

// requestSeries counts the requests with one combination of listener, route and upstream.
type requestSeries struct {
	requestKey
	durations [len(classes)]atomic.Pointer[histogram]
	bytesIn   atomic.Uint64
	bytesOut  atomic.Uint64
	last      *upstreamSeries // of the upstream, for the loop's use
	rest      rest
}

// upstreamSeries counts what concerns one upstream.
type upstreamSeries struct {
	name      string
	reused    atomic.Uint64
	fresh     [reasonSlots]atomic.Uint64 // by why a pooled connection was not used
	opened    [reasonSlots]atomic.Uint64
	closed    [reasonSlots]atomic.Uint64
	errors    [fault.Kinds]atomic.Uint64
	again     [len(againWhy)]atomic.Uint64 // attempts after the first, by why
	refused   [len(refusedWhy)]atomic.Uint64
	firstByte histogram
	wait      histogram // only waits that took time; the others are reused + fresh − these
	queue     histogram
	dnsAge    histogram
	dns       histogram
	connect   histogram
	tls       histogram
	rest      rest
}

// reasonSlots is enough for either list of reasons, and one for words that are on neither.
const reasonSlots = 32

var openSlots, closeSlots = slots(facts.OpenReasons, reasonSlots), slots(facts.CloseReasons, reasonSlots)

// slots gives each reason its place among size, the last of which is for words that are not on the list.
func slots(reasons []string, size int) map[string]int {
	if len(reasons) >= size {
		panic("telemetry: there are more reasons than slots")
	}
	m := make(map[string]int, len(reasons))
	for i, r := range reasons {
		m[r] = i
	}
	return m
}

// slot returns the reason's place, or the last for one that is not on the list.
func slot(m map[string]int, reason string, size int) int {
	if i, ok := m[reason]; ok {
		return i
	}
	return size - 1
}

// againWhy are the values of the label why: exchange.Attempt.Why, but for the first attempt's.
var againWhy = [...]string{exchange.AgainRetry, exchange.AgainStale, exchange.AgainHedge}

// refusedWhy are the values of the label why of attempts that did not come: exchange.Attempt.Refused.
var refusedWhy = [...]string{exchange.RefusedKind, exchange.RefusedAttempts, exchange.RefusedTime, exchange.RefusedUnsafe, exchange.RefusedBudget}

// ordinal is which attempt of its request a is, from 1; i is its place in the list.
func ordinal(a *exchange.Attempt, i int) int {
	if a.Number > 0 {
		return a.Number
	}
	return i + 1
}

// reasonAt is the inverse of slot.
func reasonAt(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return otherName
}

func newCells() *cells {
	c := &cells{requests: map[requestKey]*requestSeries{}, upstreams: map[string]*upstreamSeries{}, sessions: map[sessionKey]*sessionSeries{}, tunnels: map[tunnelKey]*tunnelSeries{}}
	c.requestList.Store(new([]*requestSeries))
	c.upstreamList.Store(new([]*upstreamSeries))
	c.sessionList.Store(new([]*sessionSeries))
	c.tunnelList.Store(new([]*tunnelSeries))
	return c
}

// request returns the series of these names. The names of a snapshot of the configuration are the same strings each
// time, so that comparing them compares pointers.
func (c *cells) request(listener, route, upstream string) *requestSeries {
	h := address(listener) ^ address(route)*3 ^ address(upstream)*7
	place := &c.recent[(h^h>>6^h>>12)%uintptr(len(c.recent))]
	if s := *place; s != nil && s.route == route && s.upstream == upstream && s.listener == listener {
		return s
	}
	s := c.findRequest(requestKey{listener, route, upstream})
	*place = s
	return s
}

// address is where a string lies, in units of the allocator's smallest block; it is used as a hash only.
func address(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) >> 3 }

func (c *cells) findRequest(k requestKey) *requestSeries {
	s := c.requests[k]
	if s == nil && len(c.requests) >= maxSeries {
		k = requestKey{otherName, otherName, otherName}
		s = c.requests[k]
	}
	if s == nil {
		s = &requestSeries{requestKey: k}
		if k.upstream != "" {
			s.last = c.upstream(k.upstream)
		}
		c.requests[k] = s
		publish(&c.requestList, s)
	}
	return s
}

// upstream returns the series of the upstream with this name.
func (c *cells) upstream(name string) *upstreamSeries {
	s := c.upstreams[name]
	if s == nil && len(c.upstreams) >= maxSeries {
		name = otherName
		s = c.upstreams[name]
	}
	if s == nil {
		s = &upstreamSeries{name: name}
		c.upstreams[name] = s
		publish(&c.upstreamList, s)
	}
	return s
}

// publish makes s visible to those who collect.
func publish[T any](list *atomic.Pointer[[]*T], s *T) {
	old := *list.Load()
	grown := append(old[:len(old):len(old)], s)
	list.Store(&grown)
}

func (s *requestSeries) histogram(status int) *histogram {
	class := status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	h := s.durations[class].Load()
	if h == nil {
		h = new(histogram)
		s.durations[class].Store(h)
	}
	return h
}
