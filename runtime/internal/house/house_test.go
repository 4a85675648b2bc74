// Package house holds the house together: tests that read the sources of all packages and fail when one imports what
// it must not know about. The standard library's parser reads the files of every platform and build tag at once.
package house

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// order says who may import whom. "a, b < c, d" lets c and d import a and b, and nothing follows from it for what a and
// b import themselves. A package that is on no right side imports nothing of ours. What is not listed is not allowed.
// Names are folders, below runtime unless they are at the root. folder/* is everything below a folder.
const order = `
fault < http1, proxyproto

fault, http1, netloop < exchange, wire, http2
fault, http1, netloop < http3
fault, http1          < route, session
netloop               < secure
secure, watch         < certs
fault, http1, netloop, exchange < body
fault, netloop, http1, body < compress
fault, exchange, http1, netloop < filter
fault, http1                    < grpc
fault, http1, netloop, exchange, grpc < grpcweb

fault                                                                          < upstream/facts
fault, netloop                                                                 < upstream/resolve
fault, netloop, upstream/facts                                                 < upstream/pool
fault, netloop, secure, upstream/facts, upstream/pool, upstream/resolve        < upstream
breaker, upstream/balance, upstream/health                                     < upstream
fault, netloop, http1, http2, grpc, wire, upstream/health, upstream/pool       < upstream/probe

wasm/meter, breaker, fault, netloop                                            < wasm
internal/unixaddr < netloop, upstream/resolve, upstream, proxy, telemetry, gateway, wasm/proxywasm
internal/private                                                               < wasm, modules, certs/acme
internal/testkit                                                               < internal/pebble
config                                                                         < modules
modules                                                                        < gateway
wasm, wasm/meter, fault, netloop, http1, exchange, filter, kv, sdk/abi         < wasm/native
wasm, wasm/meter, fault, netloop, http1, exchange, filter                      < wasm/httpwasm
wasm, wasm/meter, breaker, kv, fault, netloop, http1, exchange, filter, grpc   < wasm/proxywasm

fault, netloop, http1, http2, exchange, wire, upstream, upstream/facts, upstream/health, upstream/pool, body, grpc, websocket < proxy
fault, netloop, http1, http2, exchange, wire, upstream, upstream/facts, route, filter, proxy < server
proxyproto, session, body, secure, compress, websocket                         < server
compress                                                                       < gateway
grpc, grpcweb                                                                  < server
grpc                                                                           < telemetry
fault, netloop, exchange, filter, proxyproto, upstream/facts                   < tcp
fault, http1, exchange, upstream, upstream/facts                               < telemetry
upstream, upstream/balance, telemetry, admin/page                              < admin

config, fault, netloop, http1, exchange, route, session, filter, wire, proxy, server < gateway
certs, certs/acme, secure                                                      < gateway
explain                                                                        < admin, gateway, cli
upstream, upstream/facts, upstream/pool, upstream/resolve, upstream/balance, upstream/health, upstream/probe, breaker, proxyproto, tcp, admin, http3                   < gateway
kv, wasm, wasm/meter, wasm/native, wasm/proxywasm, wasm/httpwasm, sdk/abi, telemetry < gateway

config, gateway, telemetry, exchange, upstream/facts, plugins/tenant-router    < cli/demo
config, fault, gateway, telemetry, exchange, filter, upstream/facts, wasm, plugintest, plugintest/suite, watch, sdk < cli/plugin
admin, cli/ask                                                                 < cli/top
config, gateway, telemetry, cli/ask, cli/demo, cli/plugin, cli/top, watch      < cli
cli                                                                            < main

config  < config/internal/gen
sdk/abi < sdk/go, sdk/abi/abitest
sdk/go  < plugins/*, sdk/go/*, sdk/examples/*
plugins/kit < plugins/*
config, gateway, plugintest, wasm < plugins/internal/trial

fault, netloop, http1, exchange, body, filter, kv, plugintest, wasm, wasm/native, sdk/abi < sdk/conformance

fault, netloop, http1, exchange, body, filter, kv, wasm, wasm/meter, wasm/native, wasm/proxywasm, wasm/httpwasm, sdk/abi < plugintest
config, fault, netloop, http1, exchange, filter, kv, wasm, plugintest                     < plugintest/suite
`

