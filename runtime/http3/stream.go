package http3

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Stream is one request and its answer. It is server.Side, and belongs to its connection's loop; Next may be called by another
// task than the others.
type Stream struct {
	conn *Conn
	quic *quic.Stream
	loop *netloop.Loop

	// What the goroutine and the loop share: pieces come by Loop.Post, and more has a token for each that was taken.
	more chan struct{} // nil: nothing comes behind the head
	head head

	// The request, on the loop.
	pieces   []piece // that have come
	first    [1]piece
	at       int // how much of the first is used
	frames   bodyFrames
	trailers http1.Head
	failed   error        // the stream cannot be read any more
	bad      *fault.Error // what came on it is not what it should be
	eof      bool         // nothing comes behind the pieces
	settled  bool         // the end was looked at
	reader   *netloop.Task
	readBy   int64
	timer    *netloop.Timer

	answering
}

// piece is a part of what came on a stream, in a buffer of its own.
type piece struct {
	buffer *[]byte
	data   []byte
	err    error // what came behind it
}

// Buffers of pieces. One is taken once something has come, and given back when it was used.
const (
	pieceSize   = 16 << 10
	firstSize   = 4 << 10
	readAhead   = 2 // pieces that the goroutine reads before the loop has taken the first
	endPatience = 5 * time.Millisecond
)

var (
	pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}
	firsts = sync.Pool{New: func() any { b := make([]byte, firstSize); return &b }}
)

func giveBack(b *[]byte) {
	switch {
	case b == nil:
	case len(*b) == pieceSize:
		pieces.Put(b)
	default:
		firsts.Put(b)
	}
}

// run is the stream's goroutine: it reads the head, has the loop serve the request, and reads the body.
func (s *Stream) run(o *Settings) {
	_ = s.quic.SetReadDeadline(time.Now().Add(o.HeadTimeout))
	var one [1]byte
	_, err := s.quic.Peek(one[:])
	buffer := firsts.Get().(*[]byte) //nolint:forcetypeassert // the pool has nothing else
	if err == nil || errors.Is(err, io.EOF) {
		s.head = readHead(s.quic, *buffer, o.Limits.Head)
	} else {
		s.head.err = err
	}
	var ce *connError
	var fe *fault.Error
	switch err := s.head.err; {
	case errors.As(err, &ce):
		s.conn.fail(ce)
	case err == nil, errors.As(err, &fe):
	case errors.Is(err, errDeadline):
		s.head.err = fault.New(fault.ClientTimeout, fault.Client, 408, "the request's head was not whole in time (limits.head_timeout)")
	case errors.Is(err, errIncomplete):
		s.refuse(errRequestIncomplete)
		s.conn.annoyed(annoyingReset)
	default:
		s.refuse(errRequestCancelled)
		s.conn.annoyed(annoyingReset)
	}
	if s.head.err != nil && !errors.As(s.head.err, &fe) {
		giveBack(buffer)
		s.conn.left(s)
		return
	}
	if s.head.err == nil && !s.head.ended && len(s.head.rest) == 0 {
		s.awaitEnd()
	}
	_ = s.quic.SetReadDeadline(time.Time{})
	body := s.head.err == nil && !s.head.ended
	if body {
		s.more = make(chan struct{}, readAhead)
		for range readAhead {
			s.more <- struct{}{}
		}
	}
	s.loop.Post(func() { s.begin(buffer) })
	if body {
		s.readBody()
	}
}

// awaitEnd gives a client that ends its request in a packet of its own, just behind the head, the time to do so: without it each
// such request would have a body of unknown length, although it has none.
func (s *Stream) awaitEnd() {
	_ = s.quic.SetReadDeadline(time.Now().Add(endPatience))
	var one [1]byte
	if _, err := s.quic.Peek(one[:]); errors.Is(err, io.EOF) {
		if _, err = s.quic.Read(one[:]); errors.Is(err, io.EOF) {
			s.head.ended = true
		}
	}
}

