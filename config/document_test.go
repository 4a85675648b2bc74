package config

import (
	"errors"
	"strings"
	"testing"
)

type other struct {
	Name  string           `koanf:"name" required:"true" doc:"what it is called"`
	Items []item           `koanf:"items"`
	Any   PluginConfig     `koanf:"any"`
	Few   map[string]words `koanf:"few"`
}

type item struct {
	Kind string   `koanf:"kind" enum:"small,large"`
	For  Duration `koanf:"for"`
	Want *item    `koanf:"want"`
}

// words is a text or a list of texts.
type words []string

func (w *words) ReadValue(v any) error {
	switch v := v.(type) {
	case string:
		*w = words{v}
		return nil
	case []any:
		for _, e := range v {
			*w = append(*w, e.(string))
		}
		return nil
	}
	return Mistake("wants a text or a list", "write `[a, b]`")
}

func TestDecode(t *testing.T) {
	var o other
	report, err := Decode("other.yaml", []byte("name: n\nitems:\n  - kind: small\n  - { for: 2s, want: { kind: large } }\nany: { a: [1] }\nfew: { x: one, y: [one, two] }\n"), nil, &o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Name != "n" || len(o.Items) != 2 || o.Items[1].Want.Kind != "large" || string(o.Any) != `{"a":[1]}` || len(o.Few["y"]) != 2 || o.Few["x"][0] != "one" {
		t.Errorf("%+v", o)
	}
	if at := report.At("items[1]").String(); at != "other.yaml:4:5" {
		t.Errorf("items[1] is at %s", at)
	}
	if p := report.Problem("items[1].for", "too long", "wait less"); !strings.Contains(p.String(), "other.yaml:4:12: error: items[1].for: too long\n  4 |   - { for: 2s, want") {
		t.Errorf("%s", p)
	}
}

func TestDecodeTellsMistakes(t *testing.T) {
	var o other
	_, err := Decode("other.yaml", []byte("nmae: n\nitems:\n  - kind: smal\n    upstream: x\nany: ${HOME}\nfew: { x: 1 }\n"), nil, &o)
	var list Errors
	if !errors.As(err, &list) || len(list) != 6 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{
		"other.yaml:1:1: error: nmae: unknown key \"nmae\"", "did you mean `name`?", "\"name\" is missing", "did you mean `small`?",
		"other.yaml:4:5: error: items[0].upstream: unknown key", "known here: kind, for, want", "HOME is not set", "few.x: wants a text or a list", "help: write `[a, b]`",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	if _, err := Decode("other.yaml", []byte("- a\n"), nil, &o); err == nil || !strings.Contains(err.Error(), "not a map") {
		t.Errorf("a list: %v", err)
	}
}
