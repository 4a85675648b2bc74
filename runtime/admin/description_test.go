package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write openapi.json")

// object is a JSON object in the order in which it is made, which is the order in which people read it.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(m.name)
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(append(append(name, ':'), value...))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (o *object) add(name string, value any) { *o = append(*o, member{name, value}) }

// addText adds a text that is not empty.
func (o *object) addText(name, value string) {
	if value != "" {
		o.add(name, value)
	}
}

// TestDescription compares openapi.json with what the operations and their types are, or writes it.
func TestDescription(t *testing.T) {
	want := describe(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, description) {
		t.Error("openapi.json is not what the operations are: go generate ./runtime/admin")
	}
}

func describe(t *testing.T) []byte {
	d := describer{T: t, schemas: map[string]object{}}
	paths, at := object{}, map[string]int{}
	for _, op := range operations() {
		i, is := at[op.path]
		if !is {
			i = len(paths)
			at[op.path] = i
			paths.add(op.path, object{})
		}
		methods := paths[i].value.(object)
		methods.add(strings.ToLower(op.method), d.operation(&op))
		paths[i].value = methods
	}
	schemas := object{}
	for _, name := range d.order {
		schemas.add(name, d.schemas[name])
	}
	b, err := json.MarshalIndent(object{
		{"openapi", "3.1.0"},
		{"info", object{
			{"title", "wasmgate admin"}, {"version", "1"},
			{"description", "The endpoint for operators. Errors are text for people. Where a token or certificates are configured every request needs one, " +
				"but for the page's files, /healthz and /readyz (unless admin.open_health is false)."},
		}},
		{"security", []object{{{"token", []string{}}}, {{"certificate", []string{}}}, {}}},
		{"paths", paths},
		{"components", object{
			{"securitySchemes", object{
				{"token", object{{"type", "http"}, {"scheme", "bearer"}, {"description", "admin.token or admin.token_file."}}},
				{"certificate", object{{"type", "mutualTLS"}, {"description", "A certificate of admin.tls.client_ca."}}},
			}},
			{"schemas", schemas},
		}},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

type describer struct {
	*testing.T
	schemas map[string]object
	order   []string
}

var wildcard = regexp.MustCompile(`\{(\w+)\}`)

func (d *describer) operation(op *operation) object {
	o := object{{"operationId", op.id}, {"tags", []string{op.group}}, {"summary", op.summary}}
	o.addText("description", op.text)
	if op.access != guarded {
		o.add("security", []object{})
	}
	parameters := []object{}
	for _, m := range wildcard.FindAllStringSubmatch(op.path, -1) {
		schema := object{{"type", "string"}}
		if m[1] == "id" && op.group == groupConnections {
			schema = object{{"type", "integer"}, {"minimum", 1}}
		}
		parameters = append(parameters, object{{"name", m[1]}, {"in", "path"}, {"required", true}, {"schema", schema}})
	}
	for _, p := range op.query {
		schema := object{{"type", "string"}}
		if p.of != nil {
			schema = d.schema(reflect.TypeOf(p.of))
		}
		if p.enum != nil {
			schema.add("enum", p.enum)
		}
		one := object{{"name", p.name}, {"in", "query"}, {"description", p.text}, {"schema", schema}}
		if p.required {
			one.add("required", true)
		}
		parameters = append(parameters, one)
	}
	if len(parameters) > 0 {
		o.add("parameters", parameters)
	}
	if op.body != nil {
		o.add("requestBody", object{{"required", true}, {"content", object{{asJSON, object{{"schema", d.schema(reflect.TypeOf(op.body))}}}}}})
	}
	o.add("responses", d.answers(op))
	return o
}

// answers are those of the list, and those that every guarded operation may give.
func (d *describer) answers(op *operation) object {
	list := op.answers
	if op.access == guarded {
		list = append(list[:len(list):len(list)], said401, said403)
	}
	if op.access != open {
		list = append(list[:len(list):len(list)], said400) // parameters that there are not
	}
	if op.changes {
		list = append(list[:len(list):len(list)], said413)
	}
	out, at := object{}, map[int]int{}
	for _, r := range list {
		schema := object{{"type", "string"}}
		if r.of != nil {
			schema = d.schema(reflect.TypeOf(r.of))
		}
		media := member{cmp.Or(r.media, asJSON), object{{"schema", schema}}}
		if i, is := at[r.status]; is {
			if r == said400 || r == said413 {
				continue // the operation's own says more
			}
			answer := out[i].value.(object)
			answer[0].value = answer[0].value.(string) + " " + r.text
			answer[1].value = append(answer[1].value.(object), media)
			continue
		}
		at[r.status] = len(out)
		status, _ := json.Marshal(r.status)
		out.add(string(status), object{{"description", r.text}, {"content", object{media}}})
	}
	return out
}

// schema is a type's JSON Schema; that of a struct is a reference to it.
func (d *describer) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint16:
		return object{{"type", "integer"}}
	case reflect.Uint64:
		return object{{"type", "integer"}, {"minimum", 0}}
	case reflect.Float64:
		return object{{"type", "number"}}
	case reflect.String:
		return object{{"type", "string"}}
	case reflect.Interface:
		return object{}
	case reflect.Slice:
		if path.Base(t.Elem().PkgPath()) == "explain" { // what there is none of is null there
			return object{{"type", []string{"array", "null"}}, {"items", d.schema(t.Elem())}}
		}
		return object{{"type", "array"}, {"items", d.schema(t.Elem())}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", d.schema(t.Elem())}}
	case reflect.Struct:
		d.define(t)
		return object{{"$ref", "#/components/schemas/" + schemaName(t)}}
	}
	d.Fatalf("there is no schema for %v", t)
	return nil
}

// schemaName is a type's name; of another package with that package's name in front.
func schemaName(t reflect.Type) string {
	if name := path.Base(t.PkgPath()); name != "admin" {
		return strings.ToUpper(name[:1]) + name[1:] + t.Name()
	}
	return t.Name()
}

func (d *describer) define(t reflect.Type) {
	name := schemaName(t)
	if _, is := d.schemas[name]; is {
		return
	}
	d.schemas[name] = nil
	d.order = append(d.order, name)
	properties, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		field, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := d.schema(f.Type)
		schema.addText("description", f.Tag.Get("doc"))
		if enum := f.Tag.Get("enum"); enum != "" {
			schema.add("enum", strings.Split(enum, ","))
		}
		properties.add(field, schema)
		if rest != "omitempty" {
			required = append(required, field)
		}
	}
	schema := object{{"type", "object"}, {"properties", properties}}
	if len(required) > 0 {
		schema.add("required", required)
	}
	d.schemas[name] = append(schema, member{"additionalProperties", false})
}
