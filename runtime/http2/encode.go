package http2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/http1"
)

// encode adds a field to the header block that is being written. What is secret is not put into a table.
func (c *Conn) encode(name, value string) {
	_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: name == "authorization" || name == "set-cookie"})
}

// encodeField is encode for a field of a Head.
func (c *Conn) encodeField(id http1.FieldID, name, value []byte) {
	in := &c.memory.strings
	if id != http1.FieldUnknown {
		c.encode(lowerNames[id], in.string(value))
		return
	}
	var lower [longestKept]byte
	if len(name) > len(lower) {
		c.encode(strings.ToLower(string(name)), in.string(value))
		return
	}
	for i, b := range name {
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		lower[i] = b
	}
	c.encode(in.string(lower[:len(name)]), in.string(value))
}

// number is n as text.
func (c *Conn) number(n int64) string {
	var b [20]byte
	return c.memory.strings.string(strconv.AppendInt(b[:0], n, 10))
}

// writeEnd ends what we send in a stream, with trailers if there are any. Those that do not belong there are left out.
func (s *Stream) writeEnd(trailers *http1.Head) {
	c := s.conn
	if trailers != nil {
		for i := range trailers.Len() {
			if name := trailers.Name(i); http1.MayTrail(name) {
				c.encodeField(trailers.ID(i), name, trailers.Value(i))
			}
		}
	}
	s.ended = true
	switch {
	case c.memory.encoded.Len() > 0:
		c.headers(s, true)
	case c.endLast(s):
	default:
		c.writeData(s, true, nil)
	}
}

// lowerNames are the known names as HTTP/2 has them.
var lowerNames = func() (names [64]string) {
	for id := http1.FieldUnknown + 1; id.Known(); id++ {
		names[id] = strings.ToLower(id.String())
	}
	return names
}()

func lowerName(id http1.FieldID, name []byte) string {
	if id != http1.FieldUnknown {
		return lowerNames[id]
	}
	return strings.ToLower(string(name))
}
