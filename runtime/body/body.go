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
	through  int  // how many of the stages what is held has passed
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
	b.through = 0
	b.begun, b.changed, b.whole, b.bare, b.handed, b.finished = false, false, false, false, false, false
	b.trailers.Reset()
}

// Hold is exchange.Body's. What is held has passed the stages of the filters before.
func (b *Body) Hold(most int) (held []byte, whole bool, err *fault.Error) {
	if err := b.catchUp(); err != nil {
		return b.held, false, err
	}
	for !b.whole && len(b.held) <= most {
		b.begun = true
		data, last, err := b.fetch(b.task)
		if err == nil {
			data, err = b.pass(b.task, 0, data, last)
		}
		if err != nil {
			return b.held, false, fault.From(err)
		}
		b.held, b.whole = append(b.held, data...), last
	}
	return b.held, b.whole, nil
}

// catchUp has what is held pass the stages that were added since.
func (b *Body) catchUp() *fault.Error {
	if b.through < len(b.stages) && (len(b.held) > 0 || b.whole) {
		data, err := b.pass(b.task, b.through, b.held, b.whole)
		if err != nil {
			return fault.From(err)
		}
		b.held = append(b.held[:0], data...)
	}
	b.through = len(b.stages)
	return nil
}

// fetch is the next piece of the source, and whether it is the last.
func (b *Body) fetch(t *netloop.Task) (data []byte, last bool, err error) {
	data, err = b.source.Next(t)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	if last = err == io.EOF || b.source.Done(); last {
		b.trailers.CopyFrom(b.source.Trailers())
	}
	return data, last, nil
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

// Framing is how the body is to be sent. Its length is known if filters left it as it was, or hold all of it, or have promised
// to leave it: they are held to that from then on.
func (b *Body) Framing() http1.Framing {
	f := b.framing
	switch {
	case f.Kind == http1.NoBody && len(b.held) == 0:
		return f // with the length that an answer to HEAD speaks of
	case b.measured():
		for _, s := range b.stages {
			s.(exchange.Measured).Promise()
		}
		return f
	case b.through < len(b.stages) || !b.whole && (b.changed || len(b.stages) > 0):
		return http1.Framing{Kind: http1.Chunked}
	case b.whole && b.trailers.Len() > 0:
		return http1.Framing{Kind: http1.Chunked}
	case b.whole:
		return http1.Framing{Kind: http1.Length, Length: int64(len(b.held))}
	}
	return f
}

// measured says whether the body has stages, and a length that they leave as it was.
func (b *Body) measured() bool {
	if len(b.stages) == 0 || b.changed || b.framing.Kind != http1.Length || b.trailers.Len() > 0 {
		return false
	}
	for _, s := range b.stages {
		if m, ok := s.(exchange.Measured); !ok || !m.Measured() {
			return false
		}
	}
	return true
}

// Done says whether all of it was given out.
func (b *Body) Done() bool {
	switch {
	case b.finished:
		return true
	case b.through < len(b.stages) || !b.handed && len(b.held) > 0:
		return false
	}
	return b.whole || len(b.stages) == 0 && b.source.Done()
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

func (b *Body) next(t *netloop.Task) (data []byte, err error) {
	last := b.whole
	if !b.handed && len(b.held) > 0 || b.whole {
		if !b.handed {
			data = b.held
		}
		b.handed = true
		data, err = b.pass(t, b.through, data, last)
	} else if data, last, err = b.fetch(t); err == nil {
		data, err = b.pass(t, 0, data, last)
	}
	b.finished = err == nil && last
	return data, err
}

// Ready returns the next piece as far as it is at hand: empty if it is not, at the end, and where stages might park.
func (b *Body) Ready() ([]byte, error) {
	switch {
	case b.through < len(b.stages):
		return nil, nil
	case !b.handed && len(b.held) > 0:
		b.handed = true
		return b.held, nil
	case b.whole || len(b.stages) > 0:
		return nil, nil
	}
	data, err := b.source.Ready()
	if err == nil && b.source.Done() {
		b.trailers.CopyFrom(b.source.Trailers())
	}
	return data, err
}

// pass gives a piece to the stages from a place on, each of which gets what the one before it made of it.
func (b *Body) pass(t *netloop.Task, from int, data []byte, last bool) ([]byte, error) {
	for i := from; i < len(b.stages); i++ {
		out, err := b.stages[i].Chunk(t, b.out[i%2][:0], data, last, &b.trailers)
		b.out[i%2] = out
		if err != nil {
			return nil, err
		}
		data = out
	}
	return data, nil
}
