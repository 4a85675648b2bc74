package telemetry

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	lineBufferSize = 64 << 10 // bytes of lines gathered by a loop before they are handed over
	lineBuffers    = 16       // of them for each loop: what it may be ahead of the writer
	linePeriod     = 200 * time.Millisecond
)

// lineBuffer holds whole lines of one loop.
type lineBuffer struct {
	b     []byte
	lines int
	order uint64 // buffers of a loop are numbered in the order of their lines
}

// lineQueue is one loop's side of the access log. The buffer that is being filled lies in open, where the writer may
// take it when it has waited long enough: whoever wants to touch it first swaps it out.
type lineQueue struct {
	open    atomic.Pointer[lineBuffer]
	full    *ring[lineBuffer] // from the loop to the writer
	free    *ring[lineBuffer] // and back
	made    int               // buffers that exist
	most    int               // that may
	next    uint64
	dropped *atomic.Uint64
	waker   *waker
}

func newLineQueue(w *waker, dropped *atomic.Uint64, most int) *lineQueue {
	return &lineQueue{full: newRing[lineBuffer](most), free: newRing[lineBuffer](most), most: most, waker: w, dropped: dropped}
}

// Write appends one line, or drops and counts it if the writer is a whole set of buffers behind. It is the sink of the
// loop's zerolog logger and never fails.
func (q *lineQueue) Write(line []byte) (int, error) {
	b := q.open.Swap(nil)
	if b == nil {
		if b = q.empty(); b == nil {
			q.dropped.Add(1)
			q.waker.kick(true)
			return len(line), nil
		}
	}
	b.b = append(b.b, line...)
	b.lines++
	if len(b.b) < lineBufferSize-lineBufferSize/8 {
		q.open.Store(b)
		q.waker.kick(false)
	} else if q.full.push(b) { // always: it has room for every buffer that exists
		q.waker.kick(q.full.len() > q.most/4)
	}
	return len(line), nil
}

func (q *lineQueue) empty() *lineBuffer {
	b := q.free.pop()
	if b == nil {
		if q.made == q.most {
			return nil
		}
		q.made++
		b = &lineBuffer{b: make([]byte, 0, lineBufferSize)}
	}
	b.b, b.lines = b.b[:0], 0
	if cap(b.b) > 2*lineBufferSize {
		b.b = make([]byte, 0, lineBufferSize) // one line was huge
	}
	b.order = q.next
	q.next++
	return b
}

// lineWriter writes the loops' lines to the log's output, from a goroutine of its own.
type lineWriter struct {
	out      output
	queues   []*lineQueue
	ahead    int // buffers for each loop
	waker    waker
	log      zerolog.Logger
	failing  notice
	behind   notice
	dropped  uint64 // by the queues, as far as was said
	reopen   atomic.Bool
	stop     chan struct{}
	done     chan struct{}
	size     atomic.Uint64
	lostSum  atomic.Uint64
	gathered []*lineBuffer
}

func newLineWriter(out output, log zerolog.Logger) *lineWriter {
	return &lineWriter{out: out, ahead: lineBuffers, waker: newWaker(), log: log, stop: make(chan struct{}), done: make(chan struct{})}
}

// queue returns the side of one more loop. All must be made before run begins.
func (w *lineWriter) queue(dropped *atomic.Uint64) *lineQueue {
	q := newLineQueue(&w.waker, dropped, w.ahead)
	w.queues = append(w.queues, q)
	return q
}

// written and lost may be asked of a nil writer: the access log is off.
func (w *lineWriter) written() uint64 {
	if w == nil {
		return 0
	}
	return w.size.Load()
}

func (w *lineWriter) lost() uint64 {
	if w == nil {
		return 0
	}
	return w.lostSum.Load()
}

func (w *lineWriter) run() {
	defer close(w.done)
	for {
		select {
		case <-w.stop:
			w.pass()
			return
		default:
		}
		if w.pass() {
			w.waker.rest(linePeriod, w.stop)
		} else {
			w.waker.sleep(w.idle, w.stop)
		}
	}
}

// pass writes what there is, and says whether there was anything.
func (w *lineWriter) pass() (any bool) {
	w.openAnew()
	w.tellDropped()
	for _, q := range w.queues {
		w.gathered = w.gathered[:0]
		if b := q.open.Swap(nil); b != nil {
			w.gathered = append(w.gathered, b)
		}
		for b := q.full.pop(); b != nil; b = q.full.pop() {
			w.gathered = append(w.gathered, b)
		}
		slices.SortFunc(w.gathered, func(a, b *lineBuffer) int { return int(int64(a.order - b.order)) })
		for i, b := range w.gathered {
			if b.lines > 0 {
				any = true
				w.write(b)
			}
			q.free.push(b)
			w.gathered[i] = nil
		}
	}
	return any
}

func (w *lineWriter) write(b *lineBuffer) {
	w.openAnew()
	size, lost, err := w.out.write(b.b, b.lines)
	w.size.Add(uint64(size))
	defer w.lostSum.Add(uint64(lost)) // after the message: who sees that lines were lost finds it in the log
	if err != nil {
		w.failing.say(func(times uint64) {
			w.log.Error().Err(err).Uint64("lines_lost", w.lostSum.Load()+uint64(lost)).Uint64("failures", times).
				Msg("the access log cannot be written: its lines are being lost, requests are served as before")
		})
	}
}

// openAnew does what ReopenLogs was asked for.
func (w *lineWriter) openAnew() {
	if !w.reopen.Load() || !w.reopen.Swap(false) {
		return
	}
	switch name, err := w.out.reopen(); {
	case err != nil:
		w.log.Error().Err(err).Msg("the access log cannot be opened anew: its lines go on to where they went")
	case name != "":
		w.log.Info().Str("file", name).Msg("the access log was opened anew")
	}
}

// tellDropped says when lines do not reach the writer at all.
func (w *lineWriter) tellDropped() {
	var dropped uint64
	for _, q := range w.queues {
		dropped += q.dropped.Load()
	}
	if dropped > w.dropped {
		w.dropped = dropped
		w.behind.say(func(uint64) {
			w.log.Warn().Uint64("lines_dropped", dropped).
				Msg("the access log's output is slower than the requests: lines are being dropped, requests are served as before")
		})
	}
}

// shutdown writes what is left and ends the writer's goroutine, unless ctx ends first: a write to a pipe that nobody
// reads cannot be interrupted.
func (w *lineWriter) shutdown(ctx context.Context) error {
	close(w.stop)
	select {
	case <-w.done:
	case <-ctx.Done():
		return fmt.Errorf("access log: the last lines were not written: %w", ctx.Err())
	}
	return w.out.close()
}

func (w *lineWriter) idle() bool {
	if w.reopen.Load() {
		return false
	}
	for _, q := range w.queues {
		if q.open.Load() != nil || q.full.len() > 0 {
			return false
		}
	}
	return true
}

// noticePeriod is how often something that keeps happening is logged.
const noticePeriod = 30 * time.Second

// notice keeps a message that may have to be said all the time from being said more than once in noticePeriod.
type notice struct {
	last  time.Time
	times uint64 // since it was last said
}

func (n *notice) say(message func(times uint64)) {
	n.times++
	if now := time.Now(); n.last.IsZero() || now.Sub(n.last) >= noticePeriod {
		message(n.times)
		n.last, n.times = now, 0
	}
}
