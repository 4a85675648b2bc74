package plugintest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// Outcome is what came of an exchange.
type Outcome struct {
	Request  Phase
	Response *Phase // nil: the plugin was not asked about an answer
}

// Phase is what a plugin decided about a message, and what the message is now.
type Phase struct {
	Decision string // one of the Decisions
	Failure  *fault.Error

	Method, Authority, Path, Query string // of the request, as it goes on
	Upstream                       string // that was chosen; "" for none
	Address                        string // that was chosen
	Timeout                        time.Duration
	HashKey                        uint64
	Status                         int // of the answer, if there is one
	Was, Fields                    []Field
	Body                           string // as it goes on; of an answer of the plugin's own, that
	Trailers                       []Field
	Set                            map[string][]string // what was set or added, by name: all values that it has now
	Removed                        []string
	Attributes                     []exchange.Tag
	Lines                          []wasm.Line // that the plugin wrote
	Calls                          []exchange.PluginCall
	Took                           time.Duration // in the guest, calls of the host included
	Fuel                           int64
}

// The decisions.
const (
	Continue = "continue" // the request goes on as the route says
	Routed   = "route"    // it goes on, to an upstream or address that the plugin chose
	Denied   = "deny"     // an answer of the plugin's own, with 400 to 599 and no body
	Respond  = "respond"  // another answer of the plugin's own
	NoMatch  = "no_match"
	Rematch  = "rematch"
	Failed   = "fail"
)

// Decisions are all of them.
var Decisions = []string{Continue, Routed, Denied, Respond, NoMatch, Rematch, Failed}

// typicalRuns is how often a case is repeated to know what its calls usually take, and typicalTime how long at most.
const (
	typicalRuns = 15
	typicalTime = time.Second
)

// Typical sends a case several times and returns what its calls usually take: the medians of time and fuel for each call
// of the guest, in order. The first calls of an instance take longer than those that follow. It is nil if not all of them
// are the same, or they take too long.
func (p *Plugin) Typical(c Case) []exchange.PluginCall {
	var all [][]exchange.PluginCall
	began := time.Now()
	for range typicalRuns {
		o, err := p.Do(c)
		if err != nil || time.Since(began) > typicalTime {
			return nil
		}
		calls := o.Request.Calls
		if o.Response != nil {
			calls = append(calls, o.Response.Calls...)
		}
		if len(all) > 0 && len(calls) != len(all[0]) {
			return nil
		}
		all = append(all, calls)
	}
	typical := slices.Clone(all[0])
	for i := range typical {
		var took, fuel []int64
		for _, calls := range all {
			if calls[i].Phase != typical[i].Phase || calls[i].Outcome != typical[i].Outcome {
				return nil
			}
			took, fuel = append(took, int64(calls[i].Took)), append(fuel, calls[i].Fuel)
		}
		slices.Sort(took)
		slices.Sort(fuel)
		typical[i].Took, typical[i].Fuel = time.Duration(took[typicalRuns/2]), fuel[typicalRuns/2]
	}
	return typical
}

// run is an exchange under way.
type run struct {
	p       *Plugin
	c       *Case
	x       *exchange.Exchange
	bodies  [2]body.Body
	sources [2]pieces
	was     []Field
}

// Do sends an exchange through the plugin. The error is about the case itself: its request is none.
func (p *Plugin) Do(c Case) (o *Outcome, err error) {
	p.host.On(func(t *netloop.Task) {
		r := &run{p: p, c: &c, x: &exchange.Exchange{Task: t}}
		o, err = r.run(t)
	})
	return o, err
}

func (r *run) run(t *netloop.Task) (*Outcome, error) {
	x := r.x
	x.Reset()
	if err := prepare(x, r.c); err != nil {
		return nil, err
	}
	r.sources[0].init(&r.c.Request)
	r.bodies[0].Init(t, &r.sources[0], x.Request.Framing, false)
	x.RequestBody = &r.bodies[0]
	defer func() {
		if e, ok := r.p.running.Filter.(filter.Ender); ok {
			e.End(x, 0)
		}
	}()
	o := &Outcome{}
	r.begin(&x.Request.Head)
	v, err := r.p.running.Request(x, r.c.Role, 0)
	x.RequestBody = nil
	r.finish(t, &o.Request, 0, v, err)
	if r.c.Response == nil || v != filter.Continue || err != nil || o.Request.Failure != nil || !r.p.running.WantsResponse() {
		return o, nil
	}
	if err := parseResponse(x, r.c.Response); err != nil {
		return nil, err
	}
	r.sources[1].init(r.c.Response)
	r.bodies[1].Init(t, &r.sources[1], x.Response.Framing, string(x.Request.Method) == "HEAD")
	x.ResponseBody = &r.bodies[1]
	o.Response = &Phase{}
	r.begin(&x.Response.Head)
	v, err = r.p.running.Response(x, 0)
	x.ResponseBody = nil
	r.finish(t, o.Response, 1, v, err)
	return o, nil
}

