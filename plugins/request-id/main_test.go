package main

import (
	"fmt"
	"regexp"
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

// edit is the value of an edit of a request; "-" if there is none.
func edit(a wasmgate.TestAnswer, name string) string {
	for _, e := range a.Edits {
		if v, ok := strings.CutPrefix(e, name+": "); ok {
			return v
		}
	}
	return "-"
}

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestIdentifiers(t *testing.T) {
	p := tester(t, "")
	ids := map[string]bool{}
	var last string
	for i := range 100 {
		a := p.Request(wasmgate.TestMessage{Time: 1789000000000 + int64(i), Seed: uint64(i%10) << 60})
		id := edit(a, "set_header x-request-id")
		if !uuid7.MatchString(id) || ids[id] || id < last {
			t.Errorf("%s after %s", id, last)
		}
		ids[id], last = true, id
	}
	if !strings.HasPrefix(last, "01a088b5-a2") { // 1789000000099 in hexadecimal
		t.Errorf("%s does not begin with the time", last)
	}
	for range 100 { // the same time and the same seed
		id := edit(p.Request(wasmgate.TestMessage{}), "set_header x-request-id")
		if ids[id] {
			t.Errorf("%s comes again", id)
		}
		ids[id] = true
	}
	a := p.Request(wasmgate.TestMessage{Sampled: true})
	if id := edit(a, "set_header x-request-id"); edit(a, "attribute request.id") != id {
		t.Errorf("%+v", a)
	}
}

func TestTrust(t *testing.T) {
	for config, takes := range map[string]map[string]bool{
		`{}`:                             {"10.0.0.1": false},
		`{"trust":false}`:                {"10.0.0.1": false},
		`{"trust":true}`:                 {"10.0.0.1": true, "": true},
		`{"trust":["10.0.0.0/8","::1"]}`: {"10.0.0.1": true, "::1": true, "11.0.0.1": false, "": false},
	} {
		for client, want := range takes {
			a := tester(t, config).Request(wasmgate.TestMessage{Client: client, Sampled: true, Headers: []string{"X-Request-Id", "theirs"}})
			if got := edit(a, "set_header x-request-id") == "-"; got != want || (edit(a, "attribute request.id") == "theirs") != want {
				t.Errorf("%s, %s: %+v", config, client, a)
			}
		}
	}
	p := tester(t, `{"trust":true,"header":"X-Correlation-ID"}`)
	for id, want := range map[string]bool{
		"a": true, "00-4bf92f3577b34da6-01": true, "Root=1-67891233-abc:Self=x/y+z~@_.": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "": false, "a b": false, "a,b": false, `a"`: false, "<script>": false, "a;b": false, "\xff": false, "${jndi}": false, "a\x7f": false,
	} {
		a := p.Request(wasmgate.TestMessage{Headers: []string{"x-correlation-id", id}})
		if got := edit(a, "set_header x-correlation-id") == "-"; got != want {
			t.Errorf("%q: %+v", id, a)
		}
	}
	if a := p.Request(wasmgate.TestMessage{Headers: []string{"x-correlation-id", "a", "x-correlation-id", "b"}}); edit(a, "set_header x-correlation-id") == "-" {
		t.Errorf("two of them: %+v", a)
	}
}

func TestAnswer(t *testing.T) {
	m := wasmgate.TestMessage{Headers: []string{"x-request-id", "id"}, ResponseHeaders: []string{"x-request-id", "other"}}
	if a := tester(t, "").Response(m); fmt.Sprint(a.Edits) != "[set_header x-request-id: id]" {
		t.Errorf("%+v", a)
	}
	if a := tester(t, `{"answer":false}`).Response(m); len(a.Edits) != 0 {
		t.Errorf("%+v", a)
	}
	if a := tester(t, "").Response(wasmgate.TestMessage{}); len(a.Edits) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestBaggage(t *testing.T) {
	const ours = `{"baggage":{"tenant":"{header.x-tenant}","path":"{path}"},"trust":["10.0.0.0/8"]}`
	theirs := []string{"baggage", "user=ann;prop=1 , tenant=forged,bad,=x,a b=c", "baggage", "path=/x,late=%201"}
	for _, c := range []struct {
		config string
		m      wasmgate.TestMessage
		want   []string
	}{
		{ours, wasmgate.TestMessage{Path: "/a,b;\"c\\%20é", Headers: []string{"x-tenant", "a c"}}, []string{"path=/a%2Cb%3B%22c%5C%2520%C3%A9", "tenant=a%20c"}},
		{ours, wasmgate.TestMessage{Path: "/p", Headers: theirs}, []string{"path=/p"}},
		{ours, wasmgate.TestMessage{Path: "/p", Headers: theirs, Client: "10.0.0.1"}, []string{"late=%201", "path=/p", "user=ann;prop=1"}},
		{ours, wasmgate.TestMessage{Client: "10.0.0.1"}, []string{"-"}},
		{`{"baggage":{}}`, wasmgate.TestMessage{Headers: theirs}, []string{"-"}},
		{`{}`, wasmgate.TestMessage{Headers: theirs}, []string{"-"}},
	} {
		a := tester(t, c.config).Request(c.m)
		got := strings.Split(edit(a, "set_header baggage"), ",")
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s %+v: %q", c.config, c.m, got)
		}
		if removed := slices.Contains(a.Edits, "remove_header baggage"); removed != (c.config == `{"baggage":{}}`) {
			t.Errorf("%s: %q", c.config, a.Edits)
		}
	}
	// Whatever comes, the bounds hold, and ours go before theirs.
	p := tester(t, `{"baggage":{"path":"{path}"},"trust":true}`)
	for _, path := range []string{"/", "/" + strings.Repeat("é", 511), "/" + strings.Repeat("é", 512)} {
		for _, member := range []string{"k=v,", "k=" + strings.Repeat("v", 200) + ","} {
			a := p.Request(wasmgate.TestMessage{Path: path, Headers: []string{"baggage", strings.Repeat(member, 30_000/len(member))}})
			list := edit(a, "set_header baggage")
			if len(list) > maxBaggage || strings.Count(list, ",") >= maxMembers || len(path) <= 1024 && !strings.HasPrefix(list, "path=/") || len(path) > 1024 && strings.Contains(list, "path=") {
				t.Errorf("%d bytes, %d members, %.20s", len(list), strings.Count(list, ",")+1, list)
			}
		}
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprintf(`"k%d":"v"`, i))
	}
	for config, want := range map[string]string{
		`{"head":"x"}`:                                  "config.head: there is no such key; the keys are answer, baggage, header, trust",
		`{"header":"host"}`:                             "config.header: host is the gateway's own",
		`{"trust":"all"}`:                               `config.trust: "all" is neither a network`,
		`{"trust":["10.0.0.0/99"]}`:                     `config.trust[0]: "10.0.0.0/99" is neither a network`,
		`{"answer":1}`:                                  "config.answer: 1 is neither true nor false",
		`{"baggage":{"a b":"c"}}`:                       "config.baggage.a b: the key of baggage has",
		`{"baggage":{"a":"{x}"}}`:                       "config.baggage.a: ",
		`{"baggage":{` + strings.Join(many, ",") + `}}`: "config.baggage: there are 33, and at most 32",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := tester(t, `{"baggage":{"path":"{path}"},"trust":true}`)
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(20, func() { request(r) })
		return wasmgate.Continue
	})
	defer wasmgate.Handle(request)
	p.Request(wasmgate.TestMessage{Path: "/p", Client: "10.0.0.1", Headers: []string{"baggage", "a=b, c=d"}})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
