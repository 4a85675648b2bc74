package wire

import "wasmgate/runtime/netloop"

// Scratch is where a message is put together before it is written. It borrows one of the loop's buffers for that time,
// so that the memory is the one that was used just now; what has grown beyond such a buffer it keeps for the next large
// message. The zero Scratch is ready.
type Scratch struct{ grown []byte }

// keepGrown bounds what is kept of a large message's memory, in bytes.
const keepGrown = 64 << 10

// Take returns an empty slice to append to. Give it back before the next Take.
func (s *Scratch) Take(l *netloop.Loop) []byte {
	if s.grown != nil {
		return s.grown[:0]
	}
	return l.Buffer()[:0]
}

// Give gives back what Take returned, as it is now.
func (s *Scratch) Give(l *netloop.Loop, b []byte) {
	switch {
	case cap(b) == netloop.BufferSize:
		l.Recycle(b)
	case cap(b) <= keepGrown:
		s.grown = b
	default:
		s.grown = nil
	}
}
