package config

import "strings"

// listeners checks them, and puts one in where there is none.
func (v *validator) listeners() {
	c := v.config
	if len(c.Listeners) == 0 && v.ok(keyPath{"listeners"}) {
		c.Listeners = []Listener{DefaultListener()}
	}
	names := map[string]int{}
	for i := range c.Listeners {
		l, p := &c.Listeners[i], keyPath{"listeners"}.index(i)
		v.listen(p.key("address"), l.Address)
		v.taken(p.key("address"), i)
		given := l.Name != ""
		if !given {
			l.Name = l.Address
		}
		if first, twice := names[l.Name]; twice && given {
			v.fail(p.key("name"), "give each listener a name of its own, or none", "%s is the name of listeners[%d] already", quote(l.Name), first)
		}
		names[l.Name] = i
		v.label(p.key("name"), l.Name)
		v.references(p.key("plugins"), l.Plugins, "plugins", v.config.Plugins, false)
		if v.ok(p.key("mode")) {
			v.mode(p, l)
		}
		if q := p.key("http2"); l.HTTP2.Only && !l.HTTP2.Enabled {
			v.fail(q.key("only"), "say `enabled: true`, or leave `only` out", "no client could say anything")
		}
		if l.HTTP3.Enabled && l.TLS == nil && l.Mode == ModeHTTP && v.ok(p.key("tls")) {
			v.fail(p.key("http3").key("enabled"), "give the listener `tls`: there is no HTTP/3 without", "needs certificates")
		}
		if l.TLS != nil && v.ok(p.key("tls")) {
			v.listenerTLS(p.key("tls"), l.TLS)
		}
	}
	v.redirects()
}

// taken fails a listener whose address another one, or the admin endpoint, has already.
func (v *validator) taken(p keyPath, i int) {
	const help = "give each listener an address of its own; which host goes where is for `match.host` in routes"
	own := v.config.Listeners[i].Address
	if !v.ok(p) {
		return
	}
	for first := range i {
		switch other := v.config.Listeners[first].Address; {
		case other == own && !strings.HasSuffix(own, ":0"):
			v.fail(p, help, "%s is the address of listeners[%d] already", quote(own), first)
			return
		case sameSocket(own, other):
			v.fail(p, help, "%s is taken by listeners[%d], which has %s", quote(own), first, quote(other))
			return
		}
	}
	if admin := v.config.Admin.Address; sameSocket(own, admin) {
		v.fail(p, "give one of them another port", "%s is taken by the admin endpoint, which has %s (admin.address)", quote(own), quote(admin))
	}
}

// sameSocket says whether two addresses cannot be listened at both: they have the same port, and one is within the other.
func sameSocket(a, b string) bool {
	i, j := strings.LastIndexByte(a, ':'), strings.LastIndexByte(b, ':')
	if i < 0 || j < 0 || a[i:] != b[j:] || a[i:] == ":0" {
		return false
	}
	one, other := a[:i], b[:j]
	if one != "" && one != "[::]" && (other == "" || other == "[::]" || other == "0.0.0.0") {
		one, other = other, one
	}
	switch one {
	case "", "[::]": // both families
		return true
	case "0.0.0.0":
		return !strings.HasPrefix(other, "[")
	}
	return one == other
}

// modeKeys are, by mode, the keys of a listener that mean nothing in it, with what to say instead.
var modeKeys = map[ListenerMode]map[string]string{
	ModeTCP: {
		"tls":                  "bytes pass untouched: TLS is between the client and the upstream",
		"redirect_https":       "no requests are read, and none answered",
		"redirect_port":        "no requests are read, and none answered",
		"keep_alive":           "a session has no requests; its silence is bounded by `idle_timeout`",
		"advertise_keep_alive": "bytes pass untouched: fields are the upstream's own",
		"http2":                "bytes pass untouched, whatever protocol they are",
		"trusted_proxies":      "no fields are read; say `proxy_protocol` for peers that hand on the client's address",
		"http3":                "bytes of TCP pass untouched, and UDP is not passed on",
		"forwarded":            "no fields are written; say `proxy_protocol` in the upstream to hand on the client's address",
	},
	ModeHTTP: {
		"upstream":     "say `mode: tcp` to pass bytes on untouched, or name the upstream in a route",
		"sni":          "say `mode: tcp` to pass TLS on untouched, or `match.host` in a route",
		"idle_timeout": "say `keep_alive.idle_timeout`, or `mode: tcp`",
	},
}

