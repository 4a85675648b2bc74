package telemetry

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Names are those of the configuration in force. What counts under other names is forgotten after a while, so that a
// configuration that is changed for ever does not fill the page, or the room that there is for names.
type Names struct{ Listeners, Routes, Upstreams map[string]bool }

func (n *Names) has(list map[string]bool, name string) bool {
	return name == "" || name == otherName || list[name]
}

// defaultForget is for how long counters are told whose names are not in force any more: several scrapes, so that their last
// values arrive.
const defaultForget = 10 * time.Minute

// ForgetEvery is how often a loop should call Forget.
func (t *Telemetry) ForgetEvery() time.Duration { return max(t.forget/4, 10*time.Millisecond) }

// rest is what is known of a series that may have to be forgotten.
type rest struct {
	since int64 // it is not in force, and has not changed from then on; 0: it is in force
	count uint64
}

// over says whether it is to be forgotten now.
func (r *rest) over(inForce bool, counted func() uint64, now int64, after time.Duration) bool {
	if inForce {
		r.since = 0
		return false
	}
	if count := counted(); r.since == 0 || r.count != count {
		r.since, r.count = max(now, 1), count
		return false
	}
	return now-r.since >= int64(after)
}

// Forget drops counters under names that are not in force and under which nothing was counted for a while. The loop calls it
// now and then. now is a time of the loop's clock.
func (r *Recorder) Forget(n *Names, now int64) {
	c, used := r.cells, map[*upstreamSeries]bool{}
	dropped := forget(c.requests, &c.requestList, func(k requestKey, s *requestSeries) bool {
		inForce := n.has(n.Listeners, k.listener) && n.has(n.Routes, k.route) && n.has(n.Upstreams, k.upstream)
		over := s.rest.over(inForce, s.count, now, r.forget)
		if !over && s.last != nil {
			used[s.last] = true
		}
		return over
	})
	if dropped {
		clear(c.recent[:])
	}
	forget(c.sessions, &c.sessionList, func(k sessionKey, s *sessionSeries) bool {
		over := s.rest.over(n.has(n.Listeners, k.listener) && n.has(n.Upstreams, k.upstream), s.count, now, r.forget)
		if !over && s.last != nil {
			used[s.last] = true
		}
		return over
	})
	forget(c.tunnels, &c.tunnelList, func(k tunnelKey, s *tunnelSeries) bool {
		inForce := s.open.Load() != 0 || n.has(n.Listeners, k.listener) && n.has(n.Upstreams, k.upstream)
		return s.rest.over(inForce, s.count, now, r.forget)
	})
	forget(c.upstreams, &c.upstreamList, func(name string, s *upstreamSeries) bool {
		return s.rest.over(n.has(n.Upstreams, name), s.count, now, r.forget) && !used[s]
	})
}

// forget drops the series that are over, and publishes the others.
func forget[K comparable, S any](series map[K]*S, list *atomic.Pointer[[]*S], over func(K, *S) bool) bool {
	gone := map[*S]bool{}
	for k, s := range series {
		if over(k, s) {
			gone[s] = true
			delete(series, k)
		}
	}
	if len(gone) > 0 {
		left := slices.DeleteFunc(slices.Clone(*list.Load()), func(s *S) bool { return gone[s] })
		list.Store(&left)
	}
	return len(gone) > 0
}

func (s *requestSeries) count() (n uint64) {
	for i := range s.durations {
		if h := s.durations[i].Load(); h != nil {
			n += h.count()
		}
	}
	return n
}

func (h *histogram) count() (n uint64) {
	for i := range h.pages {
		if page := h.pages[i].Load(); page != nil {
			for j := range page {
				n += page[j].Load()
			}
		}
	}
	return n
}

func (m *memberCounts) count() (sum uint64) {
	for _, n := range m.states {
		sum += n
	}
	return sum
}

func (s *sessionSeries) count() (n uint64) {
	for i := range s.ended {
		n += s.ended[i].Load()
	}
	return n
}

// count changes with all that is counted of an upstream: an attempt, or a connection.
func (s *upstreamSeries) count() (n uint64) {
	n = s.reused.Load()
	for i := range reasonSlots {
		n += s.fresh[i].Load() + s.opened[i].Load() + s.closed[i].Load()
	}
	for i := range s.errors {
		n += s.errors[i].Load()
	}
	return n
}

// ForgetMembers is Forget for what is counted of upstreams' addresses. now is nanoseconds of any clock that is always the same.
func (t *Telemetry) ForgetMembers(n *Names, now int64) {
	c := &t.members
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.counts, func(upstream string, m *memberCounts) bool {
		return m.rest.over(n.has(n.Upstreams, upstream), m.count, now, t.forget)
	})
}
