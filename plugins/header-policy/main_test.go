package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

const config = `{
	"request": {
		"remove": ["x-internal", "X-User"],
		"rename": {"X-Api-Key": "x-key"},
		"default": {"accept-language": "en"},
		"set": {"x-user": "{header.x-account|anonymous}", "x-who": "{method} {host}{path} from {client} by {route}", "x-tag": "{query.tag}"},
		"append": {"x-trail": ["a", "b {header.x-trail}"]}
	},
	"response": {
		"remove": ["server"],
		"set": {"x-upstream-said": "{status} {response.server}", "strict-transport-security": "max-age=1"},
		"append": {"set-cookie": "seen={path}"}
	}
}`

func tester(t testing.TB, config string) *wasmgate.Tester {
	t.Helper()
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRequest(t *testing.T) {
	p := tester(t, config)
	for _, c := range []struct {
		m    wasmgate.TestMessage
		want []string
	}{
		{wasmgate.TestMessage{Method: "GET", Authority: "a.example:80", Path: "/p", Client: "192.0.2.7", Route: "r"}, []string{
			"remove_header x-internal", "remove_header x-user", "append_header accept-language: en", "set_header x-tag: TAG",
			"set_header x-user: anonymous", "set_header x-who: GET a.example/p from 192.0.2.7 by r", "append_header x-trail: a", "append_header x-trail: b",
		}},
		{wasmgate.TestMessage{Method: "PUT", Authority: "b", Path: "/", Query: "tag=x%0d%0ay", Client: "::1", Route: "r", Headers: []string{
			"x-api-key", "1", "X-Api-Key", "2", "accept-language", "", "x-account", "ann", "x-user", "root", "x-trail", "z",
		}}, []string{
			"remove_header x-internal", "remove_header x-user", "set_header x-key: 1", "append_header x-key: 2", "remove_header x-api-key", "set_header x-tag: x%0D%0Ay",
			"set_header x-user: ann", "set_header x-who: PUT b/ from ::1 by r", "append_header x-trail: a", "append_header x-trail: b z",
		}},
	} {
		a := p.Request(c.m)
		slices.Sort(c.want) // objects have no order but that of their parts
		slices.Sort(a.Edits)
		want := strings.ReplaceAll(strings.Join(c.want, "\n"), "set_header x-tag: TAG", "remove_header x-tag")
		got := strings.Split(want, "\n")
		slices.Sort(got)
		if a.Decision != "continue" || !slices.Equal(a.Edits, got) {
			t.Errorf("got  %q\nwant %q", a.Edits, got)
		}
	}
}

func TestOrder(t *testing.T) {
	p := tester(t, `{"request": {"append": {"a": "5"}, "set": {"a": "4"}, "default": {"a": "3"}, "rename": {"b": "a"}, "remove": "a"}}`)
	a := p.Request(wasmgate.TestMessage{Headers: []string{"b", "2"}})
	want := []string{"remove_header a", "set_header a: 2", "remove_header b", "append_header a: 3", "set_header a: 4", "append_header a: 5"}
	if !slices.Equal(a.Edits, want) {
		t.Errorf("%q", a.Edits)
	}
}

func TestResponse(t *testing.T) {
	p := tester(t, config)
	a := p.Response(wasmgate.TestMessage{Path: "/p", Status: 404, ResponseHeaders: []string{"Server", "nginx"}})
	slices.Sort(a.Edits)
	want := []string{
		"append_header set-cookie: seen=/p", "remove_header server", "set_header strict-transport-security: max-age=1", "set_header x-upstream-said: 404 nginx",
	}
	if a.Decision != "continue" || !slices.Equal(a.Edits, want) {
		t.Errorf("%+v", a)
	}
}

func TestTooMuch(t *testing.T) {
	long := strings.Repeat("x", 8000)
	var headers, names []string
	for i := range 10 {
		headers = append(headers, fmt.Sprint("h", i), long)
		names = append(names, fmt.Sprintf(`"s%d": "{header.h%d}"`, i, i))
	}
	for config, status := range map[string][2]int{
		`{"request": {"set": {"a": "{header.h0}{header.h1}"}}, "response": {"set": {"a": "{header.h0}{header.h1}"}}}`:          {431, 502},
		`{"request": {"set": {` + strings.Join(names, ",") + `}}, "response": {"append": {` + strings.Join(names, ",") + `}}}`: {431, 502},
	} {
		p := tester(t, config)
		m := wasmgate.TestMessage{Path: "/", Headers: headers}
		if a := p.Request(m); a.Status != status[0] {
			t.Errorf("%.40s: %+v", config, a)
		}
		if a := p.Response(m); a.Status != status[1] {
			t.Errorf("%.40s: %+v", config, a)
		}
	}
	p := tester(t, `{"request": {"rename": {"a": "b"}}}`)
	if a := p.Request(wasmgate.TestMessage{Headers: strings.Split(strings.Repeat("a,1,", 300)+"b,1", ",")}); a.Status != 431 {
		t.Errorf("%+v", a)
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	steps := "[" + strings.Repeat(`"x",`, 100) + `"x"]`
	for config, want := range map[string]string{
		"":                                               "config: nothing is to be done",
		`{"request":{"remove":[]}}`:                      "config: nothing is to be done",
		`{"requests":{}}`:                                "config.requests: there is no such key; the keys are request, response",
		`{"request":{"add":{}}}`:                         "config.request.add: there is no such key; the keys are append, default, remove, rename, set",
		`{"request":{"set":{"host":"x"}}}`:               "config.request.set.host: host is the gateway's own",
		`{"request":{"set":{"a b":"x"}}}`:                `config.request.set.a b: "a b" is not the name of a header`,
		`{"request":{"set":{"a":"{nothing}"}}}`:          `config.request.set.a: "{nothing}" has {nothing}; there are:`,
		`{"request":{"set":{"a":"{status}"}}}`:           "there is none yet",
		`{"request":{"set":{"a":"x\ny"}}}`:               `config.request.set.a: "x\ny" has a line end`,
		`{"request":{"set":{"a":["x","{"]}}}`:            "config.request.set.a[1]: ",
		`{"request":{"set":["a"]}}`:                      "config.request.set: [\"a\"] is not an object",
		`{"response":{"rename":{"a":"Content_Length"}}}`: "config.response.rename.a: content-length is the gateway's own",
		`{"response":{"rename":{"te":"a"}}}`:             "config.response.rename.te: te is the gateway's own",
		`{"response":{"remove":"connection"}}`:           "config.response.remove: connection is the gateway's own",
		`{"response":{"remove":` + steps + `}}`:          "config.response: there are 101 steps, and at most 100",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// TestOnePhase has a policy for answers only ask for nothing else.
func TestOnePhase(t *testing.T) {
	p := tester(t, `{"response":{"set":{"a":"b"}}}`)
	if a := p.Request(wasmgate.TestMessage{}); len(a.Edits) != 0 {
		t.Errorf("%+v", a)
	}
	if a := p.Response(wasmgate.TestMessage{}); len(a.Edits) != 1 {
		t.Errorf("%+v", a)
	}
	if a := tester(t, `{"request":{"set":{"a":"b"}}}`).Response(wasmgate.TestMessage{}); len(a.Edits) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestNoAllocation(t *testing.T) {
	p := tester(t, config)
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(20, func() { request(r) })
		return wasmgate.Continue
	})
	p.Request(wasmgate.TestMessage{Method: "GET", Path: "/", Query: "tag=1", Client: "10.0.3.3", Headers: []string{"x-api-key", "1", "x-account", "a"}})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
