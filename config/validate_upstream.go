package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (v *validator) upstreams() {
	for _, name := range mapKeys(v.config.Upstreams) {
		p := keyPath{"upstreams", name}
		v.name(p, name)
		v.upstream(p, v.config.Upstreams[name])
	}
}

func (v *validator) upstream(p keyPath, u *Upstream) {
	if len(u.Targets) == 0 && !u.Dynamic.Enabled() && !v.hurt[p.String()] {
		v.mention(v.keyAt(p), p, "has no targets", "give it `targets: [\"http://host:port\"]`, or `dynamic.allow` if the address comes from the request")
	}
	https := u.Dynamic.Enabled() && u.Dynamic.Scheme == HTTPS
	for i, t := range u.Targets {
		https = https || t.Scheme == HTTPS
		if slices.Contains(u.Targets[:i], t) && !v.hurt[p.key("targets").String()] {
			v.warn(p.key("targets").index(i), "", "%s is in the list already: it gets more turns than the others", t)
		}
	}
	if pool := p.key("pool"); u.Pool.MaxConnections > 0 && u.Pool.KeepIdle > u.Pool.MaxConnections {
		v.warn(pool.key("keep_idle"), "", "%d idle connections are more than max_connections (%d) allows", u.Pool.KeepIdle, u.Pool.MaxConnections)
	}
	if u.DNS.MinTTL > u.DNS.MaxTTL {
		v.mention(v.keyAt(p.key("dns")), p.key("dns"), fmt.Sprintf("min_ttl (%s) is more than max_ttl (%s)", u.DNS.MinTTL, u.DNS.MaxTTL), "give both, the smaller one as min_ttl")
	}
	if s := u.DNS.Server; s != "" && v.ok(p.key("dns").key("server")) {
		if err := checkDNSServer(s); err != nil {
			v.failErr(p.key("dns").key("server"), err)
		}
	}
	v.hostPolicy(p.key("host"), u.Host)
	v.tls(p.key("tls"), &u.TLS, https)
}

func checkDNSServer(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return nil
	}
	return helped{quote(s) + " is not the address of a name server", "write an IP address with or without a port, as in 10.0.0.53 or 10.0.0.53:5353"}
}

func (v *validator) tls(p keyPath, t *TLS, https bool) {
	v.existingFile(p.key("ca"), &t.CA)
	v.existingFile(p.key("cert"), &t.Cert)
	v.existingFile(p.key("key"), &t.Key)
	if (t.Cert == "") != (t.Key == "") {
		v.mention(v.keyAt(p), p, "cert and key belong together", "give both, or none")
	}
	if t.ServerName != "" && v.ok(p.key("server_name")) {
		if err := checkHost(t.ServerName); err != nil {
			v.failErr(p.key("server_name"), err)
		}
	}
	if t.InsecureSkipVerify {
		v.warn(p.key("insecure_skip_verify"), "trust the certificate's authority with `tls.ca` instead", "whoever is between the gateway and the upstream can read and change everything")
	}
	if *t != (TLS{}) && !https {
		v.warn(p, "write `https://` targets", "has no effect: no target speaks https")
	}
}

// hostPolicy checks a Host field; the empty one is that of a route that says nothing.
func (v *validator) hostPolicy(p keyPath, h HostPolicy) {
	if h == "" || h == HostPreserve || h == HostUpstream || !v.ok(p) {
		return
	}
	if _, _, err := splitAuthority(string(h)); err != nil {
		v.failErr(p, err)
		return
	}
	if near := nearest(string(h), []string{string(HostPreserve), string(HostUpstream)}); near != "" {
		v.warn(p, "did you mean `"+near+"`?", "%s is sent as the Host field, as it is", quote(string(h)))
	}
}

func (v *validator) plugins() {
	for _, name := range mapKeys(v.config.Plugins) {
		p, g := keyPath{"plugins", name}, v.config.Plugins[name]
		v.name(p, name)
		if g.Module == "" && v.ok(p) {
			v.fail(p.key("module"), "write the path of a .wasm file", "is empty")
		}
		v.existingFile(p.key("module"), &g.Module)
		v.references(p.key("upstreams"), g.Upstreams, "upstreams", v.config.Upstreams, true)
		v.dynamicGrant(p.key("dynamic"), g.Dynamic)
		for i, e := range g.Env {
			if !envName(e) {
				v.fail(p.key("env").index(i), "a name is letters, digits and _", "%s is not the name of an environment variable", quote(e))
			}
		}
	}
}

// dynamicGrant checks the upstream through which a plugin may choose addresses.
func (v *validator) dynamicGrant(p keyPath, name string) {
	if name == "" {
		return
	}
	if v.reference(p, name, "upstreams", v.config.Upstreams) {
		u := v.config.Upstreams[name]
		if q := (keyPath{"upstreams", name, "dynamic"}); !u.Dynamic.Enabled() && v.ok(q) {
			v.fail(p, fmt.Sprintf("give `upstreams.%s.dynamic.allow` the addresses that may be chosen", name), "upstream %s allows no dynamic addresses", quote(name))
		}
	}
}

// segmentPrefix says whether prefix covers path on a segment boundary: /app covers /app and /app/x, not /apple.
func segmentPrefix(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}
