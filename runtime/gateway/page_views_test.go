package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/admin/page"
	"wasmgate/runtime/internal/testkit"
)

// stage is an endpoint whose answers are what a gateway might say at its worst: many routes, long names, markup in texts.
// Its types are the endpoint's own.
type stage struct {
	*tab
	url    string
	asked  chan string // what was asked to be changed
	calls  atomic.Int64
	locked atomic.Bool // a token is wanted

	explanation []byte // of every request; nil: the endpoint explains nothing
}

const goodToken = "correct-horse-battery"

var staged = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func startStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{asked: make(chan string, 8)}
	api := http.NewServeMux()
	for path, v := range map[string]any{
		"/listeners": stagedListeners(), "/routes": stagedRoutes(), "/connections": stagedConnections(), "/traces": stagedTraces(), "/traces/{id}": stagedTrace(),
		"/errors": stagedErrors(), "/changes": stagedChanges(),
	} {
		api.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) })
	}
	api.HandleFunc("GET /upstreams", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, strange, strings.Repeat("a-long-name-", 20))
	})
	api.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(stagedPlugins(uint64(s.calls.Add(1000))))
	})
	api.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.asked <- strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
		switch {
		case r.URL.Path == "/explain" && s.explanation == nil:
			http.NotFound(w, r)
		case r.URL.Path == "/explain":
			_, _ = w.Write(s.explanation)
		case strings.HasSuffix(r.URL.Path, "/swap"):
			http.Error(w, "<b>no</b> module", http.StatusUnprocessableEntity)
		default:
			fmt.Fprint(w, "{}")
		}
	})
	mux := http.NewServeMux()
	for _, path := range []string{"/{$}", "/page/"} {
		mux.Handle("GET "+path, page.Handler())
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.locked.Load() && r.Header.Get("Authorization") != "Bearer "+goodToken {
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		api.ServeHTTP(w, r)
	})
	need(t, "chromium")
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.tab, s.url = startBrowser(t), server.URL
	s.size(1440, 900, 1)
	return s
}

const evilName = "<img src=x onerror=alert(1)>"

func stagedListeners() []admin.Listener {
	return []admin.Listener{
		{Name: "main", Address: ":8080", Bound: "0.0.0.0:8080", Mode: "http", Plugins: []string{}, Requests: 123456},
		{Name: evilName, Address: ":8443", Bound: "[2001:db8:1111:2222:3333:4444:5555:6666]:8443", Mode: "http", Plugins: []string{"gate"}, Requests: 7},
		{Name: "database", Address: ":5432", Bound: "0.0.0.0:5432", Mode: "tcp", Plugins: []string{}, Upstream: "empty", Requests: 1},
	}
}

// stagedRoutes are 200.
func stagedRoutes() (list []admin.Route) {
	for i := range 200 {
		r := admin.Route{
			Index: i, Name: fmt.Sprintf("route-%d", i), Match: admin.RouteMatch{PathPrefix: fmt.Sprintf("/service-%d", i)}, Hits: uint64(i * i), Plugins: []string{},
			Upstream: []string{"<script>alert(1)</script>", "empty"}[i%2], At: fmt.Sprintf("wasmgate.yaml:%d:5", 40+4*i),
		}
		switch {
		case i == 3:
			r.Upstream, r.Respond, r.Match = "", 200, admin.RouteMatch{Path: "/healthz"}
		case i == 5:
			r.Name, r.Match = evilName, admin.RouteMatch{Hosts: []string{"shop.example"}, Methods: []string{"GET"}, PathRegex: "^/" + strings.Repeat("x", 200), Headers: map[string]string{"x-beta": "is yes"}}
		case i%10 == 0:
			r.Plugins = []string{"gate", "tenant"}
		}
		list = append(list, r)
	}
	return list
}

