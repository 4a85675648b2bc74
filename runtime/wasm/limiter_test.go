package wasm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLimiterCountsWhatItHoldsBack(t *testing.T) {
	l := Limiter{PerSecond: 2, Burst: 3}
	said, held := 0, int64(0)
	say := func(now int64) {
		if ok, n := l.Allow(now); ok {
			said++
			held += n
		}
	}
	for range 10 {
		say(5 * second)
	}
	if said != 3 || held != 0 {
		t.Errorf("%d said, %d held back", said, held)
	}
	say(5*second + second/2)
	if said != 4 || held != 7 {
		t.Errorf("%d said, %d held back", said, held)
	}
	say(4 * second) // a clock that goes back gives nothing
	for range 10 {
		say(100 * second)
	}
	if said != 7 || held != 8 {
		t.Errorf("%d said, %d held back", said, held)
	}
}

// TestRepeatsSayOnceAndCount notes keys from many goroutines: each is said once in an interval, and all are counted.
func TestRepeatsSayOnceAndCount(t *testing.T) {
	const second = 1000 << repeatTick // whole ticks, which are kept exactly
	r := NewRepeats(second)
	if say, before := r.Note(0, "trap", "request"); !say || before != 0 {
		t.Errorf("the first: %v, %d", say, before)
	}
	if say, _ := r.Note(second-1, "trap", "request"); say {
		t.Error("said twice in an interval")
	}
	if say, before := r.Note(second, "trap", "request"); !say || before != 1 {
		t.Errorf("after the interval: %v, %d", say, before)
	}
	if say, _ := r.Note(second, "trap", "respons", "e"); !say {
		t.Error("other parts are the same key")
	}
	var said, counted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if say, before := r.Note(10*second, "many"); say {
					said.Add(1)
					counted.Add(before)
				}
			}
		})
	}
	wg.Wait()
	if _, before := r.Note(20*second, "many"); said.Load() != 1 || counted.Load()+before != 7999 {
		t.Errorf("said %d times, %d before", said.Load(), counted.Load()+before)
	}
	// Places are taken at the same time, and each by one key.
	for round := range int64(100) {
		r := NewRepeats(second)
		for use := range int64(2) { // the second time they are places of other keys
			var said [16]atomic.Int64
			for range 8 {
				wg.Go(func() {
					for i := range said {
						if say, before := r.Note(10*use*second, "key", fmt.Sprint(use, i)); say {
							said[i].Add(1)
						} else if before != 0 {
							t.Errorf("round %d: %d before one that is not said", round, before)
						}
					}
				})
			}
			wg.Wait()
			for i := range said {
				if n := said[i].Load(); n != 1 {
					t.Errorf("round %d, use %d: key %d was said %d times", round, use, i, n)
				}
			}
		}
	}
	// More keys than there are places: they share, and nothing grows. Old ones give way.
	for i := range 10 * repeatSlots {
		r.Note(30*second, fmt.Sprint(i))
	}
	if say, _ := r.Note(1000*second, "new"); !say {
		t.Error("a new key is held back by old ones")
	}
}
