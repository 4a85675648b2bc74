package wasm

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before something that failed is tried again: not at all for the first failures in a row,
// then from Base on, doubled each time, up to Max, each delay shortened by up to half so that many do not try at once.
// Its clock is its caller's, in nanoseconds. It is used by one goroutine at a time. The zero value never waits.
type Backoff struct {
	Free int           // failures in a row that cost no delay
	Base time.Duration // the first delay
	Max  time.Duration

	failures int
	until    int64
}

// DefaultBackoff is what a Pool uses: three failures in a row without a delay, then 10 ms to 30 s.
var DefaultBackoff = Backoff{Free: 3, Base: 10 * time.Millisecond, Max: 30 * time.Second}

// Ready reports whether it may be tried now, and if not, for how many nanoseconds it may not.
func (b *Backoff) Ready(now int64) (bool, int64) { return now >= b.until, max(0, b.until-now) }

// Fail notes a failure.
func (b *Backoff) Fail(now int64) {
	b.failures++
	over := b.failures - b.Free
	if over <= 0 || b.Base <= 0 {
		return
	}
	d := b.Max
	if over <= 32 {
		d = min(b.Max, b.Base<<(over-1))
		if d < b.Base { // overflow
			d = b.Max
		}
	}
	b.until = now + int64(d) - rand.Int64N(int64(d)/2+1)
}

// Succeed notes that it went well: the next failure is the first again.
func (b *Backoff) Succeed() { b.failures, b.until = 0, 0 }

// Breaker stops calls of something that fails too often: it opens when within Window at least Failures calls failed and
// they were at least Percent of all. After Open it lets single calls through, one at a time; the first that goes well
// closes it, one that fails opens it again, for twice as long, up to eight times Open. Its clock is its caller's, in
// nanoseconds. It is used by one goroutine at a time. The zero value never opens.
type Breaker struct {
	Failures int
	Percent  int
	Window   time.Duration
	Open     time.Duration

	state   breakerState
	since   int64 // begin of the window, or when it was opened
	until   int64 // when it may be probed
	calls   int64
	failed  int64
	repeats uint
}

type breakerState uint8

const (
	breakerClosed breakerState = iota
	breakerOpen
	breakerProbing
)

// DefaultBreaker is what a Pool uses: it opens for 5 s when of all calls in 10 s at least 20, and at least half, failed.
var DefaultBreaker = Breaker{Failures: 20, Percent: 50, Window: 10 * time.Second, Open: 5 * time.Second}

// Allow reports whether a call may be made. One that was allowed must be followed by Done, or by Cancel if it was not
// made after all.
func (b *Breaker) Allow(now int64) bool {
	switch b.state {
	case breakerClosed:
		return true
	case breakerOpen:
		if now < b.until {
			return false
		}
		b.state = breakerProbing
		b.until = now + int64(b.Open) // a probe that is never heard of again does not keep it shut
		return true
	default:
		if now < b.until {
			return false
		}
		b.until = now + int64(b.Open)
		return true
	}
}

// Done notes how a call went, and reports whether it opened the breaker.
func (b *Breaker) Done(now int64, ok bool) (opened bool) {
	switch b.state {
	case breakerOpen: // a call that began before
		return false
	case breakerProbing:
		if ok {
			*b = Breaker{Failures: b.Failures, Percent: b.Percent, Window: b.Window, Open: b.Open, since: now}
			return false
		}
		b.repeats = min(b.repeats+1, 3)
		b.open(now)
		return true
	}
	if now-b.since >= int64(b.Window) {
		b.since, b.calls, b.failed = now, 0, 0
	}
	b.calls++
	if ok {
		return false
	}
	b.failed++
	if b.Failures <= 0 || b.failed < int64(b.Failures) || b.failed*100 < b.calls*int64(b.Percent) {
		return false
	}
	b.open(now)
	return true
}

func (b *Breaker) open(now int64) {
	b.state, b.since = breakerOpen, now
	b.until = now + int64(b.Open)<<b.repeats
}

// Cancel notes that an allowed call was not made.
func (b *Breaker) Cancel() {
	if b.state == breakerProbing {
		b.state, b.until = breakerOpen, 0
	}
}

// IsOpen reports whether calls are refused now.
func (b *Breaker) IsOpen(now int64) bool { return b.state != breakerClosed && now < b.until }

// RetryAfter is for how many nanoseconds calls are refused at least.
func (b *Breaker) RetryAfter(now int64) int64 {
	if b.state == breakerClosed {
		return 0
	}
	return max(0, b.until-now)
}
