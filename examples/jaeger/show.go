package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// barWidth is how many columns the whole time of a trace takes.
const barWidth = 32

// Show prints a trace as a waterfall, with the attributes, events and links of its spans.
func Show(ctx context.Context, api *API, id string, w io.Writer) error {
	traces, err := api.Trace(ctx, id)
	if err != nil {
		return err
	}
	if len(traces) == 0 || len(traces[0].Spans) == 0 {
		return fmt.Errorf("the Jaeger that answered has no trace %s; spans arrive within seconds", id)
	}
	f := newWaterfall(traces[0])
	for _, s := range f.below[""] {
		f.write(s, 0)
	}
	_, err = io.WriteString(w, f.text.String())
	return err
}

// waterfall is a trace on its way to being text.
type waterfall struct {
	trace      Trace
	below      map[string][]Span // by the parent's id; "": roots
	begin, end int64
	text       strings.Builder
}

func newWaterfall(t Trace) *waterfall {
	f := &waterfall{trace: t, below: map[string][]Span{}, begin: t.Spans[0].StartTime}
	ids := map[string]bool{}
	for _, s := range t.Spans {
		ids[s.SpanID] = true
	}
	for _, s := range t.Spans {
		parent := s.Parent()
		if !ids[parent] { // it may be of somebody who does not export
			parent = ""
		}
		f.below[parent] = append(f.below[parent], s)
		f.begin, f.end = min(f.begin, s.StartTime), max(f.end, s.StartTime+s.Duration)
	}
	for _, list := range f.below {
		slices.SortStableFunc(list, byStart)
	}
	return f
}

func (f *waterfall) write(s Span, depth int) {
	indent := strings.Repeat("  ", depth)
	name := indent + f.trace.Processes[s.ProcessID].ServiceName + " " + s.OperationName
	fmt.Fprintf(&f.text, "%-44s |%s| +%s %s\n", name, f.bar(&s), micros(s.StartTime-f.begin), micros(s.Duration))
	for _, t := range s.Tags {
		fmt.Fprintf(&f.text, "%s    %s = %v\n", indent, t.Key, t.Value)
	}
	for _, l := range s.Logs {
		fmt.Fprintf(&f.text, "%s    • +%s", indent, micros(l.Timestamp-f.begin))
		for _, t := range l.Fields {
			fmt.Fprintf(&f.text, " %s=%v", t.Key, t.Value)
		}
		f.text.WriteString("\n")
	}
	for _, l := range s.Links() {
		fmt.Fprintf(&f.text, "%s    → span %s of trace %s\n", indent, l.SpanID, l.TraceID)
	}
	for _, child := range f.below[s.SpanID] {
		f.write(child, depth+1)
	}
}

// bar shows where in the trace's time a span is.
func (f *waterfall) bar(s *Span) string {
	at := func(t int64) int { return int((t - f.begin) * barWidth / max(f.end-f.begin, 1)) }
	from := min(at(s.StartTime), barWidth-1)
	to := max(at(s.StartTime+s.Duration), from+1)
	return strings.Repeat(" ", from) + strings.Repeat("=", to-from) + strings.Repeat(" ", barWidth-to)
}
