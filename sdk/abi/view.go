package abi

import (
	"encoding/binary"
	"errors"
)

// Field is a string of a view's table.
type Field uint32

// The table, in order.
const (
	FieldMethod Field = iota
	FieldScheme
	FieldAuthority
	FieldPath
	FieldQuery // without the '?'
	FieldClient
	FieldSNI
	FieldCertSubject
	FieldRoute
	Fields // how many there are
)

// Offsets of the fixed part.
const (
	viewLength  = 0
	viewRole    = 4
	viewPhase   = 8
	viewFlags   = 12
	viewTime    = 16
	viewSeed    = 24
	viewContext = 32
	viewStatus  = 40
	viewSlots   = 44
	viewTable   = 48
	// ViewFixed is the length of the fixed part; the slots follow it.
	ViewFixed = viewTable + 8*int(Fields)
)

// Absent is the offset of a string that is not there; its length is 0. List is the bit of a slot's length that says
// that the offset is of a list of (offset, length) pairs; the other bits are their number.
const (
	Absent uint32 = 0xFFFF_FFFF
	List   uint32 = 1 << 31
)

// Head is what a view says besides strings.
type Head struct {
	Role, Phase, Flags uint32
	Time               int64 // Unix milliseconds, coarse
	Seed               uint64
	Context            uint64
	Status             uint32 // response phase; else 0
}

var le = binary.LittleEndian

// ViewWriter writes a view into a buffer. What does not fit is counted and not written: after the last string, Need
// says how many bytes the whole view takes, and it is whole only if Fits.
type ViewWriter struct {
	buf  []byte
	pos  int
	base bool // the fixed part and the slots are in buf
}

// Begin starts a view with the given number of slots; all strings are absent until set. Every slot and every field is
// set at most once.
func (w *ViewWriter) Begin(buf []byte, h *Head, slots int) {
	w.buf, w.pos = buf, ViewFixed+8*slots
	w.base = w.pos <= len(buf)
	if !w.base {
		return
	}
	b := buf[:w.pos]
	le.PutUint32(b[viewLength:], uint32(ViewFixed))
	le.PutUint32(b[viewRole:], h.Role)
	le.PutUint32(b[viewPhase:], h.Phase)
	le.PutUint32(b[viewFlags:], h.Flags)
	le.PutUint64(b[viewTime:], uint64(h.Time)) //nolint:gosec // two's complement on purpose
	le.PutUint64(b[viewSeed:], h.Seed)
	le.PutUint64(b[viewContext:], h.Context)
	le.PutUint32(b[viewStatus:], h.Status)
	le.PutUint32(b[viewSlots:], uint32(slots)) //nolint:gosec // at most 2*MaxSlots
	for at := viewTable; at < len(b); at += 8 {
		le.PutUint64(b[at:], uint64(Absent))
	}
}

// put writes s behind what there is and returns its place, packed as a pair of the view.
func (w *ViewWriter) put(s []byte) uint64 {
	at := w.pos
	w.pos += len(s)
	if w.pos <= len(w.buf) {
		copy(w.buf[at:], s)
	}
	return uint64(len(s))<<32 | uint64(uint32(at)) //nolint:gosec // bounded by the arena
}

// Field sets a string of the table.
func (w *ViewWriter) Field(f Field, s []byte) {
	if p := w.put(s); w.base {
		le.PutUint64(w.buf[viewTable+8*int(f):], p)
	}
}

// FieldString is Field for a string.
func (w *ViewWriter) FieldString(f Field, s string) {
	at := w.pos
	w.pos += len(s)
	if w.pos <= len(w.buf) {
		copy(w.buf[at:], s)
	}
	if w.base {
		le.PutUint64(w.buf[viewTable+8*int(f):], uint64(len(s))<<32|uint64(uint32(at))) //nolint:gosec // see put
	}
}

// Slot sets a slot to one value.
func (w *ViewWriter) Slot(i int, value []byte) {
	if p := w.put(value); w.base {
		le.PutUint64(w.buf[ViewFixed+8*i:], p)
	}
}

// List makes a list of n values of a slot that was set to the first of them, and returns where the list is, for Item.
func (w *ViewWriter) List(i, n int) (at int) {
	w.pos = (w.pos + 3) &^ 3
	at = w.pos
	w.pos += 8 * n
	if w.base {
		if at+8 <= len(w.buf) {
			copy(w.buf[at:at+8], w.buf[ViewFixed+8*i:])
		}
		le.PutUint64(w.buf[ViewFixed+8*i:], uint64(List|uint32(n))<<32|uint64(uint32(at))) //nolint:gosec // see put
	}
	return at
}

