package proxywasm

import (
	"bytes"
	"strconv"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// answer is what a plugin answers itself. Everything in it is its own memory.
type answer struct {
	set    bool
	status int
	fields http1.Head
	body   []byte
}

func (a *answer) reset() {
	const keep = 64 << 10
	if cap(a.body) > keep {
		a.body = nil
	}
	a.set, a.status, a.body = false, 0, a.body[:0]
	a.fields.Reset()
}

// apply makes it the exchange's local answer.
func (a *answer) apply(x *exchange.Exchange) {
	x.Response.Reset()
	x.Response.Status, x.Response.Minor = a.status, 1
	x.Response.Framing = http1.Framing{Kind: http1.Length, Length: int64(len(a.body))}
	for i := range a.fields.Len() {
		x.Response.AddBytes(a.fields.Name(i), a.fields.Value(i))
	}
	x.Local.Set, x.Local.Status = true, a.status
	x.Local.Body = append(x.Local.Body[:0], a.body...)
}

const (
	grpcType = "application/grpc"
	noGRPC   = -1
)

// respond takes a plugin's answer for a request. It says whether it can be one.
func (a *answer) respond(r *http1.Request, status int, body []byte, fields pairs, grpc int32) bool {
	if status < 200 || status > 599 || len(body) > maxAnswer {
		return false
	}
	a.reset()
	for name, value, ok := fields.next(); ok; name, value, ok = fields.next() {
		value = trim(value)
		if !http1.ValidFieldName(name) || !http1.ValidFieldValue(value) {
			return false
		}
		if !connectionField(name) {
			a.fields.AddBytes(name, value)
		}
	}
	a.status = status
	if kind, _ := r.GetID(http1.FieldContentType); len(kind) >= len(grpcType) && string(kind[:len(grpcType)]) == grpcType {
		a.asGRPC(status, body, grpc)
	} else if status != 204 && status != 205 && status != 304 {
		a.body = append(a.body, body...)
		if _, ok := a.fields.GetID(http1.FieldContentType); !ok && len(body) > 0 {
			a.fields.AddID(http1.FieldContentType, []byte("text/plain"))
		}
	}
	a.set = true
	return true
}

// asGRPC makes it an answer that gRPC clients understand: trailers only, status and message in fields.
func (a *answer) asGRPC(status int, message []byte, grpc int32) {
	if grpc == noGRPC {
		grpc = grpcStatus(status)
	}
	a.status = 200
	a.fields.SetID(http1.FieldContentType, []byte(grpcType))
	a.fields.SetBytes([]byte("grpc-status"), strconv.AppendUint(nil, uint64(uint32(grpc)), 10)) //nolint:gosec // as Envoy writes it
	if len(message) > 0 {
		const most = 8 << 10
		a.fields.SetBytes([]byte("grpc-message"), percentEncoded(message[:min(len(message), most)]))
	}
}

// grpcStatus is gRPC's mapping of HTTP statuses.
func grpcStatus(status int) int32 {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

func percentEncoded(b []byte) (out []byte) {
	const hex = "0123456789ABCDEF"
	for _, c := range b {
		if c < ' ' || c > '~' || c == '%' {
			out = append(out, '%', hex[c>>4], hex[c&15])
			continue
		}
		out = append(out, c)
	}
	return out
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// connectionField says whether a field is the gateway's own business: framing, or about one connection. An underscore
// counts as a hyphen, because servers that turn names into variables do not tell them apart. Host is not: it is :authority.
func connectionField(name []byte) bool {
	var spelled [32]byte // longer than every such name
	if len(name) > len(spelled) {
		return false
	}
	if bytes.IndexByte(name, '_') >= 0 {
		n := copy(spelled[:], name)
		for i, c := range spelled[:n] {
			if c == '_' {
				spelled[i] = '-'
			}
		}
		name = spelled[:n]
	}
	id := http1.LookupFieldBytes(name)
	return http1.IsHopByHop(id) || http1.IsFraming(id) || id == http1.FieldTrailer || id == http1.FieldExpect
}
