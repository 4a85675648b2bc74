package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Bounds of routes. They keep what one request can cost.
const (
	maxRoutes = 10_000
	maxRegex  = 4 << 10
	maxBody   = 64 << 10
)

// unchangeable are the fields that nobody but the gateway may write: they frame the message or belong to one connection.
var unchangeable = map[string]string{
	"connection": "it belongs to one connection; see `listeners[].keep_alive` and `pool.reuse`", "keep-alive": "it belongs to one connection",
	"proxy-connection": "it belongs to one connection", "te": "it belongs to one connection", "trailer": "it frames the body",
	"transfer-encoding": "it frames the body", "content-length": "it frames the body", "upgrade": "it belongs to one connection",
	"expect": "the gateway answers it",
}

var unchangeableRequest = func() map[string]string {
	m := map[string]string{"host": "say `host` in the route or the upstream"}
	for k, v := range unchangeable {
		m[k] = v
	}
	return m
}()

func (v *validator) routes() {
	routes, p := v.config.Routes, keyPath{"routes"}
	if len(routes) > maxRoutes {
		v.fail(p, "expressions and wildcards make one of many; a plugin can hold tables", "%d routes, more than %d", len(routes), maxRoutes)
		return
	}
	names := map[string]int{}
	regexes := make([]*regexp.Regexp, len(routes))
	for i := range routes {
		r, p := &routes[i], p.index(i)
		if first, twice := names[r.Name]; twice && r.Name != "" {
			v.fail(p.key("name"), "give each route a name of its own, or none", "%s is the name of routes[%d] already", quote(r.Name), first)
		}
		names[r.Name] = i
		v.label(p.key("name"), r.Name)
		regexes[i] = v.match(p.key("match"), &r.Match)
		v.action(p, r)
		v.rewrite(p.key("rewrite"), r, regexes[i])
		v.destination(p, r, regexes[i])
		v.references(p.key("plugins"), r.Plugins, "plugins", v.config.Plugins, false)
		v.headerOps(p.key("request_headers"), r.RequestHeaders, unchangeableRequest)
		v.headerOps(p.key("response_headers"), r.ResponseHeaders, unchangeable)
		v.hostPolicy(p.key("host"), r.Host)
		v.compression(p, r)
		v.upgrades(p.key("upgrades"), r.Upgrades)
	}
	for i := range routes {
		if r := &routes[i]; r.Name == "" {
			r.Name = unusedName(names, routeName(&r.Match))
			names[r.Name] = i
		}
	}
	v.shadows(regexes)
	v.unused()
}

// upgrades checks the names of protocols (RFC 9110 section 16.7).
func (v *validator) upgrades(p keyPath, list []string) {
	for i, name := range list {
		switch {
		case strings.EqualFold(name, "h2c"):
			v.fail(p.index(i), "clients of HTTP/2 need no upgrade", "h2c would take requests past every route")
		case foreignValue("upgrades[]", name) != "":
			v.fail(p.index(i), foreignValue("upgrades[]", name), "there is no upgrade to %s", quote(name))
		case name != "*" && !isToken(strings.Replace(name, "/", "", 1)):
			v.fail(p.index(i), "write the name of a protocol, such as `websocket`, or `*`", "%s is not the name of a protocol", quote(name))
		}
	}
}

// routeName describes a match in a few letters.
func routeName(m *Match) string {
	var b strings.Builder
	if len(m.Methods) > 0 {
		b.WriteString(strings.Join(m.Methods, "|") + " ")
	}
	if len(m.Host) > 0 {
		b.WriteString(m.Host[0])
	}
	switch {
	case m.Path != "":
		b.WriteString(m.Path)
	case m.PathPrefix != "":
		b.WriteString(strings.TrimSuffix(m.PathPrefix, "/") + "/*")
	case m.PathRegex != "":
		b.WriteString("~" + m.PathRegex)
	case m.Plugin != "":
		b.WriteString("plugin:" + m.Plugin)
	default:
		b.WriteString("*")
	}
	s := b.String()
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "")
	}
	return s
}

func unusedName(taken map[string]int, name string) string {
	out := name
	for n := 2; ; n++ {
		if _, is := taken[out]; !is {
			return out
		}
		out = fmt.Sprintf("%s#%d", name, n)
	}
}

