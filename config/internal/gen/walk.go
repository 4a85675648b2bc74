package main

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"wasmgate/config"
)

// key is one key of the schema.
type key struct {
	path, name    string
	doc, unit     string
	example       string
	min, max      string
	enum          []string
	kind          string        // what its values are, for people
	value         reflect.Value // the default
	keys          []key         // of a map with fixed keys
	each          *key          // what is in a list, or below a name
	names         string        // what the names of a map are: name, field, parameter
	required      bool
	scalar        bool // a list that may be written as one value
	short         *key // of a map with fixed keys: the one that a text alone stands for
	optional      bool // a pointer: unset means something of its own
	isList, isMap bool
}

// defaults are the values that begin an element of a list or a map.
var defaults = map[reflect.Type]any{
	reflect.TypeFor[config.Listener]():    config.DefaultListener(),
	reflect.TypeFor[config.ListenerTLS](): config.DefaultListenerTLS(),
	reflect.TypeFor[config.Upstream]():    config.DefaultUpstream(),
	reflect.TypeFor[config.Target]():      config.DefaultTarget(),
	reflect.TypeFor[config.Plugin]():      config.DefaultPlugin(),
	reflect.TypeFor[config.Route]():       config.DefaultRoute(),
	reflect.TypeFor[config.Compression](): config.DefaultCompression(),
}

// kinds are the types with a notation of their own.
var kinds = map[reflect.Type]string{
	reflect.TypeFor[config.PluginConfig]():   "anything",
	reflect.TypeFor[config.ValueMatch]():     "value match",
	reflect.TypeFor[config.Module]():         "module",
	reflect.TypeFor[config.Origin]():         "origin",
	reflect.TypeFor[config.HostPattern]():    "address pattern",
	reflect.TypeFor[config.Balance]():        "balance",
	reflect.TypeFor[config.StatusRange]():    "status",
	reflect.TypeFor[config.RetryCondition](): "retry condition",
	reflect.TypeFor[netip.Prefix]():          "network",
	reflect.TypeFor[config.Duration]():       "duration",
	reflect.TypeFor[config.Size]():           "size",
	reflect.TypeFor[config.Ratio]():          "ratio",
	reflect.TypeFor[config.Factor]():         "factor",
}

// root is the whole schema.
func root() key {
	k := key{}
	k.fill(reflect.ValueOf(config.Default()))
	return k
}

// fill describes a type by its default value.
func (k *key) fill(v reflect.Value) {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		k.optional = true
		v = reflect.Zero(t.Elem())
		if d, ok := defaults[t.Elem()]; ok {
			v = reflect.ValueOf(d)
		}
		t = v.Type()
	}
	k.value = v
	if kind, ok := kinds[t]; ok {
		k.kind = kind
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		k.kind = "keys"
		k.structure(v)
		if t == reflect.TypeFor[config.Target]() {
			k.short, k.kind = &k.keys[0], k.keys[0].kind+" or keys"
		}
	case reflect.Map, reflect.Slice:
		k.isMap, k.isList = t.Kind() == reflect.Map, t.Kind() == reflect.Slice
		e := reflect.Zero(t.Elem())
		if d, ok := defaults[t.Elem()]; ok {
			e = reflect.ValueOf(d)
		}
		k.each = &key{path: k.path + "[]", enum: k.enum}
		if k.isMap {
			k.each.path = k.path + "." + strings.ToUpper(k.names)
		}
		k.each.fill(e)
		k.each.optional = false
		k.kind = "list of " + plural(k.each.kind)
		if k.isMap {
			k.kind = "map of " + plural(k.each.kind)
		}
		if k.scalar {
			k.kind = k.each.kind + ", or " + k.kind
		}
	case reflect.Bool:
		k.kind = "true or false"
	case reflect.Int:
		k.kind = "number"
	default:
		k.kind = "text"
		if len(k.enum) > 0 {
			k.kind = "one of `" + strings.Join(k.enum, "`, `") + "`"
		}
	}
}

func (k *key) structure(v reflect.Value) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name, ok := tag.Lookup("koanf")
		if !ok {
			continue
		}
		c := key{path: strings.TrimPrefix(k.path+"."+name, "."), name: name, doc: tag.Get("doc"), unit: tag.Get("unit"),
			example: tag.Get("example"), min: tag.Get("min"), max: tag.Get("max"), names: tag.Get("key"),
			required: tag.Get("required") == "true", scalar: tag.Get("scalar") == "true"}
		if e := tag.Get("enum"); e != "" {
			c.enum = strings.Split(e, ",")
		}
		c.fill(v.Field(i))
		k.keys = append(k.keys, c)
	}
}

func plural(kind string) string {
	switch {
	case kind == "origin or keys":
		return "origins or keys"
	case strings.HasSuffix(kind, "status"):
		return kind + " codes"
	case kind == "keys" || kind == "anything" || strings.HasPrefix(kind, "one of"):
		return kind
	case strings.HasSuffix(kind, "match"):
		return kind + "es"
	}
	return kind + "s"
}

// text writes a default the way a file has it; "" if there is none to speak of.
func (k *key) text() string {
	if k.optional || k.required || k.isMap || len(k.keys) > 0 {
		return ""
	}
	if k.isList {
		if texts := k.texts(); len(texts) > 0 {
			return "[" + strings.Join(texts, ", ") + "]"
		}
		return ""
	}
	switch v := k.value.Interface().(type) {
	case config.PluginConfig, config.ValueMatch, config.Module, config.Origin, config.HostPattern, netip.Prefix, config.StatusRange, config.RetryCondition:
		return ""
	case encoding.TextMarshaler:
		return written(v)
	}
	return fmt.Sprint(k.value.Interface())
}

// texts writes a list that is a default, element by element.
func (k *key) texts() (list []string) {
	for i := range k.value.Len() {
		switch v := k.value.Index(i).Interface().(type) {
		case encoding.TextMarshaler:
			list = append(list, written(v))
		default:
			list = append(list, fmt.Sprint(v))
		}
	}
	return list
}

func written(v encoding.TextMarshaler) string {
	b, err := v.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}
