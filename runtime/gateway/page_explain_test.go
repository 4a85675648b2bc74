package gateway_test

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestExplainSaysThatItIsNotThere: with an endpoint that does not have it; what is written into the form stays.
func TestExplainSaysThatItIsNotThere(t *testing.T) {
	s := startStage(t)
	s.show("explain", stagedViews[4][1])
	s.write("URL", "/users?x=1")
	s.write("Fields", "host: shop.example")
	s.click("Explain")
	if got := <-s.asked; got != `POST /explain {"method":"GET","url":"/users?x=1","fields":[{"name":"host","value":"shop.example"}]}` {
		t.Errorf("asked for %s", got)
	}
	s.until("it says so", "one('.error')?.innerText === 'This gateway cannot explain requests.'")
	eval[string](s.tab, "location.hash = '#/errors'")
	s.until("another view", stagedViews[6][1])
	s.do("back", chromedp.NavigateBack())
	s.until("what was written is there still", "one('label', 'URL') && field('URL').value === '/users?x=1'")
	s.write("Fields", "host")
	s.click("Explain")
	s.until("a mistake is told", "one('.error')?.innerText === 'A field is name: value, and this is not: host'")
	s.quiet("404")
}

// TestExplainTellsTheWay: an explanation is told step by step, up to what the upstream gets, as text and on every screen.
func TestExplainTellsTheWay(t *testing.T) {
	explanation, err := os.ReadFile("testdata/explanation.json")
	if err != nil {
		t.Fatal(err)
	}
	s := startStage(t)
	s.explanation = explanation
	s.show("explain", stagedViews[4][1])
	s.write("URL", "http://shop.example/app/cart?x=1")
	s.write("Fields", "x-tenant: acme")
	s.do("Enter", chromedp.KeyEvent("\t\t\r")) // over what is folded, to the button
	if got := <-s.asked; got != `POST /explain {"method":"GET","url":"http://shop.example/app/cart?x=1","fields":[{"name":"x-tenant","value":"acme"}]}` {
		t.Errorf("asked for %s", got)
	}
	s.until("the outcome comes first", "one('.outcome h2')?.innerText === '→ It is forwarded to other at 127.0.0.1:7802'")
	text := eval[string](s.tab, "one('#explain .result').innerText")
	for _, want := range []string{
		"2 routes do not match", "health – path: wants /healthz, has /app/cart", "beta – headers x-beta: wants yes, has <img", "● tenants matches wasmgate.yaml:14:5",
		"Plugin tenant (route, request): route", "x-tenant-id: acme", "GET /who of other: not sent", "plugin tenant chose it", "● chosen 127.0.0.1:7802",
		"– passed over 10.0.0.9:80 of down.internal:80, drain, ejected (5 requests in a row failed)", "retries.on", "connect, reset", "GET /cart?x=1 HTTP/1.1", "Calls of plugins were not sent.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told in\n%s", want, text)
		}
	}
	s.until("nothing is markup", "!document.querySelector('main img') && !/undefined|NaN|\\[object|null/.test(one('.result').innerText)")
	for _, width := range []int64{1440, 700, 360} {
		s.size(width, 800, 1)
		s.fits("the explanation")
	}
	s.picture("view-explanation-phone")
	s.size(1440, 900, 1)
	s.readable("the explanation")
	s.picture("view-explanation")
	s.quiet()
}
