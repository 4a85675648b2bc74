package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wasmgate/config"
)

// answerWith is a backend's answer with these fields, each with its end of line.
func answerWith(status int, fields func(*originRequest) string) func(io.Writer, *originRequest) bool {
	return func(w io.Writer, r *originRequest) bool {
		_, err := fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\n%s\r\n", status, http.StatusText(status), fields(r))
		return err == nil
	}
}

// field is the value of a field of a head, "" if it is not there.
func field(head, name string) string {
	m := regexp.MustCompile(`(?im)^` + regexp.QuoteMeta(name) + `: *(.*?)\r?$`).FindStringSubmatch(head)
	if m == nil {
		return ""
	}
	return m[1]
}

// TestAnswersLeadBackToTheGateway: a backend that does not know of the gateway sends clients to itself, and gives them
// cookies for its own name and path; what clients see leads back to the gateway. Apache with ProxyPassReverse and the
// directives for cookies beside it, which must be told the client's name for it. (Row ProxyPassReverse.)
func TestAnswersLeadBackToTheGateway(t *testing.T) {
	fields := func(r *originRequest) string {
		return r.Header.Get("X-Field") + ": " + r.Header.Get("X-Value") + "\r\n"
	}
	o := startOrigin(t, answerWith(302, fields))
	own := o.addr
	const routes = `
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s', { url: 'http://backend.example:%s', state: disabled }], host: %s } }
routes: [{ match: { path_prefix: /app }, rewrite: { strip_prefix: /app, add_prefix: /v2, reverse: %v }, upstream: app }]
`
	_, port, _ := net.SplitHostPort(o.addr)
	reversed := startSite(t, fmt.Sprintf(routes, o.addr, port, "upstream", true))
	preserved := startSite(t, fmt.Sprintf(routes, o.addr, port, "preserve", true))
	untouched := startSite(t, fmt.Sprintf(routes, o.addr, port, "upstream", false))
	apache := httpd(t, "reverse.conf", "BACKEND="+o.addr)
	ask := func(addr, name, value string) string {
		t.Helper()
		return field(run(t, "curl", "-sS", "-I", "-H", "Host: www.example.com", "-H", "X-Field: "+name, "-H", "X-Value: "+value, "http://"+addr+"/app/x"), name)
	}
	for _, c := range []struct{ name, value, want, apache string }{ // apache: where it says something else
		{"Location", "http://OWN/v2/login?a=b#c", "http://www.example.com/app/login?a=b#c", ""},
		{"Location", "/v2/login", "/app/login", "/v2/login"}, // it maps what begins like its second argument,
		{"Location", "http://OWN/elsewhere", "http://OWN/elsewhere", ""},
		{"Location", "http://other.example/v2/login", "http://other.example/v2/login", ""},
		{"Location", "http://OWN.evil.example/v2/login", "http://OWN.evil.example/v2/login", ""},
		{"Location", "/v2x/login", "/v2x/login", ""},
		{"Location", "../relative", "../relative", ""},
		{"Content-Location", "http://OWN/v2/doc", "http://www.example.com/app/doc", ""},
		{"Refresh", "5; url=http://OWN/v2/later", "5; url=http://www.example.com/app/later", "5; url=http://OWN/v2/later"},
		{"URI", "http://OWN/v2/doc", "http://www.example.com/app/doc", ""},
		{"Set-Cookie", "a=1; Path=/v2; HttpOnly", "a=1; Path=/app; HttpOnly", ""},
		{"Set-Cookie", "a=1; Domain=backend.example; Path=/v2/cart", "a=1; Domain=www.example.com; Path=/app/cart", "a=1; Domain=www.example.com; Path=/app"}, // it loses the rest of the path
		{"Set-Cookie", "a=1; Domain=other.example; Path=/else", "a=1; Domain=other.example; Path=/else", ""},
		{"Set-Cookie", "__Host-a=1; Path=/; Secure", "__Host-a=1; Path=/; Secure", ""},
	} {
		value, want, theirs := strings.ReplaceAll(c.value, "OWN", own), strings.ReplaceAll(c.want, "OWN", own), strings.ReplaceAll(c.apache, "OWN", own)
		if theirs == "" {
			theirs = want
		}
		for what, s := range map[string]*site{"host: upstream": reversed, "host: preserve": preserved} {
			if got := ask(s.at("test"), c.name, value); got != want {
				t.Errorf("%s: %s: %s came as %q; want %q", what, c.name, value, got, want)
			}
		}
		if got := ask(apache, c.name, value); got != theirs {
			t.Errorf("apache: %s: %s came as %q; it was %q", c.name, value, got, theirs)
		}
	}
	if got, want := ask(untouched.at("test"), "Location", "http://"+own+"/v2/login"), "http://"+own+"/v2/login"; got != want {
		t.Errorf("without reverse: %q; want %q", got, want)
	}
}

