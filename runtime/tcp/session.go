package tcp

import (
	"errors"
	"io"
	"syscall"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// session is a client connection and the upstream connection that it has become one with.
type session struct {
	server   *Server
	client   side
	upstream side
	facts    exchange.Session
	release  func(string)
	conn     *facts.Connection
	owner    any       // the upstream connection's Owner, before it was the session's
	stream   Stream    // to the upstream, if bytes are copied; nil: they are spliced
	filtered *filtered // what filters have to do with it; nil: there are none
	ended    *side     // who ended first
	first    int64     // bytes that were sent to the upstream before the client's flow began
	waiting  bool      // for the client's first bytes
	over     bool
}

// side is one of a session's two connections, and what flows from it to the other. It is its connection's Owner, so that
// callbacks find their way without a closure for each connection.
type side struct {
	session *session
	conn    *netloop.Conn // nil: not there yet
	flow    netloop.Flow
	ended   bool // its peer has ended what it sends
}

func (d *side) other() *side {
	if d == &d.session.client {
		return &d.session.upstream
	}
	return &d.session.client
}

// start lets bytes flow, both ways.
func (s *session) start(l *netloop.Loop) {
	if s.stream != nil {
		s.startStream(l)
		return
	}
	s.client.conn.OnEvent(onBytes)
	s.upstream.conn.OnEvent(onBytes)
}

// touch begins the time of silence anew.
func (s *session) touch() { s.client.flow.Touch(s.client.conn, s.upstream.conn) }

// onBytes runs when an idle side has something to read, has ended, or was silent for too long.
func onBytes(c *netloop.Conn) {
	if c.Quiet() {
		c.Owner.(*side).session.finish(exchange.EndIdleTimeout, nil)
		return
	}
	c.Go(passOn)
}

// passOn moves what there is to read to the other side.
func passOn(t *netloop.Task, c *netloop.Conn) {
	d := c.Owner.(*side)
	s, to := d.session, d.other()
	readErr, writeErr := c.SpliceTo(t, to.conn, &d.flow)
	switch {
	case s.over: // the other direction has ended it meanwhile
	case writeErr != nil:
		s.broke(to, writeErr)
	case readErr == io.EOF:
		s.end(d, to.conn.CloseWrite())
	case readErr != nil:
		s.broke(d, readErr)
	default:
		c.OnEvent(onBytes)
	}
}

// end notes that nothing more comes from d, which has been passed on to the other side, or could not be.
func (s *session) end(d *side, err error) {
	d.ended = true
	if s.ended == nil {
		s.ended = d
	}
	switch {
	case err != nil:
		s.broke(d.other(), err)
	case !d.other().ended:
		d.conn.OnReset(onReset)
	case s.ended == &s.client:
		s.finish(exchange.EndClientClosed, nil)
	default:
		s.finish(exchange.EndUpstreamClosed, nil)
	}
}

// onReset runs when a side that had ended what it sends turns out gone altogether.
func onReset(c *netloop.Conn) {
	d := c.Owner.(*side)
	d.session.broke(d, syscall.ECONNRESET)
}

// broke ends the session because reading from d, or writing to it, failed.
func (s *session) broke(d *side, err error) {
	source, why := fault.Upstream, exchange.EndUpstreamReset
	if d == &s.client {
		source, why = fault.Client, exchange.EndClientReset
	}
	switch {
	case errors.Is(err, netloop.ErrDeadline):
		s.finish(exchange.EndIdleTimeout, nil)
		return
	case errors.Is(err, netloop.ErrClosed): // not by us: the group is being closed
		s.finish(exchange.EndDrained, nil)
		return
	case !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
		why = exchange.EndError
	}
	kind := fault.UpstreamClosed
	if source == fault.Client {
		kind = fault.ClientClosed
	}
	s.finish(why, &fault.Error{Kind: kind, Source: source, Err: err})
}

// tailTime is how long a client may take to receive what its upstream had sent before a reset.
const tailTime = time.Second

// finish ends the session, and tells of it. A second call does nothing.
func (s *session) finish(why string, err *fault.Error) {
	if s.over {
		return
	}
	s.over, s.waiting = true, false
	l := s.client.conn.Loop()
	s.server.sessions.Add(-1)
	f := &s.facts
	f.Why, f.Err, f.Ended = why, err, l.Now()
	f.BytesIn, f.BytesOut = s.first+s.client.flow.Bytes, s.upstream.flow.Bytes
	s.close(why)
	if s.filtered != nil {
		s.filtered.close(l, why)
	}
	if s.server.observers != nil {
		s.server.observers[l.Index()].SessionEnded(f)
	}
}

// close closes both connections, in a way that tells the truth.
func (s *session) close(why string) {
	clean := why == exchange.EndClientClosed || why == exchange.EndUpstreamClosed
	client, upstream := s.client.conn, s.upstream.conn
	switch {
	case clean:
		_ = client.Close()
	case why == exchange.EndUpstreamReset:
		client.AbortSent(tailTime)
	default:
		client.Abort()
	}
	if upstream == nil {
		return
	}
	if s.conn != nil {
		s.conn.BytesIn, s.conn.BytesOut = s.conn.BytesIn+uint64(s.facts.BytesOut), s.conn.BytesOut+uint64(s.facts.BytesIn)
		if s.conn.Err == nil && s.facts.Err != nil && s.facts.Err.Source == fault.Upstream {
			s.conn.Err = s.facts.Err
		}
	}
	if !clean {
		upstream.Abort()
	}
	upstream.Owner = s.owner
	s.release(closeReason(why))
}

// closeReason is what the upstream connection's facts say of a session's end.
func closeReason(why string) string {
	switch why {
	case exchange.EndClientClosed, exchange.EndUpstreamClosed, exchange.EndPlugin:
		return facts.CloseTunnelEnded
	case exchange.EndClientReset:
		return facts.CloseClientAborted
	case exchange.EndIdleTimeout:
		return facts.CloseTimeout
	case exchange.EndDrained:
		return facts.CloseDraining
	}
	return facts.CloseError
}
