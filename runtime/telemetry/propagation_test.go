package telemetry

import (
	"bytes"
	"strings"
	"testing"

	"wasmgate/runtime/exchange"
)

const (
	b3Trace = "463ac35c9f6413ad48485a3953bb6124"
	b3Span  = "a2fb4a1d1a96d312"
	b3Half  = "48485a3953bb6124"
)

// A gateway stands between services that speak B3 and those that speak W3C: a request's trace goes on in both, under the
// same ids, whichever it came by.
func TestATraceGoesOnWhicheverWayItWasTold(t *testing.T) {
	for name, c := range map[string]struct {
		list    []string
		fields  []string
		sampled bool
		trace   string // "": a new one
		parent  string
		debug   bool
	}{
		"W3C counts first":       {[]string{PropagateW3C, PropagateB3}, []string{callerParent, "b3: " + b3Trace + "-" + b3Span + "-0"}, true, callerTrace, callerSpan, false},
		"B3 counts first":        {[]string{PropagateB3, PropagateW3C}, []string{callerParent, "b3: " + b3Trace + "-" + b3Span + "-1"}, true, b3Trace, b3Span, false},
		"the first is not valid": {[]string{PropagateB3, PropagateW3C}, []string{callerParent, "b3: " + b3Trace}, true, callerTrace, callerSpan, false},
		"a trace of 64 bits":     {[]string{PropagateB3}, []string{"b3: " + b3Half + "-" + b3Span + "-1-" + b3Span}, true, strings.Repeat("0", 16) + b3Half, b3Span, false},
		"the ratio decides":      {[]string{PropagateB3}, []string{"b3: " + b3Trace + "-" + b3Span}, true, b3Trace, b3Span, false},
		"no":                     {[]string{PropagateB3}, []string{"b3: 0"}, false, "", "", false},
		"yes":                    {[]string{PropagateB3}, []string{"b3: 1"}, true, "", "", false},
		"debug":                  {[]string{PropagateB3}, []string{"b3: " + b3Trace + "-" + b3Span + "-d"}, true, b3Trace, b3Span, true},
		"several fields":         {[]string{PropagateB3Multi}, []string{"X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span, "X-B3-ParentSpanId: " + b3Span, "X-B3-Sampled: 0"}, false, b3Trace, b3Span, false},
		"several, debug":         {[]string{PropagateB3Multi}, []string{"X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span, "X-B3-Flags: 1"}, true, b3Trace, b3Span, true},
		"several, only no":       {[]string{PropagateB3Multi}, []string{"X-B3-Sampled: false"}, false, "", "", false},
		"nobody listens to B3":   {nil, []string{"b3: 0"}, true, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Propagation: c.list, KeepErrors: true, KeepRate: 1}})
			r := tel.Loop(0)
			x := sampled(t, r, c.fields...)
			if x.Trace.Sampled != c.sampled || x.Trace.Debug != c.debug || x.Trace.Tail == c.sampled {
				t.Fatalf("%+v", x.Trace)
			}
			if c.trace != "" && (id(x.Trace.TraceID[:]) != c.trace || id(x.Trace.Parent[:]) != c.parent) || c.trace == "" && x.Trace.Parent != [8]byte{} {
				t.Errorf("%+v", x.Trace)
			}
			x.Attempts = append(x.Attempts, exchange.Attempt{})
			a := x.Attempt()
			r.StartAttempt(x, a)
			checkPropagated(t, x, id(a.SpanID[:]), c.list)
		})
	}
}

// checkPropagated: the upstream is told the same in each way of the list, and reads it as it is meant.
func checkPropagated(t *testing.T, x *exchange.Exchange, span string, list []string) {
	t.Helper()
	if len(list) == 0 {
		list = []string{PropagateW3C}
	}
	for _, way := range list {
		c := callerOf(&x.Request.Head, []propagation{propagations[way]})
		if !c.joined || !c.decided || c.sampled != x.Trace.Sampled || c.traceID != x.Trace.TraceID || id(c.spanID[:]) != span {
			t.Errorf("%s: the upstream reads %+v of %+v", way, c, x.Trace)
		}
		if c.debug != (x.Trace.Debug && way != PropagateW3C) {
			t.Errorf("%s: debug %v", way, c.debug)
		}
	}
}

// A trace that came by B3 takes the tracestate of another one away; where nobody listens to W3C it is none of ours.
func TestATracestateOfAnotherTraceIsNotPassedOn(t *testing.T) {
	b3 := "b3: " + b3Trace + "-" + b3Span + "-1"
	for want, list := range map[string][]string{"": {PropagateB3, PropagateW3C}, "vendor=1": {PropagateB3}} {
		tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Propagation: list}})
		x := sampled(t, tel.Loop(0), callerParent, "tracestate: vendor=1", b3)
		if got := headerValue(x, "tracestate"); got != want || x.Trace.State != "" {
			t.Errorf("%v: tracestate %q goes on, %q is kept", list, got, x.Trace.State)
		}
	}
}

