package kv

import "slices"

// Become makes the store's content that of another: keys, values, versions and ends. What it had is gone. Each shard is
// copied at a moment of its own. Bounds stay as they are, and may be exceeded by what is copied.
func (s *Store) Become(o *Store) {
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for len(h.entries) > 0 {
			h.remove(s, len(h.entries)-1)
		}
		h.mu.Unlock()
	}
	for i := range o.shards {
		h := &o.shards[i]
		h.mu.Lock()
		entries := slices.Clone(h.entries)
		for k := range entries { // small values are changed in place
			entries[k].value = slices.Clone(entries[k].value)
		}
		h.mu.Unlock()
		for k := range entries {
			s.adopt(&entries[k])
		}
	}
}

// adopt adds an entry of another store.
func (s *Store) adopt(e *entry) {
	h := s.shard([]byte(e.key))
	h.mu.Lock()
	defer h.mu.Unlock()
	s.bytes.Add(cost([]byte(e.key), e.value))
	copied := h.insert([]byte(e.key))
	copied.value, copied.expires, copied.version = e.value, e.expires, e.version
	h.version = max(h.version, e.version)
}
