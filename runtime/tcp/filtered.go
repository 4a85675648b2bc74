package tcp

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
)

// filtered is what filters have to do with a session. They are the snapshot's, which is not retired before the session's end.
type filtered struct {
	session  *session
	snapshot *Snapshot
	list     []filter.Connection
}

// filter tells the snapshot's filters of the session.
func (s *session) filter(t *netloop.Task, snap *Snapshot) (why string, fe *fault.Error) {
	l := t.Loop()
	snap.users.Enter(l)
	s.filtered = &filtered{session: s, snapshot: snap, list: make([]filter.Connection, 0, len(snap.Filters))}
	for _, each := range snap.Filters {
		c, err := each.Connect(t, &s.facts)
		switch {
		case err != nil && s.over:
			return "", nil
		case err != nil:
			return exchange.EndPlugin, err
		case s.over && c != nil: // it was drained meanwhile
			c.Close(t, filter.PeerLocal, filter.PeerLocal)
			fallthrough
		case s.over:
			return "", nil
		case c != nil:
			s.filtered.list = append(s.filtered.list, c)
		}
	}
	return "", nil
}

// use keeps the snapshot's filters until what it returns is called: a filter may be in a direction's way while the session
// ends.
func (f *filtered) use(l *netloop.Loop) (done func()) {
	if f == nil {
		return func() {}
	}
	f.snapshot.users.Enter(l)
	return func() { f.snapshot.users.Leave(l) }
}

// upstream tells where the session goes.
func (f *filtered) upstream(s *exchange.Session) {
	for _, c := range f.list {
		c.Upstream(s)
	}
}

// move is what is to be sent to the other side for what has come from one, in b if there is room.
func (f *filtered) move(t *netloop.Task, b []byte, fromClient bool, data []byte, last bool) (_ []byte, err *fault.Error) {
	for i := range f.list {
		if fromClient {
			data, err = f.list[i].FromClient(t, b[:0], data, last)
		} else { // the filter nearest to the upstream sees it first
			data, err = f.list[len(f.list)-1-i].FromUpstream(t, b[:0], data, last)
		}
		if err != nil || f.session.over {
			return nil, err
		}
		b = nil // it may be what the next one is given
	}
	return data, nil
}

// close tells the filters that the session is over.
func (f *filtered) close(l *netloop.Loop, why string) {
	client, upstream := filter.PeerLocal, filter.PeerLocal
	switch why {
	case exchange.EndClientClosed, exchange.EndClientReset:
		client = filter.PeerRemote
	case exchange.EndUpstreamClosed, exchange.EndUpstreamReset:
		upstream = filter.PeerRemote
	}
	list := f.list
	l.Go(func(t *netloop.Task) {
		for _, c := range list {
			c.Close(t, client, upstream)
		}
		f.snapshot.users.Leave(t.Loop())
	})
}
