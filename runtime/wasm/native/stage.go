package native

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/sdk/abi"
)

// stage has the pieces of a message's body go through the guest. Each piece may see another instance.
type stage struct {
	plugin  *Plugin
	x       *exchange.Exchange
	place   int
	message uint32 // its phase's number is the same
	word    uint64 // what the guest left with the last piece
	before  uint64 // bytes before the next piece
	kept    []byte // what the guest wants to see again
	off     bool   // it failed, and its policy is to go on without it

	head    abi.PieceHead
	started int64 // of the trace's record
	fuel    int64
}

const (
	leastPiece = 1 << 10 // room that a piece has, or the arena grows
	mostPiece  = 64 << 10
)

// Chunk is exchange.Stage's.
func (s *stage) Chunk(t *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	for !s.off {
		if len(data) == 0 && !last {
			return dst, nil
		}
		var n int
		var err *fault.Error
		if dst, n, err = s.piece(t, dst, data, last, trailers); err != nil {
			return dst, err
		}
		if data = data[n:]; len(data) == 0 {
			last = false // it is done with
		}
	}
	return append(dst, data...), nil
}

// piece gives the guest as much of data as it has room for, and appends what becomes of it to dst.
func (s *stage) piece(t *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, int, *fault.Error) {
	p, l := s.plugin, t.Loop()
	k, phase := p.core.keeper, phaseRequestBody+s.message
	if s.started == 0 && s.x.Trace.Recorded() {
		s.started = l.Tick()
	}
	in, err := k.Get(t)
	if err != nil {
		return s.failed(l, dst, data, err)
	}
	g := in.Owner.(*guest)
	g.enter(p, t, s.x, phase, nil)
	n, err := s.show(g, l, data, last)
	var code abi.Code
	var value uint32
	if err == nil {
		if n == len(data) && last {
			g.trailers = trailers
		}
		p.core.cells[l.Index()].pieces.Add(1)
		code, value, err = g.run(p.core.functions.body, uint32(abi.PieceFixed+len(s.kept)+n), l) //nolint:gosec // some 128 KiB
	}
	var o pieceOutcome
	gone := g.gone
	if err == nil && !gone {
		dst, err = s.act(g, l, dst, data[:n], n == len(data) && last, code, value, &o)
	}
	s.fuel += g.spent
	g.leave()
	if err != nil && !o.reported {
		k.Discard(l, in, phaseNames[phase])
	} else {
		k.Put(l, in)
	}
	switch {
	case err == nil && gone:
		return dst, n, s.plugin.clientGone(s.x, phase, s.started, s.fuel)
	case o.denied != nil:
		return dst, n, o.denied
	case err != nil:
		return s.failed(l, dst, data, err)
	}
	s.before += uint64(n)
	if n == len(data) && last && s.started != 0 {
		s.record(l, "pieces", nil)
	}
	return dst, n, nil
}

// show writes the view of what was kept and of as much of data as there is room for, which is n bytes.
func (s *stage) show(g *guest, l *netloop.Loop, data []byte, last bool) (n int, err error) {
	used := abi.PieceFixed + len(s.kept)
	n = min(len(data), mostPiece)
	if room := int(g.arenas[abi.RequestArena].cap) - used; n > room {
		if n = min(n, max(room, leastPiece)); n > room {
			if err := g.resize(abi.RequestArena, uint32(used+n), "a piece of a body"); err != nil { //nolint:gosec // see piece
				return 0, err
			}
		}
	}
	s.head = abi.PieceHead{Message: s.message, Time: l.WallNow() / 1e6, Word: s.word, Before: s.before - uint64(len(s.kept))}
	if last && n == len(data) {
		s.head.Flags = abi.PieceLast
	}
	b := g.bytes(abi.RequestArena)
	abi.PutPiece(b, &s.head, len(s.kept)+n)
	copy(b[abi.PieceFixed:], s.kept)
	copy(b[used:], data[:n])
	return n, nil
}

