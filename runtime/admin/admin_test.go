package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

type fixture struct {
	testing.TB
	handler   http.Handler
	users     *upstream.Upstream
	log       testkit.Buffer
	missing   []string
	gateway   *fake
	looked    atomic.Int64 // how often somebody looked at the upstreams, or at the metrics
	history   func() []Change
	profiling chan struct{}
}

// setUp makes an endpoint that believes to listen on an address, with two upstreams.
func setUp(t testing.TB, address string, change ...func(*Options)) *fixture {
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	names := resolve.New(resolve.Options{})
	f := &fixture{TB: t, gateway: &fake{level: "info"}}
	target := func(host string) upstream.Target {
		return upstream.Target{Host: host, Port: 81, Weight: 2, Route: "r-" + host}
	}
	f.users = upstream.New(g, upstream.Config{Name: "users", Targets: []upstream.Target{target("192.0.2.1"), target("2001:db8::1")}, Pool: pool.Options{MaxConnections: 1}}, names, nil)
	empty := upstream.New(g, upstream.Config{Name: "empty"}, names, nil)
	t.Cleanup(func() {
		f.users.Close(facts.CloseShutdown)
		empty.Close(facts.CloseShutdown)
		g.Close()
		names.Close()
	})
	o := Options{
		Address: netip.MustParseAddrPort(address), Log: zerolog.New(&f.log), Gateway: f.gateway, Access: Access{OpenHealth: true},
		Health: Health{
			Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { f.looked.Add(1); _, _ = io.WriteString(w, "metrics") }),
			Ready:   func() []string { return f.missing },
		},
		Pools: Pools{
			Upstreams: func() []*upstream.Upstream { f.looked.Add(1); return []*upstream.Upstream{empty, f.users} },
			Counts: func() map[string]telemetry.Connections {
				return map[string]telemetry.Connections{"users": {Reused: 9, New: map[string]uint64{"first": 1}, Closed: map[string]uint64{"max_age": 1}}}
			},
			Target: func(url string) (upstream.Target, error) {
				host, ok := strings.CutPrefix(url, "http://")
				if !ok {
					return upstream.Target{}, errors.New("the url has no scheme")
				}
				return upstream.Target{Host: host, Port: 80}, nil
			},
			At: func(name string) string { return "gateway.yaml:7:3" },
		},
	}
	for _, fn := range change {
		fn(&o)
	}
	a := newAPI(o)
	f.handler, f.history, f.profiling = a.handler(), a.history.newest, a.profiling
	return f
}

// ask asks as curl would; fields are "Name: value".
func (f *fixture) ask(method, target, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:9090"
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f *fixture) want(w *httptest.ResponseRecorder, status int, texts ...string) {
	f.Helper()
	if w.Code != status {
		f.Errorf("answered %d %s; want %d", w.Code, w.Body, status)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			f.Errorf("%q is not in %s", text, w.Body)
		}
	}
}

const one, six = "/upstreams/users/targets/192.0.2.1:81", "/upstreams/users/targets/[2001:db8::1]:81"

func TestHealthReadinessAndMetrics(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/healthz", ""), 200, "ok")
	f.want(f.ask("GET", "/readyz", ""), 200, "ready")
	f.want(f.ask("GET", "/metrics", ""), 200, "metrics")
	f.missing = []string{"upstream a: not warm", "upstream b: not warm"}
	f.want(f.ask("GET", "/readyz", ""), 503, "not ready: upstream a: not warm; upstream b: not warm")
	f.want(f.ask("GET", "/healthz", ""), 200)
	f.want(f.ask("POST", "/readyz", ""), 405)
	f.want(f.ask("GET", "/", ""), 200, "<!doctype html>")
	f.want(f.ask("GET", "/page/page.js", ""), 200, "import")
	f.want(f.ask("POST", "/", ""), 405)
	f.want(f.ask("GET", "/else", ""), 404)
}

