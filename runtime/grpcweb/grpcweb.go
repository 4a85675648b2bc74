// Package grpcweb translates between gRPC-Web, which browsers speak, and gRPC: a Request is a stage of a request's body, and an
// Answer one of its answer's. Messages are the same in both, and pass as they come, one byte after the other; what differs is
// that trailers are a part of the body in gRPC-Web, behind the messages, and that the body may be base64.
//
// It follows PROTOCOL-WEB.md of github.com/grpc/grpc. Values of binary trailers stay base64 in application/grpc-web-text
// too, as every implementation has it: unencoded, they could not stand in a block of fields.
package grpcweb

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Wanted is how the answer to a request of gRPC-Web of a kind is to be: as Accept says, and as the request if that says
// nothing.
func Wanted(h *http1.Head, kind grpc.Kind) grpc.Kind {
	accept, ok := h.GetID(http1.FieldAccept)
	switch {
	case !ok:
	case bytes.Contains(accept, []byte(grpc.WebText.ContentType())):
		return grpc.WebText
	case bytes.Contains(accept, []byte(grpc.Web.ContentType())):
		return grpc.Web
	}
	return kind
}

// Translate makes the head of a request of gRPC-Web one of gRPC. If it is not of gRPC-Web, it stays as it is, and is that of the
// kind that is returned.
func Translate(r *http1.Request) grpc.Kind {
	value, _ := r.GetID(http1.FieldContentType)
	kind, format := grpc.KindOf(value)
	if kind == grpc.Web || kind == grpc.WebText {
		SetType(&r.Head, grpc.GRPC, format)
		r.DelID(http1.FieldAccept) // it speaks of gRPC-Web
		r.Del("x-grpc-web")
		r.TETrailers = true
	}
	return kind
}

// Answered makes the head of an answer of gRPC one of gRPC-Web. It is not ok, and nothing is changed, if the answer is not of gRPC:
// the client then sees it as it is.
func Answered(h *http1.Head, kind grpc.Kind) (ok bool) {
	value, _ := h.GetID(http1.FieldContentType)
	is, format := grpc.KindOf(value)
	if is != grpc.GRPC {
		return false
	}
	SetType(h, kind, format)
	h.DelID(http1.FieldTrailer)
	return true
}

// SetType sets the content type of a message. format may be a view of the one that it has.
func SetType(h *http1.Head, k grpc.Kind, format []byte) {
	var b [64]byte
	h.SetID(http1.FieldContentType, append(append(b[:0], k.ContentType()...), format...))
}

// Request is the body of a request. The zero value is ready.
type Request struct {
	Text bool // it is base64

	quad [4]byte // what came of four characters
	n    int
}

var _ exchange.Measured = (*Request)(nil)

// Measured says whether the body is as long behind the stage as before it.
func (r *Request) Measured() bool { return !r.Text }

// Promise does nothing: what is not base64 is not touched.
func (r *Request) Promise() {}

// Chunk is exchange.Stage's. Base64 may be padded in the middle: each piece that a client has encoded for itself is.
func (r *Request) Chunk(_ *netloop.Task, dst, data []byte, last bool, _ *http1.Head) ([]byte, *fault.Error) {
	if !r.Text {
		return append(dst, data...), nil
	}
	var ok bool
	if dst, ok = r.decode(dst, data); !ok || last && r.n > 0 {
		return nil, fault.New(fault.Malformed, fault.Client, 400, "the body of a request of %s is not base64", grpc.WebText.ContentType())
	}
	return dst, nil
}

func (r *Request) decode(dst, data []byte) (out []byte, ok bool) {
	for len(data) > 0 {
		if r.n == 0 { // as many as there are at once
			n := bytes.IndexByte(data[:len(data)&^3], '=')
			if n < 0 {
				n = len(data) &^ 3
			}
			if n &^= 3; n > 0 {
				var err error
				if dst, err = base64.StdEncoding.AppendDecode(dst, data[:n]); err != nil || bytes.ContainsAny(data[:n], "\r\n") {
					return dst, false
				}
				data = data[n:]
				continue
			}
		}
		n := copy(r.quad[r.n:], data)
		r.n += n
		if data = data[n:]; r.n < len(r.quad) {
			break
		}
		var err error
		if dst, err = base64.StdEncoding.AppendDecode(dst, r.quad[:]); err != nil || bytes.ContainsAny(r.quad[:], "\r\n") {
			return dst, false
		}
		r.n = 0
	}
	return dst, true
}

// Answer is the body of an answer. The zero value is ready.
type Answer struct {
	Text bool // it is to be base64

	frame []byte
}

// trailerFlag is the first byte of the frame that has the trailers.
const trailerFlag = 0x80

// Chunk is exchange.Stage's. Of the trailers it leaves nothing.
func (a *Answer) Chunk(_ *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	dst = a.add(dst, data)
	if last && trailers != nil && trailers.Len() > 0 {
		a.frame = appendTrailers(a.frame[:0], trailers)
		trailers.Reset()
		dst = a.add(dst, a.frame)
	}
	return dst, nil
}

func (a *Answer) add(dst, data []byte) []byte {
	if !a.Text {
		return append(dst, data...)
	}
	return base64.StdEncoding.AppendEncode(dst, data)
}

// appendTrailers appends the frame of trailers: a block of fields of HTTP/1, without the empty line.
func appendTrailers(dst []byte, h *http1.Head) []byte {
	const prefix = 5
	at := len(dst)
	dst = append(dst, trailerFlag, 0, 0, 0, 0)
	for i := range h.Len() {
		for _, c := range h.Name(i) {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			dst = append(dst, c)
		}
		dst = append(append(append(dst, ": "...), h.Value(i)...), "\r\n"...)
	}
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-prefix)) //nolint:gosec // heads are bounded
	return dst
}
