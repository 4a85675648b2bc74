package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// match checks a condition, and returns its path expression.
func (v *validator) match(p keyPath, m *Match) (regex *regexp.Regexp) {
	for i, h := range m.Host {
		if q := p.key("host").index(i); v.ok(q) {
			m.Host[i] = v.matchHost(q, h)
		}
	}
	given := slices.DeleteFunc([]string{"path", "path_prefix", "path_regex"}, func(k string) bool {
		return map[string]string{"path": m.Path, "path_prefix": m.PathPrefix, "path_regex": m.PathRegex}[k] == ""
	})
	if len(given) > 1 {
		v.mention(v.keyAt(p.key(given[1])), p, strings.Join(given, " and ")+" together", "give one of them")
	}
	v.path(p.key("path"), m.Path, true)
	v.path(p.key("path_prefix"), m.PathPrefix, true)
	if m.PathRegex != "" {
		if regex = v.regex(p.key("path_regex"), m.PathRegex); regex != nil && !strings.HasPrefix(m.PathRegex, "^") {
			v.warn(p.key("path_regex"), "begin it with ^", "the expression may match in the middle of a path")
		}
	}
	for i, method := range m.Methods {
		q := p.key("methods").index(i)
		upper := strings.ToUpper(method)
		switch {
		case !isToken(method):
			v.fail(q, "write methods as in GET", "%s is not a method", quote(method))
		case method != upper && slices.Contains(commonMethods, upper):
			v.fail(q, "did you mean `"+upper+"`?", "methods have a case, and %s is none", quote(method))
		case method == "CONNECT":
			v.fail(q, "remove it", "CONNECT is never forwarded")
		}
	}
	v.valueMatches(p.key("headers"), m.Headers, true)
	v.valueMatches(p.key("query"), m.Query, false)
	if m.Plugin != "" {
		v.reference(p.key("plugin"), m.Plugin, "plugins", v.config.Plugins)
	}
	return regex
}

var commonMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}

// matchHost checks a host of a match, and returns it in lower case.
func (v *validator) matchHost(p keyPath, host string) string {
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	bare := strings.TrimPrefix(name, "*.")
	switch {
	case name == "*":
		v.fail(p, "leave `host` out to match every host", "`*` is not a host")
	case strings.HasPrefix(name, "."):
		v.fail(p, "did you mean `*"+name+"`?", "%s is not a host", quote(host))
	case strings.Count(bare, ":") == 1:
		v.fail(p, "leave the port out: hosts are compared without it", "%s has a port", quote(host))
	case strings.HasPrefix(bare, "[") || strings.Contains(bare, ":"):
		a, err := netip.ParseAddr(strings.Trim(bare, "[]"))
		if err != nil {
			v.fail(p, "write a name, *.name or an IP address", "%s is not a host", quote(host))
			return name
		}
		return a.String()
	default:
		if err := checkHost(bare); err != nil {
			v.failErr(p, err)
		}
	}
	return name
}

// path checks a path as it stands in a request line.
func (v *validator) path(p keyPath, s string, matched bool) {
	if s == "" || !v.ok(p) {
		return
	}
	if !strings.HasPrefix(s, "/") {
		help := "write `/" + s + "`"
		if strings.HasPrefix(s, "^") || strings.HasPrefix(s, "~") {
			help = "an expression belongs into `path_regex`"
		}
		v.fail(p, help, "%s does not begin with /", quote(s))
		return
	}
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case ch == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])):
			v.fail(p, "write %25 for a % itself", "%% without two hexadecimal digits")
			return
		case ch == '?':
			v.fail(p, "in a match say `query`, in a rewrite `query`", "a path has no query")
			return
		case ch <= ' ' || ch >= 0x7f || strings.IndexByte("\"#<>[\\]^`{|}", ch) >= 0:
			letter := string([]rune(s[i:])[:1])
			help := "write it as it stands in a request: " + percent(letter)
			if matched && strings.IndexByte("[]^{}|\\", ch) >= 0 {
				help = "an expression belongs into `path_regex`; otherwise write " + percent(letter)
			}
			v.fail(p, help, "%s cannot stand in a path", quote(letter))
			return
		}
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			v.fail(p, "write the path that is meant", "has a %s segment", quote(segment))
			return
		}
	}
	if matched && strings.Contains(s, "*") {
		v.warn(p, "say `path_prefix: "+strings.TrimRight(s, "*/")+"` for everything below it", "* is an ordinary letter here")
	}
}

// percent writes every byte of s as %XX.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (v *validator) regex(p keyPath, s string) *regexp.Regexp {
	if !v.ok(p) {
		return nil
	}
	if len(s) > maxRegex {
		v.fail(p, "write several routes, or ask a plugin with `match.plugin`", "an expression of %d bytes, more than %d", len(s), maxRegex)
		return nil
	}
	r, err := regexp.Compile(s)
	if err != nil {
		help := "expressions are RE2, as in Go"
		if strings.Contains(err.Error(), "(?") {
			help = "expressions are RE2, as in Go: there is no looking ahead or behind"
		}
		v.fail(p, help, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	return r
}

func (v *validator) valueMatches(p keyPath, m map[string]ValueMatch, fields bool) {
	seen := map[string]string{}
	for _, name := range mapKeys(m) {
		q := p.key(name)
		if fields {
			if strings.EqualFold(name, "host") {
				v.add(v.keyAt(q), q, "the Host field is not matched here", "say `match.host`")
			}
			v.fieldName(q, name, nil)
			if first, twice := seen[strings.ToLower(name)]; twice {
				v.add(v.keyAt(q), q, fmt.Sprintf("is the same field as %s", quote(first)), "field names have no case")
			}
			seen[strings.ToLower(name)] = name
		} else if name == "" {
			v.add(v.keyAt(q), q, "a parameter without a name", "write its name, as in `debug: {present: true}`")
		}
		if m[name].Kind == MatchRegex {
			v.regex(q.key("regex"), m[name].Value)
		}
	}
}
