package http2

import (
	"errors"

	"golang.org/x/net/http2"

	"wasmgate/runtime/netloop"
)

// Preface is what a connection of HTTP/2 begins with.
const Preface = http2.ClientPreface

// Server has what the connections of clients share: memory that is used again, for each loop.
type Server struct{ loops []memory }

// NewServer makes one for the loops of a group.
func NewServer(g *netloop.Group) *Server { return &Server{loops: make([]memory, len(g.Loops()))} }

// Handler is who answers the requests of a connection.
type Handler interface {
	// Serve answers a request, in a task of its own. When it returns the stream is over: an answer without end is cut off.
	Serve(t *netloop.Task, r *Request)
	// Closed is called once, on the loop, when the connection and all its requests are over. It must not park.
	Closed()
}

// serverSide is what only a server's connection has.
type serverSide struct {
	handler   Handler
	preface   bool  // it has come
	acked     bool  // the peer has our SETTINGS
	ackBy     int64 // loop time
	idleSince int64
	served    bool // there was a request
	leaving   leaving
	last      uint32 // with told: the last stream that is served
	grace     *netloop.Timer
	run       func(*netloop.Task, *netloop.Conn)
	ready     func(*netloop.Conn) // made once, so that to rest does not allocate
	over      bool                // Closed was called
}

// leaving is how far a connection has come that is to end.
type leaving uint8

const (
	stays     leaving = iota
	announced         // GOAWAY with the highest number was sent: what is on its way is taken still
	told              // and that with the last one
)

// Accept makes a connection that a client has opened one of HTTP/2. first is what was read of it already; it is copied. The
// caller must not read from the connection, set its deadlines or close it from then on, and calls Run.
func (srv *Server) Accept(nc *netloop.Conn, below Transport, first []byte, o Options, h Handler) *Conn {
	if o.StreamWindow <= 0 {
		o.StreamWindow = 64 << 10
	}
	c := newConn(nc, below, o, &srv.loops[nc.Loop().Index()])
	now := c.loop.Now()
	c.heard = now
	c.server = &serverSide{handler: h, idleSince: now, ackBy: now + int64(c.options.SettingsTimeout)}
	c.server.run = func(t *netloop.Task, _ *netloop.Conn) { c.read(t) }
	c.server.ready = func(nc *netloop.Conn) { nc.Go(c.server.run) }
	c.attach(nil)
	if in := &c.reader.source; len(first) > 0 {
		if in.buf = c.loop.Buffer(); len(first) > len(in.buf) {
			in.buf = make([]byte, len(first))
		}
		in.w = copy(in.buf, first)
	}
	c.writeSettings(c.ourSettings()...)
	if more := c.options.ConnWindow - firstWindow; more > 0 {
		c.writeWindowUpdate(0, more)
	}
	return c
}

// Run reads the connection, until it rests or ends.
func (c *Conn) Run(t *netloop.Task) { c.read(t) }

