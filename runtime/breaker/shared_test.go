package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSharedOpensByTheShareOfAllLoops(t *testing.T) {
	s := NewShared(4, Options{Ratio: 0.5, Requests: 8, Window: 10 * time.Second, Open: 5 * time.Second})
	for i := range 100 { // before the window: no matter
		s.Done(i%4, 0, true)
	}
	for i := range 4 {
		if s.Done(i, second, false) {
			t.Fatal("opened by too few calls")
		}
	}
	for i := range 5 {
		s.Done(i%4, second, true)
	}
	if !s.Allow(second) || s.IsOpen(second) || s.RetryAfter(second) != 0 {
		t.Fatal("open below its share")
	}
	if !s.Done(0, 2*second, false) { // 5 of 10
		t.Fatal("not opened at its share")
	}
	now := 2 * second
	if s.Allow(now) || !s.IsOpen(now) || !s.Tripped() || s.RetryAfter(now) != 5*second {
		t.Error("not open")
	}
	if s.Done(1, now, true) || s.Done(2, now, false) || !s.IsOpen(now) {
		t.Error("calls that began before changed it")
	}
	for i, open := range []int64{10, 20, 40, 40} { // each probe that fails doubles it
		now += s.RetryAfter(now)
		if !s.Allow(now) || s.Allow(now) {
			t.Fatalf("probe %d: not one call is let through", i)
		}
		if !s.Done(i, now, false) || s.RetryAfter(now) != open*second {
			t.Errorf("probe %d: open for %v", i, time.Duration(s.RetryAfter(now)))
		}
	}
	now += s.RetryAfter(now)
	if !s.Allow(now) {
		t.Fatal("no probe")
	}
	s.Cancel() // it was not made after all: another one may
	if !s.Allow(now) || s.Done(0, now, true) {
		t.Fatal("no other probe")
	}
	if s.IsOpen(now) || s.Tripped() || !s.Allow(now) || !s.Allow(now) || s.RetryAfter(now) != 0 {
		t.Error("not closed")
	}
	s.Cancel()
	for i := range 7 { // what was before it opened is forgotten
		if s.Done(i%4, now, false) {
			t.Fatal("opened again by too few calls")
		}
	}
	if !s.Done(0, now, false) || s.RetryAfter(now) != 5*second {
		t.Error("not opened again for the first time's length")
	}
}

func TestSharedForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	s := NewShared(1, Options{Ratio: 0.1, Requests: 4, Window: 10 * time.Second, Open: time.Second})
	for i := range int64(30) {
		if s.Done(0, i*4*second, false) {
			t.Fatalf("opened by failure %d, and there were never more than 3 in a window", i)
		}
	}
	for _, off := range []*Shared{NewShared(2, Options{}), NewShared(0, Options{Requests: 1})} {
		for range 100 {
			if off.Done(0, 0, false) || !off.Allow(0) {
				t.Fatal("the zero value opens")
			}
		}
	}
}

// TestSharedIsOpenedOnce has all loops fail at once: one call opens the breaker, and after its time one is a probe.
func TestSharedIsOpenedOnce(t *testing.T) {
	s := NewShared(16, Options{Ratio: 0.5, Requests: 100, Window: time.Second, Open: time.Second})
	var opened, probes atomic.Int32
	each := func(f func(loop int)) {
		var wg sync.WaitGroup
		for loop := range 16 {
			wg.Go(func() { f(loop) })
		}
		wg.Wait()
	}
	each(func(loop int) {
		for i := range 1000 {
			if s.Allow(0) && s.Done(loop, 0, i%10 == 0) {
				opened.Add(1)
			}
		}
	})
	each(func(int) {
		if s.Allow(second) {
			probes.Add(1)
		}
	})
	if opened.Load() != 1 || probes.Load() != 1 {
		t.Errorf("opened %d times, %d probes", opened.Load(), probes.Load())
	}
}

func TestSharedCostsNoAllocation(t *testing.T) {
	s := NewShared(1, Options{Ratio: 0.5, Requests: 1 << 30, Window: time.Second, Open: time.Second})
	if n := testing.AllocsPerRun(1000, func() {
		if s.Allow(0) {
			s.Done(0, 0, true)
		}
		s.Done(0, 0, false)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
