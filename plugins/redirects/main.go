// redirects sends clients elsewhere: to https, to the right host, to where a page has moved. See README.md.
package main

import (
	"strings"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// maxLocation bounds what a client is sent to.
const maxLocation = kit.MaxText

// What is under way: these are no fresh ones, so that Go's garbage collector has nothing to do.
var (
	location = make([]byte, 0, 2*maxLocation)
	field    = [2]string{"location"}
	secure   = make([]byte, 0, 512) // host and port of https
	lowered  [256]byte
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func request(r *wasmgate.Request) wasmgate.Decision {
	path := r.Path()
	rule, ok := conf.find(path)
	if !ok {
		return wasmgate.Deny(414) // the expressions that such a path would have to be tried with are too many
	}
	scheme, authority, elsewhere := conf.place(r)
	if rule == nil && !elsewhere {
		return wasmgate.Continue
	}
	location = location[:0]
	status := conf.status
	switch {
	case rule != nil && rule.to.origin != "": // another place: it says itself where
		location = append(location, rule.to.origin...)
	case elsewhere:
		if !validAuthority(authority) {
			return wasmgate.Deny(400)
		}
		location = append(append(append(location, scheme...), "://"...), authority...)
	}
	keep := conf.keepQuery
	if rule == nil {
		location = encode(location, path, inPath)
	} else {
		status, keep = rule.status, rule.keepQuery
		location = rule.append(location, path)
	}
	if query := r.Query(); keep && query != "" {
		separator := byte('?')
		if rule != nil && rule.to.query != "" {
			separator = '&'
		}
		location = encode(append(location, separator), query, inQuery)
	}
	if rule != nil {
		location = append(location, rule.to.fragment...)
	}
	if len(location) > maxLocation {
		return wasmgate.Deny(414)
	}
	if isHere(r, location) {
		return wasmgate.Continue // or the client would go round in circles
	}
	field[1] = kit.View(location)
	return r.Respond(status, "", field[:]...)
}

// place is where the request should have gone: scheme and authority, and whether that is not where it went.
func (c *settings) place(r *wasmgate.Request) (scheme, authority string, elsewhere bool) {
	scheme, authority = schemeOf(r), r.Authority()
	host := r.Host()
	if to := c.canonical(host); to != "" && !kit.EqualFold(to, host) && !kit.EqualFold(to, authority) {
		authority, elsewhere = to, true
	}
	if c.https && scheme != "https" {
		if !elsewhere {
			secure = append(append(secure[:0], host...), c.port...)
			authority = kit.View(secure)
		}
		scheme, elsewhere = "https", true
	}
	return scheme, authority, elsewhere
}

// schemeOf is https also where a proxy in front of the gateway says so: who says it without one deceives nobody but himself.
func schemeOf(r *wasmgate.Request) string {
	if r.HeaderCount(forwarded) == 1 && kit.EqualFold(r.Header(forwarded), "https") {
		return "https"
	}
	return r.Scheme()
}

var forwarded = wasmgate.RequestHeader("x-forwarded-proto")

// canonical is the host that stands for another; "" if there is none.
func (c *settings) canonical(host string) string {
	if len(c.hosts)+len(c.domains) == 0 || len(host) > len(lowered) {
		return ""
	}
	b := lowered[:lower(lowered[:], host)]
	if to, ok := c.hosts[string(b)]; ok {
		return to
	}
	for i := 0; len(c.domains) > 0 && i < len(b); i++ {
		if b[i] == '.' {
			if to, ok := c.domains[string(b[i:])]; ok {
				return to
			}
		}
	}
	return c.others
}

// lower writes s to b, in lower case.
func lower(b []byte, s string) int {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	return len(s)
}

// validAuthority is what may stand in a Location that was made of what the client sent.
func validAuthority(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > ':') && c != '-' && c != '.' && c != '_' && c != '[' && c != ']' {
			return false
		}
	}
	return s != ""
}

// isHere says whether a location is where the request came to.
func isHere(r *wasmgate.Request, location []byte) bool {
	rest := kit.View(location)
	if after, ok := strings.CutPrefix(rest, schemeOf(r)+"://"); ok && len(after) >= len(r.Authority()) && kit.EqualFold(after[:len(r.Authority())], r.Authority()) {
		rest = after[len(r.Authority()):]
	}
	path, query, _ := strings.Cut(rest, "?")
	return path == r.Path() && query == r.Query()
}

func main() {} // never called: everything is registered in init
