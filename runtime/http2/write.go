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
		c.net.SetWriteDeadline(c.loop.Now() + int64(c.options.WriteTimeout))
		n, err := c.below.Write(t, b)
		c.wrote(n)
		if c.spare = b[:0]; cap(b) > 2*backlog {
			c.spare = nil
		}
		if err != nil {
			c.writeFailed(err)
			break
		}
		c.next()
	}
	c.writing = false
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
		c.lose(fault.New(fault.IdleTimeout, fault.Upstream, 504, "the connection took nothing for %s", c.options.WriteTimeout))
	case errors.Is(err, netloop.ErrClosed): // the reader knows why
	default:
		c.lose(&fault.Error{Kind: fault.WriteFailed, Source: fault.Upstream, Status: 502, Err: err})
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

// headers writes the header block that has been encoded.
func (c *Conn) headers(id uint32, end bool) {
	b := c.encoded.Bytes()
	first := b[:min(len(b), c.peerFrame)]
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(b)})
	for b = b[len(first):]; len(b) > 0; {
		part := b[:min(len(b), c.peerFrame)]
		b = b[len(part):]
		_ = c.framer.WriteContinuation(id, len(b) == 0, part)
	}
	c.encoded.Reset()
}

// reset ends a stream.
func (c *Conn) reset(id uint32, code http2.ErrCode) {
	if c.err == nil {
		_ = c.framer.WriteRSTStream(id, code)
		c.flush()
	}
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
		_ = c.framer.WriteWindowUpdate(0, uint32(n)) //nolint:gosec // not more than a window
		c.flush()
	}
}
