package server

import (
	"errors"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/websocket"
)

// tunnel is a client's side and an upstream's that have become one after 101 (RFC 9110 section 7.8). Each direction
// has a task of its own, which holds no buffer while it waits. When it ends is in tunnels.go.
type tunnel struct {
	session  *Session
	work     *work
	upstream proxy.Tunnel
	up, down direction // to the upstream, and to the client
	place    int       // in the loop's list
	main     *netloop.Task

	idle, most int64 // without a byte, and in all; 0: no limit
	moved      int64 // loop time of the last byte
	timer      *netloop.Timer
	seen       *Snapshot // by which leaving was answered
	half       int64     // loop time at which a WebSocket of which one end has gone is cut; 0: both are there
	notice     notice
	said       bool // both sides have said that they close
	over       bool // it was cut
}

// direction is what flows one way.
type direction struct {
	frames websocket.Frames
	bytes  int64
	ended  bool // the sender has ended it
	ours   bool // the last frame in it is ours: what still comes goes nowhere
	done   bool // its task has ended
}

// openTunnel answers 101, and passes bytes both ways until both sides have ended. Filters see the head before, and may answer
// otherwise.
func (s *Session) openTunnel(t *netloop.Task, w *work, snap *Snapshot, r *Route) outcome {
	x, f := &w.x, &w.flight
	protocol := append([]byte(nil), x.Response.Upgrade...)
	x.Response.StripHopByHop()
	if len(r.Chain)+len(snap.Filters) > 0 {
		w.answer.Init(t, f.Output(), http1.Framing{Kind: http1.NoBody, Length: -1}, true)
		x.ResponseBody = &w.answer
		_, err := w.show()
		w.letGo() // whoever ends one direction of a tunnel has not gone
		if x.Response.Status != 101 && !x.Local.Set {
			x.Local.Set, x.Local.Status, x.Local.Body = true, x.Response.Status, x.Local.Body[:0]
		}
		if err != nil || x.Local.Set {
			f.Abandon(facts.CloseNotDrained)
			f.Finish(t)
			if err != nil {
				return s.refuse(t, w, err)
			}
			return s.respond(t, w, snap, r)
		}
	}
	w.letGo() // a tunnel sees by itself that the client goes
	r.Response.apply(&x.Response.Head)
	w.side.Head(&x.Response, http1.ResponseOut{Minor: 1, Upgrade: protocol, Framing: http1.Framing{Kind: http1.NoBody, Length: -1}})
	w.side.Tunnel()
	x.StatusSent = 101
	f.Abandon(facts.CloseUpgradeEnded)
	if x.Err = s.flush(t, w, snap); x.Err == nil {
		if len(r.Chain)+len(snap.Filters) == 0 {
			w.unused(t.Loop(), snap) // a tunnel may outlive many
		}
		x.Tunnel.Protocol, x.Tunnel.Began = exchange.TunnelOther, t.Loop().Now()
		if http1.EqualFold(protocol, exchange.TunnelWebSocket) {
			x.Tunnel.Protocol = exchange.TunnelWebSocket
		}
		s.pass(t, w)
	}
	f.Finish(t)
	if w.side.Gone() {
		return broken
	}
	return last
}

// pass moves bytes both ways to their end.
func (s *Session) pass(t *netloop.Task, w *work) {
	f, l := &w.flight, t.Loop()
	n := &tunnel{session: s, work: w, main: t, idle: int64(f.Options.TunnelIdle), most: int64(f.Options.TunnelMax), moved: l.Now()}
	n.upstream = f.Tunnel()
	n.deadlines(0, 0)
	s.server.opened(l, n)
	gone := exchange.Watch{Gone: n.clientGone}
	w.x.Watch(&gone)
	l.Go(func(t *netloop.Task) {
		n.fromClient(t)
		n.up.done = true
		n.main.Wake()
	})
	n.fromUpstream(t)
	for n.down.done = true; !n.up.done; {
		t.Park()
	}
	w.x.Unwatch(&gone)
	w.x.BytesIn, w.x.BytesOut = n.up.bytes, n.down.bytes
	s.server.closed(l, n)
}

// clientGone ends the tunnel of a client that has reset its stream, also while the upstream takes nothing and so nobody reads from
// the client. One that has ended its direction has not gone.
func (n *tunnel) clientGone() {
	if !n.over && n.work.side.Gone() {
		n.cut(exchange.EndClientReset)
	}
}

// deadlines sets until when each side is read and written.
func (n *tunnel) deadlines(read, write int64) {
	n.work.side.SetReadDeadline(read)
	n.work.side.SetWriteDeadline(write)
	n.upstream.SetReadDeadline(read)
	n.upstream.SetWriteDeadline(write)
}

