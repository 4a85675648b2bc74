package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder puts maps, lists and scalars into the structs of the schema. Nothing is converted that was not meant: an
// unknown key, a number for a text or a list for a map is an error, and the next key is read.
type decoder struct{ *collector }

// decode reads v into dst, which holds the default. f has the tags of the field that it is for.
func (d decoder) decode(p keyPath, v any, dst reflect.Value, f field) {
	if shapeOf(dst.Type()) == scalarShape {
		if d.failed[p.String()] {
			return
		}
		if v == nil {
			d.add(d.keyAt(p), p, "has no value", "give it a value, or remove the key")
			return
		}
	}
	if dst.Kind() == reflect.Pointer {
		if v == nil {
			v = map[string]any(nil)
		}
		if dst.IsNil() {
			dst.Set(fresh(dst.Type().Elem()).Addr())
		}
		d.decode(p, v, dst.Elem(), f)
		return
	}
	switch shapeOf(dst.Type()) {
	case structShape:
		d.structure(p, v, dst)
	case mapShape:
		d.dictionary(p, v, dst, f)
	case listShape:
		d.list(p, v, dst, f)
	case anyShape:
		d.pluginConfig(p, v, dst)
	default:
		d.scalar(p, v, dst, f)
	}
}

func (d decoder) structure(p keyPath, v any, dst reflect.Value) {
	if v == nil {
		v = map[string]any(nil) // a key without anything below it changes no default
	}
	if f, can := asText(dst.Type()); can {
		switch v.(type) {
		case string, loose:
			d.decode(p, v, dst.Field(f.index), f)
			return
		}
	}
	m, ok := v.(map[string]any)
	if f, can := asText(dst.Type()); can && !ok {
		d.fail(p, "write the text alone, or the keys "+keyList(dst.Type()), "wants %s, or a map, got %s", wanted(f.typ, f), describe(v))
		return
	}
	if !ok {
		d.fail(p, mapHelp(p, v, dst.Type()), "wants a map, got %s", describe(v))
		return
	}
	for _, k := range sortedKeys(m) {
		f, known := fieldNamed(dst.Type(), k)
		if !known {
			if d.full() {
				return
			}
			q := p.key(k)
			help := suggestAmong
			if !d.other {
				help = func(k string, t reflect.Type) string { return suggest(p, k, t) }
			}
			d.add(d.keyAt(q), q, "unknown key "+quote(k), help(k, dst.Type()))
			continue
		}
		d.decode(p.key(k), m[k], dst.Field(f.index), f)
	}
	for _, f := range fieldsOf(dst.Type()) {
		if _, given := m[f.name]; f.required && !given {
			d.add(d.keyAt(p), p, fmt.Sprintf("%s is missing", quote(f.name)), "it is required: "+f.doc)
		}
	}
}

// mapHelp says what to write where a map is wanted, and a word was written, such as true or on.
func mapHelp(p keyPath, v any, t reflect.Type) string {
	name, word := "", ""
	if _, list := v.([]any); !list && len(p) > 0 {
		name, word = p[len(p)-1], strings.ToLower(scalarText(v))
	}
	if _, can := fieldNamed(t, "enabled"); can {
		switch word {
		case "true", "on", "yes", "1":
			return "write `" + name + ": {enabled: true}`"
		case "false", "off", "no", "0":
			return "write `" + name + ": {enabled: false}`"
		}
	}
	if help := foreignValue(name, word); help != "" {
		return help
	}
	return "write its keys below it: " + keyList(t)
}

func (d decoder) dictionary(p keyPath, v any, dst reflect.Value, f field) {
	if v == nil {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		help := "write `name: value` pairs"
		if _, isList := v.([]any); isList {
			help = "it is a map, not a list: write `NAME:` instead of `- `"
		}
		d.fail(p, help, "wants a map, got %s", describe(v))
		return
	}
	t := dst.Type()
	dst.Set(reflect.MakeMapWithSize(t, len(m)))
	for _, k := range sortedKeys(m) {
		e := reflect.New(t.Elem()).Elem()
		if t.Elem().Kind() == reflect.Pointer {
			e.Set(fresh(t.Elem().Elem()).Addr())
		}
		d.decode(p.key(k), m[k], e, field{})
		dst.SetMapIndex(reflect.ValueOf(k), e)
	}
}

func (d decoder) list(p keyPath, v any, dst reflect.Value, f field) {
	if v == nil {
		return
	}
	l, ok := v.([]any)
	if !ok && f.scalar {
		switch v.(type) {
		case string, loose:
			l, ok = []any{v}, true
			if m, known := d.marks[p.String()]; known {
				d.marks[p.index(0).String()] = mark{m.value, m.value}
			}
		}
	}
	if !ok {
		help := "write `[a, b]`, or each on a line of its own after `- `"
		_, isMap := v.(map[string]any)
		if _, text := asText(dst.Type().Elem()); shapeOf(dst.Type().Elem()) == structShape && (isMap || !text) {
			help = "begin each element with `- `, or put the map into `[ ]`"
		}
		if s, isText := v.(string); isText && len(s) < 60 {
			help = fmt.Sprintf("write `[%q]`", s)
		}
		if foreign := foreignValue(f.name+"[]", scalarText(v)); foreign != "" {
			help = foreign
		}
		d.fail(p, help, "wants a list, got %s", describe(v))
		return
	}
	out := reflect.MakeSlice(dst.Type(), 0, len(l))
	for i, e := range l {
		q := p.index(i)
		item := fresh(dst.Type().Elem())
		d.decode(q, e, item, field{name: f.name + "[]", enum: f.enum})
		out = reflect.Append(out, item)
	}
	dst.Set(out)
}

