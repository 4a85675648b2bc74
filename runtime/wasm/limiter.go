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
// is fixed. Two keys that fall onto one of its places when all others near are taken are taken for the same, and so are
// two whose places are near and whose tags are equal, one pair in two million.
type Repeats struct {
	interval int64
	seed     maphash.Seed
	slots    [repeatSlots]repeatSlot
}

const (
	repeatSlots  = 512
	repeatProbes = 8
)

// repeatSlot is the place of a key. Which one it is and when it may be said again is one word: a loop that takes the place
// has said its key by that, and no other can take it meanwhile, or another one for the same key.
type repeatSlot struct {
	word  atomic.Uint64 // the key's tag, and the time in ticks; 0: free
	count atomic.Int64  // since it was said
}

const (
	repeatTime = 42 // bits of the time: enough for a clock that counts from 1970
	repeatTick = 20 // bits of a nanosecond's count that are not kept: a tick is about a millisecond
)

// NewRepeats returns a Repeats with that interval, in nanoseconds. It is kept to about a millisecond.
func NewRepeats(interval int64) *Repeats {
	return &Repeats{interval: interval, seed: maphash.MakeSeed()}
}

// Note counts one occurrence of what the parts name together. If it shall be said, it also returns how many were not
// said before this one. Now is in nanoseconds, and not below 0.
func (r *Repeats) Note(now int64, parts ...string) (say bool, before int64) {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, p := range parts {
		_, _ = h.WriteString(p)
		_ = h.WriteByte(0)
	}
	sum := h.Sum64()
	tag := sum>>repeatTime | 1
	said := tag<<repeatTime | uint64(now+r.interval)>>repeatTick
	over := uint64(max(now-r.interval, 0)) >> repeatTick
	s := &r.slots[sum%repeatSlots]
	for i := range uint64(repeatProbes) {
		near := &r.slots[(sum+i)%repeatSlots]
		if near.take(tag, said, over) {
			return true, 0
		}
		if near.word.Load()>>repeatTime == tag {
			s = near
			break
		}
	}
	word := s.word.Load()
	if uint64(now)>>repeatTick < word&(1<<repeatTime-1) || !s.word.CompareAndSwap(word, said) {
		s.count.Add(1)
		return false, 0
	}
	return true, s.count.Swap(0)
}

// take has the key of that tag said, and the place be its own, if it is free, or if it is another's that might have been
// said again since the tick over, and was not.
func (s *repeatSlot) take(tag, said, over uint64) bool {
	word := s.word.Load()
	left := s.count.Load() // of the key that the word names
	if word != 0 && (word>>repeatTime == tag || word&(1<<repeatTime-1) > over) || !s.word.CompareAndSwap(word, said) {
		return false
	}
	s.count.Add(-left)
	return true
}
