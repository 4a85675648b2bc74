package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"wasmgate/runtime/admin/page"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// operator is somebody who looks at the admin endpoint's page with a browser.
type operator struct {
	*tab
	p *plant
	b []*backend
}

// TestTheOperatorsPage shows the row "balancer-manager": an operator takes a target out of use, gives it another weight, adds
// one and removes it, in a browser, and the traffic follows; sees what is not healthy and why; and nobody else's page can
// do any of it.
func TestTheOperatorsPage(t *testing.T) {
	need(t, "chromium")
	b := startBackends(t, 5)
	names := dnstest.New(t)
	names.Set("users.internal", time.Minute, b[3].ip(), b[4].ip())
	p := startPlant(t, fmt.Sprintf(`loops: 2
upstreams:
  web: { targets: %s, health: { passive: { failures: 2, eject_for: 60s } } }
  users: { targets: ['http://users.internal:%d'], dns: { server: '%s' } }
routes: [{ match: { path_prefix: /users }, upstream: users }, { upstream: web }]
`, targets(b[:2]), b[3].port(), names.Addr()))
	o := &operator{startBrowser(t), p, b}
	o.size(1440, 900, 1)
	o.do("open the page", chromedp.Navigate("http://"+p.AdminAddr().String()+"/#/upstreams"))
	p.who(20, "/users")

	o.seesBothHealthy()
	o.drainsOne()
	o.changesAWeight()
	o.addsAndRemoves()
	o.lookedAtFromElsewhere()
	o.usesTheKeyboard()
	o.isOnThePhone()
	o.quiet("400") // a target that is none was refused
	o.seesOneFail()
	o.isTold()
}

// target is a backend as the page names it.
func (o *operator) target(i int) string { return o.b[i].addr }

func (o *operator) seesBothHealthy() {
	o.Helper()
	for i := range 2 {
		o.until("it is healthy", fmt.Sprintf("cell(%q, 'health').trim() === '● healthy' && cell(%q, 'state').trim() === 'active'", o.target(i), o.target(i)))
	}
	users := fmt.Sprintf("users.internal:%d", o.b[3].port())
	o.until("a name has a row for each address", fmt.Sprintf("row(%q)?.rows.length === 2 && row(%q).innerText.includes(%q) && cell(%q, 'dns').includes('old')", users, users, o.target(4), users))
	o.until("the page says that all is well", "document.getElementById('live').textContent === 'Live: 2 upstreams, 4 addresses, all healthy.'")
	o.p.only("at first", o.p.who(20, "/"), "b1", "b2")
	o.quiet()
}

func (o *operator) drainsOne() {
	o.Helper()
	o.until("the page knows of its connection", fmt.Sprintf("cell(%q, 'open').trim() === '1 / 1'", o.target(0)))
	o.click("Drain " + o.target(0))
	said := eval[string](o.tab, "dialog().innerText")
	for _, want := range []string{"Drain " + o.target(0) + "?", o.target(0) + " of upstream web gets no new requests", "Sessions that name it stay", "Its connection stays open for the sessions", "until the gateway is restarted"} {
		if !strings.Contains(said, want) {
			o.Errorf("the dialog does not say %q: %s", want, said)
		}
	}
	if focused := eval[string](o.tab, "called(document.activeElement)"); focused != "Cancel" {
		o.Errorf("%s has the focus, and not Cancel", focused)
	}
	o.picture("dialog")
	o.do("Escape", chromedp.KeyEvent(kb.Escape))
	o.until("the dialog is closed", "!dialog()")
	if focused := eval[string](o.tab, "called(document.activeElement)"); focused != "Drain "+o.target(0) {
		o.Errorf("after Escape, %s has the focus", focused)
	}
	o.p.only("nothing was done", o.p.who(20, "/"), "b1", "b2")
	o.update("0") // so that it is the answer to the change that is shown
	o.click("Drain " + o.target(0))
	o.click("Drain")
	o.until("the row says so when the dialog closes", fmt.Sprintf("!dialog() && cell(%q, 'state').trim() === 'draining'", o.target(0)))
	o.p.only("b1 is drained", o.p.who(20, "/"), "b2")
	o.update("2000")
	o.click("Disable " + o.target(1))
	if said := eval[string](o.tab, "one('.warning').innerText"); !strings.Contains(said, "No other target of web can serve") {
		o.Errorf("it is the last one, and the dialog says %q", said)
	}
	o.click("Cancel")
	o.click("Activate " + o.target(0))
	o.click("Activate")
	o.until("it is active", fmt.Sprintf("cell(%q, 'state').trim() === 'active'", o.target(0)))
	o.p.only("b1 is back", o.p.who(20, "/"), "b1", "b2")
}

