package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Names of the gateway's spans and attributes: runtime/telemetry/names.go.
const (
	spanConnection = "upstream.connection"
	spanSegment    = "upstream.connection.segment"
	spanFailed     = "wait.failed"

	attrUpstream    = "wasmgate.upstream"
	attrConnID      = "wasmgate.connection.id"
	attrConnOrdinal = "wasmgate.connection.ordinal"
	attrConnReused  = "wasmgate.connection.reused"
	attrConnAge     = "wasmgate.connection.age"
	attrConnIdle    = "wasmgate.connection.idle"
	attrWhyOpened   = "wasmgate.connection.why_opened"
	attrWhyClosed   = "wasmgate.connection.why_closed"
	attrPoolWait    = "wasmgate.pool.wait"
	attrDNSAge      = "wasmgate.dns.age"
	attrPeerAddress = "network.peer.address"
	attrPeerPort    = "network.peer.port"
	attrServer      = "server.address"
	attrServerPort  = "server.port"
	attrPath        = "url.path"
	attrStatus      = "http.response.status_code"
)

// connection is an upstream connection as its trace tells of it, with the requests whose spans link to it.
type connection struct {
	root     Span
	process  string // id of the process that opened it
	setup    []Span // DNS, connect, TLS, in order
	segments []Span
	uses     []use
}

// use is one attempt of a request over the connection.
type use struct{ attempt, request Span }

// Look prints each upstream connection that Jaeger knows of, the oldest first, and the requests that used it.
func Look(ctx context.Context, api *API, service string, limit int, w io.Writer) error {
	opened, err := api.Traces(ctx, service, spanConnection, limit)
	if err != nil {
		return err
	}
	all, err := api.Traces(ctx, service, "", limit)
	if err != nil {
		return err
	}
	conns := connections(opened, all)
	if len(conns) == 0 {
		_, err := fmt.Fprintf(w, "Jaeger has no upstream connection of service %q yet. Spans arrive within seconds of the request.\n", service)
		return err
	}
	for _, c := range conns {
		if _, err := io.WriteString(w, c.describe()); err != nil {
			return err
		}
	}
	return nil
}

// connections puts together what belongs together: links lead from a request's attempt to the connection's trace.
func connections(opened, all []Trace) []*connection {
	var conns []*connection
	byTrace := map[string]*connection{}
	for _, t := range opened {
		if c := newConnection(t); c != nil {
			byTrace[t.TraceID] = c
			conns = append(conns, c)
		}
	}
	for _, t := range all {
		for _, s := range t.Spans {
			for _, l := range s.Links() {
				if c := byTrace[l.TraceID]; c != nil && l.TraceID != t.TraceID {
					c.uses = append(c.uses, use{attempt: s, request: root(t)})
				}
			}
		}
	}
	for _, c := range conns {
		slices.SortFunc(c.uses, func(a, b use) int { return cmp.Compare(a.attempt.StartTime, b.attempt.StartTime) })
	}
	slices.SortFunc(conns, func(a, b *connection) int { return cmp.Compare(a.root.StartTime, b.root.StartTime) })
	return conns
}

func newConnection(t Trace) *connection {
	c := &connection{root: root(t)}
	c.process = processID(t, &c.root)
	if c.root.OperationName != spanConnection {
		return nil
	}
	for _, s := range t.Spans {
		switch {
		case s.SpanID == c.root.SpanID:
		case s.OperationName == spanSegment:
			c.segments = append(c.segments, s)
		case s.Parent() == c.root.SpanID:
			c.setup = append(c.setup, s)
		}
	}
	slices.SortFunc(c.setup, byStart)
	slices.SortFunc(c.segments, byStart)
	return c
}

func byStart(a, b Span) int { return cmp.Compare(a.StartTime, b.StartTime) }

// root returns the span of a trace whose parent is not in it.
func root(t Trace) Span {
	ids := map[string]bool{}
	for _, s := range t.Spans {
		ids[s.SpanID] = true
	}
	for _, s := range t.Spans {
		if !ids[s.Parent()] {
			return s
		}
	}
	return Span{}
}

// last is the segment in which the connection has ended, if Jaeger has it.
func (c *connection) last() *Span {
	for i := range c.segments {
		if _, ok := c.segments[i].Tag(attrWhyClosed); ok {
			return &c.segments[i]
		}
	}
	return nil
}

// processID is the process.pid of who made a span.
func processID(t Trace, s *Span) string {
	pid, _ := tag(t.Processes[s.ProcessID].Tags, "process.pid")
	return pid
}

func (c *connection) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connection %s to %s: %s → %s\n", text(&c.root, attrConnID), text(&c.root, attrUpstream),
		join(&c.root, attrServer, attrServerPort), join(&c.root, attrPeerAddress, attrPeerPort))
	fmt.Fprintf(&b, "  opened %s because: %s", time.UnixMicro(c.root.StartTime).Format("15:04:05.000"), text(&c.root, attrWhyOpened))
	for _, s := range c.setup {
		fmt.Fprintf(&b, ", %s %s", s.OperationName, micros(s.Duration))
	}
	b.WriteString("\n")
	for _, u := range c.uses {
		fmt.Fprintf(&b, "  %s\n", u.describe())
	}
	if s := c.last(); s != nil {
		fmt.Fprintf(&b, "  closed %s because: %s\n", time.UnixMicro(s.StartTime+s.Duration).Format("15:04:05.000"), text(s, attrWhyClosed))
	}
	fmt.Fprintf(&b, "  trace %s\n\n", c.root.TraceID)
	return b.String()
}

func (u use) describe() string {
	how := "opened it"
	if reused, _ := u.attempt.Tag(attrConnReused); reused == "true" {
		how = fmt.Sprintf("reused it at age %s after %s idle", seconds(&u.attempt, attrConnAge), seconds(&u.attempt, attrConnIdle))
	}
	return fmt.Sprintf("#%s %s %s %s in %s: %s, waited %s for it (trace %s)", text(&u.attempt, attrConnOrdinal),
		u.request.OperationName, text(&u.request, attrPath), text(&u.attempt, attrStatus), micros(u.attempt.Duration), how,
		seconds(&u.attempt, attrPoolWait), u.attempt.TraceID)
}

func text(s *Span, key string) string {
	if v, ok := s.Tag(key); ok && v != "" {
		return v
	}
	return "?"
}

func join(s *Span, host, port string) string {
	if _, ok := s.Tag(port); !ok {
		return text(s, host)
	}
	return text(s, host) + ":" + text(s, port)
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// seconds reads a duration attribute, which by OpenTelemetry's conventions is a number of seconds.
func seconds(s *Span, key string) string {
	n, ok := s.Float(key)
	if !ok {
		return "?"
	}
	return time.Duration(n * float64(time.Second)).Round(time.Microsecond).String()
}
