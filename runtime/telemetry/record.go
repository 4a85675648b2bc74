package telemetry

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// Bounds of a record: what a single request can make the exporter hold. Plugins and clients choose how much there is.
const (
	maxText     = 8 << 10 // bytes of text of the request
	maxPath     = 2 << 10
	maxAgent    = 512
	maxAttempts = 16
	maxCalls    = exchange.MaxCalls
	maxTags     = 32
	maxTagBytes = 1 << 10 // of a tag's value
)

type recordKind uint8

const (
	requestRecord recordKind = iota
	callRecord               // a request of a plugin's own
	setupRecord              // a connection was established, or could not be
	segmentRecord            // a part of a connection's life
	sessionRecord            // a session of TCP mode
)

// record is what spans are made of: a copy of what an exchange or a connection knew. Records are used again.
type record struct {
	kind recordKind

	// of a request
	text                                                       []byte // what the cuts cut
	method, authority, path, agent                             cut    // as the client sent them
	sentMethod, sentAuthority, sentPath                        cut    // as they were forwarded
	client                                                     exchange.Client
	rpc                                                        exchange.RPC
	trace                                                      exchange.Trace
	route, plugin                                              string
	started, headRead, matched, routed, firstByte, ended, wall int64
	bytesIn, bytesOut                                          int64
	status                                                     int
	tunnel                                                     exchange.Tunnel
	err                                                        *fault.Error
	attempts                                                   []exchange.Attempt
	calls                                                      []exchange.PluginCall
	tags                                                       []exchange.Tag
	baggage                                                    []member
	dropped                                                    int // attempts, calls and tags that did not fit
	attemptsDropped                                            int

	// of a session, beside trace
	session exchange.Session

	// of a connection
	conn     facts.Connection
	connErr  fault.Error // conn.Err points to it
	from, to int64       // of the segment
	last     bool        // the connection has ended
}

// cut is a part of a record's text.
type cut struct{ from, to uint32 }

func (r *record) put(b []byte, limit int) cut {
	b = b[:min(len(b), limit, maxText-len(r.text))]
	from := uint32(len(r.text))
	r.text = append(r.text, b...)
	return cut{from, uint32(len(r.text))}
}

// get is the text that c cuts, for as long as r stays as it is.
func (r *record) get(c cut) string { return valid(view(r.text[c.from:c.to])) }

// clear lets go of what the record refers to and keeps its storage.
func (r *record) clear() {
	clear(r.attempts)
	clear(r.calls)
	clear(r.tags)
	*r = record{text: r.text[:0], attempts: r.attempts[:0], calls: r.calls[:0], tags: r.tags[:0], baggage: r.baggage[:0]}
}

// connection copies the facts. Of the error too: whoever sent the request may add to what it says, and goes on to.
func (r *record) connection(c *facts.Connection) {
	r.conn = *c
	if r.conn.User = nil; c.Err != nil {
		r.connErr = *c.Err
		r.conn.Err = &r.connErr
	}
}

// lists copies the lists of facts, as far as they fit.
func (r *record) lists(x *exchange.Exchange) {
	attempts, calls, tags := x.Attempts, x.Calls, x.Tags
	if len(attempts) > maxAttempts {
		// The last one has the answer.
		r.attempts = append(r.attempts, attempts[:maxAttempts-1]...)
		attempts = attempts[len(attempts)-1:]
	}
	r.attempts = append(r.attempts, attempts...)
	r.calls = append(r.calls, calls[:min(len(calls), maxCalls)]...)
	for _, t := range tags[:min(len(tags), maxTags)] {
		if len(t.Key) <= maxTagBytes {
			t.Value = t.Value[:min(len(t.Value), maxTagBytes)]
			r.tags = append(r.tags, t)
		}
	}
	r.attemptsDropped = len(x.Attempts) - len(r.attempts)
	r.dropped = len(x.Attempts) - len(r.attempts) + x.CallsDropped + len(x.Calls) - len(r.calls) + len(x.Tags) - len(r.tags)
}

// recordQueue is one loop's side of the exporter.
type recordQueue struct {
	full    *ring[record] // from the loop to the exporter
	free    *ring[record] // and back
	made    int           // records that exist
	size    int
	waker   *waker
	dropped func()
}

func newRecordQueue(size int, w *waker, dropped func()) *recordQueue {
	return &recordQueue{full: newRing[record](size), free: newRing[record](size), size: size, waker: w, dropped: dropped}
}

// take returns an empty record, or counts one as dropped and returns nil: the exporter has all of them.
func (q *recordQueue) take() *record {
	if r := q.free.pop(); r != nil {
		return r
	}
	if q.made == q.size {
		q.dropped()
		q.waker.kick(true)
		return nil
	}
	q.made++
	return new(record)
}

// give hands a record that was taken over to the exporter.
func (q *recordQueue) give(r *record) {
	q.full.push(r) // always: it has room for every record that exists
	q.waker.kick(q.full.len() >= q.size/2)
}
