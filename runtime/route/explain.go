package route

import (
	"slices"
	"strings"

	"wasmgate/runtime/http1"
)

// Mismatch is why a rule is not for a request.
type Mismatch struct {
	Part string // of the rule that did not hold, as the configuration calls it: host, path, headers, ...; "": all of it holds
	Name string // of the field or of the query parameter
	Want string // what the rule asks for
	Have string // what the request has; of several values the last one
}

// Explain says for each rule of a table, from one number up to and without another, why it is not for the request. What
// it says is what Match does, rule by rule, with the words for it; it is for people, and allocates.
func (t *Table[T]) Explain(r *http1.Request, from, to int) []Mismatch {
	var m Match
	candidates, host := t.candidates(r, &m), string(normalHost(nil, r.Authority))
	list := make([]Mismatch, 0, to-from)
	for i := from; i < to; i++ {
		rule := &t.rules[i]
		if _, found := slices.BinarySearch(candidates, int32(i)); !found { //nolint:gosec // as in index
			list = append(list, Mismatch{Part: "host", Want: strings.Join(rule.Hosts, " or "), Have: host})
			continue
		}
		m.path, m.captures = r.Path, m.captures[:0]
		list = append(list, rule.explain(rule.match(r, &m), r, &m))
	}
	return list
}

// explain finds the words for the part of the rule that match has named.
func (r *rule) explain(part string, req *http1.Request, m *Match) Mismatch {
	why := Mismatch{Part: part, Have: string(req.Path)}
	switch part {
	case "":
		return Mismatch{}
	case "path":
		why.Want = r.Path
	case "path_prefix":
		why.Want = r.PathPrefix
	case "path_regex":
		why.Want = r.PathRegex
	case "methods":
		why.Want, why.Have = strings.Join(r.Methods, " or "), string(req.Method)
	case "headers":
		i := slices.IndexFunc(r.headers, func(c condition) bool { return !c.field(&req.Head) })
		c := &r.headers[i]
		why.Name, why.Want, why.Have = c.Name, c.words(), "nothing"
		for i := req.Find(0, c.Name); i >= 0; i = req.Find(i+1, c.Name) {
			why.Have = string(req.Value(i))
		}
	case "query":
		i := slices.IndexFunc(r.query, func(c condition) bool { return !c.parameter(req.Query(), &m.decoded) })
		c := &r.query[i]
		why.Name, why.Want, why.Have = c.Name, c.words(), c.parameters(req.Query())
	}
	return why
}

// words says what the condition asks for.
func (c *condition) words() string {
	switch c.Kind {
	case Regex:
		return "regex " + c.Value
	case Present:
		return "any value"
	case Absent:
		return "nothing"
	}
	return c.Value
}

// parameters is the last value that the query has for the condition's name, decoded.
func (c *condition) parameters(query []byte) string {
	have := "nothing"
	for pair := range strings.SplitSeq(string(query), "&") {
		name, value, _ := strings.Cut(pair, "=")
		if decoded, ok := decode(nil, []byte(name)); ok && string(decoded) == c.Name {
			decoded, ok = decode(nil, []byte(value))
			if have = string(decoded); !ok {
				have = "more than is compared"
			}
		}
	}
	return have
}
