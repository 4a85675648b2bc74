package http1

import (
	"math"

	"wasmgate/runtime/fault"
)

// state is where a BodyReader is in its framing.
type state uint8

const (
	stateDone     state = iota
	stateData           // left bytes of data come, then after
	stateClose          // data comes until the connection is closed
	stateSize           // in a chunk's size, of which digits were read
	stateBlank          // in white space after the size: an extension must follow
	stateExt            // in a chunk's extensions
	stateLF             // the LF of a chunk's size line
	stateDataCR         // the CR after a chunk's data
	stateDataLF         // and its LF
	stateTrailers       // in the trailer section
)

// maxExcess is how many bytes of chunk framing beyond its due are borne. Each chunk brings 16 bytes and twice its
// data; without a bound a client could make us read a hundred times what a body has.
const maxExcess = 16 << 10

// BodyReader takes a body out of its framing. The zero BodyReader is that of an empty body. It keeps its storage when it
// is used again.
type BodyReader struct {
	src     fault.Source
	limits  *Limits
	state   state
	chunked bool
	digits  int   // of the chunk size
	line    int   // bytes of the size line
	left    int64 // bytes of data that come; of the chunk, if chunked
	excess  int64
	trailer Head
	parsed  int // bytes of the trailer section that are parsed, in trailer.buf
}

// Init begins the body of a message with this framing that src sends. nil limits are DefaultLimits.
func (r *BodyReader) Init(f Framing, lim *Limits, src fault.Source) {
	if lim == nil {
		lim = &DefaultLimits
	}
	r.trailer.Reset()
	*r = BodyReader{src: src, limits: lim, trailer: r.trailer}
	switch f.Kind {
	case Length:
		if r.left = f.Length; r.left > 0 {
			r.state = stateData
		}
	case Chunked:
		r.state, r.chunked = stateSize, true
	case UntilClose:
		r.state = stateClose
	}
}

// Done says whether the body is complete.
func (r *BodyReader) Done() bool { return r.state == stateDone }

// Remaining returns how many bytes of a body of known length are still to come, or -1 if that is not known.
func (r *BodyReader) Remaining() int64 {
	if r.chunked && r.state != stateDone || r.state == stateClose {
		return -1
	}
	return r.left
}

// Trailers returns the trailer fields of a body that is done, without those that must not be merged or forwarded:
// framing, routing, authentication and the like. It is never nil, and valid until Init.
func (r *BodyReader) Trailers() *Head { return &r.trailer }

// Next takes the next piece of the body off the front of in, the bytes that follow what was consumed so far. It consumes
// n bytes and returns what of them is data, a view of in; that may be nothing although n is not 0. As long as the body is
// not done and in is not empty, n is not 0. What is left of in when the body is done belongs to the next message. After an
// error, a *fault.Error, there is no data and nothing more to be read.
func (r *BodyReader) Next(in []byte) (data []byte, n int, err error) {
	for n < len(in) && r.state != stateDone {
		switch r.state {
		case stateClose:
			return in[n:], len(in), nil
		case stateData:
			if data != nil {
				return data, n, nil
			}
			data = in[n:]
			if int64(len(data)) > r.left {
				data = data[:r.left]
			}
			r.left -= int64(len(data))
			n += len(data)
			if r.left == 0 {
				r.state = stateDone
				if r.chunked {
					r.state = stateDataCR
				}
			}
		case stateTrailers:
			used, p := r.trailers(in[n:])
			if p != nil {
				return nil, n, p.fault(r.src)
			}
			n += used
		default:
			used, p := r.framing(in[n:])
			if p != nil {
				return nil, n, p.fault(r.src)
			}
			n += used
		}
	}
	return data, n, nil
}

// EOF says what it means that the peer has closed the connection: nothing, if the body is complete or was to end so, or
// a *fault.Error, if it was cut off.
func (r *BodyReader) EOF() error {
	switch {
	case r.state == stateDone:
		return nil
	case r.state == stateClose:
		r.state = stateDone
		return nil
	case r.src == fault.Upstream:
		return &fault.Error{Kind: fault.UpstreamClosed, Source: r.src, Status: 502, Detail: "closed before the body was complete"}
	}
	return &fault.Error{Kind: fault.ClientClosed, Source: r.src, Status: 400, Detail: "closed before the body was complete"}
}

// Cut is EOF for an end of TLS without close_notify, which anybody on the way can bring about: an answer that only the end of its
// connection delimits may have been cut off then (RFC 9112 section 9.8).
func (r *BodyReader) Cut() error {
	if r.state == stateClose && r.src == fault.Upstream {
		return &fault.Error{Kind: fault.UpstreamClosed, Source: r.src, Status: 502, Detail: "TLS ended without close_notify: the body may have been cut off"}
	}
	return r.EOF()
}

