package plugintest

import (
	"fmt"
	"slices"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/runtime/wasm/native"
	sdkabi "wasmgate/sdk/abi"
)

// Settings are what a config would say of a plugin.
type Settings struct {
	Name   string
	Config []byte   // handed to the plugin: a string as it is, everything else as JSON
	Env    []string // NAME=value
	// Upstreams are those that it may choose. nil: all that it asks for.
	Upstreams []string
	// Address says whether the plugin may choose an address; nil: none.
	Address func(hostport []byte) bool
	// Lines get what the plugin writes and what there is to say about it; it is called on the loop, and while instances
	// start. nil: nothing is kept.
	Lines func(wasm.Line)
}

// settings are Settings with what they come to.
type settings struct {
	Settings
	upstreams []string // by id
	lines     func(wasm.Line)
}

// upstreamIDs are the ids of upstreams, from 0.
func (s *settings) upstreamIDs() map[string]int {
	ids := map[string]int{}
	for i, name := range s.upstreams {
		ids[name] = i
	}
	return ids
}

// dynamicID is the id of the upstream through which addresses are chosen.
const dynamicID = 1 << 20

// Plugin is a plugin that runs on a host. It is used by one goroutine at a time.
type Plugin struct {
	host     *Host
	abi      *ABI
	settings *settings
	running  running
	lines    []wasm.Line // of the call under way; on the loop
}

// ReadModule meters a module and finds its ABI, and runs nothing of it.
func ReadModule(module []byte, limits wasm.Limits) (*meter.Module, *ABI, error) {
	m, err := meter.Rewrite(module, meter.Options{MemoryPages: limits.MemoryPages, TableElements: limits.TableElements, Debug: true})
	if err != nil {
		return nil, nil, err
	}
	abi, version := Detect(m)
	switch {
	case abi == nil:
		return m, nil, errNoABI()
	case abi.compile == nil:
		return m, abi, fmt.Errorf("the module speaks %s %s, which this gateway does not", abi.Name, version)
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
	_, abi, err := ReadModule(module, limits)
	if err != nil {
		return nil, err
	}
	m := &Module{host: h, binary: module, limits: limits, abi: abi}
	m.keep, err = h.Compile("plugin", module, *abi.compile, limits)
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
	if s.Name == "" {
		s.Name = "plugin"
	}
	c, err := m.host.Compile(s.Name, m.binary, *m.abi.compile, m.limits)
	if err != nil {
		return nil, err
	}
	p := &Plugin{host: m.host, abi: m.abi, settings: &settings{Settings: s}}
	p.settings.lines = p.line
	if p.running, err = m.abi.start(c, p.settings); err != nil {
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
func (p *Plugin) Close() { p.running.Close() }

// ABI is the plugin's.
func (p *Plugin) ABI() *ABI { return p.abi }

// Manifest is what a plugin of the native ABI declared; nil for others.
func (p *Plugin) Manifest() *sdkabi.Manifest {
	if r, ok := p.running.(*native.Plugin); ok {
		return r.Manifest()
	}
	return nil
}

// figures are what the plugin used.
func (p *Plugin) figures() figures {
	if r, ok := p.running.(*native.Plugin); ok {
		s := r.Stats()
		return figures{calls: s.Calls, fuel: s.Fuel, memory: s.MemoryBytes, instances: s.Live}
	}
	return figures{}
}

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

// startNative starts a plugin of the native ABI.
func startNative(c *wasm.Compiled, s *settings) (running, error) {
	s.upstreams = slices.Clone(s.Upstreams)
	if s.Upstreams == nil {
		m, err := describe(c, s)
		if err != nil {
			c.Close()
			return nil, err
		}
		s.upstreams = append(s.upstreams, m.Upstreams...)
	}
	return native.New(c, native.Options{
		Name: s.Name, Config: s.Config, LogLevel: sdkabi.LogDebug, LogRate: 1e6, Log: func(l native.Line) { s.lines(wasm.Line(l)) },
		Sys:     wasm.Sys{Env: s.Env},
		Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, // what fails must not change what comes after it
		Grants: native.Grants{Upstreams: s.upstreamIDs(), DynamicUpstream: dynamicID, DynamicAllow: s.Address},
	})
}

// describe starts an instance and takes its manifest, granting nothing.
func describe(c *wasm.Compiled, s *settings) (*sdkabi.Manifest, error) {
	in, err := c.Instantiate(wasm.InstanceOptions{Sys: &wasm.Sys{Env: s.Env}})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	call := func(name string, arg uint64) (high, low uint32, err error) {
		f, err := c.Func(name, []meter.ValueType{meter.I32}, []meter.ValueType{meter.I64})
		if err != nil {
			return 0, 0, refused(s, "compile", err.Error())
		}
		stack := []uint64{arg}
		err = in.CallFuel(f, stack, c.Limits().StartFuel)
		high, low = sdkabi.Unpack(stack[0])
		return high, low, err
	}
	size, at, err := call(sdkabi.ExportArena, uint64(sdkabi.RequestArena))
	if err != nil {
		return nil, err
	}
	_, answer, err := call(sdkabi.ExportArena, uint64(sdkabi.AnswerArena))
	if err != nil {
		return nil, err
	}
	view := sdkabi.AppendConfig(nil, &sdkabi.Config{
		Minor: sdkabi.Minor, MaxAnswer: 1 << 20, Name: []byte(s.Name), Bytes: s.Config, RequestBody: 1 << 26, ResponseBody: 1 << 26,
	})
	arena, ok := in.Bytes(at, size)
	if !ok || len(arena) < len(view) {
		return nil, nil // what is wrong with the arena is told at the real start
	}
	copy(arena, view)
	code, value, err := call(sdkabi.ExportConfigure, uint64(len(view)))
	if err != nil {
		return nil, err
	}
	raw, ok := in.Bytes(answer, value)
	switch {
	case !ok || code > uint32(sdkabi.CodeError):
		return nil, refused(s, "configure", fmt.Sprintf("configure answered with code %d and %d bytes", code, value))
	case sdkabi.Code(code) == sdkabi.CodeError:
		return nil, refused(s, "configure", "the plugin refuses its configuration: "+string(raw))
	}
	m, err := sdkabi.ParseManifest(raw)
	if err != nil {
		return nil, refused(s, "configure", err.Error())
	}
	return m, nil
}

func refused(s *settings, phase, text string) error {
	f := fault.New(fault.PluginUnavailable, fault.Plugin, 503, "%s", text)
	f.Plugin, f.Phase = s.Name, phase
	return f
}
