package httpwasm

import (
	"strings"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
)

// Plugin is a filter that asks a guest. It is shared by all loops, as filter.Filter says.
type Plugin struct {
	options   Options
	limits    wasm.Limits
	functions functions
	keeper    *wasm.Keeper
	report    *wasm.Reporter
}

var (
	_ filter.Filter = (*Plugin)(nil)
	_ filter.Ender  = (*Plugin)(nil)
)

// New starts a plugin: an instance for each loop is made, which takes from microseconds to milliseconds each, so it is not
// called on a loop. c was compiled for ABI; it belongs to the plugin from now on, also if New fails. The error is a
// *fault.Error.
func New(c *wasm.Compiled, o Options) (*Plugin, error) {
	o = o.withDefaults()
	if o.Name == "" {
		o.Name = c.Name()
	}
	p := &Plugin{options: o, limits: c.Limits()}
	var err error
	if p.functions, err = findFunctions(c); err != nil {
		c.Close()
		return nil, &fault.Error{Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Plugin: o.Name, Phase: "compile", Err: err}
	}
	p.report = wasm.NewReporter(wasm.ReporterOptions{Plugin: o.Name, Loops: o.Loops, Level: o.LogLevel, Rate: o.LogRate, Log: o.Log})
	o.Sys.Log = p.outputLine
	p.keeper = wasm.NewKeeper(c, wasm.KeeperOptions{Plugin: o.Name, OnError: o.OnError, Report: p.report, Lazy: o.Lazy, Pool: wasm.PoolOptions{
		Loops: o.Loops, Instance: wasm.InstanceOptions{Owner: p, Sys: &o.Sys}, Init: p.start,
		MaxPerLoop: o.MaxPerLoop, MaxParked: o.MaxWaits, MaxWait: o.MaxWait,
		MaxUses: o.RecycleAfter, IdleAfter: o.IdleAfter, Backoff: o.Backoff, Breaker: o.Breaker,
	}})
	var unknown []string
	for _, imp := range wasm.Missing(c.Module(), known(c.Module())) {
		unknown = append(unknown, wasm.ImportName(&imp))
	}
	if len(unknown) > 0 {
		p.report.Say(0, "start", wasm.LogWarn, "the module imports what the gateway does not have: "+strings.Join(unknown, ", ")+"; a call of it ends in an error")
	}
	if err := p.keeper.Warm(); err != nil {
		p.keeper.Close()
		return nil, err
	}
	return p, nil
}

// Close ends the plugin when nothing calls it any more. It waits for the loops, so it is not called on one, and before they
// are closed.
func (p *Plugin) Close() { p.keeper.Close() }

// Name is the plugin's name in the configuration.
func (p *Plugin) Name() string { return p.options.Name }

// Stats returns the plugin's counters. It may be called from any goroutine.
func (p *Plugin) Stats() wasm.Stats { return p.keeper.Stats() }

// WantsResponse says that the plugin wants to see answers.
func (p *Plugin) WantsResponse() bool { return true }

// Request has the guest handle a request.
func (p *Plugin) Request(x *exchange.Exchange, role filter.Role, place int) (filter.Verdict, error) {
	started := p.began(x)
	in, err := p.keeper.Get(x.Task)
	if err != nil {
		return p.failed(x, phaseRequest, started, 0, err)
	}
	g := in.Owner.(*guest)
	g.begin(x, role)
	next, err := g.handleRequest()
	if err == nil && next {
		err = g.commitRequest()
	}
	if err != nil {
		return p.ended(g, phaseRequest, started, err)
	}
	verdict, word := filter.Continue, "continue"
	switch {
	case !next && role == filter.Match && !g.answer.wrote:
		g.restore() // it is nothing to this route
		verdict, word = filter.NoMatch, "no_match"
	case !next:
		g.respond()
		verdict, word = filter.Respond, "respond"
	}
	p.record(x, phaseRequest, started, g.spent, word, nil)
	if next && role != filter.Match && !(p.functions.deaf && !g.answer.wrote) {
		*x.State(place) = g
		x.Held++
		g.wait()
		p.keeper.Pool().Park(x.Task.Loop().Index())
		return verdict, nil
	}
	g.finish()
	p.keeper.Put(x.Task.Loop(), in)
	return verdict, nil
}

// Response has the guest that handled the request handle the answer.
func (p *Plugin) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	g := p.held(x, place)
	if g == nil {
		return filter.Continue, nil
	}
	started := p.began(x)
	err := g.handleResponse(x)
	if err != nil {
		return p.ended(g, phaseResponse, started, err)
	}
	p.record(x, phaseResponse, started, g.spent, "continue", nil)
	g.finish()
	p.keeper.Put(x.Task.Loop(), g.in)
	return filter.Continue, nil
}

