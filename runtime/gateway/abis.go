package gateway

import (
	"errors"
	"sync/atomic"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/httpwasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/runtime/wasm/native"
	"wasmgate/runtime/wasm/proxywasm"
	"wasmgate/sdk/abi"
)

// anyABI compiles a module for the ABI that its exports and imports speak.
var anyABI = wasm.ABI{Name: "any", Hosts: func(m *meter.Module) ([]wasm.HostModule, error) {
	switch {
	case native.Speaks(m):
		return native.ABI.Hosts(m)
	case proxywasm.Speaks(m):
		return proxywasm.ABI.Hosts(m)
	case httpwasm.Speaks(m):
		return httpwasm.ABI.Hosts(m)
	}
	return nil, errors.New("the module speaks no plugin ABI: it exports nothing that begins with " + abi.ExportPrefix + "1_ (native) or proxy_abi_version_ (Proxy-Wasm), " +
		"and no handle_request and handle_response (http-wasm)")
}}

// newGuest starts a plugin.
func (g *Gateway) newGuest(s *state, name string, c *config.Plugin, compiled *wasm.Compiled) (guest, error) {
	switch m := compiled.Module(); {
	case native.Speaks(m):
		p, err := native.New(compiled, g.nativeOptions(s, name, c))
		return nativeGuest{p}, err
	case proxywasm.Speaks(m):
		p, err := proxywasm.New(compiled, g.proxywasmOptions(s, name, c))
		return proxywasmGuest{p}, err
	}
	p, err := httpwasm.New(compiled, g.httpwasmOptions(s, name, c))
	users := &atomic.Int32{}
	users.Store(1)
	return httpwasmGuest{p, users}, err
}

type nativeGuest struct{ *native.Plugin }

func (p nativeGuest) rebind(g *Gateway, s *state, c *config.Plugin) (guest, error) {
	again, err := p.Rebind(g.nativeGrants(s, c))
	return nativeGuest{again}, err
}

func (p nativeGuest) stats() telemetry.PluginStats {
	t := figures(p.Stats().Stats)
	for _, m := range p.Metrics() {
		t.Metrics = append(t.Metrics, telemetry.PluginMetric{
			Name: m.Name, Help: m.Description, Kind: metricKinds[m.Type], Value: m.Value, Bounds: m.Bounds, Counts: m.Buckets, Sum: m.Value,
		})
	}
	return t
}

// metricKinds are Prometheus's words for the kinds of the native ABI and of Proxy-Wasm, which have the same numbers.
var metricKinds = [...]string{abi.MetricCounter: "counter", abi.MetricGauge: "gauge", abi.MetricHistogram: "histogram"}

func (p nativeGuest) loops() []wasm.LoopStats { return p.Stats().Loops }

type proxywasmGuest struct{ *proxywasm.Plugin }

func (p proxywasmGuest) rebind(_ *Gateway, s *state, c *config.Plugin) (guest, error) {
	again, err := p.Rebind(s.proxywasmGrants(c))
	return proxywasmGuest{again}, err
}

func (p proxywasmGuest) stats() telemetry.PluginStats {
	t := figures(p.Stats().Stats)
	for _, m := range p.Metrics() {
		pm := telemetry.PluginMetric{Name: m.Name, Kind: metricKinds[m.Kind], Value: float64(m.Value)}
		if m.Kind == proxywasm.Histogram { // bucket i counts integers below 2^i
			pm.Sum, pm.Counts = float64(m.Sum), m.Buckets[:]
			for i := range m.Buckets[1:] {
				pm.Bounds = append(pm.Bounds, float64(uint64(1)<<i-1))
			}
		}
		t.Metrics = append(t.Metrics, pm)
	}
	return t
}

func (p proxywasmGuest) loops() []wasm.LoopStats { return p.Stats().Loops }

// networkGuest is a Proxy-Wasm plugin as a listener in TCP mode has it.
type networkGuest struct{ *proxywasm.Plugin }

