package gateway

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/modules"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/wasm"
)

// found is what became of a plugin's module.
type found struct {
	bytes   []byte
	kept    bool  // the plugin that was in force has the same, and need not be made anew
	err     error // the config's mistake
	pending error // why it could not be fetched; it is tried in the background
}

func (f *found) missing() bool { return f.pending != nil }

// newModules makes what fetches modules that are no files. It asks nobody anything yet.
func (g *Gateway) newModules() (err error) {
	c := &g.options.Config.PluginSources
	o := modules.Options{
		CacheBytes: int64(g.options.Config.PluginCache.Modules), MaxSize: int64(c.MaxSize), Timeout: c.Timeout.Std(), CAFile: c.CAFile,
		DockerConfig: c.DockerConfig, Hosts: map[string]modules.Host{}, Env: g.options.Env, Version: g.options.Build.Version,
	}
	for name, h := range c.Hosts {
		o.Hosts[name] = modules.Host{CAFile: h.CAFile, Credentials: h.Credentials}
	}
	switch dir := g.options.Config.PluginCache.Dir; dir {
	case cacheOff:
		o.NoCache = true
	case "":
	default:
		o.CacheDir = filepath.Join(dir, "modules")
	}
	o.NoCache = o.NoCache || o.CacheBytes == 0
	if g.fetcher, err = modules.New(o); err != nil && o.CacheDir == "" && !o.NoCache { // a user without a home
		g.log.Warn().Err(err).Msg("fetched modules are not kept: plugin_cache.dir names another folder, off silences this")
		o.NoCache = true
		g.fetcher, err = modules.New(o)
	}
	if err != nil {
		return err
	}
	g.modules = modules.NewManager(g.fetcher, modules.ManagerOptions{Available: g.moduleCame, Failed: g.moduleFailed})
	return nil
}

// moduleCame puts the config in force once more: the plugin that waited for the module has it now.
func (g *Gateway) moduleCame(ref config.Module, _ []byte, _ modules.Info) {
	g.log.Info().Stringer("module", ref).Msg("a module that could not be fetched is there")
	go func() { // a reload asks the manager for it, which waits for us
		if err := g.again(); err != nil {
			g.log.Error().Err(err).Stringer("module", ref).Msg("a module that could not be fetched is there, and cannot be used")
		}
	}()
}

func (g *Gateway) moduleFailed(ref config.Module, err error, tries int, next time.Duration) {
	g.log.Warn().Err(err).Stringer("module", ref).Int("tries", tries).Stringer("next", next.Round(time.Second)).
		Msg("a module cannot be fetched: the plugins that need it do as on_error says")
}

// readModules has the modules of all plugins. Those that have to be fetched are waited for together, for
// plugin_sources.wait at most; those that are not there then go on being tried.
func (g *Gateway) readModules(s, old *state) map[string]found {
	all := map[string]found{}
	wanted := map[config.Module][]string{}
	var refs []config.Module
	for name, c := range s.config.Plugins {
		pinned, is := s.pins[name]
		switch {
		case is:
			all[name] = found{bytes: pinned.module}
		case s.only != "" && name != s.only && old != nil && old.sameModule(name, c):
			all[name] = found{kept: true}
		case !c.Module.Fetched():
			b, err := g.options.Module(name, c.Module.Path)
			all[name] = found{bytes: b, err: err}
		case old != nil && old.sameModule(name, c):
			all[name] = found{kept: true}
		default:
			wanted[c.Module] = append(wanted[c.Module], name)
			refs = append(refs, c.Module)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.options.Config.PluginSources.Wait.Std())
	defer cancel()
	failed := g.modules.Fetch(ctx, refs, func(ref config.Module, r modules.Result) {
		for _, name := range wanted[ref] {
			all[name] = found{bytes: r.Module, pending: r.Err}
		}
	})
	for ref, err := range failed {
		g.log.Error().Err(err).Stringer("module", ref).Strs("plugins", wanted[ref]).Msg("a module cannot be fetched: until it is there its plugins go on as they were, or do as on_error says")
	}
	s.missing = failed
	return all
}

// cacheOff is plugin_cache.dir for no cache.
const cacheOff = "off"

// sameModule says whether the state's plugin of this name can go on: it is pinned to the same digest, is there, and its
// instances would be no others.
func (s *state) sameModule(name string, c *config.Plugin) bool {
	p := s.plugins[name]
	return p != nil && p.present() && p.config.Module == c.Module && sameInstances(p.config, *c)
}

// absent stands for a plugin whose module could not be fetched.
type absent struct {
	name string
	why  error
	open bool // fail_open
}

// Name is the plugin's.
func (a *absent) Name() string { return a.name }

// WantsResponse is false: there is nobody.
func (a *absent) WantsResponse() bool { return false }

// Request does as on_error says.
func (a *absent) Request(*exchange.Exchange, filter.Role, int) (filter.Verdict, error) {
	if a.open {
		return filter.Continue, nil
	}
	f := fault.New(fault.PluginUnavailable, fault.Plugin, 503, "its module could not be fetched yet")
	f.Plugin, f.Phase, f.Err = a.name, "request", a.why
	return filter.Continue, f
}

// Response has nothing to say.
func (a *absent) Response(*exchange.Exchange, int) (filter.Verdict, error) {
	return filter.Continue, nil
}

// Connect does as on_error says.
func (a *absent) Connect(*netloop.Task, *exchange.Session) (filter.Connection, *fault.Error) {
	if a.open {
		return nil, nil
	}
	f := fault.New(fault.PluginUnavailable, fault.Plugin, 0, "its module could not be fetched yet")
	f.Plugin, f.Phase, f.Err = a.name, "connection", a.why
	return nil, f
}

func (a *absent) rebind(*Gateway, *state, *config.Plugin) (guest, error) {
	return nil, errors.New("there is nothing to keep of a plugin without a module")
}

func (a *absent) loops() []wasm.LoopStats { return nil }

func (a *absent) stats() telemetry.PluginStats {
	return telemetry.PluginStats{Failures: map[string]uint64{}}
}

// Close does nothing.
func (a *absent) Close() {}
