package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"wasmgate/config"
	"wasmgate/runtime/admin"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/telemetry"
)

// desk is a running gateway with a config file, and who operates it by the admin API. Each answer is held to the description
// that the gateway serves.
type desk struct {
	*testing.T
	*gateway.Gateway
	file   string
	log    *testkit.Buffer
	spec   *openapi3.T
	called map[string]bool
	client *http.Client
}

func openDesk(t *testing.T, text string) *desk {
	before := runtime.NumGoroutine()
	d := &desk{T: t, file: filepath.Join(t.TempDir(), "gateway.yaml"), log: &testkit.Buffer{}, called: map[string]bool{}, client: &http.Client{Transport: &http.Transport{}}}
	d.write(text)
	log, err := telemetry.NewLog(telemetry.LogOptions{Output: d.log, Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	read := func() (*config.Config, *config.Report, error) { return config.Load(config.Source{File: d.file}) }
	c, report, err := read()
	if err != nil {
		t.Fatal(err)
	}
	d.Gateway, err = gateway.New(gateway.Options{Config: c, Log: log.Logger, Build: telemetry.Build{Version: "v1"}, Admin: gateway.Operators{
		File: d.file, Report: report, Load: read, LogLevel: log.LevelName, SetLogLevel: log.SetLevel,
		Reload: func() (*config.Report, error) {
			c, report, err := read()
			if err == nil {
				err = d.ReloadFrom(c, report)
			}
			return report, err
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		d.Close()
		log.Close()
		testkit.Eventually(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	return d
}

func (d *desk) write(text string) {
	text = "telemetry: { access_log: { output: 'off' } }\nplugin_cache: { dir: 'off' }\n" + text
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		d.Fatal(err)
	}
}

func (d *desk) url(path string) string { return "http://" + d.AdminAddr().String() + path }

// learn reads the description, which has to be a valid one.
func (d *desk) learn() {
	spec, err := openapi3.NewLoader().LoadFromData([]byte(get(d.T, d.url("/openapi.json"))))
	if err == nil {
		err = spec.Validate(context.Background())
	}
	if err != nil {
		d.Fatalf("the description is not valid: %v", err)
	}
	d.spec = spec
}

// do does an operation: its path as the description has it, what stands for each {} in it, query and body. Request and
// answer are held to the description. into may be nil.
func (d *desk) do(status int, method, path string, args []string, query, body string, into any) string {
	d.Helper()
	target, params, rest := "", map[string]string{}, path
	for _, arg := range args {
		before, after, _ := strings.Cut(rest, "{")
		name, end, _ := strings.Cut(after, "}")
		target, rest = target+before+url.PathEscape(arg), end
		params[name] = arg
	}
	target += rest
	if query != "" {
		target += "?" + query
	}
	req, err := http.NewRequest(method, d.url(target), strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	item := d.spec.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		d.Fatalf("%s %s is not described", method, path)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
		Route: &routers.Route{Spec: d.spec, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)},
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil && status < 400 {
		d.Errorf("%s %s: the request is not as described: %v", method, target, err)
	}
	req.Body = io.NopCloser(strings.NewReader(body)) // it was read
	resp, err := d.client.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		d.Fatalf("%s %s: %s %s, %v; want %d", method, target, resp.Status, answer, err, status)
	}
	if kind := resp.Header.Get("Content-Type"); strings.HasPrefix(kind, "application/json") { // files and profiles have no schema
		out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: resp.Header}
		if err := openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes(answer)); err != nil {
			d.Errorf("%s %s: the answer is not as described: %v\n%.2000s", method, target, err, answer)
		}
	} else if described := item.GetOperation(method).Responses.Status(status); described == nil || described.Value.Content.Get(kind) == nil {
		d.Errorf("%s %s: an answer %d of %s is not described", method, target, status, kind)
	}
	if status < 300 {
		d.called[method+" "+path] = true
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			d.Fatal(err)
		}
	}
	return string(answer)
}

// TestTheAdminAPIIsAsDescribed does every operation on a running gateway.
func TestTheAdminAPIIsAsDescribed(t *testing.T) {
	b := startBackends(t, 2)
	text := func(more string) string {
		return fmt.Sprintf(`admin: { address: '127.0.0.1:0' }
loops: 2
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams:
  web:
    targets: ["http://%s"]
%splugins:
  p: { module: %s, upstreams: [web], config: "upstream web" }
routes:
  - { name: hello, match: { path: /hello, headers: { x-key: secret-1 } }, respond: { status: 200, body: "hi" } }
  - { name: chosen, match: { path_prefix: /p }, plugins: [p] }
  - { name: all, upstream: web }
`, b[0].addr, more, module(t, conformance))
	}
	d := openDesk(t, text(""))
	d.learn()
	addr := d.Addr("test").String()
	for range 3 {
		get(t, "http://"+addr+"/x")
	}
	do(t, "http://"+addr+"/p", "x-cmd", "route 0")
	http.DefaultClient.CloseIdleConnections()

	d.do(200, "GET", "/", nil, "", "", nil)
	d.do(200, "GET", "/page/{file}", []string{"page.js"}, "", "", nil)
	d.do(200, "GET", "/openapi.json", nil, "", "", nil)
	d.do(200, "GET", "/healthz", nil, "", "", nil)
	d.do(200, "GET", "/readyz", nil, "", "", nil)
	d.do(200, "GET", "/metrics", nil, "", "", nil)
	var process admin.Process
	if d.do(200, "GET", "/version", nil, "", "", &process); len(process.Loops) != 2 || process.Version != "v1" || process.You != "local" || process.Config.File != d.file {
		t.Errorf("the process is %+v", process)
	}
	d.reloads(text, b[1].addr)
	d.traffic(b[0], addr)
	d.connections(b[0], addr)
	d.plugins(addr)
	d.targets(b[0].addr)
	var e explain.Explanation
	if d.do(200, "POST", "/explain", nil, "", `{"url": "http://`+addr+`/p"}`, &e); e.Route != "chosen" || !e.Live {
		t.Errorf("the explanation is %+v", e)
	}
	d.do(200, "GET", "/log/level", nil, "", "", nil)
	d.do(200, "PUT", "/log/level", nil, "", `{"level": "debug"}`, nil)
	d.do(200, "GET", "/debug/pprof/", nil, "", "", nil)
	d.do(200, "GET", "/debug/pprof/{profile}", []string{"goroutine"}, "debug=2", "", nil)
	d.do(200, "GET", "/debug/pprof/{profile}", []string{"heap"}, "", "", nil)

	var changes admin.Changes
	d.do(200, "GET", "/changes", nil, "", "", &changes)
	var kinds []string
	for _, one := range changes.Differences {
		kinds = append(kinds, one.Kind)
	}
	if !slices.Contains(kinds, "log_level") || !slices.Contains(kinds, "target") || !slices.Contains(kinds, "plugin") || len(changes.History) < 8 {
		t.Errorf("what differs is %+v", changes)
	}
	for path, item := range d.spec.Paths.Map() {
		for method := range item.Operations() {
			if !d.called[method+" "+path] {
				t.Errorf("%s %s was not tried", method, path)
			}
		}
	}
}

// reloads looks at the config, and has it read again: with a mistake, with changes that are only shown, and in earnest.
func (d *desk) reloads(text func(string) string, other string) {
	var c admin.Config
	d.do(200, "GET", "/config", nil, "", "", &c)
	if c.File != d.file || len(c.Keys) < 10 || !slices.ContainsFunc(c.Keys, func(k admin.ConfigKey) bool { return k.Path == "upstreams.web" && k.At == d.file+":7:3" }) {
		d.Errorf("the config is %+v", c)
	}
	yaml := d.do(200, "GET", "/config", nil, "format=yaml", "", nil)
	if strings.Contains(yaml, "secret-1") || !strings.Contains(yaml, "# "+d.file+":7:3") || !strings.Contains(yaml, "max_connections: 1024") {
		d.Errorf("the config is %s", yaml)
	}
	d.write(text("") + "oops: 1\n")
	var r admin.Reload
	d.do(422, "POST", "/config/reload", nil, "", "", &r)
	if len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0].At, d.file+":") || r.Applied {
		d.Errorf("the mistakes are %+v", r)
	}
	d.do(422, "POST", "/config/reload", nil, "dry_run=true", "", nil)
	d.write(text("    pool: { max_connections: 7 }\n  more: { targets: [\"http://"+other+"\"] }\n") + "  - { name: last, match: { path: /last }, upstream: more }\nloops: 4\n")
	d.write(strings.Replace(readFile(d.T, d.file), "loops: 2\n", "", 1))
	want := "route last added; upstream more added; upstream web changed pool.max_connections; setting loops changed"
	said := func(r *admin.Reload) bool {
		var list []string
		for _, c := range r.Changes {
			list = append(list, strings.Join(append([]string{c.Kind, c.Name, c.Change}, c.Keys...), " "))
		}
		slices.Sort(list)
		wanted := strings.Split(want, "; ")
		slices.Sort(wanted)
		if !slices.Equal(list, wanted) || !slices.Equal(r.Restart, []string{"loops"}) || len(r.Problems) != 0 {
			d.Errorf("what changes is %q, %q, %+v", list, r.Restart, r.Problems)
		}
		return r.Applied
	}
	d.do(200, "POST", "/config/reload", nil, "dry_run=true", "", &r)
	if said(&r) || strings.Contains(get(d.T, d.url("/upstreams")), `"more"`) {
		d.Error("a dry run has changed something")
	}
	d.do(200, "POST", "/config/reload", nil, "dry_run=false", "", &r)
	if !said(&r) || !strings.Contains(get(d.T, d.url("/upstreams")), `"more"`) {
		d.Error("the config is not in force")
	}
	var listeners []admin.Listener
	testkit.Eventually(d, "all requests are counted, after their answers", func() bool {
		d.do(200, "GET", "/listeners", nil, "", "", &listeners)
		return listeners[0].Requests == 4
	})
	if len(listeners) != 1 || listeners[0].Requests != 4 || listeners[0].Bound != d.Addr("test").String() || listeners[0].At == "" {
		d.Errorf("the listeners are %+v", listeners)
	}
	var routes []admin.Route
	d.do(200, "GET", "/routes", nil, "", "", &routes)
	if len(routes) != 4 || routes[0].Respond != 200 || routes[1].Hits != 1 || routes[2].Hits != 3 || routes[2].Upstream != "web" || routes[1].Plugins[0] != "p" ||
		routes[0].Match.Headers["x-key"] != "exact" || !strings.HasPrefix(routes[3].At, d.file+":") {
		d.Errorf("the routes are %+v", routes)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimPrefix(b, []byte("telemetry: { access_log: { output: 'off' } }\nplugin_cache: { dir: 'off' }\n")))
}

