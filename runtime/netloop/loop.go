package netloop

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Loop is one event loop. All of it but Post, Index and Stats belongs to the loop's own code.
type Loop struct {
	group *Group
	index int
	now   int64 // monotonic, taken once for each wake-up
	wall  int64 // what to add to now for Unix nanoseconds
	wheel wheel

	free    []*Task // finished tasks, kept for their grown stacks
	ready   []*Task // woken, to be resumed before the loop waits again
	spare   []*Task // the other half of a swap with ready
	live    []*Task // begun and not ended
	buffers [][]byte
	conns   map[uint64]*Conn // open connections by id; only touched when one opens or closes

	accepted atomic.Int64
	numTasks atomic.Int64
	numConns atomic.Int64
	busy     atomic.Int64
	begun    int64
	worst    atomic.Int64
	stopping bool
	ended    chan struct{}

	postMu    sync.Mutex
	posted    []func()
	hasPosted atomic.Bool
	taken     []func() // the other half of a swap with posted

	system // what the platform adds
}

// Index is the loop's number in its group, from 0.
func (l *Loop) Index() int { return l.index }

// Group returns the group that the loop belongs to.
func (l *Loop) Group() *Group { return l.group }

// Now is the loop's clock in nanoseconds: monotonic, comparable between loops of the process, as old as the current
// turn of the loop (usually microseconds).
func (l *Loop) Now() int64 { return l.now }

// Tick takes the time anew, for those who measure what happens within one turn.
func (l *Loop) Tick() int64 {
	l.now = monotonic()
	return l.now
}

// WallNow is Now as Unix nanoseconds.
func (l *Loop) WallNow() int64 { return l.now + l.wall }

// Wall converts a time of the loop's clock to Unix nanoseconds; 0 stays 0.
func (l *Loop) Wall(at int64) int64 {
	if at == 0 {
		return 0
	}
	return at + l.wall
}

// AfterFunc runs fn on the loop after d, up to a tick (4.2 ms) late. fn must not park: it may start a task.
func (l *Loop) AfterFunc(d time.Duration, fn func()) *Timer {
	t := &Timer{loop: l, fn: fn}
	l.wheel.add(t, l.now+int64(d))
	return t
}

// BufferSize is the size of the buffers that Buffer returns, in bytes.
const BufferSize = 16 << 10

// Buffer returns a buffer of BufferSize bytes; its content is undefined. Give it back with Recycle on the same loop.
func (l *Loop) Buffer() []byte {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		return b
	}
	return make([]byte, BufferSize)
}

// maxSpareBuffers bounds what a loop keeps after a burst: 16 MiB.
const maxSpareBuffers = 1024

// Recycle gives a buffer back. The caller must not use it any more. Other sizes than BufferSize are dropped.
func (l *Loop) Recycle(b []byte) {
	if cap(b) == BufferSize && len(l.buffers) < maxSpareBuffers {
		l.buffers = append(l.buffers, b[:BufferSize])
	}
}

// Closing says whether the group is being closed: nothing new can begin, and Park no longer waits.
func (l *Loop) Closing() bool { return l.stopping }

// Ended is closed when the loop does nothing any more: what belonged to it may be touched by others, and what was posted
// to it and has not run will not run. It may be called from any goroutine.
func (l *Loop) Ended() <-chan struct{} { return l.ended }

// Conns calls fn for each connection of the loop, in no order. fn may close connections.
func (l *Loop) Conns(fn func(*Conn)) {
	for _, c := range l.conns {
		fn(c)
	}
}

// SomeConns calls fn for the connections of the loop, in no order, until it returns false. fn must not close any.
func (l *Loop) SomeConns(fn func(*Conn) (more bool)) {
	for _, c := range l.conns {
		if !fn(c) {
			return
		}
	}
}

// Stats returns the loop's counters. It may be called from any goroutine.
func (l *Loop) Stats() Stats {
	return Stats{
		Busy: time.Duration(l.busy.Load()), Elapsed: time.Duration(monotonic() - l.begun),
		Conns: int(l.numConns.Load()), Tasks: int(l.numTasks.Load()), WorstTurn: time.Duration(l.worst.Swap(0)),
	}
}

// Look is Stats for who only looks: WorstTurn is 0, and stays for who collects it.
func (l *Loop) Look() Stats {
	return Stats{
		Busy: time.Duration(l.busy.Load()), Elapsed: time.Duration(monotonic() - l.begun),
		Conns: int(l.numConns.Load()), Tasks: int(l.numTasks.Load()), Accepted: int(l.accepted.Load()),
	}
}

func (l *Loop) init(g *Group, index int) {
	l.group, l.index = g, index
	l.conns, l.ended = map[uint64]*Conn{}, make(chan struct{})
	l.begun = l.Tick()
	l.wall = time.Now().UnixNano() - l.now
	l.wheel.tick = l.now >> tickShift
}

// began and finished keep the list of tasks that are alive. Each knows its place, so that neither looks for anything.
func (l *Loop) began(t *Task) {
	t.place = len(l.live)
	l.live = append(l.live, t)
}

func (l *Loop) finished(t *Task) {
	last := len(l.live) - 1
	l.live[t.place] = l.live[last]
	l.live[t.place].place = t.place
	l.live[last] = nil
	l.live = l.live[:last]
}

// shutdown closes everything that the loop owns, and wakes every task, so that each can end.
func (l *Loop) shutdown() {
	l.stopping = true
	for _, c := range l.conns {
		c.Close()
	}
	for _, t := range slices.Clone(l.live) {
		t.Wake()
	}
}

// runPosted runs what was posted before it was called.
func (l *Loop) runPosted() {
	l.postMu.Lock()
	l.posted, l.taken = l.taken[:0], l.posted
	l.hasPosted.Store(false)
	l.postMu.Unlock()
	for i, fn := range l.taken {
		l.taken[i] = nil
		l.guard(fn)
	}
}

// guard runs fn; a panic in it is caught, reported, and ends nothing but fn.
func (l *Loop) guard(fn func()) {
	defer func() {
		if v := recover(); v != nil {
			l.group.caught(v)
		}
	}()
	fn()
}

func (l *Loop) fire(t *Timer) {
	if t.conn != nil {
		t.conn.checkDeadlines()
		return
	}
	l.guard(t.fn)
}

// runReady resumes the woken tasks. Those that are woken meanwhile wait for the next turn, so that sockets and timers
// are not starved by tasks that wake each other.
func (l *Loop) runReady() {
	l.ready, l.spare = l.spare[:0], l.ready
	for i, t := range l.spare {
		l.spare[i] = nil
		t.queued = false
		l.resume(t)
	}
}

// waits accounts for the time from now on being waiting time. The loop was busy since then, and began its turn then.
func (l *Loop) waits(busy, turn int64) {
	now := monotonic()
	l.busy.Store(l.busy.Load() + now - busy)
	l.turned(now - turn)
}

// turned accounts for a turn that took so long.
func (l *Loop) turned(took int64) {
	if took > l.worst.Load() {
		l.worst.Store(took)
	}
}

// adjustWall follows steps of the system's clock; it is called now and then.
func (l *Loop) adjustWall() { l.wall = time.Now().UnixNano() - monotonic() }
