package route

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"wasmgate/runtime/http1"
)

func request(t testing.TB, line string, fields ...string) *http1.Request {
	t.Helper()
	var r http1.Request
	host := "Host: a.example\r\n"
	for _, f := range fields {
		if strings.HasPrefix(f, "Host:") {
			host = ""
		}
	}
	head := line + " HTTP/1.1\r\n" + host + strings.Join(append(fields, ""), "\r\n") + "\r\n"
	if n, err := r.Parse([]byte(head), nil); err != nil || n != len(head) {
		t.Fatalf("%q: %d, %v", head, n, err)
	}
	return &r
}

func table(t testing.TB, rules ...Rule) *Table[string] {
	t.Helper()
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	tb, err := New(rules, names)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	tb := table(t,
		Rule{Name: "health", Path: "/healthz"},
		Rule{Name: "posts", PathPrefix: "/app", Methods: []string{"POST", "PUT"}},
		Rule{Name: "beta", PathPrefix: "/app", Headers: []Condition{{"X-Beta", Regex, "^(yes|1)$"}, {"X-Old", Absent, ""}}},
		Rule{Name: "debug", PathPrefix: "/app", Query: []Condition{{"debug", Present, ""}}},
		Rule{Name: "named", PathPrefix: "/app", Query: []Condition{{"na me", Exact, "a&b"}}},
		Rule{Name: "app", PathPrefix: "/app"},
		Rule{Name: "below", PathPrefix: "/dir/"},
		Rule{Name: "user", PathRegex: "^/users/([0-9]{4})$"},
	)
	for _, c := range []struct {
		want, line string
		fields     []string
	}{
		{"health", "GET /healthz", nil},
		{"", "GET /healthz/", nil},
		{"posts", "PUT /app/x", nil},
		{"app", "GET /app/x", nil},
		{"app", "GET /app", nil},
		{"", "GET /apple", nil},
		{"", "GET /APP", nil},
		{"beta", "GET /app", []string{"x-beta: no", "X-BETA: yes"}},
		{"app", "GET /app", []string{"x-beta: yes", "X-Old: 1"}},
		{"debug", "GET /app?a=b&debug", nil},
		{"debug", "GET /app?%64ebug=1", nil},
		{"named", "GET /app?na+me=a%26b", nil},
		{"app", "GET /app?na+me=a", nil},
		{"below", "GET /dir/x", nil},
		{"", "GET /dir", nil},
		{"user", "GET /users/1234", nil},
		{"", "GET /users/12345", nil},
		{"", "GET /x/../users/12", nil},
		{"user", "GET /x/../users/1234", nil},
	} {
		r := request(t, c.line, c.fields...)
		var m Match
		got := ""
		if i := tb.Match(r, 0, &m); i >= 0 {
			got = tb.At(i)
		}
		if got != c.want {
			t.Errorf("%s %v: %q, want %q; %v", c.line, c.fields, got, c.want, tb.Explain(r, 0, tb.Len()))
		}
	}
}

