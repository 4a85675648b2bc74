package server

import (
	"slices"

	"wasmgate/runtime/exchange"
)

var _ exchange.Line = (*work)(nil)

// Watch is exchange.Line's. A client has gone that has closed its side of the connection, whatever it sent before.
func (w *work) Watch(e *exchange.Watch) {
	if w.onGone == nil {
		w.onGone = w.gone
	}
	e.Told = false
	w.watches = append(w.watches, e)
	w.side.OnGone(w.onGone)
}

// Unwatch is exchange.Line's.
func (w *work) Unwatch(e *exchange.Watch) {
	if i := slices.Index(w.watches, e); i >= 0 {
		w.watches = slices.Delete(w.watches, i, i+1)
	}
	if len(w.watches) == 0 {
		w.side.OnGone(nil)
	}
}

// gone tells those who wait. Each may go on at once, and take itself off the list.
func (w *work) gone() {
	for {
		i := slices.IndexFunc(w.watches, func(e *exchange.Watch) bool { return !e.Told })
		if i < 0 {
			return
		}
		e := w.watches[i]
		e.Told = true
		e.Gone()
	}
}

// hold has the flight end when the client goes, where a filter keeps something for the exchange that others wait for, and where
// the request is a call of gRPC: its client says so when it does not wait any more.
func (w *work) hold() {
	if w.x.Held == 0 && !w.x.RPC.Is || w.held.on {
		return
	}
	if w.held.watch.Gone == nil {
		w.held.watch.Gone = w.flight.Cancel
	}
	w.held.on = true
	w.x.Watch(&w.held.watch)
}

// letGo ends hold.
func (w *work) letGo() {
	if w.held.on {
		w.held.on = false
		w.x.Unwatch(&w.held.watch)
	}
}
