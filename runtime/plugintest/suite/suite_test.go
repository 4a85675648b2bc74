package suite

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	tenantrouter "wasmgate/plugins/tenant-router"
	"wasmgate/runtime/plugintest"
)

func load(t *testing.T, module []byte, f *File) *plugintest.Module {
	t.Helper()
	h, err := plugintest.New(plugintest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := h.Instances(); n != 0 {
			t.Errorf("%d instances are left", n)
		}
		h.Close()
	})
	m, err := h.Load(module, f.Limits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

const tenants = `
plugin:
  config: { default: users, domain: example.com, tenants: { acme: acme-upstream } }
tests:
  - name: a tenant by its field
    request: { url: "/orders?id=1", headers: { x-tenant: ACME, x-other: [a, b] } }
    expect:
      decision: route
      upstream: acme-upstream
      set: { x-tenant-id: acme, X-Routed-By: { present: true } }
      removed: []
      path: /orders
      query: { regex: "^id=" }
      headers: { x-other: [a, b], x-nothing: { absent: true } }
      attributes: { tenant.id: acme }
      log: []
      max_fuel: 100000
    response: { status: 200, headers: { content-type: text/plain }, body: hello }
  - name: a tenant by host
    request: { url: "https://acme.example.com" }
    expect: { upstream: acme-upstream, authority: acme.example.com, path: / }
  - name: admin
    request: { url: /admin }
    expect: { decision: deny, status: 403, upstream: { absent: true } }
  - name: without a default
    config: { tenants: {} }
    refuse: config.default is missing
  - name: one after the other
    steps:
      - { request: { url: /a }, times: 3, expect: { decision: route } }
      - { wait: 1ms, request: { method: POST, url: /b, body: [he, llo] }, expect: { method: POST, body: hello } }
`

func TestPasses(t *testing.T) {
	f, err := Parse("tenants.test.yaml", []byte(tenants))
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Module: "tenant-router.wasm"}
	r.Add(f.Run(load(t, tenantrouter.Module, f), "tenant"))
	var text bytes.Buffer
	r.Text(&text, plain)
	if r.Failed > 0 || r.Passed != 5 {
		t.Errorf("%s", text.String())
	}
	if want := "ok    a tenant by its field  request "; !strings.Contains(text.String(), want) || !strings.HasSuffix(text.String(), "5 tests passed\n") {
		t.Errorf("%q is missing in\n%s", want, text.String())
	}
	var out bytes.Buffer
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Passed != 5 || len(back.Tests) != 5 || back.Tests[0].Calls[0].Fuel < 100 || back.Tests[0].At != "tenants.test.yaml:5:5" {
		t.Errorf("%v: %s", err, out.String())
	}
	if n := len(f.Cases()); n != 5 {
		t.Errorf("%d cases", n)
	}
}

func plain(_, s string) string { return s }

func TestDifferencesAreTold(t *testing.T) {
	f, err := Parse("tenants.test.yaml", []byte(`
plugin:
  config: { default: users, tenants: { acme: acme-upstream } }
tests:
  - name: everything is wrong
    request: { url: /a, headers: { x-tenant: acme, x-tenant-id: x } }
    expect:
      decision: deny
      upstream: users
      status: 403
      set: { x-tenant-id: globex }
      removed: [cookie]
      path: /b
      query: { present: true }
      headers: { x-tenant: { regex: "^b" } }
      body: { contains: hello }
      timeout: 2s
      attributes: { tenant.id: { absent: true } }
      log: [hello]
      max_fuel: 10
  - name: it fails to start
    config: 7
    request: { url: / }
  - name: it does start
    refuse: anything
  - name: no answer is asked about
    request: { url: / }
    response: {}
    expect_response: { status: 200 }
  - name: the third time
    steps:
      - { request: { url: / }, expect: { decision: route } }
      - { request: { url: /admin }, times: 2, expect: { decision: route } }
`))
	if err != nil {
		t.Fatal(err)
	}
	r := Report{}
	r.Add(f.Run(load(t, tenantrouter.Module, f), "tenant"))
	var text bytes.Buffer
	r.Text(&text, plain)
	for _, want := range []string{
		"FAIL  everything is wrong", "tenants.test.yaml:5:5\n",
		"decision\n        want: deny\n        got:  route\n", "upstream\n        want: \"users\"\n        got:  \"acme-upstream\"\n",
		"status\n        want: 403\n        got:  no answer\n", "set.x-routed-by\n        want: nothing\n        got:  \"tenant-router\"\n",
		"set.x-tenant-id\n        want: \"globex\"\n        got:  \"acme\"\n", "removed\n        want: \"cookie\"\n        got:  nothing\n",
		"path\n        want: \"/b\"\n        got:  \"/a\"\n", "query\n        want: something\n        got:  nothing\n",
		"headers.x-tenant\n        want: something like /^b/\n        got:  \"acme\"\n", "body\n        want: something with \"hello\" in it\n        got:  nothing\n",
		"timeout\n        want: 2s\n        got:  nothing\n", "attributes.tenant.id\n        want: nothing\n        got:  \"acme\"\n",
		"log[0]\n        want: \"hello\"\n        got:  nothing\n", "max_fuel\n        want: 10 at most\n",
		"FAIL  it fails to start", "start\n        want: the plugin takes its configuration\n        got:  plugin_unavailable: plugin tenant",
		"FAIL  it does start", "refuse\n        want: \"anything\"\n        got:  the plugin takes its configuration\n",
		"expect_response\n        want: the plugin is asked about the answer\n        got:  it does not want to be (Go: HandleResponse; Rust: const RESPONSES; ",
		"step 2: time 1: decision\n        want: route\n        got:  deny\n", "5 of 5 tests failed",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(text.String())
	}
}

