package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// answerLimit bounds an answer of the query API, in bytes.
const answerLimit = 64 << 20

// API asks a Jaeger's query API. It is safe for concurrent use.
type API struct {
	base   string
	client http.Client
}

// NewAPI returns an API at a base address such as http://127.0.0.1:16686.
func NewAPI(base string) *API {
	return &API{base: base, client: http.Client{Timeout: 10 * time.Second}}
}

// Trace is a trace as /api/traces gives it.
type Trace struct {
	TraceID   string
	Spans     []Span
	Processes map[string]Process
}

// Process is who made spans, with its resource attributes.
type Process struct {
	ServiceName string
	Tags        []Tag
}

// Span is one span of a Trace.
type Span struct {
	TraceID, SpanID, OperationName string
	References                     []Reference
	StartTime, Duration            int64 // microseconds, StartTime since 1970
	Tags                           []Tag
	Logs                           []Log
	ProcessID                      string
}

// Log is an event of a span; its name is the field "event".
type Log struct {
	Timestamp int64 // microseconds since 1970
	Fields    []Tag
}

// Reference is a span's parent (CHILD_OF, same trace) or one of its links (FOLLOWS_FROM, usually another trace).
type Reference struct{ RefType, TraceID, SpanID string }

// Tag is an attribute; Value is a string, bool or json.Number.
type Tag struct {
	Key, Type string
	Value     any
}

// Tag returns an attribute as text, numbers as they were sent.
func (s *Span) Tag(key string) (string, bool) { return tag(s.Tags, key) }

func tag(tags []Tag, key string) (string, bool) {
	for _, t := range tags {
		if t.Key == key {
			return fmt.Sprint(t.Value), true
		}
	}
	return "", false
}

// Int returns an attribute as an integer; false if it is absent or none.
func (s *Span) Int(key string) (int64, bool) {
	text, _ := s.Tag(key)
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// Float returns an attribute as a number; false if it is absent or none.
func (s *Span) Float(key string) (float64, bool) {
	text, _ := s.Tag(key)
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// Parent returns the id of the span's parent in its trace, or "" for a root.
func (s *Span) Parent() string {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" && r.TraceID == s.TraceID {
			return r.SpanID
		}
	}
	return ""
}

// Links returns the spans that s links to.
func (s *Span) Links() []Reference {
	var links []Reference
	for _, r := range s.References {
		if r.RefType == "FOLLOWS_FROM" {
			links = append(links, r)
		}
	}
	return links
}

// Traces returns traces of the last two days with a span of the service and the operation ("": any), at most limit.
func (a *API) Traces(ctx context.Context, service, operation string, limit int) ([]Trace, error) {
	q := url.Values{"service": {service}, "limit": {strconv.Itoa(limit)}}
	if operation != "" {
		q.Set("operation", operation)
	}
	return a.traces(ctx, "/api/traces?"+q.Encode())
}

// Trace returns one trace; an empty slice if Jaeger does not know it (yet).
func (a *API) Trace(ctx context.Context, id string) ([]Trace, error) {
	return a.traces(ctx, "/api/traces/"+url.PathEscape(id))
}

// Dependency is an edge of Jaeger's System Architecture page: one service has called another.
type Dependency struct {
	Parent, Child string
	CallCount     int
}

// Dependencies returns who has called whom in the time before now.
func (a *API) Dependencies(ctx context.Context, lookback time.Duration) (list []Dependency, err error) {
	q := url.Values{"endTs": {strconv.FormatInt(time.Now().UnixMilli(), 10)}, "lookback": {strconv.FormatInt(lookback.Milliseconds(), 10)}}
	err = a.ask(ctx, "/api/dependencies?"+q.Encode(), &list)
	return list, err
}

func (a *API) traces(ctx context.Context, path string) (list []Trace, err error) {
	err = a.ask(ctx, path, &list)
	return list, err
}

// ask reads what an answer has in data. What Jaeger does not know it leaves as it is.
func (a *API) ask(ctx context.Context, path string, data any) error {
	answer := struct {
		Data   any
		Errors []struct{ Msg string }
	}{Data: data}
	status, body, err := a.Get(ctx, path)
	if err != nil || status == http.StatusNotFound {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // connection ids need all of their 64 bits
	if err := d.Decode(&answer); err != nil {
		return fmt.Errorf("%s: status %d: %w", path, status, err)
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("%s: status %d: %s", path, status, answer.Errors[0].Msg)
	}
	return nil
}

// Get returns the status and body of a path, query string included.
func (a *API) Get(ctx context.Context, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("is Jaeger running? %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	return res.StatusCode, body, err
}
