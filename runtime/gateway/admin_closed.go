package gateway

import (
	"cmp"
	"slices"
	"time"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// maxClosed is how many connections a loop remembers that were closed, about 300 bytes each.
const maxClosed = 128

// closedRing is the connections of a loop that were closed last, so that somebody can see why. It belongs to the loop. It has
// room for all of them from the first on: then nothing is allocated.
type closedRing struct {
	list []facts.Connection
	next int // place of the next one, once the list is full
}

// add remembers a connection. Those of health checks that went well are none to wonder about.
func (r *closedRing) add(c *facts.Connection) {
	if c.WhyOpened == facts.OpenHealthCheck && c.Err == nil {
		return
	}
	if r.list == nil {
		r.list = make([]facts.Connection, 0, maxClosed)
	}
	if len(r.list) < maxClosed {
		r.list = append(r.list, *c)
		r.list[len(r.list)-1].User = nil
		return
	}
	r.list[r.next] = *c
	r.list[r.next].User = nil
	r.next = (r.next + 1) % maxClosed
}

// closedConnections are those that were closed last, the newest first.
func (o operators) closedConnections(f admin.ConnectionFilter) admin.Connections {
	parts, missing := ask(o.group, func(l *netloop.Loop) (list []admin.Connection) {
		ring := &o.observers[l.Index()].closed
		for i := range ring.list {
			if c := &ring.list[i]; fitsFacts(&f, c) {
				list = append(list, closedView(l, c))
			}
		}
		return list
	})
	all := admin.Connections{LoopsMissing: missing, Connections: slices.Concat(parts...)}
	slices.SortFunc(all.Connections, func(a, b admin.Connection) int {
		return cmp.Or(b.Closed.Compare(*a.Closed), cmp.Compare(b.ID, a.ID))
	})
	all.Total = len(all.Connections)
	all.Connections = append([]admin.Connection{}, all.Connections[:min(all.Total, f.Limit)]...)
	return all
}

func closedView(l *netloop.Loop, f *facts.Connection) admin.Connection {
	v, at := factsView(l, f, f.Closed), time.Unix(0, f.Closed)
	v.State, v.Closed, v.WhyClosed = admin.ConnectionClosed, &at, f.WhyClosed
	if f.Err != nil {
		v.Error = text([]byte(f.Err.Error()), 4096)
	}
	return v
}
