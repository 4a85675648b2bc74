package kv

import (
	"hash/maphash"
	"time"
)

func (s *Store) fits(key []byte) bool { return len(key) > 0 && int64(len(key)) <= s.maxKey.Load() }

func (s *Store) shard(key []byte) *shard { return &s.shards[maphash.Bytes(s.seed, key)%shards] }

func cost(key, value []byte) int64 { return int64(len(key) + len(value) + Overhead) }

func expiry(now int64, ttl time.Duration) int64 {
	if ttl <= 0 {
		return 0
	}
	if end := now + int64(ttl); end > now {
		return max(end, 1) // 0 is never
	}
	return 0 // farther than time goes
}

func (e *entry) expired(now int64) bool { return e.expires != 0 && now >= e.expires }

// matches says whether a key, nil if it is not there, has the version that is asked for, and which it has.
func matches(e *entry, ifVersion uint32) (ok bool, there uint32) {
	if e != nil {
		there = e.version
	}
	switch ifVersion {
	case 0:
		return true, there
	case IfAbsent:
		return e == nil, there
	}
	return there == ifVersion, there
}

// find returns a key's entry and its place, or nil. One that has expired is removed.
func (h *shard) find(s *Store, now int64, key []byte) (*entry, int) {
	at, ok := h.index[string(key)]
	if !ok {
		return nil, 0
	}
	e := &h.entries[at]
	if e.expired(now) {
		h.remove(s, int(at))
		return nil, 0
	}
	return e, int(at)
}

// insert adds a key that is not there; its bytes are taken already.
func (h *shard) insert(key []byte) *entry {
	if h.index == nil {
		h.index = map[string]int32{}
	}
	e := entry{key: string(key)}
	h.index[e.key] = int32(len(h.entries)) //nolint:gosec // bounded by the store's bytes
	h.entries = append(h.entries, e)
	return &h.entries[len(h.entries)-1]
}

// remove takes out the entry at a place, and moves the last one there.
func (h *shard) remove(s *Store, at int) {
	e := &h.entries[at]
	s.bytes.Add(-cost([]byte(e.key), e.value))
	delete(h.index, e.key)
	last := len(h.entries) - 1
	if at != last {
		h.entries[at] = h.entries[last]
		h.index[h.entries[at].key] = int32(at) //nolint:gosec // see insert
	}
	h.entries[last] = entry{}
	h.entries = h.entries[:last]
	if last == 0 { // what a crowd has left is not kept for the next
		h.index, h.entries = nil, nil
	}
}

// sweep looks at n entries, from where it ended the last time, and removes those that have expired.
func (h *shard) sweep(s *Store, now int64, n int) {
	for ; n > 0 && len(h.entries) > 0; n-- {
		if h.hand >= len(h.entries) {
			h.hand = 0
		}
		if h.entries[h.hand].expired(now) {
			h.remove(s, h.hand)
			continue
		}
		h.hand++
	}
}

// next is a new version. All keys of a shard take theirs from one sequence, so that a key that was deleted and set anew
// does not have one that it had.
func (h *shard) next() uint32 {
	h.version++
	if h.version == 0 || h.version == IfAbsent {
		h.version = 1
	}
	return h.version
}

// make takes bytes from the store's room. Where there is not enough it looks for what has expired: among some keys of
// the shard, and of a few others that nobody uses at the moment.
func (s *Store) make(h *shard, now, bytes int64) bool {
	if bytes <= 0 {
		s.bytes.Add(bytes)
		return true
	}
	if s.take(bytes) {
		return true
	}
	const ours, others, most = 256, 64, 8
	h.sweep(s, now, ours)
	for range most {
		if s.take(bytes) {
			return true
		}
		o := &s.shards[s.next.Add(1)%shards]
		if o != h && o.mu.TryLock() {
			o.sweep(s, now, others)
			o.mu.Unlock()
		}
	}
	if s.take(bytes) {
		return true
	}
	s.full.Add(1)
	return false
}

// take takes bytes of the store's room, if they are there.
func (s *Store) take(bytes int64) bool {
	if s.bytes.Add(bytes) <= s.maxBytes.Load() {
		return true
	}
	s.bytes.Add(-bytes)
	return false
}