// TestALoginThroughTheGateway is what the mapping is for: curl follows the redirect to the gateway, and the cookie that
// the backend sets for its own path comes back there. (Row ProxyPassReverse.)
func TestALoginThroughTheGateway(t *testing.T) {
	o := startOrigin(t, nil)
	o.answers(func(w io.Writer, r *originRequest) bool {
		switch {
		case r.URL.Path == "/v2/" || r.URL.Path == "/v2":
			fmt.Fprintf(w, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: session=7; Path=/v2/account\r\nLocation: http://%s/v2/account/home\r\n\r\n", o.addr)
		case r.URL.Path == "/v2/account/home" && r.Header.Get("Cookie") == "session=7":
			fmt.Fprint(w, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nwelcome\n")
		default:
			fmt.Fprint(w, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	})
	for _, host := range []string{"upstream", "preserve"} {
		s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'], host: %s } }
routes: [{ match: { path_prefix: /shop }, rewrite: { strip_prefix: /shop, add_prefix: /v2, reverse: true }, upstream: app }]
`, o.addr, host))
		out := run(t, "curl", "-sS", "-L", "-c", filepath.Join(t.TempDir(), "jar"), "-w", "%{url_effective}", s.url("/shop/"))
		if want := "welcome\n" + s.url("/shop/account/home"); out != want {
			t.Errorf("host: %s: %q; want %q", host, out, want)
		}
	}
}

// TestExclusionsComeFirst: the first route that matches decides, and check says which ones never can. (Rows "ProxyPass
// /path !" and trailing slashes of "ProxyPass /path".)
func TestExclusionsComeFirst(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes:
  - { match: { path_prefix: /app/internal }, exclude: true }
  - { match: { path_prefix: /app/old }, exclude: true, respond: { status: 410, body: "gone\n" } }
  - { match: { path_prefix: /app }, upstream: app }
`, o.addr))
	c := call(t, s.at("test"))
	for path, status := range map[string]string{
		"/app/x": "200", "/app": "200", "/app/internal": "404", "/app/internal/x": "404", "/app/internals": "200", "/app/old/": "410", "/apple": "404",
	} {
		if head, _ := c.say("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.HasPrefix(head, "HTTP/1.1 "+status) {
			t.Errorf("%s: %q; want %s", path, head, status)
		}
	}
	if o.requests.Load() != 3 {
		t.Errorf("the backend got %d requests; three are for it", o.requests.Load())
	}
	_, report, err := config.Load(config.Source{File: "apache.yaml", Data: []byte(`upstreams: { app: { targets: ["http://app:80"] } }
routes:
  - { match: { path_prefix: /app }, rewrite: { strip_prefix: /app, add_prefix: /v2/ }, upstream: app }
  - { match: { path_prefix: /app/internal }, exclude: true }
  - { match: { path_prefix: /app/sub }, upstream: app }
`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"apache.yaml:3:", "trailing slashes of \"/app\" and \"/v2/\" disagree",
		"apache.yaml:4:", "excludes nothing: routes[0] (/app/*, line 3) takes every such request",
		"apache.yaml:5:", "can never match: routes[0] (/app/*, line 3) takes every such request",
	} {
		if !strings.Contains(fmt.Sprint(report), want) {
			t.Errorf("check does not say %q:\n%s", want, report)
		}
	}
}

// TestAPathGoesOnByteForByte: where a route does not rewrite the path, the upstream gets what the client sent. (Row
// nocanon.)
func TestAPathGoesOnByteForByte(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes:
  - { match: { path_prefix: /strip }, rewrite: { strip_prefix: /strip }, upstream: app }
  - { match: { path_regex: "^/regex/.*$" }, upstream: app }
  - { upstream: app }
`, o.addr))
	c := call(t, s.at("test"))
	for sent, want := range map[string]string{
		"/a%2Fb":                "",
		"/a%2fb":                "", // not made upper case
		"/%41bc":                "", // nor decoded
		"/a//b///":              "",
		"/a;v=1,2/b;c":          "",
		"/a+b%20c%25":           "",
		"/?":                    "",
		"/a?b=c?d&&=&%zz#":      "400",
		"/a?b=c?d&&=&%2F/../":   "",
		"/~user/'(x)*!$@:":      "",
		"/regex/a%2Fb;x//y?z=%": "",
		"/strip/a%2Fb//c?d":     "/a%2Fb//c?d",
		"/strip":                "/",
	} {
		if want == "" {
			want = sent
		}
		head, _ := c.say("GET " + sent + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if want == "400" {
			if !strings.HasPrefix(head, "HTTP/1.1 400") {
				t.Errorf("%s: %q; want it refused", sent, head)
			}
			c = call(t, s.at("test"))
			continue
		}
		if got, _, _ := strings.Cut(o.last(), "\r\n"); got != "GET "+want+" HTTP/1.1" {
			t.Errorf("%s came as %q", sent, got)
		}
	}
}

// TestACapturedAuthorityHasItsOwnPool: connections are kept for each address that a request names, in a bounded number of
// pools, and nothing leaves for an address that is not allowed. (Row "backreference in the authority".)
func TestACapturedAuthorityHasItsOwnPool(t *testing.T) {
	backends := []*origin{startOrigin(t, nil), startOrigin(t, nil), startOrigin(t, nil)}
	stranger := startOrigin(t, nil)
	port := func(o *origin) string { _, p, _ := net.SplitHostPort(o.addr); return p }
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { any: { dynamic: { allow: ["127.0.0.1:%s,%s,%s"], max_pools: 2 } } }
routes: [{ match: { path_regex: "^/to/([^/]+):([^/]+)/" }, upstream: any, authority: "$1:$2" }]
`, port(backends[0]), port(backends[1]), port(backends[2])))
	c := call(t, s.at("test"))
	to := func(authority string) string {
		head, _ := c.say("GET /to/" + authority + "/x HTTP/1.1\r\nHost: " + stranger.addr + "\r\n\r\n")
		return head
	}
	for range 10 {
		for _, o := range backends[:2] {
			if head := to(o.addr); !strings.HasPrefix(head, "HTTP/1.1 200") {
				t.Fatal(head)
			}
		}
	}
	if backends[0].used.Load() != 1 || backends[1].used.Load() != 1 {
		t.Errorf("10 requests each: %d and %d connections; want one for each address", backends[0].used.Load(), backends[1].used.Load())
	}
	for range 3 { // a third address makes one of the others give way
		if head := to(backends[2].addr); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Fatal(head)
		}
	}
	if _, text := s.admin("/upstreams/any"); strings.Count(text, `"address"`) > 2 {
		t.Errorf("there are more than max_pools: %s", text)
	}
	for _, authority := range []string{stranger.addr, "localhost:" + port(stranger), "127.0.0.1:" + port(backends[0]) + "@" + stranger.addr,
		"127.0.0.2:" + port(backends[0]), "[::ffff:127.0.0.1]:" + port(stranger)} {
		head := to(authority)
		if !strings.HasPrefix(head, "HTTP/1.1 403") && !strings.HasPrefix(head, "HTTP/1.1 400") {
			t.Errorf("%s: %q; want it refused", authority, head)
		}
		if strings.Contains(strings.ToLower(head), "connection: close") {
			c = call(t, s.at("test"))
		}
	}
	if stranger.accepted.Load() != 0 {
		t.Error("a connection was made to an address that is not allowed")
	}
}

// TestWhoTheClientIs: spoofed fields of anybody are replaced, those of trusted proxies extended, and clients of
// forwarded.except are not told. curl sends from several addresses of this machine. (Row ProxyPreserveHost, X-Forwarded-*,
// forwardfor except.)
func TestWhoTheClientIs(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`
listeners:
  - name: test
    address: '127.0.0.1:0'
    trusted_proxies: [127.0.0.3/32]
    forwarded: { headers: both, except: [127.0.0.4/32] }
upstreams:
  kept: { targets: ['http://%[1]s'] }
  own: { targets: ['http://%[1]s'], host: upstream }
  literal: { targets: ['http://%[1]s'], host: literal.example }
routes:
  - { match: { path: /own }, upstream: own }
  - { match: { path: /literal }, upstream: literal }
  - { upstream: kept }
`, o.addr))
	ask := func(from, path string, more ...string) string {
		run(t, "curl", append(more, "-sS", "-o", "/dev/null", "--interface", from, "-H", "Host: www.example.com", s.url(path))...)
		return o.last()
	}
	spoofed := []string{"-H", "X-Forwarded-For: 198.51.100.7", "-H", "x-real-ip: 198.51.100.7", "-H", "Forwarded: for=198.51.100.7", "-H", "X-Forwarded-Proto: https", "-H", "X-Forwarded-Host: bank.example"}
	for i, c := range []struct{ from, forwardedFor, proto, host, forwarded, client string }{
		{"127.0.0.2", "127.0.0.2", "http", "www.example.com", `for=127.0.0.2;host="www.example.com";proto=http`, "127.0.0.2"},
		{"127.0.0.3", "198.51.100.7, 127.0.0.3", "https", "bank.example", `for=198.51.100.7, for=127.0.0.3;host="www.example.com";proto=http`, "198.51.100.7"},
		{"127.0.0.4", "", "http", "www.example.com", "", "127.0.0.4"},
	} {
		head := ask(c.from, "/", spoofed...)
		for name, want := range map[string]string{"X-Forwarded-For": c.forwardedFor, "X-Forwarded-Proto": c.proto, "X-Forwarded-Host": c.host, "Forwarded": c.forwarded} {
			if got := field(head, name); got != want {
				t.Errorf("from %s: %s is %q; want %q", c.from, name, got, want)
			}
		}
		if got := field(head, "X-Real-IP"); got != "" && c.from != "127.0.0.3" {
			t.Errorf("from %s: a spoofed X-Real-IP came through: %q", c.from, got)
		}
		if l := s.lines(i + 1)[i]; l.Client != c.client {
			t.Errorf("from %s: the access log says that %s asked; want %s", c.from, l.Client, c.client)
		}
	}
	for path, want := range map[string]string{"/": "www.example.com", "/own": o.addr, "/literal": "literal.example"} {
		if got := field(ask("127.0.0.1", path), "Host"); got != want {
			t.Errorf("%s: Host is %q; want %q", path, got, want)
		}
	}
}
