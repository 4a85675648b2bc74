package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
)

//go:embed intro.md
var intro []byte

// readme is the introduction and one table for each struct of the schema.
func readme() []byte {
	var b bytes.Buffer
	b.Write(intro)
	b.WriteString("# Reference\n")
	r := root()
	r.name = "The file"
	section(&b, &r, "The file")
	return b.Bytes()
}

// section writes the table of a map with fixed keys, and then those of the maps below it.
func section(b *bytes.Buffer, k *key, title string) {
	fmt.Fprintf(b, "\n## %s\n", title)
	if k.doc != "" {
		fmt.Fprintf(b, "%s\n", k.doc)
	}
	b.WriteString("\n| key | values | default | |\n|---|---|---|---|\n")
	for i := range k.keys {
		row(b, &k.keys[i])
	}
	for i := range k.keys {
		c := &k.keys[i]
		inner := c
		for inner.each != nil {
			inner = inner.each
		}
		if len(inner.keys) > 0 {
			inner.doc = c.doc
			section(b, inner, "`"+inner.path+"`")
		}
	}
}

func row(b *bytes.Buffer, k *key) {
	values := k.kind
	inner := k
	for inner.each != nil {
		inner = inner.each
	}
	if len(inner.keys) > 0 {
		values = strings.Replace(values, "keys", "[keys](#"+anchor(inner.path)+")", 1)
	}
	if k.unit != "" {
		values += " (" + k.unit + ")"
	}
	if span := k.span(); span != "" {
		values += ", " + span
	}
	def := "`" + k.text() + "`"
	switch {
	case k.required:
		def = "required"
	case def == "``":
		def = ""
	}
	doc := k.doc
	if k.example != "" {
		doc += " Example: `" + k.example + "`."
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.name, escape(values), escape(def), escape(doc))
}

// span says the least and the most.
func (k *key) span() string {
	least := k.min != "" && k.min != "0" && k.min != "0s"
	switch {
	case least && k.max != "":
		return k.min + " to " + k.max
	case least:
		return "at least " + k.min
	case k.max != "":
		return "at most " + k.max
	}
	return ""
}

// anchor is the fragment that GitHub gives the heading of a path.
func anchor(path string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return -1
	}, strings.ToLower(path))
}

func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
