package http2

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// goodbye is how long the last frame may take.
const goodbye = time.Second

// flush has what was collected written, by a task that runs when those that run now have parked: what several streams write
// in a turn of the loop goes together.
func (c *Conn) flush() {
	if !c.writing && len(c.out) > 0 && c.err == nil {
		c.writing = true
		c.loop.Go(c.write)
	}
}

// writer writes what was collected until nothing is.
func (c *Conn) writer(t *netloop.Task) {
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.batch++
		c.net.SetWriteDeadline(c.loop.Now() + int64(c.options.WriteTimeout))
		c.sending = true
		n, err := c.below.Write(t, b)
		c.sending = false
		c.wrote(n)
		c.keepOut(b)
		if err != nil {
			c.writeFailed(err)
			break
		}
		c.wakeBehind()
		c.next()
	}
	c.writing = false
	if len(c.out) == 0 {
		c.giveOut()
	}
	if c.ender != nil {
		c.ender.Wake()
	}
}

// keepOut keeps the memory of what was written for what is to be. The loop's own is used by all of its connections.
func (c *Conn) keepOut(b []byte) {
	switch {
	case cap(b) == netloop.BufferSize:
		c.loop.Recycle(b[:netloop.BufferSize])
	case cap(b) <= 2*backlog:
		c.spare = b[:0]
	}
}

// giveOut gives the memory back in which nothing is collected.
func (c *Conn) giveOut() {
	if cap(c.out) == netloop.BufferSize {
		c.loop.Recycle(c.out[:netloop.BufferSize])
		c.out = nil
	}
}

// wakeBehind has those go on whose answers have been written.
func (c *Conn) wakeBehind() {
	for i, s := range c.behind {
		s.wakeWriter()
		c.behind[i] = nil
	}
	c.behind = c.behind[:0]
}

func (c *Conn) wrote(n int) {
	if c.options.Out != nil {
		*c.options.Out += uint64(n) //nolint:gosec // not negative
	}
}

func (c *Conn) writeFailed(err error) {
	switch {
	case c.loop.Closing():
		c.lose(fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping"))
	case errors.Is(err, netloop.ErrDeadline):
		c.lose(c.fault(fault.IdleTimeout, 504, "the connection took nothing for "+c.options.WriteTimeout.String()))
	case errors.Is(err, netloop.ErrClosed): // the reader knows why
	default:
		fe := c.fault(fault.WriteFailed, 502, "")
		fe.Err = err
		c.lose(fe)
	}
}

// control is called after a frame that the peer made us write: they are bounded although nobody waits for room.
func (c *Conn) control() error {
	if len(c.out) > maxBacklog {
		return broken(http2.ErrCodeEnhanceYourCalm, "frames that want answers, and the answers are not read")
	}
	c.flush()
	return nil
}

// full says whether no DATA can be written now.
func (c *Conn) full() bool { return len(c.out) >= backlog || c.window <= 0 }

// next gives the stream its turn that has waited longest, if it can do something with it.
func (c *Conn) next() {
	for len(c.queue) > 0 && !c.full() {
		s := c.queue[0]
		n := copy(c.queue, c.queue[1:])
		c.queue[n] = nil
		c.queue = c.queue[:n]
		if s.queued {
			s.queued, s.turn = false, true
			s.wakeWriter()
			return
		}
	}
}

// reset ends a stream.
func (c *Conn) reset(id uint32, code http2.ErrCode) {
	if c.err == nil {
		if s := c.streams[id]; s != nil {
			s.told = code.String()
		}
		c.writeReset(id, code)
		c.remember(id, code)
		c.flush()
	}
}

// cancelled is a stream that was reset by us: frames of it may be on their way still.
type cancelled struct {
	id   uint32
	left int // bytes of DATA that the peer may have sent before it knew
}

// remember notes that a stream was reset by us.
func (c *Conn) remember(id uint32, code http2.ErrCode) {
	const lately = 128
	one := cancelled{id: id}
	switch s := c.streams[id]; {
	case s != nil:
		one.left = s.received.left
	case code == http2.ErrCodeRefusedStream:
		one.left = c.options.StreamWindow
	}
	if len(c.cancelled) < lately {
		c.cancelled = append(c.cancelled, one)
		return
	}
	c.cancelled[c.oldest] = one
	c.oldest = (c.oldest + 1) % lately
}

// wasReset finds a stream that we have reset lately; nil: it is none.
func (c *Conn) wasReset(id uint32) *cancelled {
	for i := range c.cancelled {
		if c.cancelled[i].id == id {
			return &c.cancelled[i]
		}
	}
	return nil
}

// lateData takes DATA of a stream that is over. What may have been on its way when we have reset it is nobody's fault, also if that is many small
// frames; everything else moves nothing forward.
func (c *Conn) lateData(id uint32, n int) error {
	if one := c.wasReset(id); one != nil && n > 0 && one.left >= n {
		one.left -= n
		return nil
	}
	return c.annoyed()
}

// window is what we have given the peer of one.
type window struct {
	size   int
	left   int // that the peer may send
	credit int // that it gets again, once it is worth a frame
}

func (w *window) init(size int) { *w = window{size: size, left: size} }

// take notes that n bytes came. It says whether they were allowed.
func (w *window) take(n int) bool {
	w.left -= n
	return w.left >= 0
}

// give gives n bytes back, and returns what is to be told now.
func (w *window) give(n int) int {
	if w.credit += n; w.credit < w.size/2 {
		return 0
	}
	n = w.credit
	w.left, w.credit = w.left+n, 0
	return n
}

// credit gives the peer n bytes of the connection's window back.
func (c *Conn) credit(n int) {
	if n = c.received.give(n); n > 0 {
		c.writeWindowUpdate(0, n)
		c.flush()
	}
}
