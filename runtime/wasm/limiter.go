package wasm

import (
	"hash/maphash"
	"sync/atomic"
)

// Limiter is a token bucket for log lines that counts what it held back. Its clock is its caller's, in nanoseconds. It is
// used by one goroutine at a time.
type Limiter struct {
	PerSecond float64 // tokens; 0: only the first Burst
	Burst     float64

	tokens     float64
	at         int64
	started    bool
	suppressed int64
}

// Allow takes a token, if there is one, and says how many calls were refused since the last one that was not.
func (l *Limiter) Allow(now int64) (ok bool, suppressed int64) {
	if !l.started {
		l.started, l.tokens, l.at = true, l.Burst, now
	}
	if now > l.at {
		l.tokens = min(l.Burst, l.tokens+float64(now-l.at)/1e9*l.PerSecond)
		l.at = now
	}
	if l.tokens < 1 {
		l.suppressed++
		return false, 0
	}
	l.tokens--
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// Repeats says whether something was said lately, so that a failure that occurs a thousand times is logged once, and
// then once per interval with its count. It may be used from all loops: it neither locks nor allocates, and its memory
// is fixed. Two keys that fall onto one of its places when all others near are taken are taken for the same.
type Repeats struct {
	interval int64
	seed     maphash.Seed
	slots    [repeatSlots]repeatSlot
}

const (
	repeatSlots  = 512
	repeatProbes = 8
)

type repeatSlot struct {
	key   atomic.Uint64
	next  atomic.Int64 // when the key may be said again
	count atomic.Int64 // since it was said
}

// NewRepeats returns a Repeats with that interval, in nanoseconds.
func NewRepeats(interval int64) *Repeats {
	return &Repeats{interval: interval, seed: maphash.MakeSeed()}
}

// Note counts one occurrence of what the parts name together. If it shall be said, it also returns how many were not
// said before this one.
func (r *Repeats) Note(now int64, parts ...string) (say bool, before int64) {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, p := range parts {
		_, _ = h.WriteString(p)
		_ = h.WriteByte(0)
	}
	s := r.slot(h.Sum64()|1, now)
	next := s.next.Load()
	if now < next || !s.next.CompareAndSwap(next, now+r.interval) {
		s.count.Add(1)
		return false, 0
	}
	return true, s.count.Swap(0)
}

// slot is the place of a key. One whose interval is long over is free for another key.
func (r *Repeats) slot(key uint64, now int64) *repeatSlot {
	for i := range uint64(repeatProbes) {
		s := &r.slots[(key+i)%repeatSlots]
		have := s.key.Load()
		if have == key {
			return s
		}
		if (have == 0 || now >= s.next.Load()+r.interval) && s.key.CompareAndSwap(have, key) {
			s.next.Store(0)
			s.count.Store(0)
			return s
		}
	}
	return &r.slots[key%repeatSlots]
}