// pluginConfig keeps a text as it is and turns anything else into JSON.
func (d decoder) pluginConfig(p keyPath, v any, dst reflect.Value) {
	switch v := v.(type) {
	case nil:
		return
	case string:
		dst.SetBytes([]byte(v))
	case loose:
		dst.SetBytes([]byte(v))
	default:
		b, err := json.Marshal(plain(v))
		if err != nil {
			d.fail(p, "write it in quotes, as a text", "cannot be written as JSON: %v", err)
			return
		}
		dst.SetBytes(b)
	}
}

// plain turns texts from the environment into texts.
func plain(v any) any {
	switch v := v.(type) {
	case loose:
		return string(v)
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	}
	return v
}

func (d decoder) scalar(p keyPath, v any, dst reflect.Value, f field) {
	t := dst.Type()
	if reflect.PointerTo(t).Implements(valueReaderType) {
		if err := dst.Addr().Interface().(ValueReader).ReadValue(plain(v)); err != nil {
			d.failErr(p, err)
		}
		return
	}
	if t == valueMatchType {
		d.valueMatch(p, v, dst.Addr().Interface().(*ValueMatch))
		return
	}
	if t == moduleType {
		d.module(p, v, dst.Addr().Interface().(*Module))
		return
	}
	switch v.(type) {
	case map[string]any, []any:
		d.fail(p, "write one value; a text with : or , in it wants quotes", "wants %s, got %s", wanted(t, f), describe(v))
		return
	}
	switch t {
	case durationType, sizeType, ratioType, factorType, statusType, retryType:
		d.text(p, v, dst, f)
		return
	case prefixType:
		if s, ok := d.stringOf(p, v, t, f); ok {
			prefix, err := parsePrefix(s)
			if err != nil {
				d.failErr(p, err)
				return
			}
			dst.Set(reflect.ValueOf(prefix))
		}
		return
	case originType, patternType, balanceType:
		if s, ok := d.stringOf(p, v, t, f); ok {
			if err := dst.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				d.failErr(p, err)
			}
		}
		return
	}
	switch t.Kind() {
	case reflect.String:
		if s, ok := d.stringOf(p, v, t, f); ok && d.oneOf(p, s, f) {
			dst.SetString(s)
		}
	case reflect.Bool:
		d.boolean(p, v, dst)
	case reflect.Int:
		d.integer(p, v, dst, f)
	}
}

// text reads a type with a unit of its own from a text or a number.
func (d decoder) text(p keyPath, v any, dst reflect.Value, f field) {
	if b, ok := v.(bool); ok {
		d.fail(p, "write "+wanted(dst.Type(), f), "wants %s, got %v", wanted(dst.Type(), f), b)
		return
	}
	to := dst.Addr().Interface().(encoding.TextUnmarshaler)
	if err := to.UnmarshalText([]byte(scalarText(v))); err != nil {
		d.failErr(p, err)
		return
	}
	if dst.CanInt() {
		if n, ok := boundOf(dst.Type(), f.min); ok && dst.Int() < n {
			d.fail(p, rangeHelp(f), "%s is less than %s", scalarText(v), f.min)
		}
		if n, ok := boundOf(dst.Type(), f.max); ok && dst.Int() > n {
			d.fail(p, rangeHelp(f), "%s is more than %s", scalarText(v), f.max)
		}
	}
}

// boundOf reads a min or max of the schema in the type's own notation.
func boundOf(t reflect.Type, s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	v := reflect.New(t)
	err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
	return v.Elem().Int(), err == nil
}

// stringOf reads a text. A number or a bool in its place must be quoted, so that 0123 or on is what was meant.
func (d decoder) stringOf(p keyPath, v any, t reflect.Type, f field) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case loose:
		return string(v), true
	}
	help := fmt.Sprintf("put it in quotes: %q", scalarText(v))
	foreign := foreignValue(f.name, scalarText(v))
	switch {
	case len(f.enum) > 0 && foreign != "":
		help = foreign
	case len(f.enum) > 0:
		help = "write one of " + strings.Join(f.enum, ", ")
	case f.name == "address":
		help = fmt.Sprintf("write %q", ":"+scalarText(v))
	}
	d.fail(p, help, "wants %s, got %s", wanted(t, f), describe(v))
	return "", false
}

func (d decoder) oneOf(p keyPath, s string, f field) bool {
	if len(f.enum) == 0 || slices.Contains(f.enum, s) {
		return true
	}
	help := "write one of " + strings.Join(f.enum, ", ")
	if near := nearest(s, f.enum); near != "" {
		help = "did you mean `" + near + "`? It is one of " + strings.Join(f.enum, ", ")
	}
	if foreign := foreignValue(f.name, s); foreign != "" {
		help = foreign
	}
	d.fail(p, help, "%s is not known", quote(s))
	return false
}

