package http1

import "wasmgate/runtime/fault"

var (
	badLowerName  = misframed("a field name that is not one in lower case")
	badFieldValue = misframed("a field value with control characters, or white space around it")
	badHopField   = misframed("a field about the connection, of which HTTP/2 and HTTP/3 know none")
	badFraming    = misframed("a Content-Length that is not that of the body")
	badNoPath     = misframed("a request without a path")
	badHostOther  = malformed("a Host that is not the :authority")
	badExtended   = malformed("a CONNECT with a path that does not begin with '/'")
)

// misframed is what makes a message of HTTP/2 or HTTP/3 malformed: it is not answered, its stream is reset.
func misframed(detail string) *problem { return &problem{fault.Malformed, 0, detail} }

// Assemble makes the request one that came in parts, as HTTP/2 and HTTP/3 have them: its fields were added to Head, as they
// came and without a look at them, and here is the rest: :method, :scheme, :authority and :path, each empty where it was not
// sent. They are copied. framing is what is known of the body without Content-Length: NoBody where the request has ended
// with its head, otherwise Chunked. nil limits are DefaultLimits.
//
// The request is what Parse makes of the same in HTTP/1.1, by the same rules and limits, with a Host field, which is added if none
// came. Stricter are the rules for what only an intermediary would misread (RFC 9113 section 8.2, RFC 9114 section 4.2): names
// are in lower case, values have no white space around them, nothing is about the connection, and a Host is the :authority. Cookie
// fields are joined to one.
// CONNECT with a path is that of RFC 8441, whose protocol the caller has taken care of, and is a request as any other.
//
// An error without a status is about what makes a message malformed by those sections: it gets no answer, its stream is to be
// reset. After an error the fields are those that were right.
func (r *Request) Assemble(method, scheme, authority, target []byte, framing Framing, lim *Limits) error {
	if lim == nil {
		lim = &DefaultLimits
	}
	h := r.Head
	*r = Request{Head: h, Minor: 1, KeepAlive: true, scan: progress{done: true}}
	r.whole = true
	if p := r.assemble(method, scheme, authority, target, framing, lim); p != nil {
		return p.fault(fault.Client)
	}
	return nil
}

func (r *Request) assemble(method, scheme, authority, target []byte, framing Framing, lim *Limits) *problem {
	size := len(r.buf) + len(method) + len(target) + len(authority) + len("  HTTP/1.1\r\nHost: \r\n\r\n")
	if p := r.lowerFields(); p != nil {
		return p
	}
	r.joinCookies()
	if p := r.startLine(method, scheme, target, lim); p != nil {
		return p
	}
	switch {
	case size > lim.Head:
		return badHeadSize
	case len(r.fields) > lim.Fields:
		return badFieldCount
	}
	var c control
	if p := r.control(&c); p != nil {
		return p
	}
	if p := r.agree(&c, authority); p != nil {
		return p
	}
	if p := r.part(); p != nil {
		return p
	}
	if p := r.measure(&c, framing); p != nil {
		return p
	}
	r.TETrailers = c.teTrailers
	if c.badExpect {
		return badExpectation
	}
	r.ExpectContinue = c.expect && (r.Framing.Kind == Chunked || r.Framing.Length > 0)
	return nil
}

// notInFrames are the fields that HTTP/2 has no use for; TE may say trailers.
var notInFrames = setOf(FieldConnection, FieldKeepAlive, FieldProxyConnection, FieldTransferEncoding, FieldUpgrade)

// lowerFields looks at the fields as they came.
func (r *Request) lowerFields() *problem {
	for i := range r.fields {
		f := &r.fields[i]
		p := (*problem)(nil)
		switch v := r.buf[f.value:f.valueEnd]; {
		case !lowerName(r.buf[f.name:f.nameEnd]):
			p = badLowerName
		case !validValue(v):
			p = badFieldValue
		case f.id == FieldUnknown:
		case notInFrames.has(f.id), f.id == FieldTE && !EqualFold(v, "trailers"):
			p = badHopField
		}
		if p != nil {
			r.fields = r.fields[:i]
			return p
		}
	}
	return nil
}

