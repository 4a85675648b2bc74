package plugintest

import (
	"maps"
	"slices"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/httpwasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/runtime/wasm/native"
	"wasmgate/runtime/wasm/proxywasm"
	sdkabi "wasmgate/sdk/abi"
)

// logRate lets a plugin write as much as it wants.
const logRate = 1e6

// startNative starts a plugin of the native ABI.
func startNative(h *Host, c *wasm.Compiled, s *settings) (*running, error) {
	m, err := describe(c, s)
	if err != nil {
		c.Close()
		return nil, err
	}
	if m == nil {
		m = &sdkabi.Manifest{}
	}
	choice := s.Upstreams
	if choice == nil {
		choice = m.Upstreams
	}
	calls := append(slices.Clone(s.Calls), m.Calls...)
	s.upstreams, s.choice = append(slices.Clone(choice), calls...), len(choice)
	s.Stores = maps.Clone(s.Stores)
	if s.Stores == nil {
		s.Stores = map[string]*kv.Store{}
	}
	for _, name := range m.Stores {
		if s.Stores[name] == nil {
			s.Stores[name] = kv.New(kv.Options{})
		}
	}
	body := s.Body
	if body == 0 {
		body = mostBody
	}
	callable := map[string]int{}
	for i, name := range calls {
		callable[name] = len(choice) + i
	}
	p, err := native.New(c, native.Options{
		Name: s.Name, Config: s.Config, LogLevel: sdkabi.LogDebug, LogRate: logRate, Log: s.lines,
		Sys: s.sys(), RequestBody: body, ResponseBody: body, TickLoop: h.group.Loop(0),
		Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, // what fails must not change what comes after it
		Grants: native.Grants{
			Upstreams: ids(choice), DynamicUpstream: dynamicID, DynamicAllow: s.Address,
			Calls: callable, Caller: s.caller(), Stores: s.Stores,
		},
	})
	if err != nil {
		return nil, err
	}
	return &running{
		Filter: p, close: p.Close, manifest: p.Manifest(),
		figures: func() figures {
			f := p.Stats()
			return figures{f.Calls, f.Fuel, f.MemoryBytes}
		},
		metrics: func() map[string]float64 {
			values := map[string]float64{}
			for _, m := range p.Metrics() {
				values[m.Name] = m.Value
				if m.Type == sdkabi.MetricHistogram {
					values[m.Name] = float64(m.Count)
				}
			}
			return values
		},
	}, nil
}

var stopIteration = map[string]proxywasm.StopIteration{"": proxywasm.StopAuto, "auto": proxywasm.StopAuto, "all": proxywasm.StopAll, "headers": proxywasm.StopHeaders}

// startProxyWasm starts a plugin of Proxy-Wasm.
func startProxyWasm(h *Host, c *wasm.Compiled, s *settings) (*running, error) {
	s.upstreams, s.choice = append(slices.Clone(s.Upstreams), s.Calls...), len(s.Upstreams)
	p, err := proxywasm.New(c, proxywasm.Options{
		Name: s.Name, Config: s.Config, RootID: s.RootID, VMID: s.VMID, VMConfig: s.VMConfig, Group: h.group, Shared: proxywasm.NewShared(proxywasm.SharedOptions{}),
		Grants: proxywasm.Grants{Calls: ids(s.upstreams), Caller: s.caller(), Upstreams: s.upstreams},
		Sys:    s.sys(), Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, LogLevel: wasm.LogDebug, LogRate: logRate, Log: s.lines, MaxBody: s.Body,
		MaxPause: s.MaxPause, StopIteration: stopIteration[s.StopIteration],
	})
	if err != nil {
		return nil, err
	}
	return &running{
		Filter: p, close: p.Close,
		figures: func() figures {
			f := p.Stats()
			return figures{f.Calls, f.Fuel, f.MemoryBytes}
		},
		metrics: func() map[string]float64 {
			values := map[string]float64{}
			for _, m := range p.Metrics() {
				values[m.Name] = float64(m.Value)
				if m.Count > 0 {
					values[m.Name] = float64(m.Count)
				}
			}
			return values
		},
	}, nil
}

// startHTTPWasm starts a plugin of http-wasm.
func startHTTPWasm(_ *Host, c *wasm.Compiled, s *settings) (*running, error) {
	p, err := httpwasm.New(c, httpwasm.Options{
		Name: s.Name, Config: s.Config, Sys: s.sys(), Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{},
		LogLevel: wasm.LogDebug, LogRate: logRate, Log: s.lines, MaxBody: s.Body,
	})
	if err != nil {
		return nil, err
	}
	return &running{
		Filter: p, close: p.Close,
		figures: func() figures {
			f := p.Stats()
			return figures{f.Calls, f.Fuel, f.MemoryBytes}
		},
		metrics: func() map[string]float64 { return nil },
	}, nil
}

// describe starts an instance and takes its manifest, granting nothing. It is nil without an error where the real start
// says better what is wrong.
func describe(c *wasm.Compiled, s *settings) (*sdkabi.Manifest, error) {
	sys := s.sys()
	in, err := c.Instantiate(wasm.InstanceOptions{Sys: &sys})
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
		Minor: sdkabi.Minor, MaxAnswer: 1 << 20, Name: []byte(s.Name), Bytes: s.Config, RequestBody: mostBody, ResponseBody: mostBody,
	})
	arena, ok := in.Bytes(at, size)
	if !ok || len(arena) < len(view) {
		return nil, nil
	}
	copy(arena, view)
	code, value, err := call(sdkabi.ExportConfigure, uint64(len(view)))
	if err != nil {
		return nil, err
	}
	raw, ok := in.Bytes(answer, value)
	switch {
	case !ok || code > uint32(sdkabi.CodeError):
		return nil, nil
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

// ids are the ids of upstreams, from 0, by name.
func ids(names []string) map[string]int {
	m := map[string]int{}
	for i, name := range names {
		if _, ok := m[name]; !ok {
			m[name] = i
		}
	}
	return m
}
