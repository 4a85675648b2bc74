package gateway

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/server"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/wasm"
)

// finding is an explanation under way. It belongs to the loop that it is made on, but for what mu guards.
type finding struct {
	state    *state // in force
	asked    explain.Request
	url      explain.URL
	listener int
	shown    []*x509.Certificate // by the client
	result   *explain.Explanation
	round    *explain.Round // the last one
	matched  int            // the number of its route; negative: there is none

	mu    sync.Mutex
	lines []wasm.Line // that nobody was given yet
	calls []explain.Call
}

// Round is server.Witness's.
func (f *finding) Round(x *exchange.Exchange) {
	r := lineOf(&x.Request)
	r.Number, r.Tried = 1, []explain.Try{}
	if f.round != nil {
		r.Number = f.round.Number + 1
	}
	f.round = &r
	f.result.Steps = append(f.result.Steps, explain.Step{Round: f.round})
}

// Tried is server.Witness's. The last one of a round is the one that counts: before it plugins have said that a route is not for
// the request.
func (f *finding) Tried(r *http1.Request, from, matched int) {
	routes, to := f.state.listeners[f.listener].http.Routes, matched+1
	f.matched = matched
	if f.round.Matched = ""; matched < 0 {
		to = routes.Len()
	} else {
		f.round.Matched = f.state.config.Routes[matched].Name
	}
	for i, m := range routes.Explain(r, from, to) {
		f.round.Tried = append(f.round.Tried, explain.Try{
			Route: f.state.config.Routes[from+i].Name, Part: m.Part, Name: m.Name, Want: m.Want, Have: m.Have,
			Place: explain.Place{Path: fmt.Sprintf("routes[%d]", from+i)},
		})
	}
}

// ofListener says whether a filter with this place is one of the listener's.
func (f *finding) ofListener(place int) bool {
	return place < len(f.state.config.Listeners[f.listener].Plugins)
}

// explain takes down what came of the rehearsal.
func (f *finding) explain(r *server.Rehearsal) {
	e, x := f.result, r.Exchange
	e.Route = x.Route
	if x.Err != nil {
		e.Error, e.Kind = x.Err.Error(), x.Err.Kind.String()
	}
	if r.Upstream != nil {
		f.forwarded(r)
	}
	switch {
	case len(r.Answer) > 0:
		e.Outcome, e.Answer = explain.Answered, explain.NewMessage(r.Answer, r.Head)
		e.Answer.Status = x.StatusSent
		if !r.Keep {
			e.Notes = append(e.Notes, "the client's connection is closed after the answer")
		}
	case r.Sent != nil:
		e.Outcome = explain.Forwarded
	default:
		e.Outcome = explain.Closed
	}
	if r.Sent != nil && e.Outcome == explain.Forwarded {
		e.Sent = explain.NewMessage(r.Sent.Sent, r.Sent.Head)
		f.annotate(x)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		e.Notes = append(e.Notes, "plugin "+l.Plugin+": "+l.Text)
	}
}

// noteFirst says of an explanation that had to start its plugins that they usually take less.
func (f *finding) noteFirst() {
	if slices.ContainsFunc(f.result.Steps, func(s explain.Step) bool { return s.Plugin != nil }) {
		f.result.Notes = append(f.result.Notes, "plugins' times are those of a first call; further ones take less")
	}
}

// forwarded tells of the upstream.
func (f *finding) forwarded(r *server.Rehearsal) {
	x := r.Exchange
	why := "the route names it"
	for _, s := range slices.Backward(f.result.Steps) {
		if p := s.Plugin; p != nil && p.Phase == "request" && (p.Upstream != "" || p.Address != "") {
			why = "plugin " + p.Name + " chose it"
			break
		}
	}
	u := f.upstream(r.Upstream.Name(), why)
	f.result.Upstream = u
	c := f.state.upstreams[u.Name].config
	u.Authority = string(x.Target.Dynamic)
	u.Session = string(x.Target.Session)
	if x.Target.HashKey != 0 {
		u.HashKey = strconv.FormatUint(x.Target.HashKey, 16)
	}
	route := f.route()
	u.Host = hostWords(c.Host)
	if route != nil && route.Host != "" {
		u.Host = hostWords(route.Host)
	}
	u.Rules = append(rules(&c, r), codingRules(route, r)...)
	if r.Sent != nil {
		f.members(&r.Sent.Choice)
		if u.Authority != "" && len(u.Members) == 0 && r.Sent.Choice.Err == nil {
			f.result.Notes = append(f.result.Notes, "no request has named "+u.Authority+" of late: the first one looks its name up, and opens a connection")
		}
		if r.Sent.Choice.Waits > 0 {
			f.result.Notes = append(f.result.Notes, "the request would wait "+duration(r.Sent.Choice.Waits)+" for somebody who can be used (queue.timeout) before it is answered so")
		}
	}
}

