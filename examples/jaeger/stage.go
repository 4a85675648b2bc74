package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// factTimeout bounds each wait for something that must come about. It is long because the machine may be busy.
const factTimeout = time.Minute

// stage is where a situation of the tour is played: a visitor, the gateway, and what stands behind it. It belongs to one
// goroutine. Everything that it starts ends with close.
type stage struct {
	ctx     context.Context
	api     *API
	ports   Ports
	dir     string // for files that are made; removed at the end
	program string // the gateway's
	out     io.Writer

	visitor *sdk.TracerProvider
	shop    *sdk.TracerProvider
	client  http.Client
	gateway *Gateway
	closers []func()
	points  int // so many things have been pointed at
}

// newStage has the gateway built and the tracing of visitor and shop ready.
func newStage(ctx context.Context, p Ports, out io.Writer) (*stage, error) {
	s := &stage{ctx: ctx, api: NewAPI(p.QueryURL()), ports: p, out: out}
	if err := s.prepare(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) prepare() (err error) {
	if s.dir, err = os.MkdirTemp("", "wasmgate-tour-"); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(s.dir) })
	if s.program, err = BuildGateway(s.ctx); err != nil {
		return err
	}
	if s.visitor, err = newTracing(s.ctx, s.ports.OTLPURL(), serviceVisitor); err != nil {
		return err
	}
	if s.shop, err = newTracing(s.ctx, s.ports.OTLPURL(), serviceShop); err != nil {
		return err
	}
	s.client = http.Client{Timeout: factTimeout, Transport: &http.Transport{}}
	s.closers = append(s.closers, func() {
		s.client.CloseIdleConnections()
		end, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
		defer cancel()
		_, _ = s.visitor.Shutdown(end), s.shop.Shutdown(end)
	})
	return nil
}

// close ends what was started, the last first.
func (s *stage) close() {
	for _, end := range slices.Backward(s.closers) {
		end()
	}
	s.closers = nil
}

// startShop starts a server of the upstream that ends with the stage.
func (s *stage) startShop(addr string) (*Shop, error) {
	shop, err := NewShop(addr, s.shop, nil)
	if err == nil {
		s.closers = append(s.closers, shop.Close)
	}
	return shop, err
}

// startNames starts a name server that knows one name, and ends with the stage.
func (s *stage) startNames(slow, ttl time.Duration, name, addr string) (*Names, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	names, err := NewNames(slow, ttl)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, names.Close)
	names.Set(name, ip)
	return names, nil
}

// startGateway starts the gateway with a configuration of the folder tour, whose ${...} env sets.
func (s *stage) startGateway(config string, env ...string) error {
	module, err := moduleDir(s.ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(module, "tour", config)
	if s.gateway, err = StartGateway(s.ctx, s.program, file, append(env, "OTLP="+s.ports.OTLPURL())...); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = s.gateway.Stop() })
	s.say("The gateway runs with examples/jaeger/tour/%s.\n", config)
	return nil
}

// visit is a request of the visitor and what came of it.
type visit struct {
	path, trace, body string
	status            int
}

