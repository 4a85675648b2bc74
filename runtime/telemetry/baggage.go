package telemetry

import (
	"bytes"
	"net/url"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// Bounds of what is looked at of the field baggage (W3C Baggage §3.3.2), and of what is taken of a member.
const (
	maxBaggageBytes   = 8192
	maxBaggageMembers = 64
	maxBaggageValue   = 256
)

// member is one of the baggage that becomes an attribute.
type member struct {
	name  string // as the configuration has it
	value cut
}

// takeBaggage copies the members of the request's baggage that were asked for. The first of a name counts.
func (r *Recorder) takeBaggage(rec *record, x *exchange.Exchange) {
	h := &x.Request.Head
	left, members := maxBaggageBytes, maxBaggageMembers
	for i := range h.Len() {
		if h.ID(i) != http1.FieldBaggage {
			continue
		}
		b := h.Value(i)
		if left -= len(b); left < 0 {
			return
		}
		for len(b) > 0 {
			var one []byte
			one, b, _ = bytes.Cut(b, comma)
			if members--; members < 0 {
				return
			}
			one, _, _ = bytes.Cut(one, semicolon) // its properties
			key, value, found := bytes.Cut(one, equals)
			if found {
				r.takeMember(rec, bytes.Trim(key, " \t"), bytes.Trim(value, " \t"))
			}
		}
	}
}

func (r *Recorder) takeMember(rec *record, key, value []byte) {
	for _, name := range r.baggage {
		if string(key) != name {
			continue
		}
		for _, m := range rec.baggage {
			if m.name == name {
				return
			}
		}
		rec.baggage = append(rec.baggage, member{name, rec.put(value, maxBaggageValue)})
		return
	}
}

var semicolon = []byte(";")

// decoded is the value of a member of baggage as text: percent-encoded, or as it is if it is not that.
func decoded(value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	if text, err := url.PathUnescape(value); err == nil {
		return valid(text)
	}
	return value
}
