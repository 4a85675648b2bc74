package exchange

import "wasmgate/runtime/fault"

// Line is where an exchange's client is, for those who let it wait for something else. It belongs to the exchange's loop.
type Line interface {
	// Watch has w.Gone run, once, as soon as the client is known to have gone; soon, if that is known already. A client is gone
	// that has closed its side of the connection, as for nginx and Envoy: one that only sends no more, and would still read,
	// cannot be told from one that does neither.
	Watch(w *Watch)
	// Unwatch ends that. It must be called before the exchange ends.
	Unwatch(w *Watch)
}

// Watch is one who waits for something else than the client.
type Watch struct {
	Gone func() // runs on the loop, also within Wake; it must not park
	Told bool   // the Line's: Gone has run
}

// Watch is Line.Watch, where there is a line.
func (x *Exchange) Watch(w *Watch) {
	if x.Client.Line != nil {
		x.Client.Line.Watch(w)
	}
}

// Unwatch is Line.Unwatch, where there is a line.
func (x *Exchange) Unwatch(w *Watch) {
	if x.Client.Line != nil {
		x.Client.Line.Unwatch(w)
	}
}

// ClientGone is the error of an exchange whose client has gone while it waited for something, which is said by what.
func ClientGone(what string) *fault.Error {
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Detail: "the client has gone while " + what}
}
