package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// blocks are the blocks of code of a page, each with its language, from a heading to the next of the same rank.
func blocks(t *testing.T, page, heading string) (list [][2]string) {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, page), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", page, heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```").FindAllStringSubmatch(rest, -1) {
		list = append(list, [2]string{m[1], m[2]})
	}
	return list
}

// program builds wasmgate, and returns the folder that it is in.
func program(t *testing.T) string {
	t.Helper()
	needs(t, &goLanguage)
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "wasmgate"), ".")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// times and amounts are different from one run to the next.
var times = regexp.MustCompile(`[0-9.,]+ (µs|ms|fuel)`)

func timeless(s string) string {
	return strings.NewReplacer("N µs", "N", "N ms", "N").Replace(times.ReplaceAllString(s, "N $1"))
}

// TestFirstPlugin does what sdk/README.md says, in its order.
func TestFirstPlugin(t *testing.T) {
	path := program(t)
	dir := t.TempDir()
	run := func(dir, commands string) (string, error) {
		cmd := exec.Command("sh", "-e", "-c", commands)
		cmd.Dir, cmd.Env = dir, append(environment(t), "PATH="+path+string(filepath.ListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	b := blocks(t, "../../../sdk/README.md", "A first plugin in ten minutes")
	var kinds []string
	for _, one := range b {
		kinds = append(kinds, one[0])
	}
	if got := strings.Join(kinds, " "); got != "sh  go yaml  go  yaml sh" {
		t.Fatalf("the blocks are %q", got)
	}
	out, err := run(dir, b[0][1])
	if err != nil || !strings.Contains(timeless(out), timeless(b[1][1])) {
		t.Fatalf("%v\n%s\nthe page says\n%s", err, out, b[1][1])
	}
	project := filepath.Join(dir, "hello")
	main, test := filepath.Join(project, "main.go"), filepath.Join(project, "hello.test.yaml")
	contains(t, read(t, main), b[2][1])
	write(t, test, read(t, test)+"\n"+b[3][1])
	out, err = run(project, "wasmgate plugin test")
	if position := regexp.MustCompile(`yaml:\d+`); err == nil || !strings.Contains(position.ReplaceAllString(timeless(out), ""), position.ReplaceAllString(timeless(b[4][1]), "")) {
		t.Fatalf("%v\n%s\nthe page says\n%s", err, out, b[4][1])
	}
	edit(t, main, "\tswitch {\n", "\tswitch {\n"+b[5][1])
	if out, err = run(project, "wasmgate plugin test"); err != nil || !strings.Contains(out, "6 tests passed") {
		t.Fatalf("%v\n%s", err, out)
	}

	l := begin(t, "run", project, "--port", "0")
	url := l.url()
	if status, body := ask(t, url+"/v1/orders"); status != 410 || body != "use /v2\n" {
		t.Errorf("%d, %q", status, body)
	}
	l.says("410 from")
	l.says("\n")
	if said := timeless(l.stdout.String()); !strings.Contains(said, timeless(b[6][1])) {
		t.Errorf("%s\nthe page says\n%s", said, b[6][1])
	}
	l.ends()

	write(t, filepath.Join(project, "gateway.yaml"), b[7][1])
	if out, err = run(project, b[8][1]); err != nil || !strings.Contains(out, "gateway.yaml: ok: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTestsOfReadme runs the tests that sdk/README.md shows, on the plugin that sdk/go/README.md shows.
func TestTestsOfReadme(t *testing.T) {
	needs(t, &goLanguage)
	dir := filepath.Join(t.TempDir(), "authz")
	succeeds(t, "new", dir, "--lang", "go")
	_, example, ok := strings.Cut(read(t, "../../../sdk/go/README.md"), "`authz/main.go`:\n\n```go\n")
	if !ok {
		t.Fatal("sdk/go/README.md has no example called authz")
	}
	example, _, _ = strings.Cut(example, "```")
	write(t, filepath.Join(dir, "main.go"), example)
	if err := os.Remove(filepath.Join(dir, "authz.test.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t, "../../../sdk/README.md", "Tests") {
		write(t, filepath.Join(dir, "all.test.yaml"), b[1])
		contains(t, succeeds(t, "test", dir), "3 tests passed")
	}
	contains(t, succeeds(t, "inspect", filepath.Join(dir, "authz.wasm")), "calls: auth", "state: sessions", "metrics: asked")

	l := begin(t, "run", dir, "--port", "0", "--no-build")
	if status, body := ask(t, l.url(), "authorization", "t1"); status != 200 || !strings.Contains(body, "X-User:") {
		t.Errorf("with an upstream that answers calls: %d, %s", status, body)
	}
	l.says("→ continue  (")
	l.says("set x-user: ")
	l.ends()

	// What is asked for and not expected, expected and not asked for, and asked for otherwise.
	write(t, filepath.Join(dir, "all.test.yaml"), `
tests:
  - { name: one, request: { url: /, headers: { authorization: t1 } }, expect: { decision: fail } }
  - name: two
    calls: [{ upstream: auth, path: /other, headers: { authorization: { regex: "^x" } } }]
    request: { url: /, headers: { authorization: t1 } }
    expect: { decision: fail }
  - name: three
    calls: [{ upstream: auth, answer: { status: 403 }, delay: 20ms, times: 3 }, { upstream: other, optional: true }]
    request: { url: /, headers: { authorization: t1 } }
    expect: { decision: deny, metrics: { asked: 2, more: 1 }, state: { sessions: { t1: x }, others: { a: b } } }
  - name: four
    calls: [{ upstream: auth, delay: 20s }]
    request: { url: /, headers: { authorization: t1 } }
    expect: { error: no answer in time }
`)
	c := fails(t, true, "FAIL  one", "test", dir, "--run", "one|two|three")
	contains(t, c.stdout.String(),
		"calls: GET /check to auth\n        want: no such request (write it below `calls`)\n        got:  it was sent\n",
		"calls: GET /check to auth: path\n        want: \"/other\"\n        got:  \"/check\"\n",
		"calls: GET /check to auth: headers.authorization\n        want: something like /^x/\n        got:  \"t1\"\n",
		"calls[0]: to auth, path \"/other\"\n        want: it is sent once\n        got:  it was never sent\n",
		"calls[0]: to auth\n        want: it is sent 3 times\n        got:  it is sent once\n",
		"metrics.asked\n        want: 2\n        got:  1\n", "metrics.more\n        want: 1\n        got:  nothing\n",
		"state.sessions.t1\n        want: \"x\"\n        got:  nothing\n", "state.others.a\n        want: \"b\"\n        got:  the plugin uses no such store\n",
	)
	c = call(t, "test", dir, "--run", "four")
	if c.err != nil {
		t.Errorf("an answer that takes longer than the plugin waits: %v\n%s", c.err, c.stdout.String())
	}
}