func TestMistakesAreTold(t *testing.T) {
	for text, want := range map[string]string{
		"test: []":                        "unknown key \"test\"\n  1 | test: []\n    | ^^^^\n  help: did you mean `tests`?",
		"tests:\n  - request: { url: / }": "\"name\" is missing",
		"tests: [{ name: a }]":            "tests[0]: \"request\" is missing",
		"tests: [{ name: a, request: { url: relative } }]":                          "x.test.yaml:1:36: error: tests[0].request.url: \"relative\" is neither a path nor a URL",
		"tests: [{ name: a, request: { url: 'ftp://x/' } }]":                        "is not an http or https URL",
		"tests: [{ name: a, request: { client: me } }]":                             "tests[0].request.client: client: \"me\" is no address",
		"tests: [{ name: a, request: { url: 'http://a/', tls: {} } }]":              "tests[0].request.tls: a connection with TLS brings no request for http",
		"tests: [{ name: a, request: { tls: { version: '1.1' } } }]":                "request.tls.version: ",
		"tests: [{ name: a, request: { tls: { certificate: { ip: me } } } }]":       "request.tls.certificate.ip: certificate: \"me\" is no address",
		"tests: [{ name: a, request: { tls: { certificate: { pem: me } } } }]":      "wants a certificate in PEM",
		"tests: [{ name: a, request: { tls: { certificate: { not_after: 1 } } } }]": "1 is no time",
		"tests: [{ name: a, request: { headers: { a: 1 } } }]":                      "wants a text, or a list of texts",
		"tests: [{ name: a, request: {}, expect: { decision: contineu } }]":         "did you mean `continue`?",
		"tests: [{ name: a, request: {}, expect: { path: { regex: '(' } } }]":       "missing closing )",
		"tests: [{ name: a, request: {}, expect: { path: { like: a } } }]":          "\"like\" is not a way to compare",
		"tests: [{ name: a, request: {}, expect: { set: { a: 1 } } }]":              "expect.set.a: 1 is not something that a text can be compared with",
		"tests: [{ name: a, request: {}, expect_response: { status: 200 } }]":       "nothing is expected of an answer that is not there",
		"tests: [{ name: a, request: {}, steps: [{ request: {} }] }]":               "either one request or steps",
		"tests: [{ name: a, steps: [{ times: 2 }] }]":                               "\"request\" is missing",
		"tests: [{ name: a, request: {}, refuse: x }]":                              "is sent no request",
		"tests: [{ name: a, request: {}, response: { status: 100 } }]":              "100 is less than 200",
		"tests: [{ name: a, request: {}, expect: { removed: x } }]":                 "wants a list",
		"tests: [{ name: a, request: {}, state: { s: { k: 1 } } }]":                 `a counter is written "counter 1"`,
		"tests: [{ name: a, request: {}, expect: { state: { s: { k: 1 } } } }]":     `a counter of state is "counter 1"`,
		"plugin: { limits: { memory: 1KiB } }\ntests: []":                           "less than 64KiB",
		"plugin: { calls: [auth] }\ntests: [{ name: a, request: {} }]":              "help: in tests, services and stores are granted as the plugin asks for them",
	} {
		_, err := Parse("x.test.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "x.test.yaml:") {
			t.Errorf("%s\n%v\nwant: %s", text, err, want)
		}
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none.test.yaml")); err == nil || !strings.Contains(err.Error(), "none.test.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestFailures has a plugin of C trap, with its lines.
func TestFailures(t *testing.T) {
	for _, program := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("WASMGATE_TEST_ALL") != "" {
				t.Fatalf("%s is not installed, and WASMGATE_TEST_ALL is set", program)
			}
			t.Skipf("needs %s, which is not installed", program)
		}
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "p.c")
	if err := os.WriteFile(source, []byte(`#include "wasmgate.h"
__attribute__((noinline)) static void explode(void) {
  __builtin_trap();
}
static wg_decision request(const wg_request *r) {
  wg_log_now(WG_INFO, WG_STR("about to decide"));
  if (wg_eq(wg_path(r), WG_STR("/trap"))) explode();
  if (wg_eq(wg_path(r), WG_STR("/spin"))) for (volatile int i = 0;; i++) {}
  if (wg_eq(wg_path(r), WG_STR("/text"))) return wg_fail(WG_STR("no"));
  if (wg_eq(wg_path(r), WG_STR("/tls"))) {
    static char text[4][200];
    static const wg_str names[4] = {WG_STR("version"), WG_STR("uri"), WG_STR("not-after"), WG_STR("certificate")};
    wg_set_header(WG_STR("x-sni"), wg_sni(r));
    wg_set_header(WG_STR("x-subject"), wg_cert_subject(r));
    for (int i = 0; i < 4; i++) {
      int32_t n = wg_lookup_tls(names[i], i == 1, text[i], sizeof text[i]);
      if (n >= 0) wg_set_header(names[i], (wg_str){text[i], (uint32_t)n});
    }
  }
  return wg_continue();
}
static wg_decision response(const wg_request *r) {
  if (wg_status(r) == 500) return wg_respond(502, WG_STR("sorry"), NULL, 0);
  wg_set_header(WG_STR("x-seen"), WG_STR("1"));
  return wg_continue();
}
WASMGATE_PLUGIN(.request = request, .response = response)
`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "p.wasm")
	if text, err := exec.Command("clang", "--target=wasm32", "-O2", "-g", "-nostdlib", "-Wl,--no-entry", "-Wl,--stack-first", "-I", "../../../sdk/c", "-o", out, source).CombinedOutput(); err != nil {
		t.Fatalf("%s", text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("p.test.yaml", []byte(`
tests:
  - { name: goes on, request: { url: / }, expect: { decision: continue, log: [decide] } }
  - { name: traps, request: { url: /trap }, expect: { decision: fail, error: "in explode (" } }
  - { name: spins, request: { url: /spin }, expect: { error: out of fuel } }
  - { name: says so, request: { url: /text }, expect: { error: "the plugin reports: no" } }
  - { name: answers, request: { url: / }, response: { status: 200 }, expect_response: { set: { x-seen: "1" }, status: 200, decision: continue } }
  - { name: replaces, request: { url: / }, response: { status: 500, body: boo }, expect_response: { status: 502, decision: respond, body: sorry } }
  - { name: fails unseen, request: { url: /trap } }
  - name: reads TLS
    request:
      url: /tls
      tls: { server_name: a.test, certificate: { subject: "CN=alice", uri: ["spiffe://a", "spiffe://b"], not_before: "2026-01-02T03:04:05Z" } }
    expect: { set: { x-sni: a.test, x-subject: CN=alice, version: "1.3", uri: "spiffe://b", not-after: "2026-01-03T03:04:05Z" } }
  - name: there is no TLS
    request: { url: "https://example.com/tls" }
    expect: { set: { x-sni: "", x-subject: "" } }
  - name: recovers
    steps:
      - { request: { url: /trap }, times: 3, expect: { decision: fail } }
      - { request: { url: / }, expect: { decision: continue } }
`))
	if err != nil {
		t.Fatal(err)
	}
	r := Report{}
	r.Add(f.Run(load(t, module, f), "p"))
	var text bytes.Buffer
	r.Text(&text, plain)
	if r.Failed != 1 || !strings.Contains(text.String(), "want: the plugin does not fail\n        got:  fail: plugin_trap: plugin p, phase request: unreachable, in explode (") ||
		!strings.Contains(text.String(), "| request: about to decide\n") {
		t.Errorf("%s", text.String())
	}
}
