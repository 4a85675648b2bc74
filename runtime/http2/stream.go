package http2

import (
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Stream is a request and its answer. One task may read while another writes. After Close it must not be used any more.
type Stream struct {
	conn *Conn
	id   uint32

	// The answer.
	status    int
	head      http1.Head
	trailers  http1.Head
	headDone  bool // the final head is there
	fresh     bool // a head is there that Head has not returned
	noBody    bool // no DATA may come: the answer to HEAD
	connect   bool // what was asked for is a tunnel
	tunnel    bool // and it is there
	length    int64
	got       int64
	recv      []byte // what came
	given     []byte // and what Next has returned
	received  window
	peerEnded bool

	// What we send: the request, or the answer of a server.
	window  int64
	ended   bool // END_STREAM was written
	stopped bool // the peer wants no more of it, or we do
	shut    bool // of a tunnel: we have closed it
	queued  bool // in Conn.queue
	turn    bool
	last    int    // 1 + where its last frame begins in Conn.out
	lastIn  uint32 // while Conn.batch is that

	err     *fault.Error
	refused bool
	reset   bool   // by whichever side
	byPeer  bool   // and that is the peer
	told    string // the code of our RST_STREAM; empty: there was none
	heard   string // and of the peer's
	served  served

	reader, writer  *netloop.Task
	readBy, writeBy int64
	timer           *netloop.Timer
	timerAt         int64 // when it fires; 0: it does not
	expire          func()
}

// newStream makes a stream.
func (c *Conn) newStream(id uint32) *Stream {
	var s *Stream
	m := c.memory
	if n := len(m.streams); n > 0 {
		s = m.streams[n-1]
		m.streams[n-1] = nil
		m.streams = m.streams[:n-1]
	} else {
		s = &Stream{}
		s.expire, s.served.run = s.expired, s.serve
	}
	s.conn, s.id = c, id
	s.window, s.length = c.peerWindow, -1
	s.received.init(c.options.StreamWindow)
	c.streams[s.id] = s
	return s
}

// Codes are RFC 9113's names of the codes of RST_STREAM that were sent and received so far; empty: there was none.
func (s *Stream) Codes() (sent, received string) { return s.told, s.heard }

// Finish has the stream reset if it is not over. Only Close is left to be called.
func (s *Stream) Finish() {
	if c := s.conn; c != nil && c.streams[s.id] == s && !s.reset && (!s.ended || !s.peerEnded) {
		s.reset = true
		c.reset(s.id, s.closeCode())
	}
}

// Close ends the use of the stream, by Finish first. No other task may use it any more.
func (s *Stream) Close() {
	c := s.conn
	if c == nil || c.streams[s.id] != s {
		return
	}
	s.Finish()
	delete(c.streams, s.id)
	if s.turn {
		c.next()
	}
	if c.server != nil {
		if c.err == nil && len(s.recv) > 0 {
			c.credit(len(s.recv))
		}
		if len(c.streams) == 0 {
			c.becameIdle()
		}
	}
	m := c.memory
	if len(m.streams) >= keepStreams || s.queued {
		if s.timer != nil {
			s.timer.Stop()
		}
		s.queued = false
		return
	}
	s.recycle(c.server != nil)
	m.streams = append(m.streams, s)
}

// closeCode is what the peer is told of a stream that is closed before its end.
func (s *Stream) closeCode() http2.ErrCode {
	switch {
	case s.served.malformed:
		return http2.ErrCodeProtocol
	case s.conn.server != nil && s.ended, s.conn.server == nil && s.peerEnded && !s.tunnel:
		return http2.ErrCodeNo // the answer is whole: the rest of the request has no reader
	case s.conn.server != nil:
		return http2.ErrCodeInternal
	}
	return http2.ErrCodeCancel
}

// recycle empties the stream for the next one that it will be. Of streams that others on the loop use in their turn, large buffers
// are not kept.
func (s *Stream) recycle(shared bool) {
	keep := Stream{
		recv: s.recv[:0], given: s.given[:0], timer: s.timer, timerAt: s.timerAt, expire: s.expire, head: s.head, trailers: s.trailers,
		served: served{run: s.served.run, pseudo: s.served.pseudo[:0], waiting: s.served.waiting[:0], trailers: s.served.trailers},
	}
	keep.head.Reset()
	keep.trailers.Reset()
	keep.served.trailers.Reset()
	most := keepBuffer
	if shared {
		most = collected
	}
	for _, b := range [...]*[]byte{&keep.recv, &keep.given, &keep.served.waiting} {
		if cap(*b) > most {
			*b = nil
		}
	}
	*s = keep
}

// Cancel ends the stream at once: whoever reads or writes gets an error. It must be closed still.
func (s *Stream) Cancel() {
	c := s.conn
	if c == nil || c.streams[s.id] != s || s.reset || s.ended && s.peerEnded {
		return
	}
	s.reset = true
	c.reset(s.id, http2.ErrCodeCancel)
	s.fail(fault.New(fault.ClientClosed, fault.Gateway, 0, "the request was cancelled"))
}

// Refused says that the peer has not acted upon the request at all, so that it may be sent again, whatever it is.
func (s *Stream) Refused() bool { return s.refused }

// Reset says that the peer has ended the stream, and not the connection.
func (s *Stream) Reset() bool { return s.reset }

// fail ends the stream with an error.
func (s *Stream) fail(err *fault.Error) {
	if s.err == nil {
		s.err = err
	}
	s.wakeReader()
	s.wakeWriter()
	s.tellGone()
}

func (s *Stream) wakeReader() {
	if s.reader != nil {
		s.reader.Wake()
	}
}

func (s *Stream) wakeWriter() {
	if s.writer != nil {
		s.writer.Wake()
	}
}

// arm makes sure that the timer fires no later than at. It is left as it is if it fires earlier.
func (s *Stream) arm(at int64) {
	if at == 0 || s.timerAt != 0 && s.timerAt <= at {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	l := s.conn.loop
	s.timer, s.timerAt = l.AfterFunc(time.Duration(at-l.Now()), s.expire), at
}

func (s *Stream) expired() {
	if s.timerAt = 0; s.conn == nil {
		return // it is nobody's
	}
	now := s.conn.loop.Now()
	for _, w := range [...]struct {
		task *netloop.Task
		at   int64
	}{{s.reader, s.readBy}, {s.writer, s.writeBy}} {
		switch {
		case w.task == nil || w.at == 0:
		case now >= w.at:
			w.task.Wake()
		default:
			s.arm(w.at)
		}
	}
}

func (s *Stream) setReadDeadline(at int64) {
	if s.readBy = at; s.reader != nil {
		s.arm(at)
	}
}

func (s *Stream) setWriteDeadline(at int64) {
	if s.writeBy = at; s.writer != nil {
		s.arm(at)
	}
}

// rest gives memory back that nothing is in.
func (s *Stream) rest() {
	if len(s.recv) == 0 && cap(s.recv)+cap(s.given) > 2*collected {
		s.recv, s.given = nil, nil
	}
}

// Head waits for a head of the answer and returns its status: an interim one (below 200), after which it is called again, or
// the final one. Its fields are in Fields, those of an interim one until the task parks. An interim answer that nobody has waited for is dropped when the
// next one comes. until is the loop time at which netloop.ErrDeadline is returned; 0: never. It parks.
func (s *Stream) Head(t *netloop.Task, until int64) (status int, err error) {
	s.readBy = until
	for !s.fresh {
		if err := s.wait(t); err != nil {
			return 0, err
		}
	}
	s.fresh = false
	return s.status, nil
}

// wait parks until something has come, or returns the error with which the stream ended.
func (s *Stream) wait(t *netloop.Task) error {
	switch {
	case s.err != nil:
		return s.err
	case s.readBy != 0 && s.conn.loop.Now() >= s.readBy:
		return netloop.ErrDeadline
	}
	s.reader = t
	s.arm(s.readBy)
	t.Park()
	s.reader = nil
	return nil
}

// Fields are those of the head.
func (s *Stream) Fields() *http1.Head { return &s.head }

// Framing is how the body would be framed in HTTP/1.1.
func (s *Stream) Framing() http1.Framing {
	switch {
	case s.noBody:
		return http1.Framing{Kind: http1.NoBody, Length: s.length}
	case s.length >= 0:
		return http1.Framing{Kind: http1.Length, Length: s.length}
	case s.peerEnded && s.got == 0 && s.trailers.Len() == 0:
		return http1.Framing{Kind: http1.Length}
	}
	return http1.Framing{Kind: http1.Chunked}
}

// Ready is the next piece of the body as far as it has come: empty if there is none. It is valid until the next call.
func (s *Stream) Ready() ([]byte, error) {
	if len(s.recv) == 0 {
		if s.err != nil && !s.peerEnded {
			return nil, s.err
		}
		return nil, nil
	}
	s.given, s.recv = s.recv, s.given[:0]
	c := s.conn
	if n := s.received.give(len(s.given)); n > 0 && !s.peerEnded && s.err == nil && c.err == nil {
		c.writeWindowUpdate(s.id, n)
		c.flush()
	}
	if c.server != nil && c.err == nil {
		c.credit(len(s.given))
	}
	return s.given, nil
}

// Next returns the next piece of the body, valid until the next call, and parks until there is one. It returns io.EOF after
// the last.
func (s *Stream) Next(t *netloop.Task, until int64) ([]byte, error) {
	s.readBy = until
	return s.next(t)
}

func (s *Stream) next(t *netloop.Task) ([]byte, error) {
	for {
		if data, err := s.Ready(); len(data) > 0 || err != nil {
			return data, err
		}
		if s.peerEnded {
			return nil, io.EOF
		}
		if err := s.wait(t); err != nil {
			return nil, err
		}
	}
}

// Done says whether the answer was whole, and Ready has returned all of it.
func (s *Stream) Done() bool { return s.peerEnded && len(s.recv) == 0 }

// Trailers are those of the answer, after its end.
func (s *Stream) Trailers() *http1.Head { return &s.trailers }

// ErrStopped is what Write returns when the rest of the body is not wanted: by the peer, whose answer is whole, or after Stop.
var ErrStopped = errors.New("the rest of the request is not wanted")

// Stop has Write return ErrStopped, also one that waits.
func (s *Stream) Stop() {
	s.stopped = true
	s.wakeWriter()
}

// Write sends a piece of the body, and the end of the request if it is the last; it parks while the peer's windows are
// closed, or others have their turn. It returns how many bytes were taken.
func (s *Stream) Write(t *netloop.Task, data []byte, last bool, until int64) (n int, err error) {
	s.writeBy = until
	return s.send(t, data, last)
}

func (s *Stream) send(t *netloop.Task, data []byte, last bool) (n int, err error) {
	c := s.conn
	defer func() {
		s.writer = nil
		if s.turn {
			s.turn = false
			c.next()
		}
	}()
	for n < len(data) || last && !s.ended {
		if err := s.writable(); err != nil {
			s.queued = false
			return n, err
		}
		rest := data[n:]
		switch {
		case len(rest) > 0 && s.window <= 0:
			if s.turn {
				s.turn = false
				c.next()
			}
		case len(rest) > 0 && (c.full() || len(c.queue) > 0 && !s.turn): // the end alone is not held up
			if s.turn = false; !s.queued {
				s.queued = true
				c.queue = append(c.queue, s)
			}
		default:
			n += s.put(rest, last)
			c.flush()
			s.turn = false
			c.next()
			continue
		}
		s.writer = t
		s.arm(s.writeBy)
		t.Park()
		s.writer = nil
	}
	return n, nil
}

// put writes one DATA frame with what the windows allow of data, and the end behind all of it if it is the last. It returns how
// much that is.
func (s *Stream) put(data []byte, last bool) int {
	c := s.conn
	size := max(int(min(int64(len(data)), s.window, c.window, int64(min(c.peerFrame, frameSize)))), 0)
	s.ended = last && size == len(data)
	s.window -= int64(size)
	c.window -= int64(size)
	if size >= smallUpdate/4 || size == len(data) {
		c.nuisance -= 2 // the peer may tell of two windows; but not of windows so small that they are the attack
	}
	c.writeData(s, s.ended, data[:size])
	return size
}

// writable says why nothing can be sent any more, if so.
func (s *Stream) writable() error {
	switch {
	case s.stopped || s.ended:
		return ErrStopped
	case s.err != nil:
		return s.err
	case s.writeBy != 0 && s.conn.loop.Now() >= s.writeBy:
		return netloop.ErrDeadline
	}
	return nil
}
