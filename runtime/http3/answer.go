package http3

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// answering is the answer's part of a Stream.
type answering struct {
	out    []byte // what was collected
	queued int    // bytes that quic-go was given since we last waited until it had sent some
	noBody bool   // the answer has none, whatever it says
	ending bool   // End was called

	writeBy int64 // loop time; 0: never
	waiting bool  // a goroutine waits for quic-go
	sent    bool  // and it was sent
	halted  bool  // Abort was called
	over    bool  // the exchange has ended

	code   quic.StreamErrorCode // with which the stream is ended early; 0: as it is usual
	onGone func()
	watch  func() bool // ends the watching for the client's going; nil: nobody does
	soon   int         // 1 + its place in loopState.soon; 0: it has none
	isGone bool
}

const (
	// atOnce is how many bytes of a stream quic-go is given without waiting for them to be sent: it keeps them, and the peer's
	// windows, which bound them too, are the peer's to choose.
	atOnce = 32 << 10
	// enough is how much is collected before it is sent.
	enough = 32 << 10
)

// Head is server.Side's.
func (s *Stream) Head(r *http1.Response, o http1.ResponseOut) {
	st := s.state()
	s.out = st.coder.appendHead(s.buffer(), r, &o)
	s.noBody = s.noBody || o.Framing.Kind == http1.NoBody
}

// Add is server.Side's.
func (s *Stream) Add(data []byte) (room bool) {
	if len(data) > 0 && !s.noBody {
		s.out = append(appendFrameHeader(s.buffer(), frameData, uint64(len(data))), data...)
	}
	return len(s.out) < enough
}

// End is server.Side's.
func (s *Stream) End(trailers *http1.Head) {
	if trailers != nil && trailers.Len() > 0 && !s.noBody {
		s.out = s.state().coder.appendTrailers(s.buffer(), trailers)
	}
	s.ending = true
}

// Flush is server.Side's.
func (s *Stream) Flush(t *netloop.Task) error { return s.send(t, nil) }

// Write is server.Side's.
func (s *Stream) Write(t *netloop.Task, data []byte) error {
	if len(data) == 0 || s.noBody {
		return s.send(t, nil)
	}
	s.out = appendFrameHeader(s.buffer(), frameData, uint64(len(data)))
	return s.send(t, data)
}

// Continue is proxy.Client's.
func (s *Stream) Continue(t *netloop.Task) error {
	c := &s.state().coder
	c.begin()
	c.add(":status", "100")
	s.out = c.end(s.buffer())
	return s.send(t, nil)
}

// Inform is proxy.Client's.
func (s *Stream) Inform(t *netloop.Task, r *http1.Response) error {
	s.out = s.state().coder.appendHead(s.buffer(), r, &http1.ResponseOut{})
	return s.send(t, nil)
}

// Tunnel is server.Side's. There is none: no request asks for one.
func (s *Stream) Tunnel() { s.Abort() }

// Close is server.Side's.
func (s *Stream) Close() { s.Abort() }

// Drained is server.Side's: the rest of one request's body is in nobody's way.
func (s *Stream) Drained() bool { return true }

// Abort is server.Side's.
func (s *Stream) Abort() { s.abort(cmp.Or(s.code, errRequestCancelled)) }

func (s *Stream) abort(code quic.StreamErrorCode) {
	if s.sent || s.halted {
		return
	}
	s.halted, s.code = true, code
	s.refuse(code)
}

// Reset is Abort with the code that says what this one of HTTP/2 says. A client of gRPC makes the same status of it.
func (s *Stream) Reset(code uint32) {
	switch code {
	case http2Cancel:
		s.abort(errRequestCancelled)
	case http2EnhanceYourCalm:
		s.abort(errExcessiveLoad)
	case http2RefusedStream:
		s.abort(errRequestRejected)
	case http2NoError:
		s.abort(errNoError)
	default:
		s.abort(errInternal)
	}
}

// send sends what was collected, and data behind it, and the end if it was said.
func (s *Stream) send(t *netloop.Task, data []byte) error {
	if s.halted || s.sent {
		return netloop.ErrClosed
	}
	size, waits := len(s.out)+len(data), true
	if s.queued+size <= atOnce {
		if len(data) > 0 {
			s.out, data = append(s.out, data...), nil
		}
		err := s.quic.TryWriteAll(s.out)
		if err != nil && !errors.Is(err, quic.ErrWouldBlock) {
			return s.unsent(err)
		}
		waits = err != nil
		s.queued += size
	}
	if waits {
		if err := s.sendWaiting(t, data); err != nil {
			return s.unsent(err)
		}
	}
	s.out = s.out[:0]
	if s.ending {
		s.sent = true
		s.unwatch()
		_ = s.quic.Close() // it fails if the stream was reset, and there is nothing more to be done then
	}
	return nil
}

