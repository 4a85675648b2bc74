package netloop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of connections. Others are the operating system's.
var (
	// ErrDeadline is returned by Read, Write and Dial when their deadline has passed.
	ErrDeadline error = deadlineError{}
	// ErrClosed is returned for a connection that was closed on our side.
	ErrClosed = errors.New("connection closed")
)

// deadlineError is a net.Error that timed out, so that crypto/tls and others on top of a Conn treat it as one.
type deadlineError struct{}

func (deadlineError) Error() string   { return "deadline exceeded" }
func (deadlineError) Timeout() bool   { return true }
func (deadlineError) Temporary() bool { return true }
func (deadlineError) Unwrap() error   { return os.ErrDeadlineExceeded }

// Options configure a Group. The zero value is usable.
type Options struct {
	Loops    int // number of loops; 0: one for each CPU that the process may use
	MaxConns int // accepted connections open at once in the process; 0: no limit of ours
	// OnPanic is told of a panic in a task or callback, which has ended that task (and closed its connection, see
	// Conn.Go) and nothing else. It runs on the loop. Nil: the panic is written to standard error.
	OnPanic func(value any, stack []byte)
}

// Group is a set of event loops. Its methods may be called from any goroutine.
type Group struct {
	loops     []*Loop
	options   Options
	started   atomic.Bool
	closed    atomic.Bool
	accepted  atomic.Int64 // open connections that came from listeners
	nextConn  atomic.Uint64
	panics    atomic.Uint64
	refused   atomic.Uint64
	running   sync.WaitGroup
	mu        sync.Mutex // guards listeners
	listeners []*Listener
}

// New makes a group whose loops do not run yet.
func New(o Options) (*Group, error) {
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	g := &Group{options: o}
	for i := range o.Loops {
		l, err := newLoop(g, i)
		if err != nil {
			for _, made := range g.loops {
				made.release()
			}
			return nil, fmt.Errorf("event loop %d of %d: %w", i+1, o.Loops, err)
		}
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Start runs the loops. A second call does nothing.
func (g *Group) Start() {
	if g.started.Swap(true) {
		return
	}
	for _, l := range g.loops {
		g.running.Add(1)
		go func() {
			defer g.running.Done()
			defer close(l.ended)
			l.run()
		}()
	}
}

// Loops returns the loops, in the order of their indices. The slice is the group's own.
func (g *Group) Loops() []*Loop { return g.loops }

// Loop returns loop i.
func (g *Group) Loop(i int) *Loop { return g.loops[i] }

// Accepted is the number of accepted connections that are open now.
func (g *Group) Accepted() int { return int(g.accepted.Load()) }

// Panics is the number of panics that were caught since the start.
func (g *Group) Panics() uint64 { return g.panics.Load() }

// Refused is the number of connections that were turned away because of Options.MaxConns or a lack of descriptors.
func (g *Group) Refused() uint64 { return g.refused.Load() }

// Close stops the group: it closes the listeners and every connection, which makes every parked task return with
// ErrClosed, then ends the loops. Tasks that are parked in Park are woken; a task in Await is waited for. Graceful
// ending is the user's: close listeners, wait until the own connections are gone, then call Close.
func (g *Group) Close() {
	if g.closed.Swap(true) {
		return
	}
	g.mu.Lock()
	listeners := g.listeners
	g.listeners = nil
	g.mu.Unlock()
	for _, ln := range listeners {
		ln.Close()
	}
	if g.started.Load() {
		for _, l := range g.loops {
			l.Post(l.shutdown)
		}
		g.running.Wait()
	}
	for _, l := range g.loops {
		l.release()
		if !g.started.Load() {
			close(l.ended)
		}
	}
}

// leastLoaded returns the loop with the fewest accepted connections. Spreading by count was measured against
// SO_REUSEPORT, whose hashing leaves 64 connections as unevenly as 40:24 on two loops, and that imbalance is the p99.
func (g *Group) leastLoaded(self *Loop) *Loop {
	best, count := self, self.accepted.Load()
	for _, l := range g.loops {
		if n := l.accepted.Load(); n < count {
			best, count = l, n
		}
	}
	return best
}

// Admit counts a connection that has no socket of its own, as those of QUIC, among the accepted ones, and against
// Options.MaxConns. It returns an id, as connections have it, and the loop that is to have it: the one with the fewest. Not ok:
// there are too many, and Refused counts it. Dismiss ends it, once.
func (g *Group) Admit() (id uint64, l *Loop, ok bool) {
	if n := g.accepted.Add(1); g.options.MaxConns > 0 && int(n) > g.options.MaxConns {
		g.accepted.Add(-1)
		g.refused.Add(1)
		return 0, nil, false
	}
	l = g.leastLoaded(g.loops[0])
	l.accepted.Add(1)
	return g.nextConn.Add(1), l, true
}

// Dismiss ends what Admit began: the connection has gone.
func (g *Group) Dismiss(l *Loop) {
	l.accepted.Add(-1)
	g.accepted.Add(-1)
}

func (g *Group) caught(v any) {
	g.panics.Add(1)
	stack := debug.Stack()
	if g.options.OnPanic != nil {
		g.options.OnPanic(v, stack)
		return
	}
	fmt.Fprintf(os.Stderr, "panic on an event loop: %v\n%s", v, stack)
}

// clockBase makes loop times small positive numbers of a monotonic clock, the same for all loops.
var clockBase = time.Now().Add(-time.Second)

func monotonic() int64 { return int64(time.Since(clockBase)) }

// Stats are a loop's counters since the start.
type Stats struct {
	Busy      time.Duration // time not spent waiting for events
	Elapsed   time.Duration
	Conns     int           // connections registered now, of either direction
	Tasks     int           // tasks that are running or parked now
	Accepted  int           // of the connections: from listeners. Only Look tells it
	WorstTurn time.Duration // longest turn since the last call of Stats
}