func TestUpstreamsAreShown(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	w := f.ask("GET", "/upstreams", "")
	f.want(w, 200)
	var list []Upstream
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 2 || list[0].Name != "empty" || list[0].Members == nil || len(list[1].Members) != 2 {
		t.Fatalf("%v, %+v", err, list)
	}
	m := list[1].Members[0]
	if m.Target != "192.0.2.1:81" || m.Address != "192.0.2.1:81" || m.Session != "r-192.0.2.1" || m.Weight != 2 || m.State != "active" || m.Health != "healthy" || m.Share != 1 || m.Live {
		t.Errorf("%+v", m)
	}
	if u := list[1]; u.Reused != 9 || u.New["first"] != 1 || u.Closed["max_age"] != 1 {
		t.Errorf("why connections were opened, and closed: %+v", u)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
	f.want(f.ask("GET", "/upstreams/users", ""), 200, `"name": "users"`)
	f.want(f.ask("GET", "/upstreams/nobody", ""), 404, "GET /upstreams lists them")
}

func TestTargetsAreChanged(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("PATCH", one, `{"state": "drain", "weight": 7, "tier": 1}`), 200, `"state": "drain"`, `"weight": 7`, `"tier": 1`, `"differs_from_config": true`)
	f.want(f.ask("PATCH", six, `{"state": "standby"}`, "Host: [::1]:9090"), 200, `"state": "standby"`)
	f.want(f.ask("PATCH", six, " {\"weight\": 1000}\n", "Host: localhost"), 200, `"weight": 1000`)
	for _, text := range []string{`"by":"local"`, `"from":"192.0.2.1:1234"`, `"object":"/upstreams/users/targets/192.0.2.1:81"`, `{\"state\": \"drain\", \"weight\": 7`, `"status":200`} {
		if !strings.Contains(f.log.String(), text) {
			t.Errorf("%s is not in the log: %s", text, f.log.String())
		}
	}
}

func TestTargetsAreAddedAndRemoved(t *testing.T) {
	const list, three = "/upstreams/users/targets", "/upstreams/users/targets/192.0.2.3:80"
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("POST", list, `{"url": "http://192.0.2.3", "weight": 5, "tier": 2, "state": "standby"}`), 201,
		`"target": "192.0.2.3:80"`, `"added": true`, `"weight": 5`, `"tier": 2`, `"state": "standby"`)
	f.want(f.ask("POST", list, `{"url": "http://192.0.2.3"}`), 409, "upstream users, target 192.0.2.3:80: there is such a target already")
	f.want(f.ask("PATCH", three, `{"state": "active"}`), 200, `"differs_from_config": true`)
	f.want(f.ask("DELETE", three, ""), 200, `"name": "users"`)
	f.want(f.ask("DELETE", three, ""), 404, "there is no such target")
	f.want(f.ask("DELETE", one, ""), 409, "the configuration has it")
	f.want(f.ask("POST", list, `{"url": "192.0.2.3:80"}`), 400, "url: the url has no scheme")
	f.want(f.ask("POST", list, `{"url": "http://192.0.2.3", "weight": 0}`), 400, "weight is from 1 to 1000")
	f.want(f.ask("POST", list, `{"url": "http://192.0.2.3", "route": "x"}`), 400, "unknown field")
	f.want(f.ask("POST", list, `{"weight": 1}`), 400, "url")
	f.want(f.ask("POST", "/upstreams/empty/targets", `{"url": "http://192.0.2.3"}`), 201, `"target": "192.0.2.3:80"`)
	for _, text := range []string{`"operation":"addTarget"`, `"operation":"removeTarget"`, `"level":"warn"`} {
		if !strings.Contains(f.log.String(), text) {
			t.Errorf("%s is not in the log: %s", text, f.log.String())
		}
	}
	for _, method := range []string{"POST " + list, "DELETE " + one} {
		method, target, _ := strings.Cut(method, " ")
		f.want(f.ask(method, target, `{"url": "http://192.0.2.9"}`, "Origin: http://evil.test"), 403)
		f.want(f.ask(method, target, `{"url": "http://192.0.2.9"}`, "Host: evil.test:9090"), 403)
	}
}

