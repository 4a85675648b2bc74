package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

const (
	nginxModules  = "/usr/lib/nginx/modules" // where Debian has them
	apacheModules = "/usr/lib/apache2/modules"
	pluginModule  = "plugins/tenant-router/tenant-router.wasm"
	probePath     = "/probe"
	tenant        = "acme"
)

// requestHeaders are sent with every request: about as many as a browser sends.
var requestHeaders = []string{
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench",
	"Accept: text/html,application/json;q=0.9,*/*;q=0.8",
	"Cookie: session=0123456789abcdef",
	"X-Tenant: " + tenant,
}

// answerBody is what the backend answers.
var answerBody = strings.Repeat("0123456789", 50)

//go:embed conf
var confFiles embed.FS

// candidate is one thing to measure.
type candidate struct {
	name    string
	about   string
	config  string   // its file of conf/
	extra   []string // further files of conf/ that the first one reads
	scripts bool     // it decides about every request, and the backend can see that it did
	peer    bool     // it is compared only where it is asked for
	bulk    bool     // it passes bytes in TCP mode: for -bulk
	http1   bool     // with -http3, its clients speak HTTP/1.1 all the same
	splice  bool     // it is told to have the kernel move them
	log     bool     // it writes an access log, to a file: for -telemetry
	sample  string   // the part of the requests that it sends traces of, "": none; for -telemetry
	command func(s *setup, config string) []string
	version []string // a command whose first line of output names what was measured
	missing func(s *setup) string
}

// candidates is everything that can be measured, in the order of the table.
var candidates = []candidate{
	{
		name: "nginx", about: "proxying only", config: "nginx.conf", version: []string{"nginx", "-v"},
		command: nginxCommand, missing: tools("nginx"),
	},
	{
		name: "haproxy", about: "proxying only", config: "haproxy.cfg", version: []string{"haproxy", "-v"},
		command: haproxyCommand, missing: tools("haproxy"),
	},
	{
		name: "apache", about: "proxying only", config: "apache.conf", version: []string{"apache2", "-v"},
		command: func(_ *setup, config string) []string { return []string{"apache2", "-DFOREGROUND", "-f", config} },
		missing: func(s *setup) string {
			return first(tools("apache2")(s), file(apacheModules+"/mod_proxy_http.so"))
		},
	},
	{
		name: "nginx+lua", about: "a script decides", config: "nginx-lua.conf", version: []string{"nginx", "-v"},
		scripts: true, command: nginxCommand,
		missing: func(s *setup) string {
			return first(tools("nginx")(s), file(nginxModules+"/ngx_http_lua_module.so"))
		},
	},
	{
		name: "haproxy+lua", about: "a script decides", config: "haproxy-lua.cfg", extra: []string{"route.lua"},
		version: []string{"haproxy", "-v"}, scripts: true, command: haproxyCommand,
		missing: func(s *setup) string { return first(tools("haproxy")(s), haproxyLua()) },
	},
	{
		name: "wasmgate", about: "proxying only", config: "wasmgate.yaml",
		command: wasmgateCommand, missing: wasmgateMissing,
	},
	{
		name: "wasmgate+plugin", about: "a sandboxed plugin decides", config: "wasmgate.yaml", scripts: true,
		command: wasmgateCommand,
		missing: func(s *setup) string { return first(wasmgateMissing(s), file(s.plugin)) },
	},
	{
		name: "caddy", about: "proxying only", config: "Caddyfile", version: []string{"caddy", "version"}, peer: true,
		command: func(s *setup, config string) []string { // it keeps a copy of its configuration: not in the user's folder
			return []string{"env", "XDG_CONFIG_HOME=" + s.dir, "caddy", "run", "--adapter", "caddyfile", "--config", config}
		},
		missing: tools("caddy"),
	},
	{
		name: "wasmgate-h1", about: "in HTTP/1.1", config: "wasmgate.yaml", peer: true, http1: true,
		command: wasmgateCommand, missing: wasmgateMissing,
	},
	{
		name: "nginx+log", about: "and logs each request", config: "nginx.conf", version: []string{"nginx", "-v"}, log: true,
		command: nginxCommand, missing: tools("nginx"),
	},
	{
		name: "wasmgate+log", about: "and logs each request", config: "wasmgate.yaml", log: true,
		command: wasmgateCommand, missing: wasmgateMissing,
	},
	{
		name: "wasmgate+traces1", about: "and traces 1 %", config: "wasmgate.yaml", sample: "0.01",
		command: wasmgateCommand, missing: wasmgateMissing,
	},
	{
		name: "wasmgate+traces100", about: "and traces each request", config: "wasmgate.yaml", sample: "1",
		command: wasmgateCommand, missing: wasmgateMissing,
	},
	{
		name: "haproxy-tcp", about: "passes bytes", config: "haproxy-tcp.cfg", version: []string{"haproxy", "-v"}, bulk: true,
		command: haproxyCommand, missing: tools("haproxy"),
	},
	{
		name: "haproxy-tcp+splice", about: "the kernel moves them", config: "haproxy-tcp.cfg", version: []string{"haproxy", "-v"},
		bulk: true, splice: true, command: haproxyCommand, missing: tools("haproxy"),
	},
	{
		name: "wasmgate-tcp", about: "the kernel moves them", config: "wasmgate-tcp.yaml", bulk: true,
		command: wasmgateCommand, missing: wasmgateMissing,
	},
}

