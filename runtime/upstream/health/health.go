// Package health says which members of an upstream can be given requests, and what may be spent on sending requests again.
// A Tracker is the state of one member, made of how its requests went and how it answered to checks; a Budget bounds
// retries. Both are pure: no sockets, and the clock is their caller's, in nanoseconds.
//
// It uses the standard library alone: what libraries have of this is bound to their own clients and timers.
//
//	           Failures in a row                    EjectFor × 2ⁿ is over
//	healthy ───────────────────────► ejected ────────────────────────────► recovering ──┐
//	   ▲                                ▲                                   on trial    │ a request
//	   │                                └──────────────── a failure ────────────┘       │ goes well
//	   └──── SlowStart is over ──── recovering ◄────────────────────────────────────────┘
//	                                    ▲
//	   any ──── Fall checks failed ──── │ ───► unhealthy ──┐
//	                                    └──────────────────┘ Rise checks in a row went well
//
// An ejected member takes no request until its time is up. Then it is on trial until a request goes well: it has a
// twentieth of its weight, and twice as much after each second, because where requests are few, or few keys are hashed,
// none might ever come to it otherwise. The first failure ejects it again, for twice as long if it comes within the time
// for which it was ejected. The more often it fails the longer it stays away, up to EjectMax; each time of good service as long as its
// last ejection takes one doubling back. How requests went that are over while it is ejected does not matter.
//
// Checks that fail make it unhealthy, whatever requests say; only checks bring it back. A member that is ejected and
// unhealthy must have left both behind.
package health

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Passive says which requests count as failures, and what follows from them. The zero value is: nothing does.
type Passive struct {
	Failures  int           // so many in a row eject the member; less than 1: never
	EjectFor  time.Duration // the first time; 0 means 10 s
	EjectMax  time.Duration // at most, after doubling; less than EjectFor: it is not doubled
	OnConnect bool          // no connection, or one that ended before the answer, is a failure
	OnTimeout bool          // no answer in time is one
	OnStatus  Ranges        // an answer with one of these is one; every other answer is a success
}

// Active says how many checks in a row change what a member is. With the zero value checks do not matter.
type Active struct {
	Rise int // that went well, and it is well
	Fall int // that failed, and it is not
}

// Options are the rules for a member.
type Options struct {
	Passive      Passive
	Active       Active
	SlowStart    time.Duration // after its return, its share grows in ten steps from 100 to 1000 thousandths within this time; 0: at once
	IgnoreErrors bool          // Passive does not matter
}

// State is what a member is.
type State uint8

// The states.
const (
	Healthy    State = iota
	Recovering       // it came back and has a part of its weight
	Ejected          // requests failed
	Unhealthy        // checks failed
)

var stateNames = [...]string{"healthy", "recovering", "ejected", "unhealthy"}

// String is the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Shares, in thousandths of the weight.
const (
	all        = 1000
	trialShare = 50
	trialStep  = int64(time.Second) // after which the share of a trial doubles
	slowSteps  = 10
)

// Tracker is the health of one member. A new one is healthy. It is used from anywhere at any time; for a request that went
// well at a member without failures, Report is two atomic loads, and it takes a lock otherwise. Methods that change it
// return true if state or share are others now.
type Tracker struct {
	options atomic.Pointer[Options]
	calm    atomic.Bool // a success changes nothing
	share   atomic.Int32
	next    atomic.Int64

	mu        sync.Mutex
	state     State
	why       string
	seen      int64 // the latest time it was told
	failures  int   // in a row
	ejected   bool
	until     int64 // end of the ejection
	length    int64 // of the ejection, the current or the last one
	returned  int64 // from the last ejection
	strikes   uint  // doublings of the next one
	trial     bool
	unhealthy bool
	checks    int   // in a row that speak for a change
	slowFrom  int64 // begin of the slow start
	slow      bool
	ejections uint64
	falls     uint64
}

// New returns a healthy member's tracker.
func New(o Options) *Tracker {
	t := &Tracker{}
	t.options.Store(&o)
	t.share.Store(all)
	t.calm.Store(true)
	return t
}

// SetOptions changes the rules. What the new ones do not know any more, an ejection or failed checks, is over.
func (t *Tracker) SetOptions(o Options) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.options.Store(&o)
	if o.IgnoreErrors || o.Passive.Failures < 1 {
		t.ejected, t.trial, t.failures = false, false, 0
	}
	if o.Active == (Active{}) {
		t.unhealthy, t.checks = false, 0
	}
	if changed = t.update(t.seen); changed {
		t.why = "its rules were changed"
	}
	return changed
}

// Share is how many thousandths of its weight the member is given; 0 while it is not available.
func (t *Tracker) Share() int { return int(t.share.Load()) }

// Next is when Tick should be called next; 0: no need to.
func (t *Tracker) Next() int64 { return t.next.Load() }

// State is what the member is, and why, for people. The reason is empty for one that was healthy all the time.
func (t *Tracker) State() (s State, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.why
}

// Counts are how often it was ejected, and how often checks made it unhealthy.
func (t *Tracker) Counts() (ejections, falls uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ejections, t.falls
}

// verdicts on outcomes
const (
	meaningless = iota
	success
	failure
)

