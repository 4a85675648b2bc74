//go:build !linux || wasmgate_portable

package netloop

import (
	"sync"
	"time"
)

// system is what a loop needs where tasks are goroutines: a baton that whoever runs on the loop holds.
type system struct {
	baton     sync.Mutex
	poke      chan struct{} // something was posted
	sinceTurn int64
	wakeAt    int64 // when run looks at the timers next
}

func newLoop(g *Group, index int) (*Loop, error) {
	l := &Loop{}
	l.poke = make(chan struct{}, 1)
	l.init(g, index)
	return l, nil
}

func (l *Loop) release() {}

// enter takes the baton, and with it the time.
func (l *Loop) enter() {
	l.baton.Lock()
	l.sinceTurn = l.Tick()
}

func (l *Loop) leave() {
	l.waits(l.sinceTurn, l.sinceTurn)
	if wait := l.wheel.wait(l.now); wait >= 0 && l.now+wait < l.wakeAt {
		l.wakeAt = l.now + wait
		l.nudge() // a timer was added that is due before the loop would look
	}
	l.baton.Unlock()
}

// Post runs fn on the loop soon, in the order of the calls. It may be called from any goroutine. After the loop has
// ended nothing runs any more.
func (l *Loop) Post(fn func()) {
	l.postMu.Lock()
	l.posted = append(l.posted, fn)
	l.hasPosted.Store(true)
	l.postMu.Unlock()
	l.nudge()
}

func (l *Loop) nudge() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// run serves posted functions and timers; tasks run on goroutines of their own.
func (l *Loop) run() {
	const maxWait = time.Hour
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.poke:
		case <-timer.C:
		}
		l.enter()
		if l.hasPosted.Load() {
			l.runPosted()
		}
		l.wheel.advance(l.now, l.fire)
		l.adjustWall()
		wait := time.Duration(l.wheel.wait(l.now))
		if wait < 0 || wait > maxWait {
			wait = maxWait
		}
		l.wakeAt = l.now + int64(wait)
		done := l.stopping && len(l.live) == 0 && !l.hasPosted.Load()
		l.leave()
		if done {
			return
		}
		timer.Reset(wait)
	}
}

// Task is a goroutine that holds its loop's baton while it runs and gives it away while it waits. A Task may be used
// only by the code that runs in it, but for Wake.
type Task struct {
	loop    *Loop
	wake    bool
	signal  chan struct{}
	turn    bool // after Yield: it may go on
	itsTurn func()
	queued  bool
	place   int // in Loop.live
}

func (l *Loop) resume(*Task) {} // tasks here are resumed by the Go scheduler

// Go runs fn as a task, after the caller has left the loop or parked.
func (l *Loop) Go(fn func(*Task)) { l.start(nil, func(t *Task, _ *Conn) { fn(t) }) }

// Go runs fn as a task of the connection's loop. If fn panics, the connection is closed.
func (c *Conn) Go(fn func(*Task, *Conn)) { c.loop.start(c, fn) }

func (l *Loop) start(c *Conn, fn func(*Task, *Conn)) {
	t := &Task{loop: l, signal: make(chan struct{}, 1)}
	t.itsTurn = func() {
		t.turn = true
		t.poke()
	}
	l.began(t)
	l.numTasks.Store(int64(len(l.live)))
	go func() {
		l.enter()
		defer func() {
			if v := recover(); v != nil {
				l.group.caught(v)
				if c != nil {
					c.Close()
				}
			}
			l.finished(t)
			l.numTasks.Store(int64(len(l.live)))
			l.leave()
			l.nudge()
		}()
		fn(t, c)
	}()
}

// Loop returns the task's loop; it is the same for the task's whole life.
func (t *Task) Loop() *Loop { return t.loop }

// Park parks the task until Wake is called; a Wake that came before makes it return at once. Every parked task is woken
// once when the group is closed: code that parks in a loop must look at Loop.Closing.
func (t *Task) Park() {
	for !t.wake {
		t.blocking(func() { <-t.signal })
	}
	t.wake = false
}

// Wake makes the task's Park return, soon. It may be called only on the task's loop, also from other tasks and for a
// task that is not parked.
func (t *Task) Wake() {
	t.wake = true
	t.poke()
}

// poke has whoever blocks in the task look again.
func (t *Task) poke() {
	select {
	case t.signal <- struct{}{}:
	default:
	}
}

// Yield lets everything else on the loop go first: of the tasks that yield, one goes on in each turn of the loop, or one for
// each eight events in it, in their order. Here the Go scheduler decides. A task that has much to do calls it now and then, and
// one that is about to do much as one of many that were woken by the same event, so that what others wait for arrives in
// between.
func (t *Task) Yield() {
	t.turn = false
	t.loop.Post(t.itsTurn) // who only gave the baton away would often have it back before those who wait for it
	for !t.turn {
		t.blocking(func() { <-t.signal })
	}
}

// SetPatient says whether the task lets others go first each time that a socket is ready for it, as with Yield. Here the Go
// scheduler decides, and it changes nothing.
func (t *Task) SetPatient(bool) {}

// blocking runs fn, which may block, without the baton.
func (t *Task) blocking(fn func()) {
	t.loop.leave()
	defer t.loop.enter()
	fn()
}
