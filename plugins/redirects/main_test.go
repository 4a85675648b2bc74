package main

import (
	"fmt"
	"regexp"
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

// to is what a client that asks for an URL is told.
func to(p *wasmgate.Tester, url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	at := strings.IndexByte(rest, '/')
	path, query, _ := strings.Cut(rest[at:], "?")
	a := p.Request(wasmgate.TestMessage{Method: "GET", Scheme: scheme, Authority: rest[:at], Path: path, Query: query})
	switch {
	case a.Decision == "continue" && len(a.Edits) == 0:
		return "-"
	case a.Decision == "respond" && len(a.Edits) == 1:
		return strings.Replace(a.Edits[0], "respond_header location:", fmt.Sprint(a.Status), 1)
	case a.Decision == "deny":
		return fmt.Sprint(a.Status)
	}
	return fmt.Sprintf("%+v", a)
}

func TestRules(t *testing.T) {
	p := tester(t, `{"rules": [
		{"path": "/old", "to": "/new"},
		{"path": "/dropped", "to": "/new", "keep_query": false, "status": 301},
		{"path": "/with", "to": "/new?a=b#there"},
		{"path": "/away", "to": "https://other.example"},
		{"path": "/a$1", "to": "/dollar$1"},
		{"prefix": "/blog/", "to": "/news"},
		{"prefix": "/blog/2019", "to": "https://archive.example/blog/", "status": 302},
		{"prefix": "/blog-x", "to": "/x"},
		{"prefix": "/up", "to": "/"},
		{"regex": "^/u/([0-9]+)(/.*)?$", "to": "/users/$1$2", "status": 307},
		{"regex": "/s/(?P<what>[^/]+)/(.+)", "to": "/search/${what}?q=$2&cost=$$5", "status": 303},
		{"regex": "/free/(.*)", "to": "/$1"},
		{"regex": "/host/(.*)", "to": "https://cdn.example/$1"}
	]}`)
	for url, want := range map[string]string{
		"http://h/old":                  "308 /new",
		"http://h/old?x=y&z":            "308 /new?x=y&z",
		"http://h/old/":                 "-",
		"http://h/older":                "-",
		"http://h/dropped?x":            "301 /new",
		"http://h/with":                 "308 /new?a=b#there",
		"http://h/with?x=1":             "308 /new?a=b&x=1#there",
		"http://h/away":                 "308 https://other.example/",
		"http://h/a$1":                  "308 /dollar$1",
		"http://h/blog":                 "308 /news",
		"http://h/blog/":                "308 /news/",
		"http://h/blog/x/y?q":           "308 /news/x/y?q",
		"http://h/blogx":                "-",
		"http://h/blog-x/1":             "308 /x/1",
		"http://h/blog/2019/12":         "302 https://archive.example/blog/12",
		"http://h/blog/2019":            "302 https://archive.example/blog/",
		"http://h/blog/20190":           "308 /news/20190",
		"http://h/up//evil.example/x":   "308 /evil.example/x",
		"http://h/up/\\evil.example":    "308 /%5Cevil.example",
		"http://h/up/<\">":              "308 /%3C%22%3E",
		"http://h/u/42":                 "307 /users/42",
		"http://h/u/42/x?y":             "307 /users/42/x?y",
		"http://h/u/x":                  "-",
		"http://h/x/u/42":               "-",
		"http://h/s/a%20b/c&d=e+f/%41#": "303 /search/a%20b?q=c%26d%3De%2Bf/%41%23&cost=$5",
		"http://h/free//evil.example":   "308 /evil.example",
		"http://h/free/\\/evil.example": "308 /%5C/evil.example",
		"http://h/free/":                "308 /",
		"http://h/host/@evil.example":   "308 https://cdn.example/@evil.example",
		"http://h/old?\"<>\xff\\":       "308 /new?%22%3C%3E%FF%5C",
	} {
		if got := to(p, url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	const hosts = `"hosts": {"example.com": "www.example.com", "*.old.example": "www.example.com", "Other.example": "www.other.example:8443"}`
	for config, urls := range map[string]map[string]string{
		`{"https": true}`: {
			"http://a.example/x?y":   "308 https://a.example/x?y",
			"http://a.example:8080/": "308 https://a.example/",
			"http://[::1]:80/":       "308 https://[::1]/",
			"https://a.example/":     "-",
			"http://a.example/a\\b":  "308 https://a.example/a%5Cb",
			"http://evil\"<script>/": "400",
			"http:///":               "400",
			"http://u@a.example/":    "400",
			"http://a.example//b/?":  "308 https://a.example//b/",
		},
		`{"https": {"port": 8443}, "status": 301, "keep_query": false}`: {
			"http://a.example:8080/x?y": "301 https://a.example:8443/x", "https://a.example:8443/": "-",
		},
		`{` + hosts + `}`: {
			"http://example.com/x?y":      "308 http://www.example.com/x?y",
			"https://EXAMPLE.com:444/":    "308 https://www.example.com/",
			"https://www.example.com/":    "-",
			"https://www.example.com:80/": "-",
			"https://a.b.old.example/":    "308 https://www.example.com/",
			"https://old.example/":        "-",
			"http://other.example/":       "308 http://www.other.example:8443/",
			"http://www.other.example/":   "-",
		},
		`{` + hosts + `, "https": true, "rules": [{"path": "/old", "to": "/new"}, {"path": "/abs", "to": "http://x.example/"}]}`: {
			"http://example.com/old?q":       "308 https://www.example.com/new?q", // at once
			"http://www.example.com/old":     "308 https://www.example.com/new",
			"https://www.example.com/old":    "308 /new",
			"https://www.example.com/new":    "-",
			"http://example.com/abs":         "308 http://x.example/",
			"http://www.other.example:8443/": "308 https://www.other.example/",
		},
		`{"hosts": {"*": "www.example.com", "api.example.com": "api.example.com"}}`: {
			"http://x/": "308 http://www.example.com/", "http://WWW.example.com/": "-", "http://api.example.com/": "-",
			"http://" + strings.Repeat("x.", 200) + "/": "-",
		},
		`{"rules": [{"regex": "/(.*)", "to": "https://www.example.com/$1"}]}`: { // not in circles
			"https://www.example.com/x?y": "-", "https://WWW.example.com/": "-", "https://example.com/x": "308 https://www.example.com/x", "http://www.example.com/x": "308 https://www.example.com/x",
		},
		`{"rules": [{"regex": "/(.*?)/*$", "to": "/$1"}]}`: {"http://h/x": "-", "http://h/x//?y": "308 /x?y"},
	} {
		p := tester(t, config)
		for url, want := range urls {
			if got := to(p, url); got != want {
				t.Errorf("%s: %.80s: %s, want %s", config, url, got, want)
			}
		}
	}
}

func TestTable(t *testing.T) {
	p := tester(t, `{"status":302,"table":"# moved\n/old /new\r\n\n \t/blog/*\t/news 301\n/away https://x.example/?a=b 307\n/u/* https://users.example/","rules":{"path":"/r","to":"/s"}}`)
	for url, want := range map[string]string{
		"http://h/old?x": "302 /new?x", "http://h/blog/1": "301 /news/1", "http://h/blog": "301 /news", "http://h/away": "307 https://x.example/?a=b", "http://h/u/1": "302 https://users.example/1", "http://h/r": "302 /s", "http://h/moved": "-",
	} {
		if got := to(p, url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// TestBehindAProxy that ends TLS there is no way in circles.
func TestBehindAProxy(t *testing.T) {
	p := tester(t, `{"https":true,"hosts":{"example.com":"www.example.com"}}`)
	for _, c := range []struct{ proto, host, want string }{
		{"https", "www.example.com", "continue"}, {"HTTPS", "www.example.com", "continue"}, {"http", "www.example.com", "https://www.example.com/"}, {"https", "example.com", "https://www.example.com/"},
	} {
		a := p.Request(wasmgate.TestMessage{Scheme: "http", Authority: c.host, Path: "/", Headers: []string{"X-Forwarded-Proto", c.proto}})
		if got := a.Decision; got != c.want && (len(a.Edits) != 1 || a.Edits[0] != "respond_header location: "+c.want) {
			t.Errorf("%+v: %+v", c, a)
		}
	}
}

func TestTooLong(t *testing.T) {
	var list []string
	for i := range maxRegexes {
		list = append(list, fmt.Sprintf(`{"regex":"/(.*)/x%d$","to":"/$1"}`, i))
	}
	p := tester(t, `{"rules":[`+strings.Join(list, ",")+`,{"path":"/p","to":"/q"}]}`)
	for url, want := range map[string]string{
		"http://h/a/x7": "308 /a", "http://h/a/x49": "308 /a", "http://h/" + strings.Repeat("x", 4000): "414", "http://h/p?" + strings.Repeat("\xff", 2731): "414",
		"http://h/p?" + strings.Repeat("x", 8190): "414", "http://h/p?" + strings.Repeat("x", 8189): "308 /q?" + strings.Repeat("x", 8189),
	} {
		if got := to(p, url); got != want {
			t.Errorf("%.40s: %.80s", url, got)
		}
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	rules := func(s string) string { return `{"rules":[` + s + `]}` }
	for config, want := range map[string]string{
		"":                               "config: nothing is to be done",
		`{"https":false}`:                "config: nothing is to be done",
		`{"rules":[]}`:                   "config: nothing is to be done",
		`{"https":"yes"}`:                `config.https: "yes" is neither true nor false`,
		`{"https":{"port":0}}`:           "config.https.port: 0 is not a whole number",
		`{"status":305}`:                 "config.status: 305 is no redirect; they are 301, 302, 303, 307 and 308",
		`{"status":200}`:                 "config.status: 200 is no redirect",
		`{"hosts":{"a":"b/c"}}`:          `config.hosts.a: "b/c" is not a host`,
		`{"hosts":{"a:80":"b"}}`:         "config.hosts.a:80: the host is a name without a port",
		`{"table":"/a"}`:                 `config.table, line 1: "/a" is not FROM TO`,
		`{"table":"/a /b\n# x\n/c d\n"}`: `config.table, line 3: "/c d" leads to a place that begins neither`,
		`{"table":"/a /b 200"}`:          `has a status that is no redirect`,
		`{"table":"/a /b 304"}`:          `has a status that is no redirect`,
		`{"table":"/a /b 301 x"}`:        `is not FROM TO, or FROM TO STATUS`,
		`{"table":"/a/* /a/b"}`:          `leads to itself`,
		`{"table":"a b"}`:                `is not about a path`,
		`{"table":"//* /b"}`:             `is about everything`,
		`{"table":"/a /b\n/a /c"}`:       "config: /a is there twice",
		`{"table":{}}`:                   `config.table: {} is not a text`,
		`{"table":"/a /b","rules":{"path":"/a","to":"/c"}}`:                                               `config: /a is there twice`,
		`{"rules":[` + strings.TrimSuffix(strings.Repeat(`{"prefix":"/a","to":"/c"},`, 1001), ",") + `]}`: `is one more than 1000; table has room for more`,
		`{"table":"` + strings.Repeat("/a", 33) + `/* /b"}`:                                               `is about a prefix with more than 32 slashes`,
		`{"hosts":["a"]}`:                                                                 "config.hosts: ",
		rules(`{"path":"/a","form":"/b"}`):                                                "config.rules[0].form: there is no such key; the keys are keep_query, path, prefix, regex, status, to",
		rules(`{"path":"/a"}`):                                                            "config.rules[0].to is missing",
		rules(`{"to":"/a"}`):                                                              "has 0 of path, prefix and regex",
		rules(`{"path":"/a","regex":"b","to":"/a"}`):                                      "has 2 of path, prefix and regex",
		rules(`{"path":"a","to":"/b"}`):                                                   `config.rules[0]: {"path":"a","to":"/b"} is not about a path`,
		rules(`{"path":"/a?b","to":"/b"}`):                                                "is not about a path",
		rules(`{"prefix":"/","to":"/b"}`):                                                 "is about everything",
		rules(`{"regex":"(","to":"/b"}`):                                                  "has no regular expression: ",
		rules(`{"regex":"/(.*)","to":"https://$1"}`):                                      "leads to no fixed place",
		rules(`{"regex":"/(.*)","to":"https://x$1/"}`):                                    "leads to no fixed place",
		rules(`{"regex":"/(.*)","to":"$1"}`):                                              "begins neither with",
		rules(`{"regex":"/(.*)","to":"//$1"}`):                                            "begins neither with",
		rules(`{"regex":"/(.*)","to":"$1://x/"}`):                                         "leads to no fixed place",
		rules(`{"path":"/a","to":"javascript://x"}`):                                      "leads to no fixed place",
		rules(`{"path":"/a","to":"https://user@x/"}`):                                     "leads to no fixed place",
		rules(`{"path":"/a","to":"https:///x"}`):                                          "leads to no fixed place",
		rules(`{"path":"/a","to":"/\\x"}`):                                                "with a character that is not allowed",
		rules(`{"path":"/a","to":"/x\r\nset-cookie:y"}`):                                  "with a character that is not allowed",
		rules(`{"regex":"/(.*)","to":"/$2"}`):                                             "has $2, and the expression has no such capture",
		rules(`{"regex":"/(?P<a>.*)","to":"/$b"}`):                                        "has $b, and",
		rules(`{"regex":"/` + strings.Repeat("(a)", 10) + `","to":"/b"}`):                 "has more than 9 captures",
		rules(`{"path":"/a","to":"/b"},{"path":"/a","to":"/c"}`):                          "config: /a is there twice",
		rules(`{"prefix":"/a","to":"/b"},{"prefix":"/a/","to":"/c"}`):                     "config: /a is there twice",
		rules(`{"path":"/a","to":"/a"}`):                                                  "leads to itself",
		rules(`{"prefix":"/a","to":"/a/b"}`):                                              "leads to itself",
		rules(`{"path":"/a","to":"/b","status":404}`):                                     "config.rules[0].status: 404 is no redirect",
		rules(strings.Repeat(`{"regex":"a","to":"/b"},`, 50) + `{"regex":"a","to":"/b"}`): "is one more than 50 expressions",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %s", config, err, want)
		}
	}
}

// many is a configuration with n rules, half of them for prefixes.
func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"table":"/ /home\n`)
	for i := range n / 2 {
		fmt.Fprintf(&b, `/articles/%d /a/%d\n/shop/%d/* /s/%d\n`, i, i, i, i)
	}
	b.WriteString(`"}`)
	return b.String()
}

func TestManyRules(t *testing.T) {
	p := tester(t, many(10_000))
	for url, want := range map[string]string{
		"http://h/articles/4999": "308 /a/4999", "http://h/articles/5000": "-", "http://h/shop/4999/x": "308 /s/4999/x", "http://h/shop/49999": "-", "http://h/shop/1": "308 /s/1", "http://h/shop/10": "308 /s/10",
	} {
		if got := to(p, url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// FuzzTable compares with trying all lines.
func FuzzTable(f *testing.F) {
	f.Add("/a* /a/b /a-b* /a/b/c* /ab /a/b*", "/a/b/x")
	f.Fuzz(func(t *testing.T, list, path string) {
		conf = settings{}
		want, wanted := "", 0
		for _, s := range strings.Fields(list) {
			r := rule{kind: exact, from: s}
			if s, ok := strings.CutSuffix(s, "*"); ok {
				r.kind, r.from = prefix, strings.TrimSuffix(s, "/")
			}
			if r.from == "" || r.from[0] != '/' || depth(r.from) > maxDepth {
				continue
			}
			conf.table.add(&r, "/to")
			switch {
			case r.kind == exact && r.from == path:
				want, wanted = fmt.Sprint(r.kind, r.from), 1<<20
			case r.kind == prefix && wasmgate.PathUnder(path, r.from) && len(r.from) > wanted:
				want, wanted = fmt.Sprint(r.kind, r.from), len(r.from)
			}
		}
		if conf.table.link() != nil {
			return
		}
		got := ""
		if r, _ := conf.find(path); r != nil {
			got = fmt.Sprint(r.kind, r.from)
		}
		if got != want {
			t.Errorf("%q in %q: %q, want %q", path, list, got, want)
		}
	})
}

// FuzzMatch compares with package regexp.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"/u/([0-9]+)(/.*)?$", "/(a|ab)(c|bcd)(d*)", "(?i)/(x+?)(y{2,3}|[^z])*", "/((a*)*|b)*c", "/(?:(a)|b)*$", "/(.*?)/*$"} {
		f.Add(s, "/abcdx/yy/12")
	}
	f.Fuzz(func(t *testing.T, expr, path string) {
		if len(expr) > 60 || len(path) > 100 || strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%/:@!$&'()*+,;=") != "" {
			return
		}
		expr = strings.TrimPrefix(expr, "^")
		re, err := regexp.Compile("^(?:" + expr + ")")
		p, problem := compile(expr)
		if err != nil || problem != "" {
			if (err == nil) != (problem == "") && !strings.Contains(problem, "too long") && !strings.Contains(problem, "are not known here") {
				if _, err := regexp.Compile(expr); (err == nil) != (problem == "") { // such as a)(b, which is one in brackets only
					t.Fatalf("%q: %v, %q", expr, err, problem)
				}
			}
			return
		}
		left := 1 << 20
		got, want := "no", "no"
		if p.match(path, &left) {
			got = ""
			for i := range min(2*len(p.names), len(captures)) {
				got += fmt.Sprint(captures[i], " ")
			}
		} else if left < 0 {
			return
		}
		if m := re.FindStringSubmatchIndex(path); m != nil {
			want = ""
			for _, i := range m[:min(len(m), len(captures))] {
				want += fmt.Sprint(i, " ")
			}
		}
		if got != want || want != "no" && !strings.HasPrefix(path, p.prefix) {
			t.Errorf("%q, %q: %s, want %s, prefix %q", expr, path, got, want, p.prefix)
		}
	})
}

// FuzzLocation has no request lead to another host.
func FuzzLocation(f *testing.F) {
	f.Add("//evil.example", "a=b")
	p := tester(f, `{"rules":[{"regex":"/(.*)x(.*)","to":"/$2$1?q=$1"},{"prefix":"/p","to":"/"},{"regex":"/(.*)","to":"/$1/"}]}`)
	f.Fuzz(func(t *testing.T, path, query string) {
		if path == "" || path[0] != '/' || len(path)+len(query) > 1<<12 {
			return
		}
		a := p.Request(wasmgate.TestMessage{Scheme: "http", Authority: "h", Path: path, Query: query})
		if a.Decision == "continue" {
			return
		}
		l := strings.TrimPrefix(a.Edits[0], "respond_header location: ")
		if !strings.HasPrefix(l, "/") || strings.HasPrefix(l, "//") || strings.ContainsAny(l, "\\\r\n\t \"<>") {
			t.Errorf("%q leads to %q", path, l)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	p := tester(t, `{"https":true,"hosts":{"example.com":"www.example.com"},"rules":[{"prefix":"/old","to":"/new"},{"regex":"/u/([0-9]+)$","to":"/x/$1"}]}`)
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n += testing.AllocsPerRun(20, func() { request(r) })
		return wasmgate.Continue
	})
	defer wasmgate.Handle(request)
	p.Request(wasmgate.TestMessage{Scheme: "http", Authority: "example.com", Path: "/old/x", Query: "q"})
	p.Request(wasmgate.TestMessage{Scheme: "https", Authority: "a", Path: "/u/x"})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