func nginxCommand(_ *setup, config string) []string {
	return []string{"nginx", "-e", config + ".err", "-c", config}
}

func haproxyCommand(_ *setup, config string) []string {
	return []string{"haproxy", "-db", "-f", config}
}

func wasmgateCommand(s *setup, config string) []string {
	return []string{s.binary, "run", "-c", config}
}

func wasmgateMissing(s *setup) string {
	if s.binary != "" {
		return file(s.binary)
	}
	return first(tools("go")(s), file(filepath.Join(s.root, "main.go")))
}

// telemetryNames are the candidates of -telemetry, in the order of its table.
var telemetryNames = []string{"nginx", "nginx+log", "wasmgate", "wasmgate+log", "wasmgate+traces1", "wasmgate+traces100"}

// http2Names are the candidates of -http2.
var http2Names = []string{"nginx", "caddy", "wasmgate", "wasmgate+plugin"}

// http3Names are the candidates of -http3.
var http3Names = []string{"wasmgate-h1", "wasmgate", "wasmgate+plugin", "caddy"}

// tlsNames are the candidates of -tls.
var tlsNames = []string{"nginx", "wasmgate", "wasmgate+plugin"}

// requestNames and bulkNames are those that are measured by default, and those of a bulk transfer.
func requestNames() []string {
	return namesOf(func(c *candidate) bool { return !c.bulk && !c.log && !c.peer && c.sample == "" })
}

func bulkNames() []string { return namesOf(func(c *candidate) bool { return c.bulk }) }

func namesOf(want func(*candidate) bool) []string {
	var names []string
	for i := range candidates {
		if want(&candidates[i]) {
			names = append(names, candidates[i].name)
		}
	}
	return names
}

func find(name string) (*candidate, bool) {
	for i := range candidates {
		if candidates[i].name == name {
			return &candidates[i], true
		}
	}
	return nil, false
}

// tools says which of some programs is not installed.
func tools(names ...string) func(*setup) string {
	return func(*setup) string {
		for _, name := range names {
			if _, err := exec.LookPath(name); err != nil {
				return "the program " + name
			}
		}
		return ""
	}
}

func file(path string) string {
	if _, err := os.Stat(path); err != nil {
		return "the file " + path
	}
	return ""
}

func haproxyLua() string {
	out, err := exec.Command("haproxy", "-vv").Output()
	if err != nil || !bytes.Contains(out, []byte("+LUA")) {
		return "a haproxy built with Lua"
	}
	return ""
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// setup is what configurations are rendered from.
type setup struct {
	dir       string // scratch
	root      string // the sources of wasmgate
	binary    string // wasmgate; "" before it is built
	plugin    string
	collector string // URL that traces are sent to
	backend   int
	workers   int
	http2     bool // clients speak HTTP/2
	tls       bool // and TLS
	http3     bool // clients speak HTTP/3, but for candidates that say otherwise
}

// certificate and key are the files of what a candidate shows its clients.
func (s *setup) certificate() string { return filepath.Join(s.dir, "tls.pem") }
func (s *setup) key() string         { return filepath.Join(s.dir, "tls.key") }

// fields are what a file of conf/ may speak of.
type fields struct {
	Dir, Body, ProbePath, Plugin, NginxModules, ApacheModules string
	Workers, Backend, Port, Admin                             int
	Splice, HTTP2, HTTP3                                      bool
	Log, Sample, Collector                                    string // "": none
	Cert, Key                                                 string // of TLS; "": clients speak cleartext
}

func (s *setup) fields(c *candidate, port, admin int) fields {
	f := fields{
		Dir: s.dir, Body: answerBody, ProbePath: probePath, NginxModules: nginxModules, ApacheModules: apacheModules,
		Workers: s.workers, Backend: s.backend, Port: port, Admin: admin,
	}
	if c == nil {
		return f
	}
	f.Splice, f.Sample, f.Collector, f.HTTP2, f.HTTP3 = c.splice, c.sample, s.collector, s.http2, s.http3
	if s.tls {
		f.Cert, f.Key = s.certificate(), s.key()
	}
	if c.scripts {
		f.Plugin = s.plugin
	}
	if c.log {
		f.Log = filepath.Join(s.dir, c.name+".access.log")
	}
	return f
}

// render writes a file of conf/ into the scratch folder, under the given name.
func (s *setup) render(name, as string, f fields) (string, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(confFiles, "conf/"+name)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, f); err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, as)
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}

// prepare renders what c reads and returns the command that starts it on a port.
func (s *setup) prepare(c *candidate, port, admin int) ([]string, error) {
	f := s.fields(c, port, admin)
	for _, name := range c.extra {
		if _, err := s.render(name, name, f); err != nil {
			return nil, err
		}
	}
	config, err := s.render(c.config, c.name+"-"+c.config, f)
	if err != nil {
		return nil, err
	}
	return c.command(s, config), nil
}

// build builds wasmgate into the scratch folder, unless there is one already.
func (s *setup) build(ctx context.Context) error {
	if s.binary != "" {
		return nil
	}
	path := filepath.Join(s.dir, "wasmgate")
	out, err := exec.CommandContext(ctx, "go", "build", "-C", s.root, "-o", path, ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building wasmgate: %w\n%s", err, out)
	}
	s.binary = path
	return nil
}
