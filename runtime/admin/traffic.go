package admin

import (
	"net/http"
	"time"
)

var trafficOperations = []operation{
	{
		method: "GET", path: "/errors", id: "listErrors", group: groupTraffic, serve: (*api).errors,
		summary: "Recent errors, the newest first.",
		text:    "Of requests and each of their attempts, of sessions of TCP mode, and of connections that could not be opened. 256 are kept for each event loop.",
		query: []parameter{
			{name: "upstream", text: "Only those of the upstream with this name."},
			{name: "route", text: "Only those of the route with this name."},
			{name: "limit", text: "How many at most; 1 to 10000, default 100.", of: 0},
		},
		answers: []reply{ok(Errors{}, "The errors."), said400, said503},
	},
	{
		method: "GET", path: "/traces", id: "listTraces", group: groupTraffic, serve: (*api).traces,
		summary: "Recent requests, the newest first.",
		text:    "As many as `admin.traces` says are kept: half of them for requests that failed or were slow, half for a sample of the others. Nothing has to be exported for that.",
		query: []parameter{
			{name: "upstream", text: "Only those with an attempt at the upstream with this name."},
			{name: "route", text: "Only those of the route with this name."},
			{name: "kept", text: "Only those that were kept for this reason.", enum: keptReasons},
			{name: "limit", text: "How many at most; 1 to 10000, default 100.", of: 0},
		},
		answers: []reply{ok(Traces{}, "The traces."), said400, said503},
	},
	{
		method: "GET", path: "/traces/{id}", id: "getTrace", group: groupTraffic, serve: (*api).trace,
		summary: "One recent request: its spans, as they would be exported.",
		answers: []reply{ok(Trace{}, "The trace."), said404, said503},
	},
}

var keptReasons = []string{"error", "slow", "sample"}

// Errors are recent errors.
type Errors struct {
	LoopsMissing int     `json:"loops_missing" doc:"Event loops that did not answer in time."`
	Errors       []Error `json:"errors"`
}

// Error is something that went wrong.
type Error struct {
	Time     time.Time `json:"time"`
	Of       string    `json:"of" enum:"request,attempt,call,session,connection" doc:"What failed. An attempt may have been followed by one that did not; a call is a plugin's own request."`
	Kind     string    `json:"kind" doc:"As the label kind of wasmgate_errors_total."`
	Source   string    `json:"source" doc:"Who is to blame."`
	Text     string    `json:"text"`
	Status   int       `json:"status,omitempty" doc:"That the client was sent."`
	Listener string    `json:"listener,omitempty"`
	Route    string    `json:"route,omitempty"`
	Upstream string    `json:"upstream,omitempty"`
	Host     string    `json:"host,omitempty" doc:"host:port as configured."`
	Address  string    `json:"address,omitempty" doc:"IP:port."`
	Plugin   string    `json:"plugin,omitempty"`
	ConnID   uint64    `json:"connection,omitempty" doc:"The upstream connection's id."`
	TraceID  string    `json:"trace_id,omitempty" doc:"GET /traces/{id} may have it."`
}

// Traces are recent requests.
type Traces struct {
	Capacity     int            `json:"capacity" doc:"How many are kept; 0: none, see admin.traces."`
	LoopsMissing int            `json:"loops_missing" doc:"Event loops that did not answer in time."`
	Exported     string         `json:"exported_to,omitempty" doc:"Where traces are exported to, if they are."`
	Traces       []TraceSummary `json:"traces"`
}

// TraceSummary is a recent request in a line.
type TraceSummary struct {
	ID       string    `json:"id" doc:"The trace id; of a request that is traced nowhere else, one of its own."`
	Exported bool      `json:"exported" doc:"The trace is exported under this id too."`
	Kept     string    `json:"kept" enum:"error,slow,sample" doc:"Why it was kept."`
	Time     time.Time `json:"time" doc:"Of the first byte of the request."`
	Duration float64   `json:"duration_ms"`
	Listener string    `json:"listener,omitempty"`
	Client   string    `json:"client,omitempty"`
	Method   string    `json:"method,omitempty"`
	Host     string    `json:"host,omitempty"`
	Path     string    `json:"path,omitempty" doc:"Without the query; 2 KiB at most."`
	Route    string    `json:"route,omitempty"`
	Upstream string    `json:"upstream,omitempty" doc:"Of the last attempt."`
	Address  string    `json:"address,omitempty" doc:"Of the last attempt."`
	ConnID   uint64    `json:"connection,omitempty" doc:"Of the last attempt."`
	Attempts int       `json:"attempts"`
	Status   int       `json:"status" doc:"0: nothing was sent."`
	Error    string    `json:"error,omitempty"`
}

// Trace is a recent request.
type Trace struct {
	TraceSummary
	Jaeger string `json:"jaeger,omitempty" doc:"Where Jaeger shows it, if it is exported there; see admin.jaeger."`
	Spans  []Span `json:"spans" doc:"In the order of their start."`
}

// Span is a span of OpenTelemetry.
type Span struct {
	ID         string         `json:"id"`
	Parent     string         `json:"parent,omitempty" doc:"Empty for the first one, if the trace begins here."`
	Name       string         `json:"name"`
	Kind       string         `json:"kind" enum:"internal,server,client"`
	Start      time.Time      `json:"start"`
	Offset     float64        `json:"offset_ms" doc:"From the start of the request."`
	Duration   float64        `json:"duration_ms"`
	Attributes map[string]any `json:"attributes" doc:"By the names of runtime/telemetry/README.md."`
	Events     []SpanEvent    `json:"events"`
	Error      string         `json:"error,omitempty"`
}

// SpanEvent is a moment of a span.
type SpanEvent struct {
	Name       string         `json:"name"`
	Offset     float64        `json:"offset_ms" doc:"From the start of the request."`
	Attributes map[string]any `json:"attributes"`
}

// TrafficFilter says which errors or requests are meant: those that fit all that is there.
type TrafficFilter struct {
	Upstream string
	Route    string
	Kept     string
	Limit    int
}

func traffic(r *http.Request) TrafficFilter {
	q := r.URL.Query()
	return TrafficFilter{Upstream: q.Get("upstream"), Route: q.Get("route"), Kept: q.Get("kept"), Limit: limit(r, 100)}
}

func (a *api) errors(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Errors(traffic(r)))
}

func (a *api) traces(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Traces(traffic(r)))
}

func (a *api) trace(w http.ResponseWriter, r *http.Request) {
	switch t, missing := a.Gateway.Trace(r.PathValue("id")); {
	case t != nil:
		answer(w, http.StatusOK, t)
	case missing > 0:
		http.Error(w, "an event loop has not answered in time, and it may have the request", http.StatusServiceUnavailable)
	default:
		http.Error(w, "no recent request has this trace id; GET /traces lists them", http.StatusNotFound)
	}
}
