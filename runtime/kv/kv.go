// Package kv is the state that plugins share: named stores of keys and values in memory, with versions to compare and
// swap by, and with expiry. A store is bounded and may be used by all event loops at once.
//
// It uses the standard library only: what is wanted is less than what cache libraries do (nothing is ever evicted, so
// that who floods a store cannot push out the counters by which another is limited), and more (versions).
//
// # Concurrency
//
// A store is cut into shards by the hash of the key, each with a lock that is held for a look-up, and for copying a
// small value; large values are never changed, only replaced, and copied without the lock. No operation waits for
// anything else. All of them are atomic: each sees the changes of those before it, on whatever loop.
//
// # Time
//
// There is no clock in it: operations are given the time, in nanoseconds of any clock that is the same for all who use the
// store. What has expired is not there any more. Its memory is found by the operations that come after it: each one
// that writes looks at a few other keys, and one that finds the store full at more.
package kv

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of Options.
const (
	DefaultMaxBytes = 64 << 20
	DefaultMaxValue = 64 << 10
	DefaultMaxKey   = 1 << 10
)

// Options are a store's bounds. Zero values are the defaults.
type Options struct {
	MaxBytes int64 // of all keys and values, each counted with Overhead bytes more; default 64 MiB
	MaxValue int   // bytes; default 64 KiB
	MaxKey   int   // bytes; default 1 KiB
}

// Overhead is what a key costs besides its bytes and those of its value: about what the tables of a store take for it.
const Overhead = 128

// IfAbsent is the version that stands for none: what is written is written only if the key is not there. Version 0
// stands for any.
const IfAbsent uint32 = math.MaxUint32

// Result is what an operation came to.
type Result uint8

// The results.
const (
	OK       Result = iota
	Mismatch        // the key has another version, or its value is no counter
	Full            // the store has no room
	TooLarge        // the key or the value; or the key is empty
	Absent          // Delete: there is no such key
)

var results = [...]string{OK: "ok", Mismatch: "mismatch", Full: "full", TooLarge: "too large", Absent: "absent"}

// String names a result.
func (r Result) String() string { return results[r] }

const shards = 64

// Store is a store. Its methods may be called from any goroutine.
type Store struct {
	seed                       maphash.Seed
	maxBytes                   atomic.Int64
	maxKey, maxValue           atomic.Int64
	bytes                      atomic.Int64
	next                       atomic.Uint64 // the shard that is looked at next for what has expired
	full, mismatched, tooLarge atomic.Uint64
	shards                     [shards]shard
}

type shard struct {
	mu      sync.Mutex
	index   map[string]int32 // places in entries
	entries []entry          // without gaps, in no order
	hand    int              // the next one that is looked at for its expiry
	version uint32           // the last one given out
	_       [64]byte         // a cache line of its own
}

type entry struct {
	key     string
	value   []byte
	expires int64 // 0: never
	version uint32
}

// small is how long a value may be that is copied under the lock, and changed in place.
const small = 4 << 10

// New returns an empty store.
func New(o Options) *Store {
	s := &Store{seed: maphash.MakeSeed()}
	s.Limit(o)
	return s
}

// Limit sets other bounds. What is there already stays.
func (s *Store) Limit(o Options) {
	def := func(at *atomic.Int64, v, otherwise int64) {
		if v <= 0 {
			v = otherwise
		}
		at.Store(v)
	}
	def(&s.maxBytes, o.MaxBytes, DefaultMaxBytes)
	def(&s.maxKey, int64(o.MaxKey), DefaultMaxKey)
	def(&s.maxValue, int64(o.MaxValue), DefaultMaxValue)
}

// Get appends a key's value to dst, with its version, which is never 0. It does not allocate if dst has room.
func (s *Store) Get(now int64, key, dst []byte) (value []byte, version uint32, ok bool) {
	h := s.shard(key)
	h.mu.Lock()
	e, _ := h.find(s, now, key)
	if e == nil {
		h.mu.Unlock()
		return dst, 0, false
	}
	v, version := e.value, e.version
	if len(v) <= small {
		dst = append(dst, v...)
		h.mu.Unlock()
		return dst, version, true
	}
	h.mu.Unlock()
	return append(dst, v...), version, true
}

