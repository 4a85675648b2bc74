package telemetry

import (
	"testing"
	"time"

	"wasmgate/runtime/upstream/facts"
)

// A connection that carries one tunnel for days, or that nobody uses, is seen now, and on whatever loop it is; one that has
// ended is not told of any more.
func TestAConnectionThatNobodyGivesBackIsToldOf(t *testing.T) {
	got := httpCollector(t)
	tel := start(t, Options{Loops: 2, Traces: Traces{Endpoint: got.url, Segment: time.Minute}})
	first, second := tel.Loop(0), tel.Loop(1)
	if every, on := tel.SweepEvery(); every != 5*time.Second || !on {
		t.Errorf("looked at every %v, %v", every, on)
	}
	list := []*facts.Connection{connection(1), connection(2), connection(3)}
	for _, c := range list {
		first.ConnOpened(c)
	}
	tunnel, idle, ended := list[0], list[1], list[2]
	ended.Closed, ended.WhyClosed = ended.Established+1, facts.ClosePeer
	first.ConnClosed(ended)
	tunnel.Requests = 1
	began := tunnel.Established
	first.Sweep(began + int64(time.Minute) - 1) // too early
	first.Sweep(began + int64(time.Minute))     // the tunnel has been used since it was opened
	first.Sweep(began + int64(2*time.Minute))
	first.Sweep(began + int64(10*time.Minute)) // the other one for its age
	first.ConnLeaves(tunnel)
	second.ConnArrived(tunnel)
	first.Sweep(began + int64(30*time.Minute)) // the other one again
	second.Sweep(began + int64(11*time.Minute))
	if len(first.live) != 1 || len(second.live) != 1 {
		t.Errorf("%d and %d connections live", len(first.live), len(second.live))
	}
	second.ConnClosed(tunnel)
	first.ConnClosed(idle)
	if len(first.live)+len(second.live) != 0 {
		t.Error("connections that have ended live on")
	}
	finish(t, tel)
	segments := map[any]int{}
	for _, s := range got.all() {
		if s.Name == "upstream.connection.segment" {
			segments[attributes(s.Attributes)["wasmgate.connection.id"]]++
		}
	}
	// The last segment of each is that of its end.
	if segments[int64(1)] != 1+1+1 || segments[int64(2)] != 2+1 || segments[int64(3)] != 1 {
		t.Errorf("segments by connection: %v", segments)
	}
}

// A loop has other things to do: it looks at so many at once, and at the others next time.
func TestTheSweepIsBounded(t *testing.T) {
	tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Segment: time.Minute}})
	r := tel.Loop(0)
	const n = sweepMost + 10
	for i := range n {
		r.lives(&facts.Connection{ID: uint64(i), Sampled: true, SegmentFrom: wall})
	}
	looked := func(from int) (told int) {
		for _, c := range r.live {
			if c.SegmentFrom != wall {
				told++
			}
		}
		return told - from
	}
	r.segment = int64(time.Nanosecond)
	for _, c := range r.live {
		c.Requests = 1
	}
	queue := r.spans
	r.spans = newRecordQueue(n, &tel.export.waker, func() {}) // nobody reads it
	r.Sweep(wall + 5)
	if got := looked(0); got != sweepMost {
		t.Errorf("%d looked at", got)
	}
	r.Sweep(wall + 5)
	if got := looked(0); got != n {
		t.Errorf("%d looked at in all", got)
	}
	r.spans = queue
}
