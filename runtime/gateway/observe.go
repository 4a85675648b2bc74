package gateway

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/facts"
)

// observer passes what a loop's server and proxy tell on to telemetry and to the watcher.
type observer struct {
	recorder *telemetry.Recorder
	watcher  Watcher
}

func (o *observer) Begin(x *exchange.Exchange) { o.recorder.Begin(x) }

func (o *observer) AttemptStarted(x *exchange.Exchange, a *exchange.Attempt) {
	o.recorder.StartAttempt(x, a)
}

func (o *observer) End(x *exchange.Exchange) {
	o.recorder.End(x)
	if o.watcher != nil {
		o.watcher.Exchange(x)
	}
}

// hooks pass what upstreams tell of connections on to the telemetry of the loop that owns them.
type hooks struct{ observers []*observer }

var _ upstream.Hooks = (*hooks)(nil)

func (h *hooks) ConnOpened(l *netloop.Loop, c *facts.Connection) {
	o := h.observers[l.Index()]
	o.recorder.ConnOpened(c)
	if o.watcher != nil {
		o.watcher.ConnOpened(c)
	}
}

func (h *hooks) ConnReleased(l *netloop.Loop, c *facts.Connection) {
	if c.Sampled {
		h.observers[l.Index()].recorder.ConnSegment(c, l.WallNow())
	}
}

func (h *hooks) ConnClosed(l *netloop.Loop, c *facts.Connection) {
	o := h.observers[l.Index()]
	o.recorder.ConnClosed(c)
	if o.watcher != nil {
		o.watcher.ConnClosed(c)
	}
}