// Set sets a key, if its version is ifVersion (0: in any case, IfAbsent: if it is not there), to a copy of value that
// expires after ttl; 0 is never. With OK it returns the new version, with Mismatch the one that is there, 0 if none.
func (s *Store) Set(now int64, key, value []byte, ifVersion uint32, ttl time.Duration) (version uint32, r Result) {
	if int64(len(value)) > s.maxValue.Load() || !s.fits(key) {
		s.tooLarge.Add(1)
		return 0, TooLarge
	}
	var copied []byte
	if len(value) > small { // not under the lock
		copied = slices.Clone(value)
	}
	h := s.shard(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	e, _ := h.find(s, now, key)
	if ok, there := matches(e, ifVersion); !ok {
		s.mismatched.Add(1)
		return there, Mismatch
	}
	needs := cost(key, value)
	if e != nil {
		needs = int64(len(value) - len(e.value))
	}
	if !s.make(h, now, needs) {
		return 0, Full
	}
	if e == nil {
		e = h.insert(key)
	} else {
		e = &h.entries[h.index[string(key)]] // making room may have moved it
	}
	switch {
	case copied != nil:
		e.value = copied
	case len(e.value) > small || cap(e.value) < len(value) || cap(e.value) > 2*len(value)+64:
		e.value = slices.Clone(value)
	default:
		e.value = append(e.value[:0], value...)
	}
	version = h.next()
	e.expires, e.version = expiry(now, ttl), version
	h.sweep(s, now, 2) // moves entries
	return version, OK
}

// Delete removes a key, if its version is ifVersion; 0: in any case. With Mismatch it returns the version that is there.
func (s *Store) Delete(now int64, key []byte, ifVersion uint32) (version uint32, r Result) {
	h := s.shard(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	e, at := h.find(s, now, key)
	if e == nil {
		return 0, Absent
	}
	if ok, there := matches(e, ifVersion); !ok {
		s.mismatched.Add(1)
		return there, Mismatch
	}
	h.remove(s, at)
	return 0, OK
}

// Add adds to a counter, a value of 8 bytes in little-endian order, and returns the sum, which wraps around. A key that is
// not there is 0, and expires after ttl from now on; one that is there keeps its end.
func (s *Store) Add(now int64, key []byte, delta int64, ttl time.Duration) (int64, Result) {
	const size = 8
	if !s.fits(key) || s.maxValue.Load() < size {
		s.tooLarge.Add(1)
		return 0, TooLarge
	}
	h := s.shard(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	e, _ := h.find(s, now, key)
	switch {
	case e == nil:
		if !s.make(h, now, cost(key, nil)+size) {
			return 0, Full
		}
		e = h.insert(key)
		e.value, e.expires = make([]byte, size), expiry(now, ttl)
	case len(e.value) != size:
		s.mismatched.Add(1)
		return 0, Mismatch
	}
	sum := int64(binary.LittleEndian.Uint64(e.value)) + delta //nolint:gosec // two's complement on purpose
	binary.LittleEndian.PutUint64(e.value, uint64(sum))       //nolint:gosec // see above
	e.version = h.next()
	h.sweep(s, now, 2)
	return sum, OK
}

// Keys returns the keys that begin with prefix, in no order. It looks at all keys, shard by shard.
func (s *Store) Keys(now int64, prefix string) (keys []string) {
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for k := range h.entries {
			if e := &h.entries[k]; !e.expired(now) && strings.HasPrefix(e.key, prefix) {
				keys = append(keys, e.key)
			}
		}
		h.mu.Unlock()
	}
	return keys
}

// Expire frees what has expired, and returns how many keys that were. Operations do it on their way; this is for stores
// that nobody writes to for long.
func (s *Store) Expire(now int64) (n int) {
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		was := len(h.entries)
		h.hand = 0
		h.sweep(s, now, was)
		n += was - len(h.entries)
		h.mu.Unlock()
	}
	return n
}

// Stats are a store's figures.
type Stats struct {
	Keys                       int // those that have expired and were not found yet are counted
	Bytes                      int64
	MaxBytes                   int64
	Full, Mismatched, TooLarge uint64 // operations that came to that
}

// Stats returns the figures of the moment.
func (s *Store) Stats() Stats {
	return Stats{Keys: s.Len(), Bytes: s.Bytes(), MaxBytes: s.maxBytes.Load(), Full: s.full.Load(), Mismatched: s.mismatched.Load(), TooLarge: s.tooLarge.Load()}
}

// Len is the number of keys, those that have expired and were not found yet included.
func (s *Store) Len() (n int) {
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		n += len(h.entries)
		h.mu.Unlock()
	}
	return n
}

// Bytes is what the keys take, as Options.MaxBytes counts it.
func (s *Store) Bytes() int64 { return s.bytes.Load() }
