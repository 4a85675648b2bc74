package filter

import (
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Ender is a Filter that wants to know when an exchange is over for it: after the last byte of the answer, or whatever
// ended it, or because the request was sent back to the routes. End is called on the loop, also where Request was not
// called, since a filter before it ended the matter; it finds no State then. It must not park.
type Ender interface {
	End(x *exchange.Exchange, place int)
}

// Caller sends requests of a filter's own, through the gateway's pools.
type Caller interface {
	// Call sends c and fills in the answer; it parks t until that is whole. The error is that of the upstream, or of what
	// is wrong with the call; an answer of any status is none. Call.Cancel ends it early.
	Call(t *netloop.Task, c *Call) *fault.Error
}

// Call is a request of a filter's own and its answer. It may be used again.
type Call struct {
	Filter   string         // whose it is
	Trace    exchange.Trace // of the exchange that it is made for; the zero value: none
	Upstream int            // its id in the snapshot
	// The request. Fields that frame a message, or belong to a connection, are the caller's business and removed. Without an
	// Authority it is the upstream's.
	Method, Authority []byte
	Path              []byte // with the query
	Fields            http1.Head
	Body              []byte
	Trailers          http1.Head
	Timeout           time.Duration // of the whole; 0: DefaultCallTimeout
	MaxAnswer         int           // bytes of the answer's body, above which it is an error; 0: DefaultMaxAnswer

	// The answer; all of it is the call's own memory.
	Status         int
	AnswerFields   http1.Head
	Answer         []byte
	AnswerTrailers http1.Head

	by       Canceler
	canceled bool
}

// Canceler ends a request that is under way.
type Canceler interface{ Cancel() }

// Run is for a Caller: by ends the call while it is under way, and nil says that it is over. It says whether the call is still
// wanted.
func (c *Call) Run(by Canceler) bool {
	wanted := !c.canceled
	if c.by = by; by == nil {
		c.canceled = false
	}
	return wanted
}

// Cancel ends the call, which is under way or about to begin: it returns soon, with an error. It runs on the loop.
func (c *Call) Cancel() {
	if c.canceled = true; c.by != nil {
		c.by.Cancel()
	}
}

// The defaults of a Call.
const (
	DefaultCallTimeout = 5 * time.Second
	DefaultMaxAnswer   = 1 << 20
)
