package http3

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/quic-go/qpack"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
)

// pseudo are the pseudo fields of a request, RFC 9114 section 4.3.1; nil: it has none of that name.
type pseudo struct {
	method, scheme, authority, path []byte

	storage []byte // where they are, one behind the other; its owner's
}

// lines reads the lines of a field section one after the other.
type lines struct {
	next   qpack.DecodeFunc
	left   int // bytes, as RFC 9114 section 4.2.2 counts them
	fields int
}

// overhead is what a field counts beside its name and value.
const overhead = 32

var errTooLarge = fault.New(fault.HeadTooLarge, fault.Client, 431, "the head is over its limit in bytes (limits.head)")

// section begins a field section. Its lines count without their overhead, which the number of fields bounds.
func section(block []byte, bytes, fields int) lines {
	return lines{next: new(qpack.Decoder).Decode(block), left: bytes, fields: fields}
}

// line is the next field; io.EOF after the last.
func (s *lines) line() (qpack.HeaderField, error) {
	f, err := s.next()
	switch {
	case errors.Is(err, io.EOF):
		return f, io.EOF
	case err != nil:
		return f, &connError{errQPACKDecompression, "a field section that cannot be read: " + err.Error()}
	}
	if s.left -= len(f.Name) + len(f.Value); s.left < 0 {
		return f, errTooLarge
	}
	if s.fields--; s.fields < 0 {
		return f, fault.New(fault.HeadTooLarge, fault.Client, 431, "the head has too many fields (limits.fields)")
	}
	return f, nil
}

func malformed(detail string) error {
	return fault.New(fault.Malformed, fault.Client, 400, "%s", detail)
}

// readHeadFields adds the fields of a request's head to to, as they come, for http1.Request.Assemble to look at, and returns its
// pseudo fields, which are in storage, or what it has grown to.
func readHeadFields(block []byte, lim *http1.Limits, to *http1.Head, storage []byte) (p pseudo, err error) {
	if p.storage = storage[:0]; p.storage == nil {
		p.storage = []byte{} // a field that is empty is not one that is not there
	}
	s, late := section(block, lim.Head, lim.Fields+pseudoFields), false
	for {
		f, err := s.line()
		switch {
		case errors.Is(err, io.EOF):
			return p, p.complete()
		case err != nil:
			return p, err
		case len(f.Name) > 0 && f.Name[0] == ':':
			if err := p.take(f, late); err != nil {
				return p, err
			}
			continue
		}
		late = true
		to.Add(f.Name, f.Value)
	}
}

// pseudoFields is how many pseudo fields a request may have besides its fields.
const pseudoFields = 4

// take takes a pseudo field. late: others have come before it.
func (p *pseudo) take(f qpack.HeaderField, late bool) error {
	var to *[]byte
	switch f.Name {
	case ":method":
		to = &p.method
	case ":scheme":
		to = &p.scheme
	case ":authority":
		to = &p.authority
	case ":path":
		to = &p.path
	default:
		return malformed("a pseudo field that no request has")
	}
	switch {
	case late:
		return malformed("a pseudo field behind others")
	case *to != nil:
		return malformed("a pseudo field that comes twice")
	}
	at := len(p.storage)
	p.storage = append(p.storage, f.Value...)
	*to = p.storage[at:len(p.storage):len(p.storage)]
	return nil
}

// complete says what is missing, or too much, that Assemble leaves to its caller.
func (p *pseudo) complete() error {
	switch {
	case len(p.method) == 0:
		return malformed("a request without :method")
	case string(p.method) != "CONNECT":
		if len(p.scheme) == 0 {
			return malformed("a request without :scheme")
		}
	case p.scheme != nil || p.path != nil:
		return malformed("a CONNECT with :scheme or :path")
	}
	return nil
}

