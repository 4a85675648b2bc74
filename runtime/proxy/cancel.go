package proxy

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// Cancel ends a flight that another task is at, from Forward on until the answer's body was read: it fails soon. What waits for
// a connection ends when it has one, or none. It runs on the loop, and does nothing to a flight that is over.
func (f *Flight) Cancel() {
	f.cancelled = true
	l := f.X.Task.Loop()
	switch {
	case f.stream != nil:
		f.stream.Cancel()
	case f.up.Conn != nil && f.up.Session == nil: // a session is others' too
		f.up.Net.SetReadDeadline(l.Now() + 1)
		f.up.Net.SetWriteDeadline(l.Now() + 1)
	}
	if f.Feed != nil {
		f.Feed.Stop()
	}
	f.X.Task.Wake() // last, since the task may go on within it
}

// gone is the error of a flight that was cancelled.
func (f *Flight) gone() *fault.Error {
	if f.X.Plugin != "" {
		return fault.New(fault.ClientClosed, fault.Plugin, 0, "the call was cancelled")
	}
	return exchange.ClientGone("an upstream had not answered")
}