// update chooses how often the page asks, in milliseconds; 0: it does not.
func (o *operator) update(every string) {
	o.Helper()
	eval[bool](o.tab, fmt.Sprintf("(e => { e.value = %q; return e.dispatchEvent(new Event('change')); })(document.getElementById('every'))", every))
	begin := map[bool]string{true: "Not updated: ", false: "Live: "}[every == "0"]
	o.until("the page says so", fmt.Sprintf("document.getElementById('live').textContent.startsWith(%q)", begin))
}

func (o *operator) changesAWeight() {
	o.Helper()
	o.click("Change weight, tier or state of " + o.target(0))
	if focused := eval[string](o.tab, "called(document.activeElement.labels[0])"); focused != "Weight" {
		o.Errorf("%s has the focus, and not the weight", focused)
	}
	if !eval[bool](o.tab, "one('button', 'Change').disabled") {
		o.Error("nothing is different yet, and can be sent")
	}
	o.write("Weight", "3")
	o.until("it says what will be", "one('.says').innerText.includes('weight from 1 to 3')")
	o.click("Change")
	o.until("the row says so", fmt.Sprintf("!dialog() && [...row(%q).querySelectorAll('.number')][0].innerText.trim() === '3' && row(%q).innerText.includes('differs from the file')", o.target(0), o.target(0)))
	if by := o.p.who(400, "/"); by["b1"] < 290 || by["b1"] > 310 {
		o.Errorf("weight 3 against 1: %v", by)
	}
}

func (o *operator) addsAndRemoves() {
	o.Helper()
	o.click("Add a target to web")
	o.write("URL", "<img src=x onerror=alert(1)>")
	o.click("Add")
	o.until("the error is shown, as text", "one('.error')?.innerText.startsWith('The gateway answered 400')")
	if eval[bool](o.tab, "document.querySelector('img') !== null") {
		o.Error("text became markup")
	}
	o.write("URL", "http://"+o.target(2))
	o.click("Add")
	o.until("it has a row", fmt.Sprintf("!dialog() && row(%q)?.innerText.includes('added live')", o.target(2)))
	o.p.only("b3 was added", o.p.who(40, "/"), "b1", "b2", "b3")
	o.scenery()
	o.click("Remove " + o.target(2))
	o.click("Remove")
	o.until("its row is gone", fmt.Sprintf("!dialog() && !row(%q)", o.target(2)))
	o.until("the focus is not gone with the row", "document.activeElement.tagName !== 'BODY'")
	o.p.only("b3 was removed", o.p.who(40, "/"), "b1", "b2")
}

// scenery is the page as it looks in use.
func (o *operator) scenery() {
	o.Helper()
	for _, scheme := range []string{"light", "dark"} {
		o.scheme(scheme)
		o.picture(scheme)
	}
	o.size(1000, 900, 1)
	o.fits("the page")
	o.picture("tablet")
	o.scheme("light")
	o.size(1440, 900, 1)
}

