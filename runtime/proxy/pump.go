package proxy

import (
	"errors"
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wire"
)

type pumpState uint8

const (
	pumpIdle    pumpState = iota // there is nothing to pump
	pumpRunning                  // the request's body is on its way
	pumpDone                     // the body was sent to its end
	pumpFailed                   // it was not
	pumpStopped                  // the answer was whole before the body was sent
)

// pump sends the rest of a request's body, in a task of its own, while the flight's task waits for the answer. Both
// are tasks of one loop, so they share its fields without locks.
type pump struct {
	state    pumpState
	stopping bool
	kept     bool         // what was sent of the body is in Flight.body
	doneAt   int64        // when the request had been sent
	err      *fault.Error // the client's mistake or absence, or a filter's error, if that is what ended it
	waiter   *netloop.Task
	flight   *Flight
	run      func(*netloop.Task) // made once
	frame    []byte
	up       *netloop.Conn
	stream   wire.Stream
}

func (p *pump) start(t *netloop.Task, f *Flight) {
	if p.run == nil {
		p.run = p.loop
	}
	p.state, p.stopping, p.err, p.flight = pumpRunning, false, nil, f
	p.up, p.stream = f.up.Net, f.up.Stream
	t.Loop().Go(p.run)
}

func (p *pump) loop(t *netloop.Task) {
	err := p.move(t)
	p.doneAt = t.Loop().Now()
	switch {
	case err == nil:
		p.state = pumpDone
	case p.stopping:
		p.state = pumpStopped
	default:
		p.state = pumpFailed
		var fe *fault.Error
		if errors.As(err, &fe) {
			p.err = fe
			p.cut() // the upstream must not take a cut-off body for a whole one
		}
	}
	if p.waiter != nil {
		p.waiter.Wake()
	}
}

// cut ends what the request is sent on.
func (p *pump) cut() {
	if s := p.flight.stream; s != nil {
		s.Cancel()
		return
	}
	_ = p.up.Close()
}

// move sends pieces of the body until its end. A *fault.Error is the client's doing, or a filter's; other errors are the
// upstream's, which may still have an answer to be read.
func (p *pump) move(t *netloop.Task) error {
	f := p.flight
	if f.stream != nil {
		return p.frames(t)
	}
	chunked := f.framing.Kind == http1.Chunked
	for !p.stopping {
		data, err := f.source.Next(t)
		if p.stopping {
			return netloop.ErrClosed
		}
		if err == io.EOF {
			if !chunked {
				return nil
			}
			p.frame = http1.AppendLastChunk(p.frame[:0], f.source.Trailers())
			return p.write(t, p.frame)
		}
		if err != nil {
			return err
		}
		if chunked {
			p.frame = appendBody(p.frame[:0], data, true)
			data = p.frame
		}
		if err := p.write(t, data); err != nil {
			return err
		}
	}
	return netloop.ErrClosed
}

func (p *pump) write(t *netloop.Task, b []byte) error {
	f := p.flight
	p.up.SetWriteDeadline(f.until(t.Loop(), f.Options.IdleRead))
	n, err := p.stream.Write(t, b)
	f.up.Facts.BytesOut += uint64(n)
	return err
}

// stop ends the pump, if it still runs: the answer is complete, and what is left of the request has no reader.
func (p *pump) stop(t *netloop.Task, f *Flight) {
	if p.state != pumpRunning {
		return
	}
	p.stopping, p.waiter = true, t
	now := t.Loop().Now()
	switch {
	case f.Client != nil:
		f.Client.SetReadDeadline(now + 1)
	case f.Feed != nil:
		f.Feed.Stop()
	}
	if f.stream != nil {
		f.stream.Stop()
	} else {
		p.up.SetWriteDeadline(now + 1)
	}
	for p.state == pumpRunning { // when the group closes, its connections do, and with them the pump
		t.Park()
	}
	p.waiter = nil
	if f.Client != nil {
		f.Client.SetReadDeadline(0)
	}
}
