package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/admin"
	"wasmgate/runtime/modules"
	"wasmgate/runtime/wasm"
)

// pin is the module of a plugin that was changed live. It is kept here: what it was read from may be another by now.
type pin struct {
	module []byte
	why    string // swap or rollback
}

// version is a module that was in force.
type version struct {
	source config.Module
	digest [32]byte
	module []byte
	since  time.Time
	why    string
}

// maxVersions is how many of a plugin are kept, the present one among them. Their modules stay in memory.
const maxVersions = 4

// remember notes the versions of the state's plugins, after those that old had.
func (s *state) remember(old *state) {
	s.versions = map[string][]version{}
	for name, p := range s.plugins {
		var before []version
		if old != nil {
			before = old.versions[name]
		}
		if p.module == nil || len(before) > 0 && before[0].digest == p.digest && before[0].source == p.config.Module {
			s.versions[name] = before
			continue
		}
		v := version{source: p.config.Module, digest: p.digest, module: p.module, since: time.Now(), why: "config"}
		if pinned, is := s.pins[name]; is {
			v.why = pinned.why
		}
		before = before[:min(len(before), maxVersions-1)]
		s.versions[name] = append([]version{v}, before...)
	}
}

// pluginErrors is what plugins failed with last. Lines come from loops, but of the same failure one in ten seconds at most.
type pluginErrors struct {
	mu   sync.Mutex
	last map[string][]admin.PluginError // by plugin, the newest last
}

const maxPluginErrors = 16

func (e *pluginErrors) add(l wasm.Line) {
	one := admin.PluginError{Time: time.Now(), Phase: l.Phase, Text: text([]byte(l.Text), 2048), Again: l.Suppressed}
	if l.Err != nil {
		one.Kind = l.Err.Kind.String()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last == nil {
		e.last = map[string][]admin.PluginError{}
	}
	list := e.last[l.Plugin]
	if len(list) == maxPluginErrors {
		list = slices.Delete(list, 0, 1)
	}
	e.last[l.Plugin] = append(list, one)
}

// of are a plugin's errors, the newest first.
func (e *pluginErrors) of(plugin string) []admin.PluginError {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := append([]admin.PluginError{}, e.last[plugin]...)
	slices.Reverse(list)
	return list
}

// Plugins implements admin.Gateway.
func (o operators) Plugins() []admin.Plugin {
	list := []admin.Plugin{}
	s := o.current.Load()
	if s == nil {
		return list
	}
	for _, name := range slices.Sorted(maps.Keys(s.plugins)) {
		list = append(list, o.pluginView(s, name))
	}
	return list
}

func (o operators) pluginView(s *state, name string) admin.Plugin {
	p := s.plugins[name]
	c, l := &p.config, &p.config.Limits
	_, live := s.pins[name]
	v := admin.Plugin{
		Name: name, ABI: abiOf(p.guest), Module: c.Module.Redacted(), Live: live, OnError: string(c.OnError), Errors: o.pluginErrors.of(name),
		Limits:   admin.PluginLimits{Memory: int64(l.Memory), Fuel: int64(l.Fuel), StartFuel: int64(l.StartFuel), Body: int64(l.Body), Calls: l.Calls, Wait: ms(int64(l.Wait))},
		Versions: []admin.Version{}, Loops: []admin.PluginLoop{}, Used: s.usedBy(name), At: o.at("plugins." + name),
	}
	if a, missing := p.guest.(*absent); missing {
		v.Missing = a.why.Error()
	} else {
		v.Digest = digestText(p.digest)
	}
	for _, one := range s.versions[name] {
		v.Versions = append(v.Versions, admin.Version{Module: one.source.Redacted(), Digest: digestText(one.digest), Bytes: len(one.module), Since: one.since, Why: one.why})
	}
	t := p.stats()
	v.Figures = admin.PluginFigures{
		Calls: t.Calls, Fuel: t.Fuel, Instances: t.Instances, Started: t.Started, Memory: t.MemoryBytes, Failures: t.Failures, BreakerOpen: t.BreakerOpen, LinesHeld: t.LinesHeld,
	}
	for i, one := range p.loops() {
		v.Loops = append(v.Loops, admin.PluginLoop{Loop: i, Instances: int(one.Live), Parked: int(one.Parked), Memory: one.MemoryBytes, BreakerOpen: one.BreakerOpen})
	}
	return v
}

func digestText(d [32]byte) string { return "sha256:" + hex.EncodeToString(d[:]) }

// abiOf is the guest's ABI.
func abiOf(of guest) string {
	switch of.(type) {
	case nativeGuest:
		return "native"
	case proxywasmGuest:
		return "proxy-wasm"
	case httpwasmGuest:
		return "http-wasm"
	}
	return "none"
}

// usedBy is where the config in force names a plugin.
func (s *state) usedBy(name string) admin.PluginUse {
	u := admin.PluginUse{Routes: []string{}, Listeners: []string{}}
	for i := range s.config.Routes {
		if r := &s.config.Routes[i]; slices.Contains(r.Plugins, name) || r.Match.Plugin == name {
			u.Routes = append(u.Routes, r.Name)
		}
	}
	for i := range s.config.Listeners {
		if slices.Contains(s.config.Listeners[i].Plugins, name) {
			u.Listeners = append(u.Listeners, s.listeners[i].name)
		}
	}
	return u
}

// SwapPlugin implements admin.Gateway.
func (o operators) SwapPlugin(name string, said admin.Swap) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.state.plugins[name]
	if p == nil {
		return noPlugin(name)
	}
	m := o.state.config.Plugins[name].Module
	if !said.Reload {
		var err error
		if m, err = o.module(said.Module); err != nil {
			return fmt.Errorf("module: %w: %w", err, admin.ErrRefused)
		}
	}
	content, err := o.fetch(name, m)
	if err != nil {
		return fmt.Errorf("module: %w: %w", err, admin.ErrRefused)
	}
	return o.pinned(name, m, pin{content, "swap"})
}

