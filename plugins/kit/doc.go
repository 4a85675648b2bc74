// Package kit is what the plugins of this repository have in common: a configuration whose mistakes are told with key and
// value, texts with placeholders, networks, and JSON that is read without allocating.
//
// It uses the SDK and net/netip, which parses addresses and is small. encoding/json and fmt are not used: they would double
// the size of a module, and the former allocates for each value, so that requests would run Go's garbage collector.
//
// Nothing here allocates while a request is handled, given buffers with room. Everything that comes from a request is
// bounded: a placeholder's text by MaxText, JSON by its depth.
package kit

import "unsafe"

// View is b as a string, without a copy. It is for texts that are passed on at once: it changes with b.
func View(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Lower is s in lower case, of ASCII letters only. It allocates if there is something to do.
func Lower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = LowerByte(b[i])
			}
			return View(b)
		}
	}
	return s
}

// LowerByte is c in lower case.
func LowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// EqualFold says whether two texts are the same but for the case of ASCII letters.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if LowerByte(a[i]) != LowerByte(b[i]) {
			return false
		}
	}
	return true
}
