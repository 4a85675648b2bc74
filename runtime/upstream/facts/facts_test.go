package facts

import (
	"regexp"
	"testing"
	"time"
)

func TestReasonsAreWordsAndUnique(t *testing.T) {
	word := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for name, list := range map[string][]string{"open": OpenReasons, "close": CloseReasons} {
		seen := map[string]bool{}
		for _, r := range list {
			if !word.MatchString(r) || seen[r] {
				t.Errorf("%s reason %q is not a word of its own", name, r)
			}
			seen[r] = true
		}
	}
}

func TestDNSAge(t *testing.T) {
	c := Connection{DNSAnswerAt: 1e9, DialStart: 3e9}
	if c.DNSAge() != 2*time.Second {
		t.Fatal(c.DNSAge())
	}
	c = Connection{DialStart: 3e9}
	if c.DNSAge() != 0 {
		t.Fatal("no answer, yet an age")
	}
}
