package httpwasm

import (
	"bytes"
	"net/netip"

	"wasmgate/runtime/http1"
)

// setMethod is set_method(ptr, len).
func setMethod(g *guest, a []uint64) {
	m := g.memory("set_method", a[0], a[1])
	if !g.requestOpen("set_method") {
		return
	}
	r := &g.x.Request
	if !http1.ValidMethod(m) || string(m) == "CONNECT" || (string(m) == "HEAD") != (string(r.Method) == "HEAD") {
		g.bad("set_method: %.32q: not a valid method, or one that cannot be changed to: CONNECT; HEAD from another; another from HEAD", m)
	}
	g.keepRequest()
	g.sized(len(m))
	r.SetMethod(m)
}

// getURI is get_uri(ptr, limit).
func getURI(g *guest, a []uint64) {
	r := &g.x.Request
	b := append(g.scratch[:0], r.Path...)
	if len(b) == 0 {
		b = append(b, '/')
	}
	if r.HasQuery() {
		b = append(append(b, '?'), r.Query()...)
	}
	g.scratch = b
	g.in.Charge(int64(len(b) / 8))
	a[0] = g.put("get_uri", a[0], a[1], b)
}

// setURI is set_uri(ptr, len).
func setURI(g *guest, a []uint64) {
	uri := g.memory("set_uri", a[0], a[1])
	if !g.requestOpen("set_uri") {
		return
	}
	g.in.Charge(int64(len(uri)))
	g.sized(len(uri))
	target := uri
	if i := bytes.Index(target, []byte("://")); i > 0 && bytes.IndexByte(target[:i], '/') < 0 { // as in a request to a proxy: scheme and authority mean nothing
		target = target[i+len("://"):]
		if i = bytes.IndexAny(target, "/?"); i < 0 {
			i = len(target)
		}
		target = target[i:]
	}
	path, query, hasQuery := bytes.Cut(target, []byte{'?'})
	if len(path) == 0 {
		path = []byte{'/'}
	}
	clean, err := http1.CleanPath(g.scratch[:0], path)
	if err != nil || !http1.ValidQuery(query) {
		g.bad("set_uri: %.64q is not a valid URI", uri)
	}
	g.keepRequest()
	r := &g.x.Request
	r.SetPath(clean)
	if r.Form = http1.Origin; hasQuery {
		r.SetQuery(query)
	} else {
		r.DelQuery()
	}
}

// getProtocolVersion is get_protocol_version(ptr, limit).
func getProtocolVersion(g *guest, a []uint64) {
	a[0] = g.put("get_protocol_version", a[0], a[1], []byte(g.x.Client.Protocol()))
}

// getSourceAddr is get_source_addr(ptr, limit).
func getSourceAddr(g *guest, a []uint64) {
	var text [64]byte
	var b []byte
	if p := g.x.Client.Peer; p.IsValid() {
		b = netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).AppendTo(text[:0])
	}
	a[0] = g.put("get_source_addr", a[0], a[1], b)
}

// getStatusCode is get_status_code().
func getStatusCode(g *guest, a []uint64) {
	status := g.answer.status
	switch g.phase {
	case phaseResponse:
		status = g.x.Response.Status
	case phaseOver:
		status = 0
	}
	a[0] = uint64(status) //nolint:gosec // three digits
}

// setStatusCode is set_status_code(status).
func setStatusCode(g *guest, a []uint64) {
	status := int(int32(a[0])) //nolint:gosec // an i32 is in the low half
	if status < 200 || status > 599 {
		g.bad("set_status_code: %d is not a status that an answer can have", status)
	}
	switch g.phase {
	case phaseRequest:
		g.answer.wrote, g.answer.status = true, status
	case phaseResponse:
		g.keepResponse()
		g.x.Response.Status, g.x.Response.Reason = status, nil
	}
}

// sized counts what is kept of the guest's until the exchange ends.
func (g *guest) sized(n int) {
	g.sets++
	g.setBytes += n
	if g.sets > maxSets || g.setBytes > maxSetBytes {
		g.bad("more than %d changes of the message's head, or more than %d bytes of them, in one call", maxSets, maxSetBytes)
	}
}

