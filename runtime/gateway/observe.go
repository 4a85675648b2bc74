package gateway

import (
	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/tcp"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
)

// observer passes what a loop's server and proxy tell on to telemetry and to the watcher.
type observer struct {
	recorder *telemetry.Recorder
	watcher  Watcher
	conns    []*pool.Conn            // to upstreams, all that the loop has
	quic     map[*http3Conn]struct{} // of clients of HTTP/3, which are none of the loop's sockets
	closed   closedRing
}

var (
	_ server.Observer = (*observer)(nil)
	_ server.Answerer = (*observer)(nil)
	_ tcp.Observer    = (*observer)(nil)

	_ server.TunnelObserver = (*observer)(nil)
)

// observersAs are the loops' observers, as O has them.
func observersAs[O any](g *Gateway) []O {
	list := make([]O, len(g.observers))
	for i, o := range g.observers {
		list[i] = any(o).(O)
	}
	return list
}

func (o *observer) Begin(x *exchange.Exchange) { o.recorder.Begin(x) }

// TunnelBegan is told of a request that has become a tunnel.
func (o *observer) TunnelBegan(x *exchange.Exchange) { o.recorder.TunnelBegan(x) }

func (o *observer) AttemptStarted(x *exchange.Exchange, a *exchange.Attempt) {
	o.recorder.StartAttempt(x, a)
}

// EndCall is told of a request of a plugin's own.
func (o *observer) EndCall(x *exchange.Exchange) { o.recorder.EndCall(x) }

// Answer is told that the gateway itself is about to answer.
func (o *observer) Answer(x *exchange.Exchange) { o.recorder.Answer(x) }

func (o *observer) End(x *exchange.Exchange) {
	o.recorder.End(x)
	if o.watcher != nil {
		o.watcher.Exchange(x)
	}
}

// hooks pass what upstreams tell of connections on to the telemetry of the loop that owns them.
type hooks struct {
	observers []*observer
	telemetry *telemetry.Telemetry
	log       zerolog.Logger
}

var (
	_ upstream.Hooks = (*hooks)(nil)
	_ pool.Mover     = (*hooks)(nil)
	_ pool.Keeper    = (*hooks)(nil)
)

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
	o.closed.add(c)
	if o.watcher != nil {
		o.watcher.ConnClosed(c)
	}
}

func (h *hooks) ConnLeaves(l *netloop.Loop, c *facts.Connection) {
	h.observers[l.Index()].recorder.ConnLeaves(c)
}

func (h *hooks) ConnArrived(l *netloop.Loop, c *facts.Connection) {
	h.observers[l.Index()].recorder.ConnArrived(c)
}

// ConnJoined puts a connection on the list of its loop.
func (h *hooks) ConnJoined(l *netloop.Loop, c *pool.Conn) {
	o := h.observers[l.Index()]
	o.conns = append(o.conns, c)
	c.Place = len(o.conns)
}

// ConnLeft takes it off the list.
func (h *hooks) ConnLeft(l *netloop.Loop, c *pool.Conn) {
	o := h.observers[l.Index()]
	last := len(o.conns) - 1
	moved := o.conns[last]
	o.conns[c.Place-1], moved.Place = moved, c.Place
	o.conns[last], c.Place = nil, 0
	o.conns = o.conns[:last]
}

// MemberChanged counts, and writes a line: a request that goes elsewhere than yesterday has its reason in the log.
func (h *hooks) MemberChanged(e upstream.MemberEvent) {
	h.telemetry.MemberChanged(e.Upstream, e.State)
	line := h.log.Info()
	switch {
	case e.State == "ejected" || e.State == "unhealthy":
		line = h.log.Warn()
	case e.State == "joined" && e.Why == "": // what the config says is no news
		line = h.log.Debug()
	}
	if e.Why != "" {
		line.Str("why", e.Why)
	}
	line.Str("upstream", e.Upstream).Str("host", e.Host).Str("address", unixaddr.Text(e.Address)).Str("state", e.State).Msg("an address of an upstream changed its state")
}

// SessionEnded implements tcp.Observer.
func (o *observer) SessionEnded(s *exchange.Session) { o.recorder.Session(s) }

// upstreamStats is what telemetry does not count itself of an upstream.
func upstreamStats(u *upstream.Upstream) telemetry.UpstreamStats {
	s := u.Stats()
	stats := telemetry.UpstreamStats{
		Active: s.Open - s.Idle, Idle: s.Idle, Waiting: s.Waiting, RetriesLeft: s.RetriesLeft, BreakerOpen: s.BreakerOpen,
		Members: map[string]int{},
	}
	for _, m := range u.Members() {
		stats.Members[m.Health]++
		stats.DNSAge = max(stats.DNSAge, m.DNSAge)
		if m.DNSStale {
			stats.DNSStale++
		}
		if d := m.LearnedIdle; d > 0 && (stats.LearnedIdle == 0 || d < stats.LearnedIdle) {
			stats.LearnedIdle = d
		}
	}
	return stats
}

// accessLog is the access log in telemetry's terms.
func accessLog(c *config.AccessLog) telemetry.AccessLog {
	if c.Output == "off" {
		return telemetry.AccessLog{}
	}
	sample := float64(c.Sample)
	o := telemetry.AccessLog{
		Output: c.Output, Query: c.LogsQuery(), Sample: &sample, Slow: c.Slow.Std(), Buffer: int(c.Buffer),
		RedactHeaders: c.Redact.Headers, RedactQuery: c.Redact.Query,
	}
	if network, address := c.SyslogServer(); network != "" {
		o.Syslog = &telemetry.Syslog{
			Network: network, Address: address, Facility: c.Syslog.Facility.Code(), Tag: c.Syslog.Tag,
			BSD: c.Syslog.Protocol == config.SyslogRFC3164,
		}
	}
	parts, _ := c.Format.Parts() // a config with an error in it was not loaded
	for _, p := range parts {
		o.Format = append(o.Format, telemetry.Part(p))
	}
	return o
}
