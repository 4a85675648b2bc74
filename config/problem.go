package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Position is a place in a source of config.
type Position struct {
	File   string // the file, or "$NAME" for an environment variable, or "--set KEY" for an override
	Line   int    // from 1; 0 outside of a file
	Column int    // from 1, in characters
	Width  int    // characters that are meant
}

// String writes file:line:column.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Problem is one mistake (in Errors) or one thing that is probably not meant (in Report.Warnings).
type Problem struct {
	Position
	Path    string // which key it is about, as in routes[2].match.path_regex; empty for the file as a whole
	Message string // what is wrong
	Help    string // what to write instead; may be empty
	Source  string // the line that Position points into; empty outside of a file
}

// String writes p like a compiler: place, key and message, the line with what is meant underlined, and the help.
func (p Problem) String() string { return p.format("error") }

func (p Problem) format(kind string) string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.Position.String() + ": ")
	}
	b.WriteString(kind + ": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message + "\n")
	if p.Source != "" && p.Line > 0 {
		line, column := clip(p.Source, p.Column)
		number := strconv.Itoa(p.Line)
		width := max(1, min(p.Width, len([]rune(line))-column+1))
		fmt.Fprintf(&b, "  %s | %s\n", number, line)
		fmt.Fprintf(&b, "  %s | %s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", column-1), strings.Repeat("^", width))
	}
	if p.Help != "" {
		b.WriteString("  help: " + p.Help + "\n")
	}
	return b.String()
}

// clip keeps the part of a long line around a column, and makes control characters visible as spaces.
func clip(line string, column int) (string, int) {
	const most = 120
	runes := []rune(line)
	for i, r := range runes {
		if r < ' ' || r == 0x7f {
			runes[i] = ' '
		}
	}
	column = min(max(column, 1), len(runes)+1)
	if len(runes) <= most {
		return string(runes), column
	}
	from := max(0, column-1-most/3)
	to := min(len(runes), from+most)
	return string(runes[from:to]), column - from
}

// Errors is every mistake of a config, in the order of the file. It is the error that Load returns.
type Errors []Problem

// Error writes all of them, one after the other, and their number.
func (e Errors) Error() string {
	var b strings.Builder
	for _, p := range e {
		b.WriteString(p.format("error"))
	}
	if len(e) > 1 {
		fmt.Fprintf(&b, "%d errors\n", len(e))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Sort puts them in the order of the file; those outside of files come last.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.File, b.File))
	})
}

// Report is what else there is to say about a config that was read.
type Report struct {
	Warnings []Problem // things that work and are probably not meant, in the order of the file
	Files    []string  // files that the config names (modules, certificates, keys), absolute or relative to the process
	marks    marks
	lines    map[string][]string
	filled   map[string]bool // paths of texts with a ${NAME} in them
}

// String writes the warnings like Errors does.
func (r *Report) String() string {
	var b strings.Builder
	for _, p := range r.Warnings {
		b.WriteString(p.format("warning"))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// At returns where a key was set, for messages that come later: At("upstreams.users.pool"), At("routes[2]"). For a key
// that is a default it is the nearest key around it that was set; the zero Position if there is none.
func (r *Report) At(path string) Position {
	for path != "" {
		if m, ok := r.marks[path]; ok {
			return m.key
		}
		path = path[:max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['), 0)]
	}
	return Position{}
}

// Given says whether a key was set, to whatever value; all else are defaults.
func (r *Report) Given(path string) bool {
	_, is := r.marks[path]
	return is
}

// Warn adds warnings that were found after reading.
func (r *Report) Warn(list ...Problem) { r.Warnings = sorted(append(r.Warnings, list...)) }

// mark is where a key and its value stand. For an element of a list both are the value's.
type mark struct{ key, value Position }

// marks has the places of everything that was set, by keyPath.String.
type marks map[string]mark

// keyPath leads to a value: keys of maps, and "[n]" for elements of lists.
type keyPath []string

func (p keyPath) key(k string) keyPath { return append(p[:len(p):len(p)], k) }

func (p keyPath) index(i int) keyPath { return p.key("[" + strconv.Itoa(i) + "]") }

func (p keyPath) String() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 && !strings.HasPrefix(s, "[") {
			b.WriteByte('.')
		}
		if plainKey(s) {
			b.WriteString(s)
		} else {
			b.WriteString(quote(s))
		}
	}
	return b.String()
}

// plainKey says whether a key can stand in a path without quotes.
func plainKey(s string) bool {
	inner, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		_, err := strconv.Atoi(inner)
		return bracketed && err == nil
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`."[]`, r)
	})
}

