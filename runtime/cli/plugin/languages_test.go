package plugin

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/wasm"
)

// made makes a new project with another source in it, and returns its folder.
func made(t *testing.T, l *language, source string) string {
	t.Helper()
	needs(t, l)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", l.name)
	write(t, filepath.Join(dir, strings.ReplaceAll(filepath.FromSlash(l.main), "@NAME@", "p")), source)
	return dir
}

// TestAssertions has a plugin whose assumptions do not hold: it fails, rather than to go on with what is not so.
func TestAssertions(t *testing.T) {
	dir := made(t, &asLanguage, `
import { Decision, Request, handle } from "wasmgate";
export * from "wasmgate/exports";

class A { b: B | null = null; }
class B { a: string = ""; }

function decide(r: Request): Decision {
  const x = new A();
  if (r.path == "/null") return r.respond(200, x.b!.a);
  assert(r.query.length > 3, "query too short");
  return r.respond(200, "x");
}
handle(decide);
`)
	write(t, filepath.Join(dir, "p.test.yaml"), `
tests:
  - { name: holds, request: { url: "/?long" }, expect: { status: 200 } }
  - { name: an assertion, request: { url: "/?x" }, expect: { decision: fail, log: [{ contains: query too short }] } }
  - { name: a null, request: { url: /null }, expect: { decision: fail, log: [{ contains: "null" }] } }
`)
	contains(t, succeeds(t, "test", dir), "3 tests passed")
	contains(t, succeeds(t, "inspect", filepath.Join(dir, "p.wasm")), "language    AssemblyScript, it seems", "tell names; failed assertions and exceptions tell")
	edit(t, filepath.Join(dir, "p.test.yaml"), "{ decision: fail, log: [{ contains: query", "{ decision: continue, log: [{ contains: query")
	fails(t, true, " < assembly/index/decide < ", "test", dir) // a function with a name, as the template has it
}

// TestRustFlags has the flags of a project's .cargo/config.toml, and those of the environment, be used.
func TestRustFlags(t *testing.T) {
	needs(t, &rustLanguage)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "rust")
	if err := os.Mkdir(filepath.Join(dir, ".cargo"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".cargo", "config.toml"), "[target."+rustTarget+"]\nrustflags = [\"-C\", \"link-arg=-zstack-size=131072\"]\n")
	memory := func(env ...string) int {
		c := &called{}
		c.run(&Process{Env: append(environment(t), env...), Stdout: &c.stdout, Stderr: &c.stderr}, "build", dir)
		if c.err != nil {
			t.Fatalf("%v\n%s", c.err, c.stderr.String())
		}
		module := read(t, filepath.Join(dir, "p.wasm"))
		if strings.Contains(module, dir) {
			t.Errorf("%v: the module has paths of this machine", env)
		}
		m, _, err := plugintest.ReadModule([]byte(module), wasm.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return int(m.MemoryMin)
	}
	if pages := memory(); pages > 8 {
		t.Errorf("%d pages: the stack's size was not heeded", pages)
	}
	if pages := memory("RUSTFLAGS=-C link-arg=-zstack-size=2097152"); pages <= 32 {
		t.Errorf("%d pages: RUSTFLAGS were not heeded", pages)
	}
}

// TestRustModules has what cargo makes be taken, whatever it is called, and nothing that an earlier build left.
func TestRustModules(t *testing.T) {
	needs(t, &rustLanguage)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "rust")
	succeeds(t, "build", dir)
	manifest, module := filepath.Join(dir, "Cargo.toml"), filepath.Join(dir, "p.wasm")
	succeeds(t, "build", dir) // and once more, with nothing to do
	edit(t, manifest, "[lib]\n", "[lib]\nname = \"other\"\n")
	edit(t, filepath.Join(dir, "src", "lib.rs"), "/ping", "/othername")
	if succeeds(t, "build", dir); !strings.Contains(read(t, module), "/othername") {
		t.Error("the module is that of an earlier build")
	}
	edit(t, manifest, `["cdylib"]`, `["lib"]`)
	fails(t, false, "cargo made no module: Cargo.toml wants `[lib]` with `crate-type = [\"cdylib\"]`", "build", dir)
}

