package http1

import (
	"bytes"

	"wasmgate/runtime/fault"
)

var (
	badPath     = malformed("a path that does not begin with '/', or has a character that is not allowed")
	badEncoding = malformed("a path with %00 or an invalid percent-encoding")
	badDots     = malformed("a path with a dot segment that only some readers would see: next to %2F, %5C, '\\' or ';'")
)

// CleanPath returns the path as routes, plugins and upstreams shall see it, by the rules of the package's documentation:
// the path itself where there is nothing to resolve, which is the common case, and otherwise what it appended to dst. The
// error is a *fault.Error with status 400.
func CleanPath(dst, path []byte) ([]byte, error) {
	if len(path) == 0 || path[0] != '/' || !all(path, target) || bytes.IndexByte(path, '?') >= 0 {
		return nil, badPath.fault(fault.Client)
	}
	start := len(dst)
	clean, p := cleanPath(dst, path)
	switch {
	case p != nil:
		return nil, p.fault(fault.Client)
	case clean == nil:
		return path, nil
	}
	return clean[start:], nil
}

// ValidPath says whether p is a path that CleanPath would leave as it is.
func ValidPath[T text](p T) bool {
	if len(p) == 0 || p[0] != '/' || !all(p, target) {
		return false
	}
	for i := 0; i < len(p); i++ {
		if p[i] == '?' {
			return false
		}
	}
	resolve, problem := inspect(p)
	return problem == nil && !resolve
}

// cleanPath appends the resolved path to dst, or returns nil if there is nothing to resolve. The path begins with '/' and
// has only the characters of a target.
func cleanPath(dst, path []byte) ([]byte, *problem) {
	resolve, p := inspect(path)
	if p != nil || !resolve {
		return nil, p
	}
	return removeDotSegments(dst, path), nil
}

// inspect checks the percent-encodings of a path and looks for dot segments: true if there are some, a problem if one is
// delimited by something that is a separator for some and not for others.
func inspect[T text](path T) (resolve bool, p *problem) {
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '%':
			if c, ok := unhex(path, i); !ok || c == 0 {
				return false, badEncoding
			}
		case '.':
		default:
			continue
		}
		hard, ok := separator(path, i)
		if !ok {
			continue
		}
		dots, after := dotsAt(path, i)
		if dots == 0 || dots > 2 {
			continue
		}
		end := after == len(path) || path[after] == '/'
		switch {
		case end && hard:
			resolve = true
		case end || ambiguous(path, after):
			return false, badDots
		}
	}
	return resolve, nil
}

// separator says whether the segment that i is in begins at i: after '/' (hard), or after '\', %2F or %5C.
func separator[T text](path T, i int) (hard, ok bool) {
	switch c := path[i-1]; {
	case c == '/':
		return true, true
	case c == '\\':
		return false, true
	case i >= 3 && path[i-3] == '%':
		d, _ := unhex(path, i-3)
		return false, d == '/' || d == '\\'
	}
	return false, false
}

// ambiguous says whether some reader ends a segment at i: at '\', ';', %2F, %5C or %3B.
func ambiguous[T text](path T, i int) bool {
	switch path[i] {
	case '\\', ';':
		return true
	case '%':
		c, ok := unhex(path, i)
		return ok && (c == '/' || c == '\\' || c == ';')
	}
	return false
}

// dotsAt counts the dots, plain or percent-encoded, that begin at i, and returns where they end.
func dotsAt[T text](path T, i int) (n, end int) {
	for i < len(path) {
		switch {
		case path[i] == '.':
			i++
		case path[i] == '%' && i+2 < len(path) && path[i+1] == '2' && path[i+2]|0x20 == 'e':
			i += 3
		default:
			return n, i
		}
		n++
	}
	return n, i
}

// unhex returns the byte that the percent-encoding at i stands for.
func unhex[T text](path T, i int) (byte, bool) {
	if i+2 >= len(path) || class[path[i+1]]&class[path[i+2]]&hex == 0 {
		return 0, false
	}
	return nibble(path[i+1])<<4 | nibble(path[i+2]), true
}

// nibble is the value of a hex digit.
func nibble(c byte) byte {
	if c >= 'A' {
		return c&^0x20 - 'A' + 10
	}
	return c - '0'
}

// removeDotSegments appends the path without its dot segments, RFC 3986 section 5.2.4.
func removeDotSegments(dst, path []byte) []byte {
	root := len(dst)
	for i := 0; i < len(path); {
		end := i + 1 // the segment at i, '/' included
		for end < len(path) && path[end] != '/' {
			end++
		}
		dots, after := dotsAt(path, i+1)
		last := end == len(path)
		switch {
		case after != end || dots == 0 || dots > 2:
			dst = append(dst, path[i:end]...)
		case dots == 2:
			if cut := bytes.LastIndexByte(dst[root:], '/'); cut >= 0 {
				dst = dst[:root+cut]
			}
			fallthrough
		default:
			if last {
				dst = append(dst, '/')
			}
		}
		i = end
	}
	return dst
}