// route is the config of the last one that matched; nil: none did.
func (f *finding) route() *config.Route {
	if f.round == nil || f.matched < 0 {
		return nil
	}
	return &f.state.config.Routes[f.matched]
}

// upstream begins what there is to say about one.
func (f *finding) upstream(name, why string) *explain.Upstream {
	u := &explain.Upstream{Name: name, Why: why, Place: explain.Place{Path: "upstreams." + name}, Rules: []explain.Rule{}, Members: []explain.Member{}}
	if f.result.Live {
		s := f.state.upstreams[name].Stats()
		u.Pool = &explain.Pool{Open: s.Open, Idle: s.Idle, Waiting: s.Waiting, BreakerOpen: s.BreakerOpen, RetriesLeft: s.RetriesLeft}
	}
	return u
}

func hostWords(p config.HostPolicy) string {
	switch p {
	case config.HostPreserve, "":
		return "the client's (host: preserve)"
	case config.HostUpstream:
		return "the target's (host: upstream)"
	}
	return "as configured (host: " + string(p) + ")"
}

// members tells whom the request can be given to.
func (f *finding) members(p *upstream.Preview) {
	u := f.result.Upstream
	u.Algorithm = p.Algorithm
	for i := range p.Members {
		m := &p.Members[i]
		one := explain.Member{
			Target: m.Host, Address: m.Address, State: m.State, Why: m.Why, Weight: m.Weight, Tier: m.Tier, Choice: explain.PassedOver,
			Requests: m.Requests, Open: m.Open, Idle: m.Idle, DNSDoubt: m.DNSDoubt,
		}
		if f.result.Live {
			one.Health = m.Health
		}
		if m.DNSAge > 0 {
			one.DNSAge = m.DNSAge.Round(time.Millisecond).String()
		}
		switch {
		case m.Address == "":
			one.Choice = explain.Eligible
			one.Why = "its name has had no answer yet: a request waits for it"
		case !m.Eligible:
		case m.Full:
			one.Choice = explain.Full
		case m.Next:
			one.Choice = explain.Chosen
		default:
			one.Choice = explain.Eligible
		}
		u.Members = append(u.Members, one)
	}
	f.conclude(u)
}

// conclude tells what follows from all members together.
func (f *finding) conclude(u *explain.Upstream) {
	var can, full []*explain.Member
	ill := 0
	for i := range u.Members {
		switch m := &u.Members[i]; m.Choice {
		case explain.Eligible, explain.Chosen:
			if can = append(can, m); m.Health == "ejected" || m.Health == "unhealthy" {
				ill++
			}
		case explain.Full:
			full = append(full, m)
		}
	}
	switch {
	case len(can) == 0 && len(full) > 0:
		c := f.state.upstreams[u.Name].config.Pool
		f.result.Notes = append(f.result.Notes, fmt.Sprintf("all connections are in use (pool.max_connections %d): the request would wait %s for one (pool.acquire_timeout), "+
			"and then be answered with 503 pool_exhausted", c.MaxConnections, duration(c.AcquireTimeout.Std())))
	case len(can) > 0 && ill == len(can):
		f.result.Notes = append(f.result.Notes, "nobody is healthy: those who are ejected are tried all the same (health.passive.recover_all)")
	}
	if len(can) == 1 {
		can[0].Choice = explain.Chosen
	}
}

func duration(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}

