package http1

import "math"

// FramingKind says how the end of a body is found.
type FramingKind uint8

// The kinds of framing, RFC 9112 section 6.3.
const (
	NoBody     FramingKind = iota // nothing follows the head
	Length                        // Framing.Length bytes
	Chunked                       // chunks, the last one empty, and a trailer section
	UntilClose                    // all that comes until the connection is closed; responses only
)

// Framing says where the body of a message ends.
type Framing struct {
	Kind FramingKind
	// Length is the number of bytes if Kind is Length. With NoBody it is the Content-Length that a response announces
	// although nothing follows (an answer to HEAD, a 304), or -1 for none; on a request it is -1. Otherwise it is 0.
	Length int64
}

// control is what the fields of a head say about framing and the connection.
type control struct {
	hosts      int
	host       int // the Host field
	lengths    int
	length     int64
	encodings  int
	chunked    bool
	close      bool
	keepAlive  bool
	listsUp    bool // Connection lists upgrade
	upgrades   int
	upgrade    int // the Upgrade field
	expect     bool
	badExpect  bool
	teTrailers bool
}

var controlFields = framingFields | setOf(FieldHost, FieldConnection, FieldUpgrade, FieldExpect, FieldTE)

// control reads the fields that say where the message ends and what becomes of the connection.
func (h *Head) control(c *control) (p *problem) {
	if h.seen&controlFields == 0 {
		return nil
	}
	first := -1
	for i := range h.fields {
		switch h.fields[i].id {
		case FieldHost:
			c.hosts++
			c.host = i
		case FieldContentLength:
			if c.lengths++; c.lengths > 1 {
				if string(h.Value(i)) != string(h.Value(first)) {
					return badCLDiffers
				}
			} else if c.length, p = contentLength(h.Value(i)); p != nil {
				return p
			}
			first = i
		case FieldTransferEncoding:
			c.encodings++
			c.chunked = EqualFold(h.Value(i), "chunked")
		case FieldConnection:
			c.connection(h.Value(i))
		case FieldUpgrade:
			c.upgrades++
			c.upgrade = i
		case FieldExpect:
			c.expect = true
			c.badExpect = c.badExpect || !EqualFold(h.Value(i), "100-continue")
		case FieldTE:
			c.teTrailers = c.teTrailers || HasToken(h.Value(i), "trailers")
		}
	}
	return nil
}

func (c *control) connection(list []byte) {
	if isKeepAlive(list) {
		c.keepAlive = true
		return
	}
	for more := true; more; {
		var m []byte
		m, list, more = nextMember(list)
		switch len(m) {
		case len("close"):
			c.close = c.close || EqualFold(m, "close")
		case len("upgrade"):
			c.listsUp = c.listsUp || EqualFold(m, "upgrade")
		case len("keep-alive"):
			c.keepAlive = c.keepAlive || EqualFold(m, "keep-alive")
		}
	}
}

// persistent says whether the connection stays open after the message (RFC 9112 section 9.3).
func (c *control) persistent(minor int) bool { return !c.close && (minor == 1 || c.keepAlive) }

// transferEncoding refuses everything but nothing, and one chunked on its own in a message of HTTP/1.1.
func (c *control) transferEncoding(minor int) *problem {
	switch {
	case c.encodings == 0:
		return nil
	case minor == 0:
		return badTE10
	case c.lengths > 0:
		return badTECL
	case c.encodings > 1 || !c.chunked:
		return badTE
	}
	return nil
}

// contentLength reads a Content-Length: digits, and nothing else.
func contentLength(v []byte) (n int64, p *problem) {
	if !all(v, digit) {
		return 0, badCL
	}
	for _, c := range v {
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, badCLTooLarge
		}
		n = n*10 + d
	}
	return n, nil
}