// action checks that a route does one thing.
func (v *validator) action(p keyPath, r *Route) {
	others := map[string]bool{"upstream": r.Upstream != "", "plugins": len(r.Plugins) > 0, "authority": r.Authority != "",
		"rewrite": r.Rewrite != (Rewrite{})}
	for _, key := range []string{"upstream", "plugins", "authority", "rewrite"} {
		switch {
		case !others[key]:
		case r.Exclude:
			v.mention(v.keyAt(p.key(key)), p, "exclude and "+key+" together", "a route that excludes goes nowhere: remove one of them")
		case r.Respond != nil && key != "plugins":
			v.mention(v.keyAt(p.key(key)), p, "respond and "+key+" together", "a route that answers goes nowhere: remove one of them")
		}
	}
	if !r.Exclude && r.Respond == nil && r.Upstream == "" && len(r.Plugins) == 0 && r.Match.Plugin == "" && !v.hurt[p.String()] {
		v.mention(v.keyAt(p), p, "does nothing", "give it `upstream`, `respond`, `exclude: true` or `plugins`")
	}
	if r.Respond != nil {
		q := p.key("respond")
		v.fieldMap(q.key("headers"), r.Respond.Headers, unchangeable)
		if len(r.Respond.Body) > maxBody {
			v.fail(q.key("body"), "larger ones are for an upstream", "a body of %d bytes, more than %d", len(r.Respond.Body), maxBody)
		}
		if r.Respond.Body != "" && (r.Respond.Status == 204 || r.Respond.Status == 304) {
			v.fail(q.key("body"), "remove it, or write another status", "an answer %d has no body", r.Respond.Status)
		}
	}
}

// rewrite checks what becomes of the path.
func (v *validator) rewrite(p keyPath, r *Route, regex *regexp.Regexp) {
	w := &r.Rewrite
	if r.Match.PathRegex != "" && regex == nil {
		return // its captures are not known
	}
	v.path(p.key("strip_prefix"), w.StripPrefix, false)
	v.path(p.key("add_prefix"), w.AddPrefix, false)
	if w.Path != "" {
		if w.StripPrefix != "" || w.AddPrefix != "" {
			v.fail(p.key("path"), "give the path, or the prefixes", "path and strip_prefix or add_prefix together")
		}
		if !strings.HasPrefix(w.Path, "/") {
			v.fail(p.key("path"), "write `/"+w.Path+"`", "%s does not begin with /", quote(w.Path))
		} else if s, ok := v.template(p.key("path"), w.Path, regex, "x"); ok {
			v.path(p.key("path"), s, false)
		}
	}
	if w.Query != nil {
		if s, ok := v.template(p.key("query"), *w.Query, regex, "x"); ok {
			if bad := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }); bad >= 0 {
				v.fail(p.key("query"), "write it as it stands in a request", "%s cannot stand in a query", quote(s[bad:bad+1]))
			} else if strings.HasPrefix(s, "?") {
				v.fail(p.key("query"), "leave the ? out", "begins with ?")
			}
		}
	}
	v.slashes(p, r)
	v.captureSlashes(p.key("path"), w.Path, r.Match.PathRegex)
	if w.Reverse && w.Path != "" && v.ok(p.key("path")) && v.ok(p.key("reverse")) {
		v.warn(p.key("reverse"), "where answers name paths say strip_prefix and add_prefix instead", "only the scheme and the authority of answers are mapped back: there is no way back from rewrite.path")
	}
}