// only says which packages, with the folders in them, may import a library. "a | b: library" is: nobody but a and b.
const only = `
config: github.com/knadh/koanf, github.com/goccy/go-yaml
runtime/wasm: github.com/tetratelabs/wazero
runtime/http3 | examples/protocols | examples/benchmark: github.com/quic-go
runtime/telemetry: go.opentelemetry.io
runtime/telemetry | runtime/cli/top: github.com/prometheus
runtime/compress: github.com/klauspost/compress, github.com/andybalholm/brotli
runtime/modules: oras.land, github.com/opencontainers, golang.org/x/net/http/httpproxy
runtime/certs/acme: github.com/caddyserver/certmagic, github.com/mholt/acmez, go.uber.org/zap
runtime/cli: github.com/spf13/cobra, golang.org/x/term
runtime/watch: github.com/fsnotify/fsnotify
main | runtime/cli | examples | config/internal/gen: os/signal
`

// never says which libraries do not come near the bytes of a request. "a | b: library" is: not in a and b.
const never = `
runtime/fault | runtime/netloop | runtime/http1 | runtime/wire | runtime/secure | runtime/exchange | runtime/route | runtime/session: net/http
runtime/filter | runtime/wasm | runtime/upstream | runtime/proxy | runtime/server | runtime/proxyproto | runtime/tcp: net/http
runtime/http3 | runtime/compress: net/http
runtime/http1 | runtime/proxyproto: net, os
`

// processState is what only main and runtime/cli may touch, so that everything else can be run twice in one process.
var processState = []string{"os.Args", "os.Exit", "os.Getenv", "os.LookupEnv", "os.Environ", "os.Stdin"}

// source is one package: a folder with Go files that are no tests.
type source struct {
	folder string // from the module's root, with slashes; "main" for the root itself
	files  []*ast.File
	names  []string
}

func TestImportsGoDownwards(t *testing.T) {
	allowed := readOrder(t)
	for _, p := range packages(t) {
		if isolated(p.folder) {
			continue
		}
		may := mayImport(allowed, p.folder)
		for i, f := range p.files {
			for _, imported := range imports(f) {
				ours, ok := strings.CutPrefix(imported, "wasmgate/")
				if ok && !slices.Contains(may, ours) {
					t.Errorf("%s: %s must not import %s; it may import: %s", p.names[i], p.folder, ours, cmp.Or(strings.Join(may, ", "), "nothing of ours"))
				}
			}
		}
	}
}

// mayImport is what the list allows a folder, by its name and by each "above/*" that it is in.
func mayImport(allowed map[string][]string, folder string) []string {
	may := slices.Clone(allowed[folder])
	for above := path.Dir(folder); above != "."; above = path.Dir(above) {
		may = append(may, allowed[above+"/*"]...)
	}
	return may
}

func TestOrderNamesPackagesThatExist(t *testing.T) {
	folders := map[string]bool{}
	for _, p := range packages(t) {
		folders[p.folder] = true
	}
	check := func(name string) {
		if !strings.HasSuffix(name, "/*") && !folders[name] {
			t.Errorf("the list names %s, and there is no such package", name)
		}
	}
	allowed := readOrder(t)
	for _, importer := range slices.Sorted(maps.Keys(allowed)) {
		check(importer)
		for _, imported := range allowed[importer] {
			check(imported)
		}
	}
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	keepers, banned := readRules(only), readRules(never)
	for _, p := range packages(t) {
		for i, f := range p.files {
			for _, imported := range imports(f) {
				for library, homes := range keepers {
					if within(imported, library) && !insideAny(p.folder, homes) {
						t.Errorf("%s imports %s, which is for %s only", p.names[i], imported, strings.Join(homes, ", "))
					}
				}
				for library, homes := range banned {
					if imported == library && insideAny(p.folder, homes) {
						t.Errorf("%s imports %s, which must not be used in %s", p.names[i], imported, p.folder)
					}
				}
			}
		}
	}
}

