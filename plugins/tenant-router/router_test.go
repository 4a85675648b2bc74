package tenantrouter_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	tenantrouter "wasmgate/plugins/tenant-router"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
)

const config = `{"default": "users", "domain": "Example.com", "tenants": {"acme": "acme-upstream", "Globex": "g", "x\u00e9": "g"}}`

var grants = native.Grants{Upstreams: map[string]int{"users": 1, "acme-upstream": 2, "g": 3}, DynamicUpstream: exchange.NoUpstream}

// tool finds a program that a test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("WASMGATE_TEST_ALL") != "" {
		t.Fatalf("%s is not installed, and WASMGATE_TEST_ALL is set", name)
	}
	t.Skipf("needs %s, which is not installed", name)
	return ""
}

// build runs a compiler that writes a module to its last argument.
func build(t *testing.T, dir string, env []string, command ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	for i := range command {
		if command[i] == "OUT" {
			command[i] = out
		}
	}
	cmd := exec.CommandContext(ctx, tool(t, command[0]), command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func goModule(t *testing.T) []byte {
	t.Helper()
	return build(t, "go", []string{"GOOS=wasip1", "GOARCH=wasm"}, "go", "build", "-buildmode=c-shared", "-trimpath", "-o", "OUT", ".")
}

// TestCommittedModule builds the C version anew, as .ci/plugins does.
func TestCommittedModule(t *testing.T) {
	tool(t, "wasm-ld") // clang calls it
	built := build(t, "../..", nil, "clang", "--target=wasm32", "-std=c11", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--stack-first",
		"-Wl,--strip-all", "-I", "sdk/c", "-o", "OUT", "plugins/tenant-router/c/tenant-router.c")
	if !bytes.Equal(built, tenantrouter.Module) {
		t.Errorf("tenant-router.wasm has %d bytes, and %d when it is built from its source with this clang: .ci/plugins builds it anew", len(tenantrouter.Module), len(built))
	}
}

// host runs a module on an event loop.
type host struct {
	t      *testing.T
	loop   *netloop.Loop
	plugin *native.Plugin
}

var engine = sync.OnceValues(func() (*wasm.Engine, error) { return wasm.New(wasm.Options{NoCache: true}) })

// compiled has a handle of each module that was loaded, so that none is compiled twice.
var compiled = map[[sha256.Size]byte]*wasm.Compiled{}

func load(t *testing.T, module []byte, config string) (*host, error) {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.Compile(context.Background(), "tenant", module, native.ABI, wasm.Limits{})
	if err != nil {
		return nil, err
	}
	if digest := sha256.Sum256(module); compiled[digest] == nil {
		if compiled[digest], err = e.Compile(context.Background(), "kept", module, native.ABI, wasm.Limits{}); err != nil {
			return nil, err
		}
	}
	p, err := native.New(c, native.Options{Config: []byte(config), Grants: grants})
	if err != nil {
		return nil, err
	}
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		p.Close()
		g.Close()
	})
	return &host{t, g.Loop(0), p}, nil
}

// request is what the router is asked about.
type request struct{ host, path, tenant string }

// decisions asks about all requests, and writes what becomes of each.
func (h *host) decisions(list []request, sampled bool) []string {
	out := make([]string, len(list))
	done := make(chan struct{})
	h.loop.Post(func() {
		h.loop.Go(func(task *netloop.Task) {
			defer close(done)
			for i, r := range list {
				out[i] = h.decision(task, r, sampled)
			}
		})
	})
	<-done
	return out
}

func (h *host) decision(task *netloop.Task, r request, sampled bool) string {
	x := &exchange.Exchange{Task: task}
	x.Reset()
	head := "GET " + r.path + " HTTP/1.1\r\nHost: " + r.host + "\r\nX-Tenant-Id: forged\r\n"
	if r.tenant != "" {
		head += "X-Tenant: " + r.tenant + "\r\n"
	}
	if _, err := x.Request.Parse([]byte(head+"\r\n"), nil); err != nil {
		h.t.Errorf("%+v: %v", r, err)
	}
	x.Client.Addr, x.Trace.Sampled = netip.MustParseAddr("192.0.2.7"), sampled
	v, err := h.plugin.Request(x, filter.Route, 0)
	switch {
	case err != nil:
		return err.Error()
	case v == filter.Respond:
		return fmt.Sprintf("answer %d %q, %d fields", x.Response.Status, x.Local.Body, x.Request.Len())
	case v != filter.Continue:
		return fmt.Sprintf("verdict %d", v)
	}
	by, _ := x.Request.Get("x-routed-by")
	s := fmt.Sprintf("upstream %d by %s", x.Target.Upstream, by)
	for i := x.Request.Find(0, "x-tenant-id"); i >= 0; i = x.Request.Find(i+1, "x-tenant-id") {
		s += fmt.Sprintf(" for %s", x.Request.Value(i))
	}
	for _, tag := range x.Tags {
		s += fmt.Sprintf(", %s: %s", tag.Key, tag.Value)
	}
	return s
}

// both loads the C and the Go version.
func both(t *testing.T, config string) (list map[string]*host) {
	t.Helper()
	list = map[string]*host{}
	for name, module := range map[string][]byte{"C": tenantrouter.Module, "Go": goModule(t)} {
		h, err := load(t, module, config)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list[name] = h
	}
	return list
}

