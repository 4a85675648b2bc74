package http2

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// Transport carries the connection's bytes; Read and Write park the task, one of which may do each at a time. A
// netloop.Conn is one, and so is TLS on top of it.
type Transport interface {
	Read(t *netloop.Task, b []byte) (int, error)
	Write(t *netloop.Task, b []byte) (int, error)
}

// Conn is a connection. It belongs to the loop of its socket, for its whole life.
type Conn struct {
	options Options
	net     *netloop.Conn
	below   Transport
	loop    *netloop.Loop
	framer  *http2.Framer
	source  source

	streams map[uint32]*Stream
	free    []*Stream
	nextID  uint32
	first   *netloop.Task // waits for the first SETTINGS
	settled bool          // they have come
	err     *fault.Error  // why it is over; nil: it is not
	code    http2.ErrCode // that GOAWAY is to tell
	gone    bool          // Ended was called
	goAway  bool
	lastID  uint32 // of the peer's GOAWAY

	// What the peer allows.
	peerStreams    uint32
	peerWindow     int64 // of a new stream
	peerFrame      int
	peerHeaderList uint64

	// Reading.
	decoder       *hpack.Decoder
	block         headBlock
	received      window
	nuisance      int
	nuisanceSince int64

	// Writing.
	encoder *hpack.Encoder
	encoded bytes.Buffer
	out     []byte
	spare   []byte
	writing bool // the writer's task exists
	write   func(*netloop.Task)
	window  int64 // of the connection, that the peer gives
	queue   []*Stream

	heard   int64 // when the last frame came
	asked   int64 // when PING was sent that was not answered; 0: none is
	keeping *netloop.Timer
}

// source is what the Framer reads from.
type source struct {
	conn *Conn
	task *netloop.Task
	buf  []byte
	r, w int
	row  int // reads so far
}

// Read parks. A connection on which nothing comes holds no buffer.
func (s *source) Read(p []byte) (int, error) {
	c := s.conn
	if s.r == s.w {
		if c.below == Transport(c.net) {
			c.loop.Recycle(s.buf)
			s.buf = nil
			if err := c.net.WaitReadable(s.task); err != nil {
				return 0, err
			}
		}
		if s.row++; s.row%readsInRow == 0 {
			s.task.Yield() // a peer that sends without end shall not have the loop for itself
		}
		if s.buf == nil {
			s.buf = c.loop.Buffer()
		}
		n, err := c.below.Read(s.task, s.buf)
		if s.r, s.w = 0, n; n == 0 {
			return 0, err
		}
		if c.options.In != nil {
			*c.options.In += uint64(n)
		}
	}
	n := copy(p, s.buf[s.r:s.w])
	s.r += n
	return n, nil
}

// collector is what the Framer writes to.
type collector Conn

func (c *collector) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// newConn makes a connection of what is common to both sides.
func newConn(nc *netloop.Conn, below Transport, o Options) *Conn {
	c := &Conn{
		options: o.withDefaults(), net: nc, below: below, loop: nc.Loop(), streams: map[uint32]*Stream{}, nextID: 1,
		peerStreams: 1<<32 - 1, peerWindow: firstWindow, peerFrame: frameSize, peerHeaderList: 1<<64 - 1, window: firstWindow,
	}
	c.source.conn = c
	c.framer = http2.NewFramer((*collector)(c), &c.source)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(frameSize)
	c.framer.AllowIllegalReads = false
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.encoder.SetMaxDynamicTableSizeLimit(uint32(c.options.Table)) //nolint:gosec // a few thousand
	c.decoder = hpack.NewDecoder(uint32(c.options.Table), c.block.field)
	c.decoder.SetMaxStringLength(c.options.HeaderList)
	c.block.limits = &c.options
	c.received.init(c.options.ConnWindow)
	c.write = c.writer
	return c
}

// Room says whether the connection takes one more stream, beside so many.
func (c *Conn) Room(streams int) bool {
	return !c.gone && streams < c.options.MaxStreams && uint64(streams) < uint64(c.peerStreams) && c.nextID < maxStreamID
}

