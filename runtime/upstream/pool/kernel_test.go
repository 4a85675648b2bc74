//go:build linux && !wasmgate_portable

package pool

import (
	"net"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

// Elsewhere the loop knows what it was told, and cannot ask the kernel.
func TestADeadConnectionIsFoundBeforeARequestIsSpentOnIt(t *testing.T) {
	f := setUp(t, 2, Options{})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Release("")
		// The loop does not run meanwhile, and is not told.
		f.eventually("accepted", func() bool { return f.backend.accepted.Load() == 1 })
		f.backend.each(func(nc net.Conn) { nc.Close() })
		f.eventually("the end has come", func() bool { return !c.Net.Healthy() })
		if _, why, got := f.pool.Try(task, Request{}); got != Leave || why != facts.NewDeadWhenTaken {
			t.Errorf("%v %q", got, why)
		}
	})
}

func TestAConnectionThatDiesOnItsWayLeavesItsPlaceToTheWaiter(t *testing.T) {
	for _, loop := range []int{0, 1} {
		f := setUp(t, 2, Options{MaxConnections: 1})
		var held *Conn
		f.task(0, func(task *netloop.Task) { held = f.mustGet(task, facts.NewFirst) })
		done := make(chan struct{})
		f.spawn(loop, func(task *netloop.Task) {
			defer close(done)
			p, c, why, err := f.queue.Wait(task, Request{}, nil, nil, time.Minute, 1)
			if err != nil || c != nil || why != facts.NewDeadWhenTaken || p.Open() != 1 {
				t.Errorf("%v %q %v", c, why, err)
			}
		})
		f.eventually("it waits", func() bool { return f.queue.Waiting() == 1 })
		f.eventually("accepted", func() bool { return f.backend.accepted.Load() == 1 })
		f.task(0, func(*netloop.Task) {
			held.Release("") // the waiter is about to get it
			f.backend.each(func(nc net.Conn) { nc.Close() })
			f.eventually("the end has come", func() bool { return !held.Net.Healthy() })
		})
		<-done
	}
}