// readBody hands pieces over until the end of the stream, and never more than readAhead that were not taken.
func (s *Stream) readBody() {
	var one [1]byte
	for {
		p := piece{}
		select {
		case <-s.more:
		default:
			var goesOn bool
			if p.err, goesOn = s.awaitRoom(); !goesOn {
				return
			}
		}
		if p.err != nil {
			s.loop.Post(func() { s.arrived(p) })
			return
		}
		if _, p.err = s.quic.Peek(one[:]); p.err == nil {
			p.buffer = pieces.Get().(*[]byte) //nolint:forcetypeassert // the pool has nothing else
			var n int
			n, p.err = s.quic.Read(*p.buffer)
			p.data = (*p.buffer)[:n]
		} else if errors.Is(p.err, io.EOF) {
			_, _ = s.quic.Read(one[:]) // so that it counts as read
		}
		s.loop.Post(func() { s.arrived(p) })
		if p.err != nil {
			return
		}
	}
}

// awaitRoom waits until the loop has taken a piece. A client that resets its request meanwhile is noticed at once, although what
// came before that is not read yet: err is the reset. It goes on, unless the answer is whole or nobody waits for it any more.
func (s *Stream) awaitRoom() (err error, goesOn bool) { //nolint:revive // the error is no failure of this
	final := make(chan struct{}, 1) // the end of the stream is known, or a reset
	s.quic.SetReceiveFinalSizeCallback(func(int64) { final <- struct{}{} })
	defer s.quic.SetReceiveFinalSizeCallback(nil)
	for {
		select {
		case <-s.more:
			return nil, true
		case <-s.quic.Context().Done():
			return nil, false
		case <-final:
			var one [1]byte
			if _, err := s.quic.Peek(one[:]); err != nil && !errors.Is(err, io.EOF) {
				return err, true
			}
		}
	}
}

// begin has the request served; it runs on the loop.
func (s *Stream) begin(buffer *[]byte) {
	if s.loop.Closing() {
		s.refuse(errRequestRejected)
		s.conn.left(s)
		return
	}
	s.eof = s.head.ended
	s.pieces = append(s.first[:0], piece{buffer: buffer, data: s.head.rest})
	s.loop.Go(func(t *netloop.Task) {
		panicked := true
		defer func() {
			if panicked {
				s.code = errInternal
			}
			s.end()
		}()
		keep := s.conn.handler.Serve(t, s)
		if panicked = false; !keep {
			s.conn.goAway()
		}
	})
}

// arrived takes a piece; it runs on the loop.
func (s *Stream) arrived(p piece) {
	if s.over {
		giveBack(p.buffer)
		return
	}
	if len(p.data) > 0 || p.buffer != nil {
		s.pieces = append(s.pieces, p)
	} else {
		s.took()
	}
	switch {
	case p.err == nil:
	case errors.Is(p.err, io.EOF):
		s.eof = true
	default:
		s.failed = p.err
		s.left()
	}
	if s.reader != nil {
		s.reader.Wake()
	}
}

// took gives the goroutine a token.
func (s *Stream) took() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Fill reads the request's head. An error is to be answered.
func (s *Stream) Fill(r *http1.Request) error {
	if s.head.err != nil {
		return s.head.err
	}
	lim := s.conn.settings().Limits
	st := s.state()
	p, err := readHeadFields(s.head.section, lim, &r.Head, st.pseudo)
	s.head.section, st.pseudo = nil, p.storage // of which Assemble makes copies
	s.frames.limits, s.frames.length = lim, -1
	if err == nil {
		framing := http1.Framing{Kind: http1.Chunked}
		if s.eof && len(s.pieces[0].data) == 0 {
			framing.Kind = http1.NoBody
		}
		err = r.Assemble(p.method, p.scheme, p.authority, p.path, framing, lim)
	}
	if err != nil {
		s.code = errMessage
		return s.wrong(err)
	}
	if r.Framing.Kind == http1.Length {
		s.frames.length = r.Framing.Length
	}
	s.noBody = string(p.method) == "HEAD"
	s.prioritize(r)
	return nil
}

