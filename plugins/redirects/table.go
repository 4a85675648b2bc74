package main

import (
	"errors"
	"strings"

	"wasmgate/plugins/kit"
)

// find returns the rule for a path: that for exactly it, else that of the longest prefix, else the first expression that
// matches. ok is false if the path is so long that its expressions were too much work.
func (c *settings) find(path string) (r *rule, ok bool) {
	if n := c.table.find(path); n != none {
		return c.table.rule(n), true
	}
	left := maxSteps
	for i := range c.regexes {
		r := &c.regexes[i]
		if !strings.HasPrefix(path, r.expr.prefix) {
			continue
		}
		if r.expr.match(path, &left) {
			return r, true
		}
		if left < 0 {
			return nil, false
		}
	}
	return nil, true
}

// maxSteps bounds the work of expressions. A step is some 160 instructions, and a byte of a path takes three to seven.
const maxSteps = 12_000

// table is the rules about paths and prefixes. Its ten thousand lines are one text and numbers, so that Go's garbage collector,
// which is dear in a module, has nothing to go through; they are found by their hash.
type table struct {
	text    []byte
	lines   []line
	slots   []int32 // numbers of lines and 1; 0: there is none. At least half of them are free, and there are 2, 4, 8 …
	deepest int     // prefix, in slashes
	one     rule    // that rule returned
}

// line is a rule, as places in the text.
type line struct {
	from, middle, to uint32 // the path is up to the middle, and the target from there
	status           uint16
	kind             kind
	keepQuery        bool
}

// none is the number of no line.
const none = -1

func (t *table) add(r *rule, to string) {
	l := line{from: uint32(len(t.text)), status: uint16(r.status), kind: r.kind, keepQuery: r.keepQuery} //nolint:gosec // a configuration has at most a MiB
	t.text = append(t.text, r.from...)
	l.middle = uint32(len(t.text)) //nolint:gosec // see above
	t.text = append(t.text, to...)
	l.to = uint32(len(t.text)) //nolint:gosec // see above
	t.lines = append(t.lines, l)
}

// path is what a line is about.
func (t *table) path(n int32) string {
	l := &t.lines[n]
	return kit.View(t.text[l.from:l.middle])
}

// rule is a line, until the next call.
func (t *table) rule(n int32) *rule {
	l := &t.lines[n]
	to, _ := lead(kit.View(t.text[l.middle:l.to])) // it was checked
	t.one = rule{kind: l.kind, from: t.path(n), to: to, status: int(l.status), keepQuery: l.keepQuery}
	return &t.one
}

