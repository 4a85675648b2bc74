package http1

// field is a field line: offsets into the head's storage.
type field struct {
	name, nameEnd   uint32
	value, valueEnd uint32
	id              FieldID
	plain           bool // the storage has it as "name: value\r\n", so it can be copied whole
}

// Head is the fields of a message, or of a trailer section, in order and with their names as they were spelled. The zero
// Head is empty and ready.
//
// Fields are numbered from 0 to Len()-1; deleting one moves those after it. A field added or changed is written to the
// end of the storage, so views handed out before stay as they are until Reset.
type Head struct {
	buf    []byte
	fields []field
	seen   set  // every known field that is there, and perhaps some that were deleted
	whole  bool // see Request: Set and Del by a name leave no other spelling of it
}

// Reset empties the head and keeps its storage.
func (h *Head) Reset() { h.buf, h.fields, h.seen = h.buf[:0], h.fields[:0], 0 }

// Len returns the number of fields.
func (h *Head) Len() int { return len(h.fields) }

// Name returns the name of field i as it was spelled.
func (h *Head) Name(i int) []byte { f := &h.fields[i]; return h.buf[f.name:f.nameEnd:f.nameEnd] }

// Value returns the value of field i, without white space around it.
func (h *Head) Value(i int) []byte { f := &h.fields[i]; return h.buf[f.value:f.valueEnd:f.valueEnd] }

// ID returns which known name field i has.
func (h *Head) ID(i int) FieldID { return h.fields[i].id }

// is says whether field i has this name, whose id is given if it is a known one.
func is[T text](h *Head, i int, name T, id FieldID) bool {
	f := &h.fields[i]
	if id != FieldUnknown || f.id != FieldUnknown {
		return f.id == id
	}
	return EqualFold(h.buf[f.name:f.nameEnd], name)
}

func idOf[T text](name T) FieldID {
	if len(name) >= len(byLength) {
		return FieldUnknown
	}
	for i := range byLength[len(name)] {
		if k := &byLength[len(name)][i]; EqualFold(name, k.name) {
			return k.id
		}
	}
	return FieldUnknown
}

// find returns the first field from i on with this name, or -1.
func find[T text](h *Head, i int, name T, id FieldID) int {
	if id != FieldUnknown && !h.seen.has(id) {
		return -1
	}
	for ; i < len(h.fields); i++ {
		if is(h, i, name, id) {
			return i
		}
	}
	return -1
}

// Find returns the number of the first field from i on that has this name, in any case, or -1.
func (h *Head) Find(i int, name string) int { return find(h, i, name, idOf(name)) }

// FindID is Find for a known name.
func (h *Head) FindID(i int, id FieldID) int { return find(h, i, "", id) }

// Get returns the value of the first field with this name, in any case.
func (h *Head) Get(name string) ([]byte, bool) { return h.at(find(h, 0, name, idOf(name))) }

// GetBytes is Get for a name that is at hand as bytes.
func (h *Head) GetBytes(name []byte) ([]byte, bool) { return h.at(find(h, 0, name, lookup(name))) }

// GetID is Get for a known name.
func (h *Head) GetID(id FieldID) ([]byte, bool) { return h.at(find(h, 0, "", id)) }

func (h *Head) at(i int) ([]byte, bool) {
	if i < 0 {
		return nil, false
	}
	return h.Value(i), true
}

// AppendList appends the values of all fields with a known name, joined by ", ": what a field that is a list says, on
// however many lines it came (RFC 9110 section 5.3).
func (h *Head) AppendList(dst []byte, id FieldID) []byte {
	for i, n := h.FindID(0, id), 0; i >= 0; i, n = h.FindID(i+1, id), n+1 {
		if n > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, h.Value(i)...)
	}
	return dst
}

// write appends a field line to the storage and returns its field. name and value may be views of the storage.
func write[N, V text](h *Head, name N, value V, id FieldID) field {
	f := field{name: uint32(len(h.buf)), id: id, plain: true}
	b := append(h.buf, name...)
	f.nameEnd = uint32(len(b))
	b = append(b, ':', ' ')
	f.value = uint32(len(b))
	b = append(b, value...)
	f.valueEnd = uint32(len(b))
	h.buf = append(b, '\r', '\n')
	h.seen |= 1 << id
	return f
}

// Add appends a field. Name and value must be valid (ValidFieldName, ValidFieldValue); so for all that set fields.
func (h *Head) Add(name, value string) {
	h.fields = append(h.fields, write(h, name, value, idOf(name)))
}

