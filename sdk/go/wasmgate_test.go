package wasmgate

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"wasmgate/sdk/abi"
)

// register installs handlers for one test and removes them afterwards.
func register(t *testing.T, conf func(*Config) error, req func(*Request) Decision, resp func(*Response) Decision) {
	t.Helper()
	saved := plugin
	plugin.configure, plugin.request, plugin.response = conf, req, resp
	t.Cleanup(func() { plugin = saved })
}

func TestDecisions(t *testing.T) {
	var users, orders Upstream
	var decide func(*Request) Decision
	register(t, func(c *Config) error {
		users, orders = c.Upstream("users"), c.Upstream("orders")
		return nil
	}, func(r *Request) Decision { return decide(r) }, nil)
	tester, err := NewTester("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fn   func(*Request) Decision
		want TestAnswer
	}{
		{"continue", func(*Request) Decision { return Continue }, TestAnswer{Decision: "continue"}},
		{"no match drops edits", func(r *Request) Decision { r.SetPath("/x"); return NoMatch }, TestAnswer{Decision: "no_match"}},
		{"route", func(*Request) Decision { return RouteTo(orders) }, TestAnswer{Decision: "route", Upstream: "orders"}},
		{"route with an edit", func(r *Request) Decision { r.SetHeader("a", ""); return RouteTo(users) },
			TestAnswer{Decision: "route", Upstream: "users", Edits: []string{"set_header a: "}}},
		{"deny", func(*Request) Decision { return Deny(0) }, TestAnswer{Decision: "deny", Status: 403}},
		{"deny with an attribute", func(r *Request) Decision { r.Attribute("why", "quota"); return Deny(429) },
			TestAnswer{Decision: "respond", Status: 429, Edits: []string{"attribute why: quota"}}},
		{"fail", func(*Request) Decision { return Fail("no tenants") }, TestAnswer{Decision: "error", Text: "no tenants"}},
		{"respond", func(r *Request) Decision { return r.Respond(200, "hi", "content-type", "text/plain") },
			TestAnswer{Decision: "respond", Status: 200, Text: "hi", Edits: []string{"respond_header content-type: text/plain"}}},
		{"all edits", func(r *Request) Decision {
			r.SetMethod("PUT")
			r.SetAuthority("b:1")
			r.SetPath("/p")
			r.SetQuery("q")
			r.SetAddress("10.0.0.1:80")
			r.SetTimeout(5)
			r.SetHashKey(7)
			r.AppendHeader("x", "1")
			r.RemoveHeader("y")
			r.Log(Warn, "w")
			r.SetContext(9)
			r.Rematch()
			return Continue
		}, TestAnswer{Decision: "continue", Logged: []string{"2 w"}, Edits: []string{"method PUT", "authority b:1", "path /p",
			"query q", "address 10.0.0.1:80", "timeout 5", "hash_key 7", "append_header x: 1", "remove_header y",
			"context 9", "rematch"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			decide = c.fn
			if got := tester.Request(TestMessage{Path: "/"}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestReading(t *testing.T) {
	var a, b, c, d Header
	register(t, func(*Config) error {
		a, b, c = RequestHeader("X-A"), RequestHeader("x-b"), RequestHeader("x-c")
		d = ResponseHeader("x-d")
		return nil
	}, func(r *Request) Decision {
		if r.HeaderCount(d) != 0 {
			return Fail("response header in the request phase")
		}
		v, ok := r.LookupRequest(nil, "undeclared", 0)
		_, no := r.LookupRequest(nil, "undeclared", 1)
		return Fail(fmt.Sprint(r.Method(), r.Host(), r.Path(), r.Query(), r.HasQuery(), r.Client(), r.Route(), r.Role(),
			r.HeaderCount(a), r.Header(a), r.HeaderCount(b), r.HeaderAt(b, 1), r.HeaderAt(b, 2), r.HeaderCount(c), string(v), ok, no))
	}, func(r *Response) Decision {
		return Fail(fmt.Sprint(r.Status(), r.Context(), r.Header(a), r.Header(d), r.Local()))
	})
	tester, err := NewTester("")
	if err != nil {
		t.Fatal(err)
	}
	m := TestMessage{Method: "GET", Authority: "[::1]:80", Path: "/p", Query: "q=1", Client: "10.0.0.9", Route: "r", Role: RoleMatch,
		Headers: []string{"x-a", "1", "X-B", "", "x-b", "2", "undeclared", "u"}}
	if got, want := tester.Request(m).Text, fmt.Sprint("GET", "[::1]", "/p", "q=1", true, "10.0.0.9", "r", RoleMatch,
		1, "1", 2, "2", "", 0, "u", true, false); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.Status, m.Context, m.ResponseHeaders = 201, 5, []string{"X-D", "d"}
	if got, want := tester.Response(m).Text, fmt.Sprint(201, 5, "1", "d", false); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnswerOutgrowsItsArena(t *testing.T) {
	big := strings.Repeat("x", 3*arenaSize)
	edits := 1
	register(t, nil, func(r *Request) Decision {
		for range edits {
			r.SetHeader("a", big)
		}
		return Continue
	}, nil)
	if _, err := NewTester(""); err != nil {
		t.Fatal(err)
	}
	saved := out
	t.Cleanup(func() { out = saved })
	before := len(out.arena)
	_, n := abi.Unpack(request(make([]byte, abi.ViewFixed)))
	if int(n) <= before || len(out.arena) != before {
		t.Fatalf("answer of %d bytes, arena of %d", n, len(out.arena))
	}
	resize(abi.AnswerArena, n)
	if len(out.arena) < int(n) || &out.arena[0] != &out.buf[0] {
		t.Fatal("resize does not return where the answer is")
	}
	// An answer that grew and shrank again must be where the host looks.
	register(t, nil, func(r *Request) Decision {
		r.SetHeader("a", strings.Repeat(big, 4))
		return Fail("short")
	}, nil)
	_, n = abi.Unpack(request(make([]byte, abi.ViewFixed)))
	if string(out.arena[:n]) != "short" {
		t.Fatalf("the arena has %q", out.arena[:n])
	}
}

func TestNoAllocation(t *testing.T) {
	var h Header
	register(t, func(*Config) error { h = RequestHeader("x-a"); return nil }, func(r *Request) Decision {
		if PathUnder(r.Path(), "/admin") {
			return Deny(0)
		}
		r.SetHeader("x-b", r.Header(h))
		return RouteTo(0)
	}, nil)
	tester, err := NewTester("")
	if err != nil {
		t.Fatal(err)
	}
	v := tester.encode(&TestMessage{Method: "GET", Path: "/a", Headers: []string{"x-a", "1"}}, abi.PhaseRequest)
	if n := testing.AllocsPerRun(100, func() { request(v) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConfigure(t *testing.T) {
	register(t, func(*Config) error { return errors.New("no default") }, func(*Request) Decision { return Continue }, nil)
	if _, err := NewTester(""); err == nil || err.Error() != "no default" {
		t.Errorf("got %v", err)
	}
	register(t, nil, nil, nil)
	if _, err := NewTester(""); err == nil || !strings.Contains(err.Error(), "wasmgate.Handle") {
		t.Errorf("a plugin without handlers: %v", err)
	}
}

func TestPathUnder(t *testing.T) {
	for _, c := range []struct {
		path string
		want bool
	}{{"/admin", true}, {"/admin/", true}, {"/admin/x", true}, {"/administer", false}, {"/adm", false}, {"", false}, {"/x/admin", false}} {
		if PathUnder(c.path, "/admin") != c.want {
			t.Errorf("%q", c.path)
		}
	}
}

func walk(in string) (got []string, err error) {
	c := Config{abi.Config{Bytes: []byte(in)}}
	err = c.Walk(func(path []string, v string) error {
		got = append(got, strings.Join(path, "/")+"="+v)
		return nil
	})
	return got, err
}

func TestWalk(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "{}": nil, "[]": nil, `"s"`: {"=s"}, " 12 ": {"=12"},
		`{"default":"users","tenants":{"acme":"acme-upstream","b":"c"},"n":[1,true,null,"x"]}`: {"default=users",
			"tenants/acme=acme-upstream", "tenants/b=c", "n/0=1", "n/1=true", "n/2=null", "n/3=x"},
		`{"a\"\\\/\n":"\u00e9\ud83d\ude00\ud800x"}`: {"a\"\\/\n=é😀\uFFFDx"},
	} {
		got, err := walk(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"{", `{"a"}`, `{"a":}`, `{"a":1,}`, `[1`, `"`, `"\`, `"\u12"`, `"\x"`, "1 2", "}", `{"a":1 "b":2}`,
		"\"\n\"", strings.Repeat("[", 40)} {
		if got, err := walk(in); err == nil {
			t.Errorf("%s: accepted as %q", in, got)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(`{"a":{"b":["c",1]}}`)
	f.Fuzz(func(t *testing.T, in string) {
		_, err := walk(in)
		var v any
		if json.Unmarshal([]byte(in), &v) == nil && err != nil && !errors.Is(err, errDepth) {
			t.Errorf("refuses JSON: %v", err)
		}
	})
}
