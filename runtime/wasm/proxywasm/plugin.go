package proxywasm

import (
	"strings"
	"sync/atomic"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// Plugin is a filter that asks a guest. It is shared by all loops, as filter.Filter says.
type Plugin struct {
	core   *core
	grants Grants
}

var (
	_ filter.Filter = (*Plugin)(nil)
	_ filter.Ender  = (*Plugin)(nil)
)

// core is a plugin without what it may reach, which a reload may change.
type core struct {
	options Options
	group   *group
	report  *wasm.Reporter
	grants  atomic.Pointer[Grants] // the newest, for what no exchange asks for
	users   atomic.Int32
	cells   []counters
}

// counters are a loop's part of a core.
type counters struct {
	calls, fuel, outbound atomic.Uint64
	failures              [fault.Kinds]atomic.Uint64
	streams               atomic.Int64
	free                  []*stream // on the loop only
	_                     [64]byte
}

// New starts a plugin: a VM is made and configured, which takes from microseconds to
// milliseconds, so it is not called on a loop. c was compiled for ABI; it belongs to the plugin from now on, also if New
// fails. The error is a *fault.Error: a module that does not keep to the ABI, or a configuration that it refuses.
func New(c *wasm.Compiled, o Options) (*Plugin, error) {
	o = o.withDefaults()
	if o.Name == "" {
		o.Name = c.Name()
	}
	loops := len(o.Group.Loops())
	k := &core{options: o, cells: make([]counters, loops)}
	k.report = wasm.NewReporter(wasm.ReporterOptions{Plugin: o.Name, Loops: loops, Level: o.LogLevel, Rate: o.LogRate, Log: o.Log})
	g, first, err := o.Shared.join(k, c, &o)
	if err != nil {
		c.Close()
		return nil, k.named(refused("%s", err), "compile")
	}
	k.group = g
	if unknown := unknownImports(c.Module()); len(unknown) > 0 {
		k.report.Say(0, "start", wasm.LogWarn, "the module imports what the host does not have, and is answered UNIMPLEMENTED where it calls it: "+
			strings.Join(unknown, ", "), "imports")
	}
	p := k.bind(o.Grants)
	v, fe := g.spawn([]*core{k}, k)
	if fe != nil {
		p.Close()
		return nil, fe
	}
	switch background := v.background(); {
	case !first: // it was to see whether the configuration is good: others are in the VMs that exist
		v.abandon()
		if background {
			g.everywhere(k)
		}
	case background:
		g.place(v, o.Group.Loop(0))
		g.everywhere(k)
	case o.Lazy:
		v.abandon()
	default:
		g.place(v, o.Group.Loop(0))
	}
	return p, nil
}

// Rebind returns a plugin with the same VMs and other grants: after a reload that changed upstreams and not the plugin.
// Both must be closed.
func (p *Plugin) Rebind(g Grants) (*Plugin, error) { return p.core.bind(g), nil }

func (k *core) bind(g Grants) *Plugin {
	p := &Plugin{core: k, grants: g}
	k.grants.Store(&p.grants)
	k.users.Add(1)
	return p
}

// Close ends the plugin when nothing calls it any more. With the last one of those that share a configuration its root
// contexts are told so, and the VMs closed that no other plugin is in. It waits for the loops, for up to a second where a
// guest asks for time, so it is not called on one, and before they are closed.
func (p *Plugin) Close() {
	if p.core.users.Add(-1) == 0 {
		p.core.group.close(p.core)
	}
}

// Name is the plugin's name in the configuration.
func (p *Plugin) Name() string { return p.core.options.Name }

// WantsResponse says whether the module has callbacks for answers.
func (p *Plugin) WantsResponse() bool {
	fs := &p.core.group.functions
	return fs[onResponseHeaders].there || fs[onResponseBody].there || fs[onResponseTrailers].there
}

// Stats returns the plugin's counters. It may be called from any goroutine.
func (p *Plugin) Stats() (s Stats) {
	for i := range p.core.cells {
		c := &p.core.cells[i]
		s.Calls += c.calls.Load()
		s.Fuel += c.fuel.Load()
		s.Outbound += c.outbound.Load()
		s.Streams += c.streams.Load()
		for kind := range s.Failures {
			s.Failures[kind] += c.failures[kind].Load()
		}
	}
	for i := range p.core.group.cells {
		c := &p.core.group.cells[i]
		s.Live += c.live.Load()
		s.Started += c.started.Load()
		s.Discarded += c.discarded.Load()
		s.ClosedIdle += c.idle.Load()
		s.BreakerOpened += c.opened.Load()
		s.MemoryBytes += c.memory.Load()
		s.BreakerOpen = s.BreakerOpen || c.open.Load()
		s.Loops = append(s.Loops, wasm.LoopStats{Live: c.live.Load(), MemoryBytes: c.memory.Load(), BreakerOpen: c.open.Load()})
	}
	s.LinesHeld = p.core.report.Held()
	return s
}

// Metrics returns the metrics that the plugin has defined. It may be called from any goroutine.
func (p *Plugin) Metrics() []Metric { return p.core.group.metrics.of(p.core.options.Name) }

// named is err with the plugin's name, and a phase if it has none.
func (k *core) named(err *fault.Error, phase string) *fault.Error {
	if err == nil {
		return nil
	}
	f := *err
	f.Plugin = k.options.Name
	if phase != "" {
		f.Phase = phase
	}
	return &f
}

// count counts a failure.
func (k *core) count(l *netloop.Loop, f *fault.Error) { k.cells[l.Index()].failures[f.Kind].Add(1) }

// done notes how a request went.
func (c *cell) done(now int64, k *core, ok bool) {
	if ok {
		c.backoff.Succeed()
		c.open.Store(false)
	}
	if c.breaker.Done(now, ok) {
		k.opened(now, c)
	}
}

// opened says that a loop's breaker opened.
func (k *core) opened(now int64, c *cell) {
	c.opened.Add(1)
	c.open.Store(true)
	k.report.Say(now, "request", wasm.LogError, "the plugin failed too often: its breaker is open, and requests follow on_error ("+
		k.options.OnError.String()+") without a call", "breaker")
}

// Request shows the guest a request.
func (p *Plugin) Request(x *exchange.Exchange, role filter.Role, place int) (filter.Verdict, error) {
	k, t := p.core, x.Task
	l := t.Loop()
	c := &k.group.cells[l.Index()]
	c.seen.Store(true)
	now := l.Now()
	if !c.breaker.Allow(now) {
		return p.failed(x, k.named(refused("it failed too often: its breaker is open"), "request"))
	}
	v, r, err := p.enter(t)
	if err != nil {
		c.breaker.Cancel()
		return p.failed(x, k.named(err, "request"))
	}
	s, err := v.newStream(p, r, x, place)
	if err != nil {
		c.breaker.Cancel()
		return p.failed(x, k.named(err, "request"))
	}
	*x.State(place) = s
	verdict, ferr := s.request(t, role)
	if v.dead == nil { // else it was counted where it died
		c.done(l.Now(), k, s.failed == nil)
	}
	return verdict, ferr
}

// enter returns the loop's VM and the plugin's root context in it.
func (p *Plugin) enter(t *netloop.Task) (*vm, *root, *fault.Error) {
	v, err := p.core.group.get(t, p.core)
	if err != nil {
		return nil, nil, err
	}
	r, err := v.root(t, p.core)
	return v, r, err
}

// Response shows the guest an answer.
func (p *Plugin) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	s, ok := (*x.State(place)).(*stream)
	if !ok {
		return filter.Continue, nil // it has not seen the request
	}
	return s.response(x.Task)
}

// End tells the guest that an exchange is over.
func (p *Plugin) End(x *exchange.Exchange, place int) {
	state := x.State(place)
	if s, ok := (*state).(*stream); ok {
		*state = nil
		if s.properties != nil {
			*state = s.properties // for those that come after it
		}
		s.end()
	}
}

// failed counts a failure that was said, or is one of many, and says what becomes of the request.
func (p *Plugin) failed(x *exchange.Exchange, f *fault.Error) (filter.Verdict, error) {
	l := x.Task.Loop()
	p.core.count(l, f)
	p.core.report.Failed(l.Now(), f)
	if p.core.options.OnError == wasm.FailOpen {
		return filter.Continue, nil
	}
	return filter.Continue, f
}