func TestSDKNeedsNothing(t *testing.T) {
	for _, p := range packages(t) {
		if !within(p.folder, "sdk") {
			continue
		}
		for i, f := range p.files {
			for _, imported := range imports(f) {
				if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
					t.Errorf("%s imports %s: plugins build with the standard library alone", p.names[i], imported)
				}
			}
		}
	}
}

func TestProcessStateStaysInCLI(t *testing.T) {
	for _, p := range packages(t) {
		if insideAny(p.folder, []string{"main", "runtime/cli", "examples", "config/internal/gen"}) {
			continue
		}
		for i, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && slices.Contains(processState, x.Name+"."+s.Sel.Name) {
						t.Errorf("%s uses %s.%s, which is for runtime/cli only", p.names[i], x.Name, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

func TestEveryPackageSaysWhatItDoes(t *testing.T) {
	for _, p := range packages(t) {
		said := slices.ContainsFunc(p.files, func(f *ast.File) bool { return f.Doc != nil })
		if !said {
			t.Errorf("%s has no package comment", p.folder)
		}
	}
}

func TestRuntimeFolderHasNoPackage(t *testing.T) {
	for _, p := range packages(t) {
		if p.folder == "runtime" {
			t.Errorf("%s: a package called runtime would stand in the way of the standard library's", p.names[0])
		}
	}
}

// link is a link in Markdown to a place in the repository.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "internal"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".md"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), string(m[1]))); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadOrder(t *testing.T) {
	got := readOrder(t)
	for importer, imported := range map[string]string{"runtime/http1": "runtime/fault", "runtime/wasm/native": "sdk/abi", "main": "runtime/cli"} {
		if !slices.Contains(got[importer], imported) {
			t.Errorf("%s may import %q, and not %s", importer, got[importer], imported)
		}
	}
	if len(got["runtime/fault"]) != 0 || len(got["config"]) != 0 || !slices.Equal(got["runtime/netloop"], []string{"runtime/internal/unixaddr"}) {
		t.Error("a leaf may import something")
	}
}

// readOrder returns for each package what it may import.
func readOrder(t *testing.T) map[string][]string {
	allowed := map[string][]string{}
	for line := range strings.Lines(order) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, "<")
		if !ok {
			t.Fatalf("no < in the line %q", line)
		}
		for importer := range strings.SplitSeq(right, ",") {
			for imported := range strings.SplitSeq(left, ",") {
				allowed[folderOf(importer)] = append(allowed[folderOf(importer)], folderOf(imported))
			}
		}
	}
	return allowed
}

// folderOf puts names of the list that do not stand at the root below runtime.
func folderOf(name string) string {
	name = strings.TrimSpace(name)
	switch first, _, _ := strings.Cut(name, "/"); first {
	case "config", "sdk", "plugins", "main":
		return name
	}
	return "runtime/" + name
}

// readRules returns for each library the packages that its line names.
func readRules(text string) map[string][]string {
	rules := map[string][]string{}
	for line := range strings.Lines(text) {
		homes, libraries, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		for library := range strings.SplitSeq(libraries, ",") {
			for home := range strings.SplitSeq(homes, "|") {
				library := strings.TrimSpace(library)
				rules[library] = append(rules[library], strings.TrimSpace(home))
			}
		}
	}
	return rules
}

func within(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

func insideAny(name string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return within(name, f) })
}

// isolated are folders that show how to use the product from outside, and import what a user would.
func isolated(folder string) bool { return within(folder, "examples") }

func imports(f *ast.File) []string {
	list := make([]string, 0, len(f.Imports))
	for _, spec := range f.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, name)
	}
	return list
}

// packages parses the module. Folders with a go.mod of their own are other modules.
func packages(t *testing.T) []source {
	root := filepath.Join("..", "..", "..")
	found := map[string]*source{}
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, missing := os.Stat(filepath.Join(name, "go.mod"))
			if name != root && (missing == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		if folder = filepath.ToSlash(folder); folder == "." {
			folder = "main"
		}
		p := found[folder]
		if p == nil {
			p = &source{folder: folder}
			found[folder] = p
		}
		p.files, p.names = append(p.files, f), append(p.names, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("only %d packages found from %s", len(found), root)
	}
	list := make([]source, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[name])
	}
	return list
}
