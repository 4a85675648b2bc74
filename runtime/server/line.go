package server

import (
	"slices"
	"time"

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

// hold has the flight end when the client goes: at once where a filter keeps something for the exchange that others wait for, and where
// the request is a call of gRPC, whose client says so when it does not wait any more. Any other request of HTTP/2 and 3 has a moment first, in
// which most upstreams answer: to end them all at once would cost upstreams more than to answer (HTTP/1.1 connections to be opened anew, or a
// rapid reset that is the client's, and would be taken for ours), and to end none would have a client fill them by taking back what it asks.
// Clients of HTTP/1 are left alone, since one that only sends no more looks as if it had gone.
func (w *work) hold() {
	if w.held.on || !w.urgent() && w.x.Client.Version != exchange.HTTP2 && w.x.Client.Version != exchange.HTTP3 {
		return
	}
	if w.held.watch.Gone == nil {
		w.held.watch.Gone = w.left
	}
	w.held.on = true
	w.x.Watch(&w.held.watch)
}

// urgent says whether the flight ends as soon as its client has gone.
func (w *work) urgent() bool { return w.x.Held != 0 || w.x.RPC.Is }

// goneGrace is how long an upstream may still take to answer a client that has gone.
const goneGrace = time.Second

// left is the client's leaving.
func (w *work) left() {
	if w.urgent() {
		w.flight.Cancel()
		return
	}
	w.held.grace = w.x.Task.Loop().AfterFunc(goneGrace, w.flight.Cancel)
}

// letGo ends hold.
func (w *work) letGo() {
	if !w.held.on {
		return
	}
	w.held.on = false
	w.x.Unwatch(&w.held.watch)
	if w.held.grace != nil {
		w.held.grace.Stop()
		w.held.grace = nil
	}
}
