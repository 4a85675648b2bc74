package telemetry

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// requestParent returns what the request's traceparent says. One that is not valid, or comes twice, is as none.
func requestParent(x *exchange.Exchange) (p parentContext, found bool) {
	h := &x.Request.Head
	for i := range h.Len() {
		if h.ID(i) != http1.FieldTraceparent {
			continue
		}
		if found {
			return parentContext{}, false
		}
		if p, found = parseTraceparent(h.Value(i)); !found {
			return parentContext{}, false
		}
	}
	return p, found
}

// takeTracestate copies the tracestate, which goes on to the upstream as it came; without a parent, or not valid, it
// must not (W3C Trace Context §3.3, §4.3).
func takeTracestate(x *exchange.Exchange, parent bool) {
	h := &x.Request.Head
	var state []byte
	fields := 0
	for i := range h.Len() {
		if h.ID(i) == http1.FieldTracestate {
			state = h.Value(i)
			fields++
		}
	}
	if fields == 0 {
		return
	}
	if fields > 1 {
		state = joinTracestate(h)
	}
	if parent && validTracestate(state) {
		x.Trace.State = string(state)
		return
	}
	h.DelID(http1.FieldTracestate)
}

// joinTracestate makes one list of several fields, as RFC 9110 §5.3 allows.
func joinTracestate(h *http1.Head) (all []byte) {
	for i := range h.Len() {
		if h.ID(i) == http1.FieldTracestate && len(all) <= maxTracestateBytes {
			if len(all) > 0 {
				all = append(all, ',')
			}
			all = append(all, h.Value(i)...)
		}
	}
	return all
}

func setTraceparent(x *exchange.Exchange, value []byte) {
	x.Request.SetID(http1.FieldTraceparent, value)
}

// recordAsked keeps the request line as it is now.
func recordAsked(x *exchange.Exchange) {
	r := &x.Request
	x.Asked.Record(r.Method, r.Authority, r.Path, r.Query())
}

func userAgent(x *exchange.Exchange) []byte {
	v, _ := x.Request.Get("User-Agent")
	return v
}

// fillRequest copies into r what the spans of x need.
func fillRequest(r *record, x *exchange.Exchange) {
	r.kind = requestRecord
	r.method, r.path = r.put(x.Asked.Method, 32), r.put(x.Asked.Path, maxPath)
	r.authority, r.agent = r.put(x.Asked.Authority, maxAgent), r.put(userAgent(x), maxAgent)
	if len(x.Attempts) > 0 {
		r.sentMethod, r.sentPath = r.put(x.Request.Method, 32), r.put(x.Request.Path, maxPath)
		r.sentAuthority = r.put(x.Request.Authority, maxAgent)
	}
	r.minor, r.client, r.trace, r.route = x.Request.Minor, x.Client, x.Trace, x.Route
	r.started, r.headRead, r.routed, r.firstByte, r.ended = x.Started, x.HeadRead, x.Routed, x.FirstByte, x.Ended
	r.wall, r.bytesIn, r.bytesOut, r.status, r.err = x.WallStarted, x.BytesIn, x.BytesOut, x.StatusSent, x.Err
	r.lists(x)
}
