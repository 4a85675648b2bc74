package config

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/v2"
)

// layering lays assignments of single values, from the environment or from overrides, over what koanf has.
type layering struct {
	*collector
	k     *koanf.Koanf
	below map[string]any // what koanf has
	layer map[string]any // what is assigned and not yet with koanf; elements of lists are keys of maps here
}

// layers lays the sources over each other. koanf itself never fails here: mistakes go to the collector. It returns nil
// if the file is none, and whatever else could be said about it would be wrong.
func layers(c *collector, s Source) map[string]any {
	k := koanf.New("\x00") // no key has this in it, so that keys may have dots
	if data, ok := content(c, s); ok {
		doc := newDocument(c, cmp.Or(s.File, "<stdin>"), s.Lookup)
		_ = k.Load(bytesProvider(data), doc)
		if doc.broken {
			return nil
		}
	} else if len(c.errors) > 0 {
		return nil
	}
	l := &layering{collector: c, k: k, below: k.Raw(), layer: map[string]any{}}
	l.environment(s.Env)
	l.flush()
	l.overrides(s.Overrides)
	l.flush()
	return k.Raw()
}

// flush hands the layer to koanf.
func (l *layering) flush() {
	if len(l.layer) == 0 {
		return
	}
	_ = l.k.Load(mapProvider(l.layer), nil, koanf.WithMergeFunc(func(src, dest map[string]any) error {
		overlay(reflect.TypeFor[Config](), src, dest)
		return nil
	}))
	l.below, l.layer = l.k.Raw(), map[string]any{}
}

// bytesProvider and mapProvider hand koanf what has been read already.
type (
	bytesProvider []byte
	mapProvider   map[string]any
)

func (b bytesProvider) ReadBytes() ([]byte, error)  { return b, nil }
func (bytesProvider) Read() (map[string]any, error) { return nil, errors.ErrUnsupported }
func (mapProvider) ReadBytes() ([]byte, error)      { return nil, errors.ErrUnsupported }
func (m mapProvider) Read() (map[string]any, error) { return m, nil }

// environment makes a layer of the WASMGATE_ variables. A variable whose first word is no key of the schema is not ours
// to refuse: it is warned about.
func (l *layering) environment(env []string) {
	type variable struct {
		name, value string
		keys        []string
	}
	var list []variable
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, EnvPrefix)
		if !ok || rest == "" || strings.HasPrefix(name, ignoredEnv) {
			continue
		}
		keys := strings.Split(strings.ToLower(strings.ReplaceAll(rest, "__", ".")), ".")
		if _, known := fieldNamed(reflect.TypeFor[Config](), keys[0]); !known {
			l.warnings = append(l.warnings, l.problem(Position{File: "$" + name}, keyPath(keys), "not a setting",
				suggest(nil, keys[0], reflect.TypeFor[Config]())))
			continue
		}
		list = append(list, variable{name, value, keys})
	}
	slices.SortStableFunc(list, func(a, b variable) int { return slices.CompareFunc(a.keys, b.keys, compareKeys) })
	for _, v := range list {
		l.assign(Position{File: "$" + v.name}, v.keys, v.value, true)
	}
}

// compareKeys orders numbers by their value, so that element 2 is assigned before element 10.
func compareKeys(a, b string) int {
	m, aNumber := indexOf(a)
	n, bNumber := indexOf(b)
	if aNumber && bNumber {
		return cmp.Compare(m, n)
	}
	return cmp.Compare(a, b)
}

// overrides makes a layer of key=value texts, in their order.
func (l *layering) overrides(list []string) {
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		name = strings.TrimSpace(name)
		at := Position{File: "--set " + name}
		if !ok || name == "" {
			l.add(at, nil, quote(kv)+" is not key=value", "write it as in limits.head=64KiB")
			continue
		}
		l.assign(at, strings.Split(strings.TrimPrefix(strings.ReplaceAll(name, "[", ".["), "."), "."), value, false)
	}
}

// assign puts one value where its keys lead in the schema.
func (l *layering) assign(at Position, keys []string, value string, env bool) {
	t, p, path, ok := l.locate(at, keys, env)
	if !ok {
		return
	}
	container := shapeOf(t) != scalarShape
	if container {
		l.flush() // a list replaces what was there, while a single value changes it: their order counts
	}
	into := l.layer
	for _, key := range path[:len(path)-1] {
		next, isMap := into[key].(map[string]any)
		if !isMap {
			next = map[string]any{}
			into[key] = next
		}
		into = next
	}
	into[path[len(path)-1]] = l.parse(p, at, t, value)
	for i := range p {
		if _, known := l.marks[p[:i+1].String()]; !known || i == len(p)-1 {
			l.marks[p[:i+1].String()] = mark{at, at}
		}
	}
	if container {
		l.flush()
	}
}

