package http1

import (
	"bytes"

	"wasmgate/runtime/fault"
)

// TargetForm is the form of a request target, RFC 9112 section 3.2.
type TargetForm uint8

// The forms of a request target.
const (
	Origin    TargetForm = iota // /path?query
	Absolute                    // http://authority/path?query
	Authority                   // authority, of CONNECT
	Asterisk                    // *, of OPTIONS
)

// Request is a request's head. The zero Request is ready for Parse. Its slices are views (see the package's
// documentation); change them by the Set methods.
//
// What Set, SetBytes, Del and DelBytes do to a request's field leaves no other spelling of the name behind, '_' and '-' being
// alike: many applications read X_User and X-User as one, and what tells them who someone is must not come from the client.
type Request struct {
	Head

	Method    []byte
	Target    []byte // the request target as it was received
	Scheme    []byte // of the absolute form, as it was spelled; otherwise nil
	Authority []byte // host and port: the absolute form's, else Host; empty if a 1.0 request has none
	Path      []byte // begins with '/', dot segments resolved; "*" in asterisk form; empty in authority form
	Form      TargetForm
	Minor     int // of the version: 0 or 1
	Framing   Framing
	KeepAlive bool // what the version and Connection say about the time after this request

	// ExpectContinue says that the client waits for 100 (Continue) before it sends the body.
	ExpectContinue bool
	// TETrailers says that the client takes trailers: TE lists them.
	TETrailers bool
	// Upgrade is the protocols that the client would switch to, if Connection lists upgrade; otherwise nil.
	Upgrade []byte

	query    []byte
	hasQuery bool

	scan                   progress
	methodStart, methodEnd uint32
	targetStart, targetEnd uint32
}

// progress is how far the parsing of a head got, so that no byte is looked at again and again while it trickles in.
type progress struct {
	pos  int  // the first byte of the first line that is not parsed; 0: nothing is
	seen int  // bytes that were there at the last call: the line at pos does not end before
	line bool // the first line is parsed
	done bool // the head is complete: the next call begins a new one
}

// Query returns the query without the '?' before it.
func (r *Request) Query() []byte { return r.query }

// HasQuery says whether the target has a '?': an empty query is not the same as none.
func (r *Request) HasQuery() bool { return r.hasQuery }

// Reset forgets the message, also one that is not complete, and keeps its storage.
func (r *Request) Reset() {
	h := r.Head
	h.Reset()
	h.whole = true
	*r = Request{Head: h}
}

// Parse reads a request head from the front of b and returns its length in bytes; n is 0 without an error if more bytes
// are needed. Then Parse must be called again with the same bytes and more of them behind, at whatever address; it goes
// on where it stopped. If they are not the same (another connection), call Reset first. A call after a complete head, or
// after an error, begins a new one. nil limits are DefaultLimits.
//
// While more bytes are needed, and after an error, Method, Target and the fields are those of the lines that were
// complete and right, so that a refusal can be told of; everything else is as after Reset, or not to be relied on.
//
// Empty lines before the request line are skipped and counted in n, up to four (RFC 9112 section 2.2).
func (r *Request) Parse(b []byte, lim *Limits) (n int, err error) {
	if lim == nil {
		lim = &DefaultLimits
	}
	if r.scan.done || len(b) < r.scan.seen {
		r.Reset()
	}
	r.whole = true
	n, p := r.parse(b, lim)
	if p != nil {
		r.scan.done = true
		return 0, p.fault(fault.Client)
	}
	return n, nil
}

func (r *Request) parse(b []byte, lim *Limits) (int, *problem) {
	s := &r.scan
	if s.seen > 0 && bytes.IndexByte(b[s.seen:], '\n') < 0 {
		s.seen = len(b)
		if !s.line && len(b)-s.pos > lim.Target+maxMethod+len("  HTTP/1.1\r\n") {
			_, p := r.requestLine(b, s.pos, lim)
			return 0, p
		}
		return 0, headSize(len(b), lim)
	}
	s.seen = len(b)
	if !s.line {
		start, p := emptyLines(b)
		if p != nil || start < 0 {
			return 0, p
		}
		next, p := r.requestLine(b, start, lim)
		if p != nil || next == 0 {
			return 0, p
		}
		s.line, s.pos = true, next
	}
	next, done, p := r.Head.parse(b, s.pos, lim, lim.Head)
	s.pos = next
	r.buf = append(r.buf, b[len(r.buf):next]...)
	r.Method = r.buf[r.methodStart:r.methodEnd:r.methodEnd]
	r.Target = r.buf[r.targetStart:r.targetEnd:r.targetEnd]
	if p != nil {
		return 0, p
	}
	if !done {
		return 0, headSize(len(b), lim)
	}
	s.done = true
	return next, r.interpret()
}

func headSize(n int, lim *Limits) *problem {
	if n > lim.Head {
		return badHeadSize
	}
	return nil
}

// emptyLines returns how many bytes of empty lines b begins with, or -1 if it has nothing else.
func emptyLines(b []byte) (int, *problem) {
	i := 0
	for i < len(b) && (b[i] == '\r' || b[i] == '\n') {
		switch {
		case b[i] == '\n':
			return 0, badBareLF
		case i+1 == len(b):
			return -1, nil
		case b[i+1] != '\n':
			return 0, badBareCR
		case i == 2*maxEmptyLines:
			return 0, badEmptyLines
		}
		i += 2
	}
	if i == len(b) {
		return -1, nil
	}
	return i, nil
}