func (p *Passive) judge(o Outcome) int {
	bad := false
	switch o {
	case ConnectFailed, Reset:
		bad = p.OnConnect
	case Timeout:
		bad = p.OnTimeout
	default:
		if !p.OnStatus.Has(int(o)) {
			return success
		}
		bad = true
	}
	if bad {
		return failure
	}
	return meaningless
}

// Report tells how a request went.
func (t *Tracker) Report(o Outcome, now int64) (changed bool) { return t.ReportBegun(o, 0, now) }

// ReportBegun tells how a request went that the member was given at a time: one from before its return from an ejection
// does not decide about its trial. 0: it is not known.
func (t *Tracker) ReportBegun(o Outcome, begun, now int64) (changed bool) {
	rules := t.options.Load()
	if rules.IgnoreErrors || rules.Passive.Failures < 1 {
		return false
	}
	verdict := rules.Passive.judge(o)
	if verdict == meaningless || verdict == success && t.calm.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ejected || t.trial && begun != 0 && begun < t.returned {
		return false
	}
	if verdict == success {
		t.failures = 0
		if t.trial {
			t.trial = false
			t.comeBack("a request after its ejection went well", now)
		}
		return t.update(now)
	}
	t.failures++
	if rules := t.options.Load(); t.trial || t.failures >= rules.Passive.Failures {
		t.eject(&rules.Passive, o, now)
	}
	return t.update(now)
}

// eject has the member stay away, for longer each time that it fails soon after its return.
func (t *Tracker) eject(p *Passive, o Outcome, now int64) {
	first := int64(p.EjectFor)
	if first <= 0 {
		first = int64(10 * time.Second)
	}
	if t.strikes > 0 && now > t.returned {
		t.strikes -= uint(min((now-t.returned)/t.length, int64(t.strikes)))
	}
	t.length = max(first, int64(p.EjectMax))
	if doubled := first << t.strikes; doubled>>t.strikes == first && doubled < t.length {
		t.length = doubled
		t.strikes++
	}
	cause := fmt.Sprintf("%d failures in a row, the last: ", t.failures)
	if t.failures == 1 {
		cause = ""
	}
	if t.trial {
		cause = "on trial after an ejection: "
	}
	t.why = fmt.Sprintf("%s%v; ejected for %v", cause, o, time.Duration(t.length))
	t.ejected, t.trial, t.slow, t.failures = true, false, false, 0
	t.until = now + t.length
	t.ejections++
}

// Probe tells how a check went: failure says what was wrong, and is empty if nothing was.
func (t *Tracker) Probe(failure string, now int64) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rules, ok := t.options.Load(), failure == ""
	if rules.Active == (Active{}) {
		return false
	}
	if ok != t.unhealthy { // as it is known to be
		t.checks = 0
		return t.update(now)
	}
	t.checks++
	switch {
	case ok && t.checks >= rules.Active.Rise:
		t.unhealthy, t.checks, t.trial = false, 0, false
		if !t.ejected {
			t.failures = 0
			t.comeBack(fmt.Sprintf("%d checks in a row went well", max(rules.Active.Rise, 1)), now)
		}
	case !ok && t.checks >= rules.Active.Fall:
		t.unhealthy, t.checks, t.slow = true, 0, false
		t.falls++
		t.why = fmt.Sprintf("%d checks in a row failed, the last: %s", max(rules.Active.Fall, 1), failure)
	}
	return t.update(now)
}

// Join begins the slow start of a member that joins others which serve already.
func (t *Tracker) Join(now int64) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.comeBack("it is new", now)
	return t.update(now)
}

// Tick has time pass.
func (t *Tracker) Tick(now int64) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ejected && now >= t.until {
		t.ejected, t.trial, t.failures, t.returned = false, true, 0, now
		if !t.unhealthy {
			t.why = fmt.Sprintf("its ejection for %v is over, and it is on trial", time.Duration(t.length))
		}
	}
	return t.update(now)
}

func (t *Tracker) comeBack(why string, now int64) {
	t.why = why
	t.slow, t.slowFrom = t.options.Load().SlowStart > 0, now
}

// update has state, share and next follow. t.mu is held.
func (t *Tracker) update(now int64) (changed bool) {
	t.seen = max(t.seen, now)
	state, share, next := Healthy, int32(all), int64(0)
	if t.ejected {
		next = t.until
	}
	if length := int64(t.options.Load().SlowStart); t.slow && t.seen-t.slowFrom >= length {
		t.slow = false
	}
	switch {
	case t.unhealthy:
		state, share = Unhealthy, 0
	case t.ejected:
		state, share = Ejected, 0
	case t.trial:
		steps := max(t.seen-t.returned, 0) / trialStep
		if state, share = Recovering, int32(min(trialShare<<min(steps, 10), all)); share < all {
			next = t.returned + (steps+1)*trialStep
		}
	case t.slow:
		length := int64(t.options.Load().SlowStart)
		step := max(length/slowSteps, 1)
		n := min(max(t.seen-t.slowFrom, 0)/step, slowSteps-1)
		state, share = Recovering, int32((n+1)*all/slowSteps)
		if next = t.slowFrom + (n+1)*step; n == slowSteps-1 {
			next = t.slowFrom + length
		}
	}
	changed = state != t.state || share != t.share.Load()
	t.state = state
	t.share.Store(share)
	t.next.Store(next)
	t.calm.Store(t.failures == 0 && !t.trial)
	return changed
}
