package http1

import "bytes"

// splitTarget takes the target apart by its form.
func (r *Request) splitTarget() *problem {
	t := r.Target
	switch {
	case string(r.Method) == "CONNECT":
		return r.authorityForm(t)
	case t[0] == '/':
		r.Form = Origin
		return r.pathAndQuery(t)
	case len(t) == 1 && t[0] == '*' && string(r.Method) == "OPTIONS":
		r.Form, r.Path = Asterisk, t
		return nil
	}
	return r.absoluteForm(t)
}

func (r *Request) authorityForm(t []byte) *problem {
	colon := bytes.LastIndexByte(t, ':')
	if !ValidAuthority(t) || colon < 0 || t[len(t)-1] == ']' {
		return badTarget
	}
	r.Form = Authority
	r.takeAuthority(t)
	return nil
}

// absoluteForm takes scheme, authority, path and query out of a target with a scheme. Its authority wins over Host.
func (r *Request) absoluteForm(t []byte) *problem {
	colon := bytes.IndexByte(t, ':')
	if colon <= 0 || len(t) < colon+3 || t[colon+1] != '/' || t[colon+2] != '/' {
		return badTarget
	}
	if s := t[:colon]; !EqualFold(s, "http") && !EqualFold(s, "https") {
		return badScheme
	}
	a := t[colon+3:]
	end := bytes.IndexAny(a, "/?")
	if end < 0 {
		end = len(a)
	}
	if !ValidAuthority(a[:end]) {
		return badHost
	}
	r.Form, r.Scheme = Absolute, t[:colon]
	r.takeAuthority(a[:end:end])
	rest := a[end:]
	switch {
	case len(rest) == 0 && string(r.Method) == "OPTIONS": // RFC 9112 section 3.2.4
		r.setPath("*")
		return nil
	case len(rest) == 0 || rest[0] == '?':
		r.setPath("/")
		if len(rest) > 0 {
			r.query, r.hasQuery = rest[1:], true
		}
		return nil
	}
	return r.pathAndQuery(rest)
}

// pathAndQuery takes a target that begins with '/' apart, and resolves dot segments.
func (r *Request) pathAndQuery(t []byte) *problem {
	path := t
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		path, r.query, r.hasQuery = t[:q:q], t[q+1:], true
	}
	start := len(r.buf)
	clean, p := cleanPath(r.buf, path)
	if p != nil {
		return p
	}
	if r.Path = path; clean != nil {
		r.buf = clean
		r.Path = clean[start:len(clean):len(clean)]
	}
	return nil
}

// takeAuthority makes a, a view of the storage, the authority, also for whoever reads Host.
func (r *Request) takeAuthority(a []byte) {
	r.Authority = a
	if i := r.FindID(0, FieldHost); i >= 0 && string(r.Value(i)) != string(a) {
		r.SetValue(i, a)
	}
}

// keep copies s into the storage.
func keep[T text](h *Head, s T) []byte {
	start := len(h.buf)
	h.buf = append(h.buf, s...)
	return h.buf[start:len(h.buf):len(h.buf)]
}

func (r *Request) setPath(p string) { r.Path = keep(&r.Head, p) }

// SetMethod changes the method to a copy of m, which must be valid (ValidMethod).
func (r *Request) SetMethod(m []byte) { r.Method = keep(&r.Head, m) }

// SetAuthority changes the authority to a copy of a, which must be valid (ValidAuthority) or empty, and the Host field
// with it, if there is one.
func (r *Request) SetAuthority(a []byte) { r.takeAuthority(keep(&r.Head, a)) }

// SetPath changes the path to a copy of p, which must be valid (ValidPath; CleanPath makes it so).
func (r *Request) SetPath(p []byte) { r.Path = keep(&r.Head, p) }

// SetQuery changes the query to a copy of q, which must be valid (ValidQuery) and is without the '?'. An empty one
// stays a query: "/path?". See DelQuery.
func (r *Request) SetQuery(q []byte) { r.query, r.hasQuery = keep(&r.Head, q), true }

// DelQuery takes the query away, and its '?'.
func (r *Request) DelQuery() { r.query, r.hasQuery = nil, false }

// ValidAuthority says whether a is a host with an optional port, as Host has it: a name of letters, digits and "-._~", an
// IPv4 address, or an IPv6 address in brackets; a port from 0 to 65535. Users, percent-encodings, zones and an empty port
// are refused: nobody has an honest use for them here.
func ValidAuthority[T text](a T) bool {
	i := 0
	if len(a) > 0 && a[0] == '[' {
		for i < len(a) && a[i] != ']' {
			i++
		}
		if i == len(a) || !validIPv6(a[1:i]) {
			return false
		}
		i++
	} else {
		for i < len(a) && class[a[i]]&host != 0 {
			i++
		}
		if i == 0 {
			return false
		}
	}
	return i == len(a) || a[i] == ':' && validPort(a[i+1:])
}

func validPort[T text](p T) bool {
	if len(p) > 5 || !all(p, digit) {
		return false
	}
	n := 0
	for i := 0; i < len(p); i++ {
		n = n*10 + int(p[i]-'0')
	}
	return n <= 65535
}

// validIPv6 says whether a is an IPv6 address, RFC 4291 section 2.2.
func validIPv6[T text](a T) bool {
	groups, gap, i := 0, false, 0
	if len(a) >= 2 && a[0] == ':' && a[1] == ':' {
		gap, i = true, 2
	}
	for i < len(a) {
		start := i
		for i < len(a) && class[a[i]]&hex != 0 {
			i++
		}
		if i < len(a) && a[i] == '.' {
			if !validIPv4(a[start:]) {
				return false
			}
			groups += 2
			break
		}
		if i == start || i-start > 4 {
			return false
		}
		groups++
		if i == len(a) {
			break
		}
		if a[i] != ':' || i+1 == len(a) {
			return false
		}
		if i++; a[i] == ':' {
			if gap {
				return false
			}
			gap = true
			i++
		}
	}
	return groups == 8 && !gap || groups < 8 && gap
}

func validIPv4[T text](a T) bool {
	i := 0
	for part := range 4 {
		if part > 0 {
			if i >= len(a) || a[i] != '.' {
				return false
			}
			i++
		}
		start, n := i, 0
		for i < len(a) && class[a[i]]&digit != 0 && i-start < 3 {
			n = n*10 + int(a[i]-'0')
			i++
		}
		if i == start || n > 255 || i-start > 1 && a[start] == '0' {
			return false
		}
	}
	return i == len(a)
}
