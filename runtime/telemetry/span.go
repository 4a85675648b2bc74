package telemetry

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
)

// span is a span that has ended. It belongs to its maker, which uses it again; its texts may be views of the record that
// it was made of, and of the maker's memory.
type span struct {
	maker   *spanMaker
	name    string
	kind    trace.SpanKind
	context trace.SpanContext
	parent  trace.SpanContext
	start   int64
	end     int64
	attrs   []attribute.KeyValue
	events  []event
	links   []link
	status  status
	dropped int
}

// event is something that happened at a time.
type event struct {
	name  string
	at    int64
	attrs []attribute.KeyValue
}

// link leads to the span of an upstream connection.
type link struct {
	trace [16]byte
	span  [8]byte
	conn  uint64 // the connection's id; 0: it came to none
}

// status says whether what a span tells of failed.
type status struct {
	code codes.Code
	text string
}

// clear makes the span ready for the next use of its storage.
func (s *span) clear() {
	clear(s.attrs)
	*s = span{maker: s.maker, attrs: s.attrs[:0], events: s.events[:0], links: s.links[:0]}
}

func (s *span) set(kv ...attribute.KeyValue) { s.attrs = append(s.attrs, kv...) }

// setText sets an attribute that is left out when it is empty.
func (s *span) setText(k attribute.Key, v string) {
	if v != "" {
		s.attrs = append(s.attrs, k.String(valid(v)))
	}
}

func (s *span) setCount(k attribute.Key, v uint64) { s.set(k.Int64(int64(v))) }

func (s *span) setSeconds(k attribute.Key, d time.Duration) { s.set(k.Float64(d.Seconds())) }

func (s *span) setAddress(addr, port attribute.Key, a netip.AddrPort) {
	switch path, unix := unixaddr.Path(a.Addr()); {
	case unix:
		s.setText(addr, path) // it has no port
	case a.IsValid():
		s.set(addr.String(s.maker.address(a.Addr())), port.Int(int(a.Port())))
	}
}

// setHost splits host:port; without a port it is the scheme's. A Unix socket has none.
func (s *span) setHost(hostport string, tls bool) {
	if hostport == "" {
		return
	}
	if path, ok := unixaddr.HostPath(hostport); ok {
		s.setText(attrServerAddress, path)
		return
	}
	host, port := strings.Trim(hostport, "[]"), "80"
	if tls {
		port = "443"
	}
	if strings.LastIndexByte(hostport, ':') > strings.LastIndexByte(hostport, ']') { // asked first: the error is garbage
		if h, p, err := net.SplitHostPort(hostport); err == nil {
			host, port = h, p
		}
	}
	s.setText(attrServerAddress, host)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		s.set(attrServerPort.Int(int(n)))
	}
}

// event adds an event, unless the time says that it did not happen.
func (s *span) event(at int64, name string, attrs ...attribute.KeyValue) {
	if at == 0 {
		return
	}
	n := len(s.events)
	if n < cap(s.events) {
		s.events = s.events[:n+1] // with the storage that its attributes had
	} else {
		s.events = append(s.events, event{})
	}
	e := &s.events[n]
	e.name, e.at, e.attrs = name, at, append(e.attrs[:0], attrs...)
}

// fail marks the span as failed by e.
func (s *span) fail(e *fault.Error) {
	text := e.Error()
	text = valid(text[:min(len(text), maxErrorText)])
	s.status = status{codes.Error, text}
	s.set(attrErrorType.String(e.Kind.String()), attrErrorSource.String(e.Source.String()))
	s.event(max(s.start, s.end), eventException, attrExcType.String(e.Kind.String()), attrExcMessage.String(text))
}

// failStatus marks the span as failed by a status code (HTTP semantic conventions, "Status").
func (s *span) failStatus(code int) {
	s.status.code = codes.Error
	s.set(attrErrorType.String(strconv.Itoa(code)))
}

// maxErrorText bounds the text of an error on a span, in bytes: a plugin or a peer may have had a say in it.
const maxErrorText = 1 << 10

// clientAddress is a client's address as it is told of. A zone means nothing here, and where a proxy said who the client
// is it may be any text that the client liked.
func clientAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// valid makes text that came from outside fit for a protobuf string: one bad byte would cost the whole batch.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// view is b as a text, for as long as b stays as it is.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
