package http1

import (
	"strconv"
	"time"
)

// Outgoing says how a request is written towards an upstream.
type Outgoing struct {
	Framing Framing // of the body that follows; the request's own where it is passed on
	Close   bool    // the connection is not used again
	Upgrade []byte  // the protocols to switch to; nil: none
	// Trailers says that trailers are wanted (TE: trailers): Request.TETrailers where they are passed on.
	Trailers bool
	// HTTP10 writes a request of HTTP/1.0, for an upstream that knows no other: Connection says keep-alive unless Close is
	// set, which is how such an upstream is asked to keep the connection, and Upgrade and Trailers, which came with 1.1, are
	// left out. Framing must not be Chunked then.
	HTTP10 bool
	// Expect asks the upstream to say whether it wants the body before it is sent (RFC 9110 section 10.1.1).
	Expect bool
}

// KeepAlive is what an answer says about a connection that stays open, in a field of that name. The zero value says
// nothing.
type KeepAlive struct {
	Timeout time.Duration // how long the connection may be idle; told in whole seconds, rounded down; below one: not told
	Max     uint64        // how many requests it may carry after this one; told only beside Timeout; 0: not told
}

// ResponseOut says how a response is written towards a client.
type ResponseOut struct {
	Minor int // of the client's version: a 1.0 client is told when its connection stays open
	// Advertise tells a client of HTTP/1.1 too that its connection stays open, which is what that version means by saying
	// nothing: there are clients, and people, who look for the field.
	Advertise bool
	KeepAlive KeepAlive // told where it is said that the connection stays open
	Close     bool      // the connection is closed after the response
	Framing   Framing   // of the body that follows. A 1.0 client knows no chunks: its body is UntilClose then
	Upgrade   []byte    // the protocol that a 101 switches to, or that is offered; nil: none
	Date      []byte    // the value of a Date field, for a response that has none; nil: none is added
}

var (
	skipRequest  = hopByHop | framingFields | setOf(FieldHost, FieldExpect)
	skipResponse = hopByHop | framingFields
)