// End gives back a guest that has waited for an answer in vain. It is told, and must be quick about it.
func (p *Plugin) End(x *exchange.Exchange, place int) {
	g := p.held(x, place)
	if g == nil {
		return
	}
	l := x.Task.Loop()
	if l.Closing() {
		g.finish()
		p.keeper.Put(l, g.in)
		return
	}
	started := p.began(x)
	err := g.handleNothing(x)
	g.finish()
	if err == nil {
		p.record(x, phaseOver, started, g.spent, "no_answer", nil)
		p.keeper.Put(l, g.in)
		return
	}
	p.keeper.Discard(l, g.in, phaseNames[phaseOver])
	p.record(x, phaseOver, started, g.spent, "error", p.keeper.Failed(l, err, phaseNames[phaseOver]))
}

// held takes the guest that waits for x's answer, if there is one.
func (p *Plugin) held(x *exchange.Exchange, place int) *guest {
	state := x.State(place)
	g, ok := (*state).(*guest)
	if !ok {
		return nil
	}
	*state = nil
	x.Held--
	p.keeper.Pool().Unpark(x.Task.Loop().Index())
	return g
}

// ended gets rid of a guest whose call failed, and says what becomes of the exchange.
func (p *Plugin) ended(g *guest, phase uint32, started int64, err error) (filter.Verdict, error) {
	x, l, spent := g.x, g.x.Task.Loop(), g.spent
	outer, tooLarge, lost := g.outer, g.tooLarge, phase == phaseRequest && g.request.lost
	if p.options.OnError == wasm.FailOpen && outer == nil && !lost {
		g.restore()
	}
	g.finish()
	switch {
	case outer != nil && g.in.Broken(), tooLarge != nil:
		p.keeper.Drop(l, g.in)
	case outer != nil:
		p.keeper.Put(l, g.in)
	default:
		p.keeper.Discard(l, g.in, phaseNames[phase])
	}
	if outer != nil {
		p.record(x, phase, started, spent, "error", outer)
		return filter.Continue, outer
	}
	if tooLarge != nil {
		err = tooLarge
	}
	v, err := p.failed(x, phase, started, spent, err)
	if err == nil && lost {
		err = fault.New(fault.PluginAnswer, fault.Plugin, 503, "the plugin failed, and had read the request's body without keeping it (buffer_request)")
	}
	return v, err
}

// failed counts, logs and records a failure, and says what becomes of the exchange.
func (p *Plugin) failed(x *exchange.Exchange, phase uint32, started, fuel int64, err error) (filter.Verdict, error) {
	f := p.keeper.Failed(x.Task.Loop(), err, phaseNames[phase])
	p.record(x, phase, started, fuel, "error", f)
	if p.options.OnError == wasm.FailOpen {
		return filter.Continue, nil
	}
	return filter.Continue, f
}

// began is when a call begins, if anybody will be told.
func (p *Plugin) began(x *exchange.Exchange) int64 {
	if !x.Trace.Recorded() {
		return 0
	}
	return x.Task.Loop().Tick()
}

// record notes a call of the guest for the trace.
func (p *Plugin) record(x *exchange.Exchange, phase uint32, started, fuel int64, word string, err *fault.Error) {
	if !x.Trace.Recorded() {
		return
	}
	x.AddCall(exchange.PluginCall{
		Plugin: p.options.Name, Phase: phaseNames[phase], Started: started,
		Took: time.Duration(x.Task.Loop().Tick() - started), Fuel: fuel, Outcome: word, Err: err,
	})
}

// line takes a line that a guest wrote, while it starts or in an exchange.
func (p *Plugin) line(in *wasm.Instance, level uint32, text []byte, held int64) {
	loop, now, phase := wasm.NoLoop, int64(0), phaseStart
	if g, ok := in.Owner.(*guest); ok && g.x != nil {
		l := g.x.Task.Loop()
		loop, now, phase = l.Index(), l.Now(), g.phase
	}
	p.report.Guest(loop, now, phaseNames[phase], level, text, held)
}

// outputLine is wasm.Sys.Log: a line on the guest's standard output or error.
func (p *Plugin) outputLine(in *wasm.Instance, stream int, line []byte, suppressed int64) {
	level := wasm.LogInfo
	if stream == 2 {
		level = wasm.LogWarn
	}
	p.line(in, level, line, suppressed)
}