// Connect is filter.Network's.
func (p networkGuest) Connect(t *netloop.Task, session *exchange.Session) (filter.Connection, *fault.Error) {
	c, err := p.Plugin.Connect(t, session)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// httpwasmGuest is one that may choose nothing: states share it as it is.
type httpwasmGuest struct {
	*httpwasm.Plugin
	users *atomic.Int32
}

func (p httpwasmGuest) rebind(*Gateway, *state, *config.Plugin) (guest, error) {
	p.users.Add(1)
	return p, nil
}

// Close ends the plugin with its last user.
func (p httpwasmGuest) Close() {
	if p.users.Add(-1) == 0 {
		p.Plugin.Close()
	}
}

func (p httpwasmGuest) stats() telemetry.PluginStats {
	return figures(p.Stats())
}

func (p httpwasmGuest) loops() []wasm.LoopStats { return p.Stats().Loops }

// figures are those that plugins of all ABIs have.
func figures(s wasm.Stats) telemetry.PluginStats {
	t := telemetry.PluginStats{
		Calls: s.Calls, Fuel: s.Fuel, Instances: int(s.Live), Started: uint64(s.Started), //nolint:gosec // not negative
		MemoryBytes: s.MemoryBytes, BreakerOpen: s.BreakerOpen, LinesHeld: s.LinesHeld, Failures: map[string]uint64{},
	}
	for kind, n := range s.Failures {
		if n > 0 {
			t.Failures[fault.Kind(kind).String()] = n //nolint:gosec // an index
		}
	}
	return t
}

func (g *Gateway) nativeOptions(s *state, name string, c *config.Plugin) native.Options {
	return native.Options{
		NoTicks: g.onlyAsks(), Backoff: g.backoff(),
		Name: name, Config: c.Config, Loops: len(g.group.Loops()), Grants: g.nativeGrants(s, c), OnError: onError(c), Sys: g.sys(c),
		Breaker: g.pluginBreaker(c), RecycleAfter: int64(c.RecycleAfter), RequestBody: int(c.Limits.Body), ResponseBody: int(c.Limits.Body), MaxCalls: c.Limits.Calls,
		IdleAfter: g.idleAfter(c), MaxWait: c.Limits.Wait.Std(),
		TickLoop: g.group.Loop(0), Lazy: g.onlyAsks() || s.lazy(), LogLevel: guestLevel(&c.Log), LogRate: g.logRate(c), Log: g.pluginLine,
	}
}

func (g *Gateway) proxywasmOptions(s *state, name string, c *config.Plugin) proxywasm.Options {
	p := &c.ProxyWasm
	return proxywasm.Options{
		NoTicks: g.onlyAsks(), Backoff: g.backoff(),
		Name: name, Config: c.Config, VMConfig: []byte(p.VMConfig), VMID: p.VMID, RootID: p.RootID, Group: g.group, Shared: g.shared,
		Grants: s.proxywasmGrants(c), OnError: onError(c), Sys: g.sys(c), Breaker: g.pluginBreaker(c),
		MaxBody: int(c.Limits.Body), MaxCalls: c.Limits.Calls, NonUTF8: nonUTF8[p.NonUTF8],
		StopIteration: stopIteration[p.StopIteration], MaxPause: p.MaxPause.Std(), IdleAfter: g.idleAfter(c),
		Node: proxywasm.Node{ID: p.Node.ID, Cluster: p.Node.Cluster, Metadata: p.Node.Metadata}, Lazy: g.onlyAsks() || s.lazy(),
		LogLevel: guestLevel(&c.Log), LogRate: g.logRate(c), Log: g.pluginLine,
	}
}

var nonUTF8 = map[config.NonUTF8]proxywasm.NonUTF8{
	config.NonUTF8Replace: proxywasm.Replace, config.NonUTF8Drop: proxywasm.Drop, config.NonUTF8Pass: proxywasm.Pass,
}

var stopIteration = map[config.StopIteration]proxywasm.StopIteration{
	config.StopAuto: proxywasm.StopAuto, config.StopAll: proxywasm.StopAll, config.StopHeaders: proxywasm.StopHeaders,
}

func (g *Gateway) httpwasmOptions(s *state, name string, c *config.Plugin) httpwasm.Options {
	return httpwasm.Options{
		Backoff: g.backoff(),
		Name:    name, Config: c.Config, Loops: len(g.group.Loops()), OnError: onError(c), Sys: g.sys(c), Breaker: g.pluginBreaker(c),
		RecycleAfter: int64(c.RecycleAfter), MaxBody: int(c.Limits.Body), Lazy: g.onlyAsks() || s.lazy(),
		MaxWaits: c.Limits.Calls, MaxWait: c.Limits.Wait.Std(), IdleAfter: g.idleAfter(c),
		LogLevel: guestLevel(&c.Log), LogRate: g.logRate(c), Log: g.pluginLine,
	}
}

// maxAskedIdle is how long instances are kept that are only asked what they would do.
const maxAskedIdle = time.Minute

func (g *Gateway) logRate(c *config.Plugin) float64 {
	if g.onlyAsks() {
		return 1e6
	}
	return float64(c.Log.Rate)
}

// idleAfter is the options' IdleAfter, of which negative means never.
func (g *Gateway) idleAfter(c *config.Plugin) time.Duration {
	if g.onlyAsks() {
		return maxAskedIdle
	}
	if c.IdleAfter == 0 {
		return -1
	}
	return c.IdleAfter.Std()
}

// mostWarm is how many plugins a config may have for each to have its instances from the start. Where there are more, many
// are idle: they have none until a request comes, which waits for it.
const mostWarm = 32

func (s *state) lazy() bool { return len(s.config.Plugins) > mostWarm }

func onError(c *config.Plugin) wasm.OnError {
	if c.OnError == config.FailOpen {
		return wasm.FailOpen
	}
	return wasm.FailClosed
}

// onlyAsks says that plugins are not those that serve requests, but others like them, which are asked what they would do.
func (g *Gateway) onlyAsks() bool { return g.heard != nil }

// backoff is the time before a new instance after failures: none where one question has nothing to do with the next.
func (g *Gateway) backoff() *wasm.Backoff {
	if g.onlyAsks() {
		return &wasm.Backoff{}
	}
	return nil
}

func (g *Gateway) pluginBreaker(c *config.Plugin) *wasm.Breaker {
	if g.onlyAsks() {
		return &wasm.Breaker{}
	}
	return &wasm.Breaker{Failures: c.Breaker.Failures, Percent: 50, Window: c.Breaker.Window.Std(), Open: c.Breaker.OpenFor.Std()}
}

// sys is what the plugin sees of the system.
func (g *Gateway) sys(c *config.Plugin) wasm.Sys {
	s := wasm.Sys{Clock: c.Clock}
	for _, variable := range c.Env {
		if value := g.options.Env(variable); value != "" {
			s.Env = append(s.Env, variable+"="+value)
		}
	}
	return s
}

// nativeGrants is what a plugin may choose, call and keep, in the terms of this state.
func (g *Gateway) nativeGrants(s *state, c *config.Plugin) native.Grants {
	n := native.Grants{Upstreams: s.ids(c.Upstreams), Calls: s.ids(c.Calls), Caller: s.caller, Stores: map[string]*kv.Store{}, DynamicUpstream: exchange.NoUpstream}
	for _, name := range c.State {
		n.Stores[name] = g.stores.Open(name, kv.Options{MaxBytes: int64(s.config.PluginState.MaxSize)})
	}
	if c.Dynamic != "" {
		d := &s.config.Upstreams[c.Dynamic].Dynamic
		n.DynamicUpstream = s.id(c.Dynamic)
		n.DynamicAllow = func(hostport []byte) bool {
			_, _, ok := d.Allows(string(hostport))
			return ok
		}
	}
	return n
}

func (s *state) proxywasmGrants(c *config.Plugin) proxywasm.Grants {
	return proxywasm.Grants{Calls: s.ids(c.Calls), Caller: s.caller, Upstreams: s.order}
}

// ids are the upstreams of a list by name, or all of them.
func (s *state) ids(names []string) map[string]int {
	m := map[string]int{}
	for _, name := range names {
		if name != "*" {
			m[name] = s.id(name)
			continue
		}
		for id, each := range s.order {
			m[each] = id
		}
	}
	return m
}
