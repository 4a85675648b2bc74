package native

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/sdk/abi"
)

// slots says which of a message's fields a guest wants, and where in the view. It is immutable.
type slots struct {
	first   int             // of this message in the view
	n       int             // how many
	known   [256]uint8      // slot + 1 by FieldID
	others  []wanted        // names that http1 has no id for
	lengths [4]uint64       // which lengths the names in others have, as bits
	names   []http1.FieldID // by slot; for the rare second pass
	texts   []string        // by slot
}

type wanted struct {
	name string
	slot int
}

func newSlots(first int, names []string) *slots {
	s := &slots{first: first, n: len(names), texts: names}
	for i, name := range names {
		id := http1.LookupField(name)
		s.names = append(s.names, id)
		if id != http1.FieldUnknown {
			s.known[id] = uint8(i + 1) //nolint:gosec // at most abi.MaxSlots
			continue
		}
		s.others = append(s.others, wanted{name, i})
		s.lengths[len(name)>>6&3] |= 1 << (len(name) & 63)
	}
	return s
}

// slot returns the slot of field i of h, or -1.
func (s *slots) slot(h *http1.Head, i int) int {
	if id := h.ID(i); id != http1.FieldUnknown {
		return int(s.known[id]) - 1
	}
	name := h.Name(i)
	if s.lengths[len(name)>>6&3]&(1<<(len(name)&63)) == 0 {
		return -1
	}
	for k := range s.others {
		if o := &s.others[k]; len(o.name) == len(name) && http1.EqualFold(name, o.name) {
			return o.slot
		}
	}
	return -1
}

// write puts the wanted fields of h into their slots. seen has a place for each slot and is zero, before and after.
func (s *slots) write(w *abi.ViewWriter, h *http1.Head, seen []uint16) {
	if s.n == 0 {
		return
	}
	several := false
	for i := range h.Len() {
		slot := s.slot(h, i)
		if slot < 0 {
			continue
		}
		if seen[slot]++; seen[slot] == 1 {
			w.Slot(s.first+slot, h.Value(i))
		} else {
			several = true
		}
	}
	if several {
		s.writeLists(w, h, seen)
	}
	clear(seen[:s.n])
}

// writeLists makes a list of each slot that has several values; the first of them is there already.
func (s *slots) writeLists(w *abi.ViewWriter, h *http1.Head, seen []uint16) {
	for slot := range s.n {
		if seen[slot] < 2 {
			continue
		}
		at, k := w.List(s.first+slot, int(seen[slot])), 0
		for i := range h.Len() {
			if h.ID(i) != s.names[slot] || s.slot(h, i) != slot {
				continue
			}
			if k > 0 {
				w.Item(at, k, h.Value(i))
			}
			k++
		}
	}
}

// encoder writes views of exchanges. It is immutable but for its scratch space: each instance has its own.
type encoder struct {
	request, response *slots
	seen              []uint16
}

func newEncoder(m *abi.Manifest) encoder {
	n := len(m.RequestHeaders)
	return encoder{
		request: newSlots(0, m.RequestHeaders), response: newSlots(n, m.ResponseHeaders),
		seen: make([]uint16, max(n, len(m.ResponseHeaders))),
	}
}

// encode writes the view of x into buf and returns its length. It is whole only if that is no more than len(buf).
func (e *encoder) encode(buf []byte, x *exchange.Exchange, h *abi.Head) int {
	n := e.request.n
	if h.Phase == abi.PhaseResponse {
		n += e.response.n
	}
	var w abi.ViewWriter
	w.Begin(buf, h, n)
	r := &x.Request
	w.Field(abi.FieldMethod, r.Method)
	w.FieldString(abi.FieldScheme, x.Client.Scheme)
	w.Field(abi.FieldAuthority, r.Authority)
	w.Field(abi.FieldPath, r.Path)
	if r.HasQuery() {
		w.Field(abi.FieldQuery, r.Query())
	}
	if x.Client.Addr.IsValid() {
		var text [48]byte // the longest address without a zone has 45 bytes; see also netip.Addr.AppendTo
		w.Field(abi.FieldClient, x.Client.Addr.Unmap().WithZone("").AppendTo(text[:0]))
	}
	if t := x.Client.TLS; t != nil {
		if t.ServerName != "" {
			w.FieldString(abi.FieldSNI, t.ServerName)
		}
		if t.Peer != nil {
			w.FieldString(abi.FieldCertSubject, t.Peer.Subject)
		}
	}
	if x.Route != "" {
		w.FieldString(abi.FieldRoute, x.Route)
	}
	e.request.write(&w, &r.Head, e.seen)
	if h.Phase == abi.PhaseResponse {
		e.response.write(&w, &x.Response.Head, e.seen)
	}
	return w.Need()
}

// head fills in what a view says besides strings.
func head(h *abi.Head, x *exchange.Exchange, phase, role uint32, word uint64) {
	*h = abi.Head{Role: role, Phase: phase, Context: word}
	if x.Request.HasQuery() {
		h.Flags |= abi.FlagHasQuery
	}
	if x.Trace.Sampled {
		h.Flags |= abi.FlagSampled
	}
	if phase == abi.PhaseResponse {
		h.Status = uint32(x.Response.Status) //nolint:gosec // three digits
		if x.Local.Set {
			h.Flags |= abi.FlagLocal
		}
	}
}