// AddBytes is Add with a value, and a name, at hand as bytes.
func (h *Head) AddBytes(name, value []byte) {
	h.fields = append(h.fields, write(h, name, value, lookup(name)))
}

// AddID appends a field with a known name in its usual spelling.
func (h *Head) AddID(id FieldID, value []byte) {
	h.fields = append(h.fields, write(h, names[id], value, id))
}

// Set gives the first field with this name a new value, under the name as it is spelled here, and deletes the others;
// without one it adds it. A request's other spellings go, too.
func (h *Head) Set(name, value string) { setNamed(h, name, value, idOf(name)) }

// SetBytes is Set with name and value at hand as bytes.
func (h *Head) SetBytes(name, value []byte) { setNamed(h, name, value, lookup(name)) }

// SetID is Set for a known name, in its usual spelling.
func (h *Head) SetID(id FieldID, value []byte) { setField(h, names[id], value, id) }

// setNamed is setField for a name that somebody gives.
func setNamed[T text](h *Head, name, value T, id FieldID) {
	if h.whole {
		for i := range h.fields {
			if spells(h, i, name) {
				setField(h, name, value, id)
				h.remove(0, func(i int) bool { return spells(h, i, name) && !is(h, i, name, id) })
				return
			}
		}
		h.fields = append(h.fields, write(h, name, value, id)) // most often it is not there in any spelling
		return
	}
	setField(h, name, value, id)
}

func setField[N, V text](h *Head, name N, value V, id FieldID) {
	i := find(h, 0, name, id)
	if i < 0 {
		h.fields = append(h.fields, write(h, name, value, id))
		return
	}
	h.fields[i] = write(h, name, value, id)
	h.remove(i+1, func(j int) bool { return is(h, j, name, id) })
}

// SetValue gives field i a new value and keeps its name and place.
func (h *Head) SetValue(i int, value []byte) {
	h.fields[i] = write(h, h.Name(i), value, h.fields[i].id)
}

// remove deletes the fields from i on that drop picks.
func (h *Head) remove(i int, drop func(int) bool) {
	for ; i < len(h.fields) && !drop(i); i++ {
	}
	to := i
	for i++; i < len(h.fields); i++ {
		if !drop(i) {
			h.fields[to] = h.fields[i]
			to++
		}
	}
	if to < len(h.fields) {
		h.fields = h.fields[:to]
	}
}

// Del deletes all fields with this name, in any case; a request's in any spelling.
func (h *Head) Del(name string) {
	if id := idOf(name); id != FieldUnknown && !h.whole {
		h.DelID(id)
	} else {
		delNamed(h, name, id)
	}
}

// DelBytes is Del for a name that is at hand as bytes.
func (h *Head) DelBytes(name []byte) { delNamed(h, name, lookup(name)) }

func delNamed[T text](h *Head, name T, id FieldID) {
	if h.whole {
		h.remove(0, func(i int) bool { return spells(h, i, name) })
		return
	}
	h.remove(0, func(i int) bool { return is(h, i, name, id) })
}

// DelID deletes all fields with a known name.
func (h *Head) DelID(id FieldID) {
	if h.seen.has(id) {
		h.remove(0, func(i int) bool { return h.fields[i].id == id })
		h.seen &^= 1 << id
	}
}

// DelAt deletes field i.
func (h *Head) DelAt(i int) { h.fields = append(h.fields[:i], h.fields[i+1:]...) }

// spells says whether field i has this name, with '_' and '-' alike.
func spells[T text](h *Head, i int, name T) bool {
	f := &h.fields[i]
	return int(f.nameEnd-f.name) == len(name) && equalSpelling(h.buf[f.name:f.nameEnd], name)
}

// CopyFrom makes h the same fields as those of from, in storage of its own.
func (h *Head) CopyFrom(from *Head) {
	h.buf = append(h.buf[:0], from.buf...)
	h.fields = append(h.fields[:0], from.fields...)
	h.seen = from.seen
}

