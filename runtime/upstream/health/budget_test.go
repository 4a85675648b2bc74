package health

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBudgetHolds: over any run, retries are at most ratio times the requests, and least more; and all of that if it is
// asked for.
func TestBudgetHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, ratio := range []float64{0, 0.001, 0.2, 0.3, 1, 3} {
		for _, least := range []int{-1, 0, 1, 10} {
			b := NewBudget(ratio, least)
			requests, retries := 0, 0
			for range 20_000 {
				if r.IntN(3) > 0 {
					b.Deposit()
					requests++
				}
				if r.IntN(2) == 0 && b.Withdraw() {
					retries++
				}
				if limit := ratio*float64(requests) + float64(max(least, 0)); float64(retries) > limit+1e-6 {
					t.Fatalf("ratio %v, least %d: %d retries of %d requests", ratio, least, retries, requests)
				}
			}
			for b.Withdraw() {
				retries++
			}
			if want := ratio*float64(requests) + float64(max(least, 0)); ratio < 1 && float64(retries) < want-1 {
				t.Errorf("ratio %v, least %d: only %d retries of %d requests", ratio, least, retries, requests)
			}
			if b.Left() >= 1 || b.Left() < 0 {
				t.Errorf("%v is left", b.Left())
			}
		}
	}
}

func TestBudgetSavesAThousand(t *testing.T) {
	b := NewBudget(0.5, 10)
	for range 100_000 {
		b.Deposit()
	}
	if b.Left() != 1010 {
		t.Errorf("%v is left", b.Left())
	}
}

func TestBudgetOfManyLoops(t *testing.T) {
	b := NewBudget(0.25, 10)
	var retries atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 1000 {
				b.Deposit()
				for b.Withdraw() {
					retries.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if retries.Load() != 16*250+10 {
		t.Errorf("%d retries", retries.Load())
	}
	if n := testing.AllocsPerRun(100, func() { b.Deposit(); b.Withdraw() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
