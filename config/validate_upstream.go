package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
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
	for _, t := range u.Targets {
		https = https || t.Scheme == HTTPS
	}
	if !v.hurt[p.key("targets").String()] {
		v.targets(p, u)
	}
	v.sticky(p.key("sticky"), u)
	v.passive(p.key("health").key("passive"), &u.Health.Passive)
	v.active(p.key("health").key("active"), &u.Health.Active, u.Protocol)
	v.retries(p, u)
	v.pool(p, u)
	v.protocols(p, u)
	v.dns(p.key("dns"), &u.DNS)
	v.hostPolicy(p.key("host"), u.Host)
	v.tls(p.key("tls"), &u.TLS, https)
}

// pool checks how connections are kept.
func (v *validator) pool(p keyPath, u *Upstream) {
	o, queue := &u.Pool, p.key("queue")
	p = p.key("pool")
	if o.MaxConnections > 0 && o.KeepIdle > o.MaxConnections {
		v.warn(p.key("keep_idle"), "", "%d idle connections are more than max_connections (%d) allows", o.KeepIdle, o.MaxConnections)
	}
	if o.MaxConnections > 0 && o.MinIdle > o.MaxConnections && v.ok(p.key("min_idle")) && v.ok(p.key("max_connections")) {
		v.fail(p.key("min_idle"), "raise max_connections, or lower min_idle", "%d idle connections are more than max_connections (%d) allows", o.MinIdle, o.MaxConnections)
	}
	switch {
	case o.MinIdle == 0:
		v.idle(p, "say `pool.min_idle`", "min_idle is 0", "ready")
	case o.Reuse == ReuseNever:
		v.idle(p, "say `pool.reuse: always`", "reuse is never", "min_idle")
	case u.ProxyProtocol != ProxyProtocolOff:
		v.idle(p, "", "with proxy_protocol a connection is opened for one client, not ahead", "min_idle")
	}
	if o.Ping != PingExpectContinue {
		v.idle(p, "say `pool.ping: expect_continue`", "ping is "+string(o.Ping), "ping_timeout")
	}
	if u.Queue.Max == 0 {
		const because = "queue.max is 0, so that no request waits"
		v.idle(p, "say `queue.max`", because, "acquire_timeout")
		v.idle(queue, "say `queue.max`", because, "timeout")
	}
	if o.MaxAge == 0 {
		v.idle(p, "say `pool.max_age`", "max_age is 0s", "max_age_jitter")
	}
}

// protocols checks what is spoken against what else is wanted.
func (v *validator) protocols(p keyPath, u *Upstream) {
	if q := p.key("pool").key("ping"); u.Protocol == ProtocolHTTP10 && u.Pool.Ping == PingExpectContinue && v.ok(q) {
		v.fail(q, "say `pool.ping: socket`", "HTTP/1.0 has no Expect: 100-continue")
	}
	if u.Protocol == ProtocolHTTP2 {
		v.http2(p, u)
	}
	if q := p.key("grpc_web"); u.GRPCWeb && u.Protocol != ProtocolHTTP2 && v.ok(q) {
		v.fail(q, "say `protocol: http2`", "gRPC needs an upstream of HTTP/2")
	}
	if q := p.key("proxy_protocol"); u.ProxyProtocol != ProxyProtocolOff && v.ok(q) && !v.given(p.key("pool").key("reuse")) && (v.httpUpstreams()[p[1]] || v.http["*"]) {
		v.warn(q, "say `pool.reuse: always` to show that this is meant, or `never`", "a connection that begins with a client's address is reused for that client's connection only")
	}
}

// http2 checks what makes no sense where many requests use a connection at a time.
func (v *validator) http2(p keyPath, u *Upstream) {
	if q := p.key("pool").key("ping"); u.Pool.Ping == PingExpectContinue && v.ok(q) {
		v.fail(q, "say `pool.ping: socket`", "HTTP/2 says itself which requests were not acted upon, and are sent again")
	}
	if n, loops := u.Pool.MaxConnections, v.config.Loops; n > 0 && n < loops {
		v.warn(p.key("pool").key("max_connections"), "give at least as many as loops", "connections of HTTP/2 stay on their loop: with %d for %d loops requests wait for those of other loops to become idle", n, loops)
	}
	if q := p.key("hedge").key("after"); u.Hedge.After > 0 && v.ok(q) {
		v.fail(q, "remove it, or say `protocol: http1.1`", "there is no hedging of requests to an upstream of HTTP/2")
	}
}

// httpUpstreams are the upstreams that routes or plugins may send requests to; "*" stands for all.
func (v *validator) httpUpstreams() map[string]bool {
	if v.http != nil {
		return v.http
	}
	v.http = map[string]bool{}
	for i := range v.config.Routes {
		v.http[v.config.Routes[i].Upstream] = true
	}
	for _, g := range v.config.Plugins {
		v.http[g.Dynamic] = true
		for _, name := range slices.Concat(g.Upstreams, g.Calls) {
			v.http[name] = true
		}
	}
	return v.http
}

// dns checks how names become addresses.
func (v *validator) dns(p keyPath, d *DNS) {
	if d.MinTTL > d.MaxTTL {
		v.mention(v.keyAt(p), p, fmt.Sprintf("min_ttl (%s) is more than max_ttl (%s)", d.MinTTL, d.MaxTTL), "give both, the smaller one as min_ttl")
	}
	if d.Jitter > 0.5 && v.ok(p.key("jitter")) {
		v.fail(p.key("jitter"), "write 0.5 or less", "%v is more than half of the TTL", float64(d.Jitter))
	}
	if d.Server == "" || !v.ok(p.key("server")) {
		return
	}
	if err := checkDNSServer(d.Server); err != nil {
		v.failErr(p.key("server"), err)
	}
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

func (v *validator) tls(p keyPath, t *UpstreamTLS, https bool) {
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
	for i, pin := range t.Pin {
		if q := p.key("pin").index(i); v.ok(q) && !isPin(pin) {
			v.fail(q, "write sha256/ and 44 letters of base64: `openssl x509 -pubkey -noout -in cert.pem | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`", "%s is not a pin", quote(pin))
		}
	}
	if t.InsecureSkipVerify && len(t.Pin) == 0 {
		v.warn(p.key("insecure_skip_verify"), "trust the certificate's authority with `tls.ca` instead, or its key with `tls.pin`", "whoever is between the gateway and the upstream can read and change everything")
	}
	if !https && !reflect.DeepEqual(*t, DefaultUpstream().TLS) {
		v.warn(p, "write `https://` targets", "has no effect: no target speaks https")
	}
}

// isPin says whether a text is a pinned key.
func isPin(s string) bool {
	digest, ok := strings.CutPrefix(s, "sha256/")
	b, err := base64.StdEncoding.DecodeString(digest)
	return ok && err == nil && len(b) == 32
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
		if v.ok(p) {
			v.modulePath(p.key("module"), &g.Module)
		}
		v.references(p.key("upstreams"), g.Upstreams, "upstreams", v.config.Upstreams, true)
		v.references(p.key("calls"), g.Calls, "upstreams", v.config.Upstreams, true)
		for i, store := range g.State {
			v.name(p.key("state").index(i), store)
		}
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
