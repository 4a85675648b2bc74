// Package route finds what a configuration says about a request: an immutable Table of rules, matched in order, each
// with a payload of which the package knows nothing.
//
// What is matched is what is sent on: the path as package http1 has resolved it, byte for byte, without decoding
// percent-encodings; hosts without regard to case, port and the root's dot; query parameters decoded once (%XX, and +
// for a space). Regular expressions are RE2 (package regexp/syntax), found anywhere in the path unless anchored.
//
// Match allocates nothing, captures included: regexp.Regexp allocates the captures that it returns, so the compiled
// program is run here, by a backtracker that visits each state and position at most once.
package route

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"wasmgate/runtime/http1"
)

// Rule is a condition on requests; every part that is given must hold.
type Rule struct {
	Name       string
	Hosts      []string // exact, or "*." and a suffix for one or more labels in front of it; lower case; none: every host
	Path       string   // the whole path
	PathPrefix string   // up to a segment boundary: /app matches /app and /app/x; one that ends with / matches what is below
	PathRegex  string   // its captures are kept in the Match
	Methods    []string
	Headers    []Condition
	Query      []Condition
}

// Kind is how a Condition compares.
type Kind uint8

// The kinds of conditions.
const (
	Exact Kind = iota
	Regex
	Present
	Absent
)

// Condition is a condition on the value of a field or of a query parameter. Of several with the name one must hold; for
// Absent there must be none.
type Condition struct {
	Name  string
	Kind  Kind
	Value string // text or expression
}

// Table is a list of rules with their payloads. It is immutable, and may be used by several goroutines.
type Table[T any] struct {
	rules    []rule
	payloads []T
	hosts    map[string][]int32 // exact host → the rules that can match it, in order
	suffixes map[string][]int32 // suffix of wildcards → the same
	others   []int32            // the rules for every host
}

// rule is a Rule made ready.
type rule struct {
	Rule
	regex   *program
	headers []condition
	query   []condition
}

type condition struct {
	Condition
	regex *regexp.Regexp
}

// New makes a table. The error names the rule and what is wrong with it.
func New[T any](rules []Rule, payloads []T) (*Table[T], error) {
	t := &Table[T]{payloads: payloads, hosts: map[string][]int32{}, suffixes: map[string][]int32{}}
	for i := range rules {
		r := rule{Rule: rules[i]}
		var err error
		if r.PathRegex != "" {
			if r.regex, err = compile(r.PathRegex); err != nil {
				return nil, fmt.Errorf("route %s: path_regex: %w", r.Name, err)
			}
		}
		if r.headers, err = conditions(r.Headers); err == nil {
			r.query, err = conditions(r.Query)
		}
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		t.rules = append(t.rules, r)
	}
	t.index()
	return t, nil
}

