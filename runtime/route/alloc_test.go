//go:build !race

package route

import "testing"

// Not with the race detector: the pool from which package regexp takes its machines forgets some there.
func TestMatchingAllocatesNothing(t *testing.T) {
	tb := table(t,
		Rule{Name: "h", Hosts: []string{"other.example"}},
		Rule{Name: "q", Query: []Condition{{"x", Exact, "y"}}, Headers: []Condition{{"x-a", Regex, "b+"}}},
		Rule{Name: "r", PathRegex: "^/users/([0-9]{4})/(.*)$"},
	)
	path, _ := NewTemplate("/u/$1/$2", "^/users/([0-9]{4})/(.*)$")
	host, _ := NewTemplate("h$1.internal:80", "^/users/([0-9]{4})/(.*)$")
	r := request(t, "GET /users/1234/some/where?a=b&x=z", "X-A: bbb")
	var m Match
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		if tb.Match(r, 0, &m) != 2 {
			t.Fatal("no match")
		}
		buf = path.Append(buf[:0], &m)
		if _, err := host.AppendAuthority(buf[:0], &m); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("matching allocates %v times", n)
	}
}
