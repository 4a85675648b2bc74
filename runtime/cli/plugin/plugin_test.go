package plugin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
)

// TestProjects makes a project in each language, and does with it what its author would: builds it, runs its tests, makes
// one fail, looks into it and measures it.
func TestProjects(t *testing.T) {
	// An edit that one of the project's tests must notice.
	edits := map[string][2]string{
		"go": {"wasmgate.Deny(403)", "wasmgate.Deny(404)"}, "c": {"wg_deny(403)", "wg_deny(404)"}, "rust": {"Decision::Deny(403)", "Decision::Deny(404)"},
		"as": {"Decision.deny(403)", "Decision.deny(404)"}, "zig": {".deny = 403", ".deny = 404"},
		"cpp": {"wg_deny(403)", "wg_deny(404)"},
	}
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			needs(t, l)
			dir := filepath.Join(t.TempDir(), "my-plugin")
			said := succeeds(t, "new", dir, "--lang", l.name)
			contains(t, said, "a plugin in "+l.title, "wasmgate plugin test", "wasmgate plugin run")
			main := filepath.Join(dir, strings.ReplaceAll(l.main, "@NAME@", "my-plugin"))
			for _, f := range l.sources(dir) {
				if name, _ := filepath.Rel(dir, f); !strings.HasPrefix(name, "wasmgate") && regexp.MustCompile(`@[A-Z]+@`).MatchString(read(t, f)) {
					t.Errorf("%s has a place that was not filled in", name)
				}
			}
			if text := read(t, filepath.Join(dir, "README.md")); strings.Contains(text, "the SDK's page") {
				if page := read(t, filepath.Join(dir, l.page)); len(page) < 1000 || regexp.MustCompile(`\]\(\.\./`).MatchString(page) {
					t.Errorf("the SDK's page has %d bytes, or links to what is not there", len(page))
				}
			} else {
				t.Error("the README does not lead to the SDK's page")
			}
			insideOnly(t, l, dir)
			contains(t, succeeds(t, "test", dir), "ok    answers pings itself", "request ", " fuel", "5 tests passed")
			if l.check != "" {
				ownTests(t, l, dir)
			}

			module := filepath.Join(dir, "my-plugin.wasm")
			contains(t, succeeds(t, "build", dir), module+": ", "ABI native 1", "with names")
			whole := len(read(t, module))
			contains(t, succeeds(t, "build", dir, "--strip", "-o", filepath.Join(dir, "small.wasm")), "small.wasm: ", "without names")
			if small := len(read(t, filepath.Join(dir, "small.wasm"))); small >= whole {
				t.Errorf("%d bytes with names, %d without", whole, small)
			}
			if leftover, _ := filepath.Glob(filepath.Join(dir, "*"+buildSuffix)); leftover != nil {
				t.Errorf("left behind: %s", leftover)
			}

			contains(t, succeeds(t, "inspect", module), "native 1", "headers of requests: x-beta", "sample      GET http://example.com/: continue; ", " fuel", "tell names")
			var b benched
			if err := json.Unmarshal([]byte(succeeds(t, "bench", module, "--json", "--time", "5ms")), &b); err != nil {
				t.Fatal(err)
			}
			if len(b.Cases) != 4 || b.Cases[0].Name != "answers pings itself" || b.Cases[0].P50 <= 0 || b.Cases[0].P99 < b.Cases[0].P50 || b.Cases[0].Fuel < 100 ||
				b.Cases[0].Memory < 1<<16 || b.Cases[0].Failed != 0 || b.Starts.Cached <= 0 || b.Starts.Compile <= 0 || b.Starts.Instance <= 0 {
				t.Errorf("%+v", b)
			}

			edit(t, main, edits[l.name][0], edits[l.name][1])
			fails(t, true, "status\n        want: 403\n        got:  404\n", "test", dir)
			write(t, main, read(t, main)+"\n}}} this is no source\n")
			c := fails(t, false, "failed: exit status", "test", dir)
			contains(t, c.stderr.String(), filepath.Base(main))
			if strings.Contains(c.stderr.String(), "Build Summary") || strings.Contains(c.stderr.String(), "failed command") {
				t.Errorf("what Zig's build says of itself is no help:\n%s", c.stderr.String())
			}
			lines := strings.Split(strings.TrimSpace(c.stderr.String()), "\n")
			program, _ := l.tool(l.tools[0].program).locate(&Process{Env: environment(t)}, dir)
			if last := lines[len(lines)-1]; !strings.Contains(last, filepath.Dir(program[0])) {
				t.Errorf("the command that was run is called %s", last)
			}
		})
	}
}

