package proxywasm

import "encoding/binary"

// pairs reads a serialized map: u32 n, n times the lengths of a name and a value, then both, each with a zero behind it.
type pairs struct {
	sizes, data []byte
	left        int
}

// readPairs checks a serialized map. One that is not well-formed, or too large, is not ok; no bytes, or a zero, are an
// empty one.
func readPairs(b []byte) (p pairs, ok bool) {
	if len(b) == 0 || len(b) == 1 && b[0] == 0 {
		return pairs{}, true
	}
	if len(b) < 4 || len(b) > maxPairsBytes {
		return pairs{}, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxPairs || uint64(len(b)) < 4+8*uint64(n) {
		return pairs{}, false
	}
	p = pairs{sizes: b[4 : 4+8*n], data: b[4+8*n:], left: int(n)}
	rest := p.data
	for i := range 2 * n {
		size := binary.LittleEndian.Uint32(p.sizes[4*i:])
		if uint64(size)+1 > uint64(len(rest)) || rest[size] != 0 {
			return pairs{}, false
		}
		rest = rest[size+1:]
	}
	return p, true
}

// next returns the next pair.
func (p *pairs) next() (name, value []byte, ok bool) {
	if p.left == 0 {
		return nil, nil, false
	}
	p.left--
	n, v := binary.LittleEndian.Uint32(p.sizes), binary.LittleEndian.Uint32(p.sizes[4:])
	name = p.data[:n:n]
	value = p.data[n+1 : n+1+v : n+1+v]
	p.sizes, p.data = p.sizes[8:], p.data[n+v+2:]
	return name, value, true
}

// pairWriter writes a serialized map.
type pairWriter struct {
	b     []byte
	sizes int // where the sizes begin
	n     int
}

// begin starts a map of n pairs at the end of b.
func (w *pairWriter) begin(b []byte, n int) {
	w.sizes, w.n = len(b)+4, 0
	b = binary.LittleEndian.AppendUint32(b, uint32(n)) //nolint:gosec // a few
	for range 8 * n {
		b = append(b, 0)
	}
	w.b = b
}

// add adds a pair. Names are in lower case.
func (w *pairWriter) add(name, value []byte) {
	at := w.b[w.sizes+8*w.n:]
	binary.LittleEndian.PutUint32(at, uint32(len(name)))      //nolint:gosec // of a message
	binary.LittleEndian.PutUint32(at[4:], uint32(len(value))) //nolint:gosec // of a message
	w.n++
	for _, c := range name {
		w.b = append(w.b, lower(c))
	}
	w.b = append(append(append(w.b, 0), value...), 0)
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
