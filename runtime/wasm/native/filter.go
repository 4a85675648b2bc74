package native

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// Plugin is a filter that asks a guest. It is shared by all loops, as filter.Filter says.
type Plugin struct {
	core   *core
	grants grants

	// Of the ticks that use the grants; guarded by ticker.mu.
	ticking int
	done    sync.Cond
	closed  atomic.Bool
}

var _ filter.Filter = (*Plugin)(nil)

// New starts a plugin: an instance for each loop is made and configured, which takes from microseconds to milliseconds
// each, so it is not called on a loop. c was compiled for ABI; it belongs to the plugin from now on, also if New fails.
// The error is a *fault.Error: a module that does not keep to the ABI, a configuration that the plugin refuses, an
// upstream that it wants and was not granted.
func New(c *wasm.Compiled, o Options) (*Plugin, error) {
	o = o.withDefaults()
	if o.Name == "" {
		o.Name = c.Name()
	}
	k, err := newCore(c, o)
	if err != nil {
		return nil, err
	}
	p, err := k.bind(o.Grants)
	if err != nil {
		k.close()
		return nil, err
	}
	k.begin()
	return p, nil
}

// Rebind returns a plugin with the same instances and other grants: after a reload that changed upstreams and not the
// plugin. Both must be closed.
func (p *Plugin) Rebind(g Grants) (*Plugin, error) { return p.core.bind(g) }

func (k *core) bind(g Grants) (*Plugin, error) {
	p := &Plugin{core: k, grants: grants{dynamic: g.DynamicUpstream, allow: g.DynamicAllow, caller: g.Caller}}
	p.done.L = &k.ticker.mu
	var wrong error
	p.grants.ids, wrong = lookUp(k, wrong, k.manifest.Upstreams, g.Upstreams, "choose upstreams", "upstreams")
	calls := g.Calls
	if g.Caller == nil {
		calls = nil
	}
	p.grants.calls, wrong = lookUp(k, wrong, k.manifest.Calls, calls, "call upstreams", "calls")
	p.grants.stores, wrong = lookUp(k, wrong, k.manifest.Stores, g.Stores, "use stores", "state")
	if wrong != nil {
		return nil, wrong
	}
	k.users.Add(1)
	k.ticker.add(p)
	return p, nil
}

// lookUp finds what the manifest names. what and key say what it is for, and where the configuration has it.
func lookUp[T any](k *core, already error, names []string, from map[string]T, what, key string) (list []T, err error) {
	var refused []string
	for _, name := range names {
		v, ok := from[name]
		if !ok {
			refused = append(refused, name)
		}
		list = append(list, v)
	}
	if len(refused) == 0 || already != nil {
		return list, already
	}
	const most = 5
	more := ""
	if len(refused) > most {
		more = fmt.Sprintf(" and %d more", len(refused)-most)
		refused = refused[:most]
	}
	return nil, &fault.Error{
		Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Plugin: k.options.Name, Phase: "configure",
		Detail: fmt.Sprintf("it wants to %s that it is not granted: %s%s (grant them in the plugin's %s)", what, strings.Join(refused, ", "), more, key),
	}
}

// Close ends the plugin when nothing calls it any more. With the last one of those that share instances, these are
// closed. It waits for the loops, and some seconds for a tick under way, which can make no further call; so it is not called
// on one, and before they are closed.
func (p *Plugin) Close() {
	p.core.ticker.remove(p)
	if p.core.users.Add(-1) == 0 {
		p.core.close()
	}
}

// Name is the plugin's name in the configuration.
func (p *Plugin) Name() string { return p.core.options.Name }

// Stats returns the plugin's counters, shared by all that share its instances. It may be called from any goroutine.
func (p *Plugin) Stats() Stats { return p.core.stats() }

// Manifest is what the plugin declared. It must not be changed.
func (p *Plugin) Manifest() *abi.Manifest { return p.core.manifest }

// WantsResponse says whether the plugin wants to see answers.
func (p *Plugin) WantsResponse() bool { return p.core.manifest.Phases&^abi.WantsRequest != 0 }

var roles = [...]uint32{filter.Route: abi.RoleRoute, filter.Match: abi.RoleMatch, filter.Listener: abi.RoleListener}

// Request asks the guest about a request.
func (p *Plugin) Request(x *exchange.Exchange, role filter.Role, place int) (filter.Verdict, error) {
	if p.core.manifest.Phases&abi.WantsRequest == 0 {
		return filter.Continue, nil
	}
	if p.core.manifest.RequestBody.Mode != abi.BodyNone {
		return p.askWithBody(x, abi.PhaseRequest, roles[role], place)
	}
	return p.ask(x, abi.PhaseRequest, roles[role], place, nil)
}

// Response asks the guest about an answer.
func (p *Plugin) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	switch phases := p.core.manifest.Phases; {
	case phases&abi.WantsResponse != 0:
	case phases&abi.WantsMarkedResponses == 0 || *x.Word(place) == 0:
		return filter.Continue, nil
	}
	if p.core.manifest.ResponseBody.Mode != abi.BodyNone {
		return p.askWithBody(x, abi.PhaseResponse, abi.RoleRoute, place)
	}
	return p.ask(x, abi.PhaseResponse, abi.RoleRoute, place, nil)
}

