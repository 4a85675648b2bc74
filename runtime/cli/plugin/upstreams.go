package plugin

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"wasmgate/runtime/plugintest"
)

// named splits what --upstream was given: the upstream's name, and where it is.
func named(s string) (name, origin string) {
	name, origin, ok := strings.Cut(s, "=")
	if !ok || strings.Contains(name, "/") {
		return routed, s
	}
	return name, origin
}

// isOrigin says whether a text could be where an upstream is. What else is wrong with it, the config says.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// granted adds the upstreams that were named to those that the plugin calls: a plugin of Proxy-Wasm does not say before
// which it will ask. Others do, and then a name that is none of theirs is a mistake.
func (t *trying) granted(p *plugintest.Plugin, called []string) ([]string, error) {
	known := slices.Sorted(slices.Values(append(append([]string{routed}, p.Upstreams()...), called...)))
	known = slices.Compact(known)
	for _, u := range t.upstreams {
		name, _ := named(u)
		switch {
		case slices.Contains(known, name):
		case p.Asks():
			return nil, fmt.Errorf("--upstream %s: the plugin asks for no upstream %q; there are %s (%s is the route's)", u, name, strings.Join(known, ", "), routed)
		default:
			called = append(called, name)
		}
	}
	return called, nil
}

// targets are the upstreams: an echo for each, but for those that are real.
func (t *trying) targets(names []string) (map[string]any, error) {
	given := map[string]string{}
	for _, u := range t.upstreams {
		name, origin := named(u)
		given[name] = origin
		names = append(names, name)
	}
	all := map[string]any{}
	for _, name := range append(names, routed) {
		origin := given[name]
		if origin == "" {
			var err error
			if origin, err = t.echoes.origin(name); err != nil {
				return nil, err
			}
		}
		all[name] = map[string]any{"targets": []string{origin}}
	}
	return all, nil
}

// behind says who answers the requests that go on.
func (t *trying) behind() string {
	if len(t.upstreams) == 0 {
		return "The upstream answers with what reached it."
	}
	var b strings.Builder
	for _, u := range t.upstreams {
		name, origin := named(u)
		fmt.Fprintf(&b, "Upstream %s is %s. ", name, origin)
	}
	if len(t.names) > len(t.upstreams) {
		b.WriteString("Any other answers with what reached it.")
	}
	return strings.TrimSpace(b.String())
}