// traffic fails a request, and looks for it among the errors and the traces.
func (d *desk) traffic(b *backend, addr string) {
	b.always(reply{reset: true})
	if resp, _ := do(d.T, "http://"+addr+"/fails?x=1"); resp.StatusCode != 502 {
		d.Fatalf("the request was answered %s", resp.Status)
	}
	b.does(nil)
	var errors admin.Errors
	testkit.Eventually(d, "the errors are told, after the answer", func() bool {
		d.do(200, "GET", "/errors", nil, "upstream=web&limit=10", "", &errors)
		return len(errors.Errors) >= 2
	})
	if errors.Errors[0].Of != "request" || errors.Errors[0].Route != "all" || errors.Errors[0].Address != b.addr || errors.Errors[0].Status != 502 ||
		errors.Errors[0].TraceID == "" || errors.Errors[1].Of != "attempt" {
		d.Errorf("the errors are %+v", errors)
	}
	var traces admin.Traces
	testkit.Eventually(d, "the trace is told, after the answer", func() bool {
		d.do(200, "GET", "/traces", nil, "kept=error", "", &traces)
		return len(traces.Traces) > 0
	})
	if traces.Capacity != 256 || len(traces.Traces) != 1 || traces.Traces[0].ID != errors.Errors[0].TraceID || traces.Traces[0].Path != "/fails" || traces.Traces[0].Attempts < 2 {
		d.Fatalf("the traces are %+v", traces)
	}
	var trace admin.Trace
	d.do(200, "GET", "/traces/{id}", []string{traces.Traces[0].ID}, "", "", &trace)
	var clients int
	for _, s := range trace.Spans {
		if s.Kind == "client" && s.Attributes["network.peer.address"] == b.ip() {
			clients++
		}
	}
	if clients != traces.Traces[0].Attempts || trace.Spans[0].Kind != "server" || trace.Spans[0].Name != "GET all" {
		d.Errorf("the spans are %+v", trace.Spans)
	}
	d.do(404, "GET", "/traces/{id}", []string{strings.Repeat("0", 32)}, "", "", nil)
	var sample admin.Traces
	testkit.Eventually(d, "what went well is there too", func() bool {
		d.do(200, "GET", "/traces", nil, "kept=sample&route=chosen", "", &sample)
		return len(sample.Traces) == 1
	})
	d.do(200, "GET", "/traces/{id}", []string{sample.Traces[0].ID}, "", "", &trace)
	if !slices.ContainsFunc(trace.Spans, func(s admin.Span) bool { return strings.Contains(s.Name, "plugin") }) {
		d.Errorf("the plugin's call is not among the spans: %+v", trace.Spans)
	}
}

