package config

import (
	"net/netip"
	"slices"
	"strings"
)

// listenerTLS checks how a listener speaks TLS.
func (v *validator) listenerTLS(p keyPath, t *ListenerTLS) {
	list := p.key("certificates")
	if len(t.Certificates)+len(t.ACME) == 0 && v.ok(list) && v.ok(p.key("acme")) && !v.hurt[p.String()] {
		v.mention(v.keyAt(p), p, "has no certificates", "write `certificates: [{cert: FILE.pem, key: FILE.key}]`, or the names in `acme`")
	}
	first := -1
	for i := range t.Certificates {
		c, q := &t.Certificates[i], list.index(i)
		v.existingFile(q.key("cert"), &c.Cert)
		v.existingFile(q.key("key"), &c.Key)
		v.serverNames(q.key("names"), c.Names)
		if c.Default && first >= 0 {
			v.fail(q.key("default"), "remove one of them", "certificates[%d] is the default already", first)
		} else if c.Default {
			first = i
		}
	}
	v.existingFile(p.key("client_ca"), &t.ClientCA)
	v.clientCertificates(p, t)
	if alpn := p.key("alpn"); len(t.ALPN) == 0 && v.given(alpn) && v.ok(alpn) {
		v.fail(alpn, "leave it out, or name a protocol", "is empty")
	}
	if t.Profile == TLSStrict {
		if t.MinVersion == TLS12 {
			v.idle(p, "remove it", "profile: strict speaks TLS 1.3 only", "min_version")
		}
		t.MinVersion = TLS13
	}
}

// serverNames checks the names that a certificate is shown for.
func (v *validator) serverNames(p keyPath, names []string) {
	for i, name := range names {
		q := p.index(i)
		if !v.ok(q) {
			continue
		}
		if name == "*" {
			v.fail(q, "say `default: true` for every name", "`*` is not a name")
			continue
		}
		names[i] = v.matchHost(q, name)
	}
}

// clientCertificates checks what is said about those of clients.
func (v *validator) clientCertificates(p keyPath, t *ListenerTLS) {
	switch {
	case v.hurt[p.String()]:
	case t.ClientAuth == ClientAuthOff && t.ClientCA != "":
		v.mention(v.keyAt(p.key("client_ca")), p.key("client_ca"), "means nothing with client_auth: off", "say `client_auth: require`, or `request`")
	case t.ClientAuth != ClientAuthOff && t.ClientCA == "":
		v.mention(v.keyAt(p.key("client_auth")), p.key("client_auth"), "wants client_ca", "name the file with the authorities of your clients: those of the public would let anybody in")
	case t.ClientAuth == ClientAuthOff:
		v.idle(p, "say `client_auth: require`, or `request`", "no client is asked for a certificate", "client_headers")
	}
	seen := map[string]bool{}
	for _, f := range []struct{ key, name string }{
		{"subject", t.ClientHeaders.Subject}, {"issuer", t.ClientHeaders.Issuer}, {"serial", t.ClientHeaders.Serial},
		{"names", t.ClientHeaders.Names}, {"fingerprint", t.ClientHeaders.Fingerprint},
		{"certificate", t.ClientHeaders.Certificate}, {"forwarded", t.ClientHeaders.Forwarded},
	} {
		q := p.key("client_headers").key(f.key)
		if f.name == "" || !v.ok(q) {
			continue
		}
		v.fieldName(q, f.name, unchangeableRequest)
		if name := strings.ReplaceAll(strings.ToLower(f.name), "_", "-"); v.ok(q) && seen[name] {
			v.fail(q, "give each a field of its own", "%s has another fact already", quote(f.name))
		} else {
			seen[name] = true
		}
	}
}

// redirects checks where listeners send their clients, once all of them are known.
func (v *validator) redirects() {
	for i := range v.config.Listeners {
		l, p := &v.config.Listeners[i], keyPath{"listeners"}.index(i)
		if !l.RedirectHTTPS {
			v.idle(p, "say `redirect_https: true`", "nothing is redirected", "redirect_port")
			continue
		}
		q := p.key("redirect_https")
		if l.TLS != nil {
			v.fail(q, "say it in the listener of cleartext HTTP", "this listener speaks TLS itself")
			continue
		}
		if l.RedirectPort != 0 || !v.ok(q) {
			continue
		}
		switch ports := v.securePorts(); {
		case len(ports) == 0:
			v.warn(q, "say `redirect_port` if another process answers there", "no listener speaks TLS: clients are sent to port 443")
			l.RedirectPort = 443
		case slices.Contains(ports, 443):
			l.RedirectPort = 443
		case len(ports) == 1:
			l.RedirectPort = ports[0]
		default:
			v.fail(q, "say `redirect_port`", "several listeners speak TLS, and none of them on port 443")
		}
	}
}

// securePorts are the ports of the listeners with TLS.
func (v *validator) securePorts() (ports []int) {
	for i := range v.config.Listeners {
		l := &v.config.Listeners[i]
		if l.TLS == nil || l.Mode != ModeHTTP {
			continue
		}
		if a, err := netip.ParseAddrPort("[::]" + l.Address[max(0, strings.LastIndexByte(l.Address, ':')):]); err == nil && a.Port() != 0 && !slices.Contains(ports, int(a.Port())) {
			ports = append(ports, int(a.Port()))
		}
	}
	return ports
}