// tlsHandshake is the first byte of a client that speaks TLS (RFC 8446 section 5.1); no request begins with it.
const tlsHandshake = 0x16

var (
	badEmptyLines  = malformed("too many empty lines before a request")
	badMethod      = malformed("a method that is not a token")
	badTLS         = malformed("the client speaks TLS, and this port does not: the listener has no tls")
	badLongMethod  = &problem{fault.Unsupported, 501, "a method of more than 32 bytes"}
	badLongTarget  = &problem{fault.TargetTooLong, 414, "the request target is over its limit in bytes (limits.target)"}
	badTargetChar  = malformed("a request target with a space, a control character, '#' or a byte beyond ASCII")
	badNoVersion   = malformed("a request line without a version")
	badVersion     = malformed("a malformed HTTP version")
	badVersion505  = &problem{fault.Unsupported, 505, "an HTTP version other than 1.0 and 1.1"}
	badTarget      = malformed("a request target that is not of a form that fits its method")
	badScheme      = malformed("a request target whose scheme is not http or https")
	badNoHost      = malformed("an HTTP/1.1 request without Host")
	badHosts       = malformed("more than one Host field")
	badHost        = malformed("a Host, or an authority, that is not a host with an optional port")
	badExpectation = &problem{fault.Unsupported, 417, "an expectation other than 100-continue"}
)

// requestLine parses the request line at pos and returns where the next line begins, or 0 if it is not complete.
func (r *Request) requestLine(b []byte, pos int, lim *Limits) (next int, p *problem) {
	i := pos
	for i < len(b) && class[b[i]]&token != 0 {
		i++
	}
	switch {
	case i-pos > maxMethod:
		return 0, badLongMethod
	case i == len(b):
		return 0, nil
	case b[i] == '\n':
		return 0, badBareLF
	case i == 0 && b[0] == tlsHandshake:
		return 0, badTLS
	case b[i] != ' ' || i == pos:
		return 0, badMethod
	}
	r.methodStart, r.methodEnd = uint32(pos), uint32(i)
	r.buf = append(r.buf[:0], b[:i]...)
	r.Method = r.buf[pos:i:i]
	i++
	t := i
	for i < len(b) && class[b[i]]&target != 0 {
		i++
	}
	switch {
	case i-t > lim.Target:
		return 0, badLongTarget
	case i == len(b):
		return 0, nil
	case b[i] == '\r' && i > t:
		return 0, badNoVersion
	case b[i] == '\n':
		return 0, badBareLF
	case b[i] != ' ' || i == t:
		return 0, badTargetChar
	}
	r.targetStart, r.targetEnd = uint32(t), uint32(i)
	return r.version(b, i+1, lim)
}

func (r *Request) version(b []byte, pos int, lim *Limits) (next int, p *problem) {
	v := b[pos:]
	const size = len("HTTP/1.1\r\n")
	if len(v) < size && bytes.IndexByte(v, '\n') < 0 {
		return 0, nil
	}
	if len(v) < size || string(v[:5]) != "HTTP/" || class[v[5]]&digit == 0 || v[6] != '.' || class[v[7]]&digit == 0 {
		return 0, badVersion
	}
	switch {
	case v[8] == '\n', v[8] == '\r' && v[9] != '\n':
		return 0, valueProblem(v[8])
	case v[8] != '\r':
		return 0, badVersion
	case v[5] != '1' || v[7] > '1':
		return 0, badVersion505
	case pos+size > lim.Head:
		return 0, badHeadSize
	}
	r.Minor = int(v[7] - '0')
	return pos + size, nil
}

// interpret reads the complete head: what the request is about, and where it ends.
func (r *Request) interpret() *problem {
	var c control
	if p := r.control(&c); p != nil {
		return p
	}
	if p := r.host(&c); p != nil {
		return p
	}
	if p := r.splitTarget(); p != nil {
		return p
	}
	if p := c.transferEncoding(r.Minor); p != nil {
		return p
	}
	switch {
	case c.encodings > 0:
		r.Framing = Framing{Kind: Chunked}
	case c.lengths > 0:
		r.Framing = Framing{Kind: Length, Length: c.length}
	default:
		r.Framing = Framing{Kind: NoBody, Length: -1}
	}
	r.KeepAlive = c.persistent(r.Minor)
	r.TETrailers = c.teTrailers
	if r.Minor == 0 { // Expect and Upgrade came with HTTP/1.1 and are ignored in older messages
		return nil
	}
	if c.badExpect {
		return badExpectation
	}
	r.ExpectContinue = c.expect && (r.Framing.Kind == Chunked || r.Framing.Length > 0)
	if c.listsUp && c.upgrades == 1 {
		r.Upgrade = r.Value(c.upgrade)
	}
	return nil
}

// host takes the authority from Host, which 1.1 demands and no version may have twice.
func (r *Request) host(c *control) *problem {
	switch {
	case c.hosts > 1:
		return badHosts
	case c.hosts == 0 && r.Minor > 0:
		return badNoHost
	case c.hosts == 0:
		return nil
	}
	r.Authority = r.Value(c.host)
	if !ValidAuthority(r.Authority) {
		return badHost
	}
	return nil
}