// lowerName says whether n is a token without an upper-case letter.
func lowerName(n []byte) bool {
	for _, c := range n {
		if class[c]&token == 0 || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return len(n) > 0
}

// validValue is ValidFieldValue, eight bytes at a time.
func validValue(v []byte) bool {
	return len(v) == 0 || valueEnd(v, 0) == len(v) && !isSpace(v[0]) && !isSpace(v[len(v)-1])
}

// startLine is what a request line would say.
func (r *Request) startLine(method, scheme, t []byte, lim *Limits) *problem {
	switch {
	case len(method) > maxMethod:
		return badLongMethod
	case !all(method, token):
		return badMethod
	}
	r.Method = keep(&r.Head, method)
	switch {
	case len(t) > lim.Target:
		return badLongTarget
	case len(t) > 0 && !all(t, target):
		return badTargetChar
	}
	r.Target = keep(&r.Head, t)
	if len(scheme) > 0 {
		if !EqualFold(scheme, "http") && !EqualFold(scheme, "https") {
			return badScheme
		}
		r.Scheme = keep(&r.Head, scheme)
	}
	return nil
}

// agree takes the authority from :authority, or else from Host, which is to be the same.
func (r *Request) agree(c *control, authority []byte) *problem {
	switch {
	case c.hosts > 1:
		return badHosts
	case c.hosts == 0 && len(authority) == 0:
		return badNoHost
	case c.hosts == 0:
		if !ValidAuthority(authority) {
			return badHost
		}
		r.AddID(FieldHost, authority)
		r.Authority = r.Value(r.Len() - 1)
		return nil
	}
	r.Authority = r.Value(c.host)
	switch {
	case !ValidAuthority(r.Authority):
		return badHost
	case len(authority) > 0 && !EqualFold(r.Authority, authority):
		return badHostOther
	case len(authority) > 0 && string(r.Authority) != string(authority):
		r.takeAuthority(keep(&r.Head, authority))
	}
	return nil
}

// part takes the target apart.
func (r *Request) part() *problem {
	t, connect := r.Target, string(r.Method) == "CONNECT"
	switch {
	case len(t) == 0 && connect:
		r.Target = r.Authority
		return r.authorityForm(r.Authority)
	case len(t) == 0:
		return badNoPath
	case t[0] == '/':
		r.Form = Origin
		return r.pathAndQuery(t)
	case connect:
		return badExtended
	case len(t) == 1 && t[0] == '*' && string(r.Method) == "OPTIONS":
		r.Form, r.Path = Asterisk, t
		return nil
	}
	return badPath
}

// measure finds out where the body ends.
func (r *Request) measure(c *control, framing Framing) *problem {
	switch {
	case c.lengths == 0:
		if r.Framing = framing; framing.Kind == NoBody {
			r.Framing.Length = -1
		}
		return nil
	case framing.Kind == NoBody && c.length > 0, framing.Kind == Length && framing.Length != c.length:
		return badFraming
	}
	r.Framing = Framing{Kind: Length, Length: c.length}
	return nil
}

// joinCookies makes what came as several Cookie fields, so that each can be compressed on its own, one again (RFC 9113 section
// 8.2.3).
func (r *Request) joinCookies() {
	first := r.FindID(0, FieldCookie)
	if first < 0 || r.FindID(first+1, FieldCookie) < 0 {
		return
	}
	h := &r.Head
	f := h.fields[first]
	joined := field{name: uint32(len(h.buf)), id: FieldCookie, plain: true}
	h.buf = append(h.buf, h.buf[f.name:f.nameEnd]...)
	joined.nameEnd = uint32(len(h.buf))
	h.buf = append(h.buf, ':', ' ')
	joined.value = uint32(len(h.buf))
	for i, n := first, 0; i >= 0; i, n = r.FindID(i+1, FieldCookie), n+1 {
		if n > 0 {
			h.buf = append(h.buf, ';', ' ')
		}
		h.buf = append(h.buf, h.buf[h.fields[i].value:h.fields[i].valueEnd]...)
	}
	joined.valueEnd = uint32(len(h.buf))
	h.buf = append(h.buf, '\r', '\n')
	h.fields[first] = joined
	h.remove(first+1, func(i int) bool { return h.fields[i].id == FieldCookie })
}
