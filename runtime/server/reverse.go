package server

import (
	"bytes"
	"net/netip"

	"wasmgate/runtime/http1"
)

// reversal says what an upstream's answer means for the client (Rewrite.Reverse): an upstream that does not know of the
// gateway tells clients to go to where the gateway found it, and gives them cookies for its own name and paths.
//
// What is mapped are URLs in Location, Content-Location, Refresh and URI, and Domain and Path of Set-Cookie. A URL is
// mapped if it is absolute (or begins with "//") and names the upstream itself, or is an absolute path, and its path is one
// that the route can have sent; scheme and authority become those that the client used. Everything else stays byte for
// byte as it is: another site's URL, one relative to the request, one that is malformed, one whose path no client could
// have asked this route for. So does a URL of another scheme than the upstream, or the client, is spoken to with: an upstream
// that sends clients from http to https means it.
type reversal struct {
	rewrite   *Rewrite
	ownScheme string // that the upstream is spoken to with
	scheme    string // that the client used
	client    []byte // the authority that the client asked for; empty: none
	sent      []byte // the one that the upstream was asked for
	host      string // that was resolved to connect, without a port
	address   netip.AddrPort
	others    []string // authorities of the upstream's other targets
}

// reverse maps the answer of w back.
func (s *Session) reverse(w *work, snap *Snapshot, r *Route) {
	x := &w.x
	v := reversal{rewrite: &r.Rewrite, ownScheme: "http", scheme: x.Client.Scheme, client: w.asked, sent: x.Request.Authority}
	if a := x.Attempt(); a != nil {
		v.host, v.address = a.Host, a.Address
		if a.TLS {
			v.ownScheme = "https"
		}
	}
	if x.Target.Upstream >= 0 {
		v.others = snap.Upstreams[x.Target.Upstream].Authorities
	}
	// By now the field is a trusted proxy's, or the gateway's own.
	if p, ok := x.Request.GetID(http1.FieldXForwardedProto); ok && http1.EqualFold(p, "https") {
		v.scheme = "https"
	}
	w.scratch = v.head(w.scratch, &x.Response.Head)
}

// head maps the fields of h, with scratch to work in, and returns that.
func (v *reversal) head(scratch []byte, h *http1.Head) []byte {
	for i := 0; i < h.Len(); i++ {
		ok := false
		b := scratch[:0]
		switch id := h.ID(i); {
		case id == http1.FieldLocation:
			b, ok = v.url(b, h.Value(i))
		case id == http1.FieldSetCookie:
			b, ok = v.cookie(b, h.Value(i))
		case id != http1.FieldUnknown:
			continue
		case http1.EqualFold(h.Name(i), "Content-Location"):
			b, ok = v.url(b, h.Value(i))
		case http1.EqualFold(h.Name(i), "Refresh"):
			b, ok = v.refresh(b, h.Value(i))
		case http1.EqualFold(h.Name(i), "URI"):
			b, ok = v.uri(b, h.Value(i))
		}
		scratch = b
		if ok {
			h.SetValue(i, b)
		}
	}
	return scratch
}

// url appends what u is for the client. Not ok: it stays as it is.
func (v *reversal) url(dst, u []byte) (out []byte, ok bool) {
	rest, absolute := u, true
	scheme := v.ownScheme
	switch {
	case len(u) > 1 && u[0] == '/' && u[1] == '/':
	case len(u) > 0 && u[0] == '/':
		absolute = false
	default:
		if scheme, rest = cutScheme(u); scheme == "" || scheme != v.ownScheme && scheme != v.scheme {
			return dst, false
		}
	}
	if absolute {
		rest = rest[2:]
		end := bytes.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if !http1.ValidAuthority(rest[:end]) || !v.owns(rest[:end], scheme) {
			return dst, false
		}
		rest = rest[end:]
	} else if v.rewrite.Path != nil || len(v.rewrite.StripPrefix)+len(v.rewrite.AddPrefix) == 0 {
		return dst, false
	}
	path, tail := rest, rest[len(rest):]
	if end := bytes.IndexAny(rest, "?#"); end >= 0 {
		path, tail = rest[:end], rest[end:]
	}
	if len(path) == 0 {
		path = rootPath
	}
	begin := len(dst)
	if absolute && len(v.client) > 0 {
		dst = v.appendOrigin(dst)
	}
	at := len(dst)
	if dst, ok = v.path(dst, path); !ok {
		return dst[:begin], false
	}
	if at == begin && startsElsewhere(dst[at:]) { // "/base//a.example" without its base would be another site's URL
		if len(v.client) == 0 {
			return dst[:begin], false
		}
		dst = v.appendOrigin(dst[:begin])
		dst, _ = v.path(dst, path)
	}
	return append(dst, tail...), true
}

