package kit

import (
	"errors"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of JSON.
const MaxDepth = 16

// Why a text is not taken for JSON.
var (
	ErrJSON  = errors.New("not JSON")
	ErrDepth = errors.New("nested too deeply")
)

// JSON is a value, as it is written: a view into a text that was checked as a whole.
type JSON []byte

// ParseJSON checks a text (RFC 8259) and returns the value in it.
func ParseJSON(b []byte) (JSON, error) {
	start := skipSpace(b, 0)
	end, err := checkValue(b, start, 0)
	if err != nil {
		return nil, err
	}
	if skipSpace(b, end) != len(b) {
		return nil, ErrJSON
	}
	return JSON(b[start:end]), nil
}

// Kind is the first byte: { [ " t f n, or 0 for a number.
func (j JSON) Kind() byte {
	if len(j) == 0 {
		return 'n'
	}
	if j[0] == '-' || j[0] >= '0' && j[0] <= '9' {
		return '0'
	}
	return j[0]
}

// Members goes through an object; of anything else there are none.
func (j JSON) Members() Members { return Members{j, j.Kind() == '{', 1} }

// Elements goes through an array; of anything else there are none.
func (j JSON) Elements() Members { return Members{j, j.Kind() == '[', 1} }

// Members is a place in an object or an array.
type Members struct {
	in   JSON
	more bool
	at   int
}

// Next returns the next member; an element has no name. The name is a string as it is written, with its quotes.
func (m *Members) Next() (name, value JSON, ok bool) {
	if !m.more {
		return nil, nil, false
	}
	in, i := m.in, m.at
	for in[i] == ',' || in[i] <= ' ' {
		i++
	}
	if in[i] == '}' || in[i] == ']' {
		m.more = false
		return nil, nil, false
	}
	if in[0] == '{' {
		from := i
		i = skipString(in, i)
		name = in[from:i]
		for in[i] == ':' || in[i] <= ' ' {
			i++
		}
	}
	m.at = skipValue(in, i)
	return name, in[i:m.at], true
}

// Get is a member of an object, and how often it is there; the value is the first one's.
func (j JSON) Get(name string) (value JSON, count int) {
	for m := j.Members(); ; {
		k, v, ok := m.Next()
		if !ok {
			return value, count
		}
		if k.Is(name) {
			if count++; count == 1 {
				value = v
			}
		}
	}
}

// Is says whether the value is this string.
func (j JSON) Is(s string) bool {
	if len(j) < 2 || j[0] != '"' {
		return false
	}
	in := j[1 : len(j)-1]
	switch {
	case len(in) == len(s):
		return string(in) == s
	case len(in) < len(s) || len(in) > 6*len(s) || backslash(in, 0) == len(in):
		return false
	}
	var short [128]byte
	return len(in) <= len(short) && string(j.Text(short[:0])) == s
}

// Text appends a string without quotes and escapes; anything else as it is written.
func (j JSON) Text(dst []byte) []byte {
	if j.Kind() != '"' {
		return append(dst, j...)
	}
	in := j[1 : len(j)-1]
	for i := 0; i < len(in); i++ {
		plain := i
		i = backslash(in, i)
		dst = append(dst, in[plain:i]...)
		switch {
		case i == len(in):
		case in[i+1] == 'u':
			r, n := codePoint(in[i:])
			dst = utf8.AppendRune(dst, r)
			i += n - 1
		default:
			i++
			dst = append(dst, unescape[in[i]])
		}
	}
	return dst
}

// String is Text as a string of its own.
func (j JSON) String() string {
	if j.Kind() == '"' && backslash(j, 0) == len(j) {
		return string(j[1 : len(j)-1])
	}
	return string(j.Text(nil))
}

// Int is a number without fraction and exponent that fits.
func (j JSON) Int() (n int64, ok bool) {
	in, negative := j, false
	if len(in) > 0 && in[0] == '-' {
		in, negative = in[1:], true
	}
	if len(in) == 0 || len(in) > 18 {
		return 0, false
	}
	for _, c := range in {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// backslash is the place of the next one, or the end.
func backslash(b []byte, i int) int {
	for i < len(b) && b[i] != '\\' {
		i++
	}
	return i
}

// skipString finds the end of a string that was checked.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// plainTo is the place of the next byte of a string that is not just itself, or the end.
func plainTo(b []byte, i int) int {
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// skipValue finds the end of a value that was checked.
func skipValue(b []byte, i int) int {
	if b[i] == '"' {
		return skipString(b, i)
	}
	if b[i] != '{' && b[i] != '[' {
		return scalarEnd(b, i)
	}
	for depth := 0; ; i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// scalarEnd is the end of a number or a word that was checked.
func scalarEnd(b []byte, i int) int {
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

// checkValue checks the value at i, and returns where it ends.
func checkValue(b []byte, i, depth int) (int, error) {
	switch {
	case i >= len(b):
		return 0, ErrJSON
	case b[i] == '"':
		return checkString(b, i)
	case b[i] == '{', b[i] == '[':
		if depth >= MaxDepth {
			return 0, ErrDepth
		}
		return checkMembers(b, i, depth)
	case b[i] == '-', b[i] >= '0' && b[i] <= '9':
		return checkNumber(b, i)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if len(b)-i >= len(word) && string(b[i:i+len(word)]) == word {
			return i + len(word), nil
		}
	}
	return 0, ErrJSON
}

func checkMembers(b []byte, i, depth int) (int, error) {
	object, closing := b[i] == '{', b[i]+2 // } and ] come two after { and [
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, nil
	}
	for {
		var err error
		if object {
			if i >= len(b) || b[i] != '"' {
				return 0, ErrJSON
			}
			if i, err = checkString(b, i); err != nil {
				return 0, err
			}
			if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
				return 0, ErrJSON
			}
			i = skipSpace(b, i+1)
		}
		if i, err = checkValue(b, i, depth+1); err != nil {
			return 0, err
		}
		i = skipSpace(b, i)
		switch {
		case i >= len(b):
			return 0, ErrJSON
		case b[i] == closing:
			return i + 1, nil
		case b[i] != ',':
			return 0, ErrJSON
		}
		i = skipSpace(b, i+1)
	}
}

func checkString(b []byte, i int) (int, error) {
	for i = plainTo(b, i+1); i < len(b); i = plainTo(b, i+1) {
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c < ' ':
			return 0, ErrJSON
		case i+1 >= len(b):
			return 0, ErrJSON
		case b[i+1] == 'u':
			if _, ok := hex4(b[i:]); !ok {
				return 0, ErrJSON
			}
			i += 5
		case unescape[b[i+1]] == 0:
			return 0, ErrJSON
		default:
			i++
		}
	}
	return 0, ErrJSON
}

func checkNumber(b []byte, i int) (int, error) {
	digits := func() bool {
		from := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return 0, ErrJSON
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return 0, ErrJSON
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0, ErrJSON
		}
	}
	return i, nil
}

var unescape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// codePoint reads \uXXXX, or two of them that make a surrogate pair, and returns how many bytes they take.
func codePoint(b []byte) (r rune, n int) {
	high, _ := hex4(b)
	if high < 0xD800 || high >= 0xE000 {
		return high, 6
	}
	if low, ok := hex4(b[6:]); ok && high < 0xDC00 && low >= 0xDC00 && low < 0xE000 {
		return 0x10000 + (high-0xD800)<<10 + (low - 0xDC00), 12
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		d := Unhex(c)
		if d < 0 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// Unhex is the value of a hexadecimal digit, or -1.
func Unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