func stagedPlugins(calls uint64) []admin.Plugin {
	limits := admin.PluginLimits{Memory: 16 << 20, Fuel: 5_000_000, StartFuel: 50_000_000, Body: 1 << 20, Calls: 8, Wait: 100}
	return []admin.Plugin{
		{
			Name: "gate", ABI: "native", Module: strings.Repeat("plugins/", 20) + "gate.wasm", Digest: "sha256:" + strings.Repeat("1a2b", 16), Live: true, OnError: "fail_closed", Limits: limits,
			Versions: []admin.Version{
				{Module: "new.wasm", Digest: "sha256:" + strings.Repeat("1a2b", 16), Bytes: 4096, Since: staged, Why: "swap"},
				{Module: "old.wasm", Digest: "sha256:" + strings.Repeat("9f8e", 16), Bytes: 4000, Since: staged.Add(-time.Hour), Why: "config"},
			},
			Figures: admin.PluginFigures{Calls: calls, Fuel: 812 * calls, Instances: 2, Memory: 4 << 20, Failures: map[string]uint64{"plugin_trap": 3}, BreakerOpen: true},
			Loops:   []admin.PluginLoop{{Loop: 0, Instances: 2, Parked: 1, Memory: 4 << 20, BreakerOpen: true}},
			Errors:  []admin.PluginError{{Time: staged, Phase: "request", Kind: "plugin_trap", Text: evilName + strings.Repeat(" unreachable", 30), Again: 12}},
			Used:    admin.PluginUse{Routes: []string{"route-0", "route-10"}, Listeners: []string{evilName}},
		},
		{
			Name: "tenant", ABI: "none", Module: "oci://registry.internal/tenant", Missing: "connection refused", OnError: "fail_open", Limits: limits,
			Versions: []admin.Version{}, Loops: []admin.PluginLoop{}, Errors: []admin.PluginError{}, Used: admin.PluginUse{Routes: []string{}, Listeners: []string{}},
		},
	}
}

func stagedConnections() admin.Connections {
	c := admin.Connections{LoopsMissing: 1}
	for i := range 60 {
		one := admin.Connection{
			ID: uint64(100 + i), Upstream: "shop", Host: "shop.internal:8080", Address: "10.0.0.7:8080", State: "idle", Why: "none_idle", Opened: staged, Age: 100_000,
			DNS: 3, Dial: 2, TLSFor: 5, Requests: 17, BytesIn: 1 << 20, BytesOut: 2048, Idle: 40_000, IdleTotal: 20_000, DNSAge: 1200, DNSTTL: 60_000, DNSServer: "10.0.0.2:53", DNSStale: true,
			TLS: true, TLSVersion: "1.3", ServerName: "shop.internal", ALPN: "http/1.1", TraceID: strings.Repeat("ab", 16),
		}
		if i == 1 {
			one.State, one.Closing, one.Idle = "busy", true, 0
			one.Use = &admin.Use{Kind: "request", Listener: "main", Route: evilName, Method: "GET", Path: "/" + strings.Repeat("x", 199), Client: "192.0.2.7:5555", TraceID: strings.Repeat("cd", 16), For: 5000}
		}
		c.Connections = append(c.Connections, one)
	}
	c.Connections = append(c.Connections, admin.Connection{ID: 10, Upstream: evilName, Host: "10.0.0.8:80", Address: "10.0.0.8:80", State: "busy", Why: "first", Opened: staged, Age: 0.2, Dial: 0.1, Use: &admin.Use{Kind: "session", For: 0.1}})
	c.Total = len(c.Connections)
	return c
}

func stagedSummary(i int) admin.TraceSummary {
	t := admin.TraceSummary{
		ID: fmt.Sprintf("%032x", i+1), Kept: "sample", Time: staged.Add(-time.Duration(i) * time.Second), Duration: float64(i + 1), Listener: "main", Client: "192.0.2.7:5555",
		Method: "GET", Host: "shop.example", Path: fmt.Sprintf("/service-%d", i), Route: fmt.Sprintf("route-%d", i), Upstream: "shop", Address: "10.0.0.7:8080", ConnID: uint64(100 + i), Attempts: 1, Status: 200,
	}
	switch i {
	case 1:
		t.Kept, t.Status, t.Attempts, t.Error, t.Path = "error", 502, 3, evilName+strings.Repeat(" connection refused", 20), "/"+strings.Repeat("long", 200)
	case 2:
		t.Kept, t.Duration = "slow", 12_345
	case 3:
		t = admin.TraceSummary{ID: t.ID, Kept: "error", Time: t.Time, Error: "the head is not one of HTTP", Status: 400}
	}
	return t
}