// StripHopByHop deletes the fields that are about one connection, and those that Connection lists (RFC 9110 section
// 7.6.1). What Parse found out of them stays in the message: Framing, KeepAlive, Upgrade, TETrailers. Call it before
// anything of the gateway's own is added, and never after.
func (h *Head) StripHopByHop() {
	if h.seen&hopByHop == 0 {
		return
	}
	drop := hopByHop | 1<<listedField
	if h.seen.has(FieldConnection) {
		for i := 0; i < len(h.fields); i++ {
			if h.fields[i].id == FieldConnection && !isKeepAlive(h.Value(i)) {
				drop |= h.listed(i)
			}
		}
	}
	to := 0
	for i := range h.fields {
		if f := &h.fields[i]; f.id == FieldUnknown || !drop.has(f.id) {
			if to != i {
				h.fields[to] = *f
			}
			to++
		}
	}
	h.fields = h.fields[:to]
	h.seen &^= drop
}

// isKeepAlive says whether a Connection field is the usual one, which lists only a field that goes in any case.
func isKeepAlive(list []byte) bool {
	return len(list) == len("keep-alive") && EqualFold(list, "keep-alive")
}

// listedField marks an unknown field that Connection lists, while StripHopByHop runs.
const listedField = fieldIDs

// listed returns the known fields that the Connection field i lists, and marks the unknown ones.
func (h *Head) listed(i int) (s set) {
	list := h.Value(i)
	for more := true; more; {
		var m []byte
		m, list, more = nextMember(list)
		if len(m) == 0 || !all(m, token) {
			continue
		}
		if id := lookup(m); id != FieldUnknown {
			s |= 1 << id
			continue
		}
		for j := find(h, 0, m, FieldUnknown); j >= 0; j = find(h, j+1, m, FieldUnknown) {
			h.fields[j].id = listedField
		}
	}
	return s
}

// parse reads the complete field lines of b from pos on and returns where it stopped: at the beginning of a line that is
// not complete, or behind the empty line (done).
func (h *Head) parse(b []byte, pos int, lim *Limits, maxBytes int) (next int, done bool, p *problem) {
	for pos < len(b) {
		i := pos
		for i < len(b) && class[b[i]]&token != 0 {
			i++
		}
		if i == len(b) {
			break
		}
		if b[i] != ':' || i == pos {
			done, p = nameEnd(b, pos, i)
			if done {
				pos = i + 2
			}
			if done && pos > maxBytes {
				p = badHeadSize
			}
			return pos, done, p
		}
		nameEnd := i
		for i++; i < len(b) && isSpace(b[i]); i++ {
		}
		value := i
		i = valueEnd(b, i)
		if i+1 >= len(b) && (i == len(b) || b[i] == '\r') {
			break
		}
		if b[i] != '\r' || b[i+1] != '\n' {
			return pos, false, valueProblem(b[i])
		}
		end := i
		for end > value && isSpace(b[end-1]) {
			end--
		}
		if i+2 > maxBytes {
			return pos, false, badHeadSize
		}
		if len(h.fields) >= lim.Fields {
			return pos, false, badFieldCount
		}
		f := h.next()
		f.name, f.nameEnd, f.value, f.valueEnd = uint32(pos), uint32(nameEnd), uint32(value), uint32(end)
		f.plain = value == nameEnd+2 && b[nameEnd+1] == ' ' && end == i
		f.id = lookup(b[pos:nameEnd])
		h.seen |= 1 << f.id
		pos = i + 2
	}
	return pos, false, nil
}

// next returns the place of one more field, whose content is undefined. It is filled in where it lies: built elsewhere and
// copied, it costs a fifth of the parsing, because narrow writes followed by wide reads stall.
func (h *Head) next() *field {
	n := len(h.fields)
	if n < cap(h.fields) {
		h.fields = h.fields[:n+1]
	} else {
		h.fields = append(h.fields, field{})
	}
	return &h.fields[n]
}

// nameEnd says what it means that the name of the line at pos ends at i with something else than a colon, or is empty.
func nameEnd(b []byte, pos, i int) (done bool, p *problem) {
	switch c := b[i]; {
	case c == '\r' && i+1 == len(b):
		return false, nil
	case c == '\r' && b[i+1] != '\n':
		return false, badBareCR
	case c == '\r' && i == pos:
		return true, nil
	case c == '\n':
		return false, badBareLF
	case c == '\r':
		return false, badNoColon
	case isSpace(c) && i == pos:
		return false, badFold
	case isSpace(c):
		return false, badNameSpace
	case c == ':':
		return false, badEmptyName
	}
	return false, badName
}

func valueProblem(c byte) *problem {
	switch c {
	case '\r':
		return badBareCR
	case '\n':
		return badBareLF
	}
	return badValue
}
