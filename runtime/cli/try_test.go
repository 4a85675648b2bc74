package cli

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The modules of this test: one of each ABI, and one that speaks none.
const (
	nativeModule = "../../plugins/tenant-router/tenant-router.wasm"
	proxyModule  = "../wasm/proxywasm/testdata/tenant.wasm"
	httpModule   = "../wasm/httpwasm/testdata/kit.wasm"
	noABI        = "\x00asm\x01\x00\x00\x00"
	// onlyTCP exports memory, proxy_abi_version_0_2_1, malloc and proxy_on_new_connection.
	onlyTCP = noABI + "\x01\x0e\x03`\x00\x00`\x01\x7f\x01\x7f`\x02\x7f\x7f\x00\x03\x04\x03\x00\x01\x01\x05\x03\x01\x00\x01" +
		"\x07G\x04\x06memory\x02\x00\x17proxy_abi_version_0_2_1\x00\x00\x06malloc\x00\x01\x17proxy_on_new_connection\x00\x02" +
		"\x0a\x0f\x03\x02\x00\x0b\x05\x00A\x80\x08\x0b\x04\x00A\x00\x0b"
)

// inNewFolder copies modules to a new folder, with one that speaks no ABI, and goes there.
func inNewFolder(t *testing.T, modules map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, from := range modules {
		b, err := os.ReadFile(from)
		must(t, err)
		write(t, filepath.Join(dir, name), string(b))
	}
	write(t, filepath.Join(dir, "no.wasm"), noABI)
	t.Chdir(dir)
}

// TestCheckPointsAtWhatAPluginCannotUse: in the order of the file, with the line and without saying a thing twice.
func TestCheckPointsAtWhatAPluginCannotUse(t *testing.T) {
	inNewFolder(t, map[string]string{"tenant.wasm": nativeModule})
	write(t, "c.yaml", `plugins:
  z: { module: no.wasm }
  b: { module: tenant.wasm, config: { nonsense: 1 } }
  a: { module: no.wasm }
routes: [{ plugins: [z, b, a], respond: { status: 200 } }]
`)
	code, out, text := call("check", "c.yaml")
	if code != exitFailed || out != "" {
		t.Errorf("exit code %d, %q", code, out)
	}
	const said = "the module cannot be used: the module speaks no plugin ABI: it exports nothing that begins with wasmgate_v1_ (native) or proxy_abi_version_ (Proxy-Wasm), and no handle_request and handle_response (http-wasm)\n"
	contains(t, text,
		"c.yaml:2:16: error: plugins.z.module: "+said+"  2 |   z: { module: no.wasm }\n    |                ^^^^^^^\n",
		"c.yaml:3:37: error: plugins.b.config: ", "nonsense",
		"c.yaml:4:16: error: plugins.a.module: "+said, "3 errors")
	if strings.Index(text, "plugins.z") > strings.Index(text, "plugins.b.") || strings.Index(text, "plugins.b.") > strings.Index(text, "plugins.a") {
		t.Errorf("not in the order of the file:\n%s", text)
	}
	if strings.Contains(text, "plugin_unavailable") || strings.Contains(text, "phase") {
		t.Errorf("it is said what the path says:\n%s", text)
	}

	write(t, "c.yaml", "limit: {}\nplugins: { z: { module: no.wasm } }\nroutes: [{ plugins: [z], respond: { status: 200 } }]\n")
	_, _, text = call("check", "c.yaml")
	contains(t, text, `unknown key "limit"`, "plugins are tried once the rest is right")
}

// TestCheckSaysAllPluginsThatCannotLookAtConnections in one run, where they are named.
func TestCheckSaysAllPluginsThatCannotLookAtConnections(t *testing.T) {
	inNewFolder(t, map[string]string{"native.wasm": nativeModule, "http.wasm": httpModule, "tcp.wasm": "../wasm/proxywasm/testdata/probe.wasm"})
	write(t, "c.yaml", `listeners:
  - { address: ":9000", mode: tcp, upstream: db, plugins: [native, tcp, http] }
  - { address: ":9001", mode: tcp, upstream: db, plugins: [http] }
upstreams: { db: { targets: ["http://127.0.0.1:1"] } }
plugins:
  native: { module: native.wasm, config: { default: db }, upstreams: [db] }
  http: { module: http.wasm }
  tcp: { module: tcp.wasm }
`)
	code, _, text := call("check", "c.yaml")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	contains(t, text,
		"c.yaml:2:60: error: listeners[0].plugins[0]: native has no callbacks for connections\n", "  help: with mode: tcp a plugin speaks Proxy-Wasm",
		"c.yaml:2:73: error: listeners[0].plugins[2]: http has", "c.yaml:3:60: error: listeners[1].plugins[0]: http has", "3 errors")
}

