package route

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestExplainNamesWhatDiffers(t *testing.T) {
	tb := table(t,
		Rule{Name: "host", Hosts: []string{"a.example", "*.b.example"}},
		Rule{Name: "path", Path: "/x"},
		Rule{Name: "prefix", PathPrefix: "/app"},
		Rule{Name: "regex", PathRegex: "^/[0-9]+$"},
		Rule{Name: "method", Methods: []string{"PUT", "POST"}},
		Rule{Name: "field", Headers: []Condition{{Name: "x-ok", Kind: Present}, {Name: "x-tier", Value: "gold"}}},
		Rule{Name: "no field", Headers: []Condition{{Name: "x-ok", Kind: Absent}}},
		Rule{Name: "query", Query: []Condition{{Name: "v", Kind: Regex, Value: "^2"}}},
		Rule{Name: "no query", Query: []Condition{{Name: "w", Kind: Present}}},
		Rule{Name: "all"},
	)
	r := request(t, "GET /application?v=1&v=%33", "Host: C.example:80", "x-ok: yes", "x-tier: tin")
	want := []Mismatch{
		{Part: "host", Want: "a.example or *.b.example", Have: "c.example"},
		{Part: "path", Want: "/x", Have: "/application"},
		{Part: "path_prefix", Want: "/app", Have: "/application"},
		{Part: "path_regex", Want: "^/[0-9]+$", Have: "/application"},
		{Part: "methods", Want: "PUT or POST", Have: "GET"},
		{Part: "headers", Name: "x-tier", Want: "gold", Have: "tin"},
		{Part: "headers", Name: "x-ok", Want: "nothing", Have: "yes"},
		{Part: "query", Name: "v", Want: "regex ^2", Have: "3"},
		{Part: "query", Name: "w", Want: "any value", Have: "nothing"},
		{},
	}
	got := tb.Explain(r, 0, tb.Len())
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %+v, want %+v", tb.At(i), got[i], want[i])
		}
	}
	if part := tb.Explain(r, 4, 6); len(part) != 2 || part[0] != want[4] || part[1] != want[5] {
		t.Errorf("a part of the table: %+v", part)
	}
}

// TestExplainAgreesWithMatch asks for every way through random tables: each rule that Match finds is one that Explain has
// nothing against, and each that it passes over has a reason.
func TestExplainAgreesWithMatch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	hosts := []string{"a.example", "b.example", "*.example", "*.b.example", "x.b.example"}
	for range 200 {
		var rules []Rule
		for i := range 1 + random.IntN(40) {
			r := Rule{Name: fmt.Sprint(i)}
			for random.IntN(2) == 0 {
				r.Hosts = append(r.Hosts, pick(hosts...))
			}
			switch random.IntN(5) {
			case 0:
				r.Path = pick("/", "/a", "/a/b", "/%41")
			case 1:
				r.PathPrefix = pick("/", "/a", "/a/", "/b")
			case 2:
				r.PathRegex = pick("^/[ab]/", "b$", "^/(a|b)+$")
			}
			if random.IntN(4) == 0 {
				r.Methods = []string{pick("GET", "POST")}
			}
			if random.IntN(4) == 0 {
				r.Headers = []Condition{{Name: "x-a", Kind: Kind(random.IntN(4)), Value: pick("1", "2")}} //nolint:gosec // below 4
			}
			if random.IntN(4) == 0 {
				r.Query = []Condition{{Name: "q", Kind: Kind(random.IntN(4)), Value: pick("1", "2")}} //nolint:gosec // below 4
			}
			rules = append(rules, r)
		}
		tb := table(t, rules...)
		for range 50 {
			fields := []string{"Host: " + pick("a.example", "B.example:80", "x.b.example", "y.x.b.example.", "other")}
			for random.IntN(2) == 0 {
				fields = append(fields, "x-a: "+pick("1", "2", "3"))
			}
			r := request(t, pick("GET", "POST")+" "+pick("/", "/a", "/a/b", "/b/a", "/%41", "/ab")+pick("", "?", "?q=1", "?q=3&q=%32", "?r=1"), fields...)
			why, next := tb.Explain(r, 0, tb.Len()), 0
			var m Match
			for at := tb.Match(r, 0, &m); at >= 0; at = tb.Match(r, at+1, &m) {
				next = against(t, why, next, at)
			}
			against(t, why, next, -1)
		}
	}
}

// against holds what is said of the rules from one on up to the one that matched, -1 for none, to that; it returns the next.
func against(t *testing.T, why []Mismatch, from, matched int) int {
	t.Helper()
	to := matched
	if to < 0 {
		to = len(why)
	}
	for i := from; i < to; i++ {
		if m := why[i]; m.Part == "" || m.Want == "" || strings.Contains(m.Part, "headers") != (m.Name == "x-a") {
			t.Fatalf("rule %d did not match: %+v", i, m)
		}
	}
	if matched >= 0 && why[matched] != (Mismatch{}) {
		t.Fatalf("rule %d matched: %+v", matched, why[matched])
	}
	return to + 1
}
