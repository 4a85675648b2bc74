package pool

import (
	"slices"
	"testing"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// register knows the connections of each loop, as a Keeper does. Each list is its loop's.
type register struct {
	*journal
	loops [2][]*Conn
}

func (r *register) ConnJoined(l *netloop.Loop, c *Conn) {
	r.loops[l.Index()] = append(r.loops[l.Index()], c)
}

func (r *register) ConnLeft(l *netloop.Loop, c *Conn) {
	list := &r.loops[l.Index()]
	*list = slices.DeleteFunc(*list, func(one *Conn) bool { return one == c })
}

func TestAKeeperKnowsTheConnectionsOfEachLoop(t *testing.T) {
	f := setUp(t, 2, Options{})
	r := &register{journal: f.journal}
	f.pool = New(2, Options{}, f.queue, r)
	known := func(i int) (n int) {
		f.task(i, func(*netloop.Task) { n = len(r.loops[i]) })
		return n
	}
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		if !slices.Contains(r.loops[0], c) || c.IdleSince() != 0 {
			t.Error("a connection in use is not known as that")
		}
		c.Facts.User = t
		if c.Release(""); c.Facts.User != nil || c.IdleSince() == 0 || !slices.Contains(r.loops[0], c) {
			t.Error("one that is idle is not known as that")
		}
	})
	f.task(1, func(task *netloop.Task) {
		c := f.mustGet(task, "") // loop 0's
		if !slices.Contains(r.loops[1], c) {
			t.Error("a connection that has moved is not known on its new loop")
		}
		c.Release("")
	})
	if a, b := known(0), known(1); a != 0 || b != 1 {
		t.Errorf("%d and %d connections are known; there is one, on the second loop", a, b)
	}
	f.task(1, func(task *netloop.Task) { r.loops[1][0].Close(facts.CloseMaxAge) })
	if n := known(1); n != 0 {
		t.Errorf("%d connections are known, and there is none", n)
	}
}

func TestACondemnedConnectionServesItsRequest(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		if c.Condemn(facts.CloseOperator) || !c.Condemned() || c.Net.Closed() {
			t.Error("a connection in use was closed")
		}
		if why := c.Release(""); why != facts.CloseOperator {
			t.Errorf("it was closed for %q", why)
		}
		c = f.mustGet(task, facts.NewFirst)
		c.Release("")
		if !c.Condemn(facts.CloseOperator) || !c.Net.Closed() {
			t.Error("an idle one was not closed at once")
		}
	})
	if got := f.journal.reasons(); !slices.Equal(got, []string{facts.CloseOperator, facts.CloseOperator}) || f.pool.Open() != 0 {
		t.Errorf("closed for %q, %d open", got, f.pool.Open())
	}
}
