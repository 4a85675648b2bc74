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

// maxSearches bounds how often a query or the cookies are gone through, which a client makes long.
const maxSearches = 32

// searches is how many placeholders of the configuration do.
var searches int

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
	case (kind == "query" || kind == "cookie") && searches >= maxSearches:
		return p, v.Wrong("is one of more than " + strconv.Itoa(maxSearches) + " cookies and parameters that are looked for")
	case kind == "query" && rest != "":
		searches++
		p.get = parameter
	case kind == "cookie" && Token(rest):
		searches++
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

// maxCookies is how much of a Cookie header is looked at. Browsers send 4 KiB for one cookie.
const maxCookies = 8 << 10

// Cookie finds a cookie in a Cookie header's value.
func Cookie(s, name string) (value string, ok bool) {
	s = s[:min(len(s), maxCookies)]
	for start := 0; start < len(s); {
		end := indexByte(s, start, ';')
		for start < end && (s[start] == ' ' || s[start] == '\t') {
			start++
		}
		if at := start + len(name); at < end && s[at] == '=' && s[start:at] == name {
			return strings.TrimRight(s[at+1:end], " \t"), true
		}
		start = end + 1
	}
	return "", false
}

// parameter appends the first parameter of a name, decoded.
func parameter(dst []byte, x Exchange, p *piece) []byte {
	return appendDecoded(dst, Parameter(x.Query(), p.name))
}

// Parameter finds the first parameter of a name in a query, and returns its value as it is written.
func Parameter(s, name string) string {
	for start := 0; start < len(s); {
		end := indexByte(s, start, '&')
		if c := s[start]; c == name[0] || c == '%' || c == '+' {
			equals := min(indexByte(s, start, '='), end)
			if decodesTo(s[start:equals], name) {
				return s[min(equals+1, end):end]
			}
		}
		start = end + 1
	}
	return ""
}

// The loops over bytes below call nothing: in a module, Go's calls cost far more than what they do there.

// indexByte is the place of c at or after a place, or the end.
func indexByte(s string, i int, c byte) int {
	for i < len(s) && s[i] != c {
		i++
	}
	return i
}

// hex has the value of each hexadecimal digit, and 16 for what is none.
var hex = func() (h [256]byte) {
	for c := range h {
		h[c] = 16
		if d := Unhex(byte(c)); d >= 0 { //nolint:gosec // an index
			h[c] = byte(d)
		}
	}
	return h
}()

// decodesTo says whether a part of a query is a text.
func decodesTo(s, name string) bool {
	i := 0
	for k := range len(name) {
		if i >= len(s) {
			return false
		}
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) && hex[s[i+1]]|hex[s[i+2]] < 16 {
			c = hex[s[i+1]]<<4 | hex[s[i+2]]
			i += 2
		}
		if c != name[k] {
			return false
		}
		i++
	}
	return i == len(s)
}

// appendDecoded appends a part of a query as what it stands for, but for what cannot stand in a header.
func appendDecoded(dst []byte, s string) []byte {
	at := len(dst)
	for cap(dst) < at+3*len(s) {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:at+3*len(s)]
	return dst[:at+decode(dst[at:], s)]
}

// decode writes to dst, which has room for each byte of s three times.
func decode(dst []byte, s string) int {
	const digits = "0123456789ABCDEF"
	n := 0
	for i := 0; i < len(s) && n+3 <= len(dst); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) && hex[s[i+1]]|hex[s[i+2]] < 16 {
			c = hex[s[i+1]]<<4 | hex[s[i+2]]
			i += 2
		}
		if c >= ' ' && c != 0x7f {
			dst[n] = c
			n++
			continue
		}
		dst[n], dst[n+1], dst[n+2] = '%', digits[c>>4], digits[c&15]
		n += 3
	}
	return n
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
	clean(dst[start:])
	return dst, true
}

// clean replaces what cannot stand in a header, of a certificate's subject for instance.
func clean(b []byte) {
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			b[i] = '?'
		}
	}
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