// most is how many problems of a kind are told; a file that is no config at all would have thousands.
const most = 200

// collector gathers what is wrong, from all stages of Load.
type collector struct {
	errors, warnings Errors
	failed           map[string]bool // paths whose value is not usable
	hurt             map[string]bool // paths that have an error, or that have one below them
	marks            marks
	lines            map[string][]string // by file
	filled           map[string]bool     // paths of texts that ${NAME} was replaced in
	other            bool                // it is no config that is read: see Decode
}

func newCollector() *collector {
	return &collector{failed: map[string]bool{}, hurt: map[string]bool{}, marks: marks{}, lines: map[string][]string{}, filled: map[string]bool{}}
}

// valueAt is where the value of path stands, or else the key around it.
func (c *collector) valueAt(p keyPath) Position {
	if m, ok := c.marks[p.String()]; ok {
		return m.value
	}
	for len(p) > 0 {
		p = p[:len(p)-1]
		if m, ok := c.marks[p.String()]; ok {
			return m.key
		}
	}
	return c.marks[""].key
}

// keyAt is where the key of path stands, or else the key around it.
func (c *collector) keyAt(p keyPath) Position {
	if m, ok := c.marks[p.String()]; ok {
		return m.key
	}
	return c.valueAt(p)
}

// add notes an error at a place; what is at the path is not looked at any more.
func (c *collector) add(at Position, p keyPath, message, help string) {
	c.failed[p.String()] = true
	c.mention(at, p, message, help)
}

// mention notes an error at a place, about things that are fine each by itself.
func (c *collector) mention(at Position, p keyPath, message, help string) {
	for q := p; len(q) > 0; q = q[:len(q)-1] {
		c.hurt[q.String()] = true
	}
	if len(c.errors) < most {
		c.errors = append(c.errors, c.problem(at, p, message, help))
	}
}

// fail notes an error about the value of a path.
func (c *collector) fail(p keyPath, help, format string, args ...any) {
	c.add(c.valueAt(p), p, fmt.Sprintf(format, args...), help)
}

// warn notes a warning about the value of a path.
func (c *collector) warn(p keyPath, help, format string, args ...any) {
	if len(c.warnings) < most {
		c.warnings = append(c.warnings, c.problem(c.valueAt(p), p, fmt.Sprintf(format, args...), help))
	}
}

// failErr notes an error with its help, if err has one.
func (c *collector) failErr(p keyPath, err error) {
	var h helped
	if errors.As(err, &h) {
		c.fail(p, h.help, "%s", h.message)
		return
	}
	c.fail(p, "write it as the reference says", "%v", err)
}

func (c *collector) problem(at Position, p keyPath, message, help string) Problem {
	out := Problem{Position: at, Path: p.String(), Message: message, Help: help}
	if lines := c.lines[at.File]; at.Line > 0 && at.Line <= len(lines) {
		out.Source = lines[at.Line-1]
	}
	return out
}

// ok says whether a path, and all around it, is free of errors.
func (c *collector) ok(p keyPath) bool {
	for ; len(p) > 0; p = p[:len(p)-1] {
		if c.failed[p.String()] {
			return false
		}
	}
	return true
}

// full says whether so much is wrong that no more is told, and looking for it only takes time.
func (c *collector) full() bool { return len(c.errors) >= most }

// within finds a text at or after a place, so that the middle of a value can be pointed at.
func (c *collector) within(at Position, text string) Position {
	text, _, _ = strings.Cut(text, "\n")
	lines := c.lines[at.File]
	if c.full() {
		return at // nobody will see it, and looking takes time
	}
	for n := at.Line; n >= 1 && n <= len(lines) && n < at.Line+1000; n++ {
		from := 0
		if n == at.Line {
			from = len(string([]rune(lines[n-1])[:min(at.Column-1, utf8.RuneCountInString(lines[n-1]))]))
		}
		if i := strings.Index(lines[n-1][from:], text); i >= 0 {
			return Position{at.File, n, utf8.RuneCountInString(lines[n-1][:from+i]) + 1, utf8.RuneCountInString(text)}
		}
	}
	return at
}

// sorted is list in the order of Sort.
func sorted(list Errors) Errors {
	list.Sort()
	return list
}