// foreign is a page that tries what it can to change something at the endpoint, and then has what became of it as its
// title.
const foreign = `<!doctype html><title></title><link rel="icon" href="data:,">
<iframe name="sink"></iframe>
<form method="post" enctype="text/plain" target="sink" action="%[1]s/upstreams/web/targets"><input name='{"url":"http://127.0.0.1:1","weight":1}'></form>
<script type="module">
const list = '%[1]s/upstreams/web/targets', one = list + '/%[2]s', body = '{"url":"http://127.0.0.1:1"}', json = { 'Content-Type': 'application/json' };
const tries = await Promise.allSettled([
  fetch('%[1]s/upstreams').then(a => a.text()),
  fetch(list, { method: 'POST', mode: 'no-cors', body }).then(a => a.type === 'opaque' && Promise.reject()),
  fetch(list, { method: 'POST', headers: json, body }),
  fetch(one, { method: 'PATCH', headers: json, body: '{"state":"disabled"}' }),
  fetch(one, { method: 'DELETE' }),
]);
const sink = document.querySelector('iframe');
sink.onload = () => document.title = tries.map(t => t.status).join(' ');
document.querySelector('form').submit();
</script>`

// lookedAtFromElsewhere: what a page of another origin can do, of the same machine or not.
func (o *operator) lookedAtFromElsewhere() {
	o.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, foreign, "http://"+o.p.AdminAddr().String(), o.target(0))
	}))
	defer server.Close()
	before := o.p.upstream("web")
	for _, origin := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)} {
		evil := o.another()
		evil.do("open another page", chromedp.Navigate(origin))
		evil.until("it has tried everything", "document.title !== ''")
		if got := eval[string](evil, "document.title"); got != strings.TrimSpace(strings.Repeat("rejected ", 5)) {
			o.Errorf("a page of %s: %s", origin, got)
		}
		// A simple fetch and a form reach the endpoint, and are refused there.
		if n := evil.answered("403 POST http://" + o.p.AdminAddr().String()); n != 2 {
			o.Errorf("a page of %s: %d requests were refused: %q", origin, n, evil.answers)
		}
		if n := evil.answered("200 POST http://"+o.p.AdminAddr().String()) + evil.answered("201 "); n != 0 {
			o.Errorf("a page of %s: %q", origin, evil.answers)
		}
	}
	after := o.p.upstream("web")
	for i, m := range after.Members {
		if len(after.Members) != len(before.Members) || m.State != before.Members[i].State || m.Target != before.Members[i].Target || m.Weight != before.Members[i].Weight {
			o.Errorf("it was %+v and is %+v", before, after)
		}
	}
}

// usesTheKeyboard: everything is reached by Tab, in the order in which it is read, and is seen to have the focus.
func (o *operator) usesTheKeyboard() {
	o.Helper()
	o.do("open the page anew", chromedp.Reload())
	o.until("it is filled", "document.querySelectorAll('#upstreams tbody').length === 3")
	want := eval[[]string](o.tab, "[...document.querySelectorAll('a[href], input, select, button')].filter(shown).map(e => e.id || called(e))")
	if len(want) < 8+3+2+3*3 {
		o.Errorf("there is only %q", want)
	}
	for _, name := range want {
		o.do("Tab", chromedp.KeyEvent(kb.Tab))
		if got := eval[string](o.tab, "document.activeElement.id || called(document.activeElement)"); got != name {
			o.Fatalf("Tab leads to %s; next is %s of %q", got, name, want)
		}
		if !eval[bool](o.tab, "(s => s.outlineStyle === 'solid' && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))") {
			o.Errorf("%s has the focus, and nobody sees it", name)
		}
	}
	unnamed := eval[[]string](o.tab, "[...document.querySelectorAll('input, select, button')].filter(e => !(e.labels?.length || called(e))).map(e => e.outerHTML)")
	if len(unnamed) > 0 {
		o.Errorf("without a name: %q", unnamed)
	}
}

