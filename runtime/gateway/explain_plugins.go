package gateway

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/proxywasm"
)

// explainer is a state once more, with plugins of its own and everything else of the one in force: what explanations are
// rehearsed with.
type explainer struct {
	of     *state
	own    *Gateway // whose plugins are only asked; it has no loops, listeners or telemetry but the gateway's
	state  *state
	caller filter.Caller           // that sends what plugins call
	now    atomic.Pointer[finding] // the explanation under way
}

// newExplainer makes an explainer. The modules are its own from then on.
func (g *Gateway) newExplainer(s *state, modules map[string]*wasm.Compiled) (*explainer, error) {
	e := &explainer{of: s, caller: s.caller}
	e.own = &Gateway{
		options: g.options, log: zerolog.Nop(), group: g.group, telemetry: g.telemetry, names: g.names, engine: g.engine, observers: g.observers, codings: g.codings,
		shared: proxywasm.NewShared(proxywasm.SharedOptions{DataBytes: int64(s.config.PluginState.MaxSize)}),
	}
	e.own.heard = e.hear
	e.state = &state{of: s, config: s.config, upstreams: s.upstreams, order: s.order, servers: s.servers, caller: e, plugins: map[string]*plugin{}}
	e.state.wrap = func(_ string, f filter.Filter) filter.Filter { return &observed{f, e} }
	err := e.plugins(modules)
	if err == nil {
		err = e.own.buildListeners(e.state)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// plugins makes those of its own, of the modules in force.
func (e *explainer) plugins(modules map[string]*wasm.Compiled) error {
	defer func() {
		for _, m := range modules {
			m.Close()
		}
	}()
	for name, p := range e.of.plugins {
		own, c := p.guest, p.config
		if m := modules[name]; m != nil {
			delete(modules, name)
			var err error
			if own, err = e.own.newGuest(e.state, name, &c, m); err != nil {
				return unusable(name, err)
			}
		}
		e.state.plugins[name] = &plugin{guest: own, config: c}
	}
	return nil
}

func (e *explainer) close() {
	for _, p := range e.state.plugins {
		p.Close()
	}
}

// copyStores has the plugins find what the gateway's have.
func (e *explainer) copyStores(g *Gateway) {
	live := map[string]*kv.Store{}
	g.stores.Each(func(name string, s *kv.Store) { live[name] = s })
	e.own.stores.Each(func(name string, s *kv.Store) {
		if from := live[name]; from != nil {
			s.Become(from)
		}
	})
	e.own.shared.Become(g.shared)
}

// hear takes down what a plugin writes. It is called on loops, and while instances start on other goroutines too.
func (e *explainer) hear(l wasm.Line) {
	if f := e.now.Load(); f != nil {
		f.mu.Lock()
		f.lines = append(f.lines, l)
		f.mu.Unlock()
	}
}

// Call is filter.Caller's.
func (e *explainer) Call(t *netloop.Task, call *filter.Call) *fault.Error {
	f := e.now.Load()
	c := explain.Call{Upstream: e.state.order[call.Upstream], Method: string(call.Method), Path: string(call.Path)}
	var err *fault.Error
	if f != nil && f.asked.Calls {
		if call.Trace.TraceID == [16]byte{} { // it was noted down for the explanation only
			call.Trace = exchange.Trace{}
		}
		c.Sent = true
		err = e.caller.Call(t, call)
	} else {
		err = fault.New(fault.Unavailable, fault.Upstream, 503, "calls are not sent for an explanation")
		err.Plugin, err.Upstream = call.Filter, c.Upstream
	}
	if c.Status = call.Status; err != nil {
		c.Status, c.Error = 0, err.Error()
	}
	if f != nil {
		f.mu.Lock()
		f.calls = append(f.calls, c)
		f.mu.Unlock()
	}
	return err
}

// silent is an observer that nothing is told of but what a request needs to be told of: whether it is traced, and by which ids.
type silent struct{ *observer }

// End does nothing: the request was none.
func (silent) End(*exchange.Exchange) {}

// EndCall does nothing.
func (silent) EndCall(*exchange.Exchange) {}

var (
	_ server.Answerer = silent{}
	_ server.Witness  = (*finding)(nil)
	_ filter.Ender    = (*observed)(nil)
)

// observed tells the explanation under way what a plugin does.
type observed struct {
	filter.Filter
	e *explainer
}

// Request is filter.Filter's.
func (o *observed) Request(x *exchange.Exchange, role filter.Role, place int) (filter.Verdict, error) {
	f := o.e.now.Load()
	if f == nil {
		return o.Filter.Request(x, role, place)
	}
	p := f.begin(o.Name(), [...]string{filter.Route: "route", filter.Match: "match", filter.Listener: "listener"}[role], "request")
	was, fields, target := lineOf(&x.Request), valuesOf(&x.Request.Head), x.Target
	target.Dynamic = slices.Clone(target.Dynamic)
	v, err := f.watch(p, x, func() (filter.Verdict, error) { return o.Filter.Request(x, role, place) })
	is := lineOf(&x.Request)
	p.Method, p.Authority, p.Path = other(was.Method, is.Method), other(was.Authority, is.Authority), other(was.Path, is.Path)
	p.changes(fields, &x.Request.Head)
	if x.Target.Upstream != target.Upstream && x.Target.Upstream >= 0 {
		p.Upstream = o.e.state.order[x.Target.Upstream]
	}
	if d := string(x.Target.Dynamic); d != string(target.Dynamic) {
		p.Address = d
	}
	if x.Target.Timeout != target.Timeout {
		p.Timeout = x.Target.Timeout.String()
	}
	if v == filter.Respond {
		p.Set, p.Removed = nil, nil
		p.changes(nil, &x.Response.Head)
	}
	p.decide(x, v, err)
	return v, err
}

// Response is filter.Filter's.
func (o *observed) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	f := o.e.now.Load()
	if f == nil {
		return o.Filter.Response(x, place)
	}
	role := "route"
	if f.ofListener(place) {
		role = "listener"
	}
	p := f.begin(o.Name(), role, "response")
	status, fields := x.Response.Status, valuesOf(&x.Response.Head)
	v, err := f.watch(p, x, func() (filter.Verdict, error) { return o.Filter.Response(x, place) })
	p.changes(fields, &x.Response.Head)
	if x.Response.Status != status {
		p.Status = x.Response.Status
	}
	p.decide(x, v, err)
	return v, err
}

// End is filter.Ender's.
func (o *observed) End(x *exchange.Exchange, place int) {
	if e, ok := o.Filter.(filter.Ender); ok {
		e.End(x, place)
	}
}

// asked is a plugin that was asked.
type asked struct{ *explain.Plugin }

// begin adds a step for a plugin.
func (f *finding) begin(name, role, phase string) asked {
	p := &explain.Plugin{Name: name, Role: role, Phase: phase, Place: explain.Place{Path: "plugins." + name}}
	f.result.Steps = append(f.result.Steps, explain.Step{Plugin: p})
	if live := f.state.plugins[name]; live.stats().BreakerOpen {
		note := "plugin " + name + " has failed too often in the running gateway: until its breaker lets it try again, requests do as its on_error says without asking it"
		if !slices.Contains(f.result.Notes, note) {
			f.result.Notes = append(f.result.Notes, note)
		}
	}
	return asked{p}
}

// watch runs a plugin, and notes what it took and said.
func (f *finding) watch(p asked, x *exchange.Exchange, run func() (filter.Verdict, error)) (filter.Verdict, error) {
	calls, tail, began := len(x.Calls), x.Trace.Tail, x.Task.Loop().Tick()
	x.Trace.Tail = tail || !x.Trace.Sampled // calls of guests are noted down
	v, err := run()
	x.Trace.Tail = tail
	p.Took = time.Duration(x.Task.Loop().Tick() - began)
	if made := x.Calls[calls:]; len(made) > 0 {
		p.Took = 0
		for i := range made {
			p.Took += made[i].Took
			p.Fuel += made[i].Fuel
			if e := made[i].Err; e != nil {
				p.Failure = e.Error()
			}
		}
	}
	if err != nil {
		p.Failure = err.Error()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Calls, f.calls = f.calls, nil
	f.lines = slices.DeleteFunc(f.lines, func(l wasm.Line) bool {
		if l.Plugin == p.Name && l.Guest {
			p.Says = append(p.Says, l.Text)
		}
		return l.Plugin == p.Name // what there is to say about it is its failure
	})
	return v, err
}

// decide puts what the plugin decided into a word.
func (p asked) decide(x *exchange.Exchange, v filter.Verdict, err error) {
	switch {
	case err != nil:
		p.Decision = "fail"
	case v == filter.Respond:
		p.Decision, p.Status, p.Body = "respond", x.Local.Status, string(x.Local.Body)
		if p.Status >= 400 && p.Body == "" {
			p.Decision = "deny"
		}
	case v == filter.NoMatch:
		p.Decision = "no_match"
	case v == filter.Rematch:
		p.Decision = "rematch"
	case p.Failure != "":
		p.Decision = "fail_open"
	case p.Upstream != "" || p.Address != "":
		p.Decision = "route"
	case p.Role == "match":
		p.Decision = "match"
	default:
		p.Decision = "continue"
	}
}

// changes notes which fields are no more what they were.
func (p asked) changes(was map[string][]string, h *http1.Head) {
	is := valuesOf(h)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if slices.Equal(was[name], is[name]) {
			continue
		}
		for _, value := range is[name] {
			p.Set = append(p.Set, explain.Field{Name: name, Value: value})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] == nil {
			p.Removed = append(p.Removed, name)
		}
	}
}

// valuesOf are the fields of a head by their names in lower case.
func valuesOf(h *http1.Head) map[string][]string {
	m := map[string][]string{}
	for i := range h.Len() {
		name := strings.ToLower(string(h.Name(i)))
		m[name] = append(m[name], string(h.Value(i)))
	}
	return m
}

// lineOf is a request's line.
func lineOf(r *http1.Request) explain.Round {
	path := string(r.Path)
	if r.HasQuery() {
		path += "?" + string(r.Query())
	}
	return explain.Round{Method: string(r.Method), Authority: string(r.Authority), Path: path}
}

// other is what something has become; "" if it is as it was.
func other(was, is string) string {
	if was == is {
		return ""
	}
	return is
}
