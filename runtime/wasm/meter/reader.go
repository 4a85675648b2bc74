package meter

import (
	"fmt"
	"unicode/utf8"
)

// reader reads the primitives of the binary format from b[at:]. The first thing that is wrong sets err; all later reads
// return zero values, so that a caller may check once after reading several things, before it uses or loops over them.
type reader struct {
	b   []byte
	at  int
	err *Error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.at, Function: -1, Detail: fmt.Sprintf(format, args...)}
	}
	r.b = r.b[:min(r.at, len(r.b))] // nothing more to be read
}

func (r *reader) unsupported(feature, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.at, Function: -1, Feature: feature, Detail: fmt.Sprintf(format, args...)}
	}
	r.b = r.b[:min(r.at, len(r.b))]
}

func (r *reader) more() bool { return r.err == nil && r.at < len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail("unexpected end")
		return 0
	}
	c := r.b[r.at]
	r.at++
	return c
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b)-r.at {
		r.fail("unexpected end: %d bytes wanted", n)
		return nil
	}
	s := r.b[r.at : r.at+n : r.at+n]
	r.at += n
	return s
}

// u32 reads an unsigned LEB128 of at most 32 bits.
func (r *reader) u32() uint32 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 { // nearly all of them
		r.at++
		return uint32(r.b[r.at-1])
	}
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail("an integer is too long")
	return 0
}

// signed skips a signed LEB128 of at most bits bits, as strictly as the format asks for.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		v |= int64(c&0x7f) << shift
		left := bits - shift // bits of c that count
		if left <= 7 {
			top := int8(c<<1) >> left // the sign bit and what is above it: all equal
			if c >= 0x80 || top != 0 && top != -1 {
				r.fail("an integer is too long")
				return 0
			}
		}
		if c < 0x80 {
			if shift+7 < 64 && c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

// count reads the length of a vector whose elements take at least one byte each.
func (r *reader) count(what string, limit int) int {
	n := r.u32()
	if int64(n) > int64(limit) {
		r.fail("%d %s, more than %d", n, what, limit)
		return 0
	}
	if int(n) > len(r.b)-r.at {
		r.fail("%d %s do not fit into what is left", n, what)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	n := r.u32()
	if n > maxNameBytes {
		r.fail("a name of %d bytes, more than %d", n, maxNameBytes)
		return ""
	}
	s := r.bytes(int(n))
	if !utf8.Valid(s) {
		r.fail("a name that is not UTF-8")
		return ""
	}
	return string(s)
}

// sub returns a reader of the next n bytes, with offsets of the whole, and skips them.
func (r *reader) sub(n int) reader {
	start := r.at
	if r.bytes(n) == nil && n > 0 {
		return reader{err: r.err}
	}
	return reader{b: r.b[: start+n : start+n], at: start, err: r.err}
}

func (r *reader) valueType() ValueType {
	t := ValueType(r.byte())
	switch t {
	case I32, I64, F32, F64, V128, FuncRef, ExternRef:
		return t
	}
	if r.err == nil { // else there was no byte
		r.at--
		r.badType(byte(t))
	}
	return 0
}

func (r *reader) refType() ValueType {
	if t := r.valueType(); t == FuncRef || t == ExternRef || r.err != nil {
		return t
	}
	r.fail("a reference type is wanted")
	return 0
}

func (r *reader) badType(t byte) {
	switch t {
	case 0x63, 0x64:
		r.unsupported("typed function references", "value type 0x%02x", t)
	case 0x69, 0x74:
		r.unsupported("exceptions", "value type 0x%02x", t)
	case 0x65, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x71, 0x72, 0x73:
		r.unsupported("garbage-collected references", "value type 0x%02x", t)
	default:
		r.fail("0x%02x is not a value type", t)
	}
}

// appendU32 appends an unsigned LEB128.
func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendS64 appends a signed LEB128.
func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }
