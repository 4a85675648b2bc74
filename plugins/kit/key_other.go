//go:build !wasip1

package kit

// Key is b as the key of a store: a copy, which the SDK's Tester can keep. In a module it is a view of b.
func Key(b []byte) string { return string(b) }
