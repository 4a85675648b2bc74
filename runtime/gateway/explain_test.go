package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// explained asks, and fails the test if there is no answer.
func explained(t *testing.T, g *gateway.Gateway, r explain.Request) *explain.Explanation {
	t.Helper()
	e, err := g.Explain(context.Background(), r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return e
}

// unstarted makes a gateway that nobody starts.
func unstarted(t *testing.T, text string) *gateway.Gateway {
	t.Helper()
	g, err := gateway.New(gateway.Options{Config: load(t, text), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// plugins are the steps of an explanation that are plugins.
func pluginsOf(e *explain.Explanation) (list []*explain.Plugin) {
	for _, s := range e.Steps {
		if s.Plugin != nil {
			list = append(list, s.Plugin)
		}
	}
	return list
}

const twoListeners = `
listeners:
  - { name: public, address: '127.0.0.1:18080' }
  - { name: inside, address: '127.0.0.1:18081', forwarded: { headers: none } }
  - { name: db, address: '127.0.0.1:18443', mode: tcp, upstream: other, sni: [{ host: '*.db.example', upstream: app }] }
upstreams:
  app: { targets: [{ url: 'http://192.0.2.1', weight: 3 }, { url: 'http://192.0.2.2', state: standby }], retries: { attempts: 3 } }
  other: { targets: ['http://192.0.2.3'] }
  sticky: { targets: ['http://192.0.2.4', 'http://192.0.2.5', 'http://192.0.2.6'], balance: hash(ip) }
  off: { targets: [{ url: 'http://192.0.2.7', state: disabled }] }
routes:
  - { name: off, match: { path: /off }, upstream: off }
  - { name: sticky, match: { path: /sticky }, upstream: sticky }
  - { name: slow, match: { path_prefix: /slow }, upstream: app, timeouts: { request: 9s, connect: 1s }, retries: { attempts: 1 }, host: upstream }
  - { name: app, match: { path_prefix: /app }, upstream: app }
`

func TestExplainWithoutAGatewayThatRuns(t *testing.T) {
	g := unstarted(t, twoListeners)
	for _, c := range []struct{ url, listener, why string }{
		{"http://a.example:18081/app", "inside", "port 18081"},
		{"http://a.example/app", "public", "it is the first"},
		{"/app", "public", "the first one in mode http"},
	} {
		if e := explained(t, g, explain.Request{URL: c.url}); e.Listener.Name != c.listener || !strings.Contains(e.Listener.Why, c.why) || e.Outcome != explain.Forwarded || e.Live {
			t.Errorf("%s: %+v %s", c.url, e.Listener, e.Outcome)
		}
	}
	e := explained(t, g, explain.Request{URL: "/app", Listener: "127.0.0.1:18081"})
	if e.Listener.Name != "inside" || e.Route != "app" || e.Upstream.Name != "app" || len(e.Upstream.Members) != 2 || len(e.Sent.Fields) != 1 {
		t.Errorf("%+v", e)
	}
	if m := e.Upstream.Members; m[0].Choice != explain.Chosen || m[0].Weight != 3 || m[1].Choice != explain.PassedOver || m[1].State != "standby" {
		t.Errorf("%+v", m)
	}
	rules := fmt.Sprint(explained(t, g, explain.Request{URL: "/slow/x", Method: "POST", Body: "abc"}).Upstream.Rules)
	for _, want := range []string{"{timeouts.connect 1s}", "{timeouts.request 9s}", "{retries.attempts 1: it is never sent again}"} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %s in %s", want, rules)
		}
	}
	if rules = fmt.Sprint(explained(t, g, explain.Request{URL: "/app", Body: "abc"}).Upstream.Rules); !strings.Contains(rules, "3, but only as long as nothing of it was sent: POST is not idempotent") {
		t.Errorf("%s", rules)
	}
	if e = explained(t, g, explain.Request{URL: "/off"}); e.Outcome != explain.Answered || e.Answer.Status != 503 || e.Kind != "no_target_available" || e.Upstream.Name != "off" || e.Sent != nil {
		t.Errorf("%+v", e)
	}
	chosen := map[string]bool{}
	for i := range 30 {
		r := explain.Request{URL: "/sticky", Client: fmt.Sprintf("192.0.2.%d", i)}
		first, again := explained(t, g, r), explained(t, g, r)
		for k, m := range first.Upstream.Members {
			if m.Choice != again.Upstream.Members[k].Choice {
				t.Errorf("%s goes elsewhere the second time", r.Client)
			}
			if m.Choice == explain.Chosen {
				chosen[m.Address] = true
			}
		}
	}
	if len(chosen) != 3 {
		t.Errorf("thirty clients go to %v", chosen)
	}
}

func TestExplainConnections(t *testing.T) {
	g := unstarted(t, twoListeners)
	for url, want := range map[string]string{"tls://a.DB.example": "app", "tls://elsewhere.example:18443": "other", "https://x.y.db.example:18443/path": "app", "tcp://anything": "other"} {
		if e := explained(t, g, explain.Request{URL: url}); e.Outcome != explain.Passed || e.Upstream.Name != want || e.Listener.Name != "db" || len(e.Upstream.Members) == 0 {
			t.Errorf("%s: %+v", url, e)
		}
	}
	g = unstarted(t, "listeners: [{ name: db, address: '127.0.0.1:18443', mode: tcp, sni: [{ host: a.example, upstream: app }] }]\nupstreams: { app: { targets: ['http://192.0.2.1'] } }\n")
	if e := explained(t, g, explain.Request{URL: "tls://b.example"}); e.Outcome != explain.Closed || e.Kind != "no_route" || !strings.Contains(e.Error, `"b.example"`) {
		t.Errorf("%+v", e)
	}
}

func TestExplainRefusesWhatIsNoRequest(t *testing.T) {
	g := unstarted(t, twoListeners)
	for want, r := range map[string]explain.Request{
		"which URL":       {},
		"scheme is ftp":   {URL: "ftp://x/"},
		"has a user":      {URL: "http://me@x/"},
		"port is 70000":   {URL: "http://x:70000/"},
		"there are: publ": {URL: "/", Listener: "nix"},
		"client is nix":   {URL: "/", Client: "nix"},
		"line end":        {URL: "/", Fields: []explain.Field{{Name: "x", Value: "a\r\nb: c"}}},
		"method has a":    {URL: "/", Method: "GET / HTTP/1.1\r\nX: "},
	} {
		_, err := g.Explain(context.Background(), r)
		if mistake := explain.Mistake(""); !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
	g.Close()
	if _, err := g.Explain(context.Background(), explain.Request{URL: "/"}); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("after Close: %v", err)
	}
}

// TestExplainChangesNothing asks a running gateway again and again: what its plugins, upstreams and figures are is what it was.
func TestExplainChangesNothing(t *testing.T) {
	p := startPlant(t, `
upstreams: { app: { targets: ['http://192.0.2.1'] } }
plugins:
  probe: { module: ../wasm/proxywasm/testdata/probe.wasm, config: "request shared visits\nrequest share visits 1 0" }
  tenant: { module: ../../plugins/tenant-router/tenant-router.wasm, upstreams: [app], config: { default: app } }
routes: [{ name: app, plugins: [probe, tenant], upstream: app }]
`)
	for range 20 {
		e := explained(t, p.Gateway, explain.Request{URL: "/x"})
		if says := fmt.Sprint(pluginsOf(e)[0].Says); strings.Contains(says, "shared -> 0") || !strings.Contains(says, "share -> 0") {
			t.Fatalf("what an explanation has left behind, the next one finds: %s", says)
		}
		if len(pluginsOf(e)) != 2 || e.Outcome != explain.Forwarded || !e.Live || e.Upstream.Pool == nil || e.Upstream.Members[0].Health != "healthy" {
			t.Fatalf("%+v", e)
		}
	}
	for _, name := range []string{"tenant", "probe"} {
		if n := p.metric(`wasmgate_plugin_calls_total{plugin="` + name + `"}`); n != 0 {
			t.Errorf("the gateway's own plugin %s was asked %v times", name, n)
		}
	}
	if s := p.upstream("app"); s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestExplainShowsFailuresOfPlugins: a trap, a refusal, and one that fails open.
func TestExplainShowsFailuresOfPlugins(t *testing.T) {
	g := unstarted(t, `
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://192.0.2.1'] } }
plugins:
  closed: { module: testdata/hostile.wasm, config: "out of range" }
  open: { module: testdata/hostile.wasm, config: "out of range", on_error: fail_open }
  loop: { module: testdata/hostile.wasm, config: "endless loop" }
routes:
  - { name: closed, match: { path: /closed }, plugins: [closed], upstream: app }
  - { name: open, match: { path: /open }, plugins: [open], upstream: app }
  - { name: loop, match: { path: /loop }, plugins: [loop], upstream: app }
`)
	for range 30 { // no breaker, and no waiting
		e := explained(t, g, explain.Request{URL: "/closed"})
		if p := pluginsOf(e); e.Outcome != explain.Answered || e.Answer.Status != 503 || len(p) != 1 || p[0].Decision != "fail" || p[0].Failure != e.Error || e.Kind != "plugin_answer" {
			t.Fatalf("%+v", e)
		}
	}
	if e := explained(t, g, explain.Request{URL: "/open"}); e.Outcome != explain.Forwarded || pluginsOf(e)[0].Decision != "fail_open" || pluginsOf(e)[0].Failure == "" {
		t.Errorf("%+v", e)
	}
	if e := explained(t, g, explain.Request{URL: "/loop"}); e.Kind != "plugin_fuel" || pluginsOf(e)[0].Fuel < 1_000_000 {
		t.Errorf("%+v %+v", e, pluginsOf(e)[0])
	}
}

// TestExplainCalls: a plugin's call is named and not sent, unless that is asked for.
func TestExplainCalls(t *testing.T) {
	b := startBackends(t, 1)[0]
	p := startPlant(t, fmt.Sprintf(`
upstreams: { app: { targets: ['http://192.0.2.1'] }, authz: { targets: ['http://%s'] } }
plugins:
  asks: { module: %s, calls: [authz] }
routes: [{ name: app, plugins: [asks], upstream: app }]
`, b.addr, goPlugin(t, "testdata/authz")))
	e := explained(t, p.Gateway, explain.Request{URL: "/x"})
	calls := pluginsOf(e)[0].Calls
	if len(calls) != 1 || calls[0].Sent || calls[0].Upstream != "authz" || calls[0].Error == "" || b.requests.Load() != 0 {
		t.Errorf("%+v, %d requests", calls, b.requests.Load())
	}
	e = explained(t, p.Gateway, explain.Request{URL: "/x", Calls: true})
	if calls = pluginsOf(e)[0].Calls; len(calls) != 1 || !calls[0].Sent || calls[0].Status != 200 || calls[0].Error != "" || b.requests.Load() != 1 {
		t.Errorf("%+v, %d requests", calls, b.requests.Load())
	}
}

// TestExplainWhileTheGatewayChanges asks from several sides while configs are put in force, and at its end.
func TestExplainWhileTheGatewayChanges(t *testing.T) {
	const text = `
upstreams: { app: { targets: ['http://192.0.2.1'] } }
plugins:
  tenant: { module: ../../plugins/tenant-router/tenant-router.wasm, upstreams: [app], config: { default: app } }
  probe: { module: ../wasm/proxywasm/testdata/probe.wasm, config: "request log 2 %d" }
routes: [{ name: app, plugins: [tenant, probe], upstream: app }]
`
	p := startPlant(t, fmt.Sprintf(text, 0))
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n%5+1)*time.Millisecond)
				if e, err := p.Explain(ctx, explain.Request{URL: "/x"}); err == nil && len(pluginsOf(e)) != 2 || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%+v %v", e, err)
				}
				cancel()
			}
		})
	}
	for i := range 20 {
		p.reload(fmt.Sprintf(text, i))
	}
	close(stop)
	asking.Wait()
	if e := explained(t, p.Gateway, explain.Request{URL: "/x"}); fmt.Sprint(pluginsOf(e)[1].Says) == "[]" {
		t.Errorf("%+v", pluginsOf(e)[1])
	}
	p.Close()
	testkit.Eventually(t, "no instance is left", func() bool { return p.Instances() == 0 })
}

