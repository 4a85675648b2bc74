package config

import "strings"

// targets checks the part that each target of an upstream has in it.
func (v *validator) targets(p keyPath, u *Upstream) {
	list := p.key("targets")
	if u.Balance.Algorithm != Hash && v.ok(p.key("balance")) {
		v.idle(p, "say `balance: hash(ip)`, or remove it", "balance is "+u.Balance.String(), "hash_load")
	}
	origins := map[Origin]bool{}
	for i, t := range u.Targets {
		q := list.index(i)
		if origins[t.Origin] {
			v.warn(q, "to give it a larger share say `weight`", "%s is in the list already: it gets more turns than the others", t)
		}
		origins[t.Origin] = true
		switch {
		case len(u.Targets) == 1:
			v.idle(q, "", "there is only one target", "weight", "tier")
		case u.Balance.Algorithm == First:
			v.idle(q, "the order of the file decides", "balance is first", "weight")
		}
		if t.Weight > 1 && t.State == TargetDisabled {
			v.idle(q, "", "state is disabled", "weight")
		}
		v.srv(p, q, t, u)
	}
	v.tiers(list, u.Targets)
	v.sessionRoutes(list, u)
}

// srv warns where a name that is none of a host would be used as one.
func (v *validator) srv(p, target keyPath, t Target, u *Upstream) {
	if !t.SRV() {
		return
	}
	if t.Scheme == HTTPS && u.TLS.ServerName == "" {
		v.warn(target, "say `tls.server_name`", "the certificate would have to be for %s", quote(t.Host))
	}
	if u.Host == HostUpstream {
		v.warn(p.key("host"), "say `host: preserve`, or write the name", "the Host field would be %s", quote(t.Host))
	}
}

// tiers checks that tiers and states leave targets to serve.
func (v *validator) tiers(p keyPath, list []Target) {
	active, taking, tiers := map[int]bool{}, false, map[int]bool{}
	for _, t := range list {
		active[t.Tier] = active[t.Tier] || t.State == TargetActive
		taking = taking || t.State == TargetActive || t.State == TargetStandby
		tiers[t.Tier] = true
	}
	if len(list) > 0 && !taking {
		v.warn(p, "give one of them `state: active`", "no target takes new requests")
		return
	}
	for i, t := range list {
		q := p.index(i)
		if t.State == TargetSpare && !active[t.Tier] {
			v.warn(q.key("state"), "say `state: standby`", "it stands in for no one: tier %d has no active target", t.Tier)
		}
		if len(tiers) == 1 && len(list) > 1 && v.given(q.key("tier")) {
			v.warn(q.key("tier"), "targets of the lowest tier serve as long as one of them can; give the others a higher one", "has no effect: every target has tier %d", t.Tier)
			return
		}
	}
}

// sessionRoutes checks the names of targets in sticky sessions, and which target takes the sessions of which.
func (v *validator) sessionRoutes(p keyPath, u *Upstream) {
	routes := map[string]int{}
	var names []string
	for i, t := range u.Targets {
		q := p.index(i).key("route")
		if t.Route == "" {
			continue
		}
		if len(t.Route) > 64 || strings.ContainsFunc(t.Route, notOfARoute) {
			v.fail(q, "a route is 1 to 64 letters, digits, -, _, . and ~", "%s is not a route", quote(t.Route))
		} else if first, twice := routes[t.Route]; twice {
			v.fail(q, "give each target a route of its own", "%s is the route of targets[%d] already", quote(t.Route), first)
		}
		if _, twice := routes[t.Route]; !twice {
			routes[t.Route] = i
			names = append(names, t.Route)
		}
	}
	for i, t := range u.Targets {
		q := p.index(i)
		to, known := routes[t.Redirect]
		switch {
		case !u.Sticky.Enabled():
			v.idle(q, "say `sticky`", "sessions do not stick", "route", "redirect")
		case t.Redirect == "":
		case !known && v.full():
		case !known:
			help := "no target has a route; give one of them `route: " + t.Redirect + "`"
			if near := nearest(t.Redirect, names); near != "" {
				help = "did you mean `" + near + "`?"
			} else if len(names) > 0 {
				help = "there are " + strings.Join(names[:min(len(names), 10)], ", ")
			}
			v.fail(q.key("redirect"), help, "no target has the route %s", quote(t.Redirect))
		case to == i:
			v.fail(q.key("redirect"), "name another target's route", "%s is its own route", quote(t.Redirect))
		case u.Targets[to].State == TargetDisabled:
			v.warn(q.key("redirect"), "", "targets[%d] is disabled and takes no sessions", to)
		}
	}
}

// notOfARoute says whether a character cannot be in a route, which stands in cookies and in paths.
func notOfARoute(r rune) bool {
	return !strings.ContainsRune("-_.~", r) && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
}

// sticky checks how sessions are found.
func (v *validator) sticky(p keyPath, u *Upstream) {
	s := &u.Sticky
	for _, in := range []struct{ key, what, name string }{
		{"cookie", "cookie", s.Cookie}, {"path_parameter", "path parameter", s.PathParameter}, {"header", "field", s.Header},
	} {
		if in.name != "" && (!isToken(in.name) || len(in.name) > 128 || in.key == "path_parameter" && strings.ContainsAny(in.name, "&%#")) {
			v.fail(p.key(in.key), "a name is letters, digits, - and _", "%s is not the name of a %s", quote(in.name), in.what)
		}
	}
	if q := p.key("separator"); s.Separator != "" && v.ok(q) && (len(s.Separator) != 1 || !strings.Contains(".!~-_:|+*@^%$#'", s.Separator)) {
		v.fail(q, `write one of . ! ~ - _ : | + * @, or "" if the whole value is the route`, "%s cannot be told from the rest", quote(s.Separator))
	}
	v.insertedCookie(p, s)
	if !s.Enabled() {
		v.idle(p, "say where sessions are found: `cookie`, `path_parameter` or `header`", "sessions do not stick", "separator", "failover")
		return
	}
	if s.Insert || v.hurt[p[:2].key("targets").String()] {
		return
	}
	for _, t := range u.Targets {
		if t.Route != "" {
			return
		}
	}
	v.warn(p, "give targets a `route`, or say `insert: true`", "no session can stick: no target has a route")
}

// insertedCookie checks the cookie that the gateway sets.
func (v *validator) insertedCookie(p keyPath, s *Sticky) {
	if !s.Insert {
		v.idle(p, "say `insert: true`, or remove it", "no cookie is set", "ttl", "path", "secure", "http_only", "same_site")
		return
	}
	if s.Cookie == "" && v.ok(p.key("cookie")) {
		v.fail(p.key("insert"), "give `cookie` the name of the cookie", "a cookie without a name")
	}
	if q := p.key("path"); v.ok(q) && (!strings.HasPrefix(s.Path, "/") || strings.ContainsFunc(s.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(";,\"", r) })) {
		v.fail(q, "write it as in /app", "%s is not the path of a cookie", quote(s.Path))
	}
	if q := p.key("ttl"); s.TTL > 0 && s.TTL < sec && v.ok(q) {
		v.fail(q, "write 1s or more, or 0s", "cookies count in seconds")
	}
	if s.SameSite == SameSiteNone && !s.Secure {
		v.fail(p.key("same_site"), "say `secure: true`", "browsers refuse a cookie with SameSite=None that is not secure")
	}
}