func stagedTraces() admin.Traces {
	t := admin.Traces{Capacity: 256}
	for i := range 20 {
		t.Traces = append(t.Traces, stagedSummary(i))
	}
	return t
}

func stagedTrace() admin.Trace {
	span := func(id, parent, name, kind string, offset, took float64, attributes map[string]any, events ...admin.SpanEvent) admin.Span {
		if events == nil {
			events = []admin.SpanEvent{}
		}
		return admin.Span{ID: id, Parent: parent, Name: name, Kind: kind, Start: staged, Offset: offset, Duration: took, Attributes: attributes, Events: events}
	}
	t := admin.Trace{TraceSummary: stagedSummary(1)}
	t.Duration, t.Exported, t.Jaeger = 40, true, "http://jaeger.internal:16686/trace/"+t.ID
	failed := span("3", "1", "GET shop", "client", 2, 10, map[string]any{"wasmgate.connection.id": 101, "wasmgate.upstream": "shop", "error.type": "connect_refused"},
		admin.SpanEvent{Name: "exception", Offset: 12, Attributes: map[string]any{"exception.message": evilName}})
	failed.Error = "connection refused"
	t.Spans = []admin.Span{
		span("1", strings.Repeat("e", 16), "GET "+evilName, "server", 0, 40, map[string]any{"http.route": "route-1"}, admin.SpanEvent{Name: "route.matched", Offset: 0.5}),
		span("2", "1", "plugin.call gate", "internal", 0.5, 1.5, map[string]any{"wasmgate.plugin.fuel": 812}),
		failed,
		span("4", "3", "wait_for_connection", "internal", 2, 10, nil), span("5", "4", "wait.dns", "internal", 2, 4, nil), span("6", "4", "wait.connect", "internal", 6, 6, nil),
		span("7", "1", "GET shop", "client", 12, 28, map[string]any{"wasmgate.connection.id": 102, "wasmgate.connection.reused": true}),
		span("8", "7", strings.Repeat("wait_for_answer", 5), "internal", 13, 20, nil), span("9", "7", "response.body", "internal", 33, 7, nil),
	}
	return t
}

func stagedErrors() admin.Errors {
	return admin.Errors{Errors: []admin.Error{
		{Time: staged, Of: "attempt", Kind: "connect_refused", Source: "upstream", Text: evilName + strings.Repeat(" refused", 30), Route: "route-1", Upstream: "shop", Host: "shop.internal:8080", Address: "10.0.0.7:8080", ConnID: 101, TraceID: stagedSummary(1).ID},
		{Time: staged, Of: "attempt", Kind: "connect_refused", Source: "upstream", Text: "the same"},
		{Time: staged, Of: "attempt", Kind: "connect_refused", Source: "upstream", Text: "the same"},
		{Time: staged, Of: "call", Kind: "plugin_trap", Source: "plugin", Text: "unreachable", Plugin: "gate", Status: 500},
	}}
}

func stagedChanges() admin.Changes {
	return admin.Changes{
		Since:       staged,
		Differences: []admin.Difference{{Kind: "target", Name: "shop/" + strings.Repeat("long-", 30) + "target:80", Text: "state drain instead of active"}, {Kind: "log_level", Name: "log_level", Text: "debug"}},
		History: []admin.Change{
			{Time: staged, By: "anna", From: "127.0.0.1:5555", What: "changeTarget", Object: "/upstreams/shop/targets/x:80", Said: `{"state":"drain"}`, Status: 200},
			{Time: staged, By: evilName, From: "127.0.0.1:5555", What: "rollBackPlugin", Object: "/plugins/gate/rollback", Status: 409},
		},
	}
}

// show opens a view and waits until it is filled.
func (s *stage) show(view, filled string) {
	s.Helper()
	s.do("open "+view, chromedp.Navigate(s.url+"/#/"+view))
	s.until(view+" is filled", filled)
}

