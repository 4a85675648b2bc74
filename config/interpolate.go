package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// expand replaces ${NAME} by an environment variable and ${NAME:-text} by text where the variable is unset or empty.
// $${ stands for ${ itself; a $ before anything else, as in the captures $1 and ${1}, is left alone.
func (d *document) expand(p keyPath, s string, at Position) (string, bool) {
	if !strings.Contains(s, "${") {
		return s, false
	}
	if d.expanded > maxExpanded {
		return "", false
	}
	var out strings.Builder
	changed, length := false, len(s)
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		out.WriteString(s[:i])
		if i > 0 && s[i-1] == '$' {
			out.WriteString("{") // of $${, one $ is out already
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			d.add(d.within(at, s[i:]), p, "${ without }", "write ${NAME}; for the text `${` itself write $${")
			return "", false
		}
		reference := s[i+2 : i+end]
		name, fallback, hasFallback := strings.Cut(reference, ":-")
		s = s[i+end+1:]
		if !envName(name) {
			if !captureName(reference) {
				d.add(d.within(at, "${"+reference), p, fmt.Sprintf("${%s} is not the name of an environment variable", reference), "a name is letters, digits and _; for the text `${` itself write $${")
			}
			out.WriteString("${" + reference + "}")
			continue
		}
		value, ok := d.lookup(name)
		if hasFallback && value == "" {
			value, ok = fallback, true
		}
		if !ok {
			at := d.within(at, "${"+reference)
			at.Width = utf8.RuneCountInString(reference) + 3
			d.add(at, p, fmt.Sprintf("the environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}; for a capture of that name write $${%s}", name, name))
		}
		changed, d.filled[p.String()] = true, true
		out.WriteString(value)
	}
	out.WriteString(s)
	if d.expanded += max(out.Len(), length); d.expanded > maxExpanded {
		d.add(at, p, fmt.Sprintf("texts with ${...} in them are longer than %d bytes together", maxExpanded), "a config is for one gateway; a plugin can hold tables")
	}
	return out.String(), changed
}

func envName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// captureName says whether ${s} is a numbered capture.
func captureName(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "0123456789") == ""
}