// appendFields appends all fields but those in skip. Fields that lie one behind the other in the storage, in plain form,
// are copied as one piece.
func (h *Head) appendFields(dst []byte, skip set) []byte {
	var from, to uint32
	for i := range h.fields {
		f := &h.fields[i]
		if f.id != FieldUnknown && skip.has(f.id) {
			continue
		}
		if f.plain {
			if f.name != to {
				dst = append(dst, h.buf[from:to]...)
				from = f.name
			}
			to = f.valueEnd + 2
			continue
		}
		dst = append(dst, h.buf[from:to]...)
		from, to = 0, 0
		dst = append(dst, h.buf[f.name:f.nameEnd]...)
		dst = append(dst, ": "...)
		dst = append(dst, h.buf[f.value:f.valueEnd]...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, h.buf[from:to]...)
}

// AppendRequest appends the request's head as it is sent to an upstream: the request line in origin form, Host written
// anew from Authority, the fields in order except hop-by-hop, framing, Host and Expect, then framing and connection
// fields written anew, and the empty line. What Connection listed is gone only if StripHopByHop was called.
func AppendRequest(dst []byte, r *Request, o Outgoing) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	switch {
	case r.Form == Authority:
		dst = append(dst, r.Authority...)
	case len(r.Path) == 0:
		dst = append(dst, '/')
	default:
		dst = append(dst, r.Path...)
	}
	if r.hasQuery {
		dst = append(dst, '?')
		dst = append(dst, r.query...)
	}
	if o.HTTP10 {
		dst = append(dst, " HTTP/1.0\r\nHost: "...)
		o.Upgrade, o.Trailers = nil, false
	} else {
		dst = append(dst, " HTTP/1.1\r\nHost: "...)
	}
	dst = append(dst, r.Authority...)
	dst = append(dst, "\r\n"...)
	skip := skipRequest
	if o.Framing.Kind != Chunked {
		skip |= 1 << FieldTrailer
	}
	dst = r.appendFields(dst, skip)
	switch o.Framing.Kind {
	case Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case Length:
		dst = appendLength(dst, o.Framing.Length)
	}
	if o.Trailers {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	if o.Expect {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	return append(appendConnection(dst, o.Upgrade, o.Trailers, o.Close, o.HTTP10 && !o.Close), "\r\n"...)
}

// AppendResponse appends the response's head as it is sent to a client: status line, the fields in order except
// hop-by-hop and framing, then framing and connection fields written anew, and the empty line. A status below 200 gets no
// framing, Date and close.
func AppendResponse(dst []byte, r *Response, o ResponseOut) []byte {
	dst = appendStatusLine(dst, r.Status, r.Reason)
	skip := skipResponse
	if o.Framing.Kind != Chunked {
		skip |= 1 << FieldTrailer
	}
	dst = r.appendFields(dst, skip)
	if r.Status < 200 {
		if r.Status == 101 {
			dst = appendConnection(dst, o.Upgrade, false, false, false)
		}
		return append(dst, "\r\n"...)
	}
	if _, has := r.GetID(FieldDate); !has && len(o.Date) > 0 {
		dst = append(dst, "Date: "...)
		dst = append(dst, o.Date...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case o.Framing.Kind == Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case o.Framing.Kind == Length, o.Framing.Kind == NoBody && announces(r.Status, o.Framing.Length):
		dst = appendLength(dst, o.Framing.Length)
	}
	closes := o.Close || o.Framing.Kind == UntilClose
	tell := !closes && (o.Minor == 0 || o.Advertise)
	dst = appendConnection(dst, o.Upgrade, false, closes, tell)
	if tell {
		dst = appendKeepAlive(dst, o.KeepAlive)
	}
	return append(dst, "\r\n"...)
}

func appendKeepAlive(dst []byte, k KeepAlive) []byte {
	if k.Timeout < time.Second {
		return dst
	}
	dst = strconv.AppendInt(append(dst, "Keep-Alive: timeout="...), int64(k.Timeout/time.Second), 10)
	if k.Max > 0 {
		dst = strconv.AppendUint(append(dst, ", max="...), k.Max, 10)
	}
	return append(dst, "\r\n"...)
}

// announces says whether a response without a body has a Content-Length: one that could have a body must say 0.
func announces(status int, length int64) bool {
	switch status {
	case 204:
		return false
	case 304:
		return length > 0
	}
	return length >= 0
}

func appendStatusLine(dst []byte, status int, reason []byte) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10), ' ')
	if len(reason) > 0 {
		dst = append(dst, reason...)
	} else {
		dst = append(dst, StatusText(status)...)
	}
	return append(dst, "\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	return append(strconv.AppendInt(dst, n, 10), "\r\n"...)
}

// appendConnection appends Upgrade, and Connection with all that it has to list.
func appendConnection(dst, upgrade []byte, te, closes, keepAlive bool) []byte {
	if len(upgrade) > 0 {
		dst = append(dst, "Upgrade: "...)
		dst = append(dst, upgrade...)
		dst = append(dst, "\r\n"...)
	}
	sep := "Connection: "
	for _, option := range [...]struct {
		on   bool
		name string
	}{{len(upgrade) > 0, "upgrade"}, {te, "TE"}, {closes, "close"}, {keepAlive, "keep-alive"}} {
		if option.on {
			dst = append(append(dst, sep...), option.name...)
			sep = ", "
		}
	}
	if sep == ", " {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// AppendChunkHeader appends what comes before the data of a chunk of size bytes, which must not be 0: after the data comes
// CRLF.
func AppendChunkHeader(dst []byte, size int) []byte {
	return append(strconv.AppendUint(dst, uint64(size), 16), "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body, with these trailers if there are any; nil is none.
func AppendLastChunk(dst []byte, trailers *Head) []byte {
	dst = append(dst, "0\r\n"...)
	if trailers != nil {
		dst = trailers.appendFields(dst, notInTrailers)
	}
	return append(dst, "\r\n"...)
}

// AppendContinue appends a 100 (Continue).
func AppendContinue(dst []byte) []byte { return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...) }

// AppendSimpleResponse appends a whole response: head and body, with the fields of extra, if not nil, besides its own.
// contentType is left out if it is empty. For an answer to HEAD use AppendResponse: no body may follow there.
func AppendSimpleResponse(dst []byte, status int, contentType string, body []byte, closes bool, extra *Head) []byte {
	dst = appendStatusLine(dst, status, nil)
	if extra != nil {
		dst = extra.appendFields(dst, skipResponse)
	}
	if contentType != "" {
		dst = append(append(append(dst, "Content-Type: "...), contentType...), "\r\n"...)
	}
	if announces(status, int64(len(body))) {
		dst = appendLength(dst, int64(len(body)))
	}
	dst = append(appendConnection(dst, nil, false, closes, false), "\r\n"...)
	if status == 204 || status == 304 {
		return dst
	}
	return append(dst, body...)
}
