package config

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestYAMLIsTheTree reads what YAML has written with the library.
func TestYAMLIsTheTree(t *testing.T) {
	for _, file := range []string{"full.good.yaml", "environment.good.yaml", "modules.good.yaml", "numbers.good.yaml", "captured_host.good.yaml", "minimal.good.yaml", "empty.good.yaml"} {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		s := testSource(file)
		s.Data = data
		c, report, err := Load(s)
		if err != nil {
			t.Fatal(err)
		}
		text := c.YAML(report)
		var got any
		if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("$${"), []byte("${")), &got); err != nil {
			t.Errorf("%s: %v\n%s", file, err, text)
			continue
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(c.Tree(report))
		if !bytes.Equal(a, b) {
			t.Errorf("%s: YAML has\n%s\nand the tree\n%s", file, a, b)
		}
		if n := bytes.Count(text, []byte(" # "+file)); 2*n < len(report.Keys()) { // those below what is hidden have none, and what the file writes in short
			t.Errorf("%s: %d places of %d keys", file, n, len(report.Keys()))
		}
	}
}

func TestTreeHidesSecrets(t *testing.T) {
	c, report, err := Load(Source{Data: []byte(`
admin: { token: quite-a-secret-0 }
telemetry: { traces: { endpoint: "http://localhost:4318", headers: { x: quite-a-secret-1 } } }
plugins:
  a: { module: a.wasm, config: { some: quite-a-secret-2 }, proxy_wasm: { vm_config: quite-a-secret-3 } }
  b: { module: "https://host/b.wasm?sig=quite-a-secret-4@sha256:0000000000000000000000000000000000000000000000000000000000000000" }
routes:
  - name: seen
    match: { headers: { x-api-key: quite-a-secret-5, x-seen: seen-1 } }
    request_headers: { set: { authorization: quite-a-secret-6, x-other: "${FILLED}", x-plain: seen-2 } }
    rewrite: { query: "a=${FILLED}" }
    plugins: [a, b]
    upstream: "http://localhost:${PORT}"
`), Lookup: func(name string) (string, bool) {
		return map[string]string{"FILLED": "quite-a-secret-7", "PORT": "8123"}[name], true
	}, Stat: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	text := string(c.YAML(report))
	if strings.Contains(text, "quite-a-secret") {
		t.Errorf("a secret is told:\n%s", text)
	}
	for _, want := range []string{
		"token: \"***\" # <stdin>:2:", "x-seen: seen-1 # <stdin>:", "x-plain: seen-2", "https://host/b.wasm?***@sha256:", "config: \"***\"", "x-other: \"***\"", "8123",
		"x-api-key: \"***\"", "connect: 3s\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if keys := report.Keys(); len(keys) < 20 || keys[0].Path != "admin" || keys[1].Path != "admin.token" || keys[1].At.Line != 2 {
		t.Errorf("keys: %v", keys)
	}
	if (*Report)(nil).Keys() != nil || len(c.YAML(nil)) == 0 {
		t.Error("without a report")
	}
}

func TestFlatTellsConfigsApart(t *testing.T) {
	a, b := DefaultUpstream(), DefaultUpstream()
	b.Pool.MaxConnections++
	x, y := Flat(a), Flat(&b)
	if len(x) != len(y) || x["pool.max_connections"] == y["pool.max_connections"] || x["timeouts.connect"] != y["timeouts.connect"] {
		t.Errorf("%v\n%v", x, y)
	}
}
