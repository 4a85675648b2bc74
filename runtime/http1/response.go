package http1

import (
	"bytes"
	"time"

	"wasmgate/runtime/fault"
)

// Response is a response's head. The zero Response is ready for Parse. Its slices are views (see the package's
// documentation). To answer without an upstream, Reset it, set Status and add fields.
type Response struct {
	Head

	Status  int
	Reason  []byte // as received; empty where StatusText shall be written
	Minor   int    // of the version: 0 or 1
	Framing Framing
	// KeepAlive says that the connection can carry another message after this one: version, Connection and framing
	// allow it.
	KeepAlive bool
	// Upgrade is the protocol that a 101 switches to, or that the upstream offers, if Connection lists upgrade;
	// otherwise nil.
	Upgrade []byte

	hint                   []byte // the value of Keep-Alive; nil: there is none
	scan                   progress
	reasonStart, reasonEnd uint32
}

// Reset forgets the message, also one that is not complete, and keeps its storage.
func (r *Response) Reset() {
	h := r.Head
	h.Reset()
	*r = Response{Head: h}
}

var (
	badStatusLine   = malformed("a malformed status line")
	badSpeaksHTTP2  = malformed("the upstream answers in HTTP/2: say `protocol: http2` for it")
	badSpeaksTLS    = malformed("the upstream answers in TLS: write https:// for its targets")
	badStatus       = malformed("a status that is not from 100 to 599")
	badRespVersion  = &problem{fault.Unsupported, 502, "an HTTP version other than 1.0 and 1.1"}
	badUpgrade      = malformed("a 101 without the protocol that it switches to")
	badOldInterim   = malformed("a 1xx answer in HTTP/1.0")
	badInterimFrame = malformed("Transfer-Encoding in a 1xx answer")
)

// Parse reads a response head from the front of b and returns its length in bytes, like Request.Parse, and with the same
// demands on b. method is that of the request which it answers: it decides whether a body follows.
//
// An answer with a status below 200 is returned like any other, with framing NoBody: unless it is a 101, the final one
// follows, and Parse is called again for it.
func (r *Response) Parse(b []byte, lim *Limits, method []byte) (n int, err error) {
	if lim == nil {
		lim = &DefaultLimits
	}
	if r.scan.done || len(b) < r.scan.seen {
		r.Reset()
	}
	n, p := r.parse(b, lim, method)
	if p != nil {
		r.scan.done = true
		return 0, p.fault(fault.Upstream)
	}
	return n, nil
}

func (r *Response) parse(b []byte, lim *Limits, method []byte) (int, *problem) {
	s := &r.scan
	if s.seen > 0 && bytes.IndexByte(b[s.seen:], '\n') < 0 {
		s.seen = len(b)
		return 0, headSize(len(b), lim)
	}
	s.seen = len(b)
	if !s.line {
		next, p := r.statusLine(b, lim)
		if p != nil {
			return 0, p
		}
		if next == 0 {
			return 0, headSize(len(b), lim)
		}
		s.line, s.pos = true, next
	}
	next, done, p := r.Head.parse(b, s.pos, lim, lim.Head)
	s.pos = next
	r.buf = append(r.buf, b[len(r.buf):next]...)
	if p != nil {
		return 0, p
	}
	if !done {
		return 0, headSize(len(b), lim)
	}
	s.done = true
	return next, r.interpret(method)
}

// otherProtocol recognises what a server says that was to be spoken to in another way: the SETTINGS that HTTP/2 begins with
// (RFC 9113 section 3.4), and TLS's alert (RFC 8446 section 5.1).
func otherProtocol(b []byte) *problem {
	switch {
	case b[0] == 0 && b[1] == 0 && b[3] == 4:
		return badSpeaksHTTP2
	case b[0] == 0x15 && b[1] == 3:
		return badSpeaksTLS
	}
	return nil
}