// connections looks at a connection that carries a request, and closes idle ones and busy ones.
func (d *desk) connections(b *backend, addr string) {
	goOn := make(chan struct{})
	b.always(reply{until: goOn})
	answered := make(chan int, 2)
	ask := func() {
		resp, err := http.Get("http://" + addr + "/held/request")
		if err != nil {
			d.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}
	busy := b.busy.Load()
	go ask()
	testkit.Eventually(d, "the backend has the request", func() bool { return b.busy.Load() > busy })
	var list admin.Connections
	held := func(query string) (c admin.Connection) { // the only one in use, once those of others are back in the pool
		testkit.Eventually(d, "there is the connection with the request", func() bool {
			d.do(200, "GET", "/connections", nil, query, "", &list)
			return list.Total == 1 && len(list.Connections) == 1
		})
		return list.Connections[0]
	}
	c := held("upstream=web&state=busy&address=" + b.addr + "&limit=5")
	if c.Use == nil || c.Use.Kind != "request" || c.Use.Route != "all" || c.Use.Path != "/held/request" || c.Use.Listener != "test" || c.Address != b.addr || c.Requests < 1 || c.Age <= 0 {
		d.Errorf("the connection is %+v, used by %+v", c, c.Use)
	}
	var clients admin.Clients
	d.do(200, "GET", "/clients", nil, "limit=10", "", &clients)
	if clients.Open < 1 || len(clients.Clients) < 1 || clients.Clients[0].Local != addr {
		d.Errorf("the clients are %+v", clients)
	}
	var closed admin.Closed
	id := fmt.Sprint(c.ID)
	d.do(200, "DELETE", "/connections/{id}", []string{id}, "", "", &closed)
	if closed != (admin.Closed{Closing: 1}) {
		d.Errorf("closing one in use: %+v", closed)
	}
	if d.do(200, "GET", "/connections", nil, "state=busy", "", &list); len(list.Connections) != 1 || !list.Connections[0].Closing {
		d.Errorf("the connection is not marked: %+v", list)
	}
	close(goOn)
	if status := <-answered; status != 200 {
		d.Errorf("the request on a connection that is being closed was answered %d", status)
	}
	testkit.Eventually(d, "the connection is closed for the operator", func() bool { return strings.Contains(get(d.T, d.url("/upstreams/web")), `"operator": 1`) })
	d.do(404, "DELETE", "/connections/{id}", []string{id}, "", "", nil)

	b.always(reply{hang: true})
	busy = b.busy.Load()
	go ask()
	testkit.Eventually(d, "the backend has the other request", func() bool { return b.busy.Load() > busy })
	id = fmt.Sprint(held("state=busy").ID)
	b.does(nil)
	d.do(200, "DELETE", "/connections/{id}", []string{id}, "now=true", "", &closed)
	if closed != (admin.Closed{Closed: 1}) {
		d.Errorf("cutting one off: %+v", closed)
	}
	if status := <-answered; status != 200 {
		d.Errorf("a GET that was cut off, and can be sent again, was answered %d", status)
	}
	http.DefaultClient.CloseIdleConnections()
	testkit.Eventually(d, "a connection is idle", func() bool {
		d.do(200, "GET", "/connections", nil, "state=idle", "", &list)
		return list.Total > 0
	})
	d.do(200, "POST", "/connections/drain", nil, "address="+b.ip()+"&upstream=web", "", &closed)
	if closed.Closed < 1 {
		d.Errorf("draining has closed %+v", closed)
	}
	testkit.Eventually(d, "none is left", func() bool {
		d.do(200, "GET", "/connections", nil, "", "", &list)
		return list.Total == 0
	})
}

// plugins swaps the module for another one, and goes back.
func (d *desk) plugins(addr string) {
	var p admin.Plugin
	var all []admin.Plugin
	d.do(200, "GET", "/plugins", nil, "", "", &all)
	d.do(200, "GET", "/plugins/{name}", []string{"p"}, "", "", &p)
	if len(all) != 1 || p.ABI != "native" || p.Figures.Calls < 1 || len(p.Loops) != 2 || len(p.Versions) != 1 || p.Live || p.Used.Routes[0] != "chosen" || p.At == "" || p.Limits.Fuel == 0 {
		d.Errorf("the plugin is %+v", p)
	}
	first := p.Digest
	original := []byte(readFile(d.T, module(d.T, conformance)))
	other := filepath.Join(filepath.Dir(d.file), "other.wasm")
	if err := os.WriteFile(other, append(original, 0, 5, 4, 'n', 'e', 'x', 't'), 0o600); err != nil {
		d.Fatal(err)
	}
	d.do(200, "POST", "/plugins/{name}/swap", []string{"p"}, "", `{"module": "other.wasm"}`, &p)
	if p.Digest == first || !p.Live || p.Module != other || len(p.Versions) != 2 || p.Versions[0].Why != "swap" || p.Versions[1].Digest != first {
		d.Errorf("after the swap the plugin is %+v", p)
	}
	if err := os.WriteFile(other, []byte("no module"), 0o600); err != nil {
		d.Fatal(err)
	}
	d.do(422, "POST", "/plugins/{name}/swap", []string{"p"}, "", `{"reload": true}`, nil)
	d.do(422, "POST", "/plugins/{name}/swap", []string{"p"}, "", `{"module": "missing.wasm"}`, nil)
	d.do(404, "POST", "/plugins/{name}/swap", []string{"nobody"}, "", `{"reload": true}`, nil)
	if resp, _ := do(d.T, "http://"+addr+"/p", "x-cmd", "trap"); resp.StatusCode != 503 {
		d.Errorf("a trap was answered %s", resp.Status)
	}
	d.do(200, "GET", "/plugins/{name}", []string{"p"}, "", "", &p)
	if len(p.Errors) != 1 || p.Errors[0].Kind != "plugin_trap" || p.Figures.Failures["plugin_trap"] != 1 {
		d.Errorf("after a trap the plugin is %+v", p)
	}
	d.do(200, "POST", "/plugins/{name}/rollback", []string{"p"}, "", "", &p)
	if p.Digest != first || !p.Live || p.Versions[0].Why != "rollback" || len(p.Versions) != 3 {
		d.Errorf("after going back the plugin is %+v", p)
	}
	d.do(200, "POST", "/config/reload", nil, "", "", nil)
	if d.do(200, "GET", "/plugins/{name}", []string{"p"}, "", "", &p); p.Digest != first || p.Live {
		d.Errorf("after a reload the plugin is %+v", p)
	}
	d.do(200, "POST", "/plugins/{name}/rollback", []string{"p"}, "", "", nil)
}

// targets changes a target, adds one and removes it.
func (d *desk) targets(target string) {
	d.do(200, "GET", "/upstreams", nil, "", "", nil)
	d.do(200, "PATCH", "/upstreams/{name}/targets/{target}", []string{"web", target}, "", `{"weight": 3}`, nil)
	d.do(201, "POST", "/upstreams/{name}/targets", []string{"web"}, "", `{"url": "http://127.0.0.1:1"}`, nil)
	d.do(409, "POST", "/upstreams/{name}/targets", []string{"web"}, "", `{"url": "http://127.0.0.1:1"}`, nil)
	d.do(200, "DELETE", "/upstreams/{name}/targets/{target}", []string{"web", "127.0.0.1:1"}, "", "", nil)
	var u admin.Upstream
	d.do(200, "GET", "/upstreams/{name}", []string{"web"}, "", "", &u)
	if len(u.Members) != 1 || u.Members[0].Weight != 3 || !u.Members[0].Live || !strings.HasPrefix(u.At, d.file+":") {
		d.Errorf("the upstream is %+v", u)
	}
}