// locate follows keys through the schema. It returns the type that they lead to, the path for messages, and the path
// for the layer.
func (l *layering) locate(at Position, keys []string, env bool) (t reflect.Type, p keyPath, path []string, ok bool) {
	t = reflect.TypeFor[Config]()
	under, into := any(l.below), any(l.layer)
	for _, key := range keys {
		t = elem(t)
		switch shapeOf(t) {
		case structShape:
			f, known := fieldNamed(t, key)
			if !known {
				l.add(at, p.key(key), "unknown key "+quote(key), suggest(p, key, t))
				return nil, nil, nil, false
			}
			t, p = f.typ, p.key(key)
		case mapShape:
			if env {
				key = existing(key, under, into)
			}
			t, p = t.Elem(), p.key(key)
		case listShape:
			n, isNumber := indexOf(key)
			next := 0
			if list, isList := under.([]any); isList {
				next = len(list)
			}
			for child(into, strconv.Itoa(next)) != nil {
				next++
			}
			if !isNumber || n > next {
				l.add(at, p, quote(key)+" is not an element of the list", "elements are counted from 0; the next free one is "+strconv.Itoa(next))
				return nil, nil, nil, false
			}
			key = strconv.Itoa(n)
			t, p = t.Elem(), p.index(n)
		default:
			l.add(at, p, "has no keys below it", "set it to "+wanted(t, field{}))
			return nil, nil, nil, false
		}
		path = append(path, key)
		under, into = child(under, key), child(into, key)
	}
	return t, p, path, true
}

// existing finds the key of a map that a part of an environment variable's name stands for: letters in any case, and _
// for -.
func existing(key string, maps ...any) string {
	for _, m := range maps {
		if m, ok := m.(map[string]any); ok {
			for _, k := range sortedKeys(m) {
				if strings.EqualFold(strings.ReplaceAll(k, "-", "_"), strings.ReplaceAll(key, "-", "_")) {
					return k
				}
			}
		}
	}
	return key
}

// child is the value below a key of a map or a number of a list, nil if there is none.
func child(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		return v[key]
	case []any:
		if n, ok := indexOf(key); ok && n < len(v) {
			return v[n]
		}
	}
	return nil
}

// parse reads the text of a variable or an override as what its place wants: a scalar as it is, a list of scalars with
// commas, anything else as YAML.
func (l *layering) parse(p keyPath, at Position, t reflect.Type, value string) any {
	trimmed := strings.TrimSpace(value)
	switch shapeOf(t) {
	case scalarShape:
		if (t != valueMatchType && t != moduleType) || !strings.HasPrefix(trimmed, "{") {
			return loose(value)
		}
	case listShape:
		if _, text := asText(t.Elem()); (text || shapeOf(t.Elem()) == scalarShape) && !strings.HasPrefix(trimmed, "[") {
			list := []any{}
			for part := range strings.SplitSeq(value, ",") {
				if part = strings.TrimSpace(part); part != "" {
					list = append(list, loose(part))
				}
			}
			return list
		}
	case structShape:
		if _, text := asText(t); text && !strings.HasPrefix(trimmed, "{") {
			return loose(value)
		}
	case anyShape:
		if !strings.ContainsAny(value, "{[") {
			return loose(value)
		}
	}
	inner := newCollector()
	doc := newDocument(inner, at.File, func(string) (string, bool) { return "", false })
	inner.lines[at.File] = strings.Split(value, "\n")
	var v any
	if doc.readable(value) {
		v, _ = doc.read(p, value, len(p))
	}
	for _, e := range inner.errors {
		l.add(at, p, e.Message, e.Help)
	}
	for k := range inner.marks {
		l.marks[k] = mark{at, at}
	}
	return v
}

// overlay merges a layer into what is below it. Where the schema has a list, the layer's keys are numbers of elements.
func overlay(t reflect.Type, src, dest map[string]any) {
	for k, v := range src {
		dest[k] = overlaid(below(t, k), v, dest[k])
	}
}

// below is the type below a key, nil if the schema does not say.
func below(t reflect.Type, key string) reflect.Type {
	t = elem(t)
	switch shapeOf(t) {
	case structShape:
		if f, ok := fieldNamed(t, key); ok {
			return f.typ
		}
	case mapShape, listShape:
		return t.Elem()
	}
	return nil
}

func overlaid(t reflect.Type, v, under any) any {
	m, ok := v.(map[string]any)
	if !ok || t == nil {
		return v
	}
	switch shapeOf(t) {
	case listShape:
		list, _ := under.([]any)
		keys := sortedKeys(m)
		slices.SortFunc(keys, compareKeys)
		for _, k := range keys {
			n, isNumber := indexOf(k)
			if !isNumber {
				return v // a map where a list belongs; the decoder says so
			}
			for len(list) <= n {
				list = append(list, nil)
			}
			list[n] = overlaid(below(t, k), m[k], list[n])
		}
		return list
	case structShape, mapShape:
		dest, isMap := under.(map[string]any)
		if !isMap {
			dest = map[string]any{}
			switch under.(type) {
			case string, loose: // what the text stands for stays
				if f, text := asText(t); text {
					dest[f.name] = under
				}
			}
		}
		overlay(t, m, dest)
		return dest
	}
	return v
}
