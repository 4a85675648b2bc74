package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestTheOperatorSeesTraffic: every view with a gateway that serves real requests: they succeed, fail, are slow and are
// retried; plugins decide, and trap; connections come and go.
func TestTheOperatorSeesTraffic(t *testing.T) {
	need(t, "chromium")
	b := startBackends(t, 2)
	refused := freePort(t)
	p := startPlant(t, fmt.Sprintf(`loops: 2
upstreams:
  web: { targets: %s, retries: { attempts: 2 } }
  dead: { targets: ['http://127.0.0.1:%d'], health: { passive: { failures: 0 } } }
plugins:
  decider: { module: %s, upstreams: [web], config: "upstream web" }
  tenant: { module: %s, upstreams: [web, dead], config: { default: web } }
routes:
  - { name: trap, match: { path_prefix: /trap }, plugins: [decider], upstream: web }
  - { name: tenants, match: { path_prefix: /tenant }, plugins: [tenant] }
  - { name: nobody, match: { path_prefix: /dead }, upstream: dead }
  - { name: ready, match: { path: /ready }, respond: { status: 204 } }
  - { name: everything, upstream: web }
telemetry: { access_log: { output: 'off' }, traces: { endpoint: 'http://127.0.0.1:%d', sample: 1.0 } }
admin: { address: '127.0.0.1:0', jaeger: 'http://jaeger.internal:16686' }
`, targets(b), refused, module(t, conformance), module(t, tenantRouter), refused))
	o := &operator{startBrowser(t), p, b}
	o.size(1440, 900, 1)
	o.traffic()
	o.seesTheMap()
	o.seesConnections()
	o.seesTraces()
	o.seesPlugins()
	o.seesErrors()
	o.asksWhy()
	o.quiet("422") // a module that cannot be used
}

func (o *operator) traffic() {
	o.Helper()
	for range 3 { // first: the sample of what is kept begins with what comes first
		do(o.T, o.p.url("/tenant/x"))
	}
	o.p.who(20, "/")
	for range 3 {
		do(o.T, o.p.url("/trap/x"), "x-cmd", "trap")
		do(o.T, o.p.url("/trap/x"), "x-cmd", "route 0")
		do(o.T, o.p.url("/dead/x?secret=1"))
	}
	do(o.T, o.p.url("/ready"))
}

// look opens a view of the page.
func (o *operator) look(view, what, filled string) {
	o.Helper()
	o.do("open "+view, chromedp.Navigate("http://"+o.p.AdminAddr().String()+"/#/"+view))
	o.until(what, filled)
}

func (o *operator) seesTheMap() {
	o.Helper()
	const node = "(kind, name) => [...document.querySelectorAll('#map .' + kind + ' .node')].find(e => e.firstElementChild.innerText === name)?.innerText ?? ''"
	says := func(kind, name, text string) {
		o.Helper()
		o.until("the map says "+text, fmt.Sprintf("(%s)(%q, %q).includes(%q)", node, kind, name, text))
	}
	o.look("", "the map is what is seen first", "document.querySelectorAll('#map .routes .node').length === 5")
	says("listeners", "test", "http; 33 requests")
	says("routes", "nobody", "/dead/…; 3 requests")
	says("routes", "nobody", "→ dead")
	says("routes", "ready", "→ answered 204")
	says("routes", "everything", "5. everything; 20 requests")
	says("plugins", "tenant", "● well\n\n3 calls")
	says("plugins", "decider", " calls, 3 failures")
	says("upstreams", "web", "● all healthy")
	says("addresses", o.target(0), "● healthy")
	says("addresses", o.target(0), "connection")
	o.until("lines lead from the one to the other", "document.querySelectorAll('#map .lines path').length >= 5 + 2 + 2 + 3")
	o.picture("live-map")
	o.click("tenant")
	o.until("only the way through it", "document.querySelectorAll('#map .routes .node').length === 1")
	o.scheme("dark")
	o.size(360, 740, 2)
	o.fits("the map")
	o.picture("live-map-phone")
	o.click("Show everything")
	o.scheme("light")
	o.size(1440, 900, 1)
}

func (o *operator) seesConnections() {
	o.Helper()
	o.look("connections", "there are connections", "document.querySelectorAll('#connections .conns > li').length >= 2")
	o.until("with their lives", "/opening .*in requests .*idle until now/s.test(one('#connections .legend').innerText) && /opened .* ago: first/.test(one('#connections .why').innerText)")
	o.until("as bars that add up", "Math.abs([...one('#connections .bar').children].reduce((n, e) => n + Number(e.style.flexGrow), 0) - 1) < 0.01")
	o.picture("live-connections")
	before := eval[int](o.tab, "document.querySelectorAll('#connections .conns > li').length")
	id := eval[string](o.tab, "one('#connections .line strong').innerText")
	o.click("Close connection " + id)
	o.click("Close")
	o.until("it is gone", fmt.Sprintf("!dialog() && document.querySelectorAll('#connections .conns > li').length === %d", before-1))
	o.look("connections?q=%23"+id[1:], "a link to one that was closed finds it, with why", fmt.Sprintf("one('#connections .phase')?.innerText === '✕ closed: operator' && one('#connections strong').innerText === %q && !one('#connections button')", id))
	o.look("connections?choice=closed&q=refused", "those that could not be opened say why", "one('#connections .wrong')?.innerText.includes('refused') && one('#connections .phase').innerText === '✕ closed: connect failed'")
	o.picture("live-closed")
}

