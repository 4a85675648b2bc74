package telemetry

import (
	"fmt"
	"slices"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// Ways in which a request names its trace: Traces.Propagation.
const (
	PropagateW3C     = "w3c"     // traceparent, tracestate
	PropagateB3      = "b3"      // the field b3
	PropagateB3Multi = "b3multi" // the X-B3 fields
)

type propagation uint8

const (
	w3c propagation = iota + 1
	b3
	b3multi
)

var propagations = map[string]propagation{PropagateW3C: w3c, PropagateB3: b3, PropagateB3Multi: b3multi}

func newPropagation(names []string) (list []propagation, err error) {
	for _, name := range names {
		p := propagations[name]
		if p == 0 || slices.Contains(list, p) {
			return nil, fmt.Errorf("traces: propagation %q: each of %s, %s and %s once", name, PropagateW3C, PropagateB3, PropagateB3Multi)
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		list = []propagation{w3c}
	}
	return list, nil
}

// caller is what a request says of the trace that it belongs to.
type caller struct {
	from    propagation // how it says it; 0: it says nothing
	joined  bool        // there is a trace; without it there is a decision only (B3)
	decided bool        // sampled is the caller's decision; without it ours is asked for (B3)
	sampled bool
	debug   bool // B3: sampled, and more
	traceID [16]byte
	spanID  [8]byte
}

// callerOf reads what the request says, in the first of the ways of the list in which it says something valid.
func callerOf(h *http1.Head, list []propagation) caller {
	for _, p := range list {
		var c caller
		switch p {
		case w3c:
			c = readTraceparent(h)
		case b3:
			c = readB3(h)
		case b3multi:
			c = readB3Multi(h)
		}
		if c.from != 0 {
			return c
		}
	}
	return caller{}
}

// one returns the value of a field, and how often there is such a field; the value is that of a single one.
func one(h *http1.Head, id http1.FieldID) (value []byte, n int) {
	for i := range h.Len() {
		if h.ID(i) == id {
			value = h.Value(i)
			n++
		}
	}
	return value, n
}

// readTraceparent returns what traceparent says. One that is not valid, or comes twice, is as none.
func readTraceparent(h *http1.Head) caller {
	v, n := one(h, http1.FieldTraceparent)
	if n != 1 {
		return caller{}
	}
	p, ok := parseTraceparent(v)
	if !ok {
		return caller{}
	}
	return caller{from: w3c, joined: true, decided: true, sampled: p.sampled, traceID: p.traceID, spanID: p.spanID}
}

// maxB3 is the longest field b3: trace id, span id, decision, parent id.
const maxB3 = 32 + 1 + 16 + 1 + 1 + 1 + 16

// readB3 reads the field b3: a decision alone, or {trace id}-{span id}[-{decision}[-{parent id}]].
func readB3(h *http1.Head) caller {
	v, n := one(h, http1.FieldB3)
	c := caller{from: b3}
	switch {
	case n != 1 || len(v) > maxB3:
		return caller{}
	case len(v) == 1:
		if c.decide(v) {
			return c
		}
		return caller{}
	}
	digits := 32
	if len(v) > 16 && v[16] == '-' {
		digits = 16
	}
	if len(v) < digits+1+16 || v[digits] != '-' || !c.join(v[:digits], v[digits+1:digits+17]) {
		return caller{}
	}
	switch rest := v[digits+17:]; {
	case len(rest) == 0:
		return c
	case len(rest) == 2 || len(rest) == 2+17:
		var parent [8]byte
		if rest[0] == '-' && c.decide(rest[1:2]) && (len(rest) == 2 || rest[2] == '-' && unhex(parent[:], rest[3:])) {
			return c
		}
	}
	return caller{}
}

// decide reads a decision of the field b3.
func (c *caller) decide(v []byte) bool {
	switch string(v) {
	case "0":
	case "1":
		c.sampled = true
	case "d":
		c.sampled, c.debug = true, true
	default:
		return false
	}
	c.decided = true
	return true
}

// join reads B3's ids. A trace id of 64 bits is one of 128 that begins with zeros.
func (c *caller) join(trace, span []byte) bool {
	to := c.traceID[:]
	if len(trace) == 16 {
		to = c.traceID[8:]
	} else if len(trace) != 32 {
		return false
	}
	c.joined = len(span) == 16 && unhex(to, trace) && unhex(c.spanID[:], span) && c.traceID != [16]byte{} && c.spanID != [8]byte{}
	return c.joined
}

// readB3Multi reads the X-B3 fields: both ids or none, and a decision or none.
func readB3Multi(h *http1.Head) caller {
	trace, traces := one(h, http1.FieldXB3TraceID)
	span, spans := one(h, http1.FieldXB3SpanID)
	parent, parents := one(h, http1.FieldXB3ParentSpanID)
	sampled, sampleds := one(h, http1.FieldXB3Sampled)
	flags, manyFlags := one(h, http1.FieldXB3Flags)
	c := caller{from: b3multi}
	var ignored [8]byte
	switch {
	case traces+spans+sampleds+manyFlags == 0 || traces != spans,
		traces > 1 || parents > 1 || sampleds > 1 || manyFlags > 1,
		traces == 1 && !c.join(trace, span),
		parents == 1 && (len(parent) != 16 || !unhex(ignored[:], parent)):
		return caller{}
	}
	switch string(sampled) {
	case "1", "true": // the word is of the first programs that spoke B3
		c.decided, c.sampled = true, true
	case "0", "false":
		c.decided = true
	default:
		if sampleds > 0 {
			return caller{}
		}
	}
	switch {
	case string(flags) == "1":
		c.decided, c.sampled, c.debug = true, true, true
	case manyFlags > 0 && string(flags) != "0":
		return caller{}
	}
	return c
}

// propagate tells whom the request is sent to that span is the parent of what follows, in every way of the list.
func (r *Recorder) propagate(x *exchange.Exchange, span [8]byte) {
	h, t := &x.Request.Head, &x.Trace
	for _, p := range r.propagation {
		switch p {
		case w3c:
			r.scratch = AppendTraceparent(r.scratch[:0], t, span)
			h.SetID(http1.FieldTraceparent, r.scratch)
		case b3:
			b := append(appendHex(r.scratch[:0], t.TraceID[:]), '-')
			b = append(appendHex(b, span[:]), '-', b3Decision(t), '-')
			r.scratch = appendHex(b, t.Server[:])
			h.SetID(http1.FieldB3, r.scratch)
		case b3multi:
			r.propagateMulti(h, t, span)
		}
	}
}

func (r *Recorder) propagateMulti(h *http1.Head, t *exchange.Trace, span [8]byte) {
	hex := func(id http1.FieldID, b []byte) {
		r.scratch = appendHex(r.scratch[:0], b)
		h.SetID(id, r.scratch)
	}
	hex(http1.FieldXB3TraceID, t.TraceID[:])
	hex(http1.FieldXB3SpanID, span[:])
	hex(http1.FieldXB3ParentSpanID, t.Server[:])
	if t.Debug && t.Sampled { // which says that it is sampled too
		h.DelID(http1.FieldXB3Sampled)
		h.SetID(http1.FieldXB3Flags, []byte("1"))
		return
	}
	h.DelID(http1.FieldXB3Flags)
	r.scratch = append(r.scratch[:0], b3Decision(t))
	h.SetID(http1.FieldXB3Sampled, r.scratch)
}

func b3Decision(t *exchange.Trace) byte {
	switch {
	case t.Debug && t.Sampled:
		return 'd'
	case t.Sampled:
		return '1'
	}
	return '0'
}
