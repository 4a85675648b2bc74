package config

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Hidden stands for a value that may be secret.
const Hidden = "***"

// Tree is the config as a file would have it: maps, lists, texts, numbers and bools, with defaults filled in and what is
// empty left out. Instead of what may be secret it has Hidden: keys of the schema that are (tag secret), all that plugins
// are configured with, queries of modules' URLs, fields and parameters whose names sound so, and every text that r, which
// may be nil, knows to have a ${NAME} in it.
func (c *Config) Tree(r *Report) map[string]any {
	t := tree{report: r, hide: true}
	m, _ := t.value(nil, reflect.ValueOf(c).Elem(), field{}).(map[string]any)
	return m
}

// YAML is Tree in YAML, with the place of each key that was set behind it. r may be nil.
func (c *Config) YAML(r *Report) []byte {
	w := yamlWriter{report: r}
	w.mapping(nil, c.Tree(r), "")
	return w.b.Bytes()
}

// yamlWriter writes maps and lists as blocks. The library's comments want paths of its own and have no place behind some
// values; what is written here needs no more of YAML than JSON's texts.
type yamlWriter struct {
	report *Report
	b      bytes.Buffer
}

func (w *yamlWriter) mapping(p keyPath, m map[string]any, indent string) {
	for _, k := range sortedKeys(m) {
		w.b.WriteString(indent + plainOrQuoted(k) + ":")
		w.value(p.key(k), m[k], indent)
	}
}

// value writes what stands behind a key, from the colon on.
func (w *yamlWriter) value(p keyPath, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			w.b.WriteString(" {}")
			w.place(p)
			return
		}
		w.place(p)
		w.mapping(p, v, indent+"  ")
	case []any:
		w.place(p)
		for i, e := range v {
			w.b.WriteString(indent + "  -")
			w.element(p.index(i), e, indent+"    ")
		}
	default:
		w.b.WriteString(" " + scalarYAML(v))
		w.place(p)
	}
}

// element writes what stands behind a dash. A map begins on a line of its own.
func (w *yamlWriter) element(p keyPath, v any, indent string) {
	if m, is := v.(map[string]any); is && len(m) > 0 {
		w.place(p)
		w.mapping(p, m, indent)
		return
	}
	w.value(p, v, indent)
}

func (w *yamlWriter) place(p keyPath) {
	if w.report != nil {
		if m, set := w.report.marks[p.String()]; set {
			w.b.WriteString(" # " + m.key.String())
		}
	}
	w.b.WriteByte('\n')
}

func scalarYAML(v any) string {
	if s, is := v.(string); is {
		return plainOrQuoted(s)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

var wordYAML = regexp.MustCompile(`^([A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+(\.[0-9]+)?(ms|s|m|h|[KMGT]iB))$`)

// plainOrQuoted leaves words as they are that YAML takes for nothing else than a text.
func plainOrQuoted(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
	default:
		if wordYAML.MatchString(s) {
			return s
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(strings.ReplaceAll(s, "${", "$${")) // a text, and no variable
	return strings.TrimSuffix(b.String(), "\n")
}

// Flat is what a part of a config says, by the paths of its keys below it: of two that are the same, this is. It has
// secrets in it.
func Flat(part any) map[string]string {
	flat := map[string]string{}
	var walk func(p keyPath, v any)
	walk = func(p keyPath, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(p.key(k), e)
			}
		case []any:
			for i, e := range v {
				walk(p.index(i), e)
			}
		default:
			flat[p.String()] = fmt.Sprint(v)
		}
	}
	walk(nil, tree{}.value(nil, reflect.ValueOf(part), field{}))
	return flat
}

// Key is a key that was set.
type Key struct {
	Path string // as in upstreams.users.pool
	At   Position
}

// Keys are all keys that were set, in the order of their paths. r may be nil.
func (r *Report) Keys() []Key {
	if r == nil {
		return nil
	}
	var list []Key
	for path, m := range r.marks {
		if path != "" {
			list = append(list, Key{Path: path, At: m.key})
		}
	}
	slices.SortFunc(list, func(a, b Key) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// tree makes values of the schema what files have.
type tree struct {
	report *Report
	hide   bool
}

// value is what v, at a path, is in a file; nil: it is left out.
func (t tree) value(p keyPath, v reflect.Value, f field) any {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch shapeOf(v.Type()) {
	case structShape:
		m := map[string]any{}
		for _, f := range fieldsOf(v.Type()) {
			if e := t.value(p.key(f.name), v.Field(f.index), f); e != nil {
				m[f.name] = e
			}
		}
		return m
	case mapShape:
		return t.dictionary(p, v, f)
	case listShape:
		if v.Len() == 0 {
			return nil
		}
		list := make([]any, 0, v.Len())
		for i := range v.Len() {
			list = append(list, t.value(p.index(i), v.Index(i), field{secret: f.secret}))
		}
		return list
	case anyShape:
		return t.pluginConfig(v.Bytes())
	}
	return t.scalar(p, v, f)
}

func (t tree) dictionary(p keyPath, v reflect.Value, f field) any {
	if v.Len() == 0 {
		return nil
	}
	scalars := shapeOf(v.Type().Elem()) == scalarShape
	m := map[string]any{}
	for _, k := range v.MapKeys() {
		inner := field{secret: f.secret || scalars && soundsSecret(k.String())}
		m[k.String()] = t.value(p.key(k.String()), v.MapIndex(k), inner)
	}
	return m
}

func (t tree) pluginConfig(b []byte) any {
	var v any
	switch {
	case len(b) == 0:
		return nil
	case t.hide:
		return Hidden
	case json.Unmarshal(b, &v) == nil:
		return v
	}
	return string(b)
}

func (t tree) scalar(p keyPath, v reflect.Value, f field) any {
	if v.Kind() == reflect.String && v.Len() == 0 && v.Type() != valueMatchType {
		return nil
	}
	plain := v.Type() == reflect.TypeFor[string]()
	if t.hide && (f.secret || plain && t.report != nil && t.report.filled[p.String()]) {
		return Hidden
	}
	switch x := v.Interface().(type) {
	case ValueMatch:
		return x.tree()
	case Module:
		if t.hide {
			return x.Redacted()
		}
		return x.String()
	case Ratio:
		return float64(x)
	case Factor:
		return float64(x)
	case encoding.TextMarshaler:
		b, _ := x.MarshalText()
		return string(b)
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int:
		return v.Int()
	}
	return fmt.Sprint(v.Interface())
}

// Redacted is String without the query of the URL, which may have a secret.
func (m Module) Redacted() string {
	if url, _, has := strings.Cut(m.URL, "?"); has {
		m.URL = url + "?" + Hidden
	}
	return m.String()
}

func (m ValueMatch) tree() any {
	switch m.Kind {
	case MatchPresent, MatchAbsent:
		return map[string]any{string(m.Kind): true}
	case MatchExact:
		return m.Value
	}
	return map[string]any{string(m.Kind): m.Value}
}

// soundsSecret says whether the name of a field or a parameter is one that has secrets as a rule.
func soundsSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"auth", "cookie", "token", "secret", "key", "pass", "credential", "session", "sign"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}
