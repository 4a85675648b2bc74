package telemetry

import (
	"sync/atomic"
	"time"
)

const cacheLine = 64

// ring hands pointers from one goroutine to another: one side only pushes, the other only pops. Neither ever waits.
type ring[T any] struct {
	slots []*T
	_     [cacheLine]byte
	tail  atomic.Uint64 // next to be written; only the pushing side stores it
	seen  uint64        // head as the pushing side last saw it
	_     [cacheLine]byte
	head  atomic.Uint64 // next to be read; only the popping side stores it
	_     [cacheLine]byte
}

// newRing returns a ring for at least size pointers.
func newRing[T any](size int) *ring[T] {
	n := 1
	for n < size {
		n <<= 1
	}
	return &ring[T]{slots: make([]*T, n)}
}

// push appends p, or says that there is no room.
func (r *ring[T]) push(p *T) bool {
	tail := r.tail.Load()
	if tail-r.seen == uint64(len(r.slots)) {
		if r.seen = r.head.Load(); tail-r.seen == uint64(len(r.slots)) {
			return false
		}
	}
	r.slots[tail&uint64(len(r.slots)-1)] = p
	r.tail.Store(tail + 1)
	return true
}

// pop takes the oldest pointer; nil: there is none.
func (r *ring[T]) pop() *T {
	head := r.head.Load()
	if head == r.tail.Load() {
		return nil
	}
	slot := &r.slots[head&uint64(len(r.slots)-1)]
	p := *slot
	*slot = nil
	r.head.Store(head + 1)
	return p
}

func (r *ring[T]) len() int { return int(r.tail.Load() - r.head.Load()) }

// waker lets a goroutine rest between batches and be woken by loops that have work for it. In the busy state, the
// usual one under load, a kick is one load.
type waker struct {
	state atomic.Uint32
	c     chan struct{} // holds one token, so that sending never waits
}

const (
	busy    = iota // the goroutine will look for work by itself
	resting        // it lets a batch gather, and wants to know when a ring fills
	asleep         // it wants to know of anything
)

func newWaker() waker { return waker{c: make(chan struct{}, 1)} }

// kick is called by loops after they have handed over something; filling says that there is not much room left.
func (w *waker) kick(filling bool) {
	s := w.state.Load()
	if s == busy || s == resting && !filling {
		return
	}
	if w.state.CompareAndSwap(s, busy) {
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}

// rest waits until d has passed, a ring fills, or stop is closed.
func (w *waker) rest(d time.Duration, stop <-chan struct{}) {
	w.state.Store(resting)
	t := time.NewTimer(d)
	select {
	case <-t.C:
	case <-w.c:
	case <-stop:
	}
	t.Stop()
	w.state.Store(busy)
}

// sleep waits for anything, unless idle says that there is something already. idle is asked after loops can see that
// the goroutine sleeps, so that nothing is missed between the two.
func (w *waker) sleep(idle func() bool, stop <-chan struct{}) {
	w.state.Store(asleep)
	if idle() {
		select {
		case <-w.c:
		case <-stop:
		}
	}
	w.state.Store(busy)
}
