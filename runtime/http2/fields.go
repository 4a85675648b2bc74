package http2

import (
	"strconv"

	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/http1"
)

// headBlock is the header block that is being read.
type headBlock struct {
	limits  *Options
	id      uint32
	end     bool // END_STREAM
	to      *http1.Head
	trailer bool

	bytes  int // as it is coded
	frames int // CONTINUATION
	size   int // of the list
	fields int
	status int
	length int64
	bad    string // what is wrong with it
	large  bool   // that is, its size
	plain  bool   // a field that is no pseudo field has come

	request *Stream // that it is the head of
	open    bool    // more of it must come
	since   int64   // when it began
}

// begin makes the block one of a stream; to is nil if nobody wants it.
func (b *headBlock) begin(id uint32, end bool, to *http1.Head, trailer bool) {
	*b = headBlock{limits: b.limits, id: id, end: end, to: to, trailer: trailer, length: -1, open: true, since: b.since}
	if to != nil {
		to.Reset()
	}
}

// field takes a field. After the first thing that is wrong the rest is read for HPACK's sake alone.
func (b *headBlock) field(f hpack.HeaderField) {
	b.size += int(f.Size()) //nolint:gosec // within the decoder's limits
	b.fields++
	switch {
	case b.to == nil || b.bad != "":
	case b.size > b.limits.HeaderList:
		b.large = true
		b.bad = "a head of more than " + strconv.Itoa(b.limits.HeaderList) + " bytes"
	case b.request != nil && len(f.Name) > 0 && f.Name[0] == ':':
		b.bad = b.request.pseudo(f, b)
	case b.request != nil: // Request looks at it
		b.plain = true
		if f.Name == "content-length" {
			if n, ok := length(f.Value); ok {
				b.length = n
			}
		}
		b.to.Add(f.Name, f.Value)
	case b.fields > b.limits.Fields:
		b.bad = "a head of more than " + strconv.Itoa(b.limits.Fields) + " fields"
	case len(f.Name) > 0 && f.Name[0] == ':':
		b.bad = b.pseudo(f)
	default:
		b.plain = true
		b.bad = b.regular(f)
	}
}

// pseudo takes a pseudo field: an answer has :status, and nothing else.
func (b *headBlock) pseudo(f hpack.HeaderField) string {
	switch {
	case f.Name != ":status" || b.trailer:
		return "a pseudo field that does not belong there"
	case b.plain:
		return "a pseudo field behind others"
	case b.status != 0:
		return "two :status fields"
	}
	n, err := strconv.Atoi(f.Value)
	if len(f.Value) != 3 || err != nil || n < 100 || n > 599 || n == 101 {
		return "a :status that is none"
	}
	b.status = n
	return ""
}

// regular takes a field that is no pseudo field.
func (b *headBlock) regular(f hpack.HeaderField) string {
	switch {
	case !http1.ValidFieldName(f.Name) || upper(f.Name):
		return "a field name that is not one in lower case"
	case !http1.ValidFieldValue(f.Value):
		return "a field value with control characters, or white space around it"
	}
	id := http1.LookupField(f.Name)
	switch {
	case connectionField(id):
		return "a field about the connection: " + f.Name
	case b.trailer:
		if http1.MayTrail([]byte(f.Name)) {
			b.to.Add(f.Name, f.Value)
		}
		return ""
	case id == http1.FieldContentLength:
		n, ok := length(f.Value)
		if !ok || b.length >= 0 && b.length != n {
			return "a content-length that is no number, or several"
		}
		if b.length >= 0 {
			return "" // once is enough
		}
		b.length = n
	}
	b.to.Add(f.Name, f.Value)
	return ""
}

// complete looks at the block as a whole.
func (b *headBlock) complete() string {
	switch {
	case b.bad != "":
		return b.bad
	case b.trailer && !b.end:
		return "trailers that do not end the stream"
	case !b.trailer && b.status == 0:
		return "a head without :status"
	case b.status != 0 && b.status < 200 && b.end:
		return "an interim answer that ends the stream"
	}
	return ""
}

// connectionField says whether a field is about a connection of HTTP/1, and must not be in HTTP/2 (RFC 9113 section 8.2.2).
func connectionField(id http1.FieldID) bool {
	switch id {
	case http1.FieldConnection, http1.FieldKeepAlive, http1.FieldProxyConnection, http1.FieldTransferEncoding, http1.FieldUpgrade, http1.FieldTE:
		return true
	}
	return false
}

func upper(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// length reads a content-length: digits only.
func length(v string) (int64, bool) {
	n, err := strconv.ParseUint(v, 10, 63)
	return int64(n), err == nil && v[0] != '+' //nolint:gosec // 63 bits
}
