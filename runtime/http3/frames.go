package http3

import (
	"errors"
	"io"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
)

// The types of frames, RFC 9114 section 7.2, and of unidirectional streams, section 6.2.
const (
	frameData        = 0x0
	frameHeaders     = 0x1
	frameCancelPush  = 0x3
	frameSettings    = 0x4
	framePushPromise = 0x5
	frameGoAway      = 0x7
	frameMaxPushID   = 0xd

	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// The error codes, RFC 9114 section 8.1, and RFC 9204 section 6.
const (
	errNoError            = 0x100
	errGeneralProtocol    = 0x101
	errInternal           = 0x102
	errStreamCreation     = 0x103
	errClosedCritical     = 0x104
	errFrameUnexpected    = 0x105
	errFrame              = 0x106
	errExcessiveLoad      = 0x107
	errID                 = 0x108
	errSettings           = 0x109
	errMissingSettings    = 0x10a
	errRequestRejected    = 0x10b
	errRequestCancelled   = 0x10c
	errRequestIncomplete  = 0x10d
	errMessage            = 0x10e
	errQPACKDecompression = 0x200
)

// Codes of HTTP/2 (RFC 9113 section 7) that have a meaning here.
const (
	http2NoError         = 0x0
	http2RefusedStream   = 0x7
	http2Cancel          = 0x8
	http2EnhanceYourCalm = 0xb
)

// connError is what ends a connection.
type connError struct {
	code   quic.ApplicationErrorCode
	detail string
}

func (e *connError) Error() string { return e.detail }

// expected says whether a frame of this type may be on a request's stream (RFC 9114 section 7.2). What is unknown is skipped.
func expected(kind uint64) *connError {
	switch kind {
	case frameCancelPush, frameSettings, framePushPromise, frameGoAway, frameMaxPushID, 0x2, 0x6, 0x8, 0x9:
		return &connError{errFrameUnexpected, "a frame that does not belong on a request stream"}
	}
	return nil
}

// frameHeader takes type and length of a frame off the front of b; n is 0 if more bytes are needed.
func frameHeader(b []byte) (kind, length uint64, n int) {
	kind, k, err := quicvarint.Parse(b)
	if err != nil {
		return 0, 0, 0
	}
	length, l, err := quicvarint.Parse(b[k:])
	if err != nil {
		return 0, 0, 0
	}
	return kind, length, k + l
}

// maxFrameHeader is the longest frame header.
const maxFrameHeader = 16

func appendFrameHeader(dst []byte, kind, length uint64) []byte {
	return quicvarint.Append(quicvarint.Append(dst, kind), length)
}

// maxSkipped is how many bytes of unknown frames are skipped on a request's stream, beyond one for each byte of data.
const maxSkipped = 64 << 10

// bodyFrames takes the body of a request out of its frames.
type bodyFrames struct {
	limits *http1.Limits

	carry   [maxFrameHeader]byte // the beginning of a frame header that came in two pieces
	carried int
	data    uint64 // bytes of DATA that come
	skip    uint64 // of a frame that is unknown
	skipped int64
	block   uint64 // bytes of the trailers' field section that come
	trailer bool   // they have begun
	section []byte
	got     int64
	length  int64 // as announced; -1: it was not
	ended   bool
}

// next takes the next piece of the body off the front of in and consumes n bytes; data is a view of in. As long as in is not
// empty, n is not 0. An error is a *connError or a *fault.Error. Once the trailers' section is whole, it is in section.
func (f *bodyFrames) next(in []byte) (data []byte, n int, err error) {
	for n < len(in) {
		rest := in[n:]
		switch {
		case f.data > 0:
			size := min(f.data, uint64(len(rest)))
			f.data -= size
			f.got += int64(size) //nolint:gosec // not more than a buffer
			if f.length >= 0 && f.got > f.length {
				return nil, n, tooMuch()
			}
			return rest[:size], n + int(size), nil //nolint:gosec // within rest
		case f.skip > 0:
			size := min(f.skip, uint64(len(rest)))
			f.skip -= size
			n += int(size) //nolint:gosec // within rest
		case f.block > 0:
			size := min(f.block, uint64(len(rest)))
			f.block -= size
			f.section = append(f.section, rest[:size]...)
			n += int(size) //nolint:gosec // within rest
		default:
			used, err := f.header(rest)
			if err != nil {
				return nil, n, err
			}
			n += used
		}
	}
	return nil, n, nil
}

// header takes a frame header, or a part of one.
func (f *bodyFrames) header(in []byte) (n int, err error) {
	head := in
	if f.carried > 0 {
		copied := copy(f.carry[f.carried:], in)
		head = f.carry[:f.carried+copied]
	}
	kind, length, size := frameHeader(head)
	if size == 0 {
		if f.carried == 0 {
			copy(f.carry[:], in)
		}
		f.carried = len(head)
		return len(in), nil
	}
	n = size - f.carried
	f.carried = 0
	switch kind {
	case frameData:
		if f.trailer {
			return n, &connError{errFrameUnexpected, "DATA behind trailers"}
		}
		f.data = length
		f.skipped++ // empty ones move nothing forward
		f.skipped = max(0, f.skipped-int64(min(length, maxSkipped)))
	case frameHeaders:
		if f.trailer {
			return n, &connError{errFrameUnexpected, "HEADERS behind trailers"}
		}
		if length > uint64(f.limits.Trailer) { //nolint:gosec // a limit is positive
			return n, fault.New(fault.HeadTooLarge, fault.Client, 431, "the trailer section is over its limit in bytes")
		}
		f.trailer, f.block = true, length
	default:
		if err := expected(kind); err != nil {
			return n, err
		}
		f.skip = length
		f.skipped += int64(min(length, maxSkipped)) + int64(size)
	}
	if f.skipped > maxSkipped {
		return n, &connError{errExcessiveLoad, "frames that move nothing forward"}
	}
	return n, nil
}

// end is the end of the stream.
func (f *bodyFrames) end() error {
	switch {
	case f.carried > 0 || f.data > 0 || f.skip > 0 || f.block > 0:
		return &connError{errFrame, "a stream that ends within a frame"}
	case f.length >= 0 && f.got != f.length:
		return fault.New(fault.Malformed, fault.Client, 400, "a body that is shorter than its content-length")
	}
	f.ended = true
	return nil
}

func tooMuch() error {
	return fault.New(fault.Malformed, fault.Client, 400, "a body that is longer than its content-length")
}

// head is what a stream's goroutine has read before the request enters its loop.
type head struct {
	section []byte // the field section
	rest    []byte // what came behind it
	ended   bool   // nothing does
	err     error  // *fault.Error: to be answered; *connError; others: there is nobody to answer
}

// readHead reads frames until the first HEADERS is whole. buf is where it reads to.
func readHead(from io.Reader, buf []byte, limit int) (h head) {
	var skip, skipped uint64
	at, n := 0, 0 // what is read and not used: buf[at:n]
	for {
		drop := min(skip, uint64(n-at)) //nolint:gosec // at <= n
		skip -= drop
		at += int(drop) //nolint:gosec // within buf
		kind, length, size := frameHeader(buf[at:n])
		switch {
		case size == 0 || skip > 0:
		case kind == frameHeaders:
			return readSection(from, buf, at+size, n, length, limit, h)
		case kind == frameData:
			return head{err: &connError{errFrameUnexpected, "DATA before HEADERS"}}
		default:
			if err := expected(kind); err != nil {
				return head{err: err}
			}
			at, skip = at+size, length
			if skipped += min(length, maxSkipped) + uint64(size); skipped > maxSkipped { //nolint:gosec // size is positive
				return head{err: &connError{errExcessiveLoad, "frames that move nothing forward"}}
			}
			continue
		}
		if h.ended {
			if at < n || skip > 0 {
				return head{err: &connError{errFrame, "a stream that ends within a frame"}}
			}
			return head{err: errIncomplete}
		}
		n = copy(buf, buf[at:n])
		at = 0
		m, err := from.Read(buf[n:])
		n += m
		if err != nil && !errors.Is(err, io.EOF) {
			return head{err: err}
		}
		h.ended = err != nil
	}
}

// errIncomplete is a stream that ends before a request has come on it.
var errIncomplete = errors.New("a stream that ends before its request")

// readSection reads the rest of a field section of this length that begins at buf[at:n].
func readSection(from io.Reader, buf []byte, at, n int, length uint64, limit int, h head) head {
	if length > uint64(limit) { //nolint:gosec // a limit is positive
		h.err = fault.New(fault.HeadTooLarge, fault.Client, 431, "the head is over its limit in bytes (limits.head)")
		return h
	}
	size := int(length) //nolint:gosec // within the limit
	if size <= n-at {
		h.section, h.rest = buf[at:at+size], buf[at+size:n]
		return h
	}
	h.section = append(h.section, buf[at:n]...)
	for len(h.section) < size {
		if h.ended {
			return head{err: &connError{errFrame, "a stream that ends within a frame"}}
		}
		m, err := from.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return head{err: err}
		}
		h.ended = err != nil
		missing := min(size-len(h.section), m)
		h.section, h.rest = append(h.section, buf[:missing]...), buf[missing:m]
	}
	return h
}