// TestUpstreamsOfReadmes builds the plugin that each SDK's page has for choosing an upstream, and sees what it decides.
func TestUpstreamsOfReadmes(t *testing.T) {
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			folder := l.name
			switch l {
			case &asLanguage:
				folder = "assemblyscript"
			case &cppLanguage:
				folder = "c"
			}
			code := blocks(t, "../../../sdk/"+folder+"/README.md", "Upstreams and answers")
			if len(code) != 2 || code[1][0] != "yaml" || !strings.Contains(code[1][1], "upstreams: [gold, standard]") {
				t.Fatalf("%d blocks: %q", len(code), code)
			}
			dir := made(t, l, code[0][1])
			write(t, filepath.Join(dir, "p.test.yaml"), `
tests:
  - name: gold
    request: { url: /, headers: { x-plan: gold } }
    expect: { decision: route, upstream: gold }
    response: { headers: { server: x } }
    expect_response: { decision: continue, removed: [server] }
  - name: standard
    request: { url: / }
    expect: { decision: route, upstream: standard }
    response: { status: 502, body: trace }
    expect_response: { decision: respond, status: 502, headers: { content-type: text/plain }, body: { contains: we know of it } }
`)
			contains(t, succeeds(t, "test", dir), "2 tests passed")
			contains(t, succeeds(t, "inspect", filepath.Join(dir, "p.wasm")), "upstreams: gold, standard", "request, response")
		})
	}
}

// TestPartsOfTools has programs in PATH that are not enough to build with.
func TestPartsOfTools(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"cargo", "rustc", "node"} {
		file := filepath.Join(bin, name)
		// What a compiler has beside it is asked for where the project is.
		write(t, file, "#!/bin/sh\npwd\n")
		if err := os.Chmod(file, 0o700); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"rust": "cargo is there, Rust's standard library for wasm32-unknown-unknown is not\n  install: rustup target add wasm32-unknown-unknown, or apt-get",
		"as":   "node is there, AssemblyScript's compiler is not\n  install: npm install, in the project's folder",
	} {
		dir := filepath.Join(t.TempDir(), "p")
		c := &called{}
		p := &Process{Env: []string{"PATH=" + bin}, Stdout: &c.stdout, Stderr: &c.stderr}
		c.run(p, "new", dir, "--lang", name)
		setup := strings.Contains(c.stdout.String(), "\n  npm install\n  wasmgate plugin test ")
		if c.err != nil || setup != (name == "as") || setup == strings.Contains(c.stderr.String(), want) {
			t.Errorf("new: %v, %s%s", c.err, c.stdout.String(), c.stderr.String())
		}
		if c.run(p, "build", dir); c.err == nil || c.err.Error() != want && !strings.HasPrefix(c.err.Error(), want) {
			t.Errorf("build: %v\nwant: %s", c.err, want)
		}
		if name != "rust" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, "lib", "rustlib", rustTarget, "lib"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, ok := findCargo(p, dir); !ok {
			t.Error("the compiler is not asked in the project's folder")
		}
	}
}

// TestCommandsOfReadme runs what the README of a new project has for who does without the command line here.
func TestCommandsOfReadme(t *testing.T) {
	for _, l := range languages {
		if l.alone == "" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			needs(t, l)
			dir := filepath.Join(t.TempDir(), "my-plugin")
			succeeds(t, "new", dir, "--lang", l.name)
			page := read(t, filepath.Join(dir, "README.md"))
			if l.setup != "" {
				contains(t, page, "```sh\n"+l.setup+" ")
			}
			_, code, ok := strings.Cut(page, "Without `wasmgate plugin build`:\n\n```sh\n")
			if !ok {
				t.Fatalf("there is no such command:\n%s", page)
			}
			code, _, _ = strings.Cut(code, "```")
			if l == &rustLanguage { // its cargo may not be the first one
				cargo, _ := findCargo(&Process{Env: environment(t)}, dir)
				code = "PATH=" + filepath.Dir(cargo[0]) + ":$PATH RUSTC=" + filepath.Dir(cargo[0]) + "/rustc " + code
			}
			module := filepath.Join(dir, "my-plugin.wasm")
			sh(t, dir, code)
			if _, comment, ok := strings.Cut(code, "# "); ok {
				name, _, _ := strings.Cut(strings.TrimSpace(comment), ";")
				module = filepath.Join(dir, name)
			}
			contains(t, succeeds(t, "test", "--no-build", "--module", module, dir), "5 tests passed")
		})
	}
}