func TestDecisions(t *testing.T) {
	const fallback, acme, globex, denied = "upstream 1 by tenant-router for default", "upstream 2 by tenant-router for acme", "upstream 3 by tenant-router for globex", `answer 403 "", 2 fields`
	cases := []struct {
		request
		want string
	}{
		{request{"x", "/", "acme"}, acme},
		{request{"x", "/a?b", "ACME"}, acme},
		{request{"x", "/", "gLOBEX"}, globex},
		{request{"acme.example.com", "/", "globex"}, globex}, // the field goes before the host
		{request{"acme.example.com", "/", "unknown"}, fallback},
		{request{"Acme.EXAMPLE.com:8080", "/", ""}, acme},
		{request{"a.acme.example.com", "/", ""}, fallback},
		{request{"acme.example.org", "/", ""}, fallback},
		{request{"acmeexample.com", "/", ""}, fallback},
		{request{"example.com", "/", ""}, fallback},
		{request{"[::1]:80", "/", ""}, fallback},
		{request{"x", "/", ""}, fallback},
		{request{"x", "/", strings.Repeat("a", 63)}, fallback},
		{request{"x", "/", strings.Repeat("a", 5000)}, fallback},
		{request{"x", "/", "x\xc3\xa9"}, "upstream 3 by tenant-router for x\xc3\xa9"},
		{request{"x", "/", "\xff"}, fallback},
		{request{"x", "/admin", ""}, `answer 403 "", 2 fields`},
		{request{"x", "/admin/x?y", "acme"}, `answer 403 "", 3 fields`},
		{request{"x", "/administer", "acme"}, acme},
		{request{"x", "/a/admin", "acme"}, acme},
		{request{"acme.example.com", "/admin", ""}, denied},
	}
	list := make([]request, len(cases))
	for i := range cases {
		list[i] = cases[i].request
	}
	for name, h := range both(t, config) {
		plain, sampled := h.decisions(list, false), h.decisions(list, true)
		for i, c := range cases {
			if plain[i] != c.want {
				t.Errorf("%s: %+v: %s, want %s", name, c.request, plain[i], c.want)
			}
			want := c.want
			if _, tenant, ok := strings.Cut(want, " for "); ok {
				want += ", tenant.id: " + tenant
			}
			if sampled[i] != want {
				t.Errorf("%s: %+v, sampled: %s, want %s", name, c.request, sampled[i], want)
			}
		}
	}
}

// TestBothDecideAlike composes requests of pieces, and lets the two versions decide about the same ones.
func TestBothDecideAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	compose := func(most int, pieces ...string) (s string) {
		for range random.IntN(most + 1) {
			s += pieces[random.IntN(len(pieces))]
		}
		return s
	}
	list := make([]request, 3000)
	for i := range list {
		host := compose(3, "acme", "ACME", ".", "x", "globex", "example") + compose(1, ".example.com", ".Example.COM", "example.com", ".com")
		if host == "" || strings.Trim(host, ".") == "" {
			host = "h"
		}
		list[i] = request{host + compose(1, ":80", ":65535"), "/" + compose(3, "admin", "/", "x", "Admin", "%2f", "?"), compose(2, "acme", "Globex", "x", "-", "A")}
	}
	hosts := both(t, config)
	c, g := hosts["C"].decisions(list, false), hosts["Go"].decisions(list, false)
	kinds := map[string]int{}
	for i := range list {
		if c[i] != g[i] {
			t.Errorf("%+v: C %s, Go %s", list[i], c[i], g[i])
		}
		kinds[c[i]]++
	}
	if len(kinds) < 4 {
		t.Errorf("the requests are not worth much: %v", kinds)
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	golang := goModule(t)
	for config, want := range map[string]string{
		"":                                   "the plugin refuses its configuration: config.default is missing: the upstream of unknown tenants",
		`{"tenants": {"a": "users"}}`:        "config.default is missing",
		`{"default": "users", "tenant": {}}`: "", // an empty object says nothing
		`{"defualt": "users"}`:               "config: the keys are default, domain and tenants",
		`{"default": "users", "tenants": {"": "users"}}`:                                "a tenant's name has 1 to 63 bytes",
		`{"default": "users", "tenants": {"` + strings.Repeat("a", 64) + `": "users"}}`: "a tenant's name has 1 to 63 bytes",
		`{"default": "users", "tenants": {"a": "users", "A": "g"}}`:                     "a tenant is there twice",
		`{"default": "users", "tenants": {"a": {"upstream": "g"}}}`:                     "the keys are",
		`{"default": "users"`: "the configuration is not JSON",
		`{"default": "nowhere", "tenants": {"a": "elsewhere"}}`: "it wants to choose upstreams that it is not granted: nowhere, elsewhere",
		strings.Repeat("[", 18) + strings.Repeat("]", 18):       "nested too deeply",
	} {
		for name, module := range map[string][]byte{"C": tenantrouter.Module, "Go": golang} {
			_, err := load(t, module, config)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || fault.From(err).Plugin != "tenant") {
				t.Errorf("%s, %s: %v, want %q", name, config, err, want)
			}
		}
	}
}

// TestManyTenants makes the C version's table grow, and the configuration longer than the arena.
func TestManyTenants(t *testing.T) {
	const n = 3000
	var b strings.Builder
	b.WriteString(`{"default": "users"`)
	for i := range n {
		fmt.Fprintf(&b, `, "%s": {"tenant-number-%d": "%s"}`, "tenants", i, []string{"users", "g"}[i%2])
	}
	b.WriteString("}")
	list := make([]request, n+1)
	for i := range list {
		list[i] = request{"x", "/", fmt.Sprintf("Tenant-Number-%d", i)}
	}
	for name, h := range both(t, b.String()) {
		for i, got := range h.decisions(list, false) {
			want := fmt.Sprintf("upstream %d by tenant-router for tenant-number-%d", []int{1, 3}[i%2], i)
			if i == n {
				want = "upstream 1 by tenant-router for default"
			}
			if got != want {
				t.Fatalf("%s: %s, want %s", name, got, want)
			}
		}
	}
}
