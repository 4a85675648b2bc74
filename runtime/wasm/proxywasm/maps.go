package proxywasm

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/wasm"
)

// fieldMap is a map as the guest sees it: the fields of a message, and before them what HTTP/2 calls pseudo-header fields.
type fieldMap struct {
	v       *vm
	stream  *stream
	head    *http1.Head // nil: the map is empty
	request *http1.Request
	scheme  string
	reply   *http1.Response
	status  int // of the answer of a call of the plugin's; 0: none
	write   bool
	nonUTF8 NonUTF8
	digits  [3]byte
}

// mapOf returns a map; not ok: there is no map of that number. One that is not there now is empty.
func (v *vm) mapOf(id uint32, m *fieldMap) bool {
	if id >= maps {
		return false
	}
	c := v.effectiveContext()
	*m = fieldMap{v: v}
	if c == nil || c.root == nil {
		return true
	}
	m.stream, m.nonUTF8 = c.stream, c.root.core.options.NonUTF8
	switch id {
	case mapCall, mapCallTrailers:
		switch a := v.answer; {
		case a == nil:
		case id == mapCall:
			m.head, m.status = &a.AnswerFields, a.Status
		default:
			m.head = &a.AnswerTrailers
		}
		return true
	case mapGRPCInitial:
		if g := v.grpcNow; g != nil {
			m.head, m.status = &g.AnswerFields, g.Status
		}
		return true
	case mapGRPCTrailing:
		m.head = v.grpcTrailers
		return true
	}
	s := c.stream
	if s == nil || s.x == nil {
		return true
	}
	switch id {
	case mapRequest:
		if s.req.begun {
			m.head, m.request, m.scheme, m.write = &s.x.Request.Head, &s.x.Request, s.x.Client.Scheme, s.req.open
		}
	case mapResponse:
		if s.resp.begun {
			m.head, m.reply, m.write = &s.x.Response.Head, &s.x.Response, s.resp.open
		}
	case mapRequestTrailers:
		m.head, m.write = s.req.trailers, s.req.trailers != nil
	case mapResponseTrailers:
		m.head, m.write = s.resp.trailers, s.resp.trailers != nil
	}
	return true
}

// pseudo returns the i-th of the fields that stand before those of the head.
func (m *fieldMap) pseudo(i int) (name string, value []byte, ok bool) {
	switch {
	case m.request != nil:
		r := m.request
		switch i {
		case 0:
			return ":authority", r.Authority, true
		case 1:
			return ":path", m.target(), true
		case 2:
			return ":method", r.Method, true
		case 3:
			return ":scheme", append(m.v.scheme[:0], m.scheme...), true
		}
	case i == 0 && m.reply != nil:
		return ":status", strconv.AppendInt(m.digits[:0], int64(m.reply.Status), 10), true
	case i == 0 && m.status != 0:
		return ":status", strconv.AppendInt(m.digits[:0], int64(m.status), 10), true
	}
	return "", nil, false
}

// target is :path.
func (m *fieldMap) target() []byte {
	if !m.request.HasQuery() {
		return m.request.Path
	}
	m.v.target = appendTarget(m.v.target[:0], m.request)
	return m.v.target
}

// hidden says whether field i is not shown: Host is :authority.
func (m *fieldMap) hidden(i int) bool { return m.request != nil && m.head.ID(i) == http1.FieldHost }

// shown is a value as the guest sees it; not ok: it does not.
func (m *fieldMap) shown(value []byte) ([]byte, bool) {
	if m.nonUTF8 == Pass || utf8.Valid(value) {
		return value, true
	}
	if m.nonUTF8 == Drop {
		return nil, false
	}
	return bytes.ToValidUTF8(value, []byte("\uFFFD")), true
}

// count is how many pairs there are, and what they take when they are written.
func (m *fieldMap) count() (n, size int) {
	if m.head == nil {
		return 0, 0
	}
	add := func(name, value int) {
		n++
		size += name + value + 10
	}
	for i := 0; ; i++ {
		name, value, ok := m.pseudo(i)
		if !ok {
			break
		}
		add(len(name), len(value))
	}
	for i := range m.head.Len() {
		if m.hidden(i) {
			continue
		}
		if value, ok := m.shown(m.head.Value(i)); ok {
			add(len(m.head.Name(i)), len(value))
		}
	}
	if n > 0 {
		size += 4
	}
	return n, size
}

// appendPairs writes the map; nothing for an empty one.
func (m *fieldMap) appendPairs(b []byte) []byte {
	n, _ := m.count()
	if n == 0 {
		return b
	}
	var w pairWriter
	w.begin(b, n)
	for i := 0; ; i++ {
		name, value, ok := m.pseudo(i)
		if !ok {
			break
		}
		w.add(append(m.v.name[:0], name...), value)
	}
	for i := range m.head.Len() {
		if m.hidden(i) {
			continue
		}
		if value, ok := m.shown(m.head.Value(i)); ok {
			w.add(m.head.Name(i), value)
		}
	}
	return w.b
}

// get returns the first value of a name.
func (m *fieldMap) get(name []byte) ([]byte, bool) {
	if m.head == nil {
		return nil, false
	}
	if len(name) > 0 && name[0] == ':' {
		for i := 0; ; i++ {
			n, value, ok := m.pseudo(i)
			if !ok {
				return nil, false
			}
			if n == string(name) {
				return value, true
			}
		}
	}
	if m.request != nil && isHost(name) {
		return m.request.Authority, true
	}
	value, ok := m.head.GetBytes(name)
	if !ok {
		return nil, false
	}
	return m.shown(value)
}