func (o *operator) seesTraces() {
	o.Helper()
	o.look("traces?q=%2Fdead", "failed requests were kept", "document.querySelectorAll('#traces .rows > li').length === 3")
	o.until("with what happened", "one('#traces .rows li').innerText.match(/^\\d+:\\d+:\\d+\\s+✕ 50[23]\\s+GET .*\\/dead\\/x\\s/) && one('#traces .wrong').innerText.includes('refused') && !document.body.innerText.includes('secret')")
	eval[bool](o.tab, "(one('#traces a').click(), true)")
	o.until("one is a waterfall", "document.querySelectorAll('.view.trace .span').length >= 3")
	o.until("with the server's span and the attempt's, where they were in time", `(([a, b]) => a.name.startsWith('GET nobody') && b.name.startsWith('GET dead') && b.left >= a.left && b.right <= a.right + 1)(
		[...document.querySelectorAll('.span[data-kind=server], .span[data-kind=attempt]')].map(e => ({ name: e.querySelector('.name .text').innerText, left: e.querySelector('.bar').getBoundingClientRect().left, right: e.querySelector('.bar').getBoundingClientRect().right })))`)
	o.until("with the way to Jaeger", "one('a', 'Open it ↗').href === 'http://jaeger.internal:16686/trace/' + location.hash.split('/').pop()")
	eval[bool](o.tab, "(document.querySelectorAll('.span summary').forEach(e => e.click()), true)")
	o.until("all that is known is told", "one('.view.trace').innerText.includes('error.type') && one('.view.trace').innerText.includes('attempt.begun')")
	o.picture("live-trace")
	o.look("traces?choice=sample&q=tenants", "a plugin's call is in the trace of the sample", "document.querySelectorAll('#traces .rows > li').length >= 1")
	eval[bool](o.tab, "(one('#traces a').click(), true)")
	o.until("with its fuel", "one('.span[data-kind=plugin] summary') && [...document.querySelectorAll('.span[data-kind=plugin] dt')].some(e => e.textContent === 'wasmgate.plugin.fuel')")
	o.until("and leads to its connection", "[...document.querySelectorAll('.view.trace a')].some(a => a.hash.startsWith('#/connections?q=%23'))")
	o.do("back", chromedp.NavigateBack())
	o.until("the list is what it was", "document.querySelectorAll('#traces .rows > li').length >= 1 && document.getElementById('choice').value === 'sample'")
}

func (o *operator) seesPlugins() {
	o.Helper()
	o.look("plugins", "both plugins", "document.querySelectorAll('#plugins section').length === 2")
	o.until("with figures and errors", "one('#plugins .errors').innerText.includes('unreachable') && /Failures\\s+3 plugin trap/.test(one('#plugins').innerText) && !one('button', 'Roll back tenant')")
	o.click("Swap the module of tenant")
	o.write("Module", module(o.T, conformance)) // which does not know tenants
	o.click("Swap")
	o.until("it is refused, with why", "one('.error')?.innerText.startsWith('The gateway answered 422: plugins.tenant.config')")
	original, err := os.ReadFile(module(o.T, tenantRouter))
	if err != nil {
		o.Fatal(err)
	}
	other := filepath.Join(o.TempDir(), "other.wasm")
	if err := os.WriteFile(other, append(original, 0, 2, 1, 'x'), 0o600); err != nil { // with an empty section of its own
		o.Fatal(err)
	}
	o.write("Module", other)
	o.click("Swap")
	o.until("it is swapped, and marked", "!dialog() && [...document.querySelectorAll('#plugins section')][1].innerText.includes('differs from the file')")
	o.picture("live-plugins")
	o.click("Roll back tenant")
	o.click("Roll back")
	o.until("it is what it was", "!dialog() && [...document.querySelectorAll('#plugins section')][1].innerText.includes('tenant-router.wasm')")
	if _, body := do(o.T, o.p.url("/tenant/x")); !strings.HasPrefix(body, "b") {
		o.Errorf("after the roll back: %q", body)
	}
	o.look("changes", "who did what", "document.querySelectorAll('#changes .rows > li').length === 4 && one('#changes .rows').innerText.includes('rollBackPlugin') && one('#changes .rows').innerText.includes('closeConnection')")
	o.picture("live-changes")
}

func (o *operator) seesErrors() {
	o.Helper()
	o.look("errors?q=plugin", "traps", "document.querySelectorAll('#errors .rows > li').length >= 3 && one('#errors').innerText.includes('decider')")
	o.look("errors?q=dead+request", "requests that nobody answered", "document.querySelectorAll('#errors .rows > li').length >= 3")
	o.picture("live-errors")
	eval[bool](o.tab, "([...document.querySelectorAll('#errors a')].find(a => a.hash.startsWith('#/traces/')).click(), true)")
	o.until("lead to their traces", "document.querySelectorAll('.view.trace .span').length >= 3")
}

// asksWhy asks what would become of a request.
func (o *operator) asksWhy() {
	o.Helper()
	o.look("explain", "the form knows the listeners", "one('button', 'Explain') && [...document.querySelector('select[name=listener]').options].some(e => e.value === 'test')")
	o.write("URL", "/dead/x")
	o.click("Explain")
	o.until("it is answered", "one('#explain .outcome h2')?.innerText.startsWith('→ It is forwarded to dead')")
	o.until("with the way that it would go", "one('#explain .steps').innerText.includes('● nobody matches') && one('#explain .members').innerText.includes('● chosen')")
	for _, width := range []int64{360, 1440} {
		o.size(width, 800, 1)
		o.fits("the explanation")
		o.picture(fmt.Sprintf("live-explain-%d", width))
	}
	o.write("URL", "/ready")
	o.click("Explain")
	o.until("another one is answered by the gateway", "one('#explain .outcome h2')?.innerText.startsWith('↩ It is answered by the gateway itself: HTTP/1.1 204')")
}
