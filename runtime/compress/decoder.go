package compress

import (
	"errors"
	"io"

	"wasmgate/runtime/body"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Encoded returns the coding that a message's body can be freed of: Identity if it has none, one that is not known, or more
// than one.
func Encoded(h *http1.Head) Coding {
	i := h.FindID(0, http1.FieldContentEncoding)
	if i < 0 || h.FindID(i+1, http1.FieldContentEncoding) >= 0 || h.FindID(0, http1.FieldContentRange) >= 0 {
		return Identity
	}
	c, _ := Named(h.Value(i))
	return c
}

// Decoder is a body without the coding that it came with. Nothing is read, and nothing lent, before its first Next. It is
// used by one task at a time, and again for further bodies; the zero value is ready for Begin.
type Decoder struct {
	source body.Source
	loop   *netloop.Loop
	shelf  *shelf
	limits *Limits
	coding Coding
	from   fault.Source

	t      *netloop.Task // that Next runs on
	r      reader        // nil: not yet, or not any more
	weight int64
	buf    []byte // one of the loop's
	piece  []byte // of the source, as far as it was not taken
	err    error  // the source's, or what the body ended with
	turn   int    // bytes since others had their turn

	In, Out int64 // bytes before and after
}

var _ body.Source = (*Decoder)(nil)

// Begin makes the decoder what is left of source without the coding c. from is who sends the body: a client is answered 413
// for one over the limits and 400 for one that is broken; an upstream, 502. Whoever calls it calls Close at the end.
func (d *Decoder) Begin(l *netloop.Loop, limits *Limits, c Coding, source body.Source, from fault.Source) {
	*d = Decoder{source: source, loop: l, shelf: limits.Pools.of(l), limits: limits, coding: c, from: from}
}

// Close gives back what was lent, at any time. It may be called for a decoder that was never begun, and again.
func (d *Decoder) Close() {
	d.giveBack()
	d.source, d.piece, d.t, d.In, d.Out = nil, nil, nil, 0, 0
}

// Coding is the coding that the body came with.
func (d *Decoder) Coding() Coding { return d.coding }

func (d *Decoder) giveBack() {
	if d.r != nil {
		d.shelf.putReader(d.coding, d.r, d.weight)
		d.r = nil
	}
	if d.buf != nil {
		d.loop.Recycle(d.buf)
		d.buf = nil
	}
}

// Next is body.Source's. Its pieces have at most netloop.BufferSize bytes.
func (d *Decoder) Next(t *netloop.Task) ([]byte, error) {
	if d.t = t; d.err == nil && d.turn >= slice {
		d.turn = 0
		t.Yield()
	}
	for d.err == nil {
		if d.r == nil {
			if d.err = d.open(); d.err != nil {
				break
			}
		}
		n, err := d.r.Read(d.buf)
		if err != nil && d.err == nil { // else the source has failed, and the library speaks of that
			d.err = d.verdict(err)
		}
		d.Out += int64(n)
		d.turn += n
		if err := d.fits(); err != nil {
			d.err = err
			break
		}
		if n > 0 {
			return d.buf[:n], nil
		}
	}
	d.giveBack()
	return nil, d.err
}

// open has the first bytes come, by which the decoder's memory is known, and takes one.
func (d *Decoder) open() error {
	if err := d.fill(); err != nil {
		return err // io.EOF: what is empty is so without a coding too
	}
	d.weight = heft(d.coding, d.piece)
	if !d.limits.Pools.mayDecode(d.shelf, d.weight) {
		return fault.New(fault.Overloaded, fault.Gateway, 503, "the bodies that are being decompressed take all the memory that they may (limits.compression_memory)")
	}
	d.buf = d.loop.Buffer()
	d.r = d.shelf.takeReader(d.coding, d.weight)
	if err := d.r.reset((*raw)(d), d.weight); err != nil && d.err == nil {
		return d.verdict(err)
	}
	return d.err
}

// fill waits for bytes of the source.
func (d *Decoder) fill() error {
	for len(d.piece) == 0 {
		data, err := d.source.Next(d.t)
		if err != nil {
			if err != io.EOF {
				d.err = err
			}
			return err
		}
		d.piece = data
	}
	return nil
}

// verdict is what an error of the library means.
func (d *Decoder) verdict(err error) error {
	switch {
	case err == io.EOF:
		return d.rest()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return d.fail(fault.Malformed, 400, "ends too early")
	}
	return d.fail(fault.Malformed, 400, "is broken: %s", err)
}

// rest is io.EOF if nothing follows a body's end.
func (d *Decoder) rest() error {
	if err := d.fill(); err != nil {
		return err
	}
	return d.fail(fault.Malformed, 400, "has bytes behind its end")
}

// fits is an error if more has come out than may.
func (d *Decoder) fits() error {
	switch {
	case d.limits.Size > 0 && d.Out > d.limits.Size:
		return d.fail(fault.BodyTooLarge, 413, "is over %d bytes without it (decompress.max_size)", d.limits.Size)
	case d.limits.Ratio > 0 && d.Out > ratioFree && d.Out/d.limits.Ratio > d.In:
		return d.fail(fault.BodyTooLarge, 413, "is over %d times as large without it (decompress.max_ratio)", d.limits.Ratio)
	}
	return nil
}

func (d *Decoder) fail(kind fault.Kind, status int, detail string, args ...any) error {
	whose := "the request's"
	if d.from == fault.Upstream {
		whose, status = "the answer's", 502
	}
	return fault.New(kind, d.from, status, whose+" body, in the coding "+d.coding.String()+", "+detail, args...)
}

// Ready is body.Source's. What a decoder can do without waiting is not known before it has been done.
func (d *Decoder) Ready() ([]byte, error) { return nil, nil }

// Done is body.Source's.
func (d *Decoder) Done() bool { return d.err == io.EOF && d.r == nil }

// Trailers is body.Source's. Digests among them do not hold any more.
func (d *Decoder) Trailers() *http1.Head {
	h := d.source.Trailers()
	if h != nil {
		WithoutDigests(h)
	}
	return h
}

// raw is what the decoder of the library reads: it parks in the source.
type raw Decoder

func (r *raw) Read(p []byte) (int, error) {
	if err := (*Decoder)(r).fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.piece)
	r.piece = r.piece[n:]
	r.In += int64(n)
	return n, nil
}
