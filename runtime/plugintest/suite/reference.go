package suite

import (
	"fmt"
	"reflect"
	"strings"
)

// Keep keeps the tests whose name is wanted.
func (f *File) Keep(wanted func(name string) bool) {
	f.skip = map[int]bool{}
	for i := range f.Tests {
		if !wanted(f.Tests[i].Name) {
			f.skip[i] = true
		}
	}
}

// Reference lists the keys of test files.
func Reference() string {
	var b strings.Builder
	b.WriteString("The keys of a file of tests, NAME.test.yaml. What is expected may be a text, a list of texts, or one of\n" +
		"{ regex: EXPRESSION }, { contains: TEXT }, { present: true }, { absent: true }.\n\n")
	keys(&b, reflect.TypeFor[File](), "")
	return b.String()
}

// keys lists the keys of a struct. What a test has for its one request is listed with steps, which have the same.
func keys(b *strings.Builder, t reflect.Type, indent string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("koanf")
		if !ok {
			continue
		}
		doc := f.Tag.Get("doc")
		if enum := f.Tag.Get("enum"); enum != "" {
			doc = strings.TrimSpace(strings.ReplaceAll(enum, ",", " | ") + ". " + doc)
		}
		if t == reflect.TypeFor[Test]() && doc == "" || name == "role" && t == reflect.TypeFor[Test]() {
			if name == "role" {
				fmt.Fprintf(b, "%s… and the keys of a step, for a test with one request\n", indent)
			}
			continue
		}
		below := f.Type
		list := false
		for below.Kind() == reflect.Pointer || below.Kind() == reflect.Slice && below.Elem().Kind() == reflect.Struct {
			list = list || below.Kind() == reflect.Slice
			below = below.Elem()
		}
		fmt.Fprintf(b, "%s%-*s %s\n", indent, 28-len(indent), name+":", doc)
		if below.Kind() == reflect.Struct && below != reflect.TypeFor[Match]() {
			more := indent + "  "
			if list {
				more = indent + "  - "
				more = strings.Repeat(" ", len(more))
			}
			keys(b, below, more)
		}
	}
}
