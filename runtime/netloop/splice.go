package netloop

import "time"

// Flow is one direction of a pair of connections that pass bytes on to each other, and what SpliceTo keeps of it from
// one call to the next. The zero Flow is ready. It belongs to the connections' loop.
type Flow struct {
	// Idle, if not 0, is how long both connections may be silent: whenever bytes move, the read and write deadlines of
	// both are set that far ahead, so that they pass only when neither direction has moved anything for so long.
	Idle time.Duration
	// Bytes is how many bytes the destination has taken so far.
	Bytes int64

	bulk bool // more came at once than a buffer holds: the next bytes are spliced
}

// moved notes that dst took n bytes that came from src.
func (f *Flow) moved(src, dst *Conn, n int) {
	f.Bytes += int64(n)
	f.Touch(src, dst)
}

// Touch begins the time of silence anew for both connections.
func (f *Flow) Touch(a, b *Conn) {
	if f.Idle <= 0 {
		return
	}
	at := a.loop.now + int64(f.Idle)
	a.SetReadDeadline(at)
	a.SetWriteDeadline(at)
	b.SetReadDeadline(at)
	b.SetWriteDeadline(at)
}

// AbortSent is Abort as soon as the peer has acknowledged what was written, at the latest after limit: what was passed
// on whole arrives, although its source has failed. Nobody else may write to the connection or wait for it any more.
func (c *Conn) AbortSent(limit time.Duration) {
	const step = 20 * time.Millisecond
	if c.closed {
		return
	}
	if limit <= 0 || c.unsent() == 0 {
		c.Abort()
		return
	}
	c.OnEvent(nil)
	c.loop.AfterFunc(min(step, limit), func() { c.AbortSent(limit - step) })
}