// Item sets value k of the list at at; k is not 0.
func (w *ViewWriter) Item(at, k int, value []byte) {
	p := w.put(value)
	if at += 8 * k; at+8 <= len(w.buf) {
		le.PutUint64(w.buf[at:], p)
	}
}

// Need is the length of the view so far.
func (w *ViewWriter) Need() int { return w.pos }

// Fits says whether the view so far is in the buffer whole.
func (w *ViewWriter) Fits() bool { return w.pos <= len(w.buf) }

// View reads a view. Its strings are views into the same bytes. A guest may trust its host; others call Validate first.
type View []byte

// Head returns what the view says besides strings.
func (v View) Head() Head {
	return Head{
		Role: le.Uint32(v[viewRole:]), Phase: le.Uint32(v[viewPhase:]), Flags: le.Uint32(v[viewFlags:]),
		Time: int64(le.Uint64(v[viewTime:])), Seed: le.Uint64(v[viewSeed:]), //nolint:gosec // two's complement on purpose
		Context: le.Uint64(v[viewContext:]), Status: le.Uint32(v[viewStatus:]),
	}
}

// Fixed is the length of the fixed part, which is where the slots begin.
func (v View) Fixed() int { return int(le.Uint32(v)) }

// Field returns a string of the table; nil if it is absent, or if the host's table ends before it.
func (v View) Field(f Field) []byte {
	at := viewTable + 8*int(f)
	if at+8 > v.Fixed() {
		return nil
	}
	return v.pair(at)
}

func (v View) pair(at int) []byte {
	off := le.Uint32(v[at:])
	if off == Absent {
		return nil
	}
	end := off + le.Uint32(v[at+4:])
	return v[off:end:end]
}

// Slots is the number of slots.
func (v View) Slots() int { return int(le.Uint32(v[viewSlots:])) }

// Count is the number of values in a slot; 0: the header is absent.
func (v View) Count(slot int) int {
	at := v.Fixed() + 8*slot
	switch n := le.Uint32(v[at+4:]); {
	case le.Uint32(v[at:]) == Absent:
		return 0
	case n&List != 0:
		return int(n &^ List)
	default:
		return 1
	}
}

// Value returns value k of a slot, nil if there is none. The value itself may be empty and is not nil then.
func (v View) Value(slot, k int) []byte {
	at := v.Fixed() + 8*slot
	off, n := le.Uint32(v[at:]), le.Uint32(v[at+4:])
	switch {
	case off == Absent || k < 0:
		return nil
	case n&List == 0 && k == 0:
		return v[off : off+n : off+n]
	case n&List != 0 && k < int(n&^List):
		return v.pair(int(off) + 8*k)
	}
	return nil
}

var errView = errors.New("view: shorter than its fixed part and slots")

// Validate checks that every string of the view lies within it.
func (v View) Validate() error {
	if len(v) < ViewFixed || v.Fixed() < ViewFixed || v.Fixed() > len(v) || v.Slots() > (len(v)-v.Fixed())/8 {
		return errView
	}
	for f := range Fields {
		at := viewTable + 8*int(f)
		if !v.within(le.Uint32(v[at:]), le.Uint32(v[at+4:])) {
			return problem("view: string ", int(f), " of the table is out of range")
		}
	}
	for i := range v.Slots() {
		at := v.Fixed() + 8*i
		off, n := le.Uint32(v[at:]), le.Uint32(v[at+4:])
		if off == Absent || n&List == 0 {
			if !v.within(off, n) {
				return problem("view: slot ", i, " is out of range")
			}
			continue
		}
		n &^= List
		if n < 2 || off%4 != 0 || uint64(off)+8*uint64(n) > uint64(len(v)) {
			return problem("view: the list of slot ", i, " is out of range")
		}
		for k := range n {
			p := off + 8*k
			if !v.within(le.Uint32(v[p:]), le.Uint32(v[p+4:])) {
				return problem("view: value ", k, " of slot ", i, " is out of range")
			}
		}
	}
	return nil
}

func (v View) within(off, n uint32) bool {
	if off == Absent {
		return n == 0
	}
	return uint64(off)+uint64(n) <= uint64(len(v))
}
