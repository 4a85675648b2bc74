package admin

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wasmgate/runtime/explain"
)

const secret = "0123456789abcdef"

// tokens has the endpoint want a token.
func tokens(o *Options) {
	asked := &o.Gateway.(*fake).asked
	o.Explain = func(context.Context, explain.Request) (*explain.Explanation, error) {
		asked.Add(1)
		return &explain.Explanation{}, nil
	}
	o.Access = Access{Tokens: []Token{NewToken("ann", secret), NewToken("ben", "fedcba9876543210")}, OpenHealth: true}
}

func TestATokenIsWanted(t *testing.T) {
	for _, address := range []string{"127.0.0.1:9090", "192.0.2.7:9090", "[::]:9090"} {
		f := setUp(t, address, tokens)
		for _, field := range []string{
			"X: none", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: Bearer " + secret + "x", "Authorization: Bearer " + secret[1:],
			"Authorization: Basic " + secret, "Authorization: " + secret, "Cookie: token=" + secret, "Authorization: Bearer " + secret + " " + secret,
		} {
			for _, op := range operations() {
				if op.access != guarded {
					continue
				}
				target := wildcard.ReplaceAllString(op.path, "users")
				w := f.ask(op.method, target, `{"state": "drain"}`, field)
				if w.Code != 401 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s %s, %s: answered %d", op.method, target, field, w.Code)
				}
			}
		}
		if n := f.gateway.asked.Load() + f.looked.Load(); n != 0 {
			t.Errorf("the gateway was asked %d times", n)
		}
		f.want(f.ask("GET", "/", ""), 200)
		f.want(f.ask("GET", "/page/page.js", ""), 200)
		f.want(f.ask("GET", "/healthz", ""), 200)
		f.missing = []string{"upstream secret: not warm"}
		if w := f.ask("GET", "/readyz", ""); w.Code != 503 || w.Body.String() != "not ready\n" {
			t.Errorf("who has no token is told %q", w.Body)
		}
		f.want(f.ask("GET", "/readyz", "", "Authorization: bearer "+secret), 503, "upstream secret")
		f.want(f.ask("GET", "/version", "", "Authorization: Bearer "+secret, "Host: gateway.internal"), 200, `"you": "ann"`)
		f.want(f.ask("PATCH", one, `{"state": "drain"}`, "Authorization: Bearer fedcba9876543210"), 200, `"drain"`)
		f.want(f.ask("PATCH", one, `{"state": "drain"}`, "Authorization: Bearer "+secret, "Origin: http://evil.test"), 403)
		for _, text := range []string{`"by":"ben"`, `"operation":"changeTarget"`, "refused, without a token"} {
			if !strings.Contains(f.log.String(), text) {
				t.Errorf("%s is not in the log: %s", text, f.log.String())
			}
		}
		if strings.Contains(f.log.String(), secret) {
			t.Error("the token is in the log")
		}
	}
}

func TestHealthIsClosedWhereItShallBe(t *testing.T) {
	f := setUp(t, "192.0.2.7:9090", tokens, func(o *Options) { o.Access.OpenHealth = false })
	f.want(f.ask("GET", "/healthz", ""), 401)
	f.want(f.ask("GET", "/readyz", ""), 401)
	f.want(f.ask("GET", "/healthz", "", "Authorization: Bearer "+secret), 200)
}

func TestACertificateLetsIn(t *testing.T) {
	f := setUp(t, "192.0.2.7:9090", func(o *Options) { o.Access.Certificates = true })
	f.want(f.ask("GET", "/version", ""), 401)
	r := httptest.NewRequest("GET", "/version", nil)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "ann", Organization: []string{"ops"}}}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	f.want(w, 401) // it was not verified
	r.TLS.VerifiedChains = [][]*x509.Certificate{{cert}}
	w = httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	f.want(w, 200, `"you": "CN=ann,O=ops"`)
}

