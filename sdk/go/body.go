package wasmgate

import "wasmgate/sdk/abi"

// BodyFlag says more about bodies that a plugin wants.
type BodyFlag uint32

// The flags.
const (
	// OnDemand has bodies only of messages for which the handler calls WantBody.
	OnDemand = BodyFlag(abi.BodyOnDemand)
	// Partial has the beginning of bodies that are longer than the bound; else the gateway refuses such a message.
	Partial = BodyFlag(abi.BodyPartial)
)

func bits(flags []BodyFlag) (b uint32) {
	for _, f := range flags {
		b |= uint32(f)
	}
	return b
}

// BufferRequestBody has requests' bodies of at most max bytes read before the handler is called: see Body. A longer one is
// answered with 413. Call it in init, or in the function given to Configure.
func BufferRequestBody(maxBytes int, flags ...BodyFlag) {
	plugin.manifest.RequestBody = abi.Body{Mode: abi.BodyBuffered, Bits: bits(flags), Max: uint32(maxBytes)} //nolint:gosec // the host checks it
}

// BufferResponseBody is BufferRequestBody for answers. A longer one is answered with 502.
func BufferResponseBody(maxBytes int, flags ...BodyFlag) {
	plugin.manifest.ResponseBody = abi.Body{Mode: abi.BodyBuffered, Bits: bits(flags), Max: uint32(maxBytes)} //nolint:gosec // the host checks it
}

// StreamRequestBody has fn see requests' bodies piece by piece while they are sent on, after the handler was called. fn
// returns Continue, Piece.Replace, Deny or Fail. Call it in init, or in the function given to Configure.
func StreamRequestBody(fn func(*Piece) Decision, flags ...BodyFlag) {
	plugin.pieces[abi.MessageRequest] = fn
	plugin.manifest.RequestBody = abi.Body{Mode: abi.BodyStreamed, Bits: bits(flags)}
}

// StreamResponseBody is StreamRequestBody for answers, which cannot be denied any more.
func StreamResponseBody(fn func(*Piece) Decision, flags ...BodyFlag) {
	plugin.pieces[abi.MessageResponse] = fn
	plugin.manifest.ResponseBody = abi.Body{Mode: abi.BodyStreamed, Bits: bits(flags)}
}

// MaxRequestBody is the longest body of a request that the plugin may have buffered, in bytes; 0: it is granted none.
func (c *Config) MaxRequestBody() int { return int(c.raw.RequestBody) }

// MaxResponseBody is MaxRequestBody for answers.
func (c *Config) MaxResponseBody() int { return int(c.raw.ResponseBody) }

// HasBody says whether the message's body is buffered: see BufferRequestBody. A message without one has an empty one.
func (x *exchange) HasBody() bool { return x.v.Head().Flags&abi.FlagBody != 0 }

// BodyIsPart says whether only the beginning of the body is buffered: see Partial.
func (x *exchange) BodyIsPart() bool { return x.v.Head().Flags&abi.FlagPart != 0 }

// Body is the body that is buffered; nil if none is. It is a view that is valid until the handler returns.
func (x *exchange) Body() []byte {
	if !x.HasBody() {
		return nil
	}
	if x.read {
		return x.body
	}
	n := max(int(hostReadBody(x.message, 0, x.body[:cap(x.body)])), 0)
	if n > cap(x.body) {
		x.body = make([]byte, n)
		hostReadBody(x.message, 0, x.body)
	}
	x.body, x.read = x.body[:n:cap(x.body)], true
	if x.body == nil {
		x.body = []byte{}
	}
	return x.body
}

// ReadBody copies what is buffered of the body from offset on, and returns how many bytes there are from there on; -1 if
// none is buffered, or if offset is beyond its end. For bodies that need not be in the plugin's memory as a whole.
func (x *exchange) ReadBody(dst []byte, offset int) int {
	return int(hostReadBody(x.message, uint32(offset), dst)) //nolint:gosec // the host checks it
}

// SetBody replaces a body that is buffered whole. The gateway sets Content-Length; Content-Type and the like are the
// plugin's business.
func (x *exchange) SetBody(body []byte) { out.buf = abi.AppendOpText(out.buf, abi.OpSetBody, body) }

// WantBody asks for the message's body, where it was declared to come OnDemand: a buffered one by calling the handler once
// more (see HasBody) after what it returns now is done, a streamed one by calling the function given to StreamRequestBody.
func (x *exchange) WantBody() { out.buf = abi.AppendOp(out.buf, abi.OpWantBody) }

// LookupTrailer asks the gateway for value k of a field of the message's trailers and appends it to dst. There are some
// where the body is buffered.
func (x *exchange) LookupTrailer(dst []byte, name string, k int) (value []byte, ok bool) {
	return lookup(dst, abi.MessageRequestTrailers+x.message, name, k)
}

// Piece is a piece of a body on its way. It is valid until the function returns.
type Piece struct {
	v    abi.Piece
	head abi.PieceHead
	caller
}

// Data is the piece. It is empty only if it is the last.
func (p *Piece) Data() []byte { return p.v.Data() }

// Last says whether the body ends with this piece.
func (p *Piece) Last() bool { return p.head.Flags&abi.PieceLast != 0 }

// Response says whether it is of an answer and not of a request.
func (p *Piece) Response() bool { return p.head.Message == abi.MessageResponse }

// Before is how many bytes of the body were before this piece.
func (p *Piece) Before() int64 { return int64(p.head.Before) } //nolint:gosec // a length

// Time is the time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
func (p *Piece) Time() int64 { return p.head.Time }

// Word is what SetWord left with the last piece of the message; with the first it is the word that the handler left with
// SetContext. Pieces of a message may come to different instances, so this is where their state is.
func (p *Piece) Word() uint64 { return p.head.Word }

// SetWord leaves a word for the next piece.
func (p *Piece) SetWord(w uint64) { out.buf = abi.AppendOp64(out.buf, abi.OpContext, w) }

// Keep has the last n bytes of the piece come again, in front of the next one: at most 64 KiB, and nothing of the last
// piece. Continue then passes on what is before them, and Replace replaces that.
func (p *Piece) Keep(n int) {
	out.buf = abi.AppendOp32(out.buf, abi.OpKeep, uint32(n)) //nolint:gosec // the host checks it
}

// Replace sends other bytes instead of the piece. They must not change before the function has returned.
func (p *Piece) Replace(data []byte) Decision { return Decision{code: abi.CodeReplace, data: data} }

// Attribute sets an attribute of the request's span.
func (p *Piece) Attribute(key, value string) {
	out.buf = abi.AppendOpPair(out.buf, abi.OpAttribute, key, value)
}

// Log writes a line to the gateway's log together with the decision.
func (p *Piece) Log(level Level, text string) { out.buf = abi.AppendLog(out.buf, uint32(level), text) }

// LookupTrailer asks the gateway for value k of a field of the message's trailers, which are there with the last piece, and
// appends it to dst.
func (p *Piece) LookupTrailer(dst []byte, name string, k int) (value []byte, ok bool) {
	return lookup(dst, abi.MessageRequestTrailers+p.head.Message, name, k)
}

var thePiece Piece

// piece answers wasmgate_v1_body.
func piece(in []byte) uint64 {
	out.begin()
	thePiece.v = abi.Piece(in)
	thePiece.head = thePiece.v.Head()
	fn := plugin.pieces[thePiece.head.Message&1]
	if fn == nil {
		return 0
	}
	d := fn(&thePiece)
	if d.code == abi.CodeDeny {
		out.begin() // what denies a message has no edits
	}
	return out.finish(d)
}
