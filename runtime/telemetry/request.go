package telemetry

import (
	"slices"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// takeTracestate copies the tracestate of a sampled request, which goes on to the upstream as it came; without a
// traceparent that was followed, or not valid, it must not (W3C Trace Context §3.3, §4.3). Of a request that is not sampled
// it is read when it is kept.
func (r *Recorder) takeTracestate(x *exchange.Exchange, followed bool) {
	h := &x.Request.Head
	state, fields := one(h, http1.FieldTracestate)
	switch {
	case fields == 0 || !slices.Contains(r.propagation, w3c):
		return
	case fields > 1:
		r.scratch = joinTracestate(r.scratch[:0], h)
		state = r.scratch
	}
	switch {
	case !followed || !validTracestate(state):
		h.DelID(http1.FieldTracestate)
	case x.Trace.Sampled:
		x.Trace.State = string(state)
	}
}

// joinTracestate makes one list of several fields, as RFC 9110 §5.3 allows.
func joinTracestate(all []byte, h *http1.Head) []byte {
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
	r.client, r.trace, r.route = x.Client, x.Trace, x.Route
	r.started, r.headRead, r.routed, r.firstByte, r.ended = x.Started, x.HeadRead, x.Routed, x.FirstByte, x.Ended
	r.wall, r.bytesIn, r.bytesOut, r.status, r.err = x.WallStarted, x.BytesIn, x.BytesOut, x.StatusSent, x.Err
	r.matched, r.tunnel, r.rpc = x.Matched, x.Tunnel, x.RPC
	if x.Trace.Kept != "" && x.Trace.Parent != [8]byte{} && x.Plugin == "" {
		r.trace.State = string(joinTracestate(nil, &x.Request.Head))
	}
	r.lists(x)
}
