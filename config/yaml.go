package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. They are far above any real config and far below what could hurt.
const (
	maxFile     = 1 << 20  // bytes
	maxDepth    = 32       // maps and lists inside of each other
	maxTokens   = 120_000  // words, marks and comments; the parser takes time in proportion to their square
	maxNodes    = 50_000   // values, those that aliases repeat counted each time
	maxKey      = 128      // bytes of a key
	maxExpanded = 4 << 20  // bytes of strings with ${...} in them
	maxMarks    = 16 << 20 // bytes of paths whose places are remembered; beyond it, messages name the file alone
)

// loose is a text that came from the environment or an override: it is read as whatever its place wants.
type loose string

// document turns one YAML file into maps, lists and scalars, and notes where each stands.
type document struct {
	*collector
	file     string
	lookup   func(string) (string, bool)
	anchors  map[string]ast.Node
	nodes    int
	expanded int
	marked   int
	broken   bool // so much that nothing else should be said about it
}

// Marshal is there because koanf.Parser asks for it; a config is never written.
func (d *document) Marshal(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

func newDocument(c *collector, file string, lookup func(string) (string, bool)) *document {
	return &document{collector: c, file: file, lookup: lookup, anchors: map[string]ast.Node{}}
}

// Unmarshal reads a file. Mistakes go to the collector; the error is for koanf only and always nil.
func (d *document) Unmarshal(data []byte) (map[string]any, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	d.lines[d.file] = strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	d.marks[""] = mark{Position{File: d.file, Line: 1, Column: 1, Width: 1}, Position{File: d.file, Line: 1, Column: 1, Width: 1}}
	if !d.readable(text) {
		d.broken = true
		return nil, nil
	}
	v, body := d.read(nil, text, 0)
	if m, ok := v.(map[string]any); ok {
		return m, nil
	}
	if v != nil {
		d.broken = true
		d.add(d.position(body), nil, "the file is "+describe(v)+", not a map", "begin with a key such as `listeners:`")
	}
	return nil, nil
}

// readable refuses what is no text, or too much of it.
func (d *document) readable(text string) bool {
	if len(text) > maxFile {
		d.add(Position{File: d.file}, nil, fmt.Sprintf("the file has %d bytes, more than %d", len(text), maxFile), "a config is for one gateway; a plugin can hold tables")
		return false
	}
	for n, line := range d.lines[d.file] {
		for i, r := range line {
			if r == utf8.RuneError || r == 0x7f || (r < ' ' && r != '\t') {
				column := utf8.RuneCountInString(line[:i]) + 1
				what := fmt.Sprintf("the character U+%04X is not allowed", r)
				if r == utf8.RuneError {
					what = "not UTF-8"
				}
				d.add(Position{d.file, n + 1, column, 1}, nil, what, "write plain text in UTF-8")
				return false
			}
		}
	}
	return true
}

// read turns a text into a value, and returns its root as well.
func (d *document) read(p keyPath, text string, depth int) (v any, root ast.Node) {
	defer func() {
		// The parser is not ours, and a reload must not be able to stop the gateway.
		if r := recover(); r != nil {
			d.broken = true
			d.add(Position{File: d.file}, p, "cannot be parsed", "it is not YAML as it is commonly written")
			v, root = nil, nil
		}
	}()
	if root = d.parse(text); root != nil {
		v = d.value(p, root, depth)
	}
	return v, root
}

// parse returns the root of the syntax tree, or nil.
func (d *document) parse(text string) ast.Node {
	tokens := lexer.Tokenize(text)
	if len(tokens) > maxTokens {
		d.broken = true
		d.add(d.place(tokens[maxTokens]), nil, fmt.Sprintf("more than %d words and marks", maxTokens), "a config is for one gateway; a plugin can hold tables")
		return nil
	}
	if at, deep := tooDeep(tokens); deep {
		d.broken = true
		d.add(d.place(at), nil, fmt.Sprintf("more than %d levels deep", maxDepth), "no key of a config is that deep")
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.broken = true
		d.syntax(err)
		return nil
	}
	var docs []*ast.DocumentNode
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.DirectiveType {
			docs = append(docs, doc)
		}
	}
	if len(docs) == 0 {
		return nil
	}
	if len(docs) > 1 {
		d.broken = true
		d.add(d.position(docs[1].Body), nil, "a second document in one file", "a config is one document: remove the `---`")
		return nil
	}
	return docs[0].Body
}

// tooDeep looks for nesting before the recursive parser does: flow brackets, and block levels by their indentation.
func tooDeep(tokens token.Tokens) (*token.Token, bool) {
	flow := 0
	var columns []int
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		}
		if flow == 0 && t.Position != nil {
			for len(columns) > 0 && columns[len(columns)-1] >= t.Position.Column {
				columns = columns[:len(columns)-1]
			}
			if t.Type == token.SequenceEntryType || t.Type == token.MappingKeyType || t.Type == token.MappingValueType {
				columns = append(columns, t.Position.Column)
			}
		}
		if flow > maxDepth || len(columns) > 2*maxDepth {
			return t, true
		}
	}
	return nil, false
}

// syntax reports what the parser could not read.
func (d *document) syntax(err error) {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil {
		d.add(Position{File: d.file}, nil, "not YAML: "+err.Error(), "write `key: value` lines, those below a key with two spaces in front")
		return
	}
	at := d.place(y.GetToken())
	help := "a key is `name: value`; a text with : # , [ ] { } in it wants quotes"
	if at.Line > 0 && at.Line <= len(d.lines[d.file]) {
		line := d.lines[d.file][at.Line-1]
		switch {
		case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
			help = "indent with spaces, not with tabs"
		case strings.Contains(line, "${") && strings.ContainsAny(strings.ReplaceAll(line, "${", ""), "[{"):
			help = "inside of [ ] and { } put quotes around \"${NAME}\""
		}
	}
	d.add(at, nil, "not YAML: "+y.GetMessage(), help)
}

