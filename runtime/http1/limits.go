package http1

import "wasmgate/runtime/fault"

// Limits bounds what a peer can make us store. A field that is zero or negative allows nothing; begin with DefaultLimits.
// A Limits may be shared, and must not change while it is used.
type Limits struct {
	Head      int // bytes of a head, from its first line to its empty line (431)
	Target    int // bytes of a request target (414)
	Fields    int // field lines of a head, and of a trailer section (431)
	ChunkLine int // bytes of a chunk's size and extensions, without CRLF (400)
	Trailer   int // bytes of a trailer section (431)
}

// DefaultLimits are the limits where nothing else is said.
var DefaultLimits = Limits{Head: 32 << 10, Target: 8 << 10, Fields: 100, ChunkLine: 4 << 10, Trailer: 8 << 10}

// maxMethod is the longest method; the longest registered one has 16 bytes.
const maxMethod = 32

// maxEmptyLines is how many empty lines before a request line are ignored (RFC 9112 section 2.2).
const maxEmptyLines = 4

// problem is what is wrong with a message, before it is known whose message it is. nil is none.
type problem struct {
	kind   fault.Kind
	status int // that answers a client
	detail string
}

func malformed(detail string) *problem { return &problem{fault.Malformed, 400, detail} }

// The problems of heads and bodies.
var (
	badBareCR     = malformed("a CR that is not followed by LF")
	badBareLF     = malformed("a line that ends in LF without CR")
	badFold       = malformed("a field line that begins with white space (obs-fold)")
	badEmptyName  = malformed("a field line with an empty name")
	badName       = malformed("a field name with a character that is not allowed")
	badNameSpace  = malformed("white space between a field name and its colon")
	badNoColon    = malformed("a field line without a colon")
	badValue      = malformed("a control character in a field value")
	badTECL       = malformed("both Transfer-Encoding and Content-Length")
	badTE         = malformed("a Transfer-Encoding other than a single chunked")
	badTE10       = malformed("Transfer-Encoding in HTTP/1.0")
	badCL         = malformed("a Content-Length that is not a plain number")
	badCLDiffers  = malformed("Content-Length fields that differ")
	badCLTooLarge = &problem{fault.BodyTooLarge, 413, "a Content-Length beyond 63 bits"}
	badHeadSize   = &problem{fault.HeadTooLarge, 431, "the head is over its limit in bytes (limits.head)"}
	badFieldCount = &problem{fault.HeadTooLarge, 431, "the head has too many fields (limits.fields)"}
)

// fault makes the error of a problem with a message that src sent.
func (p *problem) fault(src fault.Source) error {
	status := p.status
	if src == fault.Upstream {
		status = 502
	}
	return &fault.Error{Kind: p.kind, Source: src, Status: status, Detail: p.detail}
}
