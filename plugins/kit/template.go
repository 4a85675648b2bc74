package kit

import (
	"net/netip"
	"sort"
	"strconv"
	"strings"

	wasmgate "wasmgate/sdk/go"
)

// MaxText is how long the text of a template, and with it the value of a header, can be. The gateway takes twice as much.
const MaxText = 8 << 10

// maxPieces bounds what a template is made of, and with it what it costs.
const maxPieces = 32

// Exchange is what templates read: a *wasmgate.Request, or a *wasmgate.Response, which knows its request.
type Exchange interface {
	Method() string
	Scheme() string
	Authority() string
	Host() string
	Path() string
	Query() string
	Client() string
	SNI() string
	CertSubject() string
	Route() string
	HeaderCount(h wasmgate.Header) int
	HeaderAt(h wasmgate.Header, k int) string
}

// Template is a text with placeholders:
//
//	{method} {scheme} {authority} {host} {path} {query}   of the request; host is the authority without its port
//	{client}            the client's address
//	{client.network}    the same of IPv4; of IPv6 its first 64 bits: what one customer has
//	{sni} {certificate} the server name of the TLS handshake, the subject of the client's certificate
//	{route}             the name of the route
//	{header.NAME}       a header of the request; several values are joined by ", "
//	{cookie.NAME}       a cookie
//	{query.NAME}        a parameter of the query, decoded
//	{response.NAME}     a header of the answer, and
//	{status}            its status, where there is an answer
//
// {NAME|text} is text where there would be nothing. {{ and }} stand for braces.
type Template struct{ pieces []piece }

type piece struct {
	get   func(dst []byte, x Exchange, p *piece) []byte // nil: a literal
	text  string                                        // the literal, or what stands for nothing
	name  string                                        // of a cookie or parameter
	field wasmgate.Header
}

// Template reads a text with placeholders. Those of an answer are for a handler of answers.
func (v Value) Template(answer bool) (Template, error) {
	var t Template
	s, err := v.Text()
	for err == nil && s != "" {
		at := strings.IndexAny(s, "{}")
		switch {
		case at < 0:
			t.literal(s)
			s = ""
		case at+1 < len(s) && s[at+1] == s[at]:
			t.literal(s[:at+1])
			s = s[at+2:]
		case s[at] == '}' || strings.IndexByte(s[at:], '}') < 0:
			err = v.Wrong("has a brace without its other half; {{ and }} stand for braces")
		default:
			end := at + strings.IndexByte(s[at:], '}')
			t.literal(s[:at])
			var p piece
			if p, err = v.placeholder(s[at+1:end], answer); err == nil {
				t.pieces = append(t.pieces, p)
			}
			s = s[end+1:]
		}
	}
	if err == nil && len(t.pieces) > maxPieces {
		err = v.Wrong("has more than " + strconv.Itoa(maxPieces) + " parts")
	}
	for i := range t.pieces {
		if err == nil && !FieldValue(strings.Trim(t.pieces[i].text, " \t")) {
			err = v.Wrong("has a line end or another control character, or is too long")
		}
	}
	return t, err
}

func (t *Template) literal(s string) {
	last := len(t.pieces) - 1
	switch {
	case s == "":
	case last >= 0 && t.pieces[last].get == nil:
		t.pieces[last].text += s
	default:
		t.pieces = append(t.pieces, piece{text: s})
	}
}

var placeholders = map[string]func(dst []byte, x Exchange, p *piece) []byte{
	"method":         func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Method()) },
	"scheme":         func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Scheme()) },
	"authority":      func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Authority()) },
	"host":           func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Host()) },
	"path":           func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Path()) },
	"query":          func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Query()) },
	"client":         func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Client()) },
	"client.network": network,
	"sni":            func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.SNI()) },
	"certificate":    func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.CertSubject()) },
	"route":          func(dst []byte, x Exchange, _ *piece) []byte { return add(dst, x.Route()) },
}

func (v Value) placeholder(s string, answer bool) (piece, error) {
	name, otherwise, _ := strings.Cut(s, "|")
	p := piece{get: placeholders[name], text: otherwise}
	if p.get != nil {
		return p, nil
	}
	kind, rest, _ := strings.Cut(name, ".")
	p.name = strings.Clone(rest)
	switch {
	case kind == "query" && rest != "":
		p.get = parameter
	case kind == "cookie" && Token(rest):
		p.field, p.get = wasmgate.RequestHeader("cookie"), cookie
	case kind == "header" && Token(rest):
		p.field, p.get = wasmgate.RequestHeader(rest), header
	case kind == "response" && Token(rest) && answer:
		p.field, p.get = wasmgate.ResponseHeader(rest), header
	case name == "status" && answer:
		p.get = status
	case name == "status" || kind == "response":
		return p, v.Wrong("asks for the answer ({" + name + "}), and there is none yet")
	default:
		names := make([]string, 0, len(placeholders))
		for n := range placeholders {
			names = append(names, n)
		}
		sort.Strings(names)
		return p, v.Wrong("has {" + name + "}; there are: " + strings.Join(names, ", ") + ", header.NAME, cookie.NAME, query.NAME, response.NAME, status")
	}
	return p, nil
}

