package main

import (
	"fmt"
	"math"
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

// split has what is told of three variants with these weights.
func split(a, b, c int, more string) string {
	return fmt.Sprintf(`{"variants":{"a":{"weight":%d,"upstream":"ua"},"b":{"weight":%d,"upstream":"ub"},"c":{"weight":%d}},"header":"x-variant"%s}`, a, b, c, more)
}

// variantOf is what a request goes to.
func variantOf(t *testing.T, p *wasmgate.Tester, m wasmgate.TestMessage) string {
	t.Helper()
	a := p.Request(m)
	name, ok := strings.CutPrefix(a.Edits[0], "set_header x-variant: ")
	if !ok || (name == "c") != (a.Decision == "continue") || name != "c" && a.Upstream != "u"+name {
		t.Fatalf("%+v", a)
	}
	return name
}

func user(i int) wasmgate.TestMessage {
	return wasmgate.TestMessage{Path: "/", Headers: []string{"x-user", fmt.Sprint("user-", i)}, Seed: uint64(i)}
}

const byUser = `,"key":["{header.x-user}","{client.network}"]`

func TestWeights(t *testing.T) {
	const n = 20_000
	for _, seeds := range []bool{false, true} {
		for _, w := range [][3]int{{90, 5, 5}, {1, 1, 1}, {0, 1, 3}, {1000, 1, 0}} {
			tester(t, split(w[0], w[1], w[2], ""))
			got := map[string]int{}
			for i := range uint64(n) {
				key := i // as poor as a seed can be
				if !seeds {
					key = hash(salt, fmt.Sprint("user-", i))
				}
				got[variants[draw(key)].name]++
			}
			for k, name := range []string{"a", "b", "c"} {
				share := float64(w[k]) / float64(w[0]+w[1]+w[2])
				if off := math.Abs(float64(got[name]) - share*n); off > 5*math.Sqrt(n*share*(1-share))+1 || w[k] == 0 && got[name] > 0 {
					t.Errorf("weights %v: %s has %d of %d", w, name, got[name], n)
				}
			}
		}
	}
}

// TestGrowth: who has a variant that grows, keeps it; and nobody moves between two others.
func TestGrowth(t *testing.T) {
	before := map[int]string{}
	for step, w := range [][3]int{{80, 15, 5}, {80, 15, 10}, {80, 15, 50}, {80, 15, 1000}} {
		p := tester(t, split(w[0], w[1], w[2], byUser))
		for i := range 500 {
			now := variantOf(t, p, user(i))
			if step > 0 && now != before[i] && now != "c" {
				t.Fatalf("weights %v: user %d went from %s to %s", w, i, before[i], now)
			}
			before[i] = now
		}
	}
}

// TestStable holds the assignment for ever: who deploys a new version of the plugin must not move users.
func TestStable(t *testing.T) {
	p, got := tester(t, split(50, 30, 20, byUser+`,"salt":"checkout"`)), ""
	for i := range 40 {
		got += variantOf(t, p, user(i))
	}
	if want := "aabcaacbbaacaaabaacaabbabaaaabbaaaaaaaba"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKeys(t *testing.T) {
	p := tester(t, split(1, 1, 1, byUser+`,"salt":"s"`))
	of := func(client string, seed uint64, fields ...string) string {
		return variantOf(t, p, wasmgate.TestMessage{Path: "/", Client: client, Seed: seed, Headers: fields})
	}
	networks := map[string]int{}
	for i := range 60 {
		seed := uint64(i) * 0x9e3779b97f4a7c15
		a, b := of(fmt.Sprintf("2001:db8:%d:1::1", i), seed), of(fmt.Sprintf("2001:db8:%d:1::2", i), ^seed)
		if a != b {
			t.Errorf("one network, %s and %s", a, b)
		}
		networks[a]++
		if u := of(fmt.Sprintf("2001:db8:%d:1::1", i), seed, "x-user", "ann"); u != of("192.0.2.1", 1, "x-user", "ann") {
			t.Errorf("one user, %s", u)
		}
	}
	if len(networks) != 3 {
		t.Errorf("%v", networks)
	}
	if a, b := of("", 1), of("", 6); a == b && of("", 3) == a && of("", 4) == a && of("", 5) == a {
		t.Errorf("without a key it is not chance: %s", a)
	}
}

// TestSalt: another experiment divides the same users otherwise.
func TestSalt(t *testing.T) {
	const n = 300
	var lanes [2][n]string
	for k, salt := range []string{"s", "t"} {
		p := tester(t, split(1, 1, 1, byUser+`,"salt":"`+salt+`"`))
		for i := range n {
			lanes[k][i] = variantOf(t, p, user(i))
		}
	}
	same := 0
	for i := range n {
		if lanes[0][i] == lanes[1][i] {
			same++
		}
	}
	if same < n/3-45 || same > n/3+45 {
		t.Errorf("%d of %d users have the same variant in both", same, n)
	}
}

func TestForce(t *testing.T) {
	p := tester(t, split(1, 0, 0, `,"force":["{header.x-variant}","{query.variant}","{cookie.forced}"]`))
	for _, c := range []struct {
		m    wasmgate.TestMessage
		want string
	}{
		{wasmgate.TestMessage{}, "a"},
		{wasmgate.TestMessage{Headers: []string{"X-Variant", "b"}}, "b"},
		{wasmgate.TestMessage{Headers: []string{"X-Variant", "unknown"}}, "a"},
		{wasmgate.TestMessage{Headers: []string{"X-Variant", "unknown", "cookie", "x=y; forced=c"}}, "c"},
		{wasmgate.TestMessage{Query: "variant=b", Headers: []string{"cookie", "forced=c"}}, "b"},
		{wasmgate.TestMessage{Headers: []string{"X-Variant", strings.Repeat("b", 30_000)}}, "a"},
		{wasmgate.TestMessage{Headers: []string{"X-Variant", "b", "X-Variant", "b"}}, "a"},
	} {
		if got := variantOf(t, p, c.m); got != c.want {
			t.Errorf("%.100v: %s, want %s", c.m, got, c.want)
		}
	}
}

func TestRemember(t *testing.T) {
	p := tester(t, split(1, 0, 1, byUser+`,"force":"{header.x-variant}","remember":{"cookie":"lane","max_age":"7d"}`))
	context := func(m wasmgate.TestMessage) (word string) {
		for _, e := range p.Request(m).Edits {
			if w, ok := strings.CutPrefix(e, "context "); ok {
				word = w
			}
		}
		return word
	}
	for _, fields := range []string{"cookie lane=a", "cookie lane=c", "cookie x=y;lane=c", "cookie lane=b x-variant b", "x-variant b", "x-user ann"} {
		if got := context(wasmgate.TestMessage{Headers: strings.Fields(fields)}); got != "" {
			t.Errorf("%s: %q", fields, got)
		}
	}
	for _, fields := range []string{"", "cookie lane=b", "cookie lane=unknown", "cookie lane="} { // b has no weight any more
		if got := context(wasmgate.TestMessage{Headers: strings.Fields(fields)}); got != "1" && got != "3" {
			t.Errorf("%s: %q", fields, got)
		}
	}
	for _, c := range []struct {
		m    wasmgate.TestMessage
		want string
	}{
		{wasmgate.TestMessage{Context: 3, Scheme: "http"}, "[append_header set-cookie: lane=c; Path=/; Max-Age=604800; SameSite=Lax; HttpOnly]"},
		{wasmgate.TestMessage{Context: 1, Scheme: "https"}, "[append_header set-cookie: lane=a; Path=/; Max-Age=604800; SameSite=Lax; HttpOnly; Secure]"},
		{wasmgate.TestMessage{Context: 9}, "[]"},
	} {
		if a := p.Response(c.m); fmt.Sprint(a.Edits) != c.want {
			t.Errorf("%+v", a)
		}
	}
}

func TestTraced(t *testing.T) {
	a := tester(t, split(1, 0, 0, "")).Request(wasmgate.TestMessage{Sampled: true})
	if fmt.Sprint(a.Edits) != "[set_header x-variant: a attribute canary.variant: a]" {
		t.Errorf("%+v", a)
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	for config, want := range map[string]string{
		"":                                             "config.variants: there are 0, and it takes 2 to 16",
		`{"variants":{"a":{"weight":1}}}`:              "config.variants: there are 1",
		split(0, 0, 0, ""):                             "config.variants: no variant has a weight",
		split(1, -1, 0, ""):                            "config.variants.b.weight: -1 is not a whole number from 0 to 1000000",
		`{"variants":{"a":{"upstream":"u"}}}`:          "config.variants.a.weight is missing",
		`{"variants":{"a b":{"weight":1}}}`:            "config.variants.a b: a variant's name has",
		`{"variants":{"a":{"wieght":1}}}`:              "config.variants.a.wieght: there is no such key; the keys are upstream, weight",
		`{"variants":["a"]}`:                           `config.variants: ["a"] is not an object`,
		split(1, 1, 1, `,"key":"{nothing}"`):           "config.key: ",
		split(1, 1, 1, `,"remember":{}`):               "config.remember.cookie is missing",
		split(1, 1, 1, `,"remember":{"cookie":"a b"}`): "config.remember.cookie: \"a b\" is not the name of a cookie",
		split(1, 1, 1, `,"remember":{"cookie":"a","max_age":"500d"}`): `config.remember.max_age: "500d" is not from 1s to`,
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := tester(t, split(1, 1, 1, byUser+`,"force":"{header.x-variant}","remember":{"cookie":"lane"}`))
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(20, func() { request(r) })
		return wasmgate.Continue
	})
	defer wasmgate.Handle(request)
	p.Request(user(1))
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
