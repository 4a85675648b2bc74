package wasmgate

import "wasmgate/sdk/abi"

// Store is a store of keys and values that all instances of the plugin share, and other plugins that are granted it: see
// Config.Store. It outlives instances and reloads, not the gateway. Each operation is atomic.
type Store uint32

// Version is the version of a value in a Store: different after each change of it. 0 is that of a key that is not there.
type Version uint32

// Store declares a store that the plugin uses. A configuration of the gateway that does not know or not grant it is refused.
func (c *Config) Store(name string) Store { return Store(declareName(&plugin.manifest.Stores, name)) }

// Get appends the value of a key to dst. version is 0 if the key is not there, or has expired.
func (s Store) Get(dst []byte, key string) (value []byte, version Version) {
	for {
		room := dst[len(dst):cap(dst)]
		v, n := abi.Unpack(hostKVGet(uint32(s), key, room))
		switch {
		case v == 0:
			return dst, 0
		case int(n) <= len(room):
			return dst[:len(dst)+int(n)], Version(v)
		}
		grown := make([]byte, len(dst), len(dst)+int(n))
		copy(grown, dst)
		dst = grown
	}
}

// Set sets a key, whatever it was, for ttl milliseconds; 0 is for ever. The error is a Result.
func (s Store) Set(key string, value []byte, ttl int64) error {
	_, err := s.set(key, value, 0, ttl)
	return err
}

// CompareAndSet sets a key if it has this version, which Get returned: with 0, if it is not there. It returns the new
// version, or with ErrMismatch the one that is there.
func (s Store) CompareAndSet(key string, value []byte, version Version, ttl int64) (Version, error) {
	return s.set(key, value, atVersion(version), ttl)
}

func atVersion(v Version) uint32 {
	if v == 0 {
		return abi.IfAbsent
	}
	return uint32(v)
}

func (s Store) set(key string, value []byte, version uint32, ttl int64) (Version, error) {
	r, v := abi.Unpack(hostKVSet(uint32(s), key, value, version, uint64(max(ttl, 0)))) //nolint:gosec // not negative
	return Version(v), resultError(r)
}

// Delete removes a key, whatever it was. The error is ErrAbsent if it was not there.
func (s Store) Delete(key string) error {
	r, _ := abi.Unpack(hostKVDelete(uint32(s), key, 0))
	return resultError(r)
}

// CompareAndDelete removes a key if it has this version, which Get returned.
func (s Store) CompareAndDelete(key string, version Version) error {
	r, _ := abi.Unpack(hostKVDelete(uint32(s), key, atVersion(version)))
	return resultError(r)
}

// Add adds to a counter and returns the sum. A key that is not there is 0, and expires ttl milliseconds after this call; 0
// is never. One that is there keeps its end, so that counters of a time span begin anew after it.
func (s Store) Add(key string, delta, ttl int64) (sum int64, err error) {
	r := hostKVAdd(uint32(s), key, delta, uint64(max(ttl, 0)), &theSum) //nolint:gosec // not negative
	return theSum, resultError(r)
}

// theSum is where the host writes the sum.
var theSum int64

func resultError(r uint32) error {
	if r == 0 {
		return nil
	}
	return Result(r)
}