// Alive says whether it takes streams at all.
func (c *Conn) Alive() bool { return !c.gone && !c.net.Closed() }

// Streams is how many streams there are.
func (c *Conn) Streams() int { return len(c.streams) }

// leave tells that the connection takes no further stream.
func (c *Conn) leave(why Why) {
	if !c.gone {
		c.gone = true
		if c.options.Ended != nil {
			c.options.Ended(why)
		}
	}
}

var errPanicked = errors.New("reading it failed")

// read is the reader's task. Whatever ends the connection ends it, and it then ends everything else.
func (c *Conn) read(t *netloop.Task) {
	c.source.task = t
	err := errPanicked
	defer func() { c.end(t, err) }() // in any case: no stream is to wait for ever
	for c.err == nil {
		if e := c.readFrame(); e != nil {
			err = e
			break
		}
	}
}

// end ends everything.
func (c *Conn) end(t *netloop.Task, err error) {
	c.leave(c.over(err))
	if c.code != 0 && !c.writing && !c.net.Closed() {
		last := uint32(0) // no stream of the peer's was acted upon: there is none
		_ = c.framer.WriteGoAway(last, c.code, nil)
		c.net.SetWriteDeadline(c.loop.Now() + int64(goodbye))
		n, _ := c.below.Write(t, c.out)
		c.wrote(n)
		c.out = nil
	}
	_ = c.net.Close()
	if c.keeping != nil {
		c.keeping.Stop()
	}
	if c.source.buf != nil {
		c.loop.Recycle(c.source.buf)
		c.source.buf = nil
	}
	for _, s := range c.streams {
		s.fail(c.failure(s))
	}
	if c.first != nil {
		c.first.Wake()
	}
}

// over finds out why the connection is over.
func (c *Conn) over(err error) Why {
	var rule *breach
	switch {
	case c.err != nil: // its writer, or its timer, has said so
		return Failed
	case errors.As(err, &rule):
		c.code = rule.code
		c.err = &fault.Error{Kind: fault.Malformed, Source: fault.Upstream, Status: 502, Detail: "HTTP/2: " + rule.what}
		return Protocol
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.err = &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Detail: "the connection was closed"}
		return PeerClosed
	case c.loop.Closing():
		c.err = fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
		return Failed
	}
	c.err = &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: err}
	return Failed
}

// failure is the connection's error as that of a stream, which makes it its own.
func (c *Conn) failure(s *Stream) *fault.Error {
	e := *c.err
	e.Retryable = !s.headDone && e.Source == fault.Upstream && e.Kind != fault.Malformed
	return &e
}

// lose ends a connection that does not work any more.
func (c *Conn) lose(err *fault.Error) {
	if c.err == nil {
		c.err = err
		_ = c.net.Close() // the reader ends, and everything with it
	}
}

// breach is what a peer did that it must not.
type breach struct {
	code http2.ErrCode
	what string
}

func (b *breach) Error() string { return b.what + " (" + b.code.String() + ")" }

func broken(code http2.ErrCode, what string) error { return &breach{code, what} }

// keep looks after the connection while streams are open.
func (c *Conn) keep() {
	if c.keeping == nil && c.err == nil {
		c.keeping = c.loop.AfterFunc(min(c.options.KeepAlive, c.options.PingTimeout), c.keepAlive)
	}
}

func (c *Conn) keepAlive() {
	c.keeping = nil
	if c.err != nil || len(c.streams) == 0 {
		return
	}
	now := c.loop.Now()
	switch {
	case c.asked != 0 && c.heard > c.asked:
		c.asked = 0 // it is there
	case c.asked != 0 && now-c.asked >= int64(c.options.PingTimeout):
		c.lose(fault.New(fault.UpstreamClosed, fault.Upstream, 504, "the connection is silent, and PING was not answered within %s", c.options.PingTimeout))
		return
	case c.asked == 0 && now-c.heard >= int64(c.options.KeepAlive):
		c.asked = now
		_ = c.framer.WritePing(false, [8]byte{'w', 'a', 's', 'm', 'g', 'a', 't', 'e'})
		c.flush()
	}
	c.keep()
}
