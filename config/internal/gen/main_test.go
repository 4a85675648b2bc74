package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAreFresh(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("config/%s is stale: go generate ./config writes it", name)
		}
	}
}

// TestEveryKeyIsDocumented keeps the reference complete: a sentence for each key, and an example for each value.
func TestEveryKeyIsDocumented(t *testing.T) {
	var walk func(k *key)
	walk = func(k *key) {
		for i := range k.keys {
			c := &k.keys[i]
			if !strings.HasSuffix(c.doc, ".") {
				t.Errorf("%s: the doc tag is not a sentence: %q", c.path, c.doc)
			}
			inner := c
			for inner.each != nil {
				inner = inner.each
			}
			if len(inner.keys) == 0 && c.example == "" {
				t.Errorf("%s has no example", c.path)
			}
			if c.isMap && c.names == "" {
				t.Errorf("%s: the key tag says what its names are", c.path)
			}
			walk(inner)
		}
	}
	r := root()
	walk(&r)
}