// insideOnly looks for what the SDK's pages and sources say of places that a project does not have, and builds with the
// command that its README has beside this program's.
func insideOnly(t *testing.T, l *language, dir string) {
	t.Helper()
	elsewhere := regexp.MustCompile(`sdk/(c|zig|rust|assemblyscript|examples|README)\b|repository-->|\]\(\.\./`)
	for _, f := range l.sources(dir) {
		if found := elsewhere.FindString(read(t, f)); found != "" {
			t.Errorf("%s has %q, which is not in the project", f, found)
		}
	}
	if l.page != cLanguage.page && l.name != "zig" {
		return // TestCommandsOfReadme does what those of the others say
	}
	_, command, ok := strings.Cut(read(t, filepath.Join(dir, "README.md")), "Without `wasmgate plugin build`:\n\n```sh\n")
	command, _, _ = strings.Cut(command, "```")
	if !ok || l.name == "zig" {
		if !strings.Contains(command, "python-zig") {
			t.Errorf("the README has %q", command)
		}
		return
	}
	sh(t, dir, command)
	contains(t, succeeds(t, "inspect", filepath.Join(dir, "my-plugin.wasm")), "native 1")
	_, page, _ := strings.Cut(read(t, filepath.Join(dir, l.page)), "`authz.c`:\n\n```c\n") // and what the SDK's page has
	source, rest, _ := strings.Cut(page, "```")
	_, command, _ = strings.Cut(rest, "```sh\n")
	command, _, _ = strings.Cut(command, "```")
	write(t, filepath.Join(dir, "authz.c"), source)
	sh(t, dir, command)
	for _, f := range []string{"authz.c", "authz.wasm"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
}

// ownTests runs the tests in the project's language.
func ownTests(t *testing.T, l *language, dir string) {
	t.Helper()
	if l.name == "rust" { // with the compiler that builds the plugin; another one may come first in PATH
		cargo, _ := findCargo(&Process{Env: environment(t)}, dir)
		bin := filepath.Dir(cargo[0])
		sh(t, dir, "RUSTC="+bin+"/rustc RUSTDOC="+bin+"/rustdoc "+bin+"/"+l.check)
		return
	}
	sh(t, dir, l.check)
}

func TestTablePresentation(t *testing.T) {
	needs(t, &cLanguage)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "c")
	text := succeeds(t, "bench", dir, "--time", "1ms")
	contains(t, text, "p.wasm\n  compiled in ", "taken from the cache in ", "an instance starts in ", "phase        median        p99     calls/s        fuel      memory\n", "answers pings itself")
	if err := os.Remove(filepath.Join(dir, "p"+suite.Suffix)); err != nil {
		t.Fatal(err)
	}
	contains(t, succeeds(t, "bench", dir, "--time", "1ms"), "a sample: GET http://example.com/")
}

func TestNewRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("there", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join("there", "file"), "")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--lang is missing: it is one of go, rust, as, c, cpp, zig", []string{"new", "x"}},
		{"--lang cobol: it is one of go,", []string{"new", "x", "--lang", "cobol"}},
		{`"Hello World" cannot be the name of a plugin`, []string{"new", "Hello World", "--lang", "c"}},
		{`"wasmgate" cannot be the name of a plugin: the SDK is called that`, []string{"new", "wasmgate", "--lang", "go"}},
		{`".." cannot be the name`, []string{"new", "..", "--lang", "go"}},
		{"the folder there is there already, and not empty", []string{"new", "there", "--lang", "c"}},
		{"one NAME is wanted", []string{"new", "--lang", "c"}},
	} {
		fails(t, false, c.want, c.args...)
	}
	if entries, _ := os.ReadDir("."); len(entries) != 1 {
		t.Errorf("something was made: %v", entries)
	}
}