// slashes warns where prefixes do not fit together.
func (v *validator) slashes(p keyPath, r *Route) {
	w, prefix := &r.Rewrite, r.Match.PathPrefix
	strip, add := p.key("strip_prefix"), p.key("add_prefix")
	switch {
	case w.StripPrefix != "" && prefix != "" && strings.TrimSuffix(w.StripPrefix, "/") == strings.TrimSuffix(prefix, "/"):
		if w.StripPrefix != prefix {
			v.warn(strip, "write `"+prefix+"`", "path_prefix is %s: their trailing slashes disagree", quote(prefix))
		}
	case w.StripPrefix != "" && prefix != "" && !segmentPrefix(w.StripPrefix, prefix) && !segmentPrefix(prefix, w.StripPrefix):
		v.warn(strip, "write a prefix of `"+prefix+"`", "never applies: paths begin with %s", quote(prefix))
	case w.StripPrefix != "" && r.Match.Path != "" && !segmentPrefix(w.StripPrefix, r.Match.Path):
		v.warn(strip, "", "never applies: the path is %s", quote(r.Match.Path))
	}
	from := w.StripPrefix
	if from == "" {
		from = prefix
	}
	if w.AddPrefix != "" && w.AddPrefix != "/" && from != "" && from != "/" && strings.HasSuffix(from, "/") != strings.HasSuffix(w.AddPrefix, "/") {
		fitting := strings.TrimSuffix(w.AddPrefix, "/")
		if strings.HasSuffix(from, "/") {
			fitting += "/"
		}
		v.warn(add, "write `"+fitting+"`", "the trailing slashes of %s and %s disagree", quote(from), quote(w.AddPrefix))
	}
	if w.Path != "" && prefix != "" && v.ok(p.key("path")) {
		v.warn(p.key("path"), fmt.Sprintf("to keep what comes after it say {strip_prefix: %s, add_prefix: %s}", prefix, w.Path), "every path below %s becomes %s", quote(prefix), quote(w.Path))
	}
}

// captureSlashes warns where a capture of the rest of the path is put back with one slash too few or too many.
func (v *validator) captureSlashes(p keyPath, path, expression string) {
	parts, err := splitTemplate(path)
	literal, slashed := restCapture(expression)
	if err != nil || literal == "" || len(parts) < 2 || parts[1].text != "1" || !v.ok(p) {
		return
	}
	switch slash := strings.HasSuffix(parts[0].text, "/"); {
	case slash && slashed:
		v.warn(p, "remove the / before $1", "makes //: what comes after %s begins with / itself", quote(literal))
	case !slash && !slashed:
		v.warn(p, "write / before $1", "loses the / that %s ends in", quote(literal))
	}
}

func (v *validator) headerOps(p keyPath, h HeaderOps, forbidden map[string]string) {
	v.fieldMap(p.key("set"), h.Set, forbidden)
	v.fieldMap(p.key("add"), h.Add, forbidden)
	for i, name := range h.Remove {
		v.fieldName(p.key("remove").index(i), name, forbidden)
	}
}

// destination checks where a route goes, and makes an upstream of an origin that is written into it.
func (v *validator) destination(p keyPath, r *Route, regex *regexp.Regexp) {
	dynamicGiven := !reflect.DeepEqual(r.Dynamic, defaultDynamic())
	inline := strings.Contains(r.Upstream, "://") || strings.HasPrefix(r.Upstream, unixScheme)
	switch {
	case r.Upstream == "" || !v.ok(p.key("upstream")):
		if r.Authority != "" && !v.hurt[p.String()] {
			v.fail(p.key("authority"), "give `upstream` the name of one with dynamic.allow", "an authority without an upstream")
		}
		return
	case inline:
		v.inline(p, r, regex, dynamicGiven)
		return
	case dynamicGiven && v.ok(p.key("dynamic")):
		v.mention(v.keyAt(p.key("dynamic")), p.key("dynamic"), "belongs to an upstream that is written as an origin", fmt.Sprintf("say `upstreams.%s.dynamic` instead", r.Upstream))
	}
	if !v.reference(p.key("upstream"), r.Upstream, "upstreams", v.config.Upstreams) {
		return
	}
	u := v.config.Upstreams[r.Upstream]
	q := p.key("authority")
	switch {
	case !v.ok(keyPath{"upstreams", r.Upstream}) || !v.ok(q):
	case r.Authority != "" && !u.Dynamic.Enabled():
		v.fail(q, fmt.Sprintf("give `upstreams.%s.dynamic.allow` the addresses that may be chosen", r.Upstream), "upstream %s allows no dynamic addresses", quote(r.Upstream))
	case r.Authority != "":
		v.authority(q, r.Authority, &u.Dynamic, regex, r.Match.PathRegex != "")
	case len(u.Targets) == 0 && !v.choosesAddress(r):
		v.fail(p.key("upstream"), "give the route an `authority`, or a plugin with `dynamic`", "upstream %s has no targets of its own", quote(r.Upstream))
	}
}

