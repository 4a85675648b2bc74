package breaker

import (
	"testing"
	"time"
)

const second = int64(time.Second)

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