var (
	badChunkSize   = malformed("a chunk size that is not 1 to 16 hex digits within 63 bits")
	badChunkLine   = malformed("a chunk size line over its limit in bytes")
	badChunkExcess = malformed("chunks with far more framing than data")
	badChunkEnd    = malformed("chunk data that is not followed by CRLF")
	badChunkExt    = malformed("a malformed chunk extension")
	badTrailerSize = &problem{fault.HeadTooLarge, 431, "the trailer section is over its limit in bytes"}
)

// framing reads what is around the data of chunks, and stops where data or trailers begin.
func (r *BodyReader) framing(in []byte) (n int, p *problem) {
	for n < len(in) && p == nil {
		c := in[n]
		switch r.state {
		case stateSize:
			p = r.size(c)
		case stateBlank:
			if p = r.count(); p == nil && !isSpace(c) {
				if r.state = stateExt; c != ';' {
					p = badChunkSize
				}
			}
		case stateExt:
			p = r.extension(c)
		case stateLF:
			if c != '\n' {
				return n, badBareCR
			}
			if p = r.endLine(); p == nil {
				return n + 1, nil
			}
		case stateDataCR:
			if r.state = stateDataLF; c != '\r' {
				p = badChunkEnd
			}
		case stateDataLF:
			if c != '\n' {
				return n, badChunkEnd
			}
			r.state, r.left, r.digits, r.line = stateSize, 0, 0, 0
		}
		n++
	}
	return n, p
}

// count counts a byte of the size line.
func (r *BodyReader) count() *problem {
	if r.line++; r.line > r.limits.ChunkLine {
		return badChunkLine
	}
	return nil
}

// size takes a byte of a chunk's size, or what follows it.
func (r *BodyReader) size(c byte) *problem {
	switch {
	case class[c]&hex != 0:
		if r.digits == 16 || r.left > math.MaxInt64>>4 {
			return badChunkSize
		}
		r.digits++
		r.left = r.left<<4 | int64(nibble(c))
		return r.count()
	case r.digits == 0:
		return badChunkSize
	case c == '\r':
		r.state = stateLF
		return nil
	case c == ';':
		r.state = stateExt
		return r.count()
	case isSpace(c):
		r.state = stateBlank
		return r.count()
	case c == '\n':
		return badBareLF
	}
	return badChunkSize
}

// extension takes a byte of chunk extensions. They have no meaning for anyone here and are dropped, but they must end
// where everybody sees them end.
func (r *BodyReader) extension(c byte) *problem {
	switch {
	case c == '\r':
		r.state = stateLF
		return nil
	case c == '\n':
		return badBareLF
	case class[c]&value == 0:
		return badChunkExt
	}
	return r.count()
}

// endLine is at the end of a chunk's size line.
func (r *BodyReader) endLine() *problem {
	r.excess = max(0, r.excess+int64(r.line)+4-16-2*min(r.left, maxExcess))
	switch {
	case r.excess > maxExcess:
		return badChunkExcess
	case r.left == 0:
		r.state = stateTrailers
	default:
		r.state = stateData
	}
	return nil
}

// trailers takes bytes of the trailer section into storage of its own, as far as its end.
func (r *BodyReader) trailers(in []byte) (n int, p *problem) {
	h := &r.trailer
	if len(h.buf) == 0 && len(in) >= 2 && in[0] == '\r' && in[1] == '\n' {
		r.state = stateDone
		return 2, nil
	}
	for n < len(in) {
		end := n
		for end < len(in) && in[end] != '\n' {
			end++
		}
		whole := end < len(in)
		if whole {
			end++
		}
		if len(h.buf)+end-n > r.limits.Trailer {
			return n, badTrailerSize
		}
		h.buf = append(h.buf, in[n:end]...)
		n = end
		if !whole {
			return n, nil
		}
		next, done, p := h.parse(h.buf, r.parsed, r.limits, r.limits.Trailer)
		if p != nil {
			return n, p
		}
		if r.parsed = next; done {
			r.state = stateDone
			h.dropForbidden()
			return n, nil
		}
	}
	return n, nil
}

// dropForbidden deletes the fields that do not belong in a trailer section, in all spellings.
func (h *Head) dropForbidden() {
	h.remove(0, func(i int) bool {
		if id := h.fields[i].id; id != FieldUnknown {
			return notInTrailers.has(id)
		}
		name := h.Name(i)
		const forwarded = "x-forwarded-"
		if len(name) > len(forwarded) && equalSpelling(name[:len(forwarded)], forwarded) {
			return true
		}
		return notInTrailers.has(respelled(name))
	})
}

// respelled returns the known field that a name is with '-' for each '_', or FieldUnknown.
func respelled(name []byte) FieldID {
	if len(name) >= len(byLength) {
		return FieldUnknown
	}
	for i := range byLength[len(name)] {
		if k := &byLength[len(name)][i]; equalSpelling(name, k.name) {
			return k.id
		}
	}
	return FieldUnknown
}
