//go:build linux && !wasmgate_portable

package netloop

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// system is what a loop needs on Linux.
type system struct {
	epoll, eventfd int
	byFD           []*Conn // open connections by descriptor
	listeners      []*Listener
	current        *Task   // nil: the loop itself runs
	yielded        []*Task // those that let others go first, the longest there first
	sleeping       atomic.Bool
	generation     int32
	pipes          pipes
}

const interest = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

const (
	hungUp  = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	batch   = 512
	eventID = -1 // generation of the loop's own descriptors; connections have positive ones
)

func newLoop(g *Group, index int) (*Loop, error) {
	l := &Loop{}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if l.eventfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(l.epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.eventfd), Pad: eventID}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.eventfd, &ev); err != nil {
		l.release()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	l.init(g, index)
	return l, nil
}

func (l *Loop) release() {
	l.pipes.closeAll()
	unix.Close(l.epoll)
	l.postMu.Lock()
	unix.Close(l.eventfd)
	l.eventfd = -1 // somebody may still post, and the number may be another file's by then
	l.postMu.Unlock()
}

// Post runs fn on the loop soon, in the order of the calls. It may be called from any goroutine. After the loop has
// ended nothing runs any more.
func (l *Loop) Post(fn func()) {
	l.postMu.Lock()
	l.posted = append(l.posted, fn)
	first := len(l.posted) == 1
	l.hasPosted.Store(true)
	if first && l.sleeping.Load() {
		l.kick()
	}
	l.postMu.Unlock()
}

func (l *Loop) kick() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(l.eventfd, one[:])
}

func (l *Loop) run() {
	events := make([]unix.EpollEvent, batch)
	turn := l.Tick() // when this one began
	busy := turn     // since when there is no end of them
	for {
		// Poll once without telling the scheduler; only if nothing is ready, block in a way it knows of: a RawSyscall
		// that blocked would hold up the garbage collector.
		n := pollNow(l.epoll, events)
		if n == 0 && len(l.ready)+len(l.yielded) == 0 {
			l.waits(busy, turn)
			n = l.block(events)
			turn = l.Tick()
			busy = turn
		} else {
			l.turned(l.Tick() - turn)
			turn = l.now
		}
		for i := range events[:n] {
			l.dispatch(&events[i])
		}
		if l.hasPosted.Load() {
			l.runPosted()
		}
		if len(l.ready) > 0 {
			l.runReady()
		}
		if len(l.yielded) > 0 {
			l.runYielded(n)
		}
		if l.now>>tickShift > l.wheel.tick {
			l.wheel.advance(l.now, l.fire)
			l.adjustWall()
			l.numTasks.Store(int64(len(l.live)))
		}
		if l.stopping && len(l.live) == 0 && !l.hasPosted.Load() {
			l.stopTasks()
			return
		}
	}
}

func pollNow(epoll int, events []unix.EpollEvent) int {
	n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// block waits for events, posted functions or the next timer.
func (l *Loop) block(events []unix.EpollEvent) int {
	timeout := -1
	if wait := l.wheel.wait(l.now); wait >= 0 {
		timeout = int((wait + 999_999) / 1_000_000)
	}
	l.numTasks.Store(int64(len(l.live)))
	l.sleeping.Store(true)
	if l.hasPosted.Load() { // posted before it could see that we sleep
		timeout = 0
	}
	n, err := unix.EpollWait(l.epoll, events, timeout)
	l.sleeping.Store(false)
	if err != nil {
		if err != unix.EINTR {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // our own descriptor is broken: nothing can go on
		}
		return 0
	}
	return n
}

func (l *Loop) dispatch(ev *unix.EpollEvent) {
	if ev.Pad < 0 {
		l.dispatchOwn(int(ev.Fd), ev.Pad)
		return
	}
	c := l.byFD[ev.Fd]
	if c == nil || c.generation != ev.Pad {
		return // closed earlier in this turn
	}
	if ev.Events&^unix.EPOLLOUT != 0 {
		c.readable = true
	}
	if ev.Events&(hungUp|unix.EPOLLPRI) != 0 {
		c.hungUp = c.hungUp || ev.Events&hungUp != 0
		c.urgent = c.urgent || ev.Events&unix.EPOLLPRI != 0
		if fn := c.onReset; fn != nil && ev.Events&unix.EPOLLERR != 0 {
			c.onReset = nil
			if c.call(fn); l.byFD[ev.Fd] != c {
				return
			}
		}
		if c.onHangUp != nil && c.hungUp {
			if c.hangUp(); l.byFD[ev.Fd] != c {
				return
			}
		}
	}
	if w := c.writer; w != nil && ev.Events&^(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		c.writer = nil
		if l.socketReady(w); l.byFD[ev.Fd] != c {
			return // it was closed, or is another loop's now
		}
	}
	if c.readable {
		c.becameReadable()
	}
}

// socketReady resumes a task that waited for a socket: at once, or a patient one when its turn has come.
func (l *Loop) socketReady(t *Task) {
	if t.patient {
		l.yielded = append(l.yielded, t)
		return
	}
	l.resume(t)
}

// becameReadable resumes whoever waits for the connection to become readable.
func (c *Conn) becameReadable() {
	if r := c.reader; r != nil {
		c.reader = nil
		c.loop.socketReady(r)
		return
	}
	if fn := c.onEvent; fn != nil && !c.closed {
		c.onEvent = nil
		c.call(fn)
	}
}

func (l *Loop) dispatchOwn(fd int, id int32) {
	if id == eventID {
		var b [8]byte
		_, _ = unix.Read(l.eventfd, b[:])
		return
	}
	for _, ln := range l.listeners {
		if ln.fd == fd {
			ln.accept(l)
			return
		}
	}
}