// choosesAddress says whether a plugin of the route, or of any listener, may choose an address.
func (v *validator) choosesAddress(r *Route) bool {
	names := append([]string{r.Match.Plugin}, r.Plugins...)
	for _, l := range v.config.Listeners {
		names = append(names, l.Plugins...)
	}
	return slices.ContainsFunc(names, func(n string) bool { g := v.config.Plugins[n]; return g != nil && g.Dynamic != "" })
}

// inline turns an origin in a route into an upstream of its own. Equal ones are one upstream, with one set of pools.
func (v *validator) inline(p keyPath, r *Route, regex *regexp.Regexp, dynamicGiven bool) {
	q := p.key("upstream")
	u := DefaultUpstream()
	if !strings.Contains(r.Upstream, "$") {
		t := DefaultTarget()
		if err := t.UnmarshalText([]byte(r.Upstream)); err != nil {
			v.failErr(q, err)
			return
		}
		if dynamicGiven || r.Authority != "" {
			v.fail(q, "put a capture such as $1 into the origin, or remove them", "dynamic and authority are for an origin with captures")
		}
		u.Targets = []Target{t}
	} else {
		scheme, authority, _ := strings.Cut(r.Upstream, "://")
		authority = strings.TrimSuffix(authority, "/")
		u.Dynamic = r.Dynamic
		u.Dynamic.Scheme = Scheme(strings.ToLower(scheme))
		switch {
		case u.Dynamic.Scheme != HTTP && u.Dynamic.Scheme != HTTPS:
			v.fail(q, "write http:// or https://", "the scheme %s is not known", quote(scheme))
			return
		case strings.Contains(authority, "/"):
			v.fail(q, "say `rewrite.path`", "has a path")
			return
		case !r.Dynamic.Enabled():
			if v.ok(p.key("dynamic")) {
				v.fail(q, "say which with `dynamic: {allow: [\"*.internal:8080\"]}` in the route", "has a capture in it, and no address is allowed")
			}
			return
		case r.Authority != "":
			v.fail(p.key("authority"), "remove it", "the origin has one already")
			return
		}
		r.Authority = authority
		v.authority(q, authority, &u.Dynamic, regex, r.Match.PathRegex != "")
	}
	if !v.ok(q) {
		return
	}
	r.Dynamic = defaultDynamic()
	if v.config.Upstreams == nil {
		v.config.Upstreams = map[string]*Upstream{}
	}
	name := r.Upstream
	for n := 2; ; n++ {
		same := v.config.Upstreams[name]
		if same == nil {
			v.config.Upstreams[name] = &u
		}
		if same == nil || reflect.DeepEqual(same, &u) {
			break
		}
		name = fmt.Sprintf("%s#%d", r.Upstream, n)
	}
	r.Upstream = name
	v.used["upstreams."+name] = true
}

// authority checks host:port with captures against what is allowed.
func (v *validator) authority(p keyPath, s string, d *Dynamic, regex *regexp.Regexp, hasRegex bool) {
	if hasRegex && regex == nil {
		return // its captures are not known
	}
	stood, ok := v.template(p, s, regex, "1") // a digit can stand in a name and in a port
	if !ok {
		return
	}
	_, port, err := splitAuthority(stood)
	if err != nil { // alone it would be a number where a name stands
		if named, ok := v.template(p, s, regex, "x"); ok {
			if _, namedPort, namedErr := splitAuthority(named); namedErr == nil {
				port, err = namedPort, nil
			}
		}
	}
	if err != nil && strings.Contains(s, "$") && strings.Trim(stood, "1.:") != "" || err != nil && !strings.Contains(s, "$") {
		v.failErr(p, err)
		return
	}
	if port == 0 {
		port = d.Scheme.Port()
	}
	if !strings.Contains(s, "$") {
		if _, _, allowed := d.Allows(s); !allowed {
			v.fail(p, "add it to `dynamic.allow`", "%s is not allowed", quote(s))
		}
		return
	}
	if _, text, found := strings.Cut(s, ":"); found && strings.Contains(text, "$") {
		return // any port
	}
	possible := slices.ContainsFunc(d.Allow, func(a HostPattern) bool {
		a.Suffix = false
		return a.Match(d.Scheme, a.Host, port)
	})
	if !possible {
		v.fail(p, "add the port to an entry of `dynamic.allow`", "port %d is not allowed for any host", port)
	}
}