func isHost(name []byte) bool { return len(name) == 4 && http1.EqualFold(name, "host") }

// edit is a way to change a field.
type edit uint8

const (
	editAdd edit = iota
	editReplace
	editRemove
)

// change changes a field, within the guest's bounds.
func (m *fieldMap) change(in *wasm.Instance, how edit, name, value []byte) status {
	if m.head == nil || !m.write {
		return statusBadArgument
	}
	if m.stream.edited += len(name) + len(value) + 8; m.stream.edited > maxEdits {
		in.Failf(fault.PluginAnswer, "the plugin has changed more than %d bytes of header fields of one message", maxEdits)
	}
	value = trim(value)
	if len(name) > 0 && name[0] == ':' || m.request != nil && isHost(name) {
		return m.changePseudo(how, name, value)
	}
	if !http1.ValidFieldName(name) || how != editRemove && !http1.ValidFieldValue(value) {
		return statusBadArgument
	}
	if m.request != nil {
		m.stream.headersChanged = true
	}
	trailer := m.request == nil && m.reply == nil
	if connectionField(name) && (trailer || !http1.IsFraming(http1.LookupFieldBytes(name))) {
		return statusOK // it is the gateway's own
	}
	switch how {
	case editAdd:
		m.head.AddBytes(name, value)
	case editReplace:
		m.head.SetBytes(name, value)
	case editRemove:
		m.head.DelBytes(name)
	}
	return statusOK
}

// changePseudo changes method, authority, path or status. What must be there cannot be removed, and stays.
func (m *fieldMap) changePseudo(how edit, name, value []byte) status {
	if how == editRemove {
		return statusOK
	}
	switch r := m.request; {
	case r != nil && (isHost(name) || string(name) == ":authority"):
		if !http1.ValidAuthority(value) {
			return statusBadArgument
		}
		if !bytes.Equal(r.Authority, value) {
			r.SetAuthority(value)
		}
	case r != nil && string(name) == ":method":
		if !http1.ValidMethod(value) || string(value) == "CONNECT" || (string(value) == "HEAD") != (string(r.Method) == "HEAD") {
			return statusBadArgument
		}
		if !bytes.Equal(r.Method, value) {
			r.SetMethod(value)
		}
	case r != nil && string(name) == ":path":
		return m.changePath(value)
	case r != nil && string(name) == ":scheme":
	case m.reply != nil && string(name) == ":status":
		status, err := strconv.Atoi(string(value[:min(len(value), 4)]))
		if err != nil || status < 200 || status > 599 {
			return statusBadArgument
		}
		if m.reply.Status != status {
			m.reply.Status, m.reply.Reason = status, nil
		}
	default:
		return statusBadArgument
	}
	return statusOK
}

// changePath takes a new :path: path and query.
func (m *fieldMap) changePath(value []byte) status {
	r := m.request
	if f := r.Form; f != http1.Origin && f != http1.Absolute {
		return statusBadArgument
	}
	path, query, has := bytes.Cut(value, []byte{'?'})
	m.v.target = m.v.target[:0]
	clean, err := http1.CleanPath(m.v.target, path)
	if err != nil || has && !http1.ValidQuery(query) {
		return statusBadArgument
	}
	if !bytes.Equal(r.Path, clean) {
		r.SetPath(clean)
	}
	switch {
	case has && (!r.HasQuery() || !bytes.Equal(r.Query(), query)):
		r.SetQuery(query)
	case !has && r.HasQuery():
		r.DelQuery()
	}
	return statusOK
}

// setAll replaces all fields. Pseudo-header fields that are not given stay.
func (m *fieldMap) setAll(in *wasm.Instance, p pairs) status {
	if m.head == nil || !m.write {
		return statusBadArgument
	}
	check := p
	for name, value, ok := check.next(); ok; name, value, ok = check.next() {
		if pseudo := len(name) > 0 && name[0] == ':'; !pseudo && (!http1.ValidFieldName(name) || !http1.ValidFieldValue(trim(value))) {
			return statusBadArgument
		}
	}
	for i := m.head.Len() - 1; i >= 0; i-- {
		if !m.hidden(i) && !http1.IsFraming(m.head.ID(i)) {
			m.head.DelAt(i)
		}
	}
	answer := statusOK
	framed := false
	for name, value, ok := p.next(); ok; name, value, ok = p.next() {
		how := editAdd
		if http1.IsFraming(http1.LookupFieldBytes(name)) {
			framed, how = true, editReplace
		}
		if st := m.change(in, how, name, value); st != statusOK {
			answer = st
		}
	}
	if !framed {
		m.head.DelID(http1.FieldContentLength)
	}
	return answer
}

// fields is how many pairs the guest is told that a message has.
func (s *stream) fields(d *side) int {
	h, n := &s.x.Request.Head, 4
	if d.answer {
		h, n = &s.x.Response.Head, 1
	}
	n += h.Len()
	if !d.answer {
		if i := h.FindID(0, http1.FieldHost); i >= 0 {
			n--
		}
	}
	return n
}