// isOnThePhone: rows are cards, and nothing is wider than the screen, dialogs included.
func (o *operator) isOnThePhone() {
	o.Helper()
	o.size(360, 740, 2)
	o.fits("the page")
	o.picture("phone")
	o.click("Change weight, tier or state of " + o.target(1))
	o.fits("the dialog")
	o.picture("phone-dialog")
	o.click("Cancel")
	o.size(1440, 900, 1)
}

// seesOneFail: a backend ends, and the page says so, and why.
func (o *operator) seesOneFail() {
	o.Helper()
	o.b[1].stop()
	testkit.Eventually(o, "it is ejected", func() bool { o.p.who(4, "/"); return o.p.member("web", o.b[1]).Health == "ejected" })
	o.until("the page says so, and why", fmt.Sprintf("cell(%q, 'health').startsWith('▲ ejected') && cell(%q, 'health').includes('in a row')", o.target(1), o.target(1)))
	o.until("the page says so above", "document.getElementById('live').textContent.endsWith(', 1 not healthy.') && document.title.startsWith('1 not healthy')")
	eval[bool](o.tab, "(document.getElementById('only').click(), true)")
	o.until("only it is shown", fmt.Sprintf("document.querySelectorAll('#upstreams tbody').length === 1 && row(%q)", o.target(1)))
	eval[bool](o.tab, "(document.getElementById('only').click(), true)")
	eval[bool](o.tab, "(document.getElementById('filter').focus(), true)")
	o.do("filter", chromedp.KeyEvent("USERS active"))
	o.until("what fits is shown", "document.querySelectorAll('#upstreams tbody').length === 1 && document.querySelector('#upstreams h2').textContent === 'users'")
	o.do("filter", chromedp.KeyEvent(" nobody"))
	o.until("nothing fits", "one('#nothing')?.textContent === 'Nothing fits the filter.'")
	o.do("Escape", chromedp.KeyEvent(kb.Escape)) // clears a search field
	o.until("everything is shown", "document.querySelectorAll('#upstreams tbody').length === 3")
	o.quiet()
}

