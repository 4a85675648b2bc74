package exchange

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Body is the body of a message on its way, as filters see it. Nothing of it is read before it is asked for, so a message
// whose filters leave it alone goes through as if there were none. Its methods run on the exchange's task, and park.
type Body interface {
	// Hold reads on until the body is whole or more than most bytes of it are held, and returns what is held; whole is false
	// in the second case. Nothing of it is sent before the filters are done, and nothing is lost: what is held goes first
	// then. The bytes are valid until the next call of Hold or Replace.
	Hold(most int) (held []byte, whole bool, err *fault.Error)
	// Replace has a copy of b sent instead of what is held. The length of a body that is held whole is the new one's; any
	// other goes in chunks.
	Replace(b []byte)
	// Stage has each piece that is sent from now on pass through s, what is held first, and after the stages before it. The
	// length is not known any more, unless each stage is Measured: the body goes in chunks, or as HTTP/1.0 has it.
	Stage(s Stage)
	// Trailers are those of a body that is held whole; nil before. They may be changed.
	Trailers() *http1.Head
	// Ended says that there is nothing to come: there is no body, or it is held whole.
	Ended() bool
}

// Stage changes a body piece by piece.
type Stage interface {
	// Chunk appends to dst what is to be sent for a piece; nothing, if it keeps the piece back. last: the body ends with this
	// piece, which may be empty; trailers, which may be nil, can be changed then. An error ends the message. t is the task
	// that moves the body, which for a request's is not the exchange's; it may park. data is valid during the call.
	Chunk(t *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error)
}

// Measured is a Stage that may know that as many bytes leave it as come.
type Measured interface {
	Stage
	// Measured says whether that is so.
	Measured() bool
	// Promise says that the body's length has been announced, since all of its stages are Measured. A stage that another number
	// of bytes leaves all the same ends the message with an error.
	Promise()
}
