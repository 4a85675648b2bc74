package filter

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Streamer is a Caller that also makes calls which flow both ways at once, as those of gRPC do, to upstreams that are spoken
// to in HTTP/2.
type Streamer interface {
	Caller
	// Stream sends s, and gives Head and Data what comes of it; it parks t until both directions have ended. Then
	// AnswerTrailers is there. The error is that of the upstream, of what is wrong with the call, or of Head and Data.
	Stream(t *netloop.Task, s *Stream) *fault.Error
}

// Stream is a call whose body, and whose answer's body, come piece by piece. Of Call it has no Body, no Answer and no
// MaxAnswer; a Timeout of 0 is none. It is used once.
type Stream struct {
	Call
	Feed Feed
	// Head is called with the head of the answer in Status and AnswerFields, and Data with each piece of its body, which is
	// valid during the call. They may park; the upstream waits for them. An error ends the call.
	Head func(t *netloop.Task) *fault.Error
	Data func(t *netloop.Task, data []byte) *fault.Error

	cancelled bool
	end       func()
}

// Feed is where a call's body comes from. A piece is valid until the next call.
type Feed interface {
	Next(t *netloop.Task) ([]byte, error) // parks; io.EOF after the last piece
	Ready() ([]byte, error)               // Next as far as it is at hand: empty if it is not, or at the end
	Done() bool                           // all of it was returned
	Trailers() *http1.Head                // may be nil
	Stop()                                // nobody wants the rest: Next returns an error, also one that waits
}

// Cancel ends the call, on its loop: Stream returns soon, with an error, unless it is over.
func (s *Stream) Cancel() {
	s.cancelled = true
	if s.end != nil {
		s.end()
	}
}

// Cancelled says whether Cancel was called.
func (s *Stream) Cancelled() bool { return s.cancelled }

// OnCancel is for the Streamer: end is called by Cancel. nil: the call is over.
func (s *Stream) OnCancel(end func()) { s.end = end }