// module reads a path or a reference. A relative path begins where the config's do.
func (o operators) module(text string) (m config.Module, err error) {
	if err := m.UnmarshalText([]byte(text)); err != nil {
		return m, err
	}
	if file := o.options.Admin.File; !m.Fetched() && !filepath.IsAbs(m.Path) && file != "" {
		m.Path = filepath.Join(filepath.Dir(file), m.Path)
	}
	return m, nil
}

// fetch reads a module, or fetches it.
func (o operators) fetch(name string, m config.Module) (content []byte, err error) {
	if !m.Fetched() {
		return o.options.Module(name, m.Path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.options.Config.PluginSources.Wait.Std())
	defer cancel()
	failed := o.modules.Fetch(ctx, []config.Module{m}, func(_ config.Module, r modules.Result) { content = r.Module })
	return content, failed[m]
}

// RollBackPlugin implements admin.Gateway.
func (o operators) RollBackPlugin(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state.plugins[name] == nil {
		return noPlugin(name)
	}
	list := o.state.versions[name]
	if len(list) < 2 {
		return fmt.Errorf("plugin %s has had no other version since the gateway was started: %w", name, admin.ErrConflict)
	}
	before := list[1]
	return o.pinned(name, before.source, pin{before.module, "rollback"})
}

func noPlugin(name string) error {
	return fmt.Errorf("no plugin is called %s; GET /plugins lists them: %w", text([]byte(name), 100), admin.ErrNotFound)
}

// pinned puts a plugin with another module in force, with everything else as it is. mu is held.
func (o operators) pinned(name string, m config.Module, to pin) error {
	c := *o.state.config
	c.Plugins = maps.Clone(c.Plugins)
	p := *c.Plugins[name]
	p.Module = m
	c.Plugins[name] = &p
	from := o.state.origin
	from.pins = maps.Clone(from.pins)
	if from.pins == nil {
		from.pins = map[string]pin{}
	}
	from.pins[name], from.only = to, name
	err := o.reload(&c, from)
	if err != nil && !errors.Is(err, errStopping) {
		return fmt.Errorf("%w: %w", err, admin.ErrRefused)
	}
	return err
}