// TestExplainIsAnAdminCall asks by HTTP; the answer is what Explain says.
func TestExplainIsAnAdminCall(t *testing.T) {
	p := startPlant(t, "upstreams: { app: { targets: ['http://192.0.2.1'] } }\nroutes: [{ name: app, match: { path: /app }, upstream: app }]\n")
	post := func(body string) (int, string) {
		resp, err := http.Post("http://"+p.AdminAddr().String()+"/explain", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	status, text := post(`{"url": "http://a.example/app?x=1", "fields": [{"name": "x-a", "value": "1"}]}`)
	var e explain.Explanation
	if err := json.Unmarshal([]byte(text), &e); err != nil || status != 200 || e.Route != "app" || e.Outcome != explain.Forwarded || e.Sent.Line != "GET /app?x=1 HTTP/1.1" {
		t.Errorf("%d %s %v", status, text, err)
	}
	for body, want := range map[string]string{
		`{"url": "/", "listener": "nix"}`:               "400 no listener is called nix",
		`{"url": "/", "nonsense": 1}`:                   "400 the body is not as in",
		`{"url": "` + strings.Repeat("/", 1<<20) + `"}`: "413 ",
		`{"url": "/nowhere"}`:                           "200 {",
		`{"url": "/"} {}`:                               "400 something follows",
	} {
		if status, text := post(body); !strings.HasPrefix(fmt.Sprintf("%d %s", status, text), want) {
			t.Errorf("%.60s: %d %.200s, want %s", body, status, text, want)
		}
	}
}

// TestExplainAnUpstreamOfHTTP2: the fields that it gets are those that were said.
func TestExplainAnUpstreamOfHTTP2(t *testing.T) {
	got := make(chan http.Header, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set(":line", r.Method+" "+r.RequestURI+" "+r.Host)
		got <- h
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	p := startPlant(t, "upstreams: { app: { targets: ['"+server.URL+"'], protocol: http2 } }\nroutes: [{ name: app, upstream: app, request_headers: { set: { x-by: us } } }]\n")
	e := explained(t, p.Gateway, explain.Request{Method: "PUT", URL: p.url("/a?b=c"), Body: "abc", Fields: []explain.Field{{Name: "X-More", Value: "1"}, {Name: "x-more", Value: "2"}, {Name: "Connection", Value: "x-gone"}, {Name: "x-gone", Value: "1"}}})
	if e.Outcome != explain.Forwarded || e.Sent.Line != "PUT /a?b=c HTTP/2" || e.Sent.Body != "abc" {
		t.Fatalf("%+v %+v", e, e.Sent)
	}
	said := http.Header{":line": {"PUT /a?b=c " + p.addr.String()}}
	for _, f := range e.Sent.Fields {
		switch f.Name {
		case ":scheme", ":authority":
			if f.Value != "http" && f.Value != p.addr.String() {
				t.Errorf("%+v", f)
			}
		default:
			said.Add(f.Name, f.Value)
		}
	}
	c := call(t, p.addr.String())
	c.say("PUT /a?b=c HTTP/1.1\r\nHost: " + p.addr.String() + "\r\nX-More: 1\r\nx-more: 2\r\nConnection: x-gone\r\nx-gone: 1\r\nContent-Length: 3\r\n\r\nabc")
	if is := <-got; fmt.Sprint(is) != fmt.Sprint(said) {
		t.Errorf("it got %v, said were %v", is, said)
	}
}
