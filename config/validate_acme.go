package config

import (
	"encoding/base64"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// mostACMENames bounds the names that certificates are obtained for: issuers give a few hundred in a week.
const mostACMENames = 1000

// sayAgree is how terms of service are agreed to.
const sayAgree = "read them, and say `acme: { agree: true }`; Let's Encrypt's are at https://letsencrypt.org/repository/"

// acme checks how certificates are obtained, and for which names.
func (v *validator) acme() {
	a, p := &v.config.ACME, keyPath{"acme"}
	v.existingFile(p.key("ca"), &a.CA)
	if q := p.key("email"); a.Email != "" && v.ok(q) {
		v.email(q, a.Email)
	}
	if q := p.key("directory"); v.ok(q) {
		v.directory(q, a.Directory)
	}
	if q := p.key("storage"); a.Storage != "" && v.ok(q) {
		a.Storage = v.source.resolve(a.Storage)
	}
	if q := p.key("renew_window"); v.ok(q) && (a.RenewWindow <= 0 || a.RenewWindow >= 1) {
		v.fail(q, "write a part of a certificate's life, as in 0.33", "a certificate would be renewed always, or never")
	}
	v.externalAccount(p.key("external_account"), &a.ExternalAccount)
	first, many := v.acmeNames()
	if many == 0 {
		if v.given(p) {
			v.warnKey(p, "has no effect: no listener has names below `tls.acme`")
		}
		return
	}
	if many > mostACMENames && !v.full() {
		v.fail(first, "issuers give a few hundred in a week: have them by other means, and name their files", "%d names in all, more than %d", many, mostACMENames)
	}
	if q := p.key("agree"); !a.Agree && v.ok(q) {
		if v.given(q) {
			v.fail(q, sayAgree, "the issuer gives certificates to those only who agree to its terms of service")
		} else {
			v.fail(first, sayAgree, "the issuer gives certificates to those only who agree to its terms of service")
		}
	}
	v.challenges(p.key("challenges"), a)
}

func (v *validator) email(p keyPath, s string) {
	bare := strings.TrimPrefix(s, "mailto:")
	at, err := mail.ParseAddress(bare)
	switch {
	case err != nil || at.Address != bare || !strings.Contains(bare[strings.LastIndexByte(bare, '@')+1:], "."):
		v.fail(p, "write it as in ops@example.com", "%s is not an e-mail address", quote(s))
	case bare != s:
		v.fail(p, "write `"+bare+"`", "%s is an URL", quote(s))
	}
}

func (v *validator) directory(p keyPath, s string) {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.Scheme == "https" && u.Host != "" && u.Fragment == "":
	case strings.Contains(strings.ToLower(s), "staging"):
		v.fail(p, "Let's Encrypt's for trying things out is https://acme-staging-v02.api.letsencrypt.org/directory", "%s is not the URL of a directory", quote(s))
	default:
		v.fail(p, "write a https:// URL, as in "+LetsEncrypt, "%s is not the URL of a directory", quote(s))
	}
}

// externalAccount checks the two parts of one. What is wrong with the key is said without it.
func (v *validator) externalAccount(p keyPath, e *ExternalAccount) {
	if (e.KeyID == "") != (e.MACKey == "") && !v.hurt[p.String()] {
		v.mention(v.keyAt(p), p, "key_id and mac_key belong together", "give both as the issuer did, or none")
	}
	if q := p.key("mac_key"); e.MACKey != "" && v.ok(q) {
		if _, err := base64.RawURLEncoding.DecodeString(e.MACKey); err != nil {
			v.fail(q, "write it as the issuer gave it: letters, digits, - and _", "is not base64url")
		}
	}
}

// acmeNames checks the names of all listeners. It says where the first of them stand, and how many there are.
func (v *validator) acmeNames() (first keyPath, many int) {
	seen := map[string]bool{}
	for i := range v.config.Listeners {
		l, p := &v.config.Listeners[i], keyPath{"listeners"}.index(i).key("tls").key("acme")
		if l.TLS == nil {
			continue
		}
		for n, name := range l.TLS.ACME {
			q := p.index(n)
			if first == nil {
				first = p
			}
			if !v.ok(q) {
				continue
			}
			l.TLS.ACME[n] = v.acmeName(q, name)
			if name = l.TLS.ACME[n]; slices.Contains(l.TLS.ACME[:n], name) && v.ok(q) {
				v.warn(q, "", "%s is in the list already", quote(name))
			}
			seen[name] = true
		}
	}
	return first, len(seen)
}

// acmeName checks a name that a certificate is to be obtained for, and returns it as it is compared.
func (v *validator) acmeName(p keyPath, s string) string {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	switch err := checkHost(strings.TrimPrefix(name, "*.")); {
	case strings.HasPrefix(name, "*"):
		v.fail(p, "write the names themselves; or have a certificate for them by other means, and name its files", "a certificate for %s wants a challenge by DNS, which is not spoken here", quote(s))
	case strings.Count(name, ":") == 1:
		v.fail(p, "leave the port out", "%s has a port", quote(s))
	case parsesAsAddress(strings.Trim(name, "[]")):
		v.fail(p, "write the name that clients ask for", "%s is an address: certificates are obtained for names", quote(s))
	case err != nil:
		v.failErr(p, err)
	case strings.Contains(name, "_"):
		v.fail(p, "a name of a server is labels of letters, digits and -", "no issuer gives a certificate for %s", quote(s))
	case !public(name) && strings.Contains(v.config.ACME.Directory, "api.letsencrypt.org"):
		v.fail(p, "name an issuer of your own in acme.directory, or the files of a certificate", "%s is a name of a network of one's own, for which a public issuer gives no certificate", quote(s))
	}
	return name
}

// public says whether a name may be one that everybody finds.
func public(name string) bool {
	for _, own := range []string{"localhost", "local", "internal", "home.arpa", "test", "invalid", "example"} {
		if name == own || strings.HasSuffix(name, "."+own) {
			return false
		}
	}
	return strings.Contains(name, ".")
}

// challenges fills in those that can be answered, where nothing is said, and warns where one is chosen that cannot.
func (v *validator) challenges(p keyPath, a *ACME) {
	if !v.ok(p) {
		return
	}
	plain, secure := v.listensAt(":80", false), v.listensAt(":443", true)
	if len(a.Challenges) == 0 {
		if plain || !secure {
			a.Challenges = append(a.Challenges, ChallengeHTTP01)
		}
		if secure || !plain {
			a.Challenges = append(a.Challenges, ChallengeTLSALPN01)
		}
		return
	}
	if slices.Contains(a.Challenges, ChallengeHTTP01) && !plain {
		v.warn(p, "add a listener without TLS at \":80\"; or see to it that port 80 of the names is forwarded to one", "http-01 has the issuer connect to port 80, and no listener is there")
	}
	if slices.Contains(a.Challenges, ChallengeTLSALPN01) && !secure {
		v.warn(p, "add a listener with TLS at \":443\"; or see to it that port 443 of the names is forwarded to one", "tls-alpn-01 has the issuer connect to port 443, and no listener with TLS is there")
	}
}

// listensAt says whether a listener for requests is at a port.
func (v *validator) listensAt(port string, secure bool) bool {
	return slices.ContainsFunc(v.config.Listeners, func(l Listener) bool {
		return l.Mode == ModeHTTP && strings.HasSuffix(l.Address, port) && (l.TLS != nil) == secure
	})
}
