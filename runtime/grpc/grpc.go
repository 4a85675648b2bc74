// Package grpc is what gRPC says in HTTP: which messages are its own, its statuses and their texts, how long a call may take,
// and which status stands for what goes wrong beside it. Messages are not its business, but for their frame.
//
// It follows PROTOCOL-HTTP2.md, PROTOCOL-WEB.md and http-grpc-status-mapping.md of github.com/grpc/grpc. The public library
// is not used: its tables are internal, and it brings a transport of its own.
package grpc

import (
	"bytes"
	"strconv"
	"time"

	"wasmgate/runtime/http1"
)

// The names of the fields.
const (
	FieldStatus  = "grpc-status"
	FieldMessage = "grpc-message"
	FieldTimeout = "grpc-timeout"
)

// Kind is what a content type says of a message.
type Kind uint8

// The kinds. A message of Web and WebText is one of gRPC-Web: its trailers are a part of its body, which is base64 in
// WebText.
const (
	None Kind = iota
	GRPC
	Web
	WebText
)

var types = [...]string{GRPC: "application/grpc", Web: "application/grpc-web", WebText: "application/grpc-web-text"}

// ContentType is the content type of the kind without the format of its messages. It is empty for None.
func (k Kind) ContentType() string { return types[k] }

// KindOf reads a content type. format is that of the messages with its plus sign, "+proto"; empty if it is not said. It is a
// view of value.
func KindOf(value []byte) (kind Kind, format []byte) {
	if len(value) < len(types[GRPC]) || value[0]|0x20 != 'a' { // most are not
		return None, nil
	}
	if end := bytes.IndexByte(value, ';'); end >= 0 {
		value = value[:end]
	}
	if value = bytes.TrimRight(value, " \t"); bytes.IndexByte(value, '+') >= 0 {
		value, format = value[:bytes.IndexByte(value, '+')], value[bytes.IndexByte(value, '+'):]
	}
	for k := GRPC; k <= WebText; k++ {
		if http1.EqualFold(value, types[k]) {
			return k, format
		}
	}
	return None, nil
}

// Of is KindOf for the content type of a message.
func Of(h *http1.Head) Kind {
	v, ok := h.GetID(http1.FieldContentType)
	if !ok {
		return None
	}
	k, _ := KindOf(v)
	return k
}

// StatusOf reads the status of a head or of trailers. It is Unknown if there is one that is no status, and not ok if there
// is none.
func StatusOf(h *http1.Head) (code Code, ok bool) {
	v, ok := h.Get(FieldStatus)
	if !ok {
		return Unknown, false
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' || n > int(Unauthenticated) {
			return Unknown, true
		}
		n = 10*n + int(c-'0')
	}
	if len(v) == 0 || n > int(Unauthenticated) {
		return Unknown, true
	}
	return Code(n), true //nolint:gosec // not above the last code
}

// maxTimeout is the longest that a timeout says, in nanoseconds: what is longer is as good as none.
const maxTimeout = 1 << 62

// Timeout reads the value of grpc-timeout: at most eight digits, and a unit. It is not ok if it is not that.
func Timeout(value []byte) (d time.Duration, ok bool) {
	if len(value) < 2 || len(value) > 9 {
		return 0, false
	}
	n := int64(0)
	for _, c := range value[:len(value)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	unit := int64(0)
	for _, u := range units {
		if u.name == value[len(value)-1] {
			unit = int64(u.is)
		}
	}
	switch {
	case unit == 0:
		return 0, false
	case n > maxTimeout/unit:
		return maxTimeout, true
	}
	return time.Duration(n * unit), true
}

var units = [...]struct {
	name byte
	is   time.Duration
}{{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}}

// AppendTimeout appends a value of grpc-timeout that is d, or a little less where eight digits do not hold it.
func AppendTimeout(dst []byte, d time.Duration) []byte {
	const most = 99_999_999
	d = max(d, 0)
	for _, u := range units {
		if n := int64(d / u.is); n <= most {
			return append(strconv.AppendInt(dst, n, 10), u.name)
		}
	}
	return append(dst, "99999999H"...)
}

// MaxMessage is how much of a text AppendMessage takes, in bytes: fields are bounded where they arrive.
const MaxMessage = 4 << 10

// AppendMessage appends a text as the value of grpc-message. White space around it, which no field can have, is left out.
func AppendMessage(dst, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	text = bytes.TrimSpace(text)
	for _, c := range text[:min(len(text), MaxMessage)] {
		if c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return bytes.TrimRight(dst, " ") // where the text was cut
}

// Message is a value of grpc-message as text. What is not encoded as it should be stays as it is.
func Message(value []byte) string {
	text := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			if n, err := strconv.ParseUint(string(value[i+1:i+3]), 16, 8); err == nil {
				text = append(text, byte(n))
				i += 2
				continue
			}
		}
		text = append(text, value[i])
	}
	return string(text)
}

// SplitMethod takes the path of a request apart: "/package.Service/Method". It is not ok if it is not of that form.
func SplitMethod(path []byte) (service, method []byte, ok bool) {
	if len(path) < 4 || path[0] != '/' {
		return nil, nil, false
	}
	i := bytes.LastIndexByte(path, '/')
	if i < 2 || i == len(path)-1 {
		return nil, nil, false
	}
	return path[1:i], path[i+1:], true
}
