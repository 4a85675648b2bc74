package gateway

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
)

// Errors implements admin.Gateway.
func (o operators) Errors(f admin.TrafficFilter) admin.Errors {
	fits := func(e *telemetry.RecentError) bool {
		return (f.Upstream == "" || e.Upstream == f.Upstream) && (f.Route == "" || e.Route == f.Route)
	}
	parts, missing := ask(o.group, func(l *netloop.Loop) []telemetry.RecentError {
		return o.telemetry.Loop(l.Index()).RecentErrors(f.Limit, fits)
	})
	list := slices.Concat(parts...)
	slices.SortStableFunc(list, func(a, b telemetry.RecentError) int { return int(b.At - a.At) })
	out := admin.Errors{LoopsMissing: missing, Errors: []admin.Error{}}
	for _, e := range list[:min(len(list), f.Limit)] {
		v := admin.Error{
			Time: e.Time(), Of: e.Of, Kind: e.Err.Kind.String(), Source: e.Err.Source.String(), Text: text([]byte(e.Err.Error()), 4096), Status: e.Status,
			Listener: e.Listener, Route: e.Route, Upstream: e.Upstream, Host: e.Host, Plugin: e.Plugin, ConnID: e.ConnID, TraceID: traceID(e.TraceID),
		}
		if e.Address.IsValid() {
			v.Address = unixaddr.Text(e.Address)
		}
		out.Errors = append(out.Errors, v)
	}
	return out
}

func traceID(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// Traces implements admin.Gateway.
func (o operators) Traces(f admin.TrafficFilter) admin.Traces {
	fits := func(t *telemetry.RecentTrace) bool {
		return (f.Upstream == "" || slices.Contains(t.Upstreams, f.Upstream)) && (f.Route == "" || t.Route == f.Route) && (f.Kept == "" || t.Kept == f.Kept)
	}
	parts, missing := ask(o.group, func(l *netloop.Loop) []telemetry.RecentTrace {
		return o.telemetry.Loop(l.Index()).RecentTraces(f.Limit, fits)
	})
	list := slices.Concat(parts...)
	slices.SortStableFunc(list, func(a, b telemetry.RecentTrace) int { return int(b.Started - a.Started) })
	out := admin.Traces{
		Capacity: recentRequests(o.options.Config), LoopsMissing: missing, Exported: o.options.Config.Telemetry.Traces.Endpoint, Traces: []admin.TraceSummary{},
	}
	for _, t := range list[:min(len(list), f.Limit)] {
		out.Traces = append(out.Traces, summary(&t))
	}
	return out
}

func summary(t *telemetry.RecentTrace) admin.TraceSummary {
	return admin.TraceSummary{
		ID: t.ID, Exported: t.Exported, Kept: t.Kept, Time: time.Unix(0, t.Started), Duration: ms(t.Ended - t.Started), Listener: t.Listener, Client: t.Client,
		Method: t.Method, Host: t.Host, Path: t.Path, Route: t.Route, Upstream: t.Upstream, Address: t.Address, ConnID: t.ConnID, Attempts: t.Attempts,
		Status: t.Status, Error: t.Err,
	}
}

// Trace implements admin.Gateway.
func (o operators) Trace(id string) (*admin.Trace, int) {
	var want [16]byte
	if n, err := hex.Decode(want[:], []byte(id[:min(len(id), 32)])); err != nil || n != 16 || len(id) != 32 {
		return nil, 0
	}
	found, missing := ask(o.group, func(l *netloop.Loop) *telemetry.RecentRequest {
		return o.telemetry.Loop(l.Index()).RecentRequest(want)
	})
	for _, q := range found {
		if q != nil {
			return traceView(q, o.options.Config.Admin.Jaeger), 0
		}
	}
	return nil, missing
}

func traceView(q *telemetry.RecentRequest, jaeger string) *admin.Trace {
	t := &admin.Trace{TraceSummary: summary(&q.RecentTrace), Spans: []admin.Span{}}
	if jaeger != "" && q.Exported {
		t.Jaeger = strings.TrimSuffix(jaeger, "/") + "/trace/" + q.ID
	}
	for _, s := range q.Spans() {
		v := admin.Span{
			ID: s.ID, Parent: s.Parent, Name: s.Name, Kind: s.Kind, Start: time.Unix(0, s.Start), Offset: float64(s.Start-q.Started) / 1e6,
			Duration: ms(s.End - s.Start), Attributes: s.Attributes, Events: []admin.SpanEvent{}, Error: s.Err,
		}
		for _, e := range s.Events {
			v.Events = append(v.Events, admin.SpanEvent{Name: e.Name, Offset: float64(e.At-q.Started) / 1e6, Attributes: e.Attributes})
		}
		t.Spans = append(t.Spans, v)
	}
	return t
}
