package config

import (
	"reflect"
	"strings"
)

// ValueReader is a type that reads its value from YAML itself: v is a map[string]any, a []any, a string, a bool or a
// number. An error is told with the value's place.
type ValueReader interface{ ReadValue(v any) error }

var valueReaderType = reflect.TypeFor[ValueReader]()

// Decode reads another YAML file than a config as strictly as Load reads one: into out, a pointer to a struct whose
// fields have the same tags (koanf, doc, enum, min, max, required). The error is an Errors with every mistake, each with
// its place. The Report, which is never nil, tells where things stand. ${NAME} is answered by lookup; nil: no name is set.
func Decode(file string, data []byte, lookup func(name string) (value string, ok bool), out any) (*Report, error) {
	if lookup == nil {
		lookup = func(string) (string, bool) { return "", false }
	}
	c := newCollector()
	c.other = true
	doc := newDocument(c, file, lookup)
	raw, _ := doc.Unmarshal(data)
	if !doc.broken {
		decoder{c}.structure(nil, raw, reflect.ValueOf(out).Elem())
	}
	report := &Report{Warnings: sorted(c.warnings), marks: c.marks, lines: c.lines}
	if len(c.errors) > 0 {
		return report, sorted(c.errors)
	}
	return report, nil
}

// Problem is a mistake about what stands at a path, as in tests[2].request.url, that was found after reading.
func (r *Report) Problem(path, message, help string) Problem {
	p := Problem{Position: r.At(path), Path: path, Message: message, Help: help}
	if m, ok := r.marks[path]; ok {
		p.Position = m.value
	}
	if lines := r.lines[p.File]; p.Line > 0 && p.Line <= len(lines) {
		p.Source = lines[p.Line-1]
	}
	return p
}

// suggestAmong says what an unknown key may have been meant to be, by the keys that there are in its place.
func suggestAmong(key string, t reflect.Type) string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
		if fold(f.name) == fold(key) {
			return "did you mean `" + f.name + "`?"
		}
	}
	if near := nearest(key, names); near != "" {
		return "did you mean `" + near + "`?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// Mistake is an error of a ValueReader that says what to write instead.
func Mistake(message, help string) error { return helped{message, help} }