func (c *Conn) ourSettings() []http2.Setting {
	o := &c.options
	list := []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: uint32(o.MaxStreams)}, //nolint:gosec // options are small
		{ID: http2.SettingInitialWindowSize, Val: uint32(o.StreamWindow)},  //nolint:gosec // see above
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(o.HeaderList)},    //nolint:gosec // see above
		{ID: http2.SettingHeaderTableSize, Val: uint32(o.Table)},           //nolint:gosec // see above
		{ID: http2.SettingNoRFC7540Priorities, Val: 1},
	}
	if o.ExtendedConnect {
		list = append(list, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	return list
}

// begin takes a client's preface.
func (c *Conn) begin() error {
	s := c.server
	if s == nil || s.preface {
		return nil
	}
	c.flush()
	var b [len(http2.ClientPreface)]byte
	for n := 0; n < len(b); {
		more, err := c.reader.source.Read(b[n:])
		if n += more; err != nil {
			return err
		}
		if string(b[:n]) != http2.ClientPreface[:n] {
			return broken(http2.ErrCodeProtocol, "no preface of HTTP/2")
		}
	}
	s.preface = true
	return nil
}

var (
	errOver = errors.New("the connection has ended")
	errLull = errors.New("nothing comes")
)

// rest makes a connection on which nothing happens idle: then it has neither a task nor a buffer.
func (c *Conn) rest() bool {
	s := c.server
	if s == nil || len(c.streams) > 0 || c.block.open || c.waits == nil || !c.waits.Quiet() || c.err != nil {
		return false
	}
	if e := c.late(); c.reader.source.r < c.reader.source.w || e != nil && e != errLull {
		return false
	}
	c.detach(true)
	if !c.writing && len(c.out) == 0 {
		c.spare = nil
		c.giveOut()
	}
	c.net.SetReadDeadline(earlier(c.idleUntil(), c.ackUntil()))
	c.net.OnEvent(s.ready)
	return true
}

// ackUntil is when the peer must have said that it has our SETTINGS; 0: it has.
func (c *Conn) ackUntil() int64 {
	if c.server.acked {
		return 0
	}
	return c.server.ackBy
}

// idleUntil is how long the connection may be without a request.
func (c *Conn) idleUntil() int64 {
	s := c.server
	switch {
	case s.leaving == told:
		return s.idleSince
	case s.served:
		return s.idleSince + int64(c.options.IdleTimeout)
	}
	return s.idleSince + int64(c.options.HeadTimeout)
}

// earlier is the earlier of two times, of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// readUntil is when something must have come.
func (c *Conn) readUntil() int64 {
	at := c.ackUntil()
	if c.block.open {
		at = earlier(at, c.block.since+int64(c.options.HeadTimeout))
	}
	if len(c.streams) > 0 {
		return at
	}
	if since := c.reader.source.since; since != 0 {
		return earlier(at, since+int64(c.options.HeadTimeout))
	}
	at = earlier(at, c.idleUntil())
	if c.waits != nil && c.server.preface {
		at = earlier(at, c.server.idleSince+int64(lull))
	}
	return at
}

// late says what it means that nothing has come in time; nil: it is waited for longer.
func (c *Conn) late() error {
	now, s := c.loop.Now(), c.server
	switch {
	case !s.acked && now >= s.ackBy:
		return broken(http2.ErrCodeSettingsTimeout, "no acknowledgement of SETTINGS")
	case c.block.open && now >= c.block.since+int64(c.options.HeadTimeout):
		return broken(http2.ErrCodeEnhanceYourCalm, "a head that is not whole in time")
	case len(c.streams) > 0:
		return nil
	case c.reader.source.since != 0:
		if now >= c.reader.source.since+int64(c.options.HeadTimeout) {
			return broken(http2.ErrCodeEnhanceYourCalm, "a frame that is not whole in time")
		}
		return nil
	case now >= c.idleUntil():
		return errOver
	case c.waits != nil && s.preface && now >= s.idleSince+int64(lull):
		return errLull
	}
	return nil
}

// lastBegun is the last stream that was acted upon.
func (c *Conn) lastBegun() uint32 {
	if c.server.leaving == told {
		return c.server.last
	}
	return c.nextID - min(c.nextID, 2)
}

// Drain has the connection end, without harm to any request: the client is told to begin no further one, what was on its way
// meanwhile is answered, and the connection is closed when the last answer was given (RFC 9113 section 6.8).
func (c *Conn) Drain() {
	s := c.server
	if c.err != nil || s.leaving != stays {
		return
	}
	s.leaving = announced
	c.writeGoAway(maxStreamID, http2.ErrCodeNo, "")
	c.writePing(false, drainPing)
	c.flush()
	s.grace = c.loop.AfterFunc(drainGrace, c.lastCall)
}

var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// lastCall is the second step of Drain: the client has the first, or had the time for it.
func (c *Conn) lastCall() {
	s := c.server
	if c.err != nil || s.leaving != announced {
		return
	}
	s.last, s.leaving = c.lastBegun(), told
	s.grace.Stop()
	c.writeGoAway(s.last, http2.ErrCodeNo, "")
	c.flush()
	c.endIdle()
}

// endIdle has a connection that is leaving end, if it has no streams.
func (c *Conn) endIdle() {
	if c.server.leaving == told && len(c.streams) == 0 {
		c.net.SetReadDeadline(c.loop.Now())
	}
}

// becameIdle is the end of the last stream.
func (c *Conn) becameIdle() {
	s := c.server
	s.idleSince = c.loop.Now()
	switch {
	case c.err != nil:
		c.closed()
	case s.leaving == told:
		c.endIdle()
	case c.reader != nil:
		c.net.SetReadDeadline(c.readUntil())
	}
}

// closed tells the handler when everything is over.
func (c *Conn) closed() {
	if s := c.server; !s.over && len(c.streams) == 0 && c.net.Closed() {
		s.over = true
		if s.grace != nil {
			s.grace.Stop()
		}
		s.handler.Closed()
	}
}

// linger sees to it that what was said last arrives: closing a socket with unread bytes resets it, and the reset may overtake
// them. So our side ends, and what comes is read for a moment.
func (c *Conn) linger(t *netloop.Task) {
	const most, patience = 1 << 20, int64(goodbye)
	if c.server == nil || c.closeWrite(t) != nil {
		return
	}
	c.net.SetReadDeadline(c.loop.Now() + patience)
	b := c.loop.Buffer()
	for read := 0; read < most; {
		n, err := c.below.Read(t, b)
		if err != nil {
			break
		}
		read += n
	}
	c.loop.Recycle(b)
}

// closeWrite ends our side.
func (c *Conn) closeWrite(t *netloop.Task) error {
	if b, ok := c.below.(interface{ CloseWrite(*netloop.Task) error }); ok {
		return b.CloseWrite(t)
	}
	return c.net.CloseWrite()
}
