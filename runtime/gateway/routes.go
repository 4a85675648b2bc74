package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/route"
	"wasmgate/runtime/server"
)

// buildRoutes makes the table that all listeners share.
func (g *Gateway) buildRoutes(s *state) (*route.Table[*server.Route], error) {
	var rules []route.Rule
	var payloads []*server.Route
	var errs []error
	for i := range s.config.Routes {
		c := &s.config.Routes[i]
		r, err := s.route(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("routes[%d] %s: %w", i, c.Name, err))
			continue
		}
		r.Compression, r.Decompress = g.compression(c.Compression), g.decompress(&c.Decompress)
		rules = append(rules, rule(c))
		payloads = append(payloads, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return route.New(rules, payloads)
}

func rule(c *config.Route) route.Rule {
	m := &c.Match
	return route.Rule{
		Name: c.Name, Hosts: m.Host, Path: m.Path, PathPrefix: m.PathPrefix, PathRegex: m.PathRegex, Methods: m.Methods,
		Headers: conditions(m.Headers), Query: conditions(m.Query),
	}
}

func conditions(m map[string]config.ValueMatch) []route.Condition {
	kinds := map[config.MatchKind]route.Kind{
		config.MatchExact: route.Exact, config.MatchRegex: route.Regex, config.MatchPresent: route.Present, config.MatchAbsent: route.Absent,
	}
	var list []route.Condition
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, route.Condition{Name: name, Kind: kinds[m[name].Kind], Value: m[name].Value})
	}
	return list
}

// route makes a route's payload.
func (s *state) route(c *config.Route) (*server.Route, error) {
	r := &server.Route{
		Name: c.Name, Chain: s.chain(c.Plugins), Respond: respond(c), Override: override(c),
		Upgrades: upgrades(c.Upgrades),
		Request:  edits(&c.RequestHeaders), Response: edits(&c.ResponseHeaders), Upstream: exchange.NoUpstream,
		Rewrite: server.Rewrite{StripPrefix: []byte(c.Rewrite.StripPrefix), AddPrefix: []byte(c.Rewrite.AddPrefix), Reverse: c.Rewrite.Reverse},
	}
	if c.Match.Plugin != "" {
		r.Matcher = s.chain([]string{c.Match.Plugin})[0]
	}
	if c.Upstream != "" {
		r.Upstream = s.id(c.Upstream)
	}
	var err error
	template := func(text string) *route.Template {
		t, e := route.NewTemplate(text, c.Match.PathRegex)
		err = errors.Join(err, e)
		return t
	}
	if c.Authority != "" {
		r.Authority = template(c.Authority)
	}
	if c.Rewrite.Path != "" {
		r.Rewrite.Path = template(c.Rewrite.Path)
	}
	if c.Rewrite.Query != nil {
		r.Rewrite.Query = template(*c.Rewrite.Query)
	}
	return r, err
}

// chain is the filters of the plugins with these names, in this order.
func (s *state) chain(names []string) filter.Chain {
	var c filter.Chain
	for _, name := range names {
		c = append(c, s.plugins[name].guest)
	}
	if s.wrap != nil {
		for i := range c {
			c[i] = s.wrap(names[i], c[i])
		}
	}
	return c
}

// upgrades is the protocols that may be switched to.
func upgrades(names []string) (u server.Upgrades) {
	for _, name := range names {
		if name == "*" {
			u.Any = true
			continue
		}
		u.Protocols = append(u.Protocols, name)
	}
	return u
}

// respond is the route's own answer; an excluded route without one says 404.
func respond(c *config.Route) *server.Response {
	if c.Respond == nil {
		if c.Exclude {
			return &server.Response{Status: 404, Body: []byte("404 Not Found\n"), Fields: []server.Field{{Name: []byte("Content-Type"), Value: []byte("text/plain; charset=utf-8")}}}
		}
		return nil
	}
	return &server.Response{Status: c.Respond.Status, Body: []byte(c.Respond.Body), Fields: fields(c.Respond.Headers)}
}

func edits(c *config.HeaderOps) server.Edits {
	e := server.Edits{Set: fields(c.Set), Add: fields(c.Add)}
	for _, name := range c.Remove {
		e.Remove = append(e.Remove, []byte(name))
	}
	return e
}

func fields(m map[string]string) []server.Field {
	var list []server.Field
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, server.Field{Name: []byte(name), Value: []byte(m[name])})
	}
	return list
}

// override is what the route changes of its upstream's plan, or nil.
func override(c *config.Route) *server.Override {
	if c.Timeouts == (config.RouteTimeouts{}) && c.Retries == (config.RouteRetries{}) && c.Host == "" {
		return nil
	}
	o := &server.Override{Attempts: c.Retries.Attempts}
	for _, p := range [...]struct {
		to   **time.Duration
		from *config.Duration
	}{
		{&o.Connect, c.Timeouts.Connect}, {&o.ResponseHeader, c.Timeouts.ResponseHeader}, {&o.IdleRead, c.Timeouts.IdleRead},
		{&o.TunnelIdle, c.Timeouts.TunnelIdle}, {&o.TunnelMax, c.Timeouts.TunnelMax},
		{&o.Request, c.Timeouts.Request}, {&o.PerTry, c.Retries.PerTryTimeout},
	} {
		if p.from != nil {
			d := p.from.Std()
			*p.to = &d
		}
	}
	if c.Host != "" {
		h := hostPolicy(c.Host)
		o.Host = &h
	}
	return o
}
