package plugintest

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Field is a field line of a message.
type Field struct{ Name, Value string }

// Message is a request, or an answer to one.
type Message struct {
	Method, Target string // of a request; default GET and /
	Authority      string // of a request; default example.com
	Scheme         string // of a request; default http
	Client         netip.Addr
	TLS            *exchange.TLS // of the client's connection; nil: it is not secured
	Status         int           // of an answer; default 200
	Fields         []Field
	Body           []string // the pieces in which it comes; nil: there is none
	Trailers       []Field
}

// Case is an exchange.
type Case struct {
	Role     filter.Role
	Route    string // the name of the route that matched
	Request  Message
	Response *Message // the upstream's answer; nil: there is none, and no response phase
	// Untraced says that the trace is not recorded. Then neither are calls and attributes.
	Untraced bool
}

// defaultClient is an address for documentation (RFC 5737).
var defaultClient = netip.MustParseAddr("192.0.2.7")

// limits let a message's head be as long as a test wants.
var limits = func() *http1.Limits {
	l := http1.DefaultLimits
	l.Head, l.Target, l.Fields = 1<<20, 1<<20, 1000
	return &l
}()

// head writes the lines of a message: the first one is given.
func (m *Message) head(first string) []byte {
	b := append([]byte(first), "\r\n"...)
	framed := false
	for _, f := range m.Fields {
		b = append(b, f.Name+": "+f.Value+"\r\n"...)
		framed = framed || strings.EqualFold(f.Name, "content-length") || strings.EqualFold(f.Name, "transfer-encoding")
	}
	switch {
	case framed || m.Body == nil:
	case len(m.Trailers) > 0 || len(m.Body) > 1:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		b = append(b, "Content-Length: "+strconv.Itoa(len(m.Body[0]))+"\r\n"...)
	}
	return append(b, "\r\n"...)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// requestHead is the head of a request as it would come from a client.
func (m *Message) requestHead() []byte {
	line := or(m.Method, "GET") + " " + or(m.Target, "/") + " HTTP/1.1\r\nHost: " + or(m.Authority, "example.com")
	return m.head(line)
}

func parseRequest(r *http1.Request, m *Message) error {
	b := m.requestHead()
	n, err := r.Parse(b, limits)
	if err == nil && n != len(b) {
		err = fmt.Errorf("a field or the request line has a line end in it")
	}
	return err
}

func parseResponse(x *exchange.Exchange, m *Message) error {
	status := m.Status
	if status == 0 {
		status = 200
	}
	b := m.head(fmt.Sprintf("HTTP/1.1 %d %s", status, http1.StatusText(status)))
	if m.Body == nil && status != 204 && status != 304 {
		b = m.with("").head(fmt.Sprintf("HTTP/1.1 %d %s", status, http1.StatusText(status)))
	}
	n, err := x.Response.Parse(b, limits, x.Request.Method)
	if err == nil && n != len(b) {
		err = fmt.Errorf("a field has a line end in it")
	}
	return err
}

// with is the message with a body of one piece.
func (m Message) with(body string) *Message {
	m.Body = []string{body}
	return &m
}

// pieces is a body as it comes from a peer: body.Source.
type pieces struct {
	list     []string
	trailers http1.Head
}

func (p *pieces) init(m *Message) {
	p.list = nil
	for _, s := range m.Body {
		if s != "" {
			p.list = append(p.list, s)
		}
	}
	p.trailers.Reset()
	for _, f := range m.Trailers {
		p.trailers.Add(f.Name, f.Value)
	}
}

// Next is body.Source's.
func (p *pieces) Next(*netloop.Task) ([]byte, error) {
	if len(p.list) == 0 {
		return nil, io.EOF
	}
	return p.Ready()
}

// Ready is body.Source's.
func (p *pieces) Ready() ([]byte, error) {
	if len(p.list) == 0 {
		return nil, nil
	}
	b := []byte(p.list[0])
	p.list = p.list[1:]
	return b, nil
}

// Done is body.Source's.
func (p *pieces) Done() bool { return len(p.list) == 0 }

// Trailers is body.Source's.
func (p *pieces) Trailers() *http1.Head { return &p.trailers }

// fieldsOf copies a head's fields, with names in lower case; Host is the authority's business, and framing the gateway's.
func fieldsOf(h *http1.Head) []Field {
	var list []Field
	for i := range h.Len() {
		if id := h.ID(i); id != http1.FieldHost && !http1.IsFraming(id) {
			list = append(list, Field{string(bytes.ToLower(h.Name(i))), string(h.Value(i))})
		}
	}
	return list
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