// fields returns the fields of a kind to be read.
func (g *guest) fields(kind uint32) *http1.Head {
	switch kind {
	case kindRequest:
		return &g.x.Request.Head
	case kindResponse:
		if g.phase == phaseRequest {
			return &g.answer.fields.add
		}
		return &g.x.Response.Head
	case kindRequestTrailers:
		return g.trailers(&g.request, bufferRequest)
	}
	return g.trailers(&g.response, bufferResponse)
}

// trailers returns those of a message with what the guest has done to them.
func (g *guest) trailers(m *message, buffer features) *http1.Head {
	if m.body == nil || m.body.Trailers() == nil && g.features&buffer == 0 {
		return &m.tail.add
	}
	if m.body.Trailers() == nil {
		g.hold(m)
	}
	if t := m.body.Trailers(); t != nil && m.tail.any() {
		g.in.Charge(int64(t.Len() * 50))
		m.view.CopyFrom(t)
		m.tail.apply(&m.view)
		return &m.view
	} else if t != nil {
		return t
	}
	return &m.tail.add
}

// kind checks a kind of fields, and whether there can be any: ok.
func (g *guest) kind(name string, v uint64) (kind uint32, ok bool) {
	kind = uint32(v) //nolint:gosec // an i32 is in the low half
	if kind >= kinds {
		g.trap("%s: unknown kind of fields %d", name, kind)
	}
	return kind, kind < kindRequestTrailers || g.features&trailers != 0
}

// list writes strings, each ended by a zero, if they fit, and returns their number and size in any case.
type list struct {
	dst   []byte // nil: they are counted
	count uint64
	size  uint64
}

func (l *list) add(b []byte, lower bool) {
	if l.dst != nil {
		at := l.dst[l.size:]
		copy(at, b)
		for i := range b {
			if c := at[i]; lower && c >= 'A' && c <= 'Z' {
				at[i] = c | 0x20
			}
		}
		at[len(b)] = 0
	}
	l.count++
	l.size += uint64(len(b)) + 1
}

// give has each write its strings twice: to measure and, if they fit, to write.
func (g *guest) give(name string, ptr, limit uint64, each func(l *list)) uint64 {
	l := &g.list
	*l = list{}
	each(l)
	if l.count > 0 && l.size <= uint64(uint32(limit)) { //nolint:gosec // an i32 is in the low half
		g.in.Charge(int64(l.size / 8)) //nolint:gosec // a head's size
		*l = list{dst: g.memory(name, ptr, l.size)}
		each(l)
		l.dst = nil
	}
	return l.count<<32 | l.size
}

// getHeaderNames is get_header_names(kind, ptr, limit).
func getHeaderNames(g *guest, a []uint64) {
	kind, ok := g.kind("get_header_names", a[0])
	if !ok {
		a[0] = 0
		return
	}
	h := g.fields(kind)
	g.in.Charge(2 * int64(h.Len()) * int64(h.Len()))
	a[0] = g.give("get_header_names", a[1], a[2], func(l *list) {
		host := kind == kindRequest
		if host && len(g.x.Request.Authority) > 0 {
			l.add([]byte("host"), false)
		}
		for i := range h.Len() {
			if !(host && h.ID(i) == http1.FieldHost) && first(h, i) {
				l.add(h.Name(i), true)
			}
		}
	})
}

// first says whether no field before field i has its name.
func first(h *http1.Head, i int) bool {
	name, id := h.Name(i), h.ID(i)
	for j := range i {
		if h.ID(j) == id && (id != http1.FieldUnknown || http1.EqualFold(h.Name(j), name)) {
			return false
		}
	}
	return true
}

// getHeaderValues is get_header_values(kind, name_ptr, name_len, ptr, limit).
func getHeaderValues(g *guest, a []uint64) {
	name := g.memory("get_header_values", a[1], a[2])
	if len(name) == 0 {
		g.trap("get_header_values: no name")
	}
	kind, ok := g.kind("get_header_values", a[0])
	if !ok || len(name) > maxName {
		a[0] = 0
		return
	}
	h := g.fields(kind)
	g.in.Charge(int64(2*h.Len() + len(name)))
	a[0] = g.give("get_header_values", a[3], a[4], func(l *list) {
		if kind == kindRequest && http1.EqualFold(name, "host") {
			if len(g.x.Request.Authority) > 0 {
				l.add(g.x.Request.Authority, false)
			}
			return
		}
		for i := range h.Len() {
			if len(h.Name(i)) == len(name) && http1.EqualFold(h.Name(i), name) {
				l.add(h.Value(i), false)
			}
		}
	})
}

