package http3

import (
	"bytes"

	"wasmgate/runtime/http1"
)

// prioritize has the answer sent as its client wants it, if it says so (RFC 9218): streams of a lower urgency number go first, and
// of the same number one after the other, or all at the same time if they are incremental.
func (s *Stream) prioritize(r *http1.Request) {
	v, ok := r.Get("priority")
	if !ok {
		return
	}
	urgency, incremental := priority(v)
	s.quic.SetPriority(urgency, incremental)
}

// priority reads a Priority field. What is not understood is as if it was not there.
func priority(v []byte) (urgency int8, incremental bool) {
	urgency = 3
	for len(v) > 0 {
		member, rest, _ := bytes.Cut(v, []byte{','})
		v = rest
		member, _, _ = bytes.Cut(member, []byte{';'})
		switch key, value, _ := bytes.Cut(bytes.TrimSpace(member), []byte{'='}); {
		case string(key) == "u" && len(value) == 1 && value[0] >= '0' && value[0] <= '7':
			urgency = int8(value[0] - '0')
		case string(key) == "i":
			incremental = len(value) == 0 || string(value) == "?1"
		}
	}
	return urgency, incremental
}
