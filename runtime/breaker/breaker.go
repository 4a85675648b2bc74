// Package breaker holds off what fails: Backoff says how long to wait before something that failed is tried again, Breaker
// stops calls of something that fails too often, and Shared is a breaker that all loops have in common.
//
// It uses the standard library alone: three small state machines whose clock is their caller's cost less than any
// library's adapter to them.
package breaker

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

// DefaultBackoff lets three failures in a row cost no delay, then 10 ms to 30 s.
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

	state   state
	since   int64 // begin of the window, or when it was opened
	until   int64 // when it may be probed
	calls   int64
	failed  int64
	repeats uint
}

type state uint8

const (
	closed state = iota
	open
	probing
)

// DefaultBreaker opens for 5 s when of all calls in 10 s at least 20, and at least half, failed.
var DefaultBreaker = Breaker{Failures: 20, Percent: 50, Window: 10 * time.Second, Open: 5 * time.Second}

// Allow reports whether a call may be made. One that was allowed must be followed by Done, or by Cancel if it was not
// made after all.
func (b *Breaker) Allow(now int64) bool {
	switch b.state {
	case closed:
		return true
	case open:
		if now < b.until {
			return false
		}
		b.state = probing
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
	case open: // a call that began before
		return false
	case probing:
		if ok {
			*b = Breaker{Failures: b.Failures, Percent: b.Percent, Window: b.Window, Open: b.Open, since: now}
			return false
		}
		b.repeats = min(b.repeats+1, 3)
		b.trip(now)
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
	b.trip(now)
	return true
}

func (b *Breaker) trip(now int64) {
	b.state, b.since = open, now
	b.until = now + int64(b.Open)<<b.repeats
}

// Cancel notes that an allowed call was not made.
func (b *Breaker) Cancel() {
	if b.state == probing {
		b.state, b.until = open, 0
	}
}

// IsOpen reports whether calls are refused now.
func (b *Breaker) IsOpen(now int64) bool { return b.state != closed && now < b.until }

// Closed reports whether all calls are allowed. A breaker that opened is not closed until a call went well.
func (b *Breaker) Closed() bool { return b.state == closed }

// RetryAfter is for how many nanoseconds calls are refused at least.
func (b *Breaker) RetryAfter(now int64) int64 {
	if b.state == closed {
		return 0
	}
	return max(0, b.until-now)
}
