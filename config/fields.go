package config

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// field is one key of a struct of the schema, as its tags say.
type field struct {
	name     string
	index    int
	typ      reflect.Type
	doc      string
	enum     []string
	min, max string
	ref      string // the values are names in this map of Config
	wildcard bool   // "*" is such a name
	scalar   bool   // a single value may stand for a list of one
	file     bool   // a path of a file that must exist
	required bool
	secret   bool // what it has is not for everybody who may see the config
}

var fieldCache sync.Map // of reflect.Type to []field

// fieldsOf lists the keys of a struct in their order.
func fieldsOf(t reflect.Type) []field {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]field)
	}
	var list []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, ok := tag.Lookup("koanf")
		if !ok {
			continue
		}
		f := field{name: name, index: i, typ: t.Field(i).Type, doc: tag.Get("doc"), min: tag.Get("min"), max: tag.Get("max"),
			ref: tag.Get("ref"), wildcard: tag.Get("wildcard") == "true", scalar: tag.Get("scalar") == "true",
			file: tag.Get("file") == "true", required: tag.Get("required") == "true", secret: tag.Get("secret") == "true"}
		if e := tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		list = append(list, f)
	}
	fieldCache.Store(t, list)
	return list
}

func fieldNamed(t reflect.Type, name string) (field, bool) {
	for _, f := range fieldsOf(t) {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

var (
	durationType     = reflect.TypeFor[Duration]()
	sizeType         = reflect.TypeFor[Size]()
	ratioType        = reflect.TypeFor[Ratio]()
	prefixType       = reflect.TypeFor[netip.Prefix]()
	factorType       = reflect.TypeFor[Factor]()
	targetType       = reflect.TypeFor[Target]()
	originType       = reflect.TypeFor[Origin]()
	balanceType      = reflect.TypeFor[Balance]()
	statusType       = reflect.TypeFor[StatusRange]()
	retryType        = reflect.TypeFor[RetryCondition]()
	patternType      = reflect.TypeFor[HostPattern]()
	pluginConfigType = reflect.TypeFor[PluginConfig]()
	valueMatchType   = reflect.TypeFor[ValueMatch]()
	moduleType       = reflect.TypeFor[Module]()
)

// shape is what a Go type looks like in a file.
type shape int

const (
	scalarShape shape = iota
	structShape
	mapShape
	listShape
	anyShape // PluginConfig
)

func shapeOf(t reflect.Type) shape {
	switch t {
	case pluginConfigType:
		return anyShape
	case prefixType, originType, patternType, balanceType, statusType, retryType, valueMatchType, moduleType:
		return scalarShape
	}
	if reflect.PointerTo(t).Implements(valueReaderType) {
		return scalarShape
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Struct:
		return structShape
	case reflect.Map:
		return mapShape
	case reflect.Slice:
		return listShape
	}
	return scalarShape
}

// asText is the key of a struct that a text may stand for, in place of a map: an origin for a target.
func asText(t reflect.Type) (field, bool) {
	if elem(t) != targetType {
		return field{}, false
	}
	return fieldNamed(targetType, "url")
}

// elem is the type below a map, a list or a pointer.
func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fresh makes a value with the defaults that its type has where it stands in a list or a map.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t {
	case reflect.TypeFor[Listener]():
		v.Set(reflect.ValueOf(DefaultListener()))
	case reflect.TypeFor[ListenerTLS]():
		v.Set(reflect.ValueOf(DefaultListenerTLS()))
	case reflect.TypeFor[Upstream]():
		v.Set(reflect.ValueOf(DefaultUpstream()))
	case targetType:
		v.Set(reflect.ValueOf(DefaultTarget()))
	case reflect.TypeFor[Plugin]():
		v.Set(reflect.ValueOf(DefaultPlugin()))
	case reflect.TypeFor[Route]():
		v.Set(reflect.ValueOf(DefaultRoute()))
	case reflect.TypeFor[Compression]():
		v.Set(reflect.ValueOf(DefaultCompression()))
	}
	return v
}

// indexOf reads "3" and "[3]" as the number of a list's element.
func indexOf(s string) (int, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= 100_000
}