var rootPath = []byte("/")

// cutScheme returns http or https if u is an absolute URL with that scheme, and what follows from "//" on.
func cutScheme(u []byte) (scheme string, rest []byte) {
	colon := bytes.IndexByte(u, ':')
	if colon < 0 || len(u) < colon+3 || u[colon+1] != '/' || u[colon+2] != '/' {
		return "", nil
	}
	switch {
	case http1.EqualFold(u[:colon], "http"):
		return "http", u[colon+1:]
	case http1.EqualFold(u[:colon], "https"):
		return "https", u[colon+1:]
	}
	return "", nil
}

func (v *reversal) appendOrigin(dst []byte) []byte {
	return append(append(append(dst, v.scheme...), "://"...), v.client...)
}

// startsElsewhere says whether browsers take the path for the URL of another site.
func startsElsewhere(p []byte) bool { return len(p) > 1 && (p[1] == '/' || p[1] == '\\') }

// path appends the path by which clients reach the upstream's path p. Not ok: by none. A rewrite with captures has no
// inverse; then the path stays.
func (v *reversal) path(dst, p []byte) ([]byte, bool) {
	rw := v.rewrite
	if rw.Path != nil {
		return append(dst, p...), true
	}
	back := Rewrite{StripPrefix: rw.AddPrefix, AddPrefix: rw.StripPrefix}
	if base := rw.AddPrefix; len(base) > 0 {
		slash := base[len(base)-1] == '/'
		switch {
		case bytes.HasPrefix(p, base) && (slash || len(p) == len(base) || p[len(base)] == '/'):
		case slash && string(p) == string(base[:len(base)-1]):
			p = base
		default:
			return dst, false
		}
	}
	return append(dst, rewritePrefix(dst[len(dst):], p, &back)...), true // which looks at what it appends to
}

// owns says whether the authority, of a URL with this scheme, is the upstream.
func (v *reversal) owns(authority []byte, scheme string) bool {
	host, port := cutPort(authority, scheme)
	if h, p := cutPort(v.sent, scheme); len(h) > 0 && p == port && http1.EqualFold(h, host) {
		return true
	}
	if port == v.address.Port() && v.connectedTo(host) {
		return true
	}
	for _, o := range v.others {
		if h, p := cutPort(o, scheme); p == port && http1.EqualFold(h, host) {
			return true
		}
	}
	return false
}

// connectedTo says whether host is the name, or the address, that the upstream was reached by.
func (v *reversal) connectedTo(host []byte) bool {
	var text [64]byte
	return v.host != "" && http1.EqualFold(host, v.host) || v.address.IsValid() && http1.EqualFold(host, v.address.Addr().AppendTo(text[:0]))
}

// cutPort takes a valid authority apart: the host, without brackets, and the port, which may be the scheme's.
func cutPort[T ~string | ~[]byte](a T, scheme string) (host T, port uint16) {
	port = 80
	if scheme == "https" {
		port = 443
	}
	end := len(a)
	for i := len(a) - 1; i >= 0 && a[i] != ']'; i-- {
		if a[i] == ':' {
			end, port = i, 0
			for _, c := range []byte(a[i+1:]) {
				port = port*10 + uint16(c-'0')
			}
			break
		}
	}
	if host = a[:end]; end > 1 && host[0] == '[' {
		host = host[1 : end-1]
	}
	return host, port
}

// refresh maps the URL of a Refresh field: a number, then ';' or ',', then a URL, mostly behind "url=" and perhaps in
// quotes.
func (v *reversal) refresh(dst, b []byte) ([]byte, bool) {
	i := 0
	for i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] == '.' || isBlank(b[i])) {
		i++
	}
	if i == 0 || i == len(b) || b[i] != ';' && b[i] != ',' {
		return dst, false
	}
	i = skipBlanks(b, i+1)
	if len(b) >= i+3 && http1.EqualFold(b[i:i+3], "url") {
		if j := skipBlanks(b, i+3); j < len(b) && b[j] == '=' {
			i = skipBlanks(b, j+1)
		}
	}
	end := len(b)
	if i < end && (b[i] == '"' || b[i] == '\'') {
		if n := bytes.IndexByte(b[i+1:], b[i]); n >= 0 {
			end = i + 1 + n
		}
		i++
	}
	return v.within(dst, b, i, end)
}

