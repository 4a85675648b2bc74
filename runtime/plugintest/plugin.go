package plugintest

import (
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	sdkabi "wasmgate/sdk/abi"
)

// Settings are what a config would say of a plugin.
type Settings struct {
	Name   string
	Config []byte   // handed to the plugin: a string as it is, everything else as JSON
	Env    []string // NAME=value
	Clock  bool     // it may read the real time
	// Upstreams are those that it may choose. nil: all that it asks for, where the ABI has it ask.
	Upstreams []string
	// Calls are those that it may send requests of its own to, beside those that it asks for.
	Calls []string
	// Call answers such a request, in place of the upstream. It runs on the loop, and may park t. nil: nobody answers.
	Call func(t *netloop.Task, upstream string, c *filter.Call) *fault.Error
	// Stores are key-value stores that it may use, by name; one that it asks for and that is not here is a new one.
	Stores map[string]*kv.Store
	// Body bounds the bodies that are held for it, in bytes; 0: what it asks for.
	Body int
	// Address says whether the plugin may choose an address; nil: none.
	Address func(hostport []byte) bool
	// Lines gets what the plugin writes and what there is to say about it; it is called on the loop, and while instances
	// start. nil: nothing is kept.
	Lines func(wasm.Line)

	RootID, VMID string // of Proxy-Wasm
	VMConfig     []byte
	// MaxPause is how long a stream of Proxy-Wasm may be paused; 0: DefaultPause.
	MaxPause time.Duration
	// StopIteration is what pausing in a callback for headers means, in the words of a config: auto, all, headers; "" is auto.
	StopIteration string
}

// DefaultPause is how long a stream may be paused: nobody wants to wait here as long as a gateway does for one that is
// never continued.
const DefaultPause = time.Second

// defaultName is what a plugin is called that has no name.
const defaultName = "plugin"

// mostBody bounds the bodies that are held for a plugin, in bytes.
const mostBody = 1 << 26

// settings are Settings with what they come to.
type settings struct {
	Settings
	upstreams []string // by id: those that it may choose, then those that it may call
	choice    int      // how many it may choose
	lines     func(wasm.Line)
}

func (s *settings) sys() wasm.Sys { return wasm.Sys{Env: s.Env, Clock: s.Clock} }

// caller is filter.Caller for a plugin.
func (s *settings) caller() filter.Caller { return (*caller)(s) }

type caller settings

// Call is filter.Caller's.
func (s *caller) Call(t *netloop.Task, c *filter.Call) *fault.Error {
	name := ""
	if c.Upstream >= 0 && c.Upstream < len(s.upstreams) {
		name = s.upstreams[c.Upstream]
	}
	if s.Settings.Call == nil {
		return fault.New(fault.Connect, fault.Upstream, 502, "upstream %s: nobody answers here", name)
	}
	return s.Settings.Call(t, name, c)
}

// dynamicID is the id of the upstream through which addresses are chosen.
const dynamicID = 1 << 20

// Plugin is a plugin that runs on a host. It is used by one goroutine at a time.
type Plugin struct {
	host     *Host
	abi      *ABI
	settings *settings
	running  *running
	lines    []wasm.Line // of the call under way; on the loop
}

// ReadModule meters a module and finds its ABI, and runs nothing of it.
func ReadModule(module []byte, limits wasm.Limits) (*meter.Module, *ABI, error) {
	m, err := meter.Rewrite(module, meter.Options{MemoryPages: limits.MemoryPages, TableElements: limits.TableElements, Debug: true})
	if err != nil {
		return nil, nil, err
	}
	abi, _ := Detect(m)
	if abi == nil {
		return m, nil, errNoABI()
	}
	return m, abi, nil
}

// Module is a module that was compiled, and from which plugins can be started.
type Module struct {
	host   *Host
	binary []byte
	limits wasm.Limits
	abi    *ABI
	keep   *wasm.Compiled // so that it is compiled once
}

// Load compiles a module. The error is what the gateway would say. Close the module behind its plugins.
func (h *Host) Load(module []byte, limits wasm.Limits) (*Module, error) {
	return h.LoadAs(defaultName, module, limits)
}

// LoadAs is Load for a plugin that has a name, which is in errors.
func (h *Host) LoadAs(name string, module []byte, limits wasm.Limits) (*Module, error) {
	_, abi, err := ReadModule(module, limits)
	if err != nil {
		return nil, err
	}
	m := &Module{host: h, binary: module, limits: limits, abi: abi}
	m.keep, err = h.Compile(or(name, defaultName), module, *abi.compile, limits)
	return m, err
}

// ABI is the module's.
func (m *Module) ABI() *ABI { return m.abi }

// Host is what the module runs on.
func (m *Module) Host() *Host { return m.host }

// Close gives the module back.
func (m *Module) Close() { m.keep.Close() }

// Start gives a plugin its configuration. The error is what the gateway would say.
func (m *Module) Start(s Settings) (*Plugin, error) {
	s.Name = or(s.Name, defaultName)
	if s.MaxPause == 0 {
		s.MaxPause = DefaultPause
	}
	c, err := m.host.Compile(s.Name, m.binary, *m.abi.compile, m.limits)
	if err != nil {
		return nil, err
	}
	p := &Plugin{host: m.host, abi: m.abi, settings: &settings{Settings: s}}
	p.settings.lines = p.line
	if p.running, err = m.abi.start(m.host, c, p.settings); err != nil {
		return nil, err
	}
	return p, nil
}

// line takes a line on the loop, or before there is one that calls.
func (p *Plugin) line(l wasm.Line) {
	if p.running != nil {
		p.lines = append(p.lines, l)
	}
	if p.settings.Lines != nil {
		p.settings.Lines(l)
	}
}

// Close ends the plugin.
func (p *Plugin) Close() { p.running.close() }

// ABI is the plugin's.
func (p *Plugin) ABI() *ABI { return p.abi }

// Manifest is what a plugin of the native ABI declared; nil for others.
func (p *Plugin) Manifest() *sdkabi.Manifest { return p.running.manifest }

// Upstreams are those that it may choose, by name.
func (p *Plugin) Upstreams() []string { return p.settings.upstreams[:p.settings.choice] }

// Asks says whether plugins of its ABI have said, once they run, which upstreams they will ask for.
func (p *Plugin) Asks() bool { return p.abi != &proxyWasmABI }

// Store is a key-value store that the plugin uses; nil if it uses none of that name.
func (p *Plugin) Store(name string) *kv.Store { return p.settings.Stores[name] }

// Metrics are what the plugin has measured, by name: a counter's or gauge's value, how many values a histogram has.
func (p *Plugin) Metrics() map[string]float64 { return p.running.metrics() }

// upstream is the name of an upstream by its id.
func (p *Plugin) upstream(id int) string {
	switch {
	case id >= 0 && id < len(p.settings.upstreams):
		return p.settings.upstreams[id]
	case id == dynamicID:
		return "(dynamic)"
	}
	return ""
}
