package wasm

import (
	"regexp"
	"strconv"
	"strings"
)

// readable undoes what compilers do to names so that linkers bear them: Rust's (the scheme of old) and the simple ones of
// C++. A name that is something else stays as it is.
func readable(name string) string {
	rest, ok := strings.CutPrefix(name, "_ZN")
	if !ok {
		return name
	}
	var parts []string
	for rest != "" && rest[0] != 'E' {
		digits := 0
		for digits < len(rest) && digits < 4 && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n == 0 || n > len(rest)-digits {
			return name
		}
		parts = append(parts, rest[digits:digits+n])
		rest = rest[digits+n:]
	}
	if n := len(parts); n > 1 && rustHash.MatchString(parts[n-1]) {
		parts = parts[:n-1]
	}
	if rest == "" || len(parts) == 0 {
		return name
	}
	for i, p := range parts {
		if strings.HasPrefix(p, "_$") {
			p = p[1:] // no identifier begins with $
		}
		parts[i] = escapes.Replace(p)
	}
	return strings.Join(parts, "::")
}

var rustHash = regexp.MustCompile(`^h[0-9a-f]{16}$`)

// escapes are Rust's, for what stands in no name of C's.
var escapes = strings.NewReplacer("$LT$", "<", "$GT$", ">", "$RF$", "&", "$BP$", "*", "$LP$", "(", "$RP$", ")", "$C$", ",",
	"$u20$", " ", "$u27$", "'", "$u2b$", "+", "$u3b$", ";", "$u5b$", "[", "$u5d$", "]", "$u7b$", "{", "$u7d$", "}", "$u7e$", "~", "..", "::")

// machinery are the functions that languages panic with: whoever reads a stack wants to know who called them.
var machinery = regexp.MustCompile(`^(abort|rust_begin_unwind|rust_panic\w*|__rust_\w+|__rustc::.*|std::panicking::.*|std::process::abort|` +
	`std::(sys_common|sys)::.*|core::panicking::.*|panic_abort::.*|runtime\.(abort|fatalpanic|fatalthrow|throw|gopanic|goPanic\w+|panic\w+))`)

// caller returns the frames behind the machinery of a panic. One frame of it alone is somebody's call of abort.
func caller(trace []traced) []traced {
	n := 0
	for n < len(trace) && machinery.MatchString(trace[n].function) {
		n++
	}
	if n < 2 || n == len(trace) {
		return trace
	}
	return trace[n:]
}