// mode checks that a listener has what its mode needs, and nothing of the other's.
func (v *validator) mode(p keyPath, l *Listener) {
	help := modeKeys[l.Mode]
	for _, key := range mapKeys(help) {
		if q := p.key(key); v.given(q) {
			v.add(v.keyAt(q), q, "means nothing with mode: "+string(l.Mode), help[key])
		}
	}
	if l.Mode != ModeTCP {
		return
	}
	if l.Upstream == "" && len(l.SNI) == 0 && !v.hurt[p.String()] {
		v.mention(v.keyAt(p), p, "goes nowhere", "give it `upstream` for all connections, or `sni` for TLS by the name of the server")
	}
	if l.Upstream != "" {
		v.tcpUpstream(p.key("upstream"), l.Upstream)
	}
	hosts := map[string]int{}
	for i := range l.SNI {
		q := p.key("sni").index(i)
		v.sni(q, &l.SNI[i], hosts, i)
		if s := l.SNI[i].Upstream; s != "" && v.tcpUpstream(q.key("upstream"), s) {
			v.tlsTwice(q.key("upstream"), s)
		}
	}
}

// sni checks the names of one entry against those of the entries before it.
func (v *validator) sni(p keyPath, s *SNIRoute, hosts map[string]int, n int) {
	p = p.key("host")
	if len(s.Host) == 0 && v.ok(p) && v.given(p) {
		v.fail(p, "write `host: \"*.example.com\"`; for all other names say `upstream` in the listener", "is empty")
	}
	for i, name := range s.Host {
		q := p.index(i)
		if !v.ok(q) {
			continue
		}
		if name == "*" {
			v.fail(q, "for all other names say `upstream` in the listener", "`*` is not a name")
			continue
		}
		s.Host[i] = v.matchHost(q, name)
		if !v.ok(q) {
			continue
		}
		if strings.Contains(s.Host[i], ":") || parsesAsAddress(s.Host[i]) {
			v.fail(q, "clients that connect to an address ask for no name: say `upstream` in the listener", "%s is an address", quote(name))
		} else if first, twice := hosts[s.Host[i]]; twice {
			v.fail(q, "remove one of them", "%s goes to the upstream of sni[%d] already", quote(name), first)
		}
		hosts[s.Host[i]] = n
	}
}

// tcpUpstream checks the upstream of TCP connections.
func (v *validator) tcpUpstream(p keyPath, name string) bool {
	if strings.Contains(name, "://") && v.ok(p) {
		v.fail(p, "declare it below `upstreams`, and write its name here", "%s is an origin", quote(name))
		return false
	}
	if !v.reference(p, name, "upstreams", v.config.Upstreams) || !v.ok(keyPath{"upstreams", name}) {
		return false
	}
	u := v.config.Upstreams[name]
	if len(u.Targets) == 0 && !v.hurt["upstreams."+name] {
		v.fail(p, "give it `targets`: a TCP connection names no address", "upstream %s has no targets of its own", quote(name))
		return false
	}
	if u.Balance.Algorithm == Hash && u.Balance.On != HashIP {
		v.warn(p, "say `balance: hash(ip)`", "upstream %s balances by %s, which TCP connections do not have", quote(name), u.Balance)
	}
	if u.Sticky.Enabled() {
		v.warn(p, "say `balance: hash(ip)`", "the sticky sessions of upstream %s have no effect here: no requests are read", quote(name))
	}
	return true
}

// tlsTwice warns about TLS within TLS.
func (v *validator) tlsTwice(p keyPath, name string) {
	for _, t := range v.config.Upstreams[name].Targets {
		if t.Scheme == HTTPS {
			v.warn(p, "write `http://` for targets that speak TLS with the client itself", "the client's TLS passes untouched, and %s wraps it in TLS once more", t)
			return
		}
	}
}
