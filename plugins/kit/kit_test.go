package kit

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	wasmgate "wasmgate/sdk/go"
)

// value is the value of a configuration, which is JSON.
func value(t testing.TB, text string) Value {
	t.Helper()
	raw, err := ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return Value{raw: raw, key: "config.k"}
}

// dump writes JSON anew, by what the readers say.
func dump(j JSON) string {
	switch j.Kind() {
	case '{', '[':
		b := string(j[:1])
		m := j.Members()
		if j.Kind() == '[' {
			m = j.Elements()
		}
		for sep := ""; ; sep = "," {
			name, v, ok := m.Next()
			if !ok {
				return b + sep[:0] + string(j[len(j)-1])
			}
			if b += sep; name != nil {
				q, _ := json.Marshal(string(name.Text(nil)))
				b += string(q) + ":"
			}
			b += dump(v)
		}
	case '"':
		q, _ := json.Marshal(string(j.Text(nil)))
		return string(q)
	}
	return string(j)
}

func TestJSON(t *testing.T) {
	for in, want := range map[string]string{
		` {"a" : [1, -2.5e+3 , "x\"y\\\u00e9\ud83d\ude00\/" ,true,null,{},[ ]] ,"b":{"c":"}"} } `: `{"a":[1,-2.5e+3,"x\"y\\é😀/",true,null,{},[]],"b":{"c":"}"}}`,
		`0`: `0`, `"\ud800x"`: "\"\ufffdx\"", `[[[]]]`: `[[[]]]`,
	} {
		j, err := ParseJSON([]byte(in))
		if err != nil || dump(j) != want {
			t.Errorf("%s: %s, %v", in, dump(j), err)
		}
	}
	for _, in := range []string{
		"", " ", "{", `{"a"}`, `{"a":}`, `{"a":1,}`, "[1", "[1,]", `"`, `"\`, `"\u12"`, `"\x"`, "1 2", "}", `{"a":1 "b":2}`, "\"\n\"", "01", "-", "1.", "1e",
		"tru", "nul", "+1", "[1 2]", "{1:2}", `{"a":1}x`, strings.Repeat("[", 17) + strings.Repeat("]", 17), strings.Repeat("[", 1<<20),
	} {
		if j, err := ParseJSON([]byte(in)); err == nil {
			t.Errorf("%.40s: taken for %s", in, j)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":{"b":["c",1,"\ud83d\ude00\n"]}, "d" : -1.5e3}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		j, err := ParseJSON(in)
		if valid := json.Valid(in); valid != (err == nil) && err != ErrDepth {
			t.Fatalf("%q: %v, valid %v", in, err, valid)
		}
		if err != nil {
			return
		}
		var a, b any
		if json.Unmarshal(in, &a) == nil {
			if e := json.Unmarshal([]byte(dump(j)), &b); e != nil || fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("%q was read as %q: %v", in, dump(j), e)
			}
		}
	})
}

func TestInt(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "17": 17, "-3": -3, "999999999999999999": 999999999999999999} {
		if n, ok := JSON(in).Int(); !ok || n != want {
			t.Errorf("%s: %d, %v", in, n, ok)
		}
	}
	for _, in := range []string{"", "-", "1.0", "1e3", "1000000000000000000000", `"1"`, "true"} {
		if n, ok := JSON(in).Int(); ok {
			t.Errorf("%s: %d", in, n)
		}
	}
}

func TestIs(t *testing.T) {
	for in, want := range map[string]bool{`"abc"`: true, `"\u0061bc"`: true, `"ab"`: false, `"abcd"`: false, "abc": false, `""`: false} {
		if JSON(in).Is("abc") != want {
			t.Errorf("%s", in)
		}
	}
}

func TestGet(t *testing.T) {
	j, _ := ParseJSON([]byte(`{"a":{"b":1},"c":2,"\u0063":3}`))
	a, n := j.Get("a")
	if b, m := a.Get("b"); n != 1 || m != 1 || string(b) != "1" {
		t.Error(n, m, string(b))
	}
	if c, n := j.Get("c"); n != 2 || string(c) != "2" {
		t.Error(n, string(c))
	}
	if d, n := j.Get("d"); n != 0 || d != nil || len(d.String()) != 0 {
		t.Error(n, string(d))
	}
	if x, n := JSON("1").Get("b"); n != 0 || x != nil {
		t.Error("of what is no object")
	}
}

func TestValues(t *testing.T) {
	var (
		s    string
		n    int
		b    bool
		d    time.Duration
		list []string
	)
	keys := Keys{
		"s": Text(&s), "n": Int(&n, 1, 5), "b": Bool(&b), "d": Duration(&d, 0, 48*time.Hour), "h": EditedField(&s),
		"list": func(v Value) error {
			return v.List(func(v Value) error {
				text, err := v.Text()
				list = append(list, text)
				return err
			})
		},
	}
	if err := value(t, `{"s":"x","n":5,"b":true,"d":"1d","list":["a","b"]}`).Object(keys); err != nil || s != "x" || n != 5 || !b || d != 24*time.Hour || len(list) != 2 {
		t.Error(err, s, n, b, d, list)
	}
	if err := value(t, `{"list":"alone","h":"X-Y"}`).Object(keys); err != nil || list[2] != "alone" || s != "x-y" {
		t.Error(err, list, s)
	}
	for in, want := range map[string]string{
		`{"b":true,"n":1,"s":"1","d":"1s","h":"x","list":[],"b":true}`: "config.k.b: the key is there twice",
		`{"sss":1}`:                          "config.k.sss: there is no such key; the keys are b, d, h, list, n, s",
		`{"n":1,"n":2}`:                      "config.k.n: the key is there twice",
		`{"n":6}`:                            "config.k.n: 6 is not a whole number from 1 to 5",
		`{"n":"6"}`:                          `config.k.n: "6" is not a whole number from 1 to 5`,
		`{"b":"yes"}`:                        `config.k.b: "yes" is neither true nor false`,
		`{"d":"10"}`:                         `config.k.d: "10" is not a duration such as 10s, 5m or 1d`,
		`{"d":"3d"}`:                         `config.k.d: "3d" is not from 0s to 48h0m0s`,
		`{"d":"x9d"}`:                        `config.k.d: "x9d" is not a duration`,
		`{"s":{}}`:                           "config.k.s: {} is not a text",
		`{"s":""}`:                           `config.k.s: "" is empty`,
		`{"list":["a",[]]}`:                  "config.k.list[1]: [] is not a text",
		`{"h":"a b"}`:                        `config.k.h: "a b" is not the name of a header`,
		`{"h":"Content_Length"}`:             "config.k.h: content-length is the gateway's own and cannot be changed by a plugin",
		`[]`:                                 "config.k: [] is not an object",
		`"` + strings.Repeat("x", 300) + `"`: "xxx… is not an object",
	} {
		if err := value(t, in).Object(keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// exchange is a request whose placeholders the SDK's tester fills.
func expand(t *testing.T, text string, m wasmgate.TestMessage) string {
	t.Helper()
	var tmpl Template
	quoted, _ := json.Marshal(text)
	wasmgate.Configure(func(*wasmgate.Config) (err error) {
		tmpl, err = value(t, string(quoted)).Template(false)
		return err
	})
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		b, ok := tmpl.Append([]byte("start:"), r)
		return r.Respond(200, fmt.Sprintf("%v %s", ok, strings.TrimPrefix(string(b), "start:")))
	})
	tester, err := wasmgate.NewTester("")
	if err != nil {
		return err.Error()
	}
	return tester.Request(m).Text
}

func TestTemplate(t *testing.T) {
	m := wasmgate.TestMessage{
		Method: "GET", Scheme: "https", Authority: "a.example:8443", Path: "/p%20q", Query: "x=1&n%61me=a%0d%0aset-cookie:%20b+c&e=", Client: "2001:db8:1:2:3:4:5:6",
		Route: "r", SNI: "sni", Cert: "CN=a\nb",
		Headers: []string{"x-a", "1", "x-a", "2", "cookie", "a=b; id=42;c", "cookie", "late=1"},
	}
	for in, want := range map[string]string{
		"plain":  "plain",
		"{{}}":   "{}",
		"a{{b}}": "a{b}",
		"{method} {scheme}://{authority}{path}?{query}": "GET https://a.example:8443/p%20q?" + m.Query,
		"{host}|{client}|{client.network}|{route}":      "a.example|2001:db8:1:2:3:4:5:6|2001:db8:1:2::/64|r",
		"{header.X-A}":               "1, 2",
		"{header.none}":              "",
		"{header.none|other} thing ": "other thing",
		"{cookie.id}{cookie.c|none}{cookie.late}{cookie.i|-}": "42none1-",
		"{query.name}":               "a%0D%0Aset-cookie: b c",
		"{query.e|e}{query.y|y}":     "ey",
		"{sni} {certificate}":        "sni CN=a?b",
		"{status}":                   `config.k: "{status}" asks for the answer ({status}), and there is none yet`,
		"{response.x}":               "and there is none yet",
		"{nothing}":                  "has {nothing}; there are: authority, certificate, client, client.network",
		"{header.}":                  "has {header.}",
		"{":                          "has a brace without its other half",
		"}":                          "has a brace without its other half",
		"a\r\nb":                     "has a line end",
		strings.Repeat("{path}", 33): "more than 32 parts",
	} {
		got := expand(t, in, m)
		if got != "true "+want && (strings.HasPrefix(got, "true") || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	m.Client, m.Headers = "::ffff:192.0.2.1", []string{"x-a", strings.Repeat("x", MaxText)}
	for in, want := range map[string]string{
		"{client.network}": "true 192.0.2.1", "{header.x-a}": "true " + m.Headers[1], "{header.x-a}!": "false ", strings.Repeat("{header.x-a}", 32): "false ",
	} {
		if got := expand(t, in, m); got != want {
			t.Errorf("%s: %.80s", in, got)
		}
	}
}

func TestTemplateDoesNotAllocate(t *testing.T) {
	var n float64
	wasmgate.Configure(nil)
	tmpl, err := value(t, `"{method} {path} {header.x-a} {query.q} {cookie.c} {client.network}"`).Template(false)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(100, func() { buf, _ = tmpl.Append(buf[:0], r) })
		return wasmgate.Continue
	})
	tester, err := wasmgate.NewTester("")
	if err != nil {
		t.Fatal(err)
	}
	tester.Request(wasmgate.TestMessage{Method: "GET", Path: "/", Query: "q=%41", Client: "2001:db8::1", Headers: []string{"x-a", "1", "cookie", "c=1"}})
	if n != 0 {
		t.Errorf("%v allocations for %s", n, buf)
	}
}

func networks(t *testing.T, list ...string) (n Networks, err error) {
	t.Helper()
	for _, s := range list {
		if err := n.Add(value(t, `"`+s+`"`)); err != nil {
			return n, err
		}
	}
	n.Seal()
	return n, nil
}

func TestNetworks(t *testing.T) {
	list := []string{"10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::1", "203.0.113.128/25", "203.0.113.0/25", "2001:db8:1::/63", "fe80::/10"}
	n, err := networks(t, list...)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "9.255.255.255": false, "192.0.2.7": true, "192.0.2.6": false, "192.0.2.8": false,
		"2001:db8::": true, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": true, "2001:db9::": false, "::1": true, "::": false, "::2": false,
		"::ffff:10.1.2.3": true, "203.0.113.0": true, "203.0.113.255": true, "203.0.114.0": false, "0.0.0.0": false, "fe80::1": true,
	} {
		if n.Contains(netip.MustParseAddr(in)) != want {
			t.Errorf("%s: %v", in, !want)
		}
	}
	for all, inside := range map[string]string{"0.0.0.0/0": "255.1.2.3", "::/0": "ffff::1"} {
		if n, err := networks(t, all); err != nil || !n.Contains(netip.MustParseAddr(inside)) {
			t.Errorf("%s: %v", all, err)
		}
	}
	if n, _ := networks(t, "0.0.0.0/0"); n.Contains(netip.MustParseAddr("::1")) {
		t.Error("0.0.0.0/0 has ::1")
	}
	for in, want := range map[string]string{
		"10.0.0.1/8": "the network is 10.0.0.0/8", "10.0.0.0/33": "is neither a network", "x": "is neither", "fe80::1%eth0": "is neither", "::ffff:10.0.0.0/104": "write it as IPv4",
	} {
		if _, err := networks(t, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	for in, want := range map[string]bool{"10.0.0.1": true, "fe80::1%eth0": true, "": false, "10.0.0.1:80": false} {
		if _, ok := ParseClient(in); ok != want {
			t.Errorf("%s: %v", in, ok)
		}
	}
}

// TestNetworksAgainstNetip asks about the borders of many networks.
func TestNetworksAgainstNetip(t *testing.T) {
	var prefixes []netip.Prefix
	var list []string
	for i := range 500 {
		a := netip.AddrFrom4([4]byte{byte(i * 7), byte(i * 31), byte(i), 0})
		p, _ := a.Prefix(8 + i%25)
		prefixes = append(prefixes, p)
		list = append(list, p.String())
	}
	n, err := networks(t, list...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), p.Addr().Next()} {
			want := false
			for _, q := range prefixes {
				want = want || q.Contains(a)
			}
			if a.IsValid() && n.Contains(a) != want {
				t.Errorf("%s: %v", a, !want)
			}
		}
	}
}

func TestCookie(t *testing.T) {
	for in, want := range map[string]string{"a=1": "1", "b=2; a=1": "1", "aa=2;a=1;a=3": "1", "b=a=2;a=1 ;": "1", "b; a=1\t": "1", "a": "-", "": "-", "a=": "", ";;a=x=y;": "x=y"} {
		v, ok := Cookie(in, "a")
		if !ok {
			v = "-"
		}
		if v != want {
			t.Errorf("%s: %s", in, v)
		}
	}
}

func TestParameter(t *testing.T) {
	for in, want := range map[string]string{
		"a=1": "1", "b=2&a=1": "1", "aa=2&a=1&a=3": "1", "a": "", "": "", "a=": "", "&&a=x=y&": "x=y", "%61=%31": "%31", "A=1": "", "b=a=2": "", "b&a=1": "1", "%6=1&%&a=2": "2",
	} {
		if v := Parameter(in, "a"); v != want {
			t.Errorf("%s: %s", in, v)
		}
	}
}

func TestManyKeys(t *testing.T) {
	object := func(last int) string {
		var b strings.Builder
		b.WriteString("{")
		for i := range 20 {
			fmt.Fprintf(&b, `"k%d":1,`, i)
		}
		return b.String() + fmt.Sprintf(`"k%d":1}`, last)
	}
	for last, want := range map[int]string{20: "<nil>", 0: "config.k.k0: the key is there twice", 7: "config.k.k7: the key is there twice", 8: "config.k.k8: the key is there twice", 19: "config.k.k19: the key is there twice"} {
		n := 0
		if err := value(t, object(last)).Map(func(string, Value) error { n++; return nil }); fmt.Sprint(err) != want || n < 20 {
			t.Errorf("%d: %v, %d", last, err, n)
		}
	}
}