// statusLine parses the first line and returns where the next one begins, or 0 if it is not complete.
func (r *Response) statusLine(b []byte, lim *Limits) (next int, p *problem) {
	const size = len("HTTP/1.1 200")
	if len(b) > 3 && b[0] < ' ' {
		if p := otherProtocol(b); p != nil {
			return 0, p
		}
	}
	if len(b) <= size {
		if bytes.IndexByte(b, '\n') >= 0 {
			return 0, badStatusLine
		}
		return 0, nil
	}
	switch {
	case string(b[:5]) != "HTTP/" || class[b[5]]&digit == 0:
		return 0, badStatusLine
	case string(b[:7]) != "HTTP/1." || b[7] != '0' && b[7] != '1':
		return 0, badRespVersion
	case b[8] != ' ' || class[b[9]]&class[b[10]]&class[b[11]]&digit == 0:
		return 0, badStatusLine
	}
	r.Minor = int(b[7] - '0')
	r.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if r.Status < 100 || r.Status > 599 {
		return 0, badStatus
	}
	i := size // a status line without the space before an empty reason is common
	if b[i] != ' ' && b[i] != '\r' {
		return 0, badStatusLine
	}
	if b[i] == ' ' {
		i++
	}
	end := valueEnd(b, i)
	if end+1 >= len(b) && (end == len(b) || b[end] == '\r') {
		return 0, nil
	}
	if b[end] != '\r' || b[end+1] != '\n' {
		return 0, valueProblem(b[end])
	}
	if end+2 > lim.Head {
		return 0, badHeadSize
	}
	r.reasonStart, r.reasonEnd = uint32(i), uint32(end)
	return end + 2, nil
}

// interpret reads the complete head: what becomes of the connection, and where the message ends.
func (r *Response) interpret(method []byte) *problem {
	r.Reason = trim(r.buf[r.reasonStart:r.reasonEnd:r.reasonEnd])
	var c control
	p := r.control(&c)
	if p == nil {
		p = c.transferEncoding(r.Minor)
	}
	if p != nil {
		return p
	}
	r.KeepAlive = c.persistent(r.Minor)
	if c.listsUp && c.upgrades == 1 {
		r.Upgrade = r.Value(c.upgrade)
	}
	r.hint, _ = r.GetID(FieldKeepAlive)
	return r.frame(&c, method)
}

// frame finds where the body ends, RFC 9112 section 6.3.
func (r *Response) frame(c *control, method []byte) *problem {
	r.Framing = Framing{Kind: NoBody, Length: -1}
	switch {
	case r.Status < 200:
		if r.Minor == 0 {
			return badOldInterim
		}
		if c.encodings > 0 {
			return badInterimFrame
		}
		if r.Status == 101 {
			r.KeepAlive = false
			if len(r.Upgrade) == 0 {
				return badUpgrade
			}
		}
		r.KeepAlive = r.KeepAlive && c.length == 0
	case r.Status == 204:
		r.KeepAlive = r.KeepAlive && c.length == 0 && c.encodings == 0 // who announces a body may also send it
	case r.Status == 304, string(method) == "HEAD":
		if c.lengths > 0 {
			r.Framing.Length = c.length
		}
	case string(method) == "CONNECT" && r.Status < 300:
		r.KeepAlive = false
	case c.encodings > 0:
		r.Framing = Framing{Kind: Chunked}
	case c.lengths > 0:
		r.Framing = Framing{Kind: Length, Length: c.length}
	default:
		r.Framing = Framing{Kind: UntilClose}
		r.KeepAlive = false
	}
	return nil
}

// What a Keep-Alive field may promise at most: whoever says more is not believed further than that.
const (
	maxHintTimeout = 24 * time.Hour
	maxHintMax     = 1 << 32
)

// KeepAliveHint returns what the answer's Keep-Alive field says about the connection: how long the upstream keeps it open
// while nothing is under way, and how many more requests it takes. Each is 0 if it is not said, or not as a plain decimal
// number, or said to be 0: servers that round down say timeout=0 when they mean less than a second. Of a parameter that
// comes twice the smaller counts, of several fields the first; a day and 2^32 are the most that is returned. It costs
// nothing without the field, and holds after StripHopByHop too.
func (r *Response) KeepAliveHint() (timeout time.Duration, most uint64) {
	for list, more := r.hint, len(r.hint) > 0; more; {
		var m []byte
		m, list, more = nextMember(list)
		eq := bytes.IndexByte(m, '=')
		if eq < 0 {
			continue
		}
		name, text := trim(m[:eq]), trim(m[eq+1:])
		switch {
		case EqualFold(name, "timeout"):
			if n := decimal(text, uint64(maxHintTimeout/time.Second)); n > 0 && (timeout == 0 || time.Duration(n)*time.Second < timeout) {
				timeout = time.Duration(n) * time.Second
			}
		case EqualFold(name, "max"):
			if n := decimal(text, maxHintMax); n > 0 && (most == 0 || n < most) {
				most = n
			}
		}
	}
	return timeout, most
}

// decimal returns the value of decimal digits, or most if it is more, or 0 for anything else.
func decimal(b []byte, most uint64) (n uint64) {
	if !all(b, digit) {
		return 0
	}
	for _, c := range b {
		if n = n*10 + uint64(c-'0'); n > most {
			return most
		}
	}
	return n
}
