package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const layersFile = `
limits: { head: 16KiB, fields: 50 }
listeners:
  - { address: ":8001", name: first }
  - { address: ":8002" }
upstreams:
  User-API:
    targets: ["http://a:80"]
    pool: { reuse: never }
    queue: { max: 7 }
routes:
  - upstream: User-API
`

// load reads a text that must be right.
func load(t *testing.T, text string, env []string, overrides ...string) *Config {
	t.Helper()
	c, _, err := Load(Source{Data: []byte(text), Env: env, Overrides: overrides, Stat: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name      string
		env       []string
		overrides []string
		get       func(*Config) any
		want      any
	}{
		{"default", nil, nil, func(c *Config) any { return c.Limits.Target }, 8 * KiB},
		{"file over default", nil, nil, func(c *Config) any { return c.Limits.Head }, 16 * KiB},
		{"environment over file", []string{"WASMGATE_LIMITS__HEAD=64KiB"}, nil, func(c *Config) any { return c.Limits.Head }, 64 * KiB},
		{"and what is beside it stays", []string{"WASMGATE_LIMITS__HEAD=64KiB"}, nil, func(c *Config) any { return c.Limits.Fields }, 50},
		{"override over environment", []string{"WASMGATE_LIMITS__HEAD=64KiB"}, []string{"limits.head=128KiB"}, func(c *Config) any { return c.Limits.Head }, 128 * KiB},
		{"later override", nil, []string{"limits.head=64KiB", "limits.head=128KiB"}, func(c *Config) any { return c.Limits.Head }, 128 * KiB},
		{"dots in a variable", []string{"WASMGATE_LIMITS.FIELDS=1_000"}, nil, func(c *Config) any { return c.Limits.Fields }, 1000},
		{"whole map in a variable", []string{"WASMGATE_LIMITS={head: 64KiB}"}, nil, func(c *Config) any { return c.Limits.Fields }, 50},
		{"empty variable", []string{"WASMGATE_ADMIN__ADDRESS="}, nil, func(c *Config) any { return c.Admin.Address }, ""},
		{"element of a list", []string{"WASMGATE_LISTENERS__1__ADDRESS=:9002"}, nil, func(c *Config) any { return c.Listeners[1].Address }, ":9002"},
		{"beside it", []string{"WASMGATE_LISTENERS__0__ADDRESS=:9001"}, nil, func(c *Config) any { return c.Listeners[0].Name }, "first"},
		{"new element", nil, []string{"listeners[2].address=:8003", "listeners[3].address=:8004"}, func(c *Config) any { return len(c.Listeners) }, 4},
		{"new element has defaults", nil, []string{"listeners.2.address=:8003"}, func(c *Config) any { return c.Listeners[2].KeepAlive.Enabled }, true},
		{"whole list", nil, []string{`listeners=[{address: ":1"}]`}, func(c *Config) any { return len(c.Listeners) }, 1},
		{"whole list, then an element", nil, []string{`listeners=[{address: ":1"}]`, "listeners[1].address=:2"}, func(c *Config) any { return c.Listeners[1].Address }, ":2"},
		{"name in any case and with _", []string{"WASMGATE_UPSTREAMS__USER_API__POOL__REUSE=safe"}, nil, func(c *Config) any { return c.Upstreams["User-API"].Pool.Reuse }, ReuseSafe},
		{"name beside it", []string{"WASMGATE_UPSTREAMS__USER_API__POOL__REUSE=safe"}, nil, func(c *Config) any { return c.Upstreams["User-API"].Queue.Max }, 7},
		{"list of texts", []string{"WASMGATE_UPSTREAMS__USER_API__TARGETS=http://b:80, http://c:81"}, nil, func(c *Config) any { return c.Upstreams["User-API"].Targets[1].String() }, "http://c:81"},
		{"bool", nil, []string{"listeners[0].keep_alive.enabled=false"}, func(c *Config) any { return c.Listeners[0].KeepAlive.Enabled }, false},
		{"map of texts", nil, []string{"routes[0].request_headers.set.x-a=b=c"}, func(c *Config) any { return c.Routes[0].RequestHeaders.Set["x-a"] }, "b=c"},
		{"value match", nil, []string{"routes[0].match.query.q={present: true}"}, func(c *Config) any { return c.Routes[0].Match.Query["q"] }, ValueMatch{Kind: MatchPresent}},
		{"not config", []string{"WASMGATE_TEST_ALL=1", "OTHER=1", "WASMGATE_=x"}, nil, func(c *Config) any { return c.Loops }, 0},
		{"element 10 after 2", elements(12), nil, func(c *Config) any { return c.Listeners[10].Address }, ":9010"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.get(load(t, layersFile, tt.env, tt.overrides...)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func elements(n int) (env []string) {
	for i := range n {
		number := string(rune('0' + i%10))
		if i >= 10 {
			number = "1" + number
		}
		env = append(env, "WASMGATE_LISTENERS__"+number+"__ADDRESS=:90"+("0" + number)[len(number)-1:])
	}
	return env
}

func TestPluginConfigOfOverride(t *testing.T) {
	const file = "plugins: { a: { module: a.wasm, config: { x: 1 } } }\nroutes: [{ plugins: [a] }]\n"
	for value, want := range map[string]string{"raw": "raw", "{y: 2}": `{"x":1,"y":2}`, "[1, a]": `[1,"a"]`, "": ""} {
		c := load(t, file, nil, "plugins.a.config="+value)
		if got := string(c.Plugins["a"].Config); got != want && !(value == "{y: 2}" && got == `{"y":2}`) {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

func TestLayerErrors(t *testing.T) {
	for _, tt := range []struct {
		env, override, want string
	}{
		{"WASMGATE_LIMITS__HAED=1KiB", "", `$WASMGATE_LIMITS__HAED: error: limits.haed: unknown key "haed"`},
		{"WASMGATE_LIMITS__HEAD=lots", "", `$WASMGATE_LIMITS__HEAD: error: limits.head: "lots" is not a size`},
		{"WASMGATE_LOOPS__X=1", "", `$WASMGATE_LOOPS__X: error: loops: has no keys below it`},
		{"WASMGATE_LISTENERS__5__ADDRESS=:1", "", `"5" is not an element of the list`},
		{"", "limits", `--set limits: error: "limits" is not key=value`},
		{"", "limits.head", `is not key=value`},
		{"", "=1", `is not key=value`},
		{"", "loops=two", `--set loops: error: loops: wants a whole number, got the text "two"`},
		{"", "routes=[{", `--set routes: error: routes: not YAML`},
		{"", "routes=[{upstream: nobody}]", `--set routes: error: routes[0].upstream: no upstream is called "nobody"`},
		{"", "limits=3", `--set limits: error: limits: wants a map, got the number 3`},
		{"", "routes[0].plugins=a,b", `--set routes[0].plugins: error: routes[0].plugins[0]: no plugin is called "a"`},
	} {
		_, _, err := Load(Source{Data: []byte(layersFile), Env: []string{tt.env}, Overrides: nonEmpty(tt.override)})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %v, want %s", tt.env, tt.override, err, tt.want)
		}
	}
	_, report, err := Load(Source{Data: []byte(layersFile), Env: []string{"WASMGATE_LIMTS__HEAD=1"}})
	if err != nil || !strings.Contains(report.String(), "$WASMGATE_LIMTS__HEAD: warning: limts.head: not a setting") || !strings.Contains(report.String(), "did you mean `limits`?") {
		t.Errorf("a variable of somebody else's: %v, %v", err, report)
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func TestNoFile(t *testing.T) {
	c, report, err := Load(Source{})
	if err != nil || len(c.Listeners) != 1 || !reflect.DeepEqual(c.Listeners[0].KeepAlive, DefaultListener().KeepAlive) {
		t.Errorf("%+v, %v, %v", c, report, err)
	}
	_, report, err = Load(Source{File: filepath.Join(t.TempDir(), "none.yaml")})
	if err == nil || !strings.Contains(err.Error(), "cannot read the config") || report == nil {
		t.Errorf("a file that is not there: %v, %v", report, err)
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	const text = "plugins:\n  a: { module: sub/a.wasm }\nroutes:\n  - plugins: [a]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := Load(Source{File: file})
	var list Errors
	if !errors.As(err, &list) || len(list) != 1 || list[0].Line != 2 || !strings.Contains(list[0].Help, filepath.Join(dir, "sub", "a.wasm")) {
		t.Fatalf("a module that is not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "sub", "a.wasm")
	if err := os.WriteFile(module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, report, err := Load(Source{File: file})
	if err != nil || c.Plugins["a"].Module != (Module{Path: module}) || !reflect.DeepEqual(report.Files, []string{module}) {
		t.Errorf("%v, %v, %v", c, report, err)
	}
}

func TestAt(t *testing.T) {
	_, report, err := Load(Source{File: "gateway.yaml", Data: []byte(layersFile), Overrides: []string{"limits.head=64KiB"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"limits.fields":                    "gateway.yaml:2:24",
		"limits.head":                      "--set limits.head",
		"limits.body":                      "gateway.yaml:2:1",
		"listeners[1]":                     "gateway.yaml:5:5",
		"upstreams.User-API.queue.max":     "gateway.yaml:10:14",
		"upstreams.User-API.timeouts.idle": "gateway.yaml:7:3",
		"routes[0].upstream":               "gateway.yaml:12:5",
		"telemetry":                        "",
	} {
		if got := report.At(path).String(); got != want {
			t.Errorf("%s: at %q, want %q", path, got, want)
		}
	}
}

// TestEqual is what a reload rests on: an upstream about which nothing changed is equal, wherever it stands.
func TestEqual(t *testing.T) {
	a := load(t, layersFile, nil)
	b := load(t, "# moved\n"+strings.Replace(layersFile, "max: 7", `max: "${Q}"`, 1), []string{"Q=7", "WASMGATE_LOOPS=2"})
	if !reflect.DeepEqual(a.Upstreams, b.Upstreams) {
		t.Error("an unchanged upstream differs")
	}
	c := load(t, layersFile, nil, "upstreams.User-API.queue.max=8")
	if reflect.DeepEqual(a.Upstreams, c.Upstreams) {
		t.Error("a changed upstream is equal")
	}
}

func TestInlineUpstreams(t *testing.T) {
	c := load(t, `
routes:
  - { match: { path_regex: "^/a/([a-z]+)" }, upstream: "http://$1.internal:8080", dynamic: { allow: ["*.internal:8080"] } }
  - { match: { path_regex: "^/b/([a-z]+)" }, upstream: "http://$1.internal:8080", dynamic: { allow: ["*.internal:8080"] } }
  - { match: { path_regex: "^/c/([a-z]+)" }, upstream: "http://$1.internal:8080", dynamic: { allow: ["x.internal:8080"] } }
  - { match: { path_regex: "^/d/([0-9]+)" }, upstream: "https://d.internal:$1", dynamic: { allow: ["d.internal:*"] } }
  - { match: { path: /e }, upstream: "http://app:1323" }
`, nil)
	names := []string{"http://$1.internal:8080", "http://$1.internal:8080", "http://$1.internal:8080#2", "https://d.internal:$1", "http://app:1323"}
	for i, r := range c.Routes {
		if r.Upstream != names[i] || c.Upstreams[r.Upstream] == nil {
			t.Errorf("route %d goes to %q, want %q", i, r.Upstream, names[i])
		}
	}
	if len(c.Upstreams) != 4 || c.Routes[0].Authority != "$1.internal:8080" || c.Routes[4].Authority != "" {
		t.Errorf("%d upstreams, %+v", len(c.Upstreams), c.Routes)
	}
	if u := c.Upstreams[names[3]]; u.Dynamic.Scheme != HTTPS || u.Pool != DefaultUpstream().Pool {
		t.Errorf("%+v", u)
	}
	if u := c.Upstreams[names[4]]; len(u.Targets) != 1 || u.Targets[0].String() != "http://app:1323" {
		t.Errorf("%+v", u)
	}
}

func TestEnvironmentInTexts(t *testing.T) {
	env := []string{"A=1", "B=two", "E=", "A=3"}
	for text, want := range map[string]string{
		`"${A}"`: "3", `"x${A}y${B}z"`: "x3ytwoz", `"${N:-d}"`: "d", `"${E:-d}"`: "d", `"${E}"`: "", `"$${A}"`: "${A}", `"$1 ${1} $$"`: "$1 ${1} $$",
		`${B}`: "two", `'${A}'`: "3", `"${N:-a:-b}"`: "a:-b", `"$$${A}"`: "$${A}", "|\n      ${A}\n      ${B}": "3\ntwo\n",
	} {
		c := load(t, "plugins:\n  a:\n    module: a.wasm\n    config: "+text+"\nroutes:\n  - plugins: [a]\n", env)
		if got := string(c.Plugins["a"].Config); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