// value turns a node into a Go value, and notes the places of what is in it.
func (d *document) value(p keyPath, n ast.Node, depth int) any {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		if !d.broken {
			d.broken = true
			d.add(d.position(n), p, "too many values, or too deep", fmt.Sprintf("a file has at most %d values, counted again for each alias, %d levels deep", maxNodes, maxDepth))
		}
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.mapping(p, n.Values, depth)
	case *ast.MappingValueNode:
		return d.mapping(p, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for i, e := range n.Values {
			at := d.position(e)
			q := p.index(i)
			d.mark(q, mark{at, at})
			list = append(list, d.value(q, e, depth+1))
		}
		return list
	case *ast.AnchorNode:
		v := d.value(p, n.Value, depth+1)
		if n.Name != nil && n.Name.GetToken() != nil {
			d.anchors[n.Name.GetToken().Value] = n.Value
		}
		return v
	case *ast.AliasNode:
		if target, ok := d.anchors[n.Value.GetToken().Value]; ok {
			return d.value(p, target, depth+1)
		}
		d.add(d.position(n), p, fmt.Sprintf("no anchor &%s before this alias", n.Value.GetToken().Value), "write &NAME in front of the value that is meant, above")
		return nil
	case *ast.TagNode:
		d.add(d.position(n), p, "tags are not supported", "write the value without "+n.GetToken().Value)
		return nil
	default:
		return d.scalar(p, n)
	}
}

// mapping reads the keys of a map. Keys written in the map win over those merged in with <<.
func (d *document) mapping(p keyPath, values []*ast.MappingValueNode, depth int) any {
	m := make(map[string]any, len(values))
	for _, kv := range values {
		if _, ok := kv.Key.(*ast.MergeKeyNode); ok {
			merged, ok := d.value(p, kv.Value, depth+1).(map[string]any)
			if !ok {
				d.add(d.position(kv.Key), p, "<< wants a map", "write `<<: *name`")
			}
			for k, v := range merged {
				m[k] = v
			}
		}
	}
	first := make(map[string]Position, len(values))
	for _, kv := range values {
		if _, ok := kv.Key.(*ast.MergeKeyNode); ok {
			continue
		}
		name, ok := d.mapKey(p, kv.Key)
		if !ok {
			continue
		}
		q := p.key(name)
		at := mark{d.position(kv.Key), d.position(kv.Value)}
		if before, twice := first[name]; twice {
			d.add(at.key, q, fmt.Sprintf("given twice; the first is in line %d", before.Line), "remove one of them")
			continue
		}
		first[name] = at.key
		d.mark(q, at)
		m[name] = d.value(q, kv.Value, depth+1)
	}
	return m
}

func (d *document) mapKey(p keyPath, key ast.MapKeyNode) (string, bool) {
	var name string
	switch k := key.(type) {
	case *ast.StringNode:
		name = k.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		name = k.GetToken().Value
	default:
		d.add(d.position(key), p, "not a key", "a key is a plain or a quoted word")
		return "", false
	}
	if len(name) > maxKey {
		d.add(d.position(key), p, fmt.Sprintf("a key of %d bytes, more than %d", len(name), maxKey), "write a shorter one")
		return "", false
	}
	return name, true
}

// mark notes where a key and its value stand.
func (d *document) mark(p keyPath, m mark) {
	name := p.String()
	if d.marked += len(name); d.marked <= maxMarks {
		d.marks[name] = m
	}
}

// scalar reads a single value and puts the environment into it.
func (d *document) scalar(p keyPath, n ast.Node) any {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		return n.Value
	case *ast.FloatNode:
		return n.Value
	case *ast.InfinityNode:
		return n.Value
	case *ast.NanNode:
		return n.GetToken().Value
	case *ast.LiteralNode:
		s, _ := d.expand(p, n.Value.Value, d.position(n))
		return s
	case *ast.StringNode:
		s, changed := d.expand(p, n.Value, d.position(n))
		if changed { // quoted or not: inside of [ ] and { } YAML wants the quotes
			return loose(s)
		}
		return s
	}
	d.add(d.position(n), p, "not a value", "write a text, a number, true or false, a list or a map")
	return nil
}

// position is where a node begins.
func (d *document) position(n ast.Node) Position {
	switch m := n.(type) {
	case nil:
		return Position{File: d.file}
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return d.position(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return d.position(m.Key)
	case *ast.AnchorNode:
		return d.place(m.Start)
	case *ast.LiteralNode:
		return d.place(m.Start)
	}
	return d.place(n.GetToken())
}

func (d *document) place(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{File: d.file}
	}
	width := utf8.RuneCountInString(t.Value[:min(len(t.Value), 200)]) // more is not shown
	switch t.Type {
	case token.DoubleQuoteType, token.SingleQuoteType:
		width += 2
	case token.MappingStartType, token.SequenceStartType, token.SequenceEntryType:
		width = 1
	}
	return Position{File: d.file, Line: t.Position.Line, Column: t.Position.Column, Width: width}
}

// describe says what kind of value v is.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return "the text " + quote(v)
	case loose:
		return "the text " + quote(string(v))
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprintf("the number %v", v)
}