// TestWhoMustNotChangeAnything: pages of other origins, also those whose name leads to loopback, and who is not on this
// machine.
func TestWhoMustNotChangeAnything(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	for name, fields := range map[string][]string{
		"another origin":           {"Origin: http://evil.test"},
		"another port is another":  {"Origin: http://127.0.0.1:8080"},
		"no origin":                {"Origin: null"},
		"a page of another site":   {"Sec-Fetch-Site: cross-site"},
		"a page of the same site":  {"Sec-Fetch-Site: same-site"},
		"a name that was rebound":  {"Host: evil.test:9090", "Origin: http://evil.test:9090", "Sec-Fetch-Site: same-origin"},
		"a name like localhost":    {"Host: localhost.evil.test"},
		"an address like loopback": {"Host: 127.0.0.1.evil.test:9090"},
		"another address":          {"Host: 192.0.2.7:9090"},
		"no name":                  {"Host: "},
	} {
		w := f.ask("PATCH", one, `{"state": "disabled"}`, fields...)
		if w.Code != 403 {
			t.Errorf("%s: answered %d %s", name, w.Code, w.Body)
		}
	}
	f.want(f.ask("GET", "/upstreams", "", "Host: evil.test:9090"), 403)
	f.want(f.ask("GET", "/upstreams/users", "", "Host: evil.test:9090"), 403)
	for _, address := range []string{"0.0.0.0:9090", "192.0.2.7:9090", "[::]:9090"} {
		g := setUp(t, address)
		g.want(g.ask("PATCH", one, `{"state": "disabled"}`), 403, "admin.token")
		g.want(g.ask("GET", "/upstreams", "", "Host: gateway.internal:9090"), 403, "admin.token")
	}
	for _, m := range f.users.Members() {
		if m.Live || m.State != "active" {
			t.Errorf("it was changed: %+v", m)
		}
	}
	f.want(f.ask("PATCH", one, `{"state": "drain"}`, "Origin: http://127.0.0.1:9090", "Sec-Fetch-Site: same-origin"), 200)
}

func TestBadChanges(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	for body, want := range map[string]string{
		"":                                 "EOF",
		"drain":                            "the body is not as in",
		"{}":                               "nothing to change",
		"null":                             "nothing to change",
		"[]":                               "the body is not as in",
		`{"state": "gone"}`:                `not "gone"`,
		`{"state": 1}`:                     "the body is not as in",
		`{"weight": 0}`:                    "1 to 1000",
		`{"weight": 1001}`:                 "1 to 1000",
		`{"weight": 1.5}`:                  "the body is not as in",
		`{"tier": -1}`:                     "0 to 100",
		`{"wait": 1}`:                      "unknown field",
		`{"weight": 2} {"weight": 3}`:      "follows",
		`{"weight": 2}}`:                   "follows",
		`{"weight": 99999999999999999999}`: "the body is not as in",
		strings.Repeat(" ", 200) + `{"tier": 1}x`: "follows",
	} {
		if w := f.ask("PATCH", one, body); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: answered %d %s; want %q", body, w.Code, w.Body, want)
		}
	}
	f.want(f.ask("PATCH", one, strings.Repeat(" ", maxChange)+`{"tier": 1}`), 413)
	f.want(f.ask("PATCH", one, `{"tier": 1}`+strings.Repeat(" ", maxChange)), 413)
	f.want(f.ask("PATCH", "/upstreams/nobody/targets/192.0.2.1:81", `{"tier": 1}`), 404, "nobody")
	f.want(f.ask("PATCH", "/upstreams/users/targets/192.0.2.9:81", `{"tier": 1}`), 404, "192.0.2.9:81")
	f.want(f.ask("PUT", one, `{"tier": 1}`), 405)
	for _, m := range f.users.Members() {
		if m.Live {
			t.Errorf("it was changed: %+v", m)
		}
	}
}