// readTrailers adds the fields of a trailer section to to, but for those that must not be merged or forwarded.
func readTrailers(block []byte, lim *http1.Limits, to *http1.Head) error {
	s := section(block, lim.Trailer, lim.Fields)
	for {
		f, err := s.line()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(f.Name) > 0 && f.Name[0] == ':':
			return malformed("a pseudo field in trailers")
		}
		if !http1.ValidFieldName(f.Name) || upper(f.Name) || !http1.ValidFieldValue(f.Value) {
			return malformed("a trailer whose name is not in lower case, or with control characters or white space around its value")
		}
		if http1.MayTrail([]byte(f.Name)) {
			to.Add(f.Name, f.Value)
		}
	}
}

func upper(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// lower are the known field names as HTTP/3 has them.
var lower = func() (t [256]string) {
	for id := http1.FieldUnknown + 1; id.Known(); id++ {
		t[id] = strings.ToLower(id.String())
	}
	return t
}()

// coder writes field sections. It is one loop's.
type coder struct {
	out     []byte
	encoder *qpack.Encoder
}

// Write is io.Writer's, for the encoder.
func (c *coder) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// begin begins a field section.
func (c *coder) begin() {
	if c.encoder == nil {
		c.encoder = qpack.NewEncoder(c)
	}
	c.out = c.out[:0]
}

func (c *coder) add(name, value string) {
	_ = c.encoder.WriteField(qpack.HeaderField{Name: name, Value: value}) // it fails as Write does: never
}

// addFields adds all fields of h that go to a client of HTTP/3 but for those that skip picks.
func (c *coder) addFields(h *http1.Head, skip func(http1.FieldID) bool) {
	for i := range h.Len() {
		id := h.ID(i)
		if http1.IsHopByHop(id) || skip(id) {
			continue
		}
		name := lower[id]
		if id == http1.FieldUnknown {
			name = strings.ToLower(string(h.Name(i)))
		}
		c.add(name, string(h.Value(i)))
	}
}

// end appends the section to dst as a HEADERS frame.
func (c *coder) end(dst []byte) []byte {
	_ = c.encoder.Close()
	if len(c.out) == 0 {
		c.out = append(c.out, 0, 0) // the prefix of a section without lines
	}
	return append(appendFrameHeader(dst, frameHeaders, uint64(len(c.out))), c.out...)
}

// appendHead appends an answer's head as a HEADERS frame.
func (c *coder) appendHead(dst []byte, r *http1.Response, o *http1.ResponseOut) []byte {
	c.begin()
	c.add(":status", strconv.Itoa(r.Status))
	interim := r.Status < 200
	c.addFields(&r.Head, func(id http1.FieldID) bool {
		return http1.IsFraming(id) || id == http1.FieldTrailer && o.Framing.Kind != http1.Chunked && o.Framing.Kind != http1.UntilClose
	})
	if interim {
		return c.end(dst)
	}
	if _, has := r.GetID(http1.FieldDate); !has && len(o.Date) > 0 {
		c.add("date", string(o.Date))
	}
	if announces(r.Status, o.Framing) {
		c.add("content-length", strconv.FormatInt(o.Framing.Length, 10))
	}
	return c.end(dst)
}

// announces says whether an answer has a content-length: one that could have a body, and has none, must say 0.
func announces(status int, f http1.Framing) bool {
	switch {
	case f.Kind == http1.Length:
		return true
	case f.Kind != http1.NoBody || status == 204:
		return false
	case status == 304:
		return f.Length > 0
	}
	return f.Length >= 0
}

// appendTrailers appends trailers as a HEADERS frame; nothing, if there are none.
func (c *coder) appendTrailers(dst []byte, h *http1.Head) []byte {
	c.begin()
	n := 0
	for i := range h.Len() {
		if !http1.MayTrail(h.Name(i)) {
			continue
		}
		n++
		c.add(strings.ToLower(string(h.Name(i))), string(h.Value(i)))
	}
	if n == 0 {
		return dst
	}
	return c.end(dst)
}
