package route

import (
	"bytes"

	"wasmgate/runtime/http1"
)

// field says whether the condition holds for the fields of a head.
func (c *condition) field(h *http1.Head) bool {
	for i := h.Find(0, c.Name); i >= 0; i = h.Find(i+1, c.Name) {
		if c.Kind == Absent {
			return false
		}
		if c.holds(h.Value(i)) {
			return true
		}
	}
	return c.Kind == Absent
}

func (c *condition) holds(value []byte) bool {
	switch c.Kind {
	case Exact:
		return string(value) == c.Value
	case Regex:
		return c.regex.Match(value)
	}
	return c.Kind == Present
}

// maxParameter is the longest query parameter that is compared, decoded; a longer one has no match.
const maxParameter = 1024

// parameter says whether the condition holds for the parameters of a query. buf is storage: an array here would be
// moved to the heap, since a regular expression gets a view of it.
func (c *condition) parameter(query []byte, buf *[maxParameter]byte) bool {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		name, value, _ := bytes.Cut(pair, []byte{'='})
		decoded, ok := decode(buf[:0], name)
		if !ok || string(decoded) != c.Name {
			continue
		}
		if c.Kind == Absent {
			return false
		}
		if decoded, ok = decode(buf[:0], value); ok && c.holds(decoded) {
			return true
		}
	}
	return c.Kind == Absent
}

// decode appends s with %XX and + decoded. What is not valid stays as it is.
func decode(dst, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
				c, i = byte(hi<<4|lo), i+2
			}
		}
		if len(dst) == maxParameter {
			return nil, false
		}
		dst = append(dst, c)
	}
	return dst, true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