// visit sends a request through the gateway. Its trace begins with the visitor: a client span here, and a field traceparent
// that names it.
func (s *stage) visit(path string) (visit, error) {
	ctx, span := s.visitor.Tracer("tour").Start(s.ctx, "GET "+path, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	v := visit{path: path, trace: span.SpanContext().TraceID().String()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.gateway.URL+path, nil)
	if err != nil {
		return v, err
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	res, err := s.client.Do(req)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return v, fmt.Errorf("GET %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	v.status, v.body = res.StatusCode, string(body)
	span.SetAttributes(attribute.String("http.request.method", http.MethodGet), attribute.String("url.path", path), attribute.Int("http.response.status_code", v.status))
	if v.status >= 400 {
		span.SetStatus(codes.Error, res.Status)
	}
	s.say("  the visitor asks for %s and sees: %s: %q\n", path, res.Status, v.body)
	return v, err
}

// visits sends requests one after the other, which must be answered with a status.
func (s *stage) visits(status int, paths ...string) (list []visit, err error) {
	for _, path := range paths {
		v, err := s.visit(path)
		if err != nil {
			return nil, err
		}
		if v.status != status {
			return nil, fmt.Errorf("GET %s: status %d instead of %d; the end of the gateway's log:\n%s", path, v.status, status, &s.gateway.log)
		}
		list = append(list, v)
	}
	return list, nil
}

// await asks again and again until it is told yes.
func (s *stage) await(what string, ask func() (bool, error)) error {
	late := time.NewTimer(factTimeout)
	defer late.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		ok, err := ask()
		if ok || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-late.C:
			return fmt.Errorf("%s: not within %s; the end of the gateway's log:\n%s", what, factTimeout, &s.gateway.log)
		}
	}
}

// request waits until Jaeger has the whole trace of a visit: the visitor's span, the gateway's, and so many of the shop's.
func (s *stage) request(v visit, shops int) (r request, err error) {
	if err := errors.Join(s.visitor.ForceFlush(s.ctx), s.shop.ForceFlush(s.ctx)); err != nil {
		return r, err
	}
	err = s.await("the trace of GET "+v.path+" in Jaeger", func() (bool, error) {
		traces, err := s.api.Trace(s.ctx, v.trace)
		if err != nil || len(traces) == 0 {
			return false, err
		}
		r = newRequest(traces[0])
		return r.visitor != nil && r.server != nil && len(r.shops) == shops && (shops == 0 || len(r.attempts) > 0), nil
	})
	return r, err
}

// connection waits until Jaeger has the trace of the connection that a span links to, and as much of it as is wanted.
func (s *stage) connection(from *Span, enough func(*connection) bool) (c *connection, err error) {
	links := from.Links()
	if len(links) != 1 {
		return nil, fmt.Errorf("span %s has %d links instead of one", from.OperationName, len(links))
	}
	err = s.await("the trace of the connection in Jaeger", func() (bool, error) {
		traces, err := s.api.Trace(s.ctx, links[0].TraceID)
		if err != nil || len(traces) == 0 {
			return false, err
		}
		c = newConnection(traces[0])
		return c != nil && enough(c), nil
	})
	return c, err
}

// request is the trace of a visit, taken apart.
type request struct {
	visitor, server *Span   // the visitor's span, and the gateway's for the request
	attempts        []*Span // of the gateway, in their order
	shops           []*Span // of those who answered
	spans           []Span
}

func newRequest(t Trace) (r request) {
	r.spans = t.Spans
	slices.SortFunc(r.spans, byStart)
	for i := range r.spans {
		span := &r.spans[i]
		kind, _ := span.Tag("span.kind")
		switch service := t.Processes[span.ProcessID].ServiceName; {
		case service == serviceVisitor:
			r.visitor = span
		case service == serviceShop:
			r.shops = append(r.shops, span)
		case kind == "server":
			r.server = span
		case kind == "client":
			r.attempts = append(r.attempts, span)
		}
	}
	return r
}

// below returns the spans of that name below one, however deep, in the order of their starts.
func (r *request) below(of *Span, name string) (list []*Span) {
	for i := range r.spans {
		if s := &r.spans[i]; s.Parent() == of.SpanID {
			if s.OperationName == name {
				list = append(list, s)
			}
			list = append(list, r.below(s, name)...)
		}
	}
	return list
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// point says which trace of Jaeger to open, and what can be seen there.
func (s *stage) point(trace, what string) {
	s.points++
	s.say("\n%d. %s/trace/%s\n   %s\n", s.points, s.ports.QueryURL(), trace, what)
}

// fact is an attribute to look at, and what it means in plain words.
type fact struct{ key, means string }

// tags prints attributes of a span as Jaeger has them. One that is not there is an error: what is said here is true.
func (s *stage) tags(span *Span, facts ...fact) error {
	s.say("   span %s\n", span.OperationName)
	return s.list(span.Tags, facts)
}

// log prints an event of a span with attributes of it; which must hold for the event, if it is not nil.
func (s *stage) log(span *Span, event string, which func(tags []Tag) bool, facts ...fact) error {
	for _, l := range span.Logs {
		if name, _ := tag(l.Fields, "event"); name == event && (which == nil || which(l.Fields)) {
			s.say("   span %s, log %q\n", span.OperationName, event)
			return s.list(l.Fields, facts)
		}
	}
	return fmt.Errorf("span %s has no such event %s", span.OperationName, event)
}

func (s *stage) list(tags []Tag, facts []fact) error {
	for _, f := range facts {
		value, ok := tag(tags, f.key)
		if !ok {
			return fmt.Errorf("there is no attribute %s", f.key)
		}
		s.say("     %-48s %s\n", f.key+" = "+value, f.means)
	}
	return nil
}

// took prints how long spans lasted.
func (s *stage) took(spans []*Span, means map[string]string) {
	for _, span := range spans {
		s.say("     %-48s %s\n", span.OperationName+" "+micros(span.Duration).String(), means[span.OperationName])
	}
}
