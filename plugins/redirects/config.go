package main

import (
	"errors"
	"strconv"
	"strings"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// settings are the plugin's configuration.
type settings struct {
	https     bool
	port      string            // of https, with a colon; "" for 443
	hosts     map[string]string // canonical hosts, by the host in lower case
	domains   map[string]string // the same for all names below a domain, by the domain with a dot in front
	others    string            // the same for any other host
	status    int
	keepQuery bool

	table   table
	regexes []rule // in the order of the configuration
}

var conf settings

// rule is one of the rules, ready to be followed.
type rule struct {
	kind      kind
	from      string
	to        target
	status    int
	keepQuery bool

	expr  *program
	parts *captured // of an expression, instead of the target's path and query; nil: there are no captures in it
}

type kind uint8

const (
	exact kind = iota + 1
	prefix
	regex
)

// target is where a rule leads.
type target struct {
	origin      string // scheme and authority; "" for here
	path, query string
	fragment    string // with its #
}

// captured is a target with captures in it.
type captured struct{ path, query []part }

// part is a literal text, or a capture if there is none.
type part struct {
	text    string
	capture int
}

const (
	maxRules    = 1000 // with keys of their own; lines of the table are not limited
	maxRegexes  = 50
	maxCaptures = 9
	maxDepth    = 32 // of prefixes: each slash of a path is a place where one can end
)

func configure(c *wasmgate.Config) error {
	conf = settings{
		status: 308, keepQuery: true, hosts: map[string]string{}, domains: map[string]string{},
	}
	var rules, table kit.Value
	err := kit.Read(c, kit.Keys{
		"https":      readHTTPS,
		"hosts":      readHosts,
		"status":     readStatus(&conf.status),
		"keep_query": kit.Bool(&conf.keepQuery),
		"rules":      func(v kit.Value) error { rules = v; return nil }, // when what holds for all of them is known
		"table":      func(v kit.Value) error { table = v; return nil },
	})
	if err == nil && rules.JSON() != nil {
		err = readRules(rules)
	}
	if err == nil && table.JSON() != nil {
		err = readTable(table)
	}
	if err == nil && !conf.https && len(conf.hosts)+len(conf.domains)+len(conf.table.lines)+len(conf.regexes) == 0 && conf.others == "" {
		err = errors.New("config: nothing is to be done; the keys are hosts, https, keep_query, rules, status, table")
	}
	if err == nil {
		err = conf.table.link()
	}
	return err
}

func readHTTPS(v kit.Value) error {
	if !v.IsObject() {
		var err error
		conf.https, err = v.Bool()
		return err
	}
	conf.https = true
	port := 443
	err := v.Object(kit.Keys{"port": kit.Int(&port, 1, 65535)})
	if port != 443 {
		conf.port = ":" + strconv.Itoa(port)
	}
	return err
}

func readStatus(to *int) func(kit.Value) error {
	return func(v kit.Value) error {
		n, err := v.Int(301, 308)
		if err != nil || n >= 304 && n <= 306 {
			return v.Wrong("is no redirect; they are 301, 302, 303, 307 and 308")
		}
		*to = int(n)
		return nil
	}
}

func readHosts(v kit.Value) error {
	return v.Map(func(from string, v kit.Value) error {
		to, err := v.Text()
		switch {
		case err != nil:
			return err
		case !validAuthority(to) || len(to) > 250:
			return v.Wrong("is not a host, with or without a port")
		}
		from = kit.Lower(from)
		name, wild := strings.CutPrefix(from, "*.")
		switch {
		case from == "*":
			conf.others = to
		case !validAuthority(name) || strings.IndexByte(name, ':') >= 0 && name[0] != '[':
			return errors.New(v.Path() + `: the host is a name without a port, *.NAME, or "*" for all others`)
		case wild:
			conf.domains["."+name] = to
		default:
			conf.hosts[from] = to
		}
		return nil
	})
}

// readRules reads rules with keys of their own. Their readers are made once.
func readRules(list kit.Value) error {
	var r rule
	var n int // how many of path, prefix and regex a rule has
	var to kit.Value
	from := func(k kind) func(kit.Value) error {
		return func(v kit.Value) (err error) {
			r.kind = k
			n++
			r.from, err = v.Text()
			return err
		}
	}
	keys := kit.Keys{
		"path": from(exact), "prefix": from(prefix), "regex": from(regex),
		"to":         func(v kit.Value) error { to = v; return nil },
		"status":     func(v kit.Value) error { return readStatus(&r.status)(v) },
		"keep_query": func(v kit.Value) error { return kit.Bool(&r.keepQuery)(v) },
	}
	return list.List(func(v kit.Value) error {
		r, n, to = rule{status: conf.status, keepQuery: conf.keepQuery}, 0, kit.Value{}
		if err := v.Object(keys); err != nil {
			return err
		}
		switch {
		case n != 1:
			return v.Wrong("has " + strconv.Itoa(n) + " of path, prefix and regex, and needs one of them")
		case to.JSON() == nil:
			return v.Missing("to", "a path, or an URL")
		case len(conf.table.lines)+len(conf.regexes) == maxRules:
			return v.Wrong("is one more than " + strconv.Itoa(maxRules) + "; table has room for more")
		}
		s, err := to.Text()
		if err != nil {
			return err
		}
		if problem := r.complete(s); problem != "" {
			return v.Wrong(problem)
		}
		return nil
	})
}

// readTable reads a text with a rule on each line: a path, or a prefix with /* behind it, where it leads, and perhaps a status.
func readTable(v kit.Value) error {
	text, err := v.Text()
	for n := 1; text != "" && err == nil; n++ {
		var line string
		line, text = cut(text, '\n')
		from, rest := word(line)
		to, rest := word(rest)
		status, rest := word(rest)
		r := rule{kind: exact, from: from, status: conf.status, keepQuery: conf.keepQuery}
		problem := ""
		switch {
		case from == "" || from[0] == '#':
			continue
		case to == "" || rest != "":
			problem = "is not FROM TO, or FROM TO STATUS"
		case status != "" && (len(status) != 3 || strings.IndexByte("12378", status[2]) < 0 || status[:2] != "30"):
			problem = "has a status that is no redirect; they are 301, 302, 303, 307 and 308"
		default:
			if status != "" {
				r.status = 300 + int(status[2]-'0')
			}
			if len(from) > 2 && from[len(from)-2:] == "/*" {
				r.kind, r.from = prefix, from[:len(from)-2]
			}
			problem = r.complete(to)
		}
		if problem != "" {
			err = errors.New(v.Path() + ", line " + strconv.Itoa(n) + ": " + strconv.Quote(line) + " " + problem)
		}
	}
	return err
}

// cut divides s at the first c; what follows it is "" if there is none.
func cut(s string, c byte) (before, after string) {
	i := 0
	for i < len(s) && s[i] != c {
		i++
	}
	return s[:i], s[min(i+1, len(s)):]
}

// word returns the first word, and what follows it.
func word(s string) (first, rest string) {
	from := 0
	for from < len(s) && (s[from] == ' ' || s[from] == '\t' || s[from] == '\r') {
		from++
	}
	to := from
	for to < len(s) && s[to] != ' ' && s[to] != '\t' && s[to] != '\r' {
		to++
	}
	return s[from:to], s[to:]
}

// complete takes a rule in, or says what is wrong with it.
func (r *rule) complete(to string) (problem string) {
	if r.kind == regex {
		if problem = r.compile(); problem != "" {
			return problem
		}
	} else if r.from == "" || r.from[0] != '/' || !pathOnly(r.from) {
		return "is not about a path: that begins with / and has no query"
	}
	if r.to, problem = lead(to); problem != "" {
		return problem
	}
	switch r.kind {
	case regex:
		problem = r.capture()
		conf.regexes = append(conf.regexes, *r)
		return problem
	case prefix:
		if r.from = strings.TrimSuffix(r.from, "/"); r.from == "" {
			return "is about everything; hosts and https are for that"
		}
		if depth(r.from) > maxDepth {
			return "is about a prefix with more than " + strconv.Itoa(maxDepth) + " slashes"
		}
	}
	if t := &r.to; t.origin == "" && (r.kind == exact && t.path == r.from || r.kind == prefix && wasmgate.PathUnder(t.path, r.from)) {
		return "leads to itself"
	}
	conf.table.add(r, to)
	return ""
}

func (r *rule) compile() (problem string) {
	if len(conf.regexes) == maxRegexes {
		return "is one more than " + strconv.Itoa(maxRegexes) + " expressions; paths and prefixes are not limited"
	}
	if r.expr, problem = compile(strings.TrimPrefix(r.from, "^")); problem != "" {
		return "has no regular expression: " + problem
	}
	if len(r.expr.names) > maxCaptures+1 {
		return "has more than " + strconv.Itoa(maxCaptures) + " captures"
	}
	return ""
}

// lead divides where a rule leads: a path, or an URL whose scheme and authority are written out, so that no client can choose
// them.
func lead(s string) (t target, problem string) {
	if !urlOnly(s) {
		return t, "leads to a place with a character that is not allowed in an URL; write it as %XX"
	}
	rest := s
	if s[0] != '/' || len(s) > 1 && s[1] == '/' {
		at := strings.Index(s, "://")
		if at < 0 {
			return t, "leads to a place that begins neither with http:// or https:// nor with one /"
		}
		end := at + 3
		for end < len(s) && s[end] != '/' && s[end] != '?' && s[end] != '#' {
			end++
		}
		t.origin, rest = s[:end], s[end:]
		if scheme := s[:at]; scheme != "http" && scheme != "https" || !validAuthority(s[at+3:end]) {
			return t, "leads to no fixed place: before the path there are http:// or https:// and a host, without captures"
		}
	}
	before, _ := cut(rest, '#')
	t.fragment = rest[len(before):]
	t.path, t.query = cut(before, '?')
	return t, ""
}

// capture finds the captures in where an expression leads.
func (r *rule) capture() (problem string) {
	if strings.IndexByte(r.to.path, '$') < 0 && strings.IndexByte(r.to.query, '$') < 0 {
		return ""
	}
	names := r.expr.names
	r.parts = &captured{}
	if r.parts.path, problem = parts(r.to.path, names); problem == "" {
		r.parts.query, problem = parts(r.to.query, names)
	}
	return problem
}

// pathOnly says whether s has no query, and nothing else that paths do not have.
func pathOnly(s string) bool {
	for i := range len(s) {
		if s[i] == '?' || s[i] == '#' || s[i] <= ' ' {
			return false
		}
	}
	return true
}

// urlOnly says whether s is printable ASCII without a backslash, which browsers take for a slash.
func urlOnly(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

// parts divides a text at its captures: $1, ${1}, $name, ${name}; $$ is a dollar sign.
func parts(s string, names []string) (list []part, problem string) {
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 {
			break
		}
		if at > 0 {
			list = append(list, part{text: s[:at]})
		}
		s = s[at+1:]
		if strings.HasPrefix(s, "$") {
			list, s = append(list, part{text: "$"}), s[1:]
			continue
		}
		var name, rest string
		if inner, ok := strings.CutPrefix(s, "{"); ok {
			name, rest = cut(inner, '}')
		} else {
			end := 0
			for end < len(s) && (s[end] == '_' || s[end] >= '0' && s[end] <= '9' || s[end]|0x20 >= 'a' && s[end]|0x20 <= 'z') {
				end++
			}
			name, rest = s[:end], s[end:]
		}
		n := -1
		for i, have := range names {
			if have != "" && have == name || strconv.Itoa(i) == name {
				n = i
			}
		}
		if n < 0 {
			return nil, "has $" + name + ", and the expression has no such capture; $$ is a dollar sign"
		}
		list, s = append(list, part{capture: n}), rest
	}
	if s != "" {
		list = append(list, part{text: s})
	}
	return list, ""
}