// ask calls the guest and does what it says. b is the phase's body; nil: the plugin has no part in it.
func (p *Plugin) ask(x *exchange.Exchange, phase, role uint32, place int, b *held) (filter.Verdict, error) {
	k, l := p.core.keeper, x.Task.Loop()
	var started int64
	if x.Trace.Recorded() {
		started = l.Tick()
	}
	in, err := k.Get(x.Task)
	if err != nil {
		return p.failed(x, phase, started, 0, err)
	}
	g := in.Owner.(*guest)
	g.enter(p, x.Task, x, phase, b)
	code, value, err := g.call(x, phase, role, *x.Word(place))
	o := outcome{word: "continue"}
	gone := g.gone
	if err == nil && !gone {
		err = p.act(g, x, phase, role, place, code, value, &o)
	}
	fuel := g.spent
	g.leave()
	switch {
	case err == nil && gone:
		k.Put(l, in)
		return filter.Continue, p.clientGone(x, phase, started, fuel)
	case err != nil && !o.reported:
		k.Discard(l, in, phaseNames[phase])
		return p.failed(x, phase, started, fuel, err)
	case err != nil:
		k.Put(l, in)
		return p.failed(x, phase, started, fuel, err)
	}
	k.Put(l, in)
	if b != nil {
		b.asked = true
	}
	if x.Trace.Recorded() {
		p.record(x, l, phase, started, fuel, o.word, nil)
	}
	return o.verdict, nil
}

// outcome is what came of an answer.
type outcome struct {
	verdict  filter.Verdict
	word     string // for traces
	reported bool   // with an error: the guest said it itself, and is fine
}

// act checks an answer and does what it says.
func (p *Plugin) act(g *guest, x *exchange.Exchange, phase, role uint32, place int, code abi.Code, value uint32, o *outcome) error {
	switch code {
	case abi.CodeContinue:
		if value == 0 {
			return nil
		}
	case abi.CodeNoMatch:
		if value == 0 && phase == abi.PhaseRequest && role == abi.RoleMatch {
			o.verdict, o.word = filter.NoMatch, "no_match"
			return nil
		}
		return badAnswer("NO_MATCH from a plugin that is not asked whether a route matches")
	case abi.CodeRoute:
		if phase == abi.PhaseRequest && uint64(value) < uint64(len(p.grants.ids)) {
			p.choose(x, uint64(value))
			o.word = "route"
			return nil
		}
		return badAnswer("ROUTE to upstream id %d in the %s phase; the manifest declares %d", value, phaseNames[phase], len(p.grants.ids))
	case abi.CodeDeny:
		if value == 0 {
			value = abi.DefaultDeny
		}
		if value >= 400 && value <= 599 {
			answer(x, int(value), nil)
			o.verdict, o.word = filter.Respond, "deny"
			return nil
		}
		return badAnswer("DENY with status %d; it is 400 to 599", value)
	case abi.CodeOperations:
		return p.operations(g, x, phase, role, place, value, o)
	case abi.CodeError:
		text, err := g.text(value)
		if err == nil {
			o.reported = true
			err = badAnswer("the plugin reports: %s", text)
		}
		return err
	}
	return badAnswer("code %d with value %d is not an answer", code, value)
}

func (p *Plugin) operations(g *guest, x *exchange.Exchange, phase, role uint32, place int, n uint32, o *outcome) error {
	list, err := g.answer(n)
	if err != nil {
		return err
	}
	j := judge{x: x, g: &p.grants, m: p.core.manifest, phase: phase, role: role, body: g.held}
	if err := j.check(list); err != nil {
		f := badAnswer("an operation list of %d bytes", n)
		f.Err = err
		return f
	}
	o.word = "edit"
	switch responded := p.apply(x, list, phase, place, g.held); {
	case responded:
		o.verdict, o.word = filter.Respond, "respond"
	case j.rematch:
		o.verdict, o.word = filter.Rematch, "rematch"
	}
	return nil
}

// clientGone is the end of a request whose client has gone while the guest waited for an upstream: nobody would see what the
// guest made of it.
func (p *Plugin) clientGone(x *exchange.Exchange, phase uint32, started, fuel int64) *fault.Error {
	err := exchange.ClientGone("plugin " + p.Name() + " waited for an upstream")
	if x.Trace.Recorded() {
		p.record(x, x.Task.Loop(), phase, started, fuel, "client_gone", nil)
	}
	return err
}

// failed counts, logs and records a failure, and says what becomes of the request.
func (p *Plugin) failed(x *exchange.Exchange, phase uint32, started, fuel int64, err error) (filter.Verdict, error) {
	l := x.Task.Loop()
	f := p.core.fail(l, err, phase)
	if x.Trace.Recorded() {
		p.record(x, l, phase, started, fuel, "error", f)
	}
	if p.core.options.OnError == FailOpen {
		return filter.Continue, nil
	}
	return filter.Continue, f
}

// record notes a call of the guest for the trace.
func (p *Plugin) record(x *exchange.Exchange, l *netloop.Loop, phase uint32, started, fuel int64, word string, err *fault.Error) {
	x.AddCall(exchange.PluginCall{
		Plugin: p.core.options.Name, Phase: phaseNames[phase], Started: started,
		Took: time.Duration(l.Tick() - started), Fuel: fuel, Outcome: word, Err: err,
	})
}
