package http2

import (
	"errors"
	"io"
	"strings"

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

// waiter is a Transport that says whether something can be read, so that who waits holds no buffer. Both of those are.
type waiter interface {
	Transport
	WaitReadable(t *netloop.Task) error
	Quiet() bool
}

// Conn is a connection. It belongs to the loop of its socket, for its whole life.
type Conn struct {
	options Options
	net     *netloop.Conn
	below   Transport
	waits   waiter // below, if it is one
	loop    *netloop.Loop
	memory  *memory
	reader  *reader     // nil: the connection is at rest
	server  *serverSide // nil: it is a client's

	streams map[uint32]*Stream
	nextID  uint32        // of the next stream that is begun, by whichever side may
	first   *netloop.Task // waits for the first SETTINGS
	settled bool          // they have come
	err     *fault.Error  // why it is over; nil: it is not
	code    http2.ErrCode // that GOAWAY is to tell
	gone    bool          // Ended was called
	goAway  bool
	lastID  uint32        // of the peer's GOAWAY
	theirs  http2.ErrCode // its code

	// What the peer allows.
	peerStreams    uint32
	peerWindow     int64 // of a new stream
	peerFrame      int
	peerHeaderList uint64
	extended       bool // CONNECT with :protocol (RFC 8441)

	// Reading.
	decoder       *hpack.Decoder
	block         headBlock
	received      window
	nuisance      int
	nuisanceSince int64
	cancelled     []cancelled // streams that were reset by us, lately
	oldest        int

	// Writing.
	encoder *hpack.Encoder
	out     []byte
	spare   []byte
	batch   uint32 // how often out was handed over to be written
	writing bool   // the writer's task exists
	sending bool   // it is at a write, in whose midst nothing else can be
	write   func(*netloop.Task)
	window  int64 // of the connection, that the peer gives
	queue   []*Stream
	behind  []*Stream     // whose answer waits for what was collected to be written
	ender   *netloop.Task // waits for the writer's end

	heard   int64 // when the last frame came
	asked   int64 // when PING was sent that was not answered; 0: none is
	keeping *netloop.Timer
}

// source is what the Framer reads from.
type source struct {
	conn  *Conn
	task  *netloop.Task
	buf   []byte
	r, w  int
	row   int   // reads so far
	since int64 // when the frame began that is being read; 0: none is
}

// Read parks. A connection on which nothing comes holds no buffer.
func (s *source) Read(p []byte) (int, error) {
	c := s.conn
	if s.r == s.w {
		if c.waits != nil {
			c.loop.Recycle(s.buf)
			s.buf = nil
			if err := s.await(); err != nil {
				return 0, err
			}
		}
		if s.row++; s.row%readsInRow == 0 {
			s.task.Yield() // a peer that sends without end shall not have the loop for itself
		}
		if s.buf == nil {
			s.buf = c.loop.Buffer()
		}
		n, err := s.fill()
		if s.r, s.w = 0, n; n == 0 {
			return 0, err
		}
		if c.options.In != nil {
			*c.options.In += uint64(n)
		}
	}
	n := copy(p, s.buf[s.r:s.w])
	if s.r += n; s.since == 0 {
		s.since = c.loop.Now()
	}
	return n, nil
}

// await waits until something can be read. A server's connection has a time for that.
func (s *source) await() error {
	c := s.conn
	for {
		if c.server != nil {
			c.net.SetReadDeadline(c.readUntil())
		}
		err := c.waits.WaitReadable(s.task)
		if err != netloop.ErrDeadline || c.server == nil {
			return err
		}
		if err := c.late(); err != nil {
			return err
		}
	}
}

// fill reads.
func (s *source) fill() (int, error) {
	c := s.conn
	for {
		if c.server != nil {
			c.net.SetReadDeadline(c.readUntil())
		}
		n, err := c.below.Read(s.task, s.buf)
		if n > 0 || c.server == nil || !errors.Is(err, netloop.ErrDeadline) {
			return n, err
		}
		if err := c.late(); err != nil {
			return 0, err
		}
	}
}

// newConn makes a connection of what is common to both sides.
func newConn(nc *netloop.Conn, below Transport, o Options, m *memory) *Conn {
	c := &Conn{
		options: o.withDefaults(), net: nc, below: below, loop: nc.Loop(), memory: m, streams: map[uint32]*Stream{}, nextID: 1, batch: 1,
		peerStreams: 1<<32 - 1, peerWindow: firstWindow, peerFrame: frameSize, peerHeaderList: 1<<64 - 1, window: firstWindow,
	}
	c.waits, _ = below.(waiter)
	c.encoder = hpack.NewEncoder(&m.encoded)
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

// MaxStreams is how many there may be at a time: what the peer allows, within Options.MaxStreams; what it is allowed, of a server.
func (c *Conn) MaxStreams() int {
	if c.server != nil {
		return c.options.MaxStreams
	}
	return int(min(uint32(c.options.MaxStreams), c.peerStreams)) //nolint:gosec // options are small
}

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

// read is the reader's task. Whatever ends the connection ends it, and it then ends everything else. A server's connection that
// is at rest needs no task.
func (c *Conn) read(t *netloop.Task) {
	if c.reader == nil {
		c.attach(t)
	}
	c.reader.source.task = t
	err, rests := errPanicked, false
	defer func() { // in any case: no stream is to wait for ever
		if !rests {
			c.end(t, err)
		}
	}()
	if e := c.begin(); e != nil {
		err = e
		return
	}
	for c.err == nil {
		if rests = c.rest(); rests {
			return
		}
		c.reader.source.since = 0
		if e := c.readFrame(); e != nil && e != errLull {
			err = e
			break
		}
	}
}

// end ends everything.
func (c *Conn) end(t *netloop.Task, err error) {
	c.leave(c.over(err))
	if c.keeping != nil {
		c.keeping.Stop()
	}
	for _, s := range c.streams {
		if s.fail(c.failure(s)); c.server != nil && !s.headDone {
			s.Close() // it has no task
		}
	}
	if c.sayGoAway() && !c.net.Closed() {
		c.sayLast(t)
	}
	c.close()
	c.detach(false)
	c.giveOut()
	for _, s := range c.behind {
		s.wakeWriter()
	}
	if c.first != nil {
		c.first.Wake()
	}
	if c.server != nil {
		c.closed()
	}
}

// close closes the connection; TLS says so, if it can.
func (c *Conn) close() {
	if b, ok := c.below.(io.Closer); ok {
		_ = b.Close()
	}
	_ = c.net.Close()
}

// sayGoAway says whether a last frame is due.
func (c *Conn) sayGoAway() bool {
	return c.code != 0 || c.server != nil && c.server.preface && c.err.Err == nil && !c.net.HungUp()
}

// sayLast writes what was collected, and GOAWAY.
func (c *Conn) sayLast(t *netloop.Task) {
	c.net.SetWriteDeadline(c.loop.Now() + int64(goodbye))
	for c.writing && !c.net.Closed() {
		c.ender = t
		t.Park()
	}
	c.ender = nil
	if c.net.Closed() {
		return
	}
	last := uint32(0) // no stream of the peer's was acted upon: there is none
	if c.server != nil {
		last = c.lastBegun()
	}
	c.writeGoAway(last, c.code, "")
	c.net.SetWriteDeadline(c.loop.Now() + int64(goodbye))
	n, err := c.below.Write(t, c.out)
	c.wrote(n)
	c.out = c.out[:0]
	if err == nil {
		c.linger(t)
	}
}

// over finds out why the connection is over.
func (c *Conn) over(err error) Why {
	var rule *breach
	switch {
	case c.err != nil: // its writer, or its timer, has said so
		return Failed
	case errors.Is(err, errOver): // by our own will
		c.err = c.fault(fault.ClientClosed, 0, "the connection has ended")
		return Idle
	case errors.As(err, &rule):
		c.code = rule.code
		c.err = c.fault(fault.Malformed, 502, "HTTP/2: "+rule.Error())
		c.tellGoAway(true, rule.code)
		return Protocol
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.err = c.fault(fault.UpstreamClosed, 502, "the connection was closed"+c.afterGoAway())
		return PeerClosed
	case c.loop.Closing():
		c.err = fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping")
		return Failed
	}
	c.err = c.fault(fault.UpstreamClosed, 502, strings.TrimPrefix(c.afterGoAway(), " "))
	c.err.Err = err
	return Failed
}

// afterGoAway says what the peer had announced before the connection ended.
func (c *Conn) afterGoAway() string {
	if !c.goAway {
		return ""
	}
	return " after GOAWAY (" + c.theirs.String() + ")"
}

func (c *Conn) tellGoAway(ours bool, code http2.ErrCode) {
	if c.options.GoAway != nil {
		c.options.GoAway(ours, code.String())
	}
}

// fault is an error of the peer's. A client that did what ends the connection, or has gone, gets no answer.
func (c *Conn) fault(kind fault.Kind, status int, detail string) *fault.Error {
	if c.server == nil {
		return &fault.Error{Kind: kind, Source: fault.Upstream, Status: status, Detail: detail}
	}
	if kind != fault.Malformed {
		kind = fault.ClientClosed
	}
	return &fault.Error{Kind: kind, Source: fault.Client, Detail: detail}
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
		c.close() // the reader ends, and everything with it
		if c.reader == nil {
			c.loop.Go(c.read) // which is at rest
		}
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
		c.lose(c.fault(fault.UpstreamClosed, 504, "the connection is silent, and PING was not answered within "+c.options.PingTimeout.String()))
		return
	case c.asked == 0 && now-c.heard >= int64(c.options.KeepAlive):
		c.asked = now
		c.writePing(false, [8]byte{'w', 'a', 's', 'm', 'g', 'a', 't', 'e'})
		c.flush()
	}
	c.keep()
}
