package compress

import (
	"io"

	"wasmgate/runtime/body"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Encoder is a body with a coding, made of one without. It is used by one task at a time, and again for further bodies; the
// zero value is ready for Begin. What has gone in is sent as soon as nothing more is at hand, if the body flushes;
// otherwise the encoder keeps it until it has enough.
type Encoder struct {
	source  body.Source
	shelf   *shelf
	w       writer // nil: there is none any more
	coding  Coding
	level   Level
	flushes bool

	rest    []byte // of a piece that is being encoded
	last    bool   // it is the last
	pending bool   // something went in since the last flush
	turn    int    // bytes encoded since others had their turn
	out     []byte

	In, Out int64 // bytes before and after
}

var _ body.Source = (*Encoder)(nil)

// Begin makes the encoder the body that source becomes by the coding c, which r.Answer has chosen. Whoever calls it calls
// Close at the end.
func (e *Encoder) Begin(l *netloop.Loop, r *Rules, c Coding, source body.Source, flushes bool) {
	e.source, e.shelf, e.coding, e.level, e.flushes = source, r.Pools.of(l), c, r.Level, flushes
	e.rest, e.last, e.pending, e.turn, e.In, e.Out = nil, false, false, 0, 0, 0
	e.w = e.shelf.takeWriter(c, r.Level, (*sink)(e))
}

// keepOut bounds the memory that is kept for the next body, in bytes.
const keepOut = 64 << 10

// Close gives back what was lent, at any time. It may be called for an encoder that was never begun, and again.
func (e *Encoder) Close() {
	if e.w != nil {
		e.shelf.putWriter(e.coding, e.level, e.w)
		e.w = nil
	}
	e.source, e.rest, e.coding, e.In, e.Out = nil, nil, Identity, 0, 0
	if cap(e.out) > keepOut {
		e.out = nil
	}
}

// Coding is the coding of a body that was begun; Identity after Close.
func (e *Encoder) Coding() Coding { return e.coding }

// sink is where the encoder of the library writes to.
type sink Encoder

func (s *sink) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

// Next is body.Source's.
func (e *Encoder) Next(t *netloop.Task) ([]byte, error) {
	for e.out = e.out[:0]; e.w != nil && len(e.out) == 0; {
		if e.turn >= slice {
			e.turn = 0
			t.Yield()
		}
		if len(e.rest) == 0 && !e.last {
			if err := e.fetch(t); err != nil {
				return nil, err
			}
		}
		e.encode()
	}
	if len(e.out) == 0 {
		return nil, io.EOF
	}
	e.Out += int64(len(e.out))
	return e.out, nil
}

// Ready is body.Source's. It flushes where Next would have to wait.
func (e *Encoder) Ready() ([]byte, error) {
	for e.out = e.out[:0]; e.w != nil && len(e.out) == 0 && e.turn < slice; e.encode() {
		if len(e.rest) > 0 || e.last {
			continue
		}
		data, err := e.source.Ready()
		if err != nil {
			return nil, err
		}
		if e.rest, e.last = data, e.source.Done(); len(data) == 0 && !e.last {
			e.flush()
			break
		}
	}
	e.Out += int64(len(e.out))
	return e.out, nil
}

// fetch takes the next piece of the source, or flushes where it would have to be waited for.
func (e *Encoder) fetch(t *netloop.Task) error {
	data, err := e.source.Ready()
	if err == nil && len(data) == 0 && !e.source.Done() {
		if e.flush(); len(e.out) > 0 {
			return nil
		}
		if data, err = e.source.Next(t); err == io.EOF {
			e.last = true
			return nil
		}
	}
	if err != nil {
		return err
	}
	e.rest, e.last = data, e.source.Done()
	return nil
}

// flush has all that went in come out, if the body flushes.
func (e *Encoder) flush() {
	if e.flushes && e.pending {
		e.pending = false
		_ = e.w.Flush() // sink takes everything
	}
}

// step is how much an encoder is given at a time, in bytes: filters may hand on a body in one piece.
const step = 16 << 10

// encode takes a step with what was fetched, and ends the body behind the last of it.
func (e *Encoder) encode() {
	if n := min(len(e.rest), step); n > 0 {
		_, _ = e.w.Write(e.rest[:n]) // sink takes everything
		e.rest, e.pending = e.rest[n:], true
		e.In += int64(n)
		e.turn += n
	}
	if e.last && len(e.rest) == 0 {
		_ = e.w.Close()
		e.shelf.putWriter(e.coding, e.level, e.w)
		e.w = nil
	}
}

// Done is body.Source's.
func (e *Encoder) Done() bool { return e.w == nil }

// Trailers is body.Source's. Digests among them do not hold any more.
func (e *Encoder) Trailers() *http1.Head {
	h := e.source.Trailers()
	if h != nil {
		WithoutDigests(h)
	}
	return h
}

// AppendAll appends a whole body with the coding c, which r.Answer has chosen. It parks t after each slice. In and Out are there
// until Close.
func (e *Encoder) AppendAll(t *netloop.Task, r *Rules, c Coding, dst, data []byte) []byte {
	e.Begin(t.Loop(), r, c, nil, false)
	e.rest, e.last, e.out = data, true, e.out[:0]
	for e.w != nil {
		if e.turn >= slice {
			e.turn = 0
			t.Yield()
		}
		e.encode()
	}
	e.Out = int64(len(e.out))
	return append(dst, e.out...)
}
