//go:build linux && !wasmgate_portable

package pool

import (
	"net"
	"testing"

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