// rules are those in force for the request, by their keys in the config.
func rules(c *config.Upstream, r *server.Rehearsal) (list []explain.Rule) {
	o, x := r.Flight.Options, r.Exchange
	add := func(key, value string) { list = append(list, explain.Rule{Key: key, Value: value}) }
	connect, whole := o.Connect, time.Duration(0)
	if connect == 0 {
		connect = c.Timeouts.Connect.Std()
	}
	if r.Flight.Deadline != 0 {
		whole = time.Duration(r.Flight.Deadline - x.Started)
	}
	add("timeouts.connect", duration(connect))
	add("timeouts.response_header", duration(o.ResponseHeader))
	add("timeouts.idle_read", duration(o.IdleRead))
	add("timeouts.request", duration(whole))
	if x.Request.Upgrade != nil {
		add("timeouts.tunnel_idle", duration(o.TunnelIdle)+", if it becomes a tunnel")
		add("timeouts.tunnel_max", duration(o.TunnelMax))
	}
	limit := "no limit"
	if c.Pool.MaxConnections > 0 {
		limit = strconv.Itoa(c.Pool.MaxConnections) + " for each address"
	}
	add("pool.max_connections", limit)
	add("pool.acquire_timeout", duration(c.Pool.AcquireTimeout.Std())+", when all are in use")
	if o.Ping > 0 {
		add("pool.ping_timeout", duration(o.Ping)+": a pooled connection is asked first (Expect: 100-continue) where a body must not be sent twice")
	}
	attempts := max(o.Attempts, 1)
	switch {
	case attempts == 1:
		add("retries.attempts", "1: it is never sent again")
	case r.Sent != nil && !r.Sent.Repeatable:
		add("retries.attempts", fmt.Sprintf("%d, but only as long as nothing of it was sent: %s", attempts, unsafeWords(x)))
	default:
		add("retries.attempts", strconv.Itoa(attempts))
	}
	if attempts > 1 {
		add("retries.on", retryOn(c))
		add("retries.per_try_timeout", duration(o.PerTry))
		add("retries.backoff", duration(o.Backoff))
		if o.Hedge > 0 && !o.HTTP2 {
			add("hedge.after", hedgeWords(r))
		}
	}
	if o.HTTP2 {
		add("protocol", "HTTP/2: in frames; connections are shared, nothing is hedged")
	}
	if o.HTTP10 {
		add("protocol", "HTTP/1.0: the version of the request line below; no chunks")
	}
	return list
}

func unsafeWords(x *exchange.Exchange) string {
	return string(x.Request.Method) + " is not idempotent, or its body cannot be kept"
}

func hedgeWords(r *server.Rehearsal) string {
	if r.Sent != nil && !r.Sent.Repeatable || r.Exchange.Request.Upgrade != nil {
		return "never: " + unsafeWords(r.Exchange)
	}
	return r.Flight.Options.Hedge.String() + " without an answer: a second attempt beside the first"
}

func retryOn(c *config.Upstream) string {
	var list []string
	for _, on := range c.Retries.On {
		list = append(list, on.String())
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// annotate says of the fields that the upstream gets whose doing they are, and which of the client's it does not get.
func (f *finding) annotate(x *exchange.Exchange) {
	had := map[string][]string{}
	for _, field := range f.result.Request.Fields {
		name := strings.ToLower(field.Name)
		had[name] = append(had[name], field.Value)
	}
	sent := map[string]bool{}
	for i := range f.result.Sent.Fields {
		field := &f.result.Sent.Fields[i]
		name := strings.ToLower(field.Name)
		sent[name] = true
		if slices.Contains(had[name], field.Value) {
			continue
		}
		changed := "added"
		if had[name] != nil {
			changed = "changed"
		}
		switch {
		case name == "host":
			field.Note = "changed: host policy"
		case x.Trace.Recorded() && isTrace(name):
			field.Note = "trace context; its ids are others for each request"
		case strings.HasPrefix(name, "x-forwarded-") || name == "forwarded":
			field.Note = changed + ": who the client is"
		case name == "content-length" || name == "transfer-encoding" || name == "connection":
			field.Note = changed + ": framing"
		default:
			field.Note = changed
		}
	}
	var gone []string
	for _, field := range f.result.Request.Fields {
		if name := strings.ToLower(field.Name); !sent[name] && !slices.Contains(gone, name) {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		f.result.Notes = append(f.result.Notes, "not sent on: "+strings.Join(gone, ", "))
	}
}

// isTrace says whether a field names a trace.
func isTrace(name string) bool {
	return name == "traceparent" || name == "tracestate" || name == "b3" || strings.HasPrefix(name, "x-b3-")
}
