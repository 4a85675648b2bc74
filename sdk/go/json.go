package wasmgate

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a configuration.
const maxDepth = 16

var (
	errJSON  = errors.New("the configuration is not JSON")
	errDepth = errors.New("the configuration is nested too deeply")
)

// Walk reads a JSON configuration and calls fn for each value that is not an object or an array, in order, with the
// names that lead to it; an element of an array is called by its number. Strings come without quotes and escapes,
// everything else as it is written. It is what most plugins need of encoding/json at a fraction of a module's size.
// The values, and the names in the path, are copies and may be kept; the slice that holds the path is used again after fn returns. A configuration that is absent has no values.
func (c *Config) Walk(fn func(path []string, value string) error) error {
	if len(c.raw.Bytes) == 0 {
		return nil
	}
	w := walker{in: c.raw.Bytes, fn: fn}
	if err := w.value(); err != nil {
		return err
	}
	if w.space(); len(w.in) != 0 {
		return errJSON
	}
	return nil
}

type walker struct {
	in   []byte
	path []string
	fn   func([]string, string) error
}

func (w *walker) space() {
	for len(w.in) > 0 && (w.in[0] == ' ' || w.in[0] == '\t' || w.in[0] == '\n' || w.in[0] == '\r') {
		w.in = w.in[1:]
	}
}

// take consumes c, with the space before it, if it comes next.
func (w *walker) take(c byte) bool {
	w.space()
	if len(w.in) == 0 || w.in[0] != c {
		return false
	}
	w.in = w.in[1:]
	return true
}

func (w *walker) value() error {
	if len(w.path) > maxDepth {
		return errDepth
	}
	w.space()
	if len(w.in) == 0 {
		return errJSON
	}
	switch w.in[0] {
	case '{':
		return w.members('}', true)
	case '[':
		return w.members(']', false)
	case '"':
		s, err := w.str()
		if err != nil {
			return err
		}
		return w.fn(w.path, s)
	}
	n := 0
	for n < len(w.in) && (w.in[n] >= 'a' && w.in[n] <= 'z' || w.in[n] >= '0' && w.in[n] <= '9' ||
		w.in[n] == '-' || w.in[n] == '+' || w.in[n] == '.' || w.in[n] == 'E') {
		n++
	}
	if n == 0 {
		return errJSON
	}
	s := string(w.in[:n])
	w.in = w.in[n:]
	return w.fn(w.path, s)
}

// members reads an object or an array up to its closing bracket.
func (w *walker) members(closing byte, named bool) error {
	w.in = w.in[1:]
	if w.take(closing) {
		return nil
	}
	depth := len(w.path)
	for i := 0; ; i++ {
		name := strconv.Itoa(i)
		if named {
			w.space()
			var err error
			if name, err = w.str(); err != nil {
				return err
			}
			if !w.take(':') {
				return errJSON
			}
		}
		w.path = append(w.path[:depth], name)
		if err := w.value(); err != nil {
			return err
		}
		w.path = w.path[:depth]
		if w.take(closing) {
			return nil
		}
		if !w.take(',') {
			return errJSON
		}
	}
}

// str reads a string, which comes next.
func (w *walker) str() (string, error) {
	if len(w.in) == 0 || w.in[0] != '"' {
		return "", errJSON
	}
	var s []byte
	for i := 1; i < len(w.in); i++ {
		switch c := w.in[i]; {
		case c == '"':
			w.in = w.in[i+1:]
			return string(s), nil
		case c < ' ':
			return "", errJSON
		case c != '\\':
			s = append(s, c)
		case i+1 == len(w.in):
			return "", errJSON
		case w.in[i+1] == 'u':
			r, n := codePoint(w.in[i:])
			if n == 0 {
				return "", errJSON
			}
			s = utf8.AppendRune(s, r)
			i += n - 1
		default:
			e := unescape[w.in[i+1]]
			if e == 0 {
				return "", errJSON
			}
			s = append(s, e)
			i++
		}
	}
	return "", errJSON
}

var unescape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// codePoint reads \uXXXX, or two of them that make a surrogate pair, and returns how many bytes they take.
func codePoint(b []byte) (r rune, n int) {
	high, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if high < 0xD800 || high >= 0xE000 {
		return high, 6
	}
	if low, ok := hex4(b[6:]); ok && high < 0xDC00 && low >= 0xDC00 && low < 0xE000 {
		return 0x10000 + (high-0xD800)<<10 + (low - 0xDC00), 12
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(v), err == nil //nolint:gosec // 16 bits
}
