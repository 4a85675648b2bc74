package explain

import (
	"net/netip"
	"strconv"
	"strings"
)

// Mistake is an error in what is asked.
type Mistake string

func (m Mistake) Error() string { return string(m) }

// URL is where a request goes, as it was written: nothing is decoded.
type URL struct {
	Scheme    string // http, https, tls or tcp; empty: only a path was given
	Authority string // host and port
	Host      string // without brackets
	Port      uint16 // the scheme's own if none was given; 0 without a scheme
	Target    string // path and query
}

var ports = map[string]uint16{"http": 80, "https": 443, "tls": 443, "tcp": 0}

// ParseURL takes a URL apart.
func ParseURL(s string) (u URL, err error) {
	if strings.ContainsAny(s, "\r\n") {
		return u, Mistake("the URL has a line end in it")
	}
	s, _, _ = strings.Cut(s, "#")
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case s == "":
		return u, Mistake("which URL? Give one, as in http://example.org/path")
	case s[0] == '/' || s == "*":
		return URL{Target: s}, nil
	case !ok:
		scheme, rest = "http", s // as curl has it
	}
	u.Scheme = strings.ToLower(scheme)
	if u.Port, ok = ports[u.Scheme]; !ok {
		return u, Mistake("the URL's scheme is " + scheme + ", and not http, https, tls or tcp")
	}
	u.Authority, u.Target = rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		u.Authority, u.Target = rest[:i], rest[i:]
		if u.Target[0] == '?' {
			u.Target = "/" + u.Target
		}
	}
	if strings.Contains(u.Authority, "@") {
		return u, Mistake("the URL has a user in it; say so with -H 'authorization: Basic ...'")
	}
	u.Host = u.Authority
	if i := strings.LastIndexByte(u.Authority, ':'); i >= 0 && !strings.HasSuffix(u.Authority, "]") {
		port, err := strconv.ParseUint(u.Authority[i+1:], 10, 16)
		if err != nil {
			return u, Mistake("the URL's port is " + u.Authority[i+1:])
		}
		u.Host, u.Port = u.Authority[:i], uint16(port)
	}
	u.Host = strings.TrimSuffix(strings.TrimPrefix(u.Host, "["), "]")
	return u, nil
}

// ParseClient reads an address, with or without a port.
func ParseClient(s string) (netip.AddrPort, error) {
	if s == "" {
		s = "127.0.0.1"
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 50000), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, Mistake("the client is " + s + ", and not an address or address:port")
	}
	return a, nil
}

// Bytes are the request as a client would send it to this URL.
func (r *Request) Bytes(u URL) ([]byte, error) {
	method := r.Method
	switch {
	case method != "":
	case r.Body != "":
		method = "POST"
	default:
		method = "GET"
	}
	var b, fields []byte
	host, framed, chunked := u.Authority, false, false
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	}
	if host == "" {
		host = "localhost"
	}
	if strings.ContainsAny(method, "\r\n") {
		return nil, Mistake("the method has a line end in it")
	}
	named := false
	for _, f := range r.Fields {
		if strings.ContainsAny(f.Name+f.Value, "\r\n") {
			return nil, Mistake("the field " + strconv.Quote(f.Name) + " has a line end in it")
		}
		switch strings.ToLower(f.Name) {
		case "host":
			named = true
		case "content-length":
			framed = true
		case "transfer-encoding":
			framed, chunked = true, true
		}
		fields = append(fields, f.Name+": "+f.Value+"\r\n"...)
	}
	b = append(b, method+" "+u.Target+" HTTP/1.1\r\n"...)
	if !named {
		b = append(b, "Host: "+host+"\r\n"...)
	}
	b = append(b, fields...)
	if r.Body != "" && !framed {
		b = append(b, "Content-Length: "+strconv.Itoa(len(r.Body))+"\r\n"...)
	}
	b = append(b, "\r\n"...)
	switch {
	case chunked && r.Body != "":
		b = append(b, strconv.FormatInt(int64(len(r.Body)), 16)+"\r\n"+r.Body+"\r\n0\r\n\r\n"...)
	case chunked:
		b = append(b, "0\r\n\r\n"...)
	default:
		b = append(b, r.Body...)
	}
	return b, nil
}

// NewMessage takes a message apart whose head is so many bytes long.
func NewMessage(b []byte, head int) *Message {
	lines := strings.Split(strings.TrimSuffix(string(b[:head]), "\r\n\r\n"), "\r\n")
	m := &Message{Line: lines[0], Fields: []Field{}, Body: string(b[head:])}
	for _, line := range lines[1:] {
		at := strings.IndexByte(strings.TrimPrefix(line, ":"), ':') + len(line) - len(strings.TrimPrefix(line, ":")) // HTTP/2 has :scheme
		m.Fields = append(m.Fields, Field{Name: line[:max(at, 0)], Value: strings.Trim(line[at+1:], " \t")})
	}
	return m
}
