package config

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Bounds of the search for routes that can never match: of pairs of routes, and of the letters of an expression times
// those of a path that it is tried on. What is beyond them is not searched.
const (
	maxComparisons = 1_000_000
	maxTrial       = 4_000
)

// shadows warns about routes that can never match, because an earlier one takes every request that they are for.
func (v *validator) shadows(regexes []*regexp.Regexp) {
	routes := v.config.Routes
	comparisons := 0
	for j := range routes {
		for i := range j {
			if comparisons++; comparisons > maxComparisons {
				return
			}
			earlier, later := &routes[i], &routes[j]
			p, q := keyPath{"routes"}.index(i), keyPath{"routes"}.index(j)
			if !covers(&earlier.Match, &later.Match, regexes[i], regexes[j]) || v.hurt[p.String()] || v.hurt[q.String()] {
				continue
			}
			help, what := "move it in front of that route, or remove it", "can never match"
			if later.Exclude {
				what = "excludes nothing"
			}
			v.warn(q, help, "%s: routes[%d] (%s, line %d) takes every such request", what, i, earlier.Name, v.keyAt(p).Line)
			break
		}
	}
}

// covers says whether every request that b matches is matched by a. When in doubt it says no.
func covers(a, b *Match, aRegex, bRegex *regexp.Regexp) bool {
	if a.Plugin != "" { // it may always say no
		return false
	}
	hosts := len(a.Host) == 0 || len(b.Host) > 0 && !slices.ContainsFunc(b.Host, func(h string) bool { return !hostCovered(a.Host, h) })
	methods := len(a.Methods) == 0 || len(b.Methods) > 0 && !slices.ContainsFunc(b.Methods, func(m string) bool { return !slices.Contains(a.Methods, m) })
	return hosts && methods && pathCovered(a, b, aRegex, bRegex) &&
		valuesCovered(a.Headers, b.Headers, strings.ToLower) && valuesCovered(a.Query, b.Query, func(s string) string { return s })
}

func hostCovered(by []string, host string) bool {
	return slices.ContainsFunc(by, func(h string) bool {
		suffix, wild := strings.CutPrefix(h, "*")
		return h == host || wild && strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) && len(host) > len(suffix)
	})
}

func pathCovered(a, b *Match, aRegex, bRegex *regexp.Regexp) bool {
	switch {
	case a.Path == "" && a.PathPrefix == "" && a.PathRegex == "":
		return true
	case a.Path != "":
		return a.Path == b.Path
	case a.PathRegex != "":
		return a.PathRegex == b.PathRegex || b.Path != "" && aRegex != nil && len(a.PathRegex)*len(b.Path) <= maxTrial && aRegex.MatchString(b.Path)
	case a.PathPrefix == "/":
		return true
	case b.Path != "":
		return segmentPrefix(a.PathPrefix, b.Path)
	case b.PathPrefix != "":
		return segmentPrefix(a.PathPrefix, b.PathPrefix)
	case bRegex != nil:
		// Every path must go beyond the prefix's boundary within the letters that the expression begins with.
		return strings.HasPrefix(anchoredPrefix(b.PathRegex), strings.TrimSuffix(a.PathPrefix, "/")+"/")
	}
	return false
}

// anchoredPrefix is the text that every match of an expression begins with, if it is anchored at the beginning.
func anchoredPrefix(expression string) string {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return ""
	}
	tree = tree.Simplify()
	if tree.Op != syntax.OpConcat || len(tree.Sub) < 2 || tree.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	if l := tree.Sub[1]; l.Op == syntax.OpLiteral && l.Flags&syntax.FoldCase == 0 {
		return string(l.Rune)
	}
	return ""
}

// restCapture returns the LITERAL of an expression that is ^LITERAL(.*) or ^LITERAL(/.*), with + or ? as well, and whether
// the capture begins with a slash: that of .* after a literal without one at its end is meant to.
func restCapture(expression string) (literal string, slashed bool) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", false
	}
	tree = tree.Simplify()
	if tree.Op != syntax.OpConcat || len(tree.Sub) < 3 || tree.Sub[0].Op != syntax.OpBeginText ||
		tree.Sub[1].Op != syntax.OpLiteral || tree.Sub[1].Flags&syntax.FoldCase != 0 {
		return "", false
	}
	capture := tree.Sub[2]
	if capture.Op == syntax.OpQuest {
		capture = capture.Sub[0]
	}
	if capture.Op != syntax.OpCapture || capture.Cap != 1 {
		return "", false
	}
	literal, inner := string(tree.Sub[1].Rune), capture.Sub[0]
	switch {
	case isRest(inner):
		return literal, !strings.HasSuffix(literal, "/")
	case inner.Op == syntax.OpConcat && len(inner.Sub) == 2 && isRest(inner.Sub[1]) && inner.Sub[0].Op == syntax.OpLiteral && string(inner.Sub[0].Rune) == "/":
		return literal, true
	}
	return "", false
}

// isRest says whether an expression is .* or .+
func isRest(r *syntax.Regexp) bool {
	return (r.Op == syntax.OpStar || r.Op == syntax.OpPlus) && (r.Sub[0].Op == syntax.OpAnyCharNotNL || r.Sub[0].Op == syntax.OpAnyChar)
}

func valuesCovered(a, b map[string]ValueMatch, fold func(string) string) bool {
	for name, want := range a {
		found := false
		for other, has := range b {
			if fold(other) == fold(name) && (has == want || want.Kind == MatchPresent && has.Kind == MatchExact) {
				found = true
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// unused warns about what nothing refers to.
func (v *validator) unused() {
	if len(v.errors) > 0 {
		return // a name that is mistyped there would be told twice
	}
	for _, name := range mapKeys(v.config.Upstreams) {
		if p := (keyPath{"upstreams", name}); !v.used["upstreams."+name] && !v.used["upstreams.*"] && v.ok(p) {
			v.warnKey(p, "no route, no plugin and no listener uses it")
		}
	}
	for _, name := range mapKeys(v.config.Plugins) {
		if p := (keyPath{"plugins", name}); !v.used["plugins."+name] && v.ok(p) {
			v.warnKey(p, "no route and no listener uses it")
		}
	}
	p := keyPath{"routes"}
	http := slices.ContainsFunc(v.config.Listeners, func(l Listener) bool { return l.Mode == ModeHTTP })
	switch {
	case !v.ok(p) || http == (len(v.config.Routes) > 0):
	case http:
		v.warnKey(p, "there are none: every request is answered 404")
	default:
		v.warnKey(p, "no listener has mode: http: no request is ever read")
	}
}

// warnKey notes a warning at the place of a key.
func (c *collector) warnKey(p keyPath, message string) {
	if len(c.warnings) < most {
		c.warnings = append(c.warnings, c.problem(c.keyAt(p), p, message, ""))
	}
}
