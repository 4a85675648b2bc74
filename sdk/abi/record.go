package abi

// Manifests and operation lists are sequences of records: u16 kind, u16 reserved (0), u32 length of the body, body.
// Strings in a body are u32 length and bytes. There is no padding.

// RecordHeader is the length of a record's header.
const RecordHeader = 8

// records walks over a sequence of records.
type records struct {
	rest []byte
	n    int // records read
}

// next returns the next record; ok is false at the end.
func (r *records) next() (kind uint16, body []byte, ok bool, err error) {
	if len(r.rest) == 0 {
		return 0, nil, false, nil
	}
	r.n++
	if len(r.rest) < RecordHeader {
		return 0, nil, false, problem("record ", r.n, ": ", len(r.rest), " bytes left, a record's header has ", RecordHeader)
	}
	kind = le.Uint16(r.rest)
	if reserved := le.Uint16(r.rest[2:]); reserved != 0 {
		return 0, nil, false, problem("record ", r.n, " (kind ", kind, "): the reserved field is ", reserved, ", not 0")
	}
	n := le.Uint32(r.rest[4:])
	if uint64(n) > uint64(len(r.rest)-RecordHeader) {
		return 0, nil, false, problem("record ", r.n, " (kind ", kind, "): body of ", n, " bytes, ", len(r.rest)-RecordHeader, " are left")
	}
	body = r.rest[RecordHeader : RecordHeader+int(n)]
	r.rest = r.rest[RecordHeader+int(n):]
	return kind, body, true, nil
}

// cutString takes a string off a body.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, b, false
	}
	n := le.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, b, false
	}
	return b[4 : 4+n : 4+n], b[4+n:], true
}

func appendHeader(dst []byte, kind uint16, n int) []byte {
	dst = le.AppendUint16(dst, kind)
	dst = le.AppendUint16(dst, 0)
	return le.AppendUint32(dst, uint32(n)) //nolint:gosec // a guest's memory has 32-bit addresses
}

// Text is what the encoders take: both kinds of strings.
type Text interface{ ~string | ~[]byte }

func appendText[T Text](dst []byte, s T) []byte {
	dst = le.AppendUint32(dst, uint32(len(s))) //nolint:gosec // see appendHeader
	return append(dst, s...)
}
