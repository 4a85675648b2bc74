package server

import (
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
)

// Side is the client's side of one request, in whatever version of HTTP: where the request's body comes from, and where the
// answer goes. It belongs to the request's task.
//
// An answer is Head, then pieces by Add and Write, then End and Flush. What is collected is copied, and sent by Flush or
// Write; both park, and fail with netloop.ErrDeadline if the client does not take it in time (SetWriteDeadline).
type Side interface {
	proxy.Client
	Head(r *http1.Response, o http1.ResponseOut) // collects the head
	Add(data []byte) (room bool)                 // collects a piece of the body, and says whether more may be collected before Flush
	End(trailers *http1.Head)                    // collects the end; trailers may be nil, and are copied
	Flush(t *netloop.Task) error                 // sends what was collected
	Write(t *netloop.Task, data []byte) error    // Flush, and data behind it: without a copy where that can be
	// Tunnel has Next return, and Add, Write and End send, what passes through a tunnel; after Head with 101.
	Tunnel()
	// Drained takes what is at hand of the rest of the request's body, and says whether the connection can carry another request
	// as far as that goes. Where requests do not follow each other on a connection, it can.
	Drained() bool
	// OnGone has fn run on the loop, once, as soon as the client is known to have gone; soon, if that is known already. fn must
	// not park; nil disarms.
	OnGone(fn func())
	Gone() bool // nothing can be sent any more
	Abort()     // the answer cannot be ended, and the client must not take it for a whole one
	Close()     // ends a tunnel at once, both ways
}

// outcome is what an exchange means for the connection that it came on.
type outcome uint8

const (
	broken outcome = iota // it is of no use any more
	last                  // the answer was whole, and is the last
	kept                  // it can carry another request
)

func keptIf(keep bool) outcome {
	if keep {
		return kept
	}
	return last
}