// sendWaiting sends from a goroutine, while the task is parked. It returns when the last packet of it is about to be sent.
func (s *Stream) sendWaiting(t *netloop.Task, data []byte) (err error) {
	out := s.out
	s.waiting = true
	s.SetWriteDeadline(s.writeBy)
	t.Await(func() {
		if _, err = s.quic.Write(out); err == nil && len(data) > 0 {
			_, err = s.quic.Write(data)
		}
	})
	s.queued, s.waiting = 0, false
	return err
}

// SetWriteDeadline is proxy.Client's.
func (s *Stream) SetWriteDeadline(at int64) {
	if s.writeBy = at; !s.waiting {
		return
	}
	by := time.Time{}
	if at != 0 {
		by = time.Now().Add(time.Duration(at - s.loop.Now()))
	}
	_ = s.quic.SetWriteDeadline(by) // it never fails
}

// unsent is the error of an answer that cannot be sent.
func (s *Stream) unsent(err error) error {
	s.out = s.out[:0]
	if errors.Is(err, errDeadline) {
		return netloop.ErrDeadline
	}
	s.isGone = true
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
}

// OnGone is server.Side's.
func (s *Stream) OnGone(fn func()) {
	if s.onGone = fn; fn == nil {
		if s.reader == nil { // which waits for it too
			s.unwatch()
		}
		return
	}
	s.watchOut()
}

// watchOut has the loop told when the client stops reading the answer, which quic-go says by the end of the stream's context. It is
// of use to whoever waits for something else than to send.
//
// To watch costs more than all else that a stream keeps, and most requests are over in no time: it begins after a while.
func (s *Stream) watchOut() {
	if s.watch != nil || s.soon > 0 || s.over || s.sent {
		return
	}
	st := s.state()
	st.soon = append(st.soon, s)
	s.soon = len(st.soon)
	if !st.timed {
		st.timed = true
		s.loop.AfterFunc(watchAfter, st.watch)
	}
}

// watchAfter is how long those may wait, at most, who are not told of a client's going at once.
const watchAfter = 20 * time.Millisecond

// watch watches those that have waited for a while.
func (st *loopState) watch() {
	st.timed = false
	for i, s := range st.soon {
		st.soon[i] = nil
		s.soon = 0
		s.watch = context.AfterFunc(s.quic.Context(), func() { s.loop.Post(s.left) })
	}
	st.soon = st.soon[:0]
}

func (s *Stream) unwatch() {
	if s.soon > 0 {
		st := s.state()
		end := len(st.soon) - 1
		last := st.soon[end]
		st.soon[s.soon-1], last.soon = last, s.soon
		st.soon[end], s.soon = nil, 0
		st.soon = st.soon[:end]
	}
	if s.watch != nil {
		s.watch()
		s.watch = nil
	}
}

// left tells who wants to know that the client has gone, and whoever waits for the rest of its request.
func (s *Stream) left() {
	if s.sent || s.halted || s.over {
		return
	}
	s.isGone = true
	if s.reader != nil {
		s.reader.Wake()
	}
	if fn := s.onGone; fn != nil {
		s.onGone = nil
		fn()
	}
}

// Gone is server.Side's.
func (s *Stream) Gone() bool {
	return s.isGone || !s.sent && !s.halted && s.quic.Context().Err() != nil
}

// end ends the exchange; it runs on the loop.
func (s *Stream) end() {
	gone := s.Gone() && !s.sent
	s.Abort()
	s.over, s.onGone = true, nil
	s.unwatch()
	s.disarm()
	if s.code == 0 {
		s.code = errNoError
	}
	s.quic.CancelRead(s.code) // which does nothing if it was read to its end
	for i := range s.pieces {
		giveBack(s.pieces[i].buffer)
	}
	s.pieces = nil
	if s.out != nil {
		s.state().give(s.out)
		s.out = nil
	}
	if gone {
		s.conn.annoyed(annoyingReset)
	}
	s.conn.left(s)
}

// state is what the loop keeps for its streams.
func (s *Stream) state() *loopState { return &s.conn.listener.loops[s.loop.Index()] }

// loopState is what a loop keeps for its streams.
type loopState struct {
	coder  coder
	free   [][]byte  // memory of answers
	pseudo []byte    // of the request that is read
	soon   []*Stream // whose clients' going is to be watched for before long
	timed  bool      // watch will be called
	_      [40]byte
}

func (s *Stream) buffer() []byte {
	if s.out == nil {
		s.out = s.state().take()
	}
	return s.out
}

func (st *loopState) take() []byte {
	if n := len(st.free); n > 0 {
		b := st.free[n-1]
		st.free = st.free[:n-1]
		return b
	}
	return make([]byte, 0, 4<<10)
}

// give keeps memory for the next answer, but not what one large answer has grown.
func (st *loopState) give(b []byte) {
	const most, large = 256, 64 << 10
	if cap(b) <= large && len(st.free) < most {
		st.free = append(st.free, b[:0])
	}
}
