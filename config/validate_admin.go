package config

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// leastToken is how long a token must be: who can try a thousand in a second shall not find it.
const leastToken = 16

func (v *validator) admin() {
	a, p := &v.config.Admin, keyPath{"admin"}
	t := p.key("tls")
	v.existingFile(p.key("token_file"), &a.TokenFile)
	v.existingFile(t.key("cert"), &a.TLS.Cert)
	v.existingFile(t.key("key"), &a.TLS.Key)
	v.existingFile(t.key("client_ca"), &a.TLS.ClientCA)
	if (a.TLS.Cert == "") != (a.TLS.Key == "") {
		v.mention(v.keyAt(t), t, "cert and key belong together", "give both, or none")
	} else if a.TLS.ClientCA != "" && a.TLS.Cert == "" {
		v.mention(v.keyAt(t), t, "client_ca wants cert and key too", "clients show their certificates over TLS only: give the endpoint a certificate of its own")
	}
	if a.Token != "" {
		v.token(p.key("token"), a.Token)
	}
	if a.Jaeger != "" {
		v.page(p.key("jaeger"), a.Jaeger)
	}
	if a.Address == "" {
		return
	}
	q := p.key("address")
	v.listen(q, a.Address)
	if !v.ok(q) || a.Loopback() {
		return
	}
	switch guarded := a.Guarded(); {
	case !guarded:
		v.fail(q, "set admin.token or admin.token_file, or admin.tls with client_ca; or keep it on 127.0.0.1 and reach it by ssh -L",
			"everyone who can reach %s could see and change everything", quote(a.Address))
	case a.TLS.Cert == "":
		v.warn(q, "give admin.tls a cert and a key, or let only a proxy that speaks TLS reach it", "whoever is on the way to %s can read the token", quote(a.Address))
	}
}

// page checks the address of a page.
func (v *validator) page(p keyPath, address string) {
	u, err := url.Parse(address)
	if v.ok(p) && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
		v.fail(p, "write it as in http://localhost:16686", "%s is not the address of a page", quote(address))
	}
}

// token checks a token; what is wrong with it is said without it.
func (v *validator) token(p keyPath, token string) {
	if !v.ok(p) {
		return
	}
	if err := CheckToken(token); err != nil {
		v.failErr(p, err)
	}
}

// CheckToken says what is wrong with a token for the endpoint for operators, without quoting it.
func CheckToken(token string) error {
	switch {
	case len(token) < leastToken:
		return helped{"is too short to be secret", "write at least 16 characters, as `openssl rand -hex 32` does"}
	case len(token) > 4096:
		return helped{"is too long", "a field of a request has to have room for it: write at most 4096 characters"}
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return helped{"has a character that cannot be sent", "write letters, digits and signs, without spaces"}
	}
	return nil
}

// Loopback says whether the address is one that only the machine itself reaches.
func (a *Admin) Loopback() bool {
	host, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Guarded says whether there is something to know who may ask by.
func (a *Admin) Guarded() bool { return a.Token != "" || a.TokenFile != "" || a.TLS.ClientCA != "" }
