package session

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/http1"
)

func request(t testing.TB, target string, fields ...string) *http1.Request {
	t.Helper()
	r := &http1.Request{}
	if _, err := r.Parse([]byte("GET "+target+" HTTP/1.1\r\nHost: h\r\n"+strings.Join(append(fields, ""), "\r\n")+"\r\n"), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func sessions(t testing.TB, o Options) *Sessions {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFind(t *testing.T) {
	application := Options{Cookie: "JSESSIONID", PathParameter: "jsessionid", Header: "X-Session", Separator: '.'}
	inserted := Options{Cookie: "wg", PathParameter: "jsessionid", Separator: '.', Insert: true}
	whole := Options{Cookie: "route", Header: "X-Route"}
	long := strings.Repeat("x", MaxToken)
	for _, c := range []struct {
		name    string
		options Options
		target  string
		fields  []string
		want    string
	}{
		{"nothing", application, "/", nil, ""},
		{"cookie", application, "/", []string{"Cookie: a=b; JSESSIONID=8F.node1; c=d"}, "node1"},
		{"cookie in quotes", application, "/", []string{`Cookie: JSESSIONID="8F.node1"`}, "node1"},
		{"cookie without spaces", application, "/", []string{"Cookie: a=b;JSESSIONID=8F.node1;c=d"}, "node1"},
		{"the first separator", application, "/", []string{"Cookie: JSESSIONID=8F.a.b"}, "a.b"},
		{"no separator", application, "/", []string{"Cookie: JSESSIONID=8F"}, ""},
		{"nothing behind it", application, "/", []string{"Cookie: JSESSIONID=8F."}, ""},
		{"the next of that name", application, "/", []string{"Cookie: JSESSIONID=8F; JSESSIONID=7E.node2"}, "node2"},
		{"the next line", application, "/", []string{"Cookie: a=b", "Cookie: JSESSIONID=7E.node2"}, "node2"},
		{"another's name that ends like it", application, "/", []string{"Cookie: MYJSESSIONID=8F.node1; JSESSIONIDS=8F.node1"}, ""},
		{"case matters", application, "/", []string{"Cookie: jsessionid=8F.node1"}, ""},
		{"a name in a value", application, "/", []string{"Cookie: a=JSESSIONID=8F.node1"}, ""},
		{"path", application, "/a;jsessionid=8F.node1", nil, "node1"},
		{"path, in the middle", application, "/a;x=y;jsessionid=8F.node1;z/b?q=1", nil, "node1"},
		{"path before cookie", application, "/a;jsessionid=8F.node1?q=1", []string{"Cookie: JSESSIONID=7E.node2"}, "node1"},
		{"path without a token, then cookie", application, "/a;jsessionid=8F", []string{"Cookie: JSESSIONID=7E.node2"}, "node2"},
		{"query", application, "/a?b=c&jsessionid=8F.node1&d", nil, "node1"},
		{"query, first", application, "/a?jsessionid=8F.node1", nil, "node1"},
		{"a segment of that name", application, "/jsessionid=8F.node1", nil, ""},
		{"a parameter that ends like it", application, "/a;xjsessionid=8F.node1", nil, ""},
		{"absolute form", application, "http://h/a;jsessionid=8F.node1", nil, "node1"},
		{"header", application, "/", []string{"x-session: 8F.node3", "Cookie: JSESSIONID=7E.node2"}, "node3"},
		{"header without a token", application, "/", []string{"X-Session: 8F", "X-Session: 8F.node4"}, "node4"},
		{"inserted", inserted, "/", []string{"Cookie: wg=a.b"}, "a.b"},
		{"inserted, and the application's path", inserted, "/;jsessionid=8F.node1", nil, "node1"},
		{"whole", whole, "/", []string{"Cookie: route=node.1"}, "node.1"},
		{"whole header", whole, "/", []string{"X-Route: node1"}, "node1"},
		{"longest", whole, "/", []string{"Cookie: route=" + long}, long},
		{"too long", whole, "/", []string{"Cookie: route=" + long + "x"}, ""},
		{"a space", whole, "/", []string{"Cookie: route=a b"}, ""},
		{"one quote", whole, "/", []string{`Cookie: route="a`}, ""},
		{"beyond ASCII", whole, "/", []string{"Cookie: route=n\xc3\xb6de"}, ""},
		{"empty", whole, "/", []string{"Cookie: route=; route"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sessions(t, c.options).Find(request(t, c.target, c.fields...)); string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFindAfterThePathWasRewritten(t *testing.T) {
	s := sessions(t, Options{PathParameter: "jsessionid", Separator: '.'})
	r := request(t, "/app;jsessionid=8F.node1?a")
	r.SetPath([]byte("/x"))
	if got := s.Find(r); string(got) != "node1" {
		t.Errorf("got %q, want node1", got)
	}
	r.SetPath([]byte("/x;jsessionid=8F.node2"))
	if got := s.Find(r); string(got) != "node2" {
		t.Errorf("got %q, want what the path says now, node2", got)
	}
}

func TestSetCookie(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Cookie: "wg", Insert: true}, "wg=node1; Path=/"},
		{Options{Cookie: "wg", Insert: true, Path: "/app", TTL: 90 * time.Minute, Secure: true, HTTPOnly: true, SameSite: None},
			"wg=node1; Path=/app; Max-Age=5400; Secure; HttpOnly; SameSite=None"},
		{Options{Cookie: "wg", Insert: true, HTTPOnly: true, SameSite: Lax}, "wg=node1; Path=/; HttpOnly; SameSite=Lax"},
	} {
		s := sessions(t, c.options)
		got := s.AppendSetCookie(nil, "node1")
		if string(got) != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		pair, _, _ := strings.Cut(string(got), ";")
		if found := s.Find(request(t, "/", "Cookie: "+pair)); string(found) != "node1" {
			t.Errorf("%s sent back says %q", pair, found)
		}
	}
}

func TestDue(t *testing.T) {
	inserted, lasting := Options{Cookie: "wg", Insert: true}, Options{Cookie: "wg", Insert: true, TTL: time.Hour}
	for _, c := range []struct {
		options      Options
		found, token string
		want         bool
	}{
		{inserted, "", "a", true},
		{inserted, "b", "a", true},
		{inserted, "a", "a", false},
		{inserted, "a", "", false},
		{lasting, "a", "a", true},
		{Options{Cookie: "JSESSIONID", Separator: '.'}, "", "a", false},
	} {
		if got := sessions(t, c.options).Due([]byte(c.found), c.token); got != c.want {
			t.Errorf("%+v: Due(%q, %q) is %t", c.options, c.found, c.token, got)
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for what, o := range map[string]Options{
		"none is named":            {},
		"a cookie's name":          {Cookie: "a b"},
		"a path parameter's name":  {PathParameter: "a&b"},
		"a header field's name":    {Header: "a:"},
		"cannot separate":          {Cookie: "a", Separator: ';'},
		"needs a name":             {Header: "a", Insert: true},
		"at least a second":        {Cookie: "a", Insert: true, TTL: time.Millisecond},
		"a cookie's path":          {Cookie: "a", Insert: true, Path: "/;"},
		"not Lax, Strict or None":  {Cookie: "a", Insert: true, SameSite: "lax"},
		"only if it is Secure":     {Cookie: "a", Insert: true, SameSite: None},
		`"b" is not a cookie's pa`: {Cookie: "a", Insert: true, Path: "b"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: got %v, want something with %q", o, err, what)
		}
	}
}

func TestToken(t *testing.T) {
	a, b := Token("10.0.0.7:80"), Token("10.0.0.8:80")
	if a == b || !ValidToken(a) || len(a) != 16 || a != Token("10.0.0.7:80") {
		t.Error(a, b)
	}
	if a != "5bc38618af1634d3" {
		t.Errorf("the token of an address has become %s: cookies from before would be lost", a)
	}
}

func TestNothingAllocates(t *testing.T) {
	s := sessions(t, Options{Cookie: "wg", PathParameter: "jsessionid", Header: "X-Session", Separator: '.', Insert: true, TTL: time.Hour})
	r := request(t, "/a/b;x=y?q=1", "X-Session: 1", "Cookie: a=b; c=d; wg=node1")
	buf := make([]byte, 0, 256)
	var found []byte
	if n := testing.AllocsPerRun(1000, func() {
		found = s.Find(r)
		if s.Due(found, "node2") {
			buf = s.AppendSetCookie(buf[:0], "node2")
		}
	}); n != 0 || string(found) != "node1" {
		t.Errorf("%v allocations, found %q", n, found)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("/a;jsessionid=8F.node1?b=c", "JSESSIONID=8F.node1", "8F.node1")
	f.Add("/?jsessionid=.;jsessionid=..", `JSESSIONID="";JSESSIONID=".a"`, ".")
	application := sessions(f, Options{Cookie: "JSESSIONID", PathParameter: "jsessionid", Header: "X-Session", Separator: '.'})
	inserted := sessions(f, Options{Cookie: "JSESSIONID", Insert: true})
	f.Fuzz(func(t *testing.T, target, cookie, header string) {
		raw := []byte("GET " + target + " HTTP/1.1\r\nHost: h\r\nCookie: " + cookie + "\r\nX-Session: " + header + "\r\n\r\n")
		var r http1.Request
		if n, err := r.Parse(raw, nil); err != nil || n != len(raw) {
			return
		}
		for _, s := range []*Sessions{application, inserted} {
			if got := s.Find(&r); got != nil && (!ValidToken(got) || !bytes.Contains(raw, got)) {
				t.Errorf("found %q", got)
			}
		}
	})
}
