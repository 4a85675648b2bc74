// Package wire reads HTTP/1 messages from a connection of an event loop: heads and bodies by package http1, bytes by
// package netloop, with one buffer between them. It is the one place where parsing meets parking.
package wire

import (
	"errors"
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Stream carries bytes; Read and Write park the task. A netloop.Conn is one, and so is TLS on top of it.
type Stream interface {
	Read(t *netloop.Task, b []byte) (int, error)
	Write(t *netloop.Task, b []byte) (int, error)
}

// Waiter is a Stream that can also be asked what is there without parking, and waited for without a buffer.
type Waiter interface {
	Stream
	TryRead(b []byte) (int, error)      // 0 and nil: there is nothing to read now
	WaitReadable(t *netloop.Task) error // parks until Read may return at once
	Quiet() bool                        // nothing can be read, as far as is known without a system call
}

// Reader is the reading half of a connection while messages are read from it. It takes a buffer of its loop when there is
// something to read, and gives it back in Rest and Close: the one that was given back last is in the processor's cache,
// and a request that waits holds none. The zero Reader is closed.
type Reader struct {
	Body http1.BodyReader // the body under way; see StartBody

	stream Stream
	waiter Waiter // stream, if it is one
	loop   *netloop.Loop
	limits *http1.Limits
	buf    []byte
	r, w   int
	total  uint64 // bytes read from the stream
}

// Open makes the reader read from s with buffers of l.
func (r *Reader) Open(s Stream, l *netloop.Loop, limits *http1.Limits) {
	r.stream, r.loop, r.limits = s, l, limits
	r.waiter, _ = s.(Waiter)
	r.r, r.w, r.total = 0, 0, 0
}

// Opened says whether the reader reads from something.
func (r *Reader) Opened() bool { return r.stream != nil }

// Close gives the buffer back; what it still holds is lost.
func (r *Reader) Close() {
	r.r, r.w, r.total = 0, 0, 0
	r.Rest()
	r.stream, r.waiter = nil, nil
}

// Rest gives the buffer back if nothing is in it, before a long wait. What Buffered or a body's pieces returned is no
// longer valid.
func (r *Reader) Rest() {
	if r.buf != nil && r.r == r.w {
		r.loop.Recycle(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}

// Buffered is what was read from the stream and not consumed. It is valid until the next call that reads.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// Consume takes n bytes off the front of Buffered.
func (r *Reader) Consume(n int) {
	if r.r += n; r.r == r.w {
		r.r, r.w = 0, 0
	}
}

// Total is how many bytes were read from the stream since Open.
func (r *Reader) Total() uint64 { return r.total }

// space makes room for at least one more byte: it moves what is there to the front, or grows the buffer up to what a
// head may need. A message that needs more has failed its limits before.
func (r *Reader) space() []byte {
	if r.w == len(r.buf) {
		if r.buf == nil {
			r.buf = r.loop.Buffer()
		} else if r.r > 0 {
			copy(r.buf, r.buf[r.r:r.w])
			r.r, r.w = 0, r.w-r.r
		} else {
			bigger := make([]byte, 2*len(r.buf))
			copy(bigger, r.buf[:r.w])
			r.loop.Recycle(r.buf)
			r.buf = bigger
		}
	}
	return r.buf[r.w:]
}

// Fill reads once more from the stream, and parks until there is something.
func (r *Reader) Fill(t *netloop.Task) error {
	if r.buf == nil && r.waiter != nil {
		if err := r.waiter.WaitReadable(t); err != nil {
			return err
		}
	}
	n, err := r.stream.Read(t, r.space())
	r.w += n
	r.total += uint64(n)
	if n > 0 {
		return nil
	}
	return err
}

// TryFill is Fill without parking; c is the stream. False and nil mean that nothing is there.
func (r *Reader) TryFill(c Waiter) (bool, error) {
	if c.Quiet() {
		return false, nil
	}
	n, err := c.TryRead(r.space())
	r.w += n
	r.total += uint64(n)
	return n > 0, err
}

// StartBody makes what follows in the stream the body of a message with this framing; src is who sends it.
func (r *Reader) StartBody(f http1.Framing, src fault.Source) { r.Body.Init(f, r.limits, src) }

// BufferedBody returns the next piece of the body as far as it has been read, without reading more: empty if the
// buffer holds none of it, or the body is done.
func (r *Reader) BufferedBody() ([]byte, error) {
	for r.r < r.w && !r.Body.Done() {
		data, n, err := r.Body.Next(r.buf[r.r:r.w])
		r.Consume(n)
		if err != nil || len(data) > 0 {
			return data, err
		}
		if n == 0 {
			break
		}
	}
	return nil, nil
}

// NextBody returns the next piece of the body, valid until the next call, and parks until there is one. It returns
// io.EOF after the last. A body that is cut off is the error that http1.BodyReader.EOF says; errors of the stream are
// returned as they are.
func (r *Reader) NextBody(t *netloop.Task) ([]byte, error) {
	for {
		if data, err := r.BufferedBody(); len(data) > 0 || err != nil {
			return data, err
		}
		if r.Body.Done() {
			return nil, io.EOF
		}
		if err := r.Fill(t); err != nil {
			if !errors.Is(err, io.EOF) {
				return nil, err
			}
			end := r.Body.EOF
			if c, ok := r.stream.(interface{ Cut() bool }); ok && c.Cut() {
				end = r.Body.Cut
			}
			if err := end(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
	}
}