// views are all, with what is there when they are filled.
var stagedViews = [][2]string{
	{"map", "document.querySelectorAll('#map .routes .node').length > 2"}, {"connections", "document.querySelectorAll('#connections .conns > li').length === 21"},
	{"traces", "document.querySelectorAll('#traces .rows > li').length === 20"}, {"traces/00000000000000000000000000000002", "document.querySelectorAll('.view.trace .span').length === 9"},
	{"explain", "one('button', 'Explain') && document.querySelector('select[name=listener]').options.length === 4"}, {"plugins", "document.querySelectorAll('#plugins section').length === 2"},
	{"errors", "document.querySelectorAll('#errors .rows > li').length === 4"}, {"changes", "document.querySelectorAll('#changes .rows > li').length === 2"},
	{"upstreams", "document.querySelectorAll('#upstreams tbody').length === 3"},
}

// TestEveryViewBearsAnything: names and texts with markup in them, of any length, are text, and fit on every screen, in the
// light and in the dark; all that can be pressed has a name, and is reached by Tab in the order in which it is read.
func TestEveryViewBearsAnything(t *testing.T) {
	s := startStage(t)
	for _, v := range stagedViews {
		s.size(1440, 900, 1)
		s.show(v[0], v[1])
		eval[bool](s.tab, "([...document.querySelectorAll('#shown .view:not([hidden]) details')].slice(0, 3).forEach(d => d.open = true), true)")
		name := "view-" + strings.Split(v[0], "0")[0]
		name = strings.ReplaceAll(name, "s/", "")
		for what, is := range map[string]string{
			"nothing is markup":      "!document.querySelector('main img, main script, main b')",
			"nothing is left out":    "!/undefined|NaN|\\[object|null/.test(document.querySelector('main').innerText)",
			"the link says where":    "document.querySelectorAll('nav [aria-current=page]').length === 1",
			"what is pressed, named": "[...document.querySelectorAll('input, select, button, textarea, a[href], summary')].filter(shown).every(e => e.labels?.length || called(e))",
			"no style in attributes": "![...document.querySelectorAll('main [onclick]')].length",
		} {
			s.until(v[0]+": "+what, is)
		}
		s.picture(name)
		for _, width := range []int64{1440, 1000, 700, 360} {
			s.size(width, 800, 1)
			s.fits(fmt.Sprintf("%s at %d", v[0], width))
		}
		s.picture(name + "-phone")
		s.tabs(v[0])
		s.size(1000, 800, 1)
		s.scheme("dark")
		s.picture(name + "-dark")
		if got := eval[string](s.tab, "getComputedStyle(document.body).backgroundColor"); got != "rgb(20, 24, 28)" {
			t.Errorf("%s: the ground is %s in the dark", v[0], got)
		}
		s.scheme("light")
		s.readable(v[0])
	}
	s.quiet()
}

// tabs goes through the first things of a view that can be reached, and through the last.
func (s *stage) tabs(view string) {
	s.Helper()
	const names = "[...document.querySelectorAll('a[href], input, select, button, textarea, summary')].filter(e => shown(e) && e.type !== 'radio' && !e.disabled)"
	eval[bool](s.tab, "(document.activeElement.blur(), scrollTo(0, 0), getSelection().removeAllRanges(), window.seen = "+names+", seen[0].focus(), true)")
	for i := 1; i < min(24, eval[int](s.tab, "seen.length")); i++ {
		s.do("Tab", chromedp.KeyEvent(kb.Tab))
		if !eval[bool](s.tab, fmt.Sprintf("document.activeElement === seen[%d] && (c => c.outlineStyle === 'solid' && parseFloat(c.outlineWidth) >= 2)(getComputedStyle(document.activeElement))", i)) {
			s.Errorf("%s: Tab leads to %s, or that is not to be seen; next is %s", view, eval[string](s.tab, "document.activeElement.outerHTML.slice(0, 200)"), eval[string](s.tab, fmt.Sprintf("seen[%d].outerHTML.slice(0, 200)", i)))
			return
		}
	}
}