// prepare makes x the request of a case.
func prepare(x *exchange.Exchange, c *Case) error {
	if err := parseRequest(&x.Request, &c.Request); err != nil {
		return fmt.Errorf("the request is none: %s", fault.From(err).Detail)
	}
	client := c.Request.Client
	if !client.IsValid() {
		client = defaultClient
	}
	x.Client = exchange.Client{
		Conn: 1, Ordinal: 1, Addr: client, Peer: addrPort(client, 50000), Local: addrPort(client, 80), Scheme: or(c.Request.Scheme, "http"), Server: "test",
		TLS: c.Request.TLS,
	}
	x.Route, x.Trace.Sampled = or(c.Route, "test"), !c.Untraced
	now := x.Task.Loop().Now()
	x.Started, x.HeadRead, x.WallStarted = now, now, x.Task.Loop().WallNow()
	return nil
}

func (r *run) begin(h *http1.Head) {
	r.was, r.p.lines = fieldsOf(h), nil
	r.x.Calls, r.x.Tags = r.x.Calls[:0], r.x.Tags[:0]
}

// finish takes down what a phase came to, and sends the body on.
func (r *run) finish(t *netloop.Task, o *Phase, which int, v filter.Verdict, err error) {
	x := r.x
	h := &x.Request.Head
	if which == 1 {
		h = &x.Response.Head
	}
	o.Method, o.Authority, o.Path = string(x.Request.Method), string(x.Request.Authority), string(x.Request.Path)
	if x.Request.HasQuery() {
		o.Query = string(x.Request.Query())
	}
	o.Upstream, o.Address = r.p.upstream(x.Target.Upstream), string(x.Target.Dynamic)
	o.Timeout, o.HashKey = x.Target.Timeout, x.Target.HashKey
	switch {
	case v == filter.Respond:
		h = &x.Response.Head
		o.Status, o.Body = x.Response.Status, string(x.Local.Body)
		r.was = nil
	case err == nil:
		err = r.send(t, o, which)
		if which == 1 {
			o.Status = x.Response.Status
		}
	}
	if err != nil {
		o.Failure = fault.From(err)
	}
	o.Was, o.Fields = r.was, fieldsOf(h)
	o.Set, o.Removed = changes(o.Was, o.Fields)
	o.Decision = decision(o, which == 1, v)
	o.Attributes = append(o.Attributes, x.Tags...)
	o.Lines = append(o.Lines, r.p.lines...)
	o.Calls = append(o.Calls, x.Calls...)
	for i := range o.Calls {
		o.Took += o.Calls[i].Took
		o.Fuel += o.Calls[i].Fuel
		if o.Failure == nil && o.Calls[i].Err != nil {
			o.Failure = o.Calls[i].Err // the policy is to go on all the same
		}
	}
	if o.Failure != nil {
		o.Decision = Failed
	}
}

// send takes the body out, as who sends it on does.
func (r *run) send(t *netloop.Task, o *Phase, which int) error {
	b := &r.bodies[which]
	var sent strings.Builder
	for !b.Done() {
		piece, err := b.Next(t)
		if len(piece) == 0 || err != nil {
			if !b.Done() && err != nil {
				return err
			}
			break
		}
		sent.Write(piece)
	}
	o.Body = sent.String()
	if h := b.Trailers(); h != nil {
		o.Trailers = fieldsOf(h)
	}
	return nil
}

// decision names what was decided about a message. An answer goes where its request was sent: it is not routed again.
func decision(o *Phase, response bool, v filter.Verdict) string {
	switch {
	case v == filter.NoMatch:
		return NoMatch
	case v == filter.Rematch:
		return Rematch
	case v == filter.Respond && o.Status >= 400 && o.Body == "":
		return Denied
	case v == filter.Respond:
		return Respond
	case !response && (o.Upstream != "" || o.Address != ""):
		return Routed
	}
	return Continue
}

// changes compares fields by name.
func changes(was, is []Field) (set map[string][]string, removed []string) {
	values := func(list []Field) map[string][]string {
		m := map[string][]string{}
		for _, f := range list {
			m[f.Name] = append(m[f.Name], f.Value)
		}
		return m
	}
	before, after := values(was), values(is)
	set = map[string][]string{}
	for name, list := range after {
		if !slices.Equal(list, before[name]) {
			set[name] = list
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == nil {
			removed = append(removed, name)
		}
	}
	return set, removed
}
