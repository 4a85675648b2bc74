package config

import (
	"fmt"
	"regexp"
	"strings"
)

// templatePart is a piece of a text with captures. The syntax is that of regexp.Expand: $1, ${1}, $name, $${name} in a file (where
// ${name} is an environment variable), and $$ for a $. Unlike there, a capture that does not exist is an error.
type templatePart struct {
	text    string
	capture bool
}

// splitTemplate cuts a text into literal parts and captures.
func splitTemplate(s string) ([]templatePart, error) {
	var parts []templatePart
	var literal strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		literal.WriteString(before)
		if !found {
			break
		}
		if after, ok := strings.CutPrefix(rest, "$"); ok {
			literal.WriteByte('$')
			s = after
			continue
		}
		var name, after string
		if inner, ok := strings.CutPrefix(rest, "{"); ok {
			if name, after, ok = strings.Cut(inner, "}"); !ok {
				return nil, helped{"${ without }", "write ${1}; for a $ itself write $$"}
			}
		} else {
			n := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"))
			name, after = rest[:n], rest[n:]
		}
		if name == "" {
			return nil, helped{"a $ without the name of a capture", "for a $ itself write $$"}
		}
		parts = append(parts, templatePart{text: literal.String()}, templatePart{name, true})
		literal.Reset()
		s = after
	}
	return append(parts, templatePart{text: literal.String()}), nil
}

// template checks a text with captures of a route's path_regex, and returns it with every capture replaced by standIn.
func (v *validator) template(p keyPath, s string, regex *regexp.Regexp, standIn string) (string, bool) {
	parts, err := splitTemplate(s)
	if err != nil {
		v.failErr(p, err)
		return "", false
	}
	var out strings.Builder
	for _, part := range parts {
		if !part.capture {
			out.WriteString(part.text)
			continue
		}
		if err := checkCapture(part.text, regex); err != nil {
			v.failErr(p, err)
			return "", false
		}
		out.WriteString(standIn)
	}
	return out.String(), true
}

// checkCapture says what is wrong with a reference to a capture.
func checkCapture(name string, regex *regexp.Regexp) error {
	if regex == nil {
		return helped{fmt.Sprintf("$%s refers to a capture, and the route has no `match.path_regex`", name), "captures come from match.path_regex; for a $ itself write $$"}
	}
	digits := len(name) - len(strings.TrimLeft(name, "0123456789"))
	if digits == len(name) {
		n := 0
		for _, d := range name[:min(digits, 6)] {
			n = n*10 + int(d-'0')
		}
		if n > regex.NumSubexp() || digits > 6 {
			return helped{fmt.Sprintf("$%s: the expression has no capture %s; it has %d", name, name, regex.NumSubexp()), "captures are the parts in ( ) of match.path_regex, counted from 1"}
		}
		return nil
	}
	if regex.SubexpIndex(name) > 0 {
		return nil
	}
	help := "name a capture with (?P<" + name + ">...) in match.path_regex"
	if digits > 0 {
		help = fmt.Sprintf("a name goes on as far as letters, digits and _ do: write ${%s}%s", name[:digits], name[digits:])
	}
	return helped{fmt.Sprintf("$%s: the expression has no capture of that name", name), help}
}
