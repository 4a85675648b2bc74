package server

import (
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/wire"
)

// tunnel passes bytes both ways after 101 (RFC 9110 section 7.8), each direction in a task of its own, until both
// sides have ended, or nothing has moved for the upstream's idle_read. Filters see the head before, and may answer otherwise.
func (s *session) tunnel(t *netloop.Task, w *work, snap *Snapshot, r *Route) bool {
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
	w.out = http1.AppendResponse(w.compose(t.Loop()), &x.Response, http1.ResponseOut{Minor: 1, Upgrade: protocol})
	w.out = append(w.out, f.Answer.Buffered()...)
	f.Answer.Consume(len(f.Answer.Buffered()))
	x.StatusSent = 101
	f.Abandon(facts.CloseUpgradeEnded)
	stream, upstream := f.Stream()
	tn := &tunnelled{client: s.conn, upstream: upstream, idle: int64(f.Options.IdleRead), main: t}
	err := s.write(t, w.out, snap)
	w.composed(t.Loop())
	if err != nil {
		x.Err = err
	} else {
		s.conn.SetWriteDeadline(0)
		upstream.SetWriteDeadline(0)
		tn.touch(t.Loop())
		t.Loop().Go(func(t *netloop.Task) {
			tn.in = tn.copy(t, &w.in, stream, upstream)
			tn.ended = true
			tn.main.Wake()
		})
		tn.out = tn.copy(t, &f.Answer, s.conn, s.conn)
		for !tn.ended {
			t.Park()
		}
	}
	x.BytesIn, x.BytesOut = tn.in, tn.out
	f.Finish(t)
	return false
}

// tunnelled is a pair of connections that have become one.
type tunnelled struct {
	client, upstream *netloop.Conn
	idle             int64
	main             *netloop.Task
	ended            bool
	in, out          int64
}

// touch begins the time of silence anew, in both directions.
func (tn *tunnelled) touch(l *netloop.Loop) {
	at := int64(0)
	if tn.idle > 0 {
		at = l.Now() + tn.idle
	}
	for _, c := range [...]*netloop.Conn{tn.client, tn.upstream} {
		c.SetReadDeadline(at)
		c.SetWriteDeadline(at)
	}
}

// copy moves bytes until from ends, and passes the end on. A failure ends both directions.
func (tn *tunnelled) copy(t *netloop.Task, from *wire.Reader, to wire.Stream, conn *netloop.Conn) (moved int64) {
	for {
		if b := from.Buffered(); len(b) > 0 {
			if _, err := to.Write(t, b); err != nil {
				break
			}
			moved += int64(len(b))
			from.Consume(len(b))
			tn.touch(t.Loop())
		}
		from.Rest() // a tunnel that is silent holds no memory
		err := from.Fill(t)
		if err == nil {
			continue
		}
		if isEOF(err) && conn.CloseWrite() == nil {
			return moved
		}
		break
	}
	_ = tn.client.Close()
	_ = tn.upstream.Close()
	return moved
}
