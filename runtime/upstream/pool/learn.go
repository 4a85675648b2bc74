package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/netloop"
)

// How idle timeouts are learned.
const (
	leastTimeout = int64(250 * time.Millisecond) // what closes sooner has another reason than idleness
	agreement    = 3                             // so many closes make a timeout, and so many survivors unmake it
	moment       = int64(200 * time.Millisecond) // closes within it are one: a restart closes everything at once
	belief       = int64(10 * time.Minute)       // how long a timeout is believed after it was last seen
	raceWindow   = int64(250 * time.Millisecond) // an end so soon after a request began has its reason before the request
	maxTimeout   = int64(24 * time.Hour)
	remembered   = 8
	unproven     = int64(500 * time.Millisecond) // hardly any peer closes a connection that was idle for less
)

// margin is how much sooner than the peer we close: the time that our last bytes and its FIN may be under way, that its
// clock began before ours, and that a busy loop is late.
func margin(timeout int64) int64 {
	return min(max(int64(100*time.Millisecond), timeout/10), timeout/2)
}

// tolerance is the longest idle time that agrees with a timeout: servers look at their timers only now and then.
func tolerance(timeout int64) int64 { return timeout + timeout/4 + int64(100*time.Millisecond) }

// lesson is what was learned. It is immutable; idle times are in nanoseconds.
type lesson struct {
	timeout int64 // of the peer; 0: not known yet
	retire  int64 // the idle time after which a connection is closed, with timeout
	until   int64 // loop time until which the timeout is believed
	doubt   int64 // the idle time after which a connection is for requests only that can be repeated
	outlive int64 // a connection that lives after so much idle time contradicts the lesson
}

// learner watches how long connections had been idle when the peer closed them.
type learner struct {
	lesson  atomic.Pointer[lesson]
	mu      sync.Mutex // guards what follows; taken when a peer closes or contradicts the lesson, never by a usual request
	seen    []sighting
	against int
}

type sighting struct{ at, idle int64 }

// saw takes note of a connection that the peer closed after it had been idle for so long.
func (n *learner) saw(idle, now int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropBelow(idle)
	n.dropBefore(now - belief)
	if idle < leastTimeout {
		return
	}
	if last := len(n.seen) - 1; last >= 0 && now-n.seen[last].at < moment {
		n.seen[last].idle = min(n.seen[last].idle, idle)
	} else {
		if len(n.seen) == remembered {
			n.seen = append(n.seen[:0], n.seen[1:]...)
		}
		n.seen = append(n.seen, sighting{now, idle})
	}
	n.conclude(idle, now)
}

// outlived takes note of a connection that lives although it had been idle for so long.
func (n *learner) outlived(idle, now int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropBelow(idle)
	n.conclude(0, now)
}

// dropBelow forgets what a connection that lived for so long contradicts.
func (n *learner) dropBelow(idle int64) {
	n.seen = slices.DeleteFunc(n.seen, func(s sighting) bool { return tolerance(s.idle) < idle })
	if k := n.lesson.Load(); k != nil && k.timeout > 0 && tolerance(k.timeout) < idle {
		if n.against++; n.against >= agreement {
			n.against = 0
			n.lesson.Store(nil)
		}
	}
}

func (n *learner) dropBefore(at int64) {
	n.seen = slices.DeleteFunc(n.seen, func(s sighting) bool { return s.at < at })
}

// conclude makes the lesson of what was seen; idle is what was seen just now, 0 if nothing.
func (n *learner) conclude(idle, now int64) {
	k := lesson{}
	if old := n.lesson.Load(); old != nil {
		k.timeout, k.until = old.timeout, old.until
	}
	if k.timeout > 0 && idle >= k.timeout-k.timeout/4 && idle <= tolerance(k.timeout) {
		k.timeout, k.until, n.against = min(k.timeout, idle), now+belief, 0
	}
	if t := n.agreed(); t > 0 && (k.timeout == 0 || t < k.timeout) {
		k.timeout, k.until, n.against = t, now+belief, 0
	}
	least := k.timeout
	for _, s := range n.seen {
		if least == 0 || s.idle < least {
			least = s.idle
		}
	}
	if least == 0 {
		n.lesson.Store(nil)
		return
	}
	if k.timeout > 0 {
		k.retire = k.timeout - margin(k.timeout)
	}
	k.doubt, k.outlive = least-margin(least), tolerance(least)
	n.lesson.Store(&k)
}

// agreed is the least idle time after which as many as make a timeout were closed; 0: there is none.
func (n *learner) agreed() int64 {
	idle := make([]int64, 0, remembered)
	for _, s := range n.seen {
		idle = append(idle, s.idle)
	}
	slices.Sort(idle)
	for i := 0; i+agreement <= len(idle); i++ {
		if idle[i+agreement-1] <= tolerance(idle[i]) {
			return idle[i]
		}
	}
	return 0
}