// TestMissingTools has no compiler at all in PATH.
func TestMissingTools(t *testing.T) {
	for name, want := range map[string]string{
		"go": "built with go, which is not there\n  install: https://go.dev/dl", "c": "built with clang and wasm-ld, which are not there\n  install: apt-get install clang lld",
		"rust": "built with cargo, which is not there\n  install: apt-get install rustc cargo libstd-rust-dev-wasm32", "as": "built with asc, which is not there\n  install: Node.js",
		"zig": "built with zig, which is not there\n  install: Zig 0.17",
	} {
		dir := filepath.Join(t.TempDir(), "p")
		c := &called{}
		p := &Process{Env: []string{"PATH=" + t.TempDir()}, Stdout: &c.stdout, Stderr: &c.stderr}
		c.run(p, "new", dir, "--lang", name)
		if c.err != nil || !strings.Contains(c.stderr.String(), want) {
			t.Errorf("new: %v, %s", c.err, c.stderr.String())
		}
		if c.run(p, "build", dir); c.err == nil || !strings.Contains(c.err.Error(), want) {
			t.Errorf("build: %v\nwant: %s", c.err, want)
		}
	}
}

func TestWhatThereIsNot(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "none.wasm"), "this is no module")
	write(t, filepath.Join(dir, "hello.c"), "int hello; /* this is no module, but a source of one */\n")
	write(t, filepath.Join(dir, "bad.test.yaml"), "tests: [{ name: a, request: { uri: / } }]")
	empty, alone := t.TempDir(), t.TempDir()
	write(t, filepath.Join(alone, "none.wasm"), "this is no module")
	for _, c := range []struct {
		told bool
		want string
		args []string
	}{
		{false, "holds no plugin's project: there is no go.mod", []string{"build", empty}},
		{false, "holds no plugin's project", []string{"test", empty}},
		{false, "no such file", []string{"build", filepath.Join(empty, "nowhere")}},
		{false, "gone.wasm is not there: build it", []string{"inspect", filepath.Join(empty, "gone.wasm")}},
		{false, "is a module and no project's folder", []string{"build", filepath.Join(dir, "none.wasm")}},
		{true, "not a WebAssembly binary", []string{"inspect", filepath.Join(dir, "none.wasm")}},
		{true, "bad.test.yaml:1:31: error: tests[0].request.uri: unknown key \"uri\"", []string{"test", filepath.Join(dir, "none.wasm")}},
		{true, "did you mean `url`?", []string{"test", filepath.Join(dir, "bad.test.yaml")}},
		{false, "hello.c is no WebAssembly module: name a module (FILE.wasm), or the folder of a project", []string{"inspect", filepath.Join(dir, "hello.c")}},
		{false, "hello.c is no WebAssembly module", []string{"build", filepath.Join(dir, "hello.c")}},
		{false, "none.wasm: wasm: offset 0x0: not a WebAssembly binary", []string{"bench", filepath.Join(alone, "none.wasm")}},
		{false, "none.wasm: wasm: offset 0x0: not a WebAssembly binary", []string{"run", filepath.Join(alone, "none.wasm")}},
		{false, "holds no plugin's project", []string{"bench", empty}},
		{false, "one FILE is wanted: wasmgate plugin inspect FILE", []string{"inspect"}},
		{false, "unknown command", []string{"tset"}},
	} {
		fails(t, c.told, c.want, c.args...)
	}
}

// TestModules tests a module without a project.
func TestModules(t *testing.T) {
	dir := t.TempDir()
	module, err := os.ReadFile("../../../plugins/tenant-router/tenant-router.wasm")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "router.wasm")
	write(t, file, string(module))
	fails(t, false, "there are no tests: write "+filepath.Join(dir, "router.test.yaml"), "test", file)
	write(t, filepath.Join(dir, "router.test.yaml"), `
plugin:
  config: { default: users, tenants: { acme: acme-upstream } }
tests:
  - { name: acme, request: { url: /, headers: { x-tenant: acme } }, expect: { upstream: acme-upstream } }
  - { name: others, request: { url: / }, expect: { upstream: acme-upstream } }
`)
	fails(t, true, "1 of 2 tests failed", "test", file)
	contains(t, succeeds(t, "test", file, "--run", "^acme$"), "1 test passed")
	fails(t, false, `--run: no test's name matches "acmee"`, "test", file, "--run", "acmee")
	c := call(t, "test", filepath.Join(dir, "router.test.yaml"), "--json")
	var r suite.Report
	if err := json.Unmarshal([]byte(c.stdout.String()), &r); err != nil || c.err == nil || r.Passed != 1 || r.Failed != 1 || r.Module != file ||
		len(r.Tests[1].Differences) != 1 || r.Tests[1].Differences[0] != (suite.Difference{What: "upstream", Want: `"acme-upstream"`, Got: `"users"`}) {
		t.Errorf("%v, %v: %s", err, c.err, c.stdout.String())
	}
	var i plugintest.Inspection
	if err := json.Unmarshal([]byte(succeeds(t, "inspect", file, "--json")), &i); err != nil || i.ABI != "native" || !slices.Contains(i.Wants.Upstreams, "users") || i.Sample.Decision != "route" || i.Sample.Upstream != "acme-upstream" && i.Sample.Upstream != "users" {
		t.Errorf("%v: %+v", err, i)
	}
	contains(t, succeeds(t, "inspect", file, "--config", `{"default":"other"}`), "upstreams: other", "GET http://example.com/: route other; ")
	contains(t, succeeds(t, "inspect", file, "--config", `{}`), "it does not start", "config.default is missing", "see --config")
	contains(t, succeeds(t, "test", "--schema"), "tests:", "expect_response:", "decision:", "continue | route | deny | respond", "max_fuel:")

	// Beside another module, tests of another name are not its own.
	write(t, filepath.Join(dir, "other.wasm"), string(module))
	fails(t, false, "there are no tests", "test", filepath.Join(dir, "other.wasm"))
}

