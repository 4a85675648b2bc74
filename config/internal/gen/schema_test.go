package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"wasmgate/config"
)

// TestSchema holds the JSON Schema against the files that Load accepts, and against some that it refuses.
func TestSchema(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(schema(), &root); err != nil {
		t.Fatal(err)
	}
	good, _ := filepath.Glob("../../testdata/*.good.yaml")
	if len(good) < 5 {
		t.Fatalf("only %d good files", len(good))
	}
	for _, file := range good {
		if err := check(root, parse(t, file), ""); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, name := range []string{"key-unknown", "key-apache", "type-map", "type-list", "type-integer", "type-bool", "type-enum", "duration-unit",
		"size-unit", "ratio", "plugin-on-error", "route-respond", "ten", "match-values", "balance", "target-keys", "health", "retries", "pool", "sticky", "listener-mode", "modules"} {
		if err := check(root, parse(t, "../../testdata/"+name+".bad.yaml"), ""); err == nil {
			t.Errorf("%s: the schema accepts what Load refuses", name)
		}
	}
}

func parse(t *testing.T, file string) any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	v = nil
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if v == nil {
		return map[string]any{}
	}
	return v
}

// check is as much of JSON Schema as the generated one uses; a keyword that it does not know is an error.
func check(s map[string]any, v any, at string) error {
	for keyword, want := range s {
		var ok bool
		switch keyword {
		case "$schema", "title", "description", "default":
			continue
		case "type":
			ok = isType(want, v)
		case "const":
			ok = reflect.DeepEqual(want, v)
		case "enum":
			ok = slices.Contains(want.([]any), v)
		case "minimum":
			n, isNumber := v.(float64)
			ok = !isNumber || n >= want.(float64)
		case "maximum":
			n, isNumber := v.(float64)
			ok = !isNumber || n <= want.(float64)
		case "pattern":
			text, isText := v.(string)
			ok = !isText || regexp.MustCompile(want.(string)).MatchString(text)
		case "anyOf":
			ok = slices.ContainsFunc(want.([]any), func(o any) bool { return check(o.(map[string]any), v, at) == nil })
		case "items":
			list, _ := v.([]any)
			for i, e := range list {
				if err := check(want.(map[string]any), e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
			ok = true
		case "required":
			m, isMap := v.(map[string]any)
			ok = !isMap || !slices.ContainsFunc(want.([]any), func(k any) bool { _, has := m[k.(string)]; return !has })
		case "properties", "additionalProperties":
			if err := checkKeys(s, v, at); err != nil {
				return err
			}
			ok = true
		}
		if !ok {
			return fmt.Errorf("%s: %v is against %s %v", at, v, keyword, want)
		}
	}
	return nil
}

func checkKeys(s map[string]any, v any, at string) error {
	m, _ := v.(map[string]any)
	properties, _ := s["properties"].(map[string]any)
	for k, e := range m {
		inner, known := properties[k].(map[string]any)
		if !known {
			if inner, known = s["additionalProperties"].(map[string]any); !known {
				return fmt.Errorf("%s.%s is not a key", at, k)
			}
		}
		if err := check(inner, e, at+"."+k); err != nil {
			return err
		}
	}
	return nil
}

func isType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return isType(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case string:
		return want == "string"
	case []any:
		return want == "array"
	}
	return want == "object"
}

// TestIntroduction holds what the introduction shows against what Load does.
func TestIntroduction(t *testing.T) {
	text := string(intro)
	_, example, _ := strings.Cut(text, "```yaml\nlisteners:")
	example, _, _ = strings.Cut(example, "```")
	_, report, err := config.Load(config.Source{Data: []byte("listeners:" + example), Stat: func(string) error { return nil }})
	if err != nil || len(report.Warnings) > 0 {
		t.Errorf("the example: %v\n%v", err, report)
	}
	_, shown, _ := strings.Cut(text, "```\ngateway.yaml:")
	shown, _, _ = strings.Cut(shown, "```")
	data, err := os.ReadFile("../../testdata/ten.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = config.Load(config.Source{File: "gateway.yaml", Data: data})
	if err == nil || shown == "" || !strings.Contains(err.Error(), "gateway.yaml:"+shown) {
		t.Errorf("the error that is shown is not among\n%v", err)
	}
}
