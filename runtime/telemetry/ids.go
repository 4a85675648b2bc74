package telemetry

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
)

// ids makes trace and span ids for one loop. They cannot be guessed from one another, so that a client that learns
// its own trace's id learns nothing of others; and they need no lock, because no other loop uses the generator.
type ids struct{ source *rand.ChaCha8 }

func newIDs() ids {
	var seed [32]byte
	crand.Read(seed[:]) // never fails: it ends the process rather than return an error
	return ids{rand.NewChaCha8(seed)}
}

func (g ids) trace() (id [16]byte) {
	for {
		binary.BigEndian.PutUint64(id[:8], g.source.Uint64())
		binary.BigEndian.PutUint64(id[8:], g.source.Uint64())
		if id != [16]byte{} {
			return id
		}
	}
}

func (g ids) span() (id [8]byte) {
	for {
		binary.BigEndian.PutUint64(id[:], g.source.Uint64())
		if id != [8]byte{} {
			return id
		}
	}
}