func conditions(list []Condition) ([]condition, error) {
	var made []condition
	for _, c := range list {
		m := condition{Condition: c}
		if c.Kind == Regex {
			var err error
			if m.regex, err = regexp.Compile(c.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		made = append(made, m)
	}
	return made, nil
}

// index makes, for each host that a rule names, the list of all rules that can match it, so that a table of ten thousand
// hosts looks at the rules of one.
func (t *Table[T]) index() {
	for i := range t.rules {
		for _, h := range t.rules[i].Hosts {
			if suffix, ok := strings.CutPrefix(h, "*"); ok {
				t.suffixes[suffix] = nil
			} else {
				t.hosts[h] = nil
			}
		}
	}
	var wild []int32 // rules with a wildcard, few as a rule
	byHost := map[string][]int32{}
	for i := range t.rules {
		n := int32(i)
		if len(t.rules[i].Hosts) == 0 {
			t.others = append(t.others, n)
		}
		for _, h := range t.rules[i].Hosts {
			if h[0] == '*' {
				wild = append(wild, n)
			} else {
				byHost[h] = append(byHost[h], n)
			}
		}
	}
	candidates := func(host string, own []int32) []int32 {
		list := slices.Concat(own, t.others)
		for _, n := range wild {
			for _, h := range t.rules[n].Hosts {
				if h[0] == '*' && len(host) > len(h)-1 && strings.HasSuffix(host, h[1:]) {
					list = append(list, n)
				}
			}
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	for h := range t.hosts {
		t.hosts[h] = candidates(h, byHost[h])
	}
	for s := range t.suffixes {
		t.suffixes[s] = candidates("x"+s, nil)
	}
}

// Len is the number of rules.
func (t *Table[T]) Len() int { return len(t.rules) }

// At returns the payload of rule i.
func (t *Table[T]) At(i int) T { return t.payloads[i] }

// Match is what matching leaves behind: the captures of the rule's regular expression. It is used again for the next
// request, belongs to one goroutine, and is valid as long as the request's path is.
type Match struct {
	path     []byte
	captures []int32 // pairs of offsets in path; -1: did not take part
	program  *program
	machine  machine
	host     [256]byte
	decoded  [maxParameter]byte
}

// Capture returns capture i; 0 is the whole match. It is empty for one that took no part.
func (m *Match) Capture(i int) []byte {
	if 2*i+1 >= len(m.captures) || m.captures[2*i] < 0 {
		return nil
	}
	return m.path[m.captures[2*i]:m.captures[2*i+1]]
}

// Match returns the first rule from number from on that is for the request, or -1. To go on after a rule, ask again
// from the next number.
func (t *Table[T]) Match(r *http1.Request, from int, m *Match) int {
	m.path, m.captures, m.program = r.Path, m.captures[:0], nil
	for _, n := range t.candidates(r, m) {
		if int(n) >= from && t.rules[n].match(r, m) == "" {
			return int(n)
		}
	}
	return -1
}

// candidates returns the rules that can match the request's host, in order.
func (t *Table[T]) candidates(r *http1.Request, m *Match) []int32 {
	if len(t.hosts) == 0 && len(t.suffixes) == 0 {
		return t.others
	}
	host := normalHost(m.host[:0], r.Authority)
	if list, ok := t.hosts[string(host)]; ok {
		return list
	}
	for i := 1; i < len(host) && len(t.suffixes) > 0; i++ {
		if host[i] == '.' {
			if list, ok := t.suffixes[string(host[i:])]; ok {
				return list // the longest suffix first: its list has the rules of the shorter ones too
			}
		}
	}
	return t.others
}

// normalHost appends the host of an authority: lower case, without port and final dot.
func normalHost(dst, authority []byte) []byte {
	if len(authority) > 255 {
		return dst
	}
	for i, c := range authority {
		if c == ':' && (len(authority) == 0 || authority[0] != '[' || i > 0 && authority[i-1] == ']') {
			break
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	if n := len(dst); n > 1 && dst[n-1] == '.' {
		dst = dst[:n-1]
	}
	return dst
}

// match says why the rule is not for the request; "" is that it is. The host is known to be right.
func (r *rule) match(req *http1.Request, m *Match) string {
	if r.Path != "" && string(req.Path) != r.Path {
		return "path"
	}
	if r.PathPrefix != "" && !hasPrefix(req.Path, r.PathPrefix) {
		return "path_prefix"
	}
	if len(r.Methods) > 0 && !hasMethod(r.Methods, req.Method) {
		return "methods"
	}
	for i := range r.headers {
		if !r.headers[i].field(&req.Head) {
			return "headers"
		}
	}
	for i := range r.query {
		if !r.query[i].parameter(req.Query(), &m.decoded) {
			return "query"
		}
	}
	if r.regex != nil {
		if !m.machine.run(r.regex, req.Path, &m.captures) {
			return "path_regex"
		}
		m.program = r.regex
	}
	return ""
}

func hasPrefix(path []byte, prefix string) bool {
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/'
}

func hasMethod(list []string, method []byte) bool {
	for _, m := range list {
		if m == string(method) {
			return true
		}
	}
	return false
}
