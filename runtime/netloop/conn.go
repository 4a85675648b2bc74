package netloop

import "net/netip"

// Loop returns the loop that owns the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// ID is the connection's number, unique in the process's life; from 1.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the address of the peer.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is our address.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Accepted says whether the connection came from a listener.
func (c *Conn) Accepted() bool { return c.listener != nil }

// Closed says whether Close was called.
func (c *Conn) Closed() bool { return c.closed }

// call runs an event callback; its panic closes the connection.
func (c *Conn) call(fn func(*Conn)) {
	defer func() {
		if v := recover(); v != nil {
			c.loop.group.caught(v)
			c.Close()
		}
	}()
	fn(c)
}

// SetReadDeadline sets the time, on the loop's clock, after which Read returns ErrDeadline and OnEvent's callback runs;
// 0 is none. It is a store in most cases, and up to a tick (4.2 ms) late.
func (c *Conn) SetReadDeadline(at int64) {
	c.readBy = at
	c.arm(at)
}

// SetWriteDeadline is SetReadDeadline for Write.
func (c *Conn) SetWriteDeadline(at int64) {
	c.writeBy = at
	c.arm(at)
}

// arm makes sure that the timer fires no later than at. A deadline that moved back is seen when the timer fires.
func (c *Conn) arm(at int64) {
	if at != 0 && !c.closed && (c.timer.slot == 0 || c.timer.when > at) {
		c.loop.wheel.add(&c.timer, at)
	}
}

// checkDeadlines acts on deadlines that have passed and arms the timer for the next.
func (c *Conn) checkDeadlines() {
	now := c.loop.now
	if c.writeBy != 0 && now >= c.writeBy {
		c.expireWrite()
	}
	if !c.closed && c.readBy != 0 && now >= c.readBy {
		c.expireRead()
	}
	for _, at := range [...]int64{c.readBy, c.writeBy} {
		if at > now {
			c.arm(at)
		}
	}
}