// link makes the lines ready to be found.
func (t *table) link() error {
	size := 2
	for size < 2*len(t.lines) {
		size *= 2
	}
	t.slots = make([]int32, size)
	for n := range t.lines {
		path, kind := t.path(int32(n)), t.lines[n].kind //nolint:gosec // see above
		h := hash(path)
		if t.look(h, path, kind) != none {
			return errors.New("config: " + path + " is there twice")
		}
		at := slot(h, kind) & (size - 1)
		for t.slots[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		t.slots[at] = int32(n) + 1 //nolint:gosec // see above
		if kind == prefix {
			t.deepest = max(t.deepest, depth(path))
		}
	}
	return nil
}

// FNV-1a of 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

func hash(s string) uint64 {
	h := uint64(offset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// slot is where a line stands, or behind it.
func slot(h uint64, kind kind) int {
	h = (h ^ uint64(kind)) * prime
	return int(uint32(h ^ h>>32)) //nolint:gosec // bits
}

// look finds a line by its path.
func (t *table) look(h uint64, path string, kind kind) int32 {
	for at := slot(h, kind); ; at++ {
		n := t.slots[at&(len(t.slots)-1)] - 1
		if n == none || t.lines[n].kind == kind && t.path(n) == path {
			return n
		}
	}
}

// depth is how many slashes there are in a path.
func depth(path string) (n int) {
	for i := range len(path) {
		if path[i] == '/' {
			n++
		}
	}
	return n
}

// find finds the line for exactly a path, or else that of its longest prefix.
func (t *table) find(path string) int32 {
	found := int32(none)
	if len(t.lines) == 0 {
		return found
	}
	h, slashes := uint64(offset), 0
	for i := range len(path) {
		if path[i] == '/' {
			slashes++
		}
		if i > 0 && path[i] == '/' && slashes <= t.deepest+1 {
			if n := t.look(h, path[:i], prefix); n != none {
				found = n
			}
		}
		h = (h ^ uint64(path[i])) * prime
	}
	if n := t.look(h, path, exact); n != none {
		return n
	}
	if n := t.look(h, path, prefix); n != none {
		return n
	}
	return found
}

// append appends where the rule leads from a path, but for the request's query.
func (r *rule) append(dst []byte, path string) []byte {
	start := len(dst)
	if r.parts != nil {
		for _, p := range r.parts.path {
			dst = appendPart(dst, p, path, inPath)
		}
		dst = oneSlash(dst, start)
		for i, p := range r.parts.query {
			if i == 0 {
				dst = append(dst, '?')
			}
			dst = appendPart(dst, p, path, inValue)
		}
		return dst
	}
	dst = append(dst, r.to.path...)
	if r.kind == prefix {
		rest := path[len(r.from):]
		if len(dst) > start && dst[len(dst)-1] == '/' {
			rest = strings.TrimPrefix(rest, "/")
		}
		dst = encode(dst, rest, inPath)
	}
	dst = oneSlash(dst, start)
	if r.to.query != "" {
		dst = append(append(dst, '?'), r.to.query...)
	}
	return dst
}

func appendPart(dst []byte, p part, path string, set uint8) []byte {
	if len(dst) > maxLocation {
		return dst // it is refused as it is
	}
	if p.text != "" {
		return append(dst, p.text...)
	}
	if k := 2 * p.capture; captures[k] >= 0 && captures[k+1] >= captures[k] {
		dst = encode(dst, path[captures[k]:captures[k+1]], set)
	}
	return dst
}

// oneSlash has what begins at start begin with one slash: what begins with two is another host's.
func oneSlash(dst []byte, start int) []byte {
	n := start
	for n < len(dst) && dst[n] == '/' {
		n++
	}
	if n == start {
		dst = append(dst, 0)
		copy(dst[start+1:], dst[start:])
		dst[start] = '/'
		return dst
	}
	return append(dst[:start+1], dst[n:]...)
}

// Where a byte can stand as it is (RFC 3986, 3.3 and 3.4).
const (
	inPath  = 1 << iota
	inQuery // of the request's own
	inValue // what was captured, as a part of a query
)

var plain = func() (set [256]uint8) {
	for c := range set {
		switch b := byte(c); { //nolint:gosec // an index
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte("-._~%/:@", b) >= 0:
			set[c] = inPath | inQuery | inValue
		case strings.IndexByte("!$&'()*+,;=", b) >= 0:
			set[c] = inPath | inQuery
		case b == '?', b == '[', b == ']':
			set[c] = inQuery
		}
	}
	return set
}()

// encode appends s, with %XX for what cannot stand there.
func encode(dst []byte, s string, set uint8) []byte {
	n := len(dst)
	for cap(dst) < n+3*len(s) {
		dst = append(dst[:cap(dst)], 0)
	}
	return dst[:n+write(dst[n:n+3*len(s)], s, set)]
}

// write is encode's loop. It calls nothing: Go's calls are dear in a module.
func write(dst []byte, s string, set uint8) int {
	const digits = "0123456789ABCDEF"
	n := 0
	for i := 0; i < len(s) && n+3 <= len(dst); i++ {
		c := s[i]
		if plain[c]&set != 0 {
			dst[n] = c
			n++
			continue
		}
		dst[n], dst[n+1], dst[n+2] = '%', digits[c>>4], digits[c&15]
		n += 3
	}
	return n
}
