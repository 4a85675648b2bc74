package telemetry

import (
	"bytes"

	"wasmgate/runtime/exchange"
)

// traceparentLen is the length of a version 00 traceparent: version, trace id, parent id, flags.
const traceparentLen = 2 + 1 + 32 + 1 + 16 + 1 + 2

// parentContext is what a traceparent field says.
type parentContext struct {
	traceID [16]byte
	spanID  [8]byte
	sampled bool
}

// parseTraceparent reads a traceparent field (W3C Trace Context §3.2). It is as strict as the text: lower-case hex
// only, no white space, ids that are not zero, no version ff; of later versions it reads the part that it knows.
func parseTraceparent(b []byte) (p parentContext, ok bool) {
	if len(b) < traceparentLen || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return p, false
	}
	var version, flags [1]byte
	if !unhex(version[:], b[:2]) || !unhex(p.traceID[:], b[3:35]) || !unhex(p.spanID[:], b[36:52]) || !unhex(flags[:], b[53:55]) {
		return p, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(b) != traceparentLen,
		len(b) > traceparentLen && b[traceparentLen] != '-',
		p.traceID == [16]byte{}, p.spanID == [8]byte{}:
		return p, false
	}
	p.sampled = flags[0]&1 != 0
	return p, true
}

// unhex decodes lower-case hex; src is twice as long as dst.
func unhex(dst, src []byte) bool {
	for i := range dst {
		hi, lo := hexValue[src[2*i]], hexValue[src[2*i+1]]
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

const hexDigits = "0123456789abcdef"

var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(hexDigits) {
		t[hexDigits[i]] = byte(i)
	}
	return t
}()

func appendHex(dst, src []byte) []byte {
	for _, c := range src {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// AppendTraceparent appends the value of the traceparent field that names span as the parent of what follows. It does not set the random flag of the Level 2 draft: widespread readers of version 00 refuse it.
func AppendTraceparent(dst []byte, t *exchange.Trace, span [8]byte) []byte {
	dst = append(dst, "00-"...)
	dst = append(appendHex(dst, t.TraceID[:]), '-')
	dst = appendHex(dst, span[:])
	if t.Sampled {
		return append(dst, "-01"...)
	}
	return append(dst, "-00"...)
}

// Limits of tracestate: W3C Trace Context §3.3.1.
const (
	maxTracestateMembers = 32
	maxTracestateBytes   = 512
)

// validTracestate says whether b is a tracestate that may be passed on (W3C Trace Context §3.3).
func validTracestate(b []byte) bool {
	if len(b) > maxTracestateBytes {
		return false
	}
	members := 0
	for len(b) > 0 {
		var member []byte
		member, b, _ = bytes.Cut(b, comma)
		member = bytes.Trim(member, " \t")
		if len(member) == 0 {
			continue // empty members are allowed
		}
		key, value, found := bytes.Cut(member, equals)
		if members++; members > maxTracestateMembers || !found || !validStateKey(key) || !validStateValue(value) {
			return false
		}
	}
	return members > 0
}

var comma, equals = []byte(","), []byte("=")

func validStateKey(key []byte) bool {
	if len(key) == 0 || len(key) > 256 {
		return false
	}
	tenant, system, multi := bytes.Cut(key, []byte("@"))
	if multi && (len(tenant) == 0 || len(tenant) > 241 || len(system) == 0 || len(system) > 14 || system[0] < 'a' || system[0] > 'z') {
		return false
	}
	if first := key[0]; !(first >= 'a' && first <= 'z') && !(first >= '0' && first <= '9') {
		return false
	}
	for _, part := range [2][]byte{tenant, system} {
		for _, c := range part {
			if !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-' && c != '*' && c != '/' {
				return false
			}
		}
	}
	return true
}

func validStateValue(v []byte) bool {
	if len(v) == 0 || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for _, c := range v {
		if c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