// add appends as much of s as is taken, and a byte more where that is not all, so that it is seen.
func add(dst []byte, s string) []byte { return append(dst, s[:min(len(s), MaxText+1)]...) }

func header(dst []byte, x Exchange, p *piece) []byte {
	for k := range x.HeaderCount(p.field) {
		if k > 0 {
			dst = append(dst, ", "...)
		}
		if dst = add(dst, x.HeaderAt(p.field, k)); len(dst) > 4*MaxText {
			break
		}
	}
	return dst
}

func status(dst []byte, x Exchange, _ *piece) []byte {
	if r, ok := x.(*wasmgate.Response); ok {
		dst = strconv.AppendInt(dst, int64(r.Status()), 10)
	}
	return dst
}

func network(dst []byte, x Exchange, _ *piece) []byte {
	a, ok := ParseClient(x.Client())
	if !ok {
		return dst
	}
	if a = a.Unmap(); a.Is6() {
		p, _ := a.Prefix(64)
		return netip.PrefixFrom(p.Addr(), 64).AppendTo(dst)
	}
	return a.AppendTo(dst)
}

func cookie(dst []byte, x Exchange, p *piece) []byte {
	for k := range x.HeaderCount(p.field) {
		if v, ok := Cookie(x.HeaderAt(p.field, k), p.name); ok {
			return add(dst, v)
		}
	}
	return dst
}

// Cookie finds a cookie in a Cookie header's value.
func Cookie(s, name string) (value string, ok bool) {
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, ";")
		pair = strings.Trim(pair, " \t")
		if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
			return pair[len(name)+1:], true
		}
	}
	return "", false
}

// parameter appends the first parameter of a name, decoded, but for what cannot stand in a header.
func parameter(dst []byte, x Exchange, p *piece) []byte {
	for s := x.Query(); s != ""; {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		name, value, _ := strings.Cut(pair, "=")
		if !decodesTo(name, p.name) {
			continue
		}
		for i := 0; i < len(value) && len(dst) <= 4*MaxText; {
			c, n := decoded(value, i)
			if c < ' ' || c == 0x7f {
				dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
			} else {
				dst = append(dst, c)
			}
			i += n
		}
		break
	}
	return dst
}

// decoded is the byte at a place of a query, and how many it takes there.
func decoded(s string, i int) (c byte, n int) {
	switch {
	case s[i] == '+':
		return ' ', 1
	case s[i] == '%' && i+2 < len(s) && Unhex(s[i+1]) >= 0 && Unhex(s[i+2]) >= 0:
		return byte(Unhex(s[i+1])<<4 | Unhex(s[i+2])), 3 //nolint:gosec // two digits
	}
	return s[i], 1
}

func decodesTo(s, name string) bool {
	i, k := 0, 0
	for i < len(s) && k < len(name) {
		c, n := decoded(s, i)
		if c != name[k] {
			return false
		}
		i, k = i+n, k+1
	}
	return i == len(s) && k == len(name)
}

// Append appends the text for an exchange. It is always one that can be the value of a header. false: it would be longer
// than MaxText, and dst is what it was.
func (t *Template) Append(dst []byte, x Exchange) ([]byte, bool) {
	start := len(dst)
	for i := range t.pieces {
		p := &t.pieces[i]
		if p.get == nil {
			dst = append(dst, p.text...)
			continue
		}
		from := len(dst)
		if dst = p.get(dst, x, p); len(dst) == from {
			dst = append(dst, p.text...)
		}
		if len(dst)-start > MaxText+2 {
			break
		}
	}
	end := len(dst)
	for end > start && (dst[end-1] == ' ' || dst[end-1] == '\t') {
		end--
	}
	first := start
	for first < end && (dst[first] == ' ' || dst[first] == '\t') {
		first++
	}
	if end-first > MaxText {
		return dst[:start], false
	}
	n := copy(dst[start:], dst[first:end])
	dst = dst[:start+n]
	for i, c := range dst[start:] {
		if c < ' ' && c != '\t' || c == 0x7f { // of a certificate's subject, say
			dst[start+i] = '?'
		}
	}
	return dst, true
}

// Literal is the text of a template without placeholders.
func (t *Template) Literal() (string, bool) {
	switch {
	case len(t.pieces) == 0:
		return "", true
	case len(t.pieces) == 1 && t.pieces[0].get == nil:
		return t.pieces[0].text, true
	}
	return "", false
}
