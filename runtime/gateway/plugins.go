package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/wasm"
)

// guest is a plugin of any ABI.
type guest interface {
	filter.Filter
	// rebind is the same plugin, with the same instances, for another state: what it may choose and call is that one's.
	// Both must be closed.
	rebind(g *Gateway, s *state, c *config.Plugin) (guest, error)
	stats() telemetry.PluginStats
	loops() []wasm.LoopStats
	Close()
}

// plugin is a plugin in force, and what it was made of, to see whether another config's is the same.
type plugin struct {
	guest
	config   config.Plugin
	digest   [sha256.Size]byte
	module   []byte         // what it was compiled from, to go back to it (versions)
	compiled *wasm.Compiled // a handle of its own; nil: there is no module
}

// Close ends the plugin.
func (p *plugin) Close() {
	p.guest.Close()
	if p.compiled != nil {
		p.compiled.Close()
	}
}

// present says whether there is a module behind it.
func (p *plugin) present() bool {
	_, missing := p.guest.(*absent)
	return !missing
}

// network is the plugin as a listener in TCP mode has it.
func (p *plugin) network(name string) (filter.Network, *Remark) {
	switch g := p.guest.(type) {
	case *absent:
		return g, nil
	case proxywasmGuest:
		if g.SpeaksTCP() {
			return networkGuest(g), nil
		}
	}
	return nil, &Remark{
		Message: name + " has no callbacks for connections",
		Help:    "with mode: tcp a plugin speaks Proxy-Wasm and exports proxy_on_new_connection, proxy_on_downstream_data or proxy_on_upstream_data",
	}
}

// newEngine opens the cache of compiled modules. The default folder may not be there for a user without a home; what was
// asked for must be.
func (g *Gateway) newEngine() (*wasm.Engine, error) {
	dir := g.options.Config.PluginCache.Dir
	if dir == cacheOff {
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

// buildPlugins makes the plugins, several at a time. One that old has too, with the same module and config, keeps its
// instances; only what it may choose is looked up anew. A module that has to be fetched and cannot be had now is no error:
// its plugin answers as on_error says until it is there.
func (g *Gateway) buildPlugins(s *state, old *state) error {
	found := g.readModules(s, old)
	names := slices.Sorted(maps.Keys(s.config.Plugins))
	made, errs := make([]*plugin, len(names)), make([]error, len(names))
	var work sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0)) // compiling takes a processor each
	for i, name := range names {
		work.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			var err error
			if made[i], err = g.buildPlugin(s, name, found[name], old); err != nil {
				errs[i] = unusable(name, err)
			}
		})
	}
	work.Wait()
	for i, name := range names {
		if made[i] != nil {
			s.plugins[name] = made[i]
		}
	}
	return errors.Join(errs...)
}

func (g *Gateway) buildPlugin(s *state, name string, m found, old *state) (*plugin, error) {
	c := s.config.Plugins[name]
	var was *plugin
	if old != nil {
		was = old.plugins[name]
	}
	p := &plugin{config: *c}
	switch {
	case m.kept:
		p.digest, p.module = was.digest, was.module
	case m.missing() && was != nil && was.present(): // it goes on as it was, with its own config, until the other one is there
		again, err := was.rebind(g, s, c)
		if err != nil {
			return nil, err
		}
		return &plugin{guest: again, config: was.config, digest: was.digest, module: was.module, compiled: was.compiled.Again(name)}, nil
	case m.missing():
		p.guest = &absent{name: name, why: m.pending, open: c.OnError == config.FailOpen}
		return p, nil
	case m.err != nil:
		return nil, fmt.Errorf("the module cannot be used: %w", m.err)
	default:
		p.digest = sha256.Sum256(m.bytes)
		if g.options.Config.Admin.Address != "" { // else nobody can go back to it
			p.module = m.bytes
		}
	}
	var err error
	if was != nil && was.digest == p.digest && sameInstances(was.config, *c) {
		if p.guest, err = was.rebind(g, s, c); err == nil {
			p.compiled = was.compiled.Again(name)
		}
	} else {
		p.guest, p.compiled, err = g.start(s, name, c, m.bytes)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// start compiles a module and starts the plugin. The handle is for more plugins like it.
func (g *Gateway) start(s *state, name string, c *config.Plugin, module []byte) (guest, *wasm.Compiled, error) {
	limits := wasm.Limits{MemoryPages: uint32(c.Limits.Memory >> 16), Fuel: int64(c.Limits.Fuel), StartFuel: int64(c.Limits.StartFuel)} //nolint:gosec // at most 4 GiB
	compiled, err := g.engine.Compile(context.Background(), name, module, anyABI, limits)
	if err != nil {
		return nil, nil, err
	}
	more := compiled.Again(name)
	p, err := g.newGuest(s, name, c, compiled)
	if err != nil {
		more.Close()
		return nil, nil, err
	}
	return p, more, nil
}

func sameInstances(a, b config.Plugin) bool { return reflect.DeepEqual(instances(a), instances(b)) }

// instances is what of a plugin's config its instances depend on: all but what it may choose and call.
func instances(c config.Plugin) config.Plugin {
	c.Upstreams, c.Dynamic, c.Calls, c.State = nil, "", nil, nil
	return c
}

// guestLevel is the least level of a plugin's lines that is kept.
func guestLevel(c *config.PluginLog) uint32 {
	if c.Rate == 0 {
		return wasm.LogOff
	}
	switch c.Level {
	case config.LevelTrace, config.LevelDebug:
		return wasm.LogDebug
	case config.LevelWarn:
		return wasm.LogWarn
	case config.LevelError:
		return wasm.LogError
	case config.LevelOff:
		return wasm.LogOff
	}
	return wasm.LogInfo
}

// pluginLine writes what a plugin says, or what there is to say about it, to the process's log.
func (g *Gateway) pluginLine(l wasm.Line) {
	if g.heard != nil {
		g.heard(l)
		return
	}
	level := [...]zerolog.Level{wasm.LogDebug: zerolog.DebugLevel, wasm.LogInfo: zerolog.InfoLevel, wasm.LogWarn: zerolog.WarnLevel, wasm.LogError: zerolog.ErrorLevel}[l.Level]
	if l.Err != nil || !l.Guest && l.Level == wasm.LogError {
		g.pluginErrors.add(l)
	}
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

// Instances is how many instances of plugins exist.
func (g *Gateway) Instances() int64 { return g.engine.Instances() }
