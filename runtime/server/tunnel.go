package server

import (
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/wire"
)

// tunnel passes bytes both ways after 101 (RFC 9110 section 7.8), each direction in a task of its own, until both
// sides have ended, or nothing has moved for the upstream's idle_read. Filters see the head before, and may answer otherwise.
func (s *Session) tunnel(t *netloop.Task, w *work, snap *Snapshot, r *Route) outcome {
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
	w.side.Head(&x.Response, http1.ResponseOut{Minor: 1, Upgrade: protocol})
	w.side.Tunnel()
	x.StatusSent = 101
	f.Abandon(facts.CloseUpgradeEnded)
	if x.Err = s.flush(t, w, snap); x.Err == nil {
		tunnelBetween(t, w.side, f, &x.BytesIn, &x.BytesOut)
	}
	f.Finish(t)
	return broken
}

// tunnelled is a client's side and an upstream's connection that have become one.
type tunnelled struct {
	side     Side
	stream   wire.Stream // to the upstream
	upstream *netloop.Conn
	idle     int64
	main     *netloop.Task
	ended    bool // the direction to the upstream
}

// tunnelBetween moves bytes both ways to their end, and counts them.
func tunnelBetween(t *netloop.Task, side Side, f *proxy.Flight, in, out *int64) {
	stream, upstream := f.Stream()
	tn := &tunnelled{side: side, stream: stream, upstream: upstream, idle: int64(f.Options.IdleRead), main: t}
	tn.touch(t.Loop())
	t.Loop().Go(func(t *netloop.Task) {
		*in = tn.fromClient(t)
		tn.ended = true
		tn.main.Wake()
	})
	*out = tn.fromUpstream(t, &f.Answer)
	for !tn.ended {
		t.Park()
	}
}

// touch begins the time of silence anew, in both directions.
func (tn *tunnelled) touch(l *netloop.Loop) {
	at := int64(0)
	if tn.idle > 0 {
		at = l.Now() + tn.idle
	}
	tn.side.SetReadDeadline(at)
	tn.side.SetWriteDeadline(at)
	tn.upstream.SetReadDeadline(at)
	tn.upstream.SetWriteDeadline(at)
}

// fromClient moves bytes until the client ends its direction, and passes the end on. A failure ends both.
func (tn *tunnelled) fromClient(t *netloop.Task) (moved int64) {
	for {
		tn.side.Rest() // a tunnel that is silent holds no memory
		data, err := tn.side.Next(t)
		if err == nil {
			if _, err = tn.stream.Write(t, data); err == nil {
				moved += int64(len(data))
				tn.touch(t.Loop())
				continue
			}
		} else if isEOF(err) && tn.upstream.CloseWrite() == nil {
			return moved
		}
		tn.cut()
		return moved
	}
}

// fromUpstream is fromClient for the other direction.
func (tn *tunnelled) fromUpstream(t *netloop.Task, from *wire.Reader) (moved int64) {
	for {
		if b := from.Buffered(); len(b) > 0 {
			if tn.side.Write(t, b) != nil {
				break
			}
			moved += int64(len(b))
			from.Consume(len(b))
			tn.touch(t.Loop())
		}
		from.Rest()
		err := from.Fill(t)
		if err == nil {
			continue
		}
		if isEOF(err) {
			if tn.side.End(nil); tn.side.Flush(t) == nil {
				return moved
			}
		}
		break
	}
	tn.cut()
	return moved
}

func (tn *tunnelled) cut() {
	tn.side.Close()
	_ = tn.upstream.Close()
}
