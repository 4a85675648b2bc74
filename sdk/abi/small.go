package abi

// The smaller structures: the answer to an outbound call, a piece of a body, a tick. Each begins with the length of its
// fixed part, as the view of an exchange does, and its offsets count from its own beginning.

// Offsets of an answer to an outbound call.
const (
	answerStatus   = 4
	answerFields   = 8
	answerTrailers = 12
	answerBody     = 16
	answerTook     = 24
	// AnswerFixed is the length of its fixed part; the fields follow it, 16 bytes each, then those of the trailers.
	AnswerFixed = 32
)

// AnswerSize is how long an answer is with a body of that length, and n fields, those of the trailers included, that have
// text bytes in their names and values.
func AnswerSize(body, n, text int) int { return AnswerFixed + 16*n + text + body }

// AnswerWriter writes an answer: first all fields, in their order, then those of the trailers, then Finish.
type AnswerWriter struct {
	buf   []byte
	table int
}

// Begin starts an answer at the end of dst, which is empty.
func (w *AnswerWriter) Begin(dst []byte, status, took uint32, fields, trailers int) {
	n := AnswerFixed + 16*(fields+trailers)
	for len(dst) < n {
		dst = append(dst, 0)
	}
	le.PutUint32(dst, AnswerFixed)
	le.PutUint32(dst[answerStatus:], status)
	le.PutUint32(dst[answerFields:], uint32(fields))     //nolint:gosec // bounded by the caller
	le.PutUint32(dst[answerTrailers:], uint32(trailers)) //nolint:gosec // see above
	le.PutUint64(dst[answerBody:], 0)
	le.PutUint32(dst[answerTook:], took)
	w.buf, w.table = dst, AnswerFixed
}

func (w *AnswerWriter) put(at int, s []byte) {
	le.PutUint64(w.buf[at:], uint64(len(s))<<32|uint64(len(w.buf)))
	w.buf = append(w.buf, s...)
}

// Field writes the next field. Its name should be in lower case.
func (w *AnswerWriter) Field(name, value []byte) {
	w.put(w.table, name)
	w.put(w.table+8, value)
	w.table += 16
}

// Finish writes the body and returns the answer.
func (w *AnswerWriter) Finish(body []byte) []byte {
	w.put(answerBody, body)
	return w.buf
}

// Answer reads an answer. Its strings are views into the same bytes. A guest may trust its host; others call Validate
// first.
type Answer []byte

// Status is its status.
func (a Answer) Status() int { return int(le.Uint32(a[answerStatus:])) }

// Took is how long the call took, in milliseconds.
func (a Answer) Took() uint32 { return le.Uint32(a[answerTook:]) }

// Body is its body; it is not nil.
func (a Answer) Body() []byte { return View(a).pair(answerBody) }

// Fields is how many fields it has, Trailers how many in its trailers.
func (a Answer) Fields() int { return int(le.Uint32(a[answerFields:])) }

// Trailers is how many fields its trailers have.
func (a Answer) Trailers() int { return int(le.Uint32(a[answerTrailers:])) }

// Field returns a field; those of the trailers follow the others.
func (a Answer) Field(i int) (name, value []byte) {
	at := int(le.Uint32(a)) + 16*i
	return View(a).pair(at), View(a).pair(at + 8)
}

// Validate checks that every string of the answer lies within it.
func (a Answer) Validate() error {
	v := View(a)
	if len(a) < AnswerFixed || v.Fixed() < AnswerFixed || v.Fixed() > len(a) ||
		uint64(le.Uint32(a[answerFields:]))+uint64(le.Uint32(a[answerTrailers:])) > uint64(len(a)-v.Fixed())/16 {
		return errView
	}
	within := func(at int) bool {
		return le.Uint32(a[at:]) != Absent && v.within(le.Uint32(a[at:]), le.Uint32(a[at+4:]))
	}
	if !within(answerBody) {
		return problem("answer: the body is out of range")
	}
	for i := range a.Fields() + a.Trailers() {
		if at := v.Fixed() + 16*i; !within(at) || !within(at+8) {
			return problem("answer: field ", i, " is out of range")
		}
	}
	return nil
}

// Offsets of a piece's view.
const (
	pieceMessage = 4
	pieceFlags   = 8
	pieceTime    = 16
	pieceWord    = 24
	pieceBefore  = 32
	pieceData    = 40
	// PieceFixed is the length of its fixed part.
	PieceFixed = 48
)

// PieceLast is the flag of the piece with which a body ends.
const PieceLast uint32 = 1 << 0

// PieceHead is what the view of a piece says besides the bytes.
type PieceHead struct {
	Message, Flags uint32
	Time           int64  // Unix milliseconds, coarse
	Word           uint64 // what CONTEXT left with the last piece; with the first one the exchange's context word
	Before         uint64 // bytes of the body before this piece
}

// PutPiece writes the fixed part of a piece's view with n bytes, which follow it, into b.
func PutPiece(b []byte, h *PieceHead, n int) {
	le.PutUint32(b, PieceFixed)
	le.PutUint32(b[pieceMessage:], h.Message)
	le.PutUint32(b[pieceFlags:], h.Flags)
	le.PutUint32(b[12:], 0)
	le.PutUint64(b[pieceTime:], uint64(h.Time)) //nolint:gosec // two's complement on purpose
	le.PutUint64(b[pieceWord:], h.Word)
	le.PutUint64(b[pieceBefore:], h.Before)
	le.PutUint64(b[pieceData:], uint64(n)<<32|PieceFixed) //nolint:gosec // bounded by the caller
}

// Piece reads the view of a piece.
type Piece []byte

// Head returns what the view says besides the bytes.
func (p Piece) Head() PieceHead {
	return PieceHead{
		Message: le.Uint32(p[pieceMessage:]), Flags: le.Uint32(p[pieceFlags:]), Time: int64(le.Uint64(p[pieceTime:])), //nolint:gosec // see PutPiece
		Word: le.Uint64(p[pieceWord:]), Before: le.Uint64(p[pieceBefore:]),
	}
}

// Data is the piece itself.
func (p Piece) Data() []byte { return View(p).pair(pieceData) }

// Validate checks that the bytes lie within the view.
func (p Piece) Validate() error {
	if len(p) < PieceFixed || View(p).Fixed() < PieceFixed || !View(p).within(le.Uint32(p[pieceData:]), le.Uint32(p[pieceData+4:])) {
		return errView
	}
	return nil
}

// Offsets of a tick's view.
const (
	tickTime = 8
	tickSeed = 16
	// TickFixed is the length of its fixed part.
	TickFixed = 24
)

// AppendTickView appends the view of a tick, which is its fixed part.
func AppendTickView(dst []byte, time int64, seed uint64) []byte {
	dst = le.AppendUint64(dst, TickFixed)
	dst = le.AppendUint64(dst, uint64(time)) //nolint:gosec // two's complement on purpose
	return le.AppendUint64(dst, seed)
}

// Tick reads the view of a tick.
type Tick []byte

// Time is the time in Unix milliseconds, coarse.
func (t Tick) Time() int64 { return int64(le.Uint64(t[tickTime:])) } //nolint:gosec // see AppendTickView

// Seed is a fresh random number.
func (t Tick) Seed() uint64 { return le.Uint64(t[tickSeed:]) }

// Validate checks that the view is whole.
func (t Tick) Validate() error {
	if len(t) < TickFixed || View(t).Fixed() < TickFixed {
		return errView
	}
	return nil
}