func (d decoder) boolean(p keyPath, v any, dst reflect.Value) {
	switch v := v.(type) {
	case bool:
		dst.SetBool(v)
		return
	case loose:
		if b, err := strconv.ParseBool(strings.ToLower(string(v))); err == nil {
			dst.SetBool(b)
			return
		}
	}
	help := "write true or false"
	switch strings.ToLower(scalarText(v)) {
	case "on", "yes", "1", "y":
		help = "write true; on and yes are texts in YAML 1.2"
	case "off", "no", "0", "n":
		help = "write false; off and no are texts in YAML 1.2"
	}
	d.fail(p, help, "wants true or false, got %s", describe(v))
}

func (d decoder) integer(p keyPath, v any, dst reflect.Value, f field) {
	var n int64
	var err error
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case uint64:
		n, err = strconv.ParseInt(strconv.FormatUint(v, 10), 10, 64)
	case loose:
		n, err = strconv.ParseInt(strings.ReplaceAll(string(v), "_", ""), 10, 64)
	default:
		help := "write it without quotes and units"
		if _, isFloat := v.(float64); isFloat {
			help = "write it without a fraction"
		}
		d.fail(p, help, "wants a whole number, got %s", describe(v))
		return
	}
	low, high := bound(f.min, -1<<62), bound(f.max, 1<<62)
	switch {
	case err != nil:
		d.fail(p, "write it in digits, as in 1000", "wants a whole number, got %s", describe(v))
	case n < low:
		help := rangeHelp(f)
		if foreign := foreignValue(f.name, strconv.FormatInt(n, 10)); foreign != "" {
			help = foreign
		}
		d.fail(p, help, "%d is less than %d", n, low)
	case n > high:
		d.fail(p, rangeHelp(f), "%d is more than %d", n, high)
	default:
		dst.SetInt(n)
	}
}

// rangeHelp says what a value may be.
func rangeHelp(f field) string {
	switch {
	case f.max == "":
		return "write " + f.min + " or more"
	case f.min == "":
		return "write " + f.max + " or less"
	}
	return "write something from " + f.min + " to " + f.max
}

func bound(s string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	return otherwise
}

func (d decoder) valueMatch(p keyPath, v any, to *ValueMatch) {
	const help = "write a text, or one of {exact: text}, {regex: expression}, {present: true}, {absent: true}"
	m, isMap := v.(map[string]any)
	if !isMap {
		if s, ok := d.stringOf(p, v, reflect.TypeFor[string](), field{}); ok {
			*to = ValueMatch{MatchExact, s}
		}
		return
	}
	if len(m) != 1 {
		d.fail(p, help, "wants exactly one of exact, regex, present, absent")
		return
	}
	kinds := []string{string(MatchExact), string(MatchRegex), string(MatchPresent), string(MatchAbsent)}
	for k, e := range m {
		q := p.key(k)
		switch MatchKind(k) {
		case MatchExact, MatchRegex:
			if s, ok := "", false; e == nil {
				d.add(d.keyAt(q), q, "has no value", help)
			} else if s, ok = d.stringOf(q, e, reflect.TypeFor[string](), field{}); ok {
				*to = ValueMatch{MatchKind(k), s}
			}
		case MatchPresent, MatchAbsent:
			is := false
			d.boolean(q, e, reflect.ValueOf(&is).Elem())
			if !is && d.ok(q) {
				d.fail(q, "write {present: true} or {absent: true}", "only true means something here")
			}
			*to = ValueMatch{Kind: MatchKind(k)}
		default:
			h := help
			if near := nearest(k, kinds); near != "" {
				h = "did you mean `" + near + "`?"
			}
			d.add(d.keyAt(q), q, "unknown key "+quote(k), h)
		}
	}
}

// scalarText writes a scalar as text.
func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case loose:
		return string(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// wanted says what a type looks like in a file.
func wanted(t reflect.Type, f field) string {
	switch t {
	case durationType:
		return "a duration such as 30s"
	case sizeType:
		return "a size such as 16MiB"
	case ratioType:
		return "a ratio such as 0.25"
	case prefixType:
		return "a network such as 10.0.0.0/8"
	case factorType:
		return "a number such as 1.25"
	case balanceType:
		return "a way to balance such as least_requests"
	case statusType:
		return "a status code such as 503, or a range such as 500-599"
	case retryType:
		return "a condition such as connect or 503"
	case originType:
		return "an origin such as http://users.internal:8080"
	case moduleType:
		return "a path such as plugins/auth.wasm, or a reference with a digest"
	case patternType:
		return "an address such as *.internal:8080"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	if len(f.enum) > 0 {
		return "one of " + strings.Join(f.enum, ", ")
	}
	return "a text"
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// keyList names the keys of a struct.
func keyList(t reflect.Type) string {
	var names []string
	for _, f := range fieldsOf(elem(t)) {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}
