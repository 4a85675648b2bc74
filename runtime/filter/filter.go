// Package filter is the chain of decisions around an exchange: what runs before a request is forwarded and before its
// answer is sent, in which order, and what a filter may say. It knows nothing of WebAssembly: a plugin's ABI is one
// implementation of Filter, beside the built-in ones.
package filter

import "wasmgate/runtime/exchange"

// Verdict is what a filter says.
type Verdict uint8

// The verdicts.
const (
	Continue Verdict = iota // go on with the next filter
	NoMatch                 // as a route's matcher: this route is not for the request
	Respond                 // Exchange.Local holds the answer; nothing is forwarded
	Rematch                 // host or path were changed, and the routes shall be matched again
)

// Role says in which place of the configuration a filter is called.
type Role uint8

// The roles of a filter in the request phase.
const (
	Route    Role = iota // in a route's plugin list: may choose the upstream and edit the request
	Match                // as a route's matcher: may also say NoMatch
	Listener             // on a listener, before routes are matched: may change host and path; sees answers last
)

// Filter decides about exchanges. A Filter is shared by all loops and must keep per-loop state apart by
// x.Task.Loop().Index(). Methods run on the loop's coroutine x.Task: they never block, and keep no reference to x.
//
// A filter that fails returns an error only if its policy is to fail closed; it has counted and logged the failure
// itself. place is the filter's own among all that see the exchange, for Exchange.Word and State.
type Filter interface {
	Name() string
	Request(x *exchange.Exchange, role Role, place int) (Verdict, error)
	Response(x *exchange.Exchange, place int) (Verdict, error)
	// Phases says whether Response is wanted at all, so that a chain skips what nobody asked for.
	WantsResponse() bool
}

// Chain is the filters of a route, or of a listener, in order. It is immutable and shared by all loops. Filters of one
// exchange have places of their own, whatever chain they are in: a chain's begin with first.
type Chain []Filter

// Request runs the chain, from the filter number from on, until one says something else than Continue; next is the number
// of the one behind it.
func (c Chain) Request(x *exchange.Exchange, role Role, first, from int) (v Verdict, next int, err error) {
	for i := from; i < len(c); i++ {
		if v, err := c[i].Request(x, role, first+i); v != Continue || err != nil {
			return v, i + 1, err
		}
	}
	return Continue, len(c), nil
}

// Response runs the chain in reverse order: the filter nearest to the upstream sees the answer first.
func (c Chain) Response(x *exchange.Exchange, first int) (Verdict, error) {
	for i := len(c) - 1; i >= 0; i-- {
		if !c[i].WantsResponse() {
			continue
		}
		if v, err := c[i].Response(x, first+i); v != Continue || err != nil {
			return v, err
		}
	}
	return Continue, nil
}

// End tells those of the chain that want to know that the exchange is over for them.
func (c Chain) End(x *exchange.Exchange, first int) {
	for i, f := range c {
		if e, ok := f.(Ender); ok {
			e.End(x, first+i)
		}
	}
}