// isTold: the gateway ends, and the page does not go on as if nothing had happened.
func (o *operator) isTold() {
	o.Helper()
	o.p.Close()
	o.until("the page says so", "one('#trouble')?.textContent.startsWith('The gateway cannot be reached since ') && one('#trouble').textContent.includes('What is shown is old: it is from ')")
	o.until("nothing else is said", "document.getElementById('live').textContent === '' && document.title.startsWith('Not reached')")
	o.click("Drain " + o.target(0))
	o.click("Drain")
	o.until("an error is shown in the dialog", "one('.error')?.innerText === 'The gateway cannot be reached.'")
	o.click("Cancel")
	o.picture("unreachable")
	o.quiet("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
	o.Logf("the page asked %s times", strconv.Itoa(o.answered("200 GET http://"+o.p.AdminAddr().String()+"/upstreams")))
}

// strange are upstreams as nobody hopes to see them.
const strange = `[{
  "name": "<script>alert(1)</script>", "connections_open": 1024, "connections_idle": 3, "requests_waiting": 211, "breaker_open": true, "retries_left": 0,
  "members": [{ "target": "%[1]s.internal:65535", "address": "", "weight": 1000, "tier": 100, "state": "standby", "health": "unknown", "why": "no answer from DNS yet", "requests_active": 0, "connections_open": 0, "connections_idle": 0, "share": 1 }]
}, {
  "name": "%[1]s", "connections_open": 1, "connections_idle": 0, "requests_waiting": 0, "breaker_open": false, "retries_left": 1,
  "members": [
    { "target": "../..?#\"'>:80", "address": "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "weight": 7, "tier": 0, "state": "drain", "differs_from_config": true, "health": "unhealthy",
      "why": "<img src=x onerror=alert(1)> answered 500 to 3 health checks", "share": 0, "requests_active": 12345, "connections_open": 12345, "connections_idle": 12344,
      "learned_idle_timeout": "1m3.214s", "learned_from": "keep-alive field", "dns_age": "27h46m40.123s", "dns_doubt": "SERVFAIL from 10.0.0.2:53, the last good answer stays" },
    { "target": "../..?#\"'>:80", "address": "10.0.0.7:80", "weight": 7, "tier": 0, "state": "drain", "health": "recovering", "why": "on trial", "requests_active": 0, "connections_open": 0, "connections_idle": 0, "share": 0.05, "learned_idle_timeout": "4.96s", "learned_from": "observed", "dns_age": "812.5ms" },
    { "target": "../..?#\"'>:80", "address": "10.0.0.8:80", "weight": 7, "tier": 0, "state": "drain", "health": "left", "why": "DNS no longer gives its address", "requests_active": 0, "connections_open": 0, "connections_idle": 0, "share": 0 },
    { "target": "constructor", "address": "10.0.0.9:80", "weight": 1, "tier": 0, "state": "disabled", "added": true, "health": "healthy", "requests_active": 0, "connections_open": 0, "connections_idle": 0, "share": 1 }
  ]
}, { "name": "empty", "connections_open": 0, "connections_idle": 0, "requests_waiting": 0, "breaker_open": false, "retries_left": 10, "members": [] }]`

// TestTheOperatorsPageBearsAnything: names and reasons with markup in them, of any length, are text and fit on a phone; what
// they name is what is asked for.
func TestTheOperatorsPageBearsAnything(t *testing.T) {
	asked := make(chan string, 8)
	mux := http.NewServeMux()
	mux.Handle("/", page.Handler())
	mux.HandleFunc("GET /upstreams", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, strange, strings.Repeat("a-long-name-", 20))
	})
	mux.HandleFunc("PATCH /upstreams/{name}/targets/{target}", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.PathValue("name") + " " + r.PathValue("target")
		http.Error(w, "<b>no</b>", http.StatusConflict)
	})
	need(t, "chromium")
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b := startBrowser(t)
	b.size(1440, 900, 1)
	b.do("open the page", chromedp.Navigate(server.URL+"/#/upstreams"))
	b.until("it is filled", "document.querySelectorAll('#upstreams tbody').length === 3 && document.querySelectorAll('#upstreams section').length === 3")
	for what, is := range map[string]string{
		"the breaker":         "one('.counts .bad').textContent.includes('Breaker open')",
		"no answer of DNS":    "one('tbody').innerText.includes('not known yet')",
		"age of the answer":   `cell("../..?#\"'>:80", 'dns').startsWith('27 h 46 min 40 s old')`,
		"doubt":               `cell("../..?#\"'>:80", 'dns').includes('⚠ SERVFAIL')`,
		"nothing is left out": "!document.body.innerText.includes('undefined') && !document.body.innerText.includes('NaN')",
		"learned":             `cell("../..?#\"'>:80", 'learned').startsWith('1 min 3 s')`,
		"nothing is markup":   "!document.querySelector('main img, main script, main b')",
		"who is not well":     "document.getElementById('live').textContent === 'Live: 3 upstreams, 5 addresses, 3 not healthy.'",
		"one without targets": "document.querySelectorAll('#upstreams section')[2].innerText.includes('It has no targets.')",
	} {
		b.until(what, is)
	}
	for _, size := range [][2]int64{{1440, 900}, {1280, 900}, {1000, 900}, {360, 740}} {
		b.size(size[0], size[1], 1)
		b.fits("the page")
		b.picture(fmt.Sprintf("strange-%d", size[0]))
	}
	b.click(`Activate ../..?#"'>:80`)
	b.fits("the dialog")
	b.click("Activate")
	b.until("the refusal is shown as text", "one('.error')?.innerText === 'The gateway answered 409: <b>no</b>'")
	if got, want := <-asked, strings.Repeat("a-long-name-", 20)+` ../..?#"'>:80`; got != want {
		t.Errorf("asked for %q, not %q", got, want)
	}
	b.picture("strange-dialog")
	b.click("Cancel")
	b.quiet("409")
}
