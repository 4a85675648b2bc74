package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

func tester(t testing.TB, config string) *wasmgate.Tester {
	t.Helper()
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const named = `{"origins":["https://app.example.com","https://*.example.org","https://*.deep.example.net:8443","http://localhost:*","http://[::1]:*","null"],
	"methods":["GET","PUT"],"headers":["content-type","x-custom"],"expose":["x-total","etag"],"max_age":"1h"}`

func TestOrigins(t *testing.T) {
	p := tester(t, named)
	for origin, want := range map[string]bool{
		"https://app.example.com": true, "https://APP.example.com": true, "http://app.example.com": false, "https://app.example.com:8443": false,
		"https://app.example.com.evil.com": false, "https://evil-app.example.com": false, "https://xapp.example.com": false, "app.example.com": false,
		"https://a.example.org": true, "https://a.b.c.example.org": true, "https://example.org": false, "https://.example.org": false, "https://evilexample.org": false,
		"https://a.example.org:444": false, "https://a.example.org.evil.com": false, "https://evil.com/.example.org": false, "https://evil.com#.example.org": false,
		"https://evil.com:80.example.org": false, "https://a@b.example.org": false, "https://aaaaaaaaaaaaaa.b.example.org": true, "https://x.yy.zzz.wwww.vvvvv.uuuuuu.ttttttt.ssssssss.rrrrrrrrr.example.org": true,
		"https://x.deep.example.net:8443": true, "https://deep.example.net:8443": false, "https://x.deep.example.net": false,
		"http://localhost:3000": true, "http://localhost": true, "http://localhost:": true, "http://localhost:3000x": false, "https://localhost:3000": false, "http://[::1]:5173": true,
		"null": true, "": false, "/": false, "://": false, "https://": false, "*": false, "https://*.example.org": false, "\xff": false,
		"https://" + strings.Repeat("a.", 140) + "example.org": true, "https://" + strings.Repeat("a.", 150) + "example.org": false, strings.Repeat("/", 30_000): false,
	} {
		a := p.Response(wasmgate.TestMessage{Headers: []string{"Origin", origin}})
		got := slices.Contains(a.Edits, "set_header access-control-allow-origin: "+origin)
		if got != want || !slices.Contains(a.Edits, "append_header vary: origin") {
			t.Errorf("%.80q: %q", origin, a.Edits)
		}
	}
	if a := p.Response(wasmgate.TestMessage{Headers: []string{"origin", "null", "origin", "null"}}); len(a.Edits) != 1 {
		t.Errorf("two origins: %q", a.Edits)
	}
}

func TestPreflight(t *testing.T) {
	preflight := func(origin string, fields ...string) wasmgate.TestMessage {
		return wasmgate.TestMessage{Method: "OPTIONS", Headers: append([]string{"Origin", origin, "Access-Control-Request-Method", "PUT"}, fields...)}
	}
	const varies = "respond_header vary: origin, access-control-request-method, access-control-request-headers"
	for _, c := range []struct {
		config string
		m      wasmgate.TestMessage
		status int
		want   []string
	}{
		{named, preflight("https://a.example.org", "Access-Control-Request-Headers", "x-other"), 204, []string{varies,
			"respond_header access-control-allow-origin: https://a.example.org", "respond_header access-control-allow-methods: GET, PUT",
			"respond_header access-control-max-age: 3600", "respond_header access-control-allow-headers: content-type, x-custom"}},
		{named, preflight("https://evil.com"), 403, []string{"respond_header content-type: text/plain", varies}},
		{`{"origins":"https://a.example.org","credentials":true,"headers":"*"}`, preflight("https://a.example.org", "Access-Control-Request-Headers", "authorization,x-a"), 204, []string{varies,
			"respond_header access-control-allow-origin: https://a.example.org", "respond_header access-control-allow-methods: GET, HEAD, POST",
			"respond_header access-control-max-age: 300", "respond_header access-control-allow-credentials: true", "respond_header access-control-allow-headers: authorization,x-a"}},
		{`{"origins":"*"}`, preflight("https://anywhere.com", "Access-Control-Request-Headers", "x-a"), 204, []string{varies,
			"respond_header access-control-allow-origin: *", "respond_header access-control-allow-methods: GET, HEAD, POST", "respond_header access-control-max-age: 300"}},
		{`{"origins":"*","headers":["*","x-a"]}`, preflight("https://anywhere.com", "Access-Control-Request-Headers", strings.Repeat("x", 10_000)), 204, []string{varies,
			"respond_header access-control-allow-origin: *", "respond_header access-control-allow-methods: GET, HEAD, POST", "respond_header access-control-max-age: 300",
			"respond_header access-control-allow-headers: x-a"}},
	} {
		a := tester(t, c.config).Request(c.m)
		if a.Decision != "respond" || a.Status != c.status || !slices.Equal(a.Edits, c.want) {
			t.Errorf("%s: %d %q", c.config, a.Status, a.Edits)
		}
	}
	p := tester(t, named)
	for _, m := range []wasmgate.TestMessage{
		{Method: "OPTIONS", Headers: []string{"Origin", "https://evil.com"}},
		{Method: "OPTIONS", Headers: []string{"Access-Control-Request-Method", "GET"}},
		{Method: "GET", Headers: []string{"Origin", "https://evil.com", "Access-Control-Request-Method", "GET"}},
	} {
		if a := p.Request(m); a.Decision != "continue" || len(a.Edits) != 0 {
			t.Errorf("%+v: %+v", m, a)
		}
	}
}

func TestResponse(t *testing.T) {
	app := []string{"Origin", "https://app.example.com"}
	theirs := []string{"Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true"}
	const credentials = `{"origins":["https://app.example.com"],"credentials":true}`
	for _, c := range []struct {
		config          string
		fields, answers []string
		want            string
	}{
		{named, app, nil, "append_header vary: origin|set_header access-control-allow-origin: https://app.example.com|set_header access-control-expose-headers: x-total, etag"},
		{named, app, theirs, "append_header vary: origin|set_header access-control-allow-origin: https://app.example.com|remove_header access-control-allow-credentials|set_header access-control-expose-headers: x-total, etag"},
		{named, nil, theirs, "append_header vary: origin|remove_header access-control-allow-origin|remove_header access-control-allow-credentials"},
		{named, []string{"Origin", "https://evil.com"}, []string{"Vary", "accept", "Vary", "x , ORIGIN"}, ""},
		{named, nil, []string{"Vary", "*"}, ""},
		{named, nil, []string{"Vary", strings.Repeat("a,", 10_000)}, "append_header vary: origin"},
		{credentials, app, theirs, "append_header vary: origin|set_header access-control-allow-origin: https://app.example.com|set_header access-control-allow-credentials: true"},
		{`{"origins":"*","expose":"etag"}`, nil, theirs, "set_header access-control-allow-origin: *|remove_header access-control-allow-credentials|set_header access-control-expose-headers: etag"},
	} {
		a := tester(t, c.config).Response(wasmgate.TestMessage{Status: 500, Headers: c.fields, ResponseHeaders: c.answers})
		if got := strings.Join(a.Edits, "|"); got != c.want {
			t.Errorf("%s %v %.60v:\n%s\n%s", c.config, c.fields, c.answers, got, c.want)
		}
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	for config, want := range map[string]string{
		"":                                                    "config.origins is missing",
		`{"origins":[]}`:                                      "config.origins is missing",
		`{"origin":"*"}`:                                      "config.origin: there is no such key; the keys are credentials, expose, headers, max_age, methods, origins",
		`{"origins":"app.example.com"}`:                       `config.origins: "app.example.com" is not an origin`,
		`{"origins":["*","https://a/"]}`:                      `config.origins[1]: "https://a/" is not an origin`,
		`{"origins":"https://a?b"}`:                           "is not an origin",
		`{"origins":"https://ä"}`:                             "is not an origin",
		`{"origins":"https://a:b"}`:                           "has a port that is none",
		`{"origins":"https://a:99999"}`:                       "has a port that is none",
		`{"origins":"https://a:443"}`:                         "names the port that goes without saying",
		`{"origins":"https://a*.b.com"}`:                      "has a * that is not for whole labels",
		`{"origins":"https://*.*.com"}`:                       "has a * that is not for whole labels",
		`{"origins":"https://*"}`:                             "has a * that is not for whole labels",
		`{"origins":"https://*.com"}`:                         "would let in all of a top-level domain",
		`{"origins":"http://*.a.b:*"}`:                        "has * for both",
		`{"origins":"*","credentials":true}`:                  `config.origins: "*" with credentials`,
		`{"origins":["null","https://a"],"credentials":true}`: `config.origins: "null" with credentials`,
		`{"origins":"*","methods":["GET","*"]}`:               `config.methods[1]: "*" is not a name`,
		`{"origins":"*","headers":"a b"}`:                     `config.headers: "a b" is not a name`,
		`{"origins":"*","max_age":"2d"}`:                      `config.max_age: "2d" is not from 0s to 24h0m0s`,
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// many is a configuration with n origins, half of them with subdomains.
func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"origins":["http://localhost:*"`)
	for i := range n / 2 {
		fmt.Fprintf(&b, `,"https://app-%d.example.com","https://*.tenant-%d.example.com"`, i, i)
	}
	b.WriteString("]}")
	return b.String()
}

func TestManyOrigins(t *testing.T) {
	p := tester(t, many(10_000))
	for origin, want := range map[string]int{"https://app-4999.example.com": 2, "https://a.tenant-4999.example.com": 2, "https://a.tenant-5000.example.com": 1} {
		if a := p.Response(wasmgate.TestMessage{Headers: []string{"Origin", origin}}); len(a.Edits) != want {
			t.Errorf("%s: %q", origin, a.Edits)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := tester(t, named)
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(20, func() { request(r) })
		return wasmgate.Continue
	})
	wasmgate.HandleResponse(func(r *wasmgate.Response) wasmgate.Decision {
		n += testing.AllocsPerRun(20, func() { response(r) })
		return wasmgate.Continue
	})
	defer wasmgate.Handle(request)
	defer wasmgate.HandleResponse(response)
	m := wasmgate.TestMessage{Method: "OPTIONS", Headers: []string{"Origin", "https://a.b.example.org", "Access-Control-Request-Method", "PUT"}}
	p.Request(m)
	p.Response(m)
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("https://a.b.example.org")
	tester(f, named)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > maxOrigin {
			return
		}
		b := make([]byte, maxOrigin)
		got := lookUp(b[:lower(b, s)])
		low := string(b[:0])
		for _, c := range []byte(s) {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			low += string([]byte{c})
		}
		want := low == "https://app.example.com" || low == "null"
		for _, w := range [][2]string{{"https://", ".example.org"}, {"https://", ".deep.example.net:8443"}} {
			if sub, ok := strings.CutPrefix(low, w[0]); ok {
				if sub, ok = strings.CutSuffix(sub, w[1]); ok && sub != "" && sub[0] != '.' && strings.Trim(sub, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" {
					want = true
				}
			}
		}
		for _, local := range []string{"http://localhost", "http://[::1]"} {
			if port, ok := strings.CutPrefix(low, local); ok && (port == "" || port[0] == ':' && strings.Trim(port[1:], "0123456789") == "") {
				want = true
			}
		}
		if got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}