// Nobody is let in by an address off loopback that nothing guards, whatever the config has let through.
func TestNothingIsToldUnguarded(t *testing.T) {
	f := setUp(t, "192.0.2.7:9090")
	f.want(f.ask("GET", "/upstreams", ""), 403, "admin.token")
	f.want(f.ask("GET", "/metrics", ""), 403)
	f.want(f.ask("GET", "/healthz", ""), 200)
	if n := f.gateway.asked.Load() + f.looked.Load(); n != 0 {
		t.Errorf("the gateway was asked %d times", n)
	}
}

func TestPagesOfOthersReadNothing(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/debug/pprof/profile", "", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), 403)
	f.want(f.ask("GET", "/connections", "", "Sec-Fetch-Site: same-site"), 403)
	f.want(f.ask("GET", "/connections", "", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"), 200) // a link that somebody followed
	f.want(f.ask("GET", "/config", "", "Host: evil.test"), 403)
}

// FuzzWithoutToken sends requests to an endpoint that wants a token: without it nothing is read, nothing is changed, nothing
// crashes, and every answer is bounded.
func FuzzWithoutToken(f *testing.F) {
	for _, op := range operations() {
		target := wildcard.ReplaceAllString(op.path, "users")
		f.Add(op.method, target, "", "")
		f.Add(op.method, target+"?limit=1&dry_run=true&address=192.0.2.1", "Authorization: Bearer x\r\nContent-Type: application/json\r\n", `{"state": "drain", "module": "a.wasm", "level": "debug"}`)
		f.Add("POST", target+"/../%2e%2e/..%2f", "Authorization: Bearer\r\nX-HTTP-Method-Override: "+op.method+"\r\n", "")
	}
	fix := setUp(f, "127.0.0.1:9090", tokens)
	f.Fuzz(func(t *testing.T, method, target, fields, body string) {
		raw := method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + fields + "\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		if strings.Contains(fields, secret) || strings.Contains(fields, "fedcba9876543210") {
			return // it has one
		}
		r.Body = http.NoBody
		if body != "" {
			r.Body = readCloser{strings.NewReader(body)}
		}
		w := httptest.NewRecorder()
		fix.handler.ServeHTTP(w, r)
		if n := fix.gateway.asked.Load() + fix.looked.Load(); n != 0 {
			t.Fatalf("%q: the gateway was asked", raw)
		}
		if w.Body.Len() > 256<<10 {
			t.Errorf("%q: an answer of %d bytes", raw, w.Body.Len())
		}
		if w.Code >= 500 {
			t.Errorf("%q: answered %d %s", raw, w.Code, w.Body)
		}
		if h := fix.history(); len(h) != 0 {
			t.Errorf("%q: changes: %v", raw, h)
		}
	})
}

// FuzzWithToken does the same with the token: nothing crashes, and every answer is one that the operation may give.
func FuzzWithToken(f *testing.F) {
	for _, op := range operations() {
		if op.group == groupProcess && strings.HasPrefix(op.path, "/debug") {
			continue // they take long, and are the standard library's
		}
		target := wildcard.ReplaceAllString(op.path, "users")
		f.Add(op.method, target, `{"state": "drain"}`)
		f.Add(op.method, target+"?limit=1&dry_run=true&address=192.0.2.1", `{"module": "a.wasm", "reload": true}`)
		f.Add(op.method, target+"?format=yaml&now=true", `{"level": "debug"}`)
	}
	fix := setUp(f, "127.0.0.1:9090", tokens)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		raw := method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + secret + "\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || strings.HasPrefix(r.URL.Path, "/debug") {
			return
		}
		r.Body = readCloser{strings.NewReader(body)}
		w := httptest.NewRecorder()
		fix.handler.ServeHTTP(w, r)
		if w.Body.Len() > 1<<20 || w.Code >= 500 || w.Code == 401 {
			t.Errorf("%q: answered %d, %d bytes: %.200s", raw, w.Code, w.Body.Len(), w.Body)
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
