package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
	"wasmgate/sdk/abi"
)

// plugin is a plugin in force, and what it was made of, to see whether another config's is the same.
type plugin struct {
	filter *native.Plugin
	config config.Plugin
	digest [sha256.Size]byte
}

// close ends the plugin; instances that another config's plugin shares stay.
func (p *plugin) close() { p.filter.Close() }

// newEngine opens the cache of compiled modules. The default folder may not be there for a user without a home; what was
// asked for must be.
func (g *Gateway) newEngine() (*wasm.Engine, error) {
	const off = "off"
	dir := g.options.Config.PluginCache.Dir
	if dir == off {
		return wasm.New(wasm.Options{NoCache: true})
	}
	e, err := wasm.New(wasm.Options{CacheDir: dir})
	switch {
	case err == nil:
		return e, nil
	case dir == "":
		g.log.Warn().Err(err).Msg("plugins are compiled at each start: plugin_cache.dir names another folder, off silences this")
		return wasm.New(wasm.Options{NoCache: true})
	}
	return nil, fmt.Errorf("plugin_cache.dir: %w", err)
}

// buildPlugins makes the plugins. One that old has too, with the same module and config, keeps its instances; only what
// it may choose is looked up anew.
func (g *Gateway) buildPlugins(s *state, old *state) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.config.Plugins)) {
		p, err := g.buildPlugin(s, name, old)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugins.%s: %w", name, err))
			continue
		}
		s.plugins[name] = p
	}
	return errors.Join(errs...)
}

func (g *Gateway) buildPlugin(s *state, name string, old *state) (*plugin, error) {
	c := s.config.Plugins[name]
	module, err := g.options.Module(name, c.Module.String())
	if err != nil {
		return nil, fmt.Errorf("module: %w", err)
	}
	p := &plugin{config: *c, digest: sha256.Sum256(module)}
	if old != nil {
		was := old.plugins[name]
		if was != nil && was.digest == p.digest && reflect.DeepEqual(instances(was.config), instances(*c)) {
			p.filter, err = was.filter.Rebind(s.grants(c))
			return p, err
		}
	}
	limits := wasm.Limits{MemoryPages: uint32(c.Limits.Memory >> 16), Fuel: int64(c.Limits.Fuel)} //nolint:gosec // at most 4 GiB
	compiled, err := g.engine.Compile(context.Background(), name, module, native.ABI, limits)
	if err != nil {
		return nil, err
	}
	if p.filter, err = native.New(compiled, g.pluginOptions(s, name, c)); err != nil {
		return nil, err
	}
	return p, nil
}

// instances is what of a plugin's config its instances depend on: all but what it may choose.
func instances(c config.Plugin) config.Plugin {
	c.Upstreams, c.Dynamic = nil, ""
	return c
}

func (g *Gateway) pluginOptions(s *state, name string, c *config.Plugin) native.Options {
	o := native.Options{
		Name: name, Config: c.Config, Loops: len(g.group.Loops()), Grants: s.grants(c),
		Breaker:      &wasm.Breaker{Failures: c.Breaker.Failures, Percent: 50, Window: c.Breaker.Window.Std(), Open: c.Breaker.OpenFor.Std()},
		RecycleAfter: int64(c.RecycleAfter), LogLevel: guestLevel(&c.Log), LogRate: float64(c.Log.Rate), Log: g.pluginLine,
	}
	if c.OnError == config.FailOpen {
		o.OnError = native.FailOpen
	}
	for _, variable := range c.Env {
		if value := g.options.Env(variable); value != "" {
			o.Sys.Env = append(o.Sys.Env, variable+"="+value)
		}
	}
	return o
}

// grants is what a plugin may choose, in the terms of this state.
func (s *state) grants(c *config.Plugin) native.Grants {
	g := native.Grants{Upstreams: map[string]int{}, DynamicUpstream: exchange.NoUpstream}
	for _, name := range c.Upstreams {
		if name != "*" {
			g.Upstreams[name] = s.id(name)
			continue
		}
		for id, each := range s.order {
			g.Upstreams[each] = id
		}
	}
	if c.Dynamic != "" {
		d := &s.config.Upstreams[c.Dynamic].Dynamic
		g.DynamicUpstream = s.id(c.Dynamic)
		g.DynamicAllow = func(hostport []byte) bool {
			_, _, ok := d.Allows(string(hostport))
			return ok
		}
	}
	return g
}

// guestLevel is the least level of a plugin's lines that is kept, in the ABI's terms.
func guestLevel(c *config.PluginLog) uint32 {
	if c.Rate == 0 {
		return abi.LogError + 1
	}
	switch c.Level {
	case config.LevelTrace, config.LevelDebug:
		return abi.LogDebug
	case config.LevelWarn:
		return abi.LogWarn
	case config.LevelError:
		return abi.LogError
	case config.LevelOff:
		return abi.LogError + 1
	}
	return abi.LogInfo
}

// pluginLine writes what a plugin says, or what there is to say about it, to the process's log.
func (g *Gateway) pluginLine(l native.Line) {
	level := [...]zerolog.Level{abi.LogDebug: zerolog.DebugLevel, abi.LogInfo: zerolog.InfoLevel, abi.LogWarn: zerolog.WarnLevel, abi.LogError: zerolog.ErrorLevel}[l.Level]
	e := g.log.WithLevel(level).Str("plugin", l.Plugin).Str("phase", l.Phase)
	if l.Err != nil {
		e = e.Stringer("cause", l.Err.Kind)
	}
	if l.Suppressed > 0 {
		e = e.Int64("suppressed", l.Suppressed)
	}
	if l.Guest {
		e.Str("says", l.Text).Msg("plugin")
		return
	}
	e.Msg(l.Text)
}

// stats are the plugin's figures for metrics.
func (p *plugin) stats() telemetry.PluginStats {
	s := p.filter.Stats()
	t := telemetry.PluginStats{
		Calls: s.Calls, Fuel: s.Fuel, Instances: int(s.Live), Started: uint64(s.Started), //nolint:gosec // not negative
		MemoryBytes: s.MemoryBytes, BreakerOpen: s.BreakerOpen, Failures: map[string]uint64{},
	}
	for kind, n := range s.Failures {
		if n > 0 {
			t.Failures[fault.Kind(kind).String()] = n //nolint:gosec // an index
		}
	}
	return t
}

// Instances is how many instances of plugins exist.
func (g *Gateway) Instances() int64 { return g.engine.Instances() }
