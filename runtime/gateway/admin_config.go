package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/admin"
)

// Config implements admin.Gateway.
func (o operators) Config() admin.Config {
	v := admin.Config{File: o.options.Admin.File, Config: map[string]any{}, Keys: []admin.ConfigKey{}}
	s := o.current.Load()
	if s == nil {
		return v
	}
	v.Since, v.Config = s.loaded, s.config.Tree(s.report)
	for _, k := range s.report.Keys() {
		v.Keys = append(v.Keys, admin.ConfigKey{Path: k.Path, At: k.At.String()})
	}
	return v
}

// ConfigYAML implements admin.Gateway.
func (o operators) ConfigYAML() []byte {
	if s := o.current.Load(); s != nil {
		return s.config.YAML(s.report)
	}
	return nil
}

// Differences implements admin.Gateway.
func (o operators) Differences() (since time.Time, list []admin.Difference) {
	s := o.current.Load()
	if s == nil {
		return o.started, nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.pins)) {
		list = append(list, admin.Difference{Kind: "plugin", Name: name, Text: s.pins[name].why + ": " + s.config.Plugins[name].Module.Redacted() + ", " + digestText(s.plugins[name].digest)})
	}
	if l := o.LogLevel(); l.Live {
		list = append(list, admin.Difference{Kind: "log_level", Name: "telemetry.log.level", Text: l.Level})
	}
	return s.loaded, list
}

// Reload implements admin.Gateway.
func (o operators) Reload(dryRun bool) (admin.Reload, error) {
	out := admin.Reload{DryRun: dryRun, Changes: []admin.ConfigChange{}, Restart: []string{}, Warnings: []admin.Problem{}, Problems: []admin.Problem{}}
	operators := &o.options.Admin
	if operators.Load == nil || operators.Reload == nil {
		return out, fmt.Errorf("the gateway was not started from a config file: %w", admin.ErrConflict)
	}
	before := o.current.Load()
	if before == nil {
		return out, fmt.Errorf("the gateway is starting: %w", admin.ErrConflict)
	}
	if dryRun {
		c, report, err := operators.Load()
		if err != nil {
			out.Problems = problems(err)
			return out, nil
		}
		tell(&out, before, c, report)
		return out, nil
	}
	report, err := operators.Reload()
	if err != nil {
		out.Problems = problems(err)
		return out, nil
	}
	after := o.current.Load()
	out.Applied = true
	tell(&out, before, after.file, report)
	return out, nil
}

// tell says what differs, between what is in force, with what was changed live, and a config.
func tell(out *admin.Reload, before *state, c *config.Config, report *config.Report) {
	out.Changes = append(out.Changes, differences(before.config, c, report)...)
	out.Restart = append(out.Restart, needsRestart(before.config, c)...)
	if report != nil {
		for _, w := range report.Warnings {
			out.Warnings = append(out.Warnings, problem(&w))
		}
	}
}

func problem(p *config.Problem) admin.Problem {
	return admin.Problem{At: p.Position.String(), Path: p.Path, Message: p.Message, Help: p.Help}
}

// problems takes an error of Load or of Reload apart.
func problems(err error) (list []admin.Problem) {
	var many config.Errors
	if errors.As(err, &many) {
		for _, p := range many {
			list = append(list, problem(&p))
		}
		return list
	}
	if j, is := err.(interface{ Unwrap() []error }); is {
		for _, e := range j.Unwrap() {
			list = append(list, problems(e)...)
		}
		return list
	}
	var r *Remark
	if errors.As(err, &r) {
		return []admin.Problem{{Path: r.Path, Message: r.Message, Help: r.Help}}
	}
	return []admin.Problem{{Message: err.Error()}}
}

// differences are what differs between two configs. Values are not told: they may be secret.
func differences(old, now *config.Config, report *config.Report) (list []admin.ConfigChange) {
	at := func(path string) string {
		if report == nil {
			return ""
		}
		return report.At(path).String()
	}
	listeners := func(c *config.Config) map[string]any {
		m := map[string]any{}
		for i, key := range listenerKeys(c) {
			m[cmp.Or(c.Listeners[i].Name, key)] = c.Listeners[i]
		}
		return m
	}
	routes := func(c *config.Config) map[string]any {
		m := map[string]any{}
		for i := range c.Routes {
			m[c.Routes[i].Name] = c.Routes[i]
		}
		return m
	}
	places := map[string]string{}
	for i := range now.Routes {
		places[now.Routes[i].Name] = at(fmt.Sprintf("routes[%d]", i))
	}
	list = compare("listener", listeners(old), listeners(now), func(string) string { return at("listeners") })
	list = append(list, compare("upstream", values(old.Upstreams), values(now.Upstreams), func(name string) string { return at("upstreams." + name) })...)
	list = append(list, compare("plugin", values(old.Plugins), values(now.Plugins), func(name string) string { return at("plugins." + name) })...)
	list = append(list, compare("route", routes(old), routes(now), func(name string) string { return places[name] })...)
	if was, is := order(old), order(now); !slices.Equal(was, is) && len(was) == len(is) {
		list = append(list, admin.ConfigChange{Kind: "setting", Name: "routes", Change: "changed", Keys: []string{"order"}, At: at("routes")})
	}
	return append(list, compare("setting", settings(old), settings(now), at)...)
}

func order(c *config.Config) (names []string) {
	for i := range c.Routes {
		names = append(names, c.Routes[i].Name)
	}
	return names
}

func values[T any](m map[string]*T) map[string]any {
	out := map[string]any{}
	for name, v := range m {
		out[name] = *v
	}
	return out
}

// settings are the keys at the top that have no names below them.
func settings(c *config.Config) map[string]any {
	return map[string]any{
		"loops": c.Loops, "limits": c.Limits, "telemetry": c.Telemetry, "admin": c.Admin, "plugin_cache": c.PluginCache, "plugin_state": c.PluginState,
		"plugin_sources": c.PluginSources,
	}
}

// maxChangedKeys is how many keys of a change are told.
const maxChangedKeys = 100

func compare(kind string, old, now map[string]any, at func(name string) string) (list []admin.ConfigChange) {
	all := maps.Clone(old)
	maps.Copy(all, now)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, had := old[name]
		is, has := now[name]
		c := admin.ConfigChange{Kind: kind, Name: name}
		switch {
		case !had:
			c.Change, c.At = "added", at(name)
		case !has:
			c.Change = "removed"
		case reflect.DeepEqual(was, is):
			continue
		default:
			c.Change, c.At, c.Keys = "changed", at(name), changedKeys(config.Flat(was), config.Flat(is))
		}
		list = append(list, c)
	}
	return list
}

func changedKeys(old, now map[string]string) (keys []string) {
	all := maps.Clone(old)
	maps.Copy(all, now)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		was, had := old[k]
		is, has := now[k]
		if k != "" && (had != has || was != is) && len(keys) < maxChangedKeys {
			keys = append(keys, k)
		}
	}
	return keys
}