// readable fails if a text is not told apart from its ground by 4.5 to 1, in the light and in the dark.
func (s *stage) readable(view string) {
	s.Helper()
	const faint = `(() => {
		const parts = c => c.match(/[\d.]+/g).map(Number);
		const light = c => { const [r, g, b] = parts(c).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, [, , , a = 1] = parts(c); if (a === 1) return c; } return 'rgb(255, 255, 255)'; };
		const list = [];
		for (const e of document.querySelectorAll('header *, main *')) {
			if (!shown(e) || e.closest('svg, :disabled, [aria-hidden]') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
			const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
			if ((a + 0.05) / (b + 0.05) < 4.5) list.push(e.outerHTML.slice(0, 120) + ' ' + ((a + 0.05) / (b + 0.05)).toFixed(2));
		}
		return list.slice(0, 3);
	})()`
	for _, scheme := range []string{"dark", "light"} {
		s.scheme(scheme)
		if list := eval[[]string](s.tab, faint); len(list) > 0 {
			s.Errorf("%s: hard to read in the %s: %q", view, scheme, list)
		}
	}
}

// TestTheMapFoldsAndFilters: 200 routes are few boxes, which unfold; the filter and a pressed box show only the ways through
// what is wanted, and that stays while the page asks again, and when it is loaded anew.
func TestTheMapFoldsAndFilters(t *testing.T) {
	s := startStage(t)
	s.show("map", stagedViews[0][1])
	boxes := func(n int) string {
		return fmt.Sprintf("document.querySelectorAll('#map .routes .node').length === %d", n)
	}
	s.until("routes that lead to the same are one box", boxes(4)) // to each upstream, with plugins and without; the answer
	s.until("lines lead to each box", "[...document.querySelectorAll('#map .routes .node')].every(e => document.querySelector('#map .lines').children.length > 5)")
	fold := eval[string](s.tab, "document.querySelector('#map .fold').innerText")
	if !strings.HasSuffix(fold, " → <script>alert(1)</script>") && !strings.HasSuffix(fold, " → empty") {
		t.Errorf("the first box is %q", fold)
	}
	n := eval[int](s.tab, "Number(document.querySelector('#map .fold').innerText.match(/\\d+/)[0])")
	s.click(fold)
	s.until("it unfolds", boxes(4+n))
	asked := s.answered("200 GET " + s.url + "/routes")
	s.until("the focus stays", "document.activeElement === document.querySelector('#map .fold')")
	testkit.Eventually(t, "the page asks again", func() bool { return s.answered("200 GET "+s.url+"/routes") >= asked+2 })
	s.until("it stays so while the page asks again", boxes(4+n)+" && document.activeElement === document.querySelector('#map .fold')")
	s.click(fold)
	s.until("it folds", boxes(4))

	eval[bool](s.tab, "(document.getElementById('filter').focus(), true)")
	s.do("filter", chromedp.KeyEvent("service-42"))
	s.until("one route is left, and what it leads to", boxes(1)+" && document.querySelectorAll('#map .upstreams .node').length === 1 && one('#map .routes h2').innerText === 'Routes 1 of 200'")
	s.do("load it anew", chromedp.Reload())
	s.until("the filter is there still", "document.getElementById('filter').value === 'service-42' && "+boxes(1))
	eval[string](s.tab, "location.hash = '#/plugins'")
	s.until("it has a filter of its own", "document.getElementById('filter').value === '' && document.title.startsWith('2 not well – Plugins')")
	s.do("back", chromedp.NavigateBack())
	s.until("the map has the filter that it had", "document.getElementById('filter').value === 'service-42'")
	eval[bool](s.tab, "(document.getElementById('filter').focus(), true)")
	s.do("Escape", chromedp.KeyEvent(kb.Escape))
	s.until("all is shown", boxes(4))

	s.click("gate")
	s.until("only what goes through the plugin", "one('.chip').innerText.startsWith('Only ways through plugin gate.') && document.querySelectorAll('#map .upstreams .node').length === 1")
	s.picture("map-through")
	s.click("Show everything")
	s.until("all is shown", boxes(4))
	s.until("the focus goes back", "called(document.activeElement) === 'gate'")
	s.quiet()
}

// change presses a button, and the one that says so in the dialog; it returns what the dialog says, and what was asked for.
func (s *stage) change(button, act string) (says, asked string) {
	s.Helper()
	s.click(button)
	says = eval[string](s.tab, "dialog().innerText")
	s.click(act)
	select {
	case asked = <-s.asked:
	case <-time.After(patienceOfUsers):
		s.Fatalf("%s: nothing was asked for", button)
	}
	return says, asked
}