// TestZigChecks: a new project's plugin is built with Zig's checks, and what they find is told.
func TestZigChecks(t *testing.T) {
	needs(t, &zigLanguage)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "zig")
	edit(t, filepath.Join(dir, "src", "main.zig"), "return .{ .deny = 403 }", "return .{ .deny = @intCast(r.path()[r.path().len + 4]) }")
	fails(t, true, "index out of bounds: index ", "test", dir, "--run", "internal")
}

// TestLanguageNames: a language may be called by what it is called.
func TestLanguageNames(t *testing.T) {
	for given, name := range map[string]string{"C": "c", "Go": "go", "golang": "go", "c++": "cpp", "C++": "cpp", "cxx": "cpp", "AssemblyScript": "as", "Zig": "zig"} {
		if l, err := languageOf(given); err != nil || l.name != name {
			t.Errorf("%s: %v, %v", given, l, err)
		}
	}
}

// TestBenchTells has a plugin of Proxy-Wasm, whose instances have memory, measured, and a plugin that fails, with its reason.
func TestBenchTells(t *testing.T) {
	text := succeeds(t, "bench", "../../wasm/proxywasm/testdata/tenant.wasm", "--time", "1ms")
	if strings.Contains(text, " 0 B of memory") || !strings.Contains(text, " KB of memory") {
		t.Error(text)
	}
	probe := "../../wasm/proxywasm/testdata/probe.wasm"
	contains(t, succeeds(t, "bench", probe, "--time", "1ms", "--config", "request trap"), " failed\n    plugin_trap: plugin probe, phase request: ")
}

func TestCPlusPlus(t *testing.T) {
	needs(t, &cLanguage)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "c")
	if err := os.Rename(filepath.Join(dir, "p.c"), filepath.Join(dir, "p.cpp")); err != nil {
		t.Fatal(err)
	}
	contains(t, succeeds(t, "test", dir), "5 tests passed")
	write(t, filepath.Join(dir, "more.c"), "int more;\n")
	fails(t, false, "more.c and p.cpp: a plugin is in C or in C++", "build", dir)
}

// TestPinnedVersions compares the versions that new projects ask for with those that the SDKs are tested with.
func TestPinnedVersions(t *testing.T) {
	pinned := regexp.MustCompile(`"assemblyscript": "([0-9.]+)"`)
	of := func(file string) string { return strings.Join(pinned.FindStringSubmatch(read(t, file)), " ") }
	if a, b := of("templates/as/package.json.tmpl"), of("../../../sdk/assemblyscript/package.json"); a != b || a == "" {
		t.Errorf("AssemblyScript: %s, and the SDK has %s", a, b)
	}
	zig := regexp.MustCompile(`minimum_zig_version = "([0-9]+\.[0-9]+)`)
	a, b := zig.FindStringSubmatch(read(t, "templates/zig/build.zig.zon.tmpl")), zig.FindStringSubmatch(read(t, "../../../sdk/zig/build.zig.zon"))
	if a == nil || b == nil || a[1] != b[1] || !strings.Contains(installZig, "Zig "+a[1]) || !strings.Contains(read(t, "../../../sdk/zig/requirements.txt"), "ziglang=="+a[1]+".") {
		t.Errorf("Zig: %q, and the SDK has %q; how to get it: %s", a, b, installZig)
	}
}