// TestRefusedModules builds what the gateway refuses.
func TestRefusedModules(t *testing.T) {
	for _, c := range []struct {
		l            *language
		source, want string
	}{
		{&asLanguage, "import { Decision, Request, handle } from \"wasmgate\";\nexport * from \"wasmgate/exports\";\n" +
			"handle((r: Request): Decision => { console.log(r.path); return Decision.Continue; });\n",
			"the module imports what the host does not have: env.console.log(i32)->()\n  help: there is no console; log(Level.Info, text)"},
		{&asLanguage, "import { Decision, Request, handle } from \"wasmgate\";\nhandle((r: Request): Decision => Decision.Continue);\n",
			"\n  help: write export * from \"wasmgate/exports\" in assembly/index.ts"},
		{&cLanguage, "#include \"wasmgate.h\"\nint nowhere(int); __attribute__((export_name(\"f\"))) int f(int a) { return a; }\n", "\n  help: write WASMGATE_PLUGIN("},
		{&rustLanguage, "pub struct Nothing;\n", "\n  help: write wasmgate::plugin!(T)"},
	} {
		dir := made(t, c.l, c.source)
		fails(t, false, c.want, "build", dir)
		fails(t, false, c.want, "test", dir)
	}
}

// fakeGo is an environment whose go is a script.
func fakeGo(t *testing.T, script string) []string {
	t.Helper()
	bin := t.TempDir()
	write(t, filepath.Join(bin, "go"), "#!/bin/sh\n"+script)
	if err := os.Chmod(filepath.Join(bin, "go"), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	return []string{"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH")}
}

// TestInterruptedBuild has Ctrl-C end a command while a compiler runs, which it ends, too.
func TestInterruptedBuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "go")
	for _, script := range []string{"kill -INT $$", "echo noise; exit 1"} {
		for _, args := range [][]string{{"test", "-w", dir}, {"run", dir, "--port", "0"}} {
			if args[0] == "run" && strings.HasPrefix(script, "echo") {
				continue
			}
			signals := make(chan os.Signal, 1)
			signals <- os.Interrupt
			c := &called{}
			c.run(&Process{Env: fakeGo(t, script), Stdout: &c.stdout, Stderr: &c.stderr, Signals: func() <-chan os.Signal { return signals }}, args...)
			if said := c.stdout.String() + c.stderr.String(); c.err != nil || strings.Contains(said, "interrupt") || strings.Contains(said, "Waiting") {
				t.Errorf("%v: %v, %q", args, c.err, said)
			}
		}
	}
}

// TestSlowBuild has a compiler run for longer than one waits without a word: until that is there.
func TestSlowBuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", "go")
	ready := filepath.Join(dir, "ready")
	c := &called{}
	stderr := noticing{&c.stderr, "go is still building…\n", func() { write(t, ready, "") }}
	p := &Process{Env: fakeGo(t, "until [ -e ready ]; do sleep 0.01; done; exit 1"), Stdout: &c.stdout, Stderr: stderr, slow: time.Millisecond}
	if c.run(p, "build", dir); c.err == nil {
		t.Error("it was built")
	}
	contains(t, c.stderr.String(), stderr.text)
}

// noticing calls a function when a text is written.
type noticing struct {
	io.Writer
	text string
	fn   func()
}

func (n noticing) Write(b []byte) (int, error) {
	if strings.Contains(string(b), n.text) {
		n.fn()
	}
	return n.Writer.Write(b)
}

// TestLinesOfLog has what a plugin writes be told as it is, an empty line, too.
func TestLinesOfLog(t *testing.T) {
	r := &trying{tell: make(chan string, 9)}
	log := r.log()
	for _, c := range [][2]string{{"", "WRN request"}, {"hello", "WRN request hello"}} {
		log.Warn().Str("phase", "request").Str("says", c[0]).Msg("plugin")
		if got := strings.TrimSpace(<-r.tell); got != c[1] {
			t.Errorf("%q, want %q", got, c[1])
		}
	}
}