// uri maps the URL of a URI field, perhaps in angle brackets.
func (v *reversal) uri(dst, b []byte) ([]byte, bool) {
	if end := bytes.IndexByte(b, '>'); end > 0 && b[0] == '<' {
		return v.within(dst, b, 1, end)
	}
	return v.url(dst, b)
}

// within appends b with the URL that lies from i to end mapped.
func (v *reversal) within(dst, b []byte, i, end int) ([]byte, bool) {
	begin := len(dst)
	out, ok := v.url(append(dst, b[:i]...), b[i:end])
	if !ok {
		return out[:begin], false
	}
	return append(out, b[end:]...), true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func skipBlanks(b []byte, i int) int {
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	return i
}

// cookie maps Domain and Path of a cookie. Not ok: it stays as it is.
func (v *reversal) cookie(dst, c []byte) (out []byte, changed bool) {
	pair, rest, more := bytes.Cut(c, semicolon)
	fixed := hostCookie(pair)
	dst = append(dst, pair...)
	for more {
		var attribute []byte
		attribute, rest, more = bytes.Cut(rest, semicolon)
		begin := len(dst)
		dst = append(dst, ';')
		name, value, _ := bytes.Cut(attribute, equals)
		name, value = trim(name), trim(value)
		ok := false
		switch {
		case http1.EqualFold(name, "Domain") && len(value) > 0:
			var drop bool
			if dst, drop, ok = v.domain(dst, value); drop {
				dst, changed = dst[:begin], true
				continue
			}
		case http1.EqualFold(name, "Path") && !fixed && len(value) > 0 && value[0] == '/':
			dst, ok = v.cookiePath(dst, value)
		}
		if !ok {
			dst = append(dst, attribute...)
		}
		changed = changed || ok
	}
	return dst, changed
}

var semicolon, equals = []byte(";"), []byte("=")

// hostCookie says whether a cookie's name demands that it has the path "/" (RFC 6265bis section 4.1.3.2): with another,
// browsers would refuse it.
func hostCookie(pair []byte) bool {
	const prefix = "__Host-"
	pair = trim(pair)
	return len(pair) >= len(prefix) && http1.EqualFold(pair[:len(prefix)], prefix)
}

// domain appends the Domain attribute for the client, if it was the upstream's own host. drop: leave it out, since the
// client knows the gateway by no name; the cookie is then for the host that set it, which is the gateway.
func (v *reversal) domain(dst, d []byte) (out []byte, drop, ok bool) {
	if d[0] == '.' {
		d = d[1:]
	}
	sent, _ := cutPort(v.sent, "")
	own := len(sent) > 0 && http1.EqualFold(sent, d) || v.connectedTo(d)
	for _, o := range v.others {
		h, _ := cutPort(o, "")
		own = own || http1.EqualFold(h, d)
	}
	host, _ := cutPort(v.client, "")
	switch {
	case !own || http1.EqualFold(host, d):
		return dst, false, false
	case !isName(host):
		return dst, true, false
	}
	return append(append(dst, " Domain="...), host...), false, true
}

// isName says whether a host is a name: addresses end with a digit or have a colon, and top-level domains do neither.
func isName(host []byte) bool {
	n := len(host)
	return n > 0 && bytes.IndexByte(host, ':') < 0 && (host[n-1] < '0' || host[n-1] > '9')
}

// cookiePath appends the Path attribute for the client. The path has no slash at its end then: "/app/" would not hold for
// a request for "/app".
func (v *reversal) cookiePath(dst, p []byte) ([]byte, bool) {
	if v.rewrite.Path != nil || len(v.rewrite.StripPrefix)+len(v.rewrite.AddPrefix) == 0 {
		return dst, false
	}
	begin := len(dst)
	dst = append(dst, " Path="...)
	at := len(dst)
	dst, ok := v.path(dst, p)
	if !ok {
		return dst[:begin], false
	}
	if len(dst) > at+1 && dst[len(dst)-1] == '/' && (len(p) == 1 || p[len(p)-1] != '/') {
		dst = dst[:len(dst)-1]
	}
	return dst, true
}
