//go:build !wasmgate_portable

package netloop

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestOthersGoBeforeWhoYields: of the tasks that have much to do, one goes on in each turn of the loop, in their order; what
// arrives meanwhile is not behind all of them.
func TestOthersGoBeforeWhoYields(t *testing.T) {
	l := start(t, Options{Loops: 1}).Loop(0)
	var order []string
	var tasks sync.WaitGroup
	tasks.Add(4)
	l.Post(func() {
		for _, name := range []string{"a", "b", "c"} {
			l.Go(func(t *Task) {
				for range 2 {
					t.Yield()
					order = append(order, name)
				}
				tasks.Done()
			})
		}
		l.Go(func(t *Task) { // is woken again and again
			for range 3 {
				l.Post(t.Wake)
				t.Park()
				order = append(order, "short")
			}
			tasks.Done()
		})
	})
	tasks.Wait()
	if got, want := strings.Join(order, " "), "a short b short c short a b c"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// TestAPatientTaskIsServedInTurn: of many answers that have arrived, a few are read in each turn, and a request that arrived
// after them is not behind them.
func TestAPatientTaskIsServedInTurn(t *testing.T) {
	const many = 20
	g := start(t, Options{Loops: 1})
	l := g.Loop(0)
	type served struct {
		turn int64
		said string
	}
	var order []served
	var waiting, done sync.WaitGroup
	waiting.Add(many + 1)
	done.Add(many + 1)
	addr := listen(t, g, func(c *Conn) {
		c.Go(func(task *Task, c *Conn) {
			defer c.Close()
			var b [1]byte
			if _, err := c.Read(task, b[:]); err != nil {
				t.Error(err)
			}
			task.SetPatient(b[0] == 'p')
			waiting.Done()
			if _, err := c.Read(task, b[:]); err != nil {
				t.Error(err)
			}
			order = append(order, served{l.Now(), string(b[:])})
			done.Done()
		})
	})
	var clients []io.Writer
	for i := range many + 1 {
		c := dial(t, addr)
		said := "p"
		if i == many {
			said = "q"
		}
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	waiting.Wait()
	held, release := make(chan struct{}), make(chan struct{})
	l.Post(func() { // the loop is held up, so that all of it becomes ready in one turn
		close(held)
		<-release
	})
	<-held
	for i, c := range clients {
		said := "p"
		if i == many {
			said = "q"
		}
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	done.Wait()
	turns := map[int64]int{}
	for _, s := range order {
		if s.said == "p" {
			turns[s.turn]++
		}
	}
	at, most := slices.IndexFunc(order, func(s served) bool { return s.said == "q" }), 0
	for _, n := range turns {
		most = max(most, n)
	}
	if limit := 1 + (many+1)/yieldedShare; at != 0 || most > limit {
		t.Errorf("the one that is not patient is number %d; up to %d patient ones were served in a turn, where %d may be", at+1, most, limit)
	}
}
