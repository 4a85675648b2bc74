package server

import (
	"errors"
	"math/rand/v2"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/websocket"
)

// When tunnels end, if neither side ends them. Every limit is a time at which the tunnel's timer looks: what moves bytes only
// notes when. What a tunnel leads to may go without its noticing, so a loop that has tunnels asks for that now and then.

// closeTime is how long both sides may take to answer a Close frame of ours.
const closeTime = 5 * time.Second

// sweepTime is how often a loop asks, and sweepMost of how many tunnels at a time.
const (
	sweepTime = time.Second
	sweepMost = 1024
)

// TunnelObserver is what an Observer may be too.
type TunnelObserver interface {
	TunnelBegan(*exchange.Exchange) // it has answered 101; End tells of its end
}

// notice is that a tunnel is to end.
type notice struct {
	why    string // one of the End reasons; "": it is not
	reason string // as its sides are told
	tellAt int64  // loop time
	cutAt  int64
	told   bool // from now on it is said where a message ends
	press  bool // where a frame does
}

// stop is where what passes is to be looked at.
func (o *notice) stop() websocket.Stop {
	switch {
	case o.press:
		return websocket.AtFrame
	case o.told:
		return websocket.AtMessage
	}
	return websocket.Nowhere
}

// mayTell says whether a Close frame of ours can be put into a direction now.
func (n *tunnel) mayTell(d *direction) bool {
	switch {
	case !n.notice.told || d.ours || d.ended || !n.webSocket():
		return false
	case n.notice.press:
		return d.frames.Between()
	}
	return d.frames.BetweenMessages()
}

// opened puts a tunnel on the loop's list.
func (srv *Server) opened(l *netloop.Loop, n *tunnel) {
	st := &srv.loops[l.Index()]
	n.place = len(st.tunnels)
	st.tunnels = append(st.tunnels, n)
	if st.sweep == nil {
		st.sweep = l.AfterFunc(sweepTime, func() { srv.sweepTunnels(l) })
	}
	if srv.observers != nil {
		if o, ok := srv.observers[l.Index()].(TunnelObserver); ok {
			o.TunnelBegan(&n.work.x)
		}
	}
	n.seen = srv.snapshot.Load()
	if n.arm(l); srv.draining.Load() {
		n.leave(l)
	}
}

// closed takes it off the list.
func (srv *Server) closed(l *netloop.Loop, n *tunnel) {
	st := &srv.loops[l.Index()]
	last := len(st.tunnels) - 1
	moved := st.tunnels[last]
	st.tunnels[n.place], moved.place = moved, n.place
	st.tunnels[last] = nil
	st.tunnels = st.tunnels[:last]
	if last == 0 && st.sweep != nil {
		st.sweep.Stop()
		st.sweep = nil
	}
	if n.timer != nil {
		n.timer.Stop()
	}
	n.over = true
}

// sweepTunnels has those leave that lead to what goes away.
func (srv *Server) sweepTunnels(l *netloop.Loop) {
	st := &srv.loops[l.Index()]
	for range min(len(st.tunnels), sweepMost) {
		if st.swept++; st.swept >= len(st.tunnels) {
			st.swept = 0
		}
		if n := st.tunnels[st.swept]; n.leaving(srv) {
			n.leave(l)
		}
	}
	st.sweep = l.AfterFunc(sweepTime/time.Duration(1+len(st.tunnels)/sweepMost), func() { srv.sweepTunnels(l) })
}

// drainTunnels has all of them leave.
func (srv *Server) drainTunnels(l *netloop.Loop) {
	for _, n := range srv.loops[l.Index()].tunnels {
		n.leave(l)
	}
}

// leaving says whether the tunnel's upstream, target or connection goes away.
func (n *tunnel) leaving(srv *Server) bool {
	if n.work.flight.Leaving() {
		return true
	}
	snap := srv.snapshot.Load()
	if snap == n.seen {
		return false
	}
	n.seen = snap
	for i := range snap.Upstreams {
		if snap.Upstreams[i].Upstream == n.work.flight.Upstream {
			return false
		}
	}
	return true
}

// leave ends the tunnel within the time for that.
func (n *tunnel) leave(l *netloop.Loop) {
	rules := &n.session.Snapshot().Tunnels
	grace := min(rules.Grace, rules.Drain/2)
	tell := l.Now()
	if grace > 0 {
		tell += rand.Int64N(int64(grace))
	}
	n.end(l, notice{why: exchange.EndDrained, reason: "going away", tellAt: tell, cutAt: l.Now() + int64(rules.Drain)})
}

// end begins the tunnel's end, if it has not begun.
func (n *tunnel) end(l *netloop.Loop, o notice) {
	if n.notice.why != "" || n.over {
		return
	}
	n.notice = o
	n.arm(l)
}

// arm sets the timer to the next time at which there is something to do.
func (n *tunnel) arm(l *netloop.Loop) {
	at, o := int64(0), &n.notice
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	if n.half > 0 {
		sooner(n.half)
	}
	switch {
	case o.why == "":
		if n.idle > 0 {
			sooner(n.moved + n.idle)
		}
		if n.most > 0 {
			sooner(n.work.x.Tunnel.Began + n.most)
		}
	case !o.told:
		sooner(o.tellAt)
	case !o.press:
		sooner(o.tellAt + (o.cutAt-o.tellAt)/2)
	default:
		sooner(o.cutAt)
	}
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if at != 0 {
		n.timer = l.AfterFunc(time.Duration(max(at-l.Now(), 0)), func() { n.look(l) })
	}
}

// look does what is due.
func (n *tunnel) look(l *netloop.Loop) {
	now, o := l.Now(), &n.notice
	if n.over {
		return
	}
	switch {
	case n.half > 0 && now >= n.half:
		n.cut("") // why is known
		return
	case o.why == "" && n.idle > 0 && now >= n.moved+n.idle:
		n.notice = notice{why: exchange.EndIdleTimeout, reason: "idle for too long", tellAt: now, cutAt: now + int64(closeTime), told: true, press: true}
	case o.why == "" && n.most > 0 && now >= n.work.x.Tunnel.Began+n.most:
		n.notice = notice{why: exchange.EndMaxAge, reason: "open for too long", tellAt: now, cutAt: now + int64(closeTime), told: true}
	case o.why == "":
	case now >= o.cutAt:
		n.cut(o.why)
		return
	case now >= o.tellAt+(o.cutAt-o.tellAt)/2:
		o.told, o.press = true, true
	case now >= o.tellAt:
		o.told = true
	}
	switch {
	case !n.notice.told:
	case n.webSocket():
		n.because(n.notice.why)
		n.wake(now)
	case n.notice.why != exchange.EndDrained: // there is nothing to be said, nor to be waited for
		n.cut(n.notice.why)
		return
	}
	n.arm(l)
}

// wake has both tasks look at what there is to be said.
func (n *tunnel) wake(now int64) {
	n.work.side.SetReadDeadline(now)
	n.upstream.SetReadDeadline(now)
}

// awake says whether a read ended because of wake.
func (n *tunnel) awake(err error) bool {
	return n.notice.told && !n.over && errors.Is(err, netloop.ErrDeadline)
}
