//go:build linux && !wasmgate_portable

package netloop

import "iter"

// Task is a coroutine of a loop: straight-line code that parks where it would block. A Task may be used only by the
// code that runs in it, but for Wake.
type Task struct {
	loop    *Loop
	fn      func(*Task)
	connFn  func(*Task, *Conn)
	conn    *Conn
	next    func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	wake    bool // Wake was called since the last Park returned
	parked  bool // in Park, rather than waiting for a socket
	queued  bool // in Loop.ready
	patient bool // sockets resume it in turn with those that yield
	place   int  // in Loop.live
}

// newTask makes a coroutine that runs one function after another, so that its stack is grown once.
func newTask(l *Loop) *Task {
	t := &Task{loop: l}
	t.next, t.stop = iter.Pull(iter.Seq[struct{}](func(yield func(struct{}) bool) {
		t.yield = yield
		for {
			t.run()
			if !yield(struct{}{}) {
				return
			}
		}
	}))
	return t
}

// run runs the task's function to its end, and catches its panic.
func (t *Task) run() {
	done := false
	defer func() {
		if !done {
			if v := recover(); v != nil {
				t.loop.group.caught(v)
			}
			if t.conn != nil {
				t.conn.Close()
			}
		}
		t.fn, t.connFn, t.conn, t.patient = nil, nil, nil, false
	}()
	if t.connFn != nil {
		t.connFn(t, t.conn)
	} else {
		t.fn(t)
	}
	done = true
}

// start runs the task until it parks or ends. From inside another task it is queued instead: coroutines resume each
// other only by way of the loop, so that the depth of resumption stays 1.
func (l *Loop) start(t *Task) {
	t.wake, t.parked = false, false
	l.began(t)
	l.enqueueOrResume(t)
}

func (l *Loop) enqueueOrResume(t *Task) {
	if l.current == nil {
		l.resume(t)
		return
	}
	if !t.queued {
		t.queued = true
		l.ready = append(l.ready, t)
	}
}

func (l *Loop) resume(t *Task) {
	if t.idle() {
		return // it ended while it stood in the queue
	}
	l.current = t
	t.next()
	l.current = nil
	if t.idle() {
		l.finished(t)
		l.free = append(l.free, t)
	}
}

func (t *Task) idle() bool { return t.fn == nil && t.connFn == nil }

func (l *Loop) take() *Task {
	if n := len(l.free); n > 0 {
		t := l.free[n-1]
		l.free = l.free[:n-1]
		return t
	}
	return newTask(l)
}

// Go runs fn as a task: at once until it first parks, or, when called from inside a task, after that one has parked.
func (l *Loop) Go(fn func(*Task)) {
	t := l.take()
	t.fn = fn
	l.start(t)
}

// Go runs fn as a task of the connection's loop. If fn panics, the connection is closed.
func (c *Conn) Go(fn func(*Task, *Conn)) {
	t := c.loop.take()
	t.connFn, t.conn = fn, c
	c.loop.start(t)
}

// Loop returns the task's loop; it is the same for the task's whole life.
func (t *Task) Loop() *Loop { return t.loop }

// Park parks the task until Wake is called; a Wake that came before makes it return at once. Every parked task is woken
// once when the group is closed: code that parks in a loop must look at Loop.Closing.
func (t *Task) Park() {
	for !t.wake {
		t.parked = true
		t.yield(struct{}{})
		t.parked = false
	}
	t.wake = false
}

// Wake makes the task's Park return, soon. It may be called only on the task's loop, also from other tasks and for a
// task that is not parked.
func (t *Task) Wake() {
	t.wake = true
	if t.parked {
		t.loop.enqueueOrResume(t)
	}
}

// Yield lets everything else on the loop go first: of the tasks that yield, one goes on in each turn of the loop, or one for
// each eight events in it, in their order. A task that has much to do calls it now and then, and one that is about to do much
// as one of many that were woken by the same event, so that what others wait for arrives in between.
func (t *Task) Yield() {
	t.loop.yielded = append(t.loop.yielded, t)
	t.yield(struct{}{})
}

// SetPatient says whether the task lets others go first each time that a socket is ready for it, as with Yield: for work of
// which much may become ready together, and that others of the loop must not wait for.
func (t *Task) SetPatient(patient bool) { t.patient = patient }

// yieldedShare is how many events of sockets a turn has for each task more that yielded and goes on in it.
const yieldedShare = 8

// runYielded resumes the tasks that yielded longest ago: one in a turn, and some more in one with many events, so that what
// arrives meanwhile waits for those only, however many there are, and they are not starved either.
func (l *Loop) runYielded(events int) {
	n := min(1+events/yieldedShare, len(l.yielded))
	for range n {
		t := l.yielded[0]
		last := copy(l.yielded, l.yielded[1:])
		l.yielded[last] = nil
		l.yielded = l.yielded[:last]
		l.resume(t)
	}
}

// suspend parks until the loop resumes the task because of a socket.
func (t *Task) suspend() { t.yield(struct{}{}) }

// stopTasks ends the coroutines, none of which runs anything any more.
func (l *Loop) stopTasks() {
	for _, t := range l.free {
		t.stop()
	}
	l.free = nil
}