// Whatever is not B3 to the letter is as nothing: no half of it is believed.
func TestB3IsReadStrictly(t *testing.T) {
	ids := b3Trace + "-" + b3Span
	for _, fields := range [][]string{
		{"b3: "}, {"b3: 2"}, {"b3: -"}, {"b3: " + ids + "-"}, {"b3: " + ids + "-x"}, {"b3: " + ids + "-1-"}, {"b3: " + ids + "-1-" + b3Span[1:]},
		{"b3: " + ids + "-1-" + b3Span + "-"}, {"b3: " + ids + "-true"}, {"b3: " + strings.ToUpper(ids)}, {"b3: " + b3Trace[1:] + "-" + b3Span},
		{"b3: " + strings.Repeat("0", 32) + "-" + b3Span}, {"b3: " + b3Trace + "-" + strings.Repeat("0", 16)}, {"b3: " + ids, "b3: " + ids},
		{"b3: " + strings.Repeat("1", 5000)},
		{"X-B3-TraceId: " + b3Trace}, {"X-B3-SpanId: " + b3Span}, {"X-B3-Sampled: maybe"}, {"X-B3-Flags: 2"}, {"X-B3-ParentSpanId: " + b3Span},
		{"X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span + "0"}, {"X-B3-TraceId: " + b3Trace + "00", "X-B3-SpanId: " + b3Span},
		{"X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span, "X-B3-ParentSpanId: x"},
		{"X-B3-TraceId: " + b3Trace, "X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span},
		{"X-B3-TraceId: " + b3Trace, "X-B3-SpanId: " + b3Span, "X-B3-Sampled: 1", "X-B3-Sampled: 1"},
	} {
		x := request(t, append([]string{"GET / HTTP/1.1", "Host: a"}, fields...)...)
		if c := callerOf(&x.Request.Head, []propagation{b3, b3multi}); c != (caller{}) {
			t.Errorf("%.100q is read as %+v", fields, c)
		}
	}
	for _, wrong := range [][]string{{"zipkin"}, {PropagateB3, PropagateB3}} {
		if _, err := New(Options{Traces: Traces{Endpoint: "http://localhost:4318", Propagation: wrong}}); err == nil {
			t.Errorf("propagation %v is taken", wrong)
		}
	}
}

// FuzzB3: what is believed has ids that are none but hex and not zero, and is told on as it was read.
func FuzzB3(f *testing.F) {
	f.Add([]byte(b3Trace + "-" + b3Span + "-1-" + b3Span))
	f.Add([]byte(b3Half + "-" + b3Span + "-d"))
	f.Add([]byte("0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.ContainsAny(b, "\r\n\x00") {
			return
		}
		x := &exchange.Exchange{}
		x.Request.AddBytes([]byte("b3"), b)
		c := readB3(&x.Request.Head)
		if c.from == 0 {
			if c != (caller{}) {
				t.Fatalf("%q: half of it is believed: %+v", b, c)
			}
			return
		}
		if c.joined != (c.traceID != [16]byte{}) || c.joined != (c.spanID != [8]byte{}) || !c.joined && !c.decided || len(b) > maxB3 {
			t.Fatalf("%q: %+v", b, c)
		}
		if c.joined && !bytes.Contains(b, []byte(id(c.spanID[:]))) {
			t.Fatalf("%q: span %x", b, c.spanID)
		}
	})
}

// What a client puts into baggage is looked at as far as W3C allows, and no further.
func TestBaggageIsBounded(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Traces: Traces{Endpoint: got.url, Baggage: []string{"a", "late", "bad", "empty"}}})
	r := tel.Loop(0)
	x := sampled(t, r, "baggage: =x,,;,a="+strings.Repeat("v", 1000)+", bad=%zz\xff;p, empty=,"+strings.Repeat("x=1,", 70)+"late=1")
	end(r, x, 200)
	y := sampled(t, r, "baggage: "+strings.Repeat("y", maxBaggageBytes+1), "baggage: late=1")
	y.Route = "huge"
	end(r, y, 200)
	finish(t, tel)
	a := attributes(got.all().one(t, "GET").Attributes)
	if a["wasmgate.baggage.a"] != strings.Repeat("v", maxBaggageValue) || a["wasmgate.baggage.late"] != nil || a["wasmgate.baggage.bad"] != "%zz\uFFFD" || a["wasmgate.baggage.empty"] != nil {
		t.Errorf("%.400v", a)
	}
	if a := attributes(got.all().one(t, "GET huge").Attributes); a["wasmgate.baggage.late"] != nil {
		t.Errorf("%v", a)
	}
	if !strings.HasPrefix(headerValue(x, "baggage"), "=x,,;,a=v") {
		t.Error("the baggage did not go on as it came")
	}
}

// The gateway's own answers name their trace, where the operator wants that.
func TestAnswersOfTheGatewayNameTheirTrace(t *testing.T) {
	for _, answers := range []bool{false, true} {
		tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Answers: answers}})
		x := sampled(t, tel.Loop(0), callerParent)
		tel.Loop(0).Answer(x)
		got, _ := x.Response.Get("traceparent")
		want := ""
		if answers {
			want = "00-" + callerTrace + "-" + id(x.Trace.Server[:]) + "-01"
		}
		if string(got) != want {
			t.Errorf("answers %v: traceparent %q, want %q", answers, got, want)
		}
	}
}
