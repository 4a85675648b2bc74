package proxywasm

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
)

// Connection is a TCP connection as a plugin sees it: what a Plugin is for TCP mode. It is a filter.Connection.
type Connection struct {
	stream   *stream
	id       uint32
	down, up stage
	x        exchange.Exchange
}

// Connect tells the guest of a connection that was accepted, and waits as long as it pauses it. A plugin that fails open,
// or has no callbacks for connections, is out of the way from then on. Close must be called, unless there is an error. It is
// filter.Network's.
func (p *Plugin) Connect(t *netloop.Task, session *exchange.Session) (*Connection, *fault.Error) {
	k := p.core
	c := &Connection{}
	x := &c.x
	x.Task, x.Client, x.Started, x.WallStarted = t, session.Client, session.Started, session.WallStarted
	x.Target.Upstream = exchange.NoUpstream
	fs := &k.group.functions
	if !fs[onNewConnection].there && !fs[onDownstreamData].there && !fs[onUpstreamData].there {
		return c, nil
	}
	v, r, err := p.enter(t)
	var s *stream
	if err == nil {
		s, err = v.newStream(p, r, x, maxPlaces)
	}
	if err != nil {
		_, ferr := p.failed(x, k.named(err, "connection"))
		if ferr != nil {
			return nil, fault.From(ferr)
		}
		return c, nil
	}
	s.tcp, s.sni = true, session.SNI
	c.stream, c.id = s, s.id
	c.down, c.up = stage{stream: s, id: s.id, side: &s.req}, stage{stream: s, id: s.id, side: &s.resp}
	if err := s.connect(t); err != nil {
		s.end()
		return nil, err
	}
	return c, nil
}

// connect tells the guest of the connection.
func (s *stream) connect(t *netloop.Task) *fault.Error {
	err := s.create(t)
	if err == nil {
		var action uint64
		action, err = s.call(t, "connection", onNewConnection, uint64(s.id))
		if err == nil && action != actionContinue && !s.answered() && !s.req.resumed {
			err = s.wait(t, &s.req, false)
		}
	}
	if err == nil && !s.answered() {
		return nil
	}
	if _, err := s.verdict(t, err); err != nil {
		return fault.From(err)
	}
	return nil
}

// there says whether the guest still has to do with the connection.
func (c *Connection) there() bool { return c.stream != nil && c.stream.id == c.id && !c.stream.over }

// Upstream notes which upstream the connection goes to, for the plugin's properties.
func (c *Connection) Upstream(session *exchange.Session) {
	if c.there() {
		a := c.x.AddAttempt()
		a.Upstream, a.Address = session.Upstream, session.Address
	}
}

// FromClient appends to dst what is to be sent to the upstream for a piece that the client has sent; nothing, if the plugin
// keeps it back. last: the client sends no more; data may be empty then. It parks t.
func (c *Connection) FromClient(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error) {
	return c.move(t, &c.down, dst, data, last)
}

// FromUpstream is FromClient for the other direction.
func (c *Connection) FromUpstream(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error) {
	return c.move(t, &c.up, dst, data, last)
}

func (c *Connection) move(t *netloop.Task, g *stage, dst, data []byte, last bool) ([]byte, *fault.Error) {
	if !c.there() {
		return append(dst, data...), nil
	}
	s := c.stream
	cb := s.callsOf(g.side).body
	if !s.vm.has(cb) {
		return append(dst, data...), s.ended(t)
	}
	return g.chunk(t, dst, data, last, nil)
}

// ended is the error of a connection that the plugin has closed, or whose plugin has failed, meanwhile.
func (s *stream) ended(t *netloop.Task) *fault.Error {
	if !s.answered() && s.vm.dead == nil {
		return nil
	}
	if s.failed == nil {
		s.failed = s.vm.dead
	}
	_, err := s.verdict(t, nil)
	if err != nil {
		return fault.From(err)
	}
	return nil
}

// Close tells the guest that the connection is over: who closed the client's side, and who the upstream's. It does not
// park unless the guest takes long. It is called once.
func (c *Connection) Close(t *netloop.Task, client, upstream filter.Peer) {
	if !c.there() {
		return
	}
	s := c.stream
	if s.created && s.vm.dead == nil {
		_, _ = s.call(t, "close", onDownstreamClose, uint64(s.id), uint64(client))
	}
	if s.created && s.vm.dead == nil {
		_, _ = s.call(t, "close", onUpstreamClose, uint64(s.id), uint64(upstream))
	}
	c.x.Ended = t.Loop().Now()
	s.end()
}

// SpeaksTCP says whether the module has callbacks for connections. SDKs export them for all plugins.
func (p *Plugin) SpeaksTCP() bool {
	fs := &p.core.group.functions
	return fs[onNewConnection].there || fs[onDownstreamData].there || fs[onUpstreamData].there
}

// OnlyTCP says whether the module has callbacks for connections and none for messages: in a route it does nothing.
func (p *Plugin) OnlyTCP() bool {
	fs := &p.core.group.functions
	for cb := onRequestHeaders; cb <= onResponseTrailers; cb++ {
		if fs[cb].there {
			return false
		}
	}
	return p.SpeaksTCP()
}