// TestViewsAskBeforeTheyChange: connections are closed, and modules go back, after a question that says what will happen.
func TestViewsAskBeforeTheyChange(t *testing.T) {
	s := startStage(t)
	s.show("connections?q=%23101", "document.querySelectorAll('#connections .conns > li').length === 1")
	s.click("Close connection #101")
	if focused := eval[string](s.tab, "document.activeElement.labels?.[0]?.innerText.trim() ?? ''"); focused != "Do not wait for its request: cut it off" {
		t.Errorf("%q has the focus", focused)
	}
	s.do("Space", chromedp.KeyEvent(" "))
	s.until("it says what will be", "one('.warning').innerText.includes('fails, or is sent again')")
	s.picture("view-connection-dialog")
	s.click("Close")
	if got := <-s.asked; got != "DELETE /connections/101?now=true" {
		t.Errorf("asked for %q", got)
	}
	s.until("the dialog is closed", "!dialog()")
	for _, c := range []struct{ view, filled, button, act, says, asked string }{
		{"connections?q=%23105", "document.querySelectorAll('#connections .conns > li').length === 1", "Close connection #105", "Close", "It is idle, and is closed at once.", "DELETE /connections/105"},
		{"connections?q=shop", "one('#connections h2')", "Close all connections to 10.0.0.7:8080", "Close all", "To keep requests away from the address, drain its target.", "POST /connections/drain?address=10.0.0.7%3A8080&upstream=shop"},
		{"plugins", stagedViews[5][1], "Roll back gate", "Roll back", "9f8e9f8e9f8e (old.wasm) is called", "POST /plugins/gate/rollback"},
	} {
		s.show(c.view, c.filled)
		says, asked := s.change(c.button, c.act)
		if !strings.Contains(says, c.says) || asked != c.asked {
			t.Errorf("%s says %q, and %q is asked for", c.button, says, asked)
		}
		s.until("the dialog is closed", "!dialog()")
	}
	if eval[bool](s.tab, "Boolean(one('button', 'Roll back tenant'))") {
		t.Error("a plugin without a version before can be rolled back")
	}
	s.until("the rate comes from two readings", "/^[\\d,]+, \\d+ a second$/.test(one('#plugins dd').innerText)")
	s.click("Swap the module of gate")
	s.write("Module", "other.wasm")
	s.until("it says so", "one('.says').innerText.includes('other.wasm is put in the place of')")
	s.click("Swap")
	if got := <-s.asked; got != `POST /plugins/gate/swap {"module":"other.wasm"}` {
		t.Errorf("asked for %q", got)
	}
	s.until("the refusal is shown as text", "one('.error')?.innerText === 'The gateway answered 422: <b>no</b> module'")
	s.click("Cancel")
	s.quiet("422")
}

// TestTheOperatorSignsIn: where a token is wanted, the page asks for it, keeps it for the tab alone, and forgets it when told
// to.
func TestTheOperatorSignsIn(t *testing.T) {
	s := startStage(t)
	s.locked.Store(true)
	s.size(360, 740, 2)
	s.show("plugins", "one('#signin') && document.title.startsWith('Sign in') && !one('#shown') && !one('#trouble')")
	s.fits("the form")
	s.picture("signin")
	for _, token := range []string{"not the right one", goodToken} {
		s.write("Token", token)
		s.do("Enter", chromedp.KeyEvent(kb.Enter))
		if token != goodToken {
			s.until("it is told", "one('#refused')?.innerText === 'The gateway does not accept this token.'")
		}
	}
	s.until("the view is shown", stagedViews[5][1]+" && !one('#signin')")
	if eval[string](s.tab, "JSON.stringify([sessionStorage.length, localStorage.length, document.cookie, location.href.includes('battery')])") != `[1,0,"",false]` {
		t.Error("the token is kept elsewhere")
	}
	s.do("load it anew", chromedp.Reload())
	s.until("the tab knows it still", stagedViews[5][1]+" && !one('#signin')")
	s.click("Sign out")
	s.until("it is forgotten", "one('#signin') && sessionStorage.length === 0 && !document.querySelector('#plugins section')")
	s.quiet("401")
}
