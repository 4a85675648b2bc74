package breaker

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options say when a Shared breaker opens, and for how long. The zero value never opens.
type Options struct {
	Ratio    float64       // it opens when this share of the calls within Window failed, 0 to 1; 0: never
	Requests int           // and at least so many were made within it; less than 1 means 1
	Window   time.Duration // begins with a failure, and anew with the first failure after its end
	Open     time.Duration // calls are refused for so long; doubled by each probe that fails, up to eight times
}

// Shared is a breaker for calls that are made on many loops: what one of them learns, all know. It opens when the share
// Ratio of the calls of Window failed. After Open it lets single calls through, one at a time; the first that goes well
// closes it, one that fails opens it again, for twice as long, up to eight times Open.
//
// While it is closed, Allow is one atomic load, and Done of a call that went well adds to a counter of the loop's own. A
// lock is taken for failures, and while it is not closed. All methods may be called from anywhere at any time. The clock
// is the caller's, in nanoseconds.
type Shared struct {
	options Options
	calls   []cell
	opened  atomic.Bool // some time ago, and not closed since

	mu     sync.Mutex
	since  int64 // begin of the window
	before int64 // calls that were over before the window
	failed int64 // within the window
	after  Breaker
}

// cell counts a loop's calls, on a cache line of its own.
type cell struct {
	n atomic.Int64
	_ [56]byte
}

// NewShared returns a closed breaker for calls made on so many loops.
func NewShared(loops int, o Options) *Shared {
	o.Requests = max(o.Requests, 1)
	return &Shared{options: o, calls: make([]cell, max(loops, 1)), after: Breaker{Open: o.Open}}
}

// Allow reports whether a call may be made. One that was allowed must be followed by Done, or by Cancel if it was not
// made after all.
func (s *Shared) Allow(now int64) bool {
	if !s.opened.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after.Allow(now)
}

// Done notes how a call on a loop went, and reports whether it opened the breaker. A call that was over while the breaker
// was open, and is no probe, changes nothing.
func (s *Shared) Done(loop int, now int64, ok bool) (opened bool) {
	if s.options.Ratio <= 0 {
		return false
	}
	if ok && !s.opened.Load() {
		s.calls[loop].n.Add(1)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened.Load() {
		opened = s.after.Done(now, ok)
		if s.after.Closed() {
			s.failed = 0
			s.opened.Store(false)
		}
		return opened
	}
	calls := s.calls[loop].n.Add(1)
	for i := range s.calls {
		if i != loop {
			calls += s.calls[i].n.Load()
		}
	}
	if ok {
		return false // it was open a moment ago
	}
	if s.failed == 0 || now-s.since >= int64(s.options.Window) {
		s.since, s.before, s.failed = now, calls-1, 0
	}
	s.failed++
	calls -= s.before
	if calls < int64(s.options.Requests) || float64(s.failed) < s.options.Ratio*float64(calls) {
		return false
	}
	s.after.trip(now)
	s.opened.Store(true)
	return true
}

// Cancel notes that an allowed call was not made.
func (s *Shared) Cancel() {
	if !s.opened.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after.Cancel()
}

// IsOpen reports whether calls are refused now.
func (s *Shared) IsOpen(now int64) bool {
	if !s.opened.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after.IsOpen(now)
}

// RetryAfter is for how many nanoseconds calls are refused at least.
func (s *Shared) RetryAfter(now int64) int64 {
	if !s.opened.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after.RetryAfter(now)
}

// Tripped reports whether it has opened and not closed since: calls are refused, or probed one at a time.
func (s *Shared) Tripped() bool { return s.opened.Load() }
