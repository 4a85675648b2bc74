// Package body holds a message's body back while filters look at it, and has it changed on its way: it is
// exchange.Body. Where it comes from and where it goes is the business of its users.
//
// Whoever sends the body takes it from Next and Ready, framed as Framing says: what is held comes first, then the rest of
// the source, each piece through all stages. A body that no filter has touched is not worth the way through here; see
// Touched.
package body

import (
	"io"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Source is where a body comes from. A piece is valid until the next call.
type Source interface {
	Next(t *netloop.Task) ([]byte, error) // parks; io.EOF after the last piece
	Ready() ([]byte, error)               // Next as far as it is at hand: empty if it is not, or at the end
	Done() bool                           // all of it was returned
	Trailers() *http1.Head                // those that came with it, after its end
}

// Body is a body of one message. It is used by one task at a time, and again for further messages. The zero value must be
// made ready by Init or InitHeld.
type Body struct {
	task    *netloop.Task
	source  Source // nil: everything is held
	framing http1.Framing

	held     []byte
	begun    bool // the source was read from
	changed  bool // the length that the framing says is no longer true
	whole    bool // all of it is held
	bare     bool // it is to stay empty
	handed   bool // what is held has been given to who sends it
	finished bool // and everything else, with the last call of the stages
	stages   []exchange.Stage
	trailers http1.Head
	out      [2][]byte // what stages have written, in turn
}

var (
	_ exchange.Body = (*Body)(nil)
	_ Source        = (*Body)(nil)
)

// Init makes the body one that comes from a source. t is the task that filters run on. bare: none may be there, as in an
// answer to HEAD.
func (b *Body) Init(t *netloop.Task, source Source, framing http1.Framing, bare bool) {
	b.reset(t, framing)
	b.source, b.bare = source, bare
	b.whole = framing.Kind == http1.NoBody
}

// InitHeld makes the body one that is there already; it is copied. Without a length it is none if it is empty.
func (b *Body) InitHeld(t *netloop.Task, data []byte, framing http1.FramingKind) {
	b.reset(t, http1.Framing{Kind: framing, Length: -1})
	b.held, b.whole, b.begun = append(b.held, data...), true, true
}

// keep bounds the memory that is kept for the next message, in bytes.
const keep = 64 << 10

func (b *Body) reset(t *netloop.Task, framing http1.Framing) {
	for i := range b.out {
		if cap(b.out[i]) > keep {
			b.out[i] = nil
		}
	}
	if cap(b.held) > keep {
		b.held = nil
	}
	clear(b.stages)
	b.task, b.source, b.framing, b.held, b.stages = t, nil, framing, b.held[:0], b.stages[:0]
	b.begun, b.changed, b.whole, b.bare, b.handed, b.finished = false, false, false, false, false, false
	b.trailers.Reset()
}

// Hold is exchange.Body's.
func (b *Body) Hold(most int) (held []byte, whole bool, err *fault.Error) {
	for !b.whole && len(b.held) <= most {
		b.begun = true
		data, err := b.source.Next(b.task)
		switch {
		case err == io.EOF:
			b.whole = true
		case err != nil:
			return b.held, false, fault.From(err)
		}
		b.held = append(b.held, data...)
		if b.source.Done() {
			b.whole = true
		}
		if b.whole {
			b.trailers.CopyFrom(b.source.Trailers())
		}
	}
	return b.held, b.whole, nil
}

// Replace is exchange.Body's.
func (b *Body) Replace(data []byte) {
	if b.bare {
		return
	}
	b.begun, b.changed = true, true
	b.held = append(b.held[:0], data...)
}

// Stage is exchange.Body's.
func (b *Body) Stage(s exchange.Stage) {
	if b.framing.Kind == http1.NoBody {
		return
	}
	b.begun = true
	b.stages = append(b.stages, s)
}

// Trailers are those of a body that is held whole, or has been given out; nil before.
func (b *Body) Trailers() *http1.Head {
	if !b.whole && !b.Done() {
		return nil
	}
	return &b.trailers
}

// Ended is exchange.Body's.
func (b *Body) Ended() bool { return b.whole }

// Touched says whether a filter asked for the body: otherwise it can be taken from the source directly.
func (b *Body) Touched() bool { return b.begun }

// Framing is how the body is to be sent. Its length is known if filters left it as it was, or hold all of it.
func (b *Body) Framing() http1.Framing {
	f := b.framing
	switch {
	case f.Kind == http1.NoBody && len(b.held) == 0:
		return f // with the length that an answer to HEAD speaks of
	case len(b.stages) > 0 || !b.whole && b.changed:
		return http1.Framing{Kind: http1.Chunked}
	case b.whole && b.trailers.Len() > 0:
		return http1.Framing{Kind: http1.Chunked}
	case b.whole:
		return http1.Framing{Kind: http1.Length, Length: int64(len(b.held))}
	}
	return f
}

// Done says whether all of it was given out.
func (b *Body) Done() bool {
	if b.finished {
		return true
	}
	return len(b.stages) == 0 && (b.handed || len(b.held) == 0) && (b.whole || b.source.Done())
}

// Next returns the next piece that is to be sent, and io.EOF after the last. It parks t.
func (b *Body) Next(t *netloop.Task) ([]byte, error) {
	for !b.Done() {
		data, err := b.next(t)
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			return data, nil
		}
	}
	return nil, io.EOF
}

func (b *Body) next(t *netloop.Task) ([]byte, error) {
	if !b.handed && len(b.held) > 0 {
		b.handed = true
		return b.staged(t, b.held, b.whole)
	}
	if b.whole {
		return b.staged(t, nil, true)
	}
	data, err := b.source.Next(t)
	last := err == io.EOF || err == nil && b.source.Done()
	if err != nil && err != io.EOF {
		return nil, err
	}
	if last {
		b.trailers.CopyFrom(b.source.Trailers())
	}
	return b.staged(t, data, last)
}

// Ready returns the next piece as far as it is at hand: empty if it is not, at the end, and where stages might park.
func (b *Body) Ready() ([]byte, error) {
	switch {
	case len(b.stages) > 0:
		return nil, nil
	case !b.handed && len(b.held) > 0:
		b.handed = true
		return b.held, nil
	case b.whole:
		return nil, nil
	}
	data, err := b.source.Ready()
	if err == nil && b.source.Done() {
		b.trailers.CopyFrom(b.source.Trailers())
	}
	return data, err
}

// staged gives a piece to the stages, each of which gets what the one before it made of it.
func (b *Body) staged(t *netloop.Task, data []byte, last bool) ([]byte, error) {
	for i, s := range b.stages {
		out, err := s.Chunk(t, b.out[i%2][:0], data, last, &b.trailers)
		b.out[i%2] = out
		if err != nil {
			return nil, err
		}
		data = out
	}
	b.finished = b.finished || last
	return data, nil
}
