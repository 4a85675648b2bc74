package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"wasmgate/config"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/modules"
	"wasmgate/runtime/wasm"
)

// Remark is what there is to say about a place of the config that its text alone does not tell. It is the error of New and
// Reload for what a plugin cannot be, several of them joined.
type Remark struct {
	Path    string // as in listeners[0].plugins[1]
	Message string
	Help    string // what to do; may be empty
	Wrong   bool   // it cannot be meant, even if the gateway starts; otherwise it may be, and works
	Err     error  // below it; may be nil
}

// Error writes the place, what is wrong and what to do, in a line.
func (r *Remark) Error() string {
	s := r.Path + ": " + r.Message
	if r.Help != "" {
		s += "; " + r.Help
	}
	return s
}

// Unwrap is the error below.
func (r *Remark) Unwrap() error { return r.Err }

// unusable says why a plugin cannot be made of its module and its config, at the place of the one to blame.
func unusable(name string, err error) *Remark {
	r := &Remark{Path: "plugins." + name + ".module", Message: err.Error(), Wrong: true, Err: err}
	var f *fault.Error
	if !errors.As(err, &f) {
		return r
	}
	var refusal *wasm.Refusal
	refuses := errors.As(err, &refusal)
	// The path names the plugin already, and what cannot be used now was never available.
	plain := *f
	plain.Plugin, plain.Phase = "", ""
	r.Message = plain.Error()
	if f.Kind == fault.PluginUnavailable {
		r.Message = strings.TrimPrefix(r.Message, f.Kind.String()+": ")
	}
	switch {
	case f.Phase == "compile":
	case refuses && refusal.VM:
		r.Path = "plugins." + name + ".proxy_wasm.vm_config"
	case refuses:
		r.Path = "plugins." + name + ".config"
	case f.Phase == "configure" && f.Kind == fault.PluginUnavailable: // it was not granted what it wants
		r.Path = "plugins." + name
	default:
		r.Message = "phase " + f.Phase + ": " + r.Message
	}
	return r
}

// Review says what there is to say about the config in force, though the gateway works with it: modules that are not there,
// keys that the plugins' ABIs have no use for, whether they were set or not, and certificates that clients refuse, now or soon. It
// is in no order.
func (g *Gateway) Review() (list []Remark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state
	for _, name := range slices.Sorted(maps.Keys(s.plugins)) {
		p, path := s.plugins[name], "plugins."+name
		if a, missing := p.guest.(*absent); missing {
			list = append(list, notThere(path+".module", a.why))
			continue
		}
		abi, idle := useless(p.guest)
		for key, help := range idle {
			list = append(list, Remark{Path: path + "." + key, Message: "has no effect: the module speaks " + abi, Help: help})
		}
	}
	for i := range s.config.Listeners {
		if l := &s.config.Listeners[i]; l.Mode != config.ModeTCP {
			list = append(list, s.deaf(fmt.Sprintf("listeners[%d]", i), l.Plugins)...)
		}
	}
	for i := range s.config.Routes {
		list = append(list, s.deaf(fmt.Sprintf("routes[%d]", i), s.config.Routes[i].Plugins)...)
	}
	return append(list, s.shown()...)
}

// deaf are the plugins of a listener or a route that requests do not reach.
func (s *state) deaf(path string, plugins []string) (list []Remark) {
	for i, name := range plugins {
		if p, is := s.plugins[name].guest.(proxywasmGuest); is && p.OnlyTCP() {
			list = append(list, Remark{
				Path: fmt.Sprintf("%s.plugins[%d]", path, i), Message: name + " has callbacks for connections and none for requests: it has no effect here",
				Help: "name it in `plugins` of a listener with `mode: tcp`",
			})
		}
	}
	return list
}

// notThere says whether a module that could not be had can ever be.
func notThere(path string, err error) Remark {
	r := Remark{Path: path, Message: "not checked: " + err.Error(), Err: err}
	var e *modules.Error
	if !errors.As(err, &e) {
		return r
	}
	r.Message, r.Help = e.Message, e.Help
	switch e.Kind {
	case modules.KindDigest, modules.KindFormat, modules.KindNotFound, modules.KindTooLarge:
		r.Wrong = true
	default: // it may be otherwise on another machine, or later
		r.Message = "not checked: " + e.Message
	}
	return r
}

// useless are the keys of a plugin that its ABI has no use for, with what to do instead.
func useless(of guest) (abi string, keys map[string]string) {
	const foreign, choice, own = "it is for modules that speak Proxy-Wasm", "what a plugin may choose and keep is for the native ABI", "it has instances that are shared by all requests"
	switch of.(type) {
	case nativeGuest:
		return "the native ABI", map[string]string{"proxy_wasm": foreign}
	case proxywasmGuest:
		return "Proxy-Wasm", map[string]string{"upstreams": choice, "dynamic": choice, "state": choice, "recycle_after": own, "limits.wait": own}
	}
	return "http-wasm", map[string]string{
		"proxy_wasm": foreign, "upstreams": choice, "dynamic": choice, "state": choice, "calls": "plugins of http-wasm send no requests of their own",
	}
}