// maxName is how long a field's name may be.
const maxName = 1024

// name reads the name of a field that is to be changed. It is not ok if the change means nothing.
func (g *guest) name(what string, kind uint32, ptr, n uint64) (name []byte, ok bool) {
	name = g.memory(what, ptr, n)
	if len(name) > maxName || !http1.ValidFieldName(name) {
		g.bad("%s: %.64q is not a valid field name", what, name)
	}
	if kind >= kindRequestTrailers {
		if g.features&trailers == 0 {
			g.trap("%s: of %s, without the feature trailers", what, kindNames[kind])
		}
		ok = http1.MayTrail(name)
	} else {
		ok = !http1.Reserved(name) || http1.EqualFold(name, "trailer") || kind == kindRequest && http1.EqualFold(name, "host")
	}
	if kind == kindRequest || kind == kindRequestTrailers {
		return name, g.requestOpen(what) && ok
	}
	return name, ok && g.phase != phaseOver
}

// setField is set_header_value and add_header_value(kind, name_ptr, name_len, ptr, len).
func (g *guest) setField(what string, a []uint64, add bool) {
	kind, _ := g.kind(what, a[0])
	name, ok := g.name(what, kind, a[1], a[2])
	value := g.value(what, name, g.memory(what, a[3], a[4]))
	g.in.Charge(int64(2 * (len(name) + len(value))))
	g.sized(len(name) + len(value))
	if !ok {
		return
	}
	h, e := g.target(kind)
	if e != nil {
		g.in.Charge(int64(e.drop.Len() + e.add.Len()))
	} else {
		g.in.Charge(int64(h.Len()))
	}
	switch {
	case kind == kindRequest && http1.EqualFold(name, "host"):
		if !http1.ValidAuthority(value) {
			g.bad("%s: %.64q is not a valid Host", what, value)
		}
		g.x.Request.SetAuthority(value)
	case e != nil && add:
		e.add.AddBytes(name, value)
	case e != nil:
		e.set(name, value)
	case add:
		h.AddBytes(name, value)
	default:
		h.SetBytes(name, value)
	}
}

// removeHeader is remove_header(kind, name_ptr, name_len).
func removeHeader(g *guest, a []uint64) {
	kind, _ := g.kind("remove_header", a[0])
	name, ok := g.name("remove_header", kind, a[1], a[2])
	g.sized(len(name))
	if !ok || kind == kindRequest && http1.EqualFold(name, "host") {
		return
	}
	h, e := g.target(kind)
	if e != nil {
		e.del(name)
		return
	}
	g.in.Charge(int64(h.Len()))
	h.DelBytes(name)
}

// target returns where a field of a kind is changed: at once, or later.
func (g *guest) target(kind uint32) (*http1.Head, *edits) {
	switch {
	case kind == kindRequest:
		g.keepRequest()
		return &g.x.Request.Head, nil
	case kind == kindRequestTrailers:
		return nil, &g.request.tail
	case kind == kindResponseTrailers:
		g.answer.wrote = g.answer.wrote || g.phase == phaseRequest
		return nil, &g.response.tail
	case g.phase == phaseRequest:
		g.answer.wrote = true
		return nil, &g.answer.fields
	}
	g.keepResponse()
	return &g.x.Response.Head, nil
}

// value returns a field's value as it can be sent: without white space around it, and with a space for a line break.
func (g *guest) value(what string, name, v []byte) []byte {
	v = bytes.Trim(v, " \t\r\n")
	if bytes.ContainsAny(v, "\r\n") {
		g.scratch = append(g.scratch[:0], v...)
		v = g.scratch
		for i, c := range v {
			if c == '\r' || c == '\n' {
				v[i] = ' '
			}
		}
	}
	if !http1.ValidFieldValue(v) {
		g.bad("%s: %.64q: not a valid field value: it has a control character", what, name)
	}
	return v
}