// pieceOutcome is what came of a piece besides its bytes.
type pieceOutcome struct {
	reported bool         // with an error: the guest said it itself, and is fine
	denied   *fault.Error // the guest refuses the message
}

// act checks an answer and appends what goes on.
func (s *stage) act(g *guest, l *netloop.Loop, dst, data []byte, last bool, code abi.Code, value uint32, o *pieceOutcome) ([]byte, error) {
	switch code {
	case abi.CodeContinue:
		if value == 0 {
			dst = append(append(dst, s.kept...), data...)
			s.kept = s.kept[:0]
			return dst, nil
		}
	case abi.CodeReplace:
		b, err := g.answer(value)
		if err == nil {
			s.kept = s.kept[:0]
		}
		return append(dst, b...), err
	case abi.CodeOperations:
		return s.operations(g, l, dst, data, last, value)
	case abi.CodeDeny:
		if value == 0 {
			value = abi.DefaultDeny
		}
		if s.message == abi.MessageRequest && value >= 400 && value <= 599 {
			o.denied = fault.New(fault.Denied, fault.Plugin, int(value), "the plugin refuses the request's body")
			o.denied.Plugin, o.denied.Phase = g.core.options.Name, phaseNames[g.phase]
			return dst, nil
		}
		return dst, badAnswer("DENY with status %d of a piece; it is 400 to 599, and of a request", value)
	case abi.CodeError:
		text, err := g.text(value)
		if err == nil {
			o.reported = true
			err = badAnswer("the plugin reports: %s", text)
		}
		return dst, err
	}
	return dst, badAnswer("code %d with value %d is not an answer to a piece", code, value)
}

func (s *stage) operations(g *guest, l *netloop.Loop, dst, data []byte, last bool, n uint32) ([]byte, error) {
	list, err := g.answer(n)
	if err != nil {
		return dst, err
	}
	j := judge{x: s.x, g: &s.plugin.grants, m: g.core.manifest, phase: g.phase, piece: len(s.kept) + len(data)}
	if last {
		j.piece = -1
	}
	if err := j.check(list); err != nil {
		f := badAnswer("an operation list of %d bytes", n)
		f.Err = err
		return dst, f
	}
	keep := 0
	var instead []byte
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		if !ok || err != nil { // err: not after a check
			break
		}
		switch op.Kind {
		case abi.OpSetBody:
			instead = op.Value
		case abi.OpKeep:
			keep = int(op.Number) //nolint:gosec // bounded
		case abi.OpContext:
			s.word = op.Number
		case abi.OpAttribute:
			s.plugin.attribute(s.x, &op)
		case abi.OpLog:
			g.core.guestLine(l, uint32(op.Number), g.phase, op.Value, 0) //nolint:gosec // a level
		case abi.OpMetric:
			g.core.measure(l, op.Number, op.Float)
		}
	}
	s.kept = append(s.kept, data...)
	pass := s.kept[:len(s.kept)-keep]
	if j.change {
		dst = append(dst, instead...)
	} else {
		dst = append(dst, pass...)
	}
	s.kept = s.kept[:copy(s.kept, s.kept[len(pass):])]
	return dst, nil
}

// failed counts and logs a failure, and says what becomes of the message: it ends, or goes on without the guest.
func (s *stage) failed(l *netloop.Loop, dst, data []byte, err error) ([]byte, int, *fault.Error) {
	k := s.plugin.core
	f := k.fail(l, err, phaseRequestBody+s.message)
	if s.started != 0 {
		s.record(l, "error", f)
	}
	if k.options.OnError == FailClosed {
		return dst, 0, f
	}
	s.off = true
	return append(append(dst, s.kept...), data...), len(data), nil
}

// record notes for the trace what all pieces together were.
func (s *stage) record(l *netloop.Loop, word string, err *fault.Error) {
	s.plugin.record(s.x, l, phaseRequestBody+s.message, s.started, s.fuel, word, err)
	s.started = 0
}
