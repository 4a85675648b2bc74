package gateway_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// despiteStalls tries what a machine that stands still for a moment can spoil: bounds of time, and timeouts that are to hit some and
// not others. What a try finds wrong fails the test only where each of four does: other work on the machine comes and goes.
func despiteStalls(t *testing.T, try func(wrong func(format string, args ...any))) {
	t.Helper()
	const tries = 4
	for n := 1; ; n++ {
		var mu sync.Mutex
		var found []string
		try(func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, fmt.Sprintf(format, args...))
		})
		mu.Lock()
		text := strings.Join(found, "\n")
		mu.Unlock()
		switch {
		case text == "":
			return
		case n == tries:
			t.Fatalf("in each of %d tries, at last:\n%s", tries, text)
		}
		t.Logf("try %d:\n%s", n, text)
	}
}
