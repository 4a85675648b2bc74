package wasm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	b := Backoff{Free: 1, Base: time.Second, Max: 5 * time.Second}
	now := int64(0)
	for i, most := range []int64{0, 1, 2, 4, 5, 5, 5} {
		b.Fail(now)
		ok, wait := b.Ready(now)
		if most == 0 {
			if !ok || wait != 0 {
				t.Errorf("the first failure costs %d", wait)
			}
			continue
		}
		if ok || wait > most*second || wait < most*second/2 {
			t.Errorf("failure %d: waits %v of at most %d s", i+1, time.Duration(wait), most)
		}
		now += most * second
		if ok, _ := b.Ready(now); !ok {
			t.Errorf("failure %d: not ready after its delay", i+1)
		}
	}
	for range 100 { // no overflow
		b.Fail(now)
	}
	if _, wait := b.Ready(now); wait > 5*second {
		t.Errorf("waits %v", time.Duration(wait))
	}
	b.Succeed()
	if ok, _ := b.Ready(now); !ok {
		t.Error("not ready after success")
	}
	var zero Backoff
	zero.Fail(0)
	if ok, _ := zero.Ready(0); !ok {
		t.Error("the zero value waits")
	}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	b := Breaker{Failures: 4, Percent: 50, Window: 10 * time.Second, Open: 5 * time.Second}
	done := func(now int64, ok, opens bool) {
		t.Helper()
		if !b.Allow(now) {
			t.Fatal("not allowed")
		}
		if got := b.Done(now, ok); got != opens {
			t.Fatalf("opened: %v", got)
		}
	}
	for range 3 { // too few in one window
		done(0, false, false)
	}
	for range 3 {
		done(10*second, false, false)
	}
	for range 5 { // too small a part of all
		done(10*second, true, false)
	}
	done(10*second, false, false)
	if b.IsOpen(10*second) || b.RetryAfter(10*second) != 0 {
		t.Error("open below its bounds")
	}
	done(11*second, true, false)
	done(11*second, false, false)
	done(12*second, false, true)
	now := 12 * second
	if b.Allow(now+5*second-1) || !b.IsOpen(now) || b.RetryAfter(now) != 5*second {
		t.Error("not open")
	}
	if b.Done(now, true) || !b.IsOpen(now) {
		t.Error("a call that began before changed it")
	}
	for i, open := range []int64{10, 20, 40, 40} { // each probe that fails doubles it
		now += b.RetryAfter(now)
		if !b.Allow(now) || b.Allow(now) {
			t.Fatalf("probe %d: not one call is let through", i)
		}
		if !b.Done(now, false) || b.RetryAfter(now) != open*second {
			t.Errorf("probe %d: open for %v", i, time.Duration(b.RetryAfter(now)))
		}
	}
	now += b.RetryAfter(now)
	if !b.Allow(now) {
		t.Fatal("no probe")
	}
	b.Cancel() // it was not made after all: another one may
	if !b.Allow(now) {
		t.Fatal("no other probe")
	}
	b.Done(now, true)
	if b.IsOpen(now) || !b.Allow(now) || !b.Allow(now) {
		t.Error("not closed")
	}
	var zero Breaker
	for range 100 {
		if zero.Done(0, false) || !zero.Allow(0) {
			t.Fatal("the zero value opens")
		}
	}
}

// TestLostProbeDoesNotKeepTheBreakerShut allows a probe that is never heard of again.
func TestLostProbeDoesNotKeepTheBreakerShut(t *testing.T) {
	b := Breaker{Failures: 1, Percent: 1, Window: time.Second, Open: time.Second}
	b.Done(0, false)
	if !b.Allow(second) || b.Allow(second) || !b.Allow(2*second) {
		t.Error("no second probe after the first was lost")
	}
}

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
	// More keys than there are places: they share, and nothing grows. Old ones give way.
	for i := range 10 * repeatSlots {
		r.Note(30*second, fmt.Sprint(i))
	}
	if say, _ := r.Note(1000*second, "new"); !say {
		t.Error("a new key is held back by old ones")
	}
}