func (n *learner) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen, n.against = nil, 0
	n.lesson.Store(nil)
}

// learner is the one of the connection: a peer may wait longer, or less long, for the first request.
func (c *Conn) learner() *learner {
	if c.Facts.Requests == 0 {
		return &c.pool.learned[1]
	}
	return &c.pool.learned[0]
}

// idleLimit is how long the connection may be idle by what is known of its peer; 0: nothing is.
func (c *Conn) idleLimit(now int64) int64 {
	limit := c.hinted
	if k := c.learner().lesson.Load(); k != nil && k.timeout > 0 && now < k.until && (limit == 0 || k.retire < limit) {
		limit = k.retire
	}
	return limit
}

// doubtful says whether the peer may be about to close the connection, so that a request is better not risked on it that
// cannot be repeated. It takes the time anew: the loop's may be as old as its turn is long.
//
// Of a peer about which nothing is known yet, only an idle time is trusted that a connection has lived through: the oldest
// idle one shows how long that is. Hence a second connection for the first such request after a pause, and not a third.
func (c *Conn) doubtful(l *netloop.Loop) bool {
	k := c.learner().lesson.Load()
	if c.hinted > 0 || k != nil || l.Now()-c.idleSince > unproven/2 {
		l.Tick()
	}
	idle := l.Now() - c.idleSince
	switch {
	case k != nil && idle >= k.doubt:
		return true
	case k != nil && k.timeout > 0, c.hinted > 0, idle <= unproven:
		return false
	}
	c.pool.prove(l)
	proven := c.pool.proven.Load()
	return idle > proven-margin(proven) && c.pool.options.Load().LearnIdle
}

// prove takes note of how long the loop's oldest idle connection has lived.
func (p *Pool) prove(l *netloop.Loop) {
	if c := p.shards[l.Index()].oldest; c != nil && c.Net.Quiet() {
		if idle := l.Now() - c.idleSince; idle > p.proven.Load() {
			p.proven.Store(idle)
		}
	}
}

// outlived is told that the connection lives, at the end of its idle time.
func (c *Conn) outlived(now int64) {
	if k := c.learner().lesson.Load(); k != nil && now-c.idleSince > k.outlive {
		c.learner().outlived(now-c.idleSince, now)
	}
}

// closedByPeer is told that the peer has closed the connection while it was idle.
func (c *Conn) closedByPeer(l *netloop.Loop) {
	if p := c.pool; c.idleSince != 0 && p.options.Load().LearnIdle && p.state.Load() == accepting && !l.Closing() {
		p.proven.Store(0)
		c.learner().saw(l.Now()-c.idleSince, l.Now())
	}
}

// missed is told that the peer has ended a connection under a request. If it was reused and ended at once, it was being
// closed for having been idle.
func (c *Conn) missed(l *netloop.Loop) {
	p, now := c.pool, l.Now()
	if c.lastIdle == 0 || now-c.opened-int64(c.ageAtTaken) > raceWindow || l.Closing() {
		return
	}
	if p.options.Load().LearnIdle && p.state.Load() == accepting {
		n := &p.learned[0]
		if c.unused {
			n = &p.learned[1]
		}
		p.proven.Store(0)
		n.saw(int64(c.lastIdle), now)
	}
}

// Hint tells what the peer's answer said in its Keep-Alive field: after how long it closes the connection when that is
// idle, and how many requests it allows; 0: it did not say. It is called before Release, on the connection's loop.
//
// Some servers give the number of requests that are left, others that of all: the first are told by its going down.
func (c *Conn) Hint(timeout time.Duration, most uint64) {
	p := c.pool
	if !p.options.Load().LearnIdle {
		return
	}
	if d := min(int64(timeout), maxTimeout); d > 0 {
		c.hinted = d - margin(d)
		if p.hint.Load() != d {
			p.hint.Store(d)
		}
	}
	if most > 0 && most < 1<<32 {
		c.allowed = c.Facts.Requests + most
		if most == c.lastMax {
			c.allowed = most
		}
		c.lastMax = most
	}
}

// LearnedIdle is after how long the peer closes idle connections, and how that is known: "observed" or "keep-alive
// field"; 0 and "" if it is not.
func (p *Pool) LearnedIdle() (d time.Duration, from string) {
	if h := p.hint.Load(); h > 0 {
		d, from = time.Duration(h), "keep-alive field"
	}
	if k := p.learned[0].lesson.Load(); k != nil && k.timeout > 0 && (d == 0 || k.timeout < int64(d)) {
		d, from = time.Duration(k.timeout), "observed"
	}
	return d, from
}
