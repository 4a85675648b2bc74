package plugintest

import (
	"slices"

	"wasmgate/runtime/fault"
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
func startNative(_ *Host, c *wasm.Compiled, s *settings) (*running, error) {
	s.upstreams = slices.Clone(s.Upstreams)
	if s.Upstreams == nil {
		m, err := describe(c, s)
		if err != nil {
			c.Close()
			return nil, err
		}
		if m != nil {
			s.upstreams = append(s.upstreams, m.Upstreams...)
		}
	}
	p, err := native.New(c, native.Options{
		Name: s.Name, Config: s.Config, LogLevel: sdkabi.LogDebug, LogRate: logRate, Log: func(l native.Line) { s.lines(wasm.Line(l)) },
		Sys:     s.sys(),
		Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, // what fails must not change what comes after it
		Grants: native.Grants{Upstreams: ids(s.upstreams), DynamicUpstream: dynamicID, DynamicAllow: s.Address},
	})
	if err != nil {
		return nil, err
	}
	return &running{p, p.Close, func() figures {
		f := p.Stats()
		return figures{f.Calls, f.Fuel, f.MemoryBytes}
	}, p.Manifest()}, nil
}

// startProxyWasm starts a plugin of Proxy-Wasm.
func startProxyWasm(h *Host, c *wasm.Compiled, s *settings) (*running, error) {
	s.upstreams = append(slices.Clone(s.Upstreams), s.Calls...)
	p, err := proxywasm.New(c, proxywasm.Options{
		Name: s.Name, Config: s.Config, RootID: s.RootID, VMID: s.VMID, VMConfig: s.VMConfig, Group: h.group, Shared: proxywasm.NewShared(proxywasm.SharedOptions{}),
		Grants: proxywasm.Grants{Calls: ids(s.upstreams), Caller: s.caller(), Upstreams: s.upstreams},
		Sys:    s.sys(), Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, LogLevel: wasm.LogDebug, LogRate: logRate, Log: s.lines,
	})
	if err != nil {
		return nil, err
	}
	return &running{p, p.Close, func() figures {
		f := p.Stats()
		return figures{f.Calls, f.Fuel, f.MemoryBytes}
	}, nil}, nil
}

// startHTTPWasm starts a plugin of http-wasm.
func startHTTPWasm(_ *Host, c *wasm.Compiled, s *settings) (*running, error) {
	p, err := httpwasm.New(c, httpwasm.Options{
		Name: s.Name, Config: s.Config, Sys: s.sys(), Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{},
		LogLevel: wasm.LogDebug, LogRate: logRate, Log: s.lines,
	})
	if err != nil {
		return nil, err
	}
	return &running{p, p.Close, func() figures {
		f := p.Stats()
		return figures{f.Calls, f.Fuel, f.MemoryBytes}
	}, nil}, nil
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