func TestHosts(t *testing.T) {
	tb := table(t,
		Rule{Name: "exact", Hosts: []string{"a.example", "b.example"}},
		Rule{Name: "deep", Hosts: []string{"*.x.tenant.example"}},
		Rule{Name: "wild", Hosts: []string{"*.tenant.example"}},
		Rule{Name: "six", Hosts: []string{"[::1]"}},
		Rule{Name: "any", PathPrefix: "/open"},
		Rule{Name: "late", Hosts: []string{"a.example"}},
	)
	for host, want := range map[string]string{
		"a.example": "exact late", "A.Example:8080": "exact late", "a.example.": "exact late", "b.example": "exact",
		"q.tenant.example": "wild", "q.r.tenant.example": "wild", "y.x.tenant.example": "deep wild",
		"tenant.example": "", ".tenant.example": "", "eviltenant.example": "", "[::1]:80": "six", "c.example": "",
	} {
		if !http1.ValidAuthority(host) {
			continue
		}
		r := request(t, "GET /", "Host: "+host)
		var m Match
		var got []string
		for i := tb.Match(r, 0, &m); i >= 0; i = tb.Match(r, i+1, &m) {
			got = append(got, tb.At(i))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	r := request(t, "GET /open", "Host: c.example")
	var m Match
	if i := tb.Match(r, 0, &m); i < 0 || tb.At(i) != "any" {
		t.Error("a rule without a host is for every host")
	}
}

func TestTemplates(t *testing.T) {
	expr := "^/app/(?P<kind>[a-z]+)/([0-9]+)(/x)?(.*)$"
	tb := table(t, Rule{Name: "r", PathRegex: expr})
	r := request(t, "GET /app/users/42/tail@evil")
	var m Match
	if tb.Match(r, 0, &m) != 0 {
		t.Fatal("no match")
	}
	for text, want := range map[string]string{
		"/v2/$kind/$2": "/v2/users/42", "$$$1${2}x$3": "$users42x", "/plain": "/plain", "${kind}$4": "users/tail@evil",
	} {
		tmpl, err := NewTemplate(text, expr)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(tmpl.Append(nil, &m)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, bad := range []string{"$5", "$kinds", "${x}"} {
		if _, err := NewTemplate(bad, expr); err == nil {
			t.Errorf("%s: there is no such capture", bad)
		}
	}
	good, _ := NewTemplate("$1.internal:80$2", expr)
	if got, err := good.AppendAuthority(nil, &m); err != nil || string(got) != "users.internal:8042" {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"$4.internal:80", "$3.internal", "$1.internal:99999", "$1:80:80"} {
		tmpl, _ := NewTemplate(text, expr)
		if got, err := tmpl.AppendAuthority(nil, &m); err == nil {
			t.Errorf("%s: %q is an authority?", text, got)
		}
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	for _, r := range []Rule{
		{Name: "r", PathRegex: "("}, {Name: "r", PathRegex: strings.Repeat("(a{50})", 60)},
		{Name: "r", Headers: []Condition{{"x", Regex, "["}}},
	} {
		if _, err := New([]Rule{r}, []string{""}); err == nil || !strings.Contains(err.Error(), "route r") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestTenThousandHosts(t *testing.T) {
	var rules []Rule
	for i := range 10_000 {
		rules = append(rules, Rule{Name: fmt.Sprint(i), Hosts: []string{fmt.Sprintf("h%d.example", i)}})
	}
	tb := table(t, rules...)
	var m Match
	r := request(t, "GET /", "Host: h9999.example")
	if tb.Match(r, 0, &m) != 9999 {
		t.Fatal("not found")
	}
	if n := len(tb.candidates(r, &m)); n != 1 {
		t.Errorf("%d rules were looked at", n)
	}
}

// FuzzAgainstRegexp fails where the matcher and package regexp disagree about a match or a capture.
func FuzzAgainstRegexp(f *testing.F) {
	for _, s := range [][2]string{
		{"^/app/users/([0-9]{4})$", "/app/users/1234"}, {"(a|ab)(c|bcd)(d*)", "abcd"}, {"(a*)*b", "aaaaaaaaaaaaaaac"},
		{"(?i)^/A(B+?)(b*)$", "/abBb"}, {`\b(\w+)\b.*\B`, "/foo-bar"}, {"(^a|b$|^$)", ""}, {"x*", "yyxx"}, {"(?s:.)(?m:^)", "a\nb"},
		{"(|a)+", "aaa"}, {"(a|b)*?c|(d)", "ababc"}, {`[^/]+/([^/]*)`, "/x//y"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 60 || len(text) > 60 {
			return
		}
		for i := range len(text) {
			if text[i] >= 0x80 {
				return // a path is ASCII
			}
		}
		want, err := regexp.Compile(expr)
		if err != nil {
			return
		}
		p, err := compile(expr)
		if err != nil {
			return
		}
		var m machine
		caps := []int32{9, 9, 9}
		matched := m.run(p, []byte(text), &caps)
		expected := want.FindStringSubmatchIndex(text)
		if matched != (expected != nil) {
			t.Fatalf("%q on %q: %v, regexp says %v", expr, text, matched, expected)
		}
		if !matched {
			return
		}
		for i, w := range expected {
			if int(caps[i]) != w {
				t.Fatalf("%q on %q: captures %v, regexp says %v", expr, text, caps, expected)
			}
		}
	})
}