// wrong makes what is wrong with the stream an error that is answered, or ends the connection.
func (s *Stream) wrong(err error) *fault.Error {
	var ce *connError
	if errors.As(err, &ce) {
		s.conn.fail(ce)
		return &fault.Error{Kind: fault.Malformed, Source: fault.Client, Detail: ce.detail}
	}
	return fault.From(err)
}

// Ready is body.Source's.
func (s *Stream) Ready() ([]byte, error) {
	if s.bad != nil {
		return nil, s.bad
	}
	for len(s.pieces) > 0 {
		p := &s.pieces[0]
		if s.at == len(p.data) {
			giveBack(p.buffer)
			s.at = 0
			s.pieces = append(s.pieces[:0], s.pieces[1:]...)
			s.took()
			continue
		}
		data, n, err := s.frames.next(p.data[s.at:])
		s.at += n
		if err != nil {
			return nil, s.broken(err)
		}
		if len(data) > 0 {
			_ = s.settle() // an error is returned the next time
			return data, nil
		}
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if s.failed != nil {
		return nil, s.lost()
	}
	return nil, nil
}

// settle looks at the end of the stream, once it has been reached.
func (s *Stream) settle() error {
	if !s.eof || s.settled || len(s.pieces) > 1 || len(s.pieces) == 1 && s.at < len(s.pieces[0].data) {
		return nil
	}
	s.settled = true
	err := s.frames.end()
	if err == nil && s.frames.trailer {
		err = readTrailers(s.frames.section, s.frames.limits, &s.trailers)
	}
	if err != nil {
		s.frames.ended = false
		return s.broken(err)
	}
	return nil
}

// broken is the error of a body that is not what it should be.
func (s *Stream) broken(err error) error {
	s.bad, s.code = s.wrong(err), errMessage
	return s.bad
}

// lost is the error of a stream that cannot be read any more.
func (s *Stream) lost() error {
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: s.failed, Detail: "closed before the request's body was whole"}
}

// Next is body.Source's.
func (s *Stream) Next(t *netloop.Task) ([]byte, error) {
	for {
		data, err := s.Ready()
		l := t.Loop()
		switch {
		case err != nil || len(data) > 0:
			return data, err
		case s.Done():
			return nil, io.EOF
		case s.isGone:
			return nil, s.lost()
		case l.Closing():
			return nil, netloop.ErrClosed
		case s.readBy != 0 && l.Now() >= s.readBy:
			return nil, netloop.ErrDeadline
		}
		s.reader = t
		s.arm()
		s.watchOut()
		t.Park()
		s.reader = nil
		s.disarm()
	}
}

// SetReadDeadline is proxy.Client's.
func (s *Stream) SetReadDeadline(at int64) {
	s.readBy = at
	if s.reader != nil {
		s.arm()
	}
}

// arm has the task that reads look at the time once it is up.
func (s *Stream) arm() {
	s.disarm()
	if s.readBy != 0 {
		s.timer = s.loop.AfterFunc(time.Duration(s.readBy-s.loop.Now()), func() {
			if s.reader != nil {
				s.reader.Wake()
			}
		})
	}
}

func (s *Stream) disarm() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// Done is body.Source's.
func (s *Stream) Done() bool {
	_ = s.settle() // an error is returned the next time
	return s.frames.ended
}

// Trailers is body.Source's.
func (s *Stream) Trailers() *http1.Head { return &s.trailers }

// Rest is proxy.Client's: there is nothing that Next would not give back.
func (s *Stream) Rest() {}

// refuse ends both directions.
func (s *Stream) refuse(code quic.StreamErrorCode) {
	s.quic.CancelRead(code)
	s.quic.CancelWrite(code)
}

// errDeadline is what quic-go's deadlines are.
var errDeadline = os.ErrDeadlineExceeded
