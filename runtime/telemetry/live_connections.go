package telemetry

import (
	"time"

	"wasmgate/runtime/upstream/facts"
)

// A connection that is not used between two requests, because one of them lasts or none comes, is told of too, if not as
// often: so many segments at the latest.
const quietSegments = 10

// SweepEvery is how often a loop should call Sweep, where traces are on.
func (t *Telemetry) SweepEvery() (period time.Duration, on bool) {
	return min(5*time.Second, time.Duration(t.segment)), t.export != nil && t.sampler != sampler{}
}

// sweepMost is how many connections one Sweep looks at: it is the loop's time.
const sweepMost = 4096

// Sweep tells of connections that were opened long ago and of which nothing was told since. now is Unix nanoseconds.
func (r *Recorder) Sweep(now int64) {
	for range min(len(r.live), sweepMost) {
		if r.swept++; r.swept >= len(r.live) {
			r.swept = 0
		}
		c := r.live[r.swept]
		if since := now - c.SegmentFrom; since >= quietSegments*r.segment || since >= r.segment && c.Requests != c.SegmentRequests {
			r.giveSegment(c, now, false)
		}
	}
}

// ConnArrived is called when a connection has come from another loop, after that one's ConnLeaves; it may be closed next.
func (r *Recorder) ConnArrived(c *facts.Connection) { r.lives(c) }

// ConnLeaves is called when a connection is about to go to another loop.
func (r *Recorder) ConnLeaves(c *facts.Connection) { r.gone(c) }

// lives puts a connection whose life is told of on the loop's list.
func (r *Recorder) lives(c *facts.Connection) {
	if c.Sampled && c.Place == 0 {
		r.live = append(r.live, c)
		c.Place = len(r.live)
	}
}

// gone takes it off the list.
func (r *Recorder) gone(c *facts.Connection) {
	if c.Place == 0 {
		return
	}
	last := len(r.live) - 1
	moved := r.live[last]
	r.live[c.Place-1] = moved
	moved.Place = c.Place
	r.live[last] = nil
	r.live = r.live[:last]
	c.Place = 0
}