// fromClient moves what the client sends.
func (n *tunnel) fromClient(t *netloop.Task) {
	side, d := n.work.side, &n.up
	for {
		side.Rest() // a tunnel that is silent holds no memory
		data, err := side.Next(t)
		switch {
		case err == nil:
			if err := n.move(t, d, data, n.upstream.Write); err != nil {
				n.refused(t, err)
				return
			}
		case n.awake(err):
			side.SetReadDeadline(0)
			if err := n.move(t, d, nil, n.upstream.Write); err != nil {
				n.refused(t, err)
				return
			}
		case isEOF(err):
			if n.ends(t, d, exchange.EndClientClosed); n.upstream.CloseWrite(t) != nil {
				n.cut(exchange.EndUpstreamReset)
			}
			return
		default:
			n.broke(exchange.EndClientReset, err)
			return
		}
	}
}

// fromUpstream moves what the upstream sends.
func (n *tunnel) fromUpstream(t *netloop.Task) {
	side, d := n.work.side, &n.down
	for {
		n.upstream.Rest()
		data, err := n.upstream.Next(t)
		switch {
		case err == nil, n.awake(err):
			if err != nil {
				n.upstream.SetReadDeadline(0)
			}
			if err := n.move(t, d, data, side.Write); err != nil {
				n.broke(exchange.EndClientReset, err)
				return
			}
		case isEOF(err), n.said && errors.Is(err, netloop.ErrClosed), d.frames.Closed() && !errors.Is(err, netloop.ErrClosed):
			n.ends(t, d, exchange.EndUpstreamClosed)
			if side.End(nil); side.Flush(t) != nil {
				n.cut(exchange.EndClientReset)
			}
			return
		default:
			n.broke(exchange.EndUpstreamReset, err)
			return
		}
	}
}

// move passes data on, and says what is to be said itself as soon as it may be. What comes behind that goes nowhere.
func (n *tunnel) move(t *netloop.Task, d *direction, data []byte, write func(*netloop.Task, []byte) error) error {
	if len(data) > 0 && !d.ours {
		rest := data
		if n.webSocket() {
			stop := n.notice.stop()
			rest = data[:d.frames.Pass(data, stop)]
			if stop == websocket.Nowhere {
				n.noteClose(d)
				rest = data
			}
		}
		if err := write(t, rest); err != nil {
			return err
		}
		d.bytes += int64(len(rest))
		n.moved = t.Loop().Now()
		data = data[len(rest):]
	}
	if n.mayTell(d) {
		var frame [128]byte
		d.ours = true
		if err := write(t, websocket.AppendClose(frame[:0], websocket.GoingAway, n.notice.reason, d == &n.up)); err != nil {
			return err
		}
	}
	if d.ours {
		for len(data) > 0 && !d.frames.Closed() {
			data = data[d.frames.Pass(data, websocket.AtFrame):]
		}
	}
	n.noteClose(d)
	return nil
}

func (n *tunnel) webSocket() bool { return n.work.x.Tunnel.Protocol == exchange.TunnelWebSocket }

// noteClose notes who closes a WebSocket, and ends it where both have, if they were told to.
func (n *tunnel) noteClose(d *direction) {
	if !d.frames.Closed() {
		return
	}
	if d == &n.up {
		n.because(exchange.EndClientClosed)
	} else {
		n.because(exchange.EndUpstreamClosed)
	}
	if n.notice.told && n.up.frames.Closed() && n.down.frames.Closed() {
		n.said = true
		n.upstream.Shut() // and the client is told of the end by whoever reads there
	}
}

// ends notes that the sender has ended a direction. Of a WebSocket that is the end of both: nobody will answer what is still said.
func (n *tunnel) ends(t *netloop.Task, d *direction, why string) {
	d.ended = true
	n.because(why)
	if n.webSocket() && n.half == 0 {
		n.half = t.Loop().Now() + int64(closeTime)
		n.arm(t.Loop())
	}
}

// because notes why the tunnel ends, if that is not known yet.
func (n *tunnel) because(why string) {
	if x := &n.work.x; x.Tunnel.Why == "" {
		x.Tunnel.Why = why
	}
}

// refused ends the direction to an upstream that takes nothing more. What it said before it went, as why, is passed on still.
func (n *tunnel) refused(t *netloop.Task, err error) {
	if errors.Is(err, netloop.ErrClosed) || errors.Is(err, netloop.ErrDeadline) {
		n.broke(exchange.EndUpstreamReset, err)
		return
	}
	n.because(exchange.EndUpstreamReset)
	n.up.ended, n.half = true, t.Loop().Now()+int64(closeTime)
	n.arm(t.Loop())
}

// broke ends both directions because one has failed.
func (n *tunnel) broke(why string, err error) {
	if errors.Is(err, netloop.ErrClosed) { // not by us, or that is known: the group is being closed
		why = exchange.EndDrained
	}
	n.cut(why)
}

// cut ends both directions at once.
func (n *tunnel) cut(why string) {
	n.because(why)
	n.over = true
	n.work.side.Close()
	n.upstream.Close()
}