// TestCheckFetchesModules, and says of each that cannot be had whether it ever can.
func TestCheckFetchesModules(t *testing.T) {
	inNewFolder(t, map[string]string{"tenant.wasm": proxyModule})
	files := http.FileServer(http.Dir("."))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/secret.wasm" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	digest := func(file string) string {
		b, err := os.ReadFile(file)
		must(t, err)
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	write(t, "page.wasm", "<html>")
	for _, c := range []struct {
		name, file, digest string
		code               int
		says               []string
	}{
		{"as pinned", "tenant.wasm", digest("tenant.wasm"), exitOK, nil},
		{"another one", "tenant.wasm", digest("no.wasm"), exitFailed, []string{"c.yaml:2:16: error: plugins.b.module: the module from ", "has the digest sha256:" + digest("tenant.wasm"), "  help: either it was changed"}},
		{"no plugin", "no.wasm", digest("no.wasm"), exitFailed, []string{"error: plugins.b.module: the module cannot be used: the module speaks no plugin ABI"}},
		{"no module", "page.wasm", digest("page.wasm"), exitFailed, []string{"error: plugins.b.module: "}},
		{"nothing", "nothing.wasm", digest("no.wasm"), exitFailed, []string{"error: plugins.b.module: ", "answers 404", "  help: check the URL"}},
		{"for others", "secret.wasm", digest("no.wasm"), exitOK, []string{"c.yaml:2:16: warning: plugins.b.module: not checked: ", "answers 403"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, "c.yaml", fmt.Sprintf(`plugins:
  b: { module: "%s/%s@sha256:%s" }
routes: [{ plugins: [b], respond: { status: 200 } }]
plugin_cache: { dir: %q }
plugin_sources: { wait: 0s }
`, server.URL, c.file, c.digest, filepath.Join(t.TempDir(), "cache")))
			code, out, text := call("check", "c.yaml")
			if code != c.code || (code == exitOK) != strings.Contains(out, "c.yaml: ok: ") || strings.Contains(out, "warning") != strings.Contains(text, "warning") {
				t.Errorf("exit code %d, %q\n%s", code, out, text)
			}
			if c.says == nil && text != "" {
				t.Errorf("it says %s", text)
			}
			contains(t, text, c.says...)
		})
	}
}

// TestCheckWarnsOfKeysWithoutEffect by the ABI that the module speaks.
func TestCheckWarnsOfKeysWithoutEffect(t *testing.T) {
	inNewFolder(t, map[string]string{"native.wasm": nativeModule, "proxy.wasm": proxyModule, "http.wasm": httpModule})
	write(t, "c.yaml", `upstreams: { db: { targets: ["http://127.0.0.1:1"] } }
plugins:
  native: { module: native.wasm, config: { default: db }, upstreams: [db], recycle_after: 5, limits: { wait: 1s }, proxy_wasm: { root_id: x } }
  proxy: { module: proxy.wasm, upstreams: [db], state: [s], calls: [db], recycle_after: 5, limits: { wait: 1s, body: 1MiB }, proxy_wasm: { vm_id: x } }
  http: { module: http.wasm, upstreams: [db], state: [s], calls: [db], proxy_wasm: { vm_id: x }, limits: { wait: 1s } }
routes: [{ plugins: [native, proxy, http], upstream: db }]
`)
	code, out, text := call("check", "c.yaml")
	if code != exitOK || !strings.Contains(out, "9 warnings") {
		t.Errorf("exit code %d, %q", code, out)
	}
	contains(t, text, "c.yaml:3:", "warning: plugins.native.proxy_wasm: has no effect: the module speaks the native ABI\n", "  help: it is for modules that speak Proxy-Wasm")
	for _, key := range []string{"proxy.upstreams", "proxy.state", "proxy.recycle_after", "proxy.limits.wait", "http.upstreams", "http.state", "http.calls", "http.proxy_wasm"} {
		contains(t, text, "warning: plugins."+key+": has no effect")
	}
}

// TestCheckWarnsOfPluginsThatNoRequestReaches: they have callbacks for connections alone.
func TestCheckWarnsOfPluginsThatNoRequestReaches(t *testing.T) {
	inNewFolder(t, nil)
	write(t, "tcp.wasm", onlyTCP)
	write(t, "c.yaml", `listeners:
  - { address: ":9000", mode: tcp, upstream: db, plugins: [tcp] }
  - { address: ":9001", plugins: [tcp] }
upstreams: { db: { targets: ["http://127.0.0.1:1"] } }
plugins: { tcp: { module: tcp.wasm } }
routes: [{ plugins: [tcp], upstream: db }]
`)
	code, out, text := call("check", "c.yaml")
	if code != exitOK || !strings.Contains(out, "; 2 warnings") {
		t.Errorf("exit code %d, %q", code, out)
	}
	contains(t, text, "c.yaml:3:35: warning: listeners[1].plugins[0]: tcp has callbacks for connections and none for requests", "c.yaml:6:22: warning: routes[0].plugins[0]: ", "`mode: tcp`")
}
