package main

import (
	"encoding/json"
	"strconv"

	"wasmgate/config"
)

// object is a JSON object; encoding/json writes its keys in alphabetical order.
type object map[string]any

// variable is a text with ${NAME} in it, which may stand for anything.
const variable = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// statusForm is a status code, or two with a - between them.
const statusForm = `^[1-5][0-9][0-9]( *- *[1-5][0-9][0-9])?$`

// schema is the JSON Schema of a file, draft 2020-12.
func schema() []byte {
	r := root()
	s := r.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "wasmgate configuration"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // every value above is a plain one
	}
	return append(b, '\n')
}

// schema describes one key.
func (k *key) schema() object {
	s := k.shape()
	if k.doc != "" {
		s["description"] = k.doc
	}
	if text := k.text(); text != "" {
		s["default"] = text
		switch v := k.value.Interface().(type) {
		case int, bool, config.Ratio, config.Factor:
			s["default"] = v
		}
		if k.isList {
			s["default"] = k.texts()
		}
	}
	return s
}

func (k *key) shape() object {
	switch k.kind {
	case "anything":
		return object{}
	case "value match":
		return valueMatch()
	case "module":
		return module()
	case "duration":
		return pattern(`^([0-9][0-9_]*(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$|`+variable, object{"type": "integer", "const": 0})
	case "size":
		return pattern(`^[0-9][0-9_]*(\.[0-9]+)? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$|`+variable, object{"type": "integer", "minimum": 0})
	case "ratio":
		return pattern(`^[0-9]+(\.[0-9]+)?%$|`+variable, object{"type": "number", "minimum": 0, "maximum": 1})
	case "factor":
		return pattern(variable, object{"type": "number", "minimum": 1, "maximum": 100})
	case "status":
		return pattern(statusForm+"|"+variable, object{"type": "integer", "minimum": 100, "maximum": 599})
	case "retry condition":
		return pattern("^(connect|reset|timeout|grpc-[a-z-]+)$|"+statusForm+"|"+variable, object{"type": "integer", "minimum": 400, "maximum": 599})
	case "balance":
		return object{"type": "string", "pattern": `^(round_robin|least_requests|least_bytes|random_two|first)$|` +
			`^hash ?\( *(ip|path|(query|header|cookie) +[^ ()]+) *\)$|` + variable}
	case "number":
		return pattern(variable, k.number())
	case "true or false":
		return pattern(variable, object{"type": "boolean"})
	}
	switch {
	case k.isList:
		list := object{"type": "array", "items": k.each.schema()}
		if k.scalar {
			return object{"anyOf": []any{k.each.schema(), list}}
		}
		return list
	case k.isMap:
		return object{"type": "object", "additionalProperties": k.each.schema()}
	case k.short != nil:
		return object{"anyOf": []any{k.short.schema(), k.object()}}
	case len(k.keys) > 0:
		return k.object()
	case len(k.enum) > 0:
		return object{"anyOf": []any{object{"enum": k.enum}, object{"type": "string", "pattern": variable}}}
	}
	return object{"type": "string"}
}

// pattern is a text of some form, or something else.
func pattern(form string, other object) object {
	return object{"anyOf": []any{other, object{"type": "string", "pattern": form}}}
}

func (k *key) number() object {
	s := object{"type": "integer"}
	if n, err := strconv.Atoi(k.min); err == nil {
		s["minimum"] = n
	}
	if n, err := strconv.Atoi(k.max); err == nil {
		s["maximum"] = n
	}
	return s
}

func (k *key) object() object {
	properties, required := object{}, []string{}
	for i := range k.keys {
		c := &k.keys[i]
		properties[c.name] = c.schema()
		if c.required {
			required = append(required, c.name)
		}
	}
	// A key without anything below it changes nothing, and is allowed.
	s := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func valueMatch() object {
	one := func(name string, value object) object {
		return object{"type": "object", "properties": object{name: value}, "required": []string{name}, "additionalProperties": false}
	}
	text, yes := object{"type": "string"}, object{"const": true}
	return object{"anyOf": []any{text, one("exact", text), one("regex", text), one("present", yes), one("absent", yes)}}
}

func module() object {
	text := object{"type": "string"}
	return object{"anyOf": []any{text, object{"type": "object", "properties": object{"url": text, "sha256": text},
		"required": []string{"url"}, "additionalProperties": false}}}
}
