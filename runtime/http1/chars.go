package http1

import (
	"encoding/binary"
	"math/bits"
)

// The classes of bytes. One table serves them all, so that it stays in the cache.
const (
	token  = 1 << iota // tchar, RFC 9110 section 5.6.2
	target             // what a request target may consist of
	value              // field-vchar, SP and HTAB, RFC 9110 section 5.5
	host               // reg-name without percent-encodings and sub-delims
	hex
	digit
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9':
			t[c] = token | host | hex | digit
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			t[c] = token | host | hex
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] = token | host
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= target
		}
		if c >= 0x20 && c != 0x7f || c == '\t' {
			t[c] |= value
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= token
	}
	for _, c := range "-._~" {
		t[c] |= host
	}
	return t
}()

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// controlAt returns the index of the first control character (below 0x20, or 0x7f) in b from i on, or len(b). It looks
// at eight bytes at a time: x-n&^x has the high bit set in the first byte that is less than n, and in no byte before.
func controlAt(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		d := x ^ 0x7f*ones
		if m := ((x-0x20*ones)&^x | (d-ones)&^d) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c == 0x7f {
			return i
		}
	}
	return i
}

// valueEnd is controlAt that goes on after an HTAB.
func valueEnd(b []byte, i int) int {
	for {
		i = controlAt(b, i)
		if i >= len(b) || b[i] != '\t' {
			return i
		}
		i++
	}
}

type text interface{ ~string | ~[]byte }

// all says whether s is not empty and each of its bytes is of a class in mask.
func all[T text](s T, mask uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&mask == 0 {
			return false
		}
	}
	return len(s) > 0
}

// ValidFieldName says whether name is a token.
func ValidFieldName[T text](name T) bool { return all(name, token) }

// ValidFieldValue says whether v can be a field value: no control character but HTAB, no white space around it. It may be
// empty.
func ValidFieldValue[T text](v T) bool {
	if len(v) == 0 {
		return true
	}
	return all(v, value) && !isSpace(v[0]) && !isSpace(v[len(v)-1])
}

// ValidMethod says whether m can be a method: a token of at most 32 bytes.
func ValidMethod[T text](m T) bool { return len(m) <= maxMethod && all(m, token) }

// ValidQuery says whether q can be a query, without the '?' before it. It may be empty.
func ValidQuery[T text](q T) bool { return len(q) == 0 || all(q, target) }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// EqualFold says whether a and b are the same but for the case of ASCII letters.
func EqualFold[A, B text](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// equalSpelling is EqualFold for which '_' and '-' are alike.
func equalSpelling[A, B text](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && spelled(a[i]) != spelled(b[i]) {
			return false
		}
	}
	return true
}

func spelled(c byte) byte {
	if c == '_' {
		return '-'
	}
	return lower(c)
}

// nextMember cuts the first member off a comma-separated list, trimmed; it may be empty.
func nextMember(list []byte) (member, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, false
}

// AllTokens says whether every member of the comma-separated list is one that ok accepts. An empty list has one, which is empty.
func AllTokens(list []byte, ok func(m []byte) bool) bool {
	for more := true; more; {
		var m []byte
		if m, list, more = nextMember(list); !ok(m) {
			return false
		}
	}
	return true
}

// HasToken says whether the comma-separated list has tok as a member, in any case.
func HasToken(list []byte, tok string) bool {
	for more := true; more; {
		var m []byte
		if m, list, more = nextMember(list); EqualFold(m, tok) {
			return true
		}
	}
	return false
}
