package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

// parseRequest parses all of in as the beginning of a connection.
func parseRequest(t *testing.T, in string) (*Request, int) {
	t.Helper()
	r := new(Request)
	n, err := r.Parse([]byte(in), nil)
	if err != nil {
		t.Fatalf("Parse(%q): %v", in, err)
	}
	return r, n
}

// summary is what a request says, in one line.
func summary(r *Request) string {
	q := "-"
	if r.HasQuery() {
		q = "?" + string(r.Query())
	}
	framing := [...]string{"none", "length", "chunked", "close"}[r.Framing.Kind]
	if r.Framing.Kind == Length {
		framing = fmt.Sprint(r.Framing.Length)
	}
	form := [...]string{"origin", "absolute", "authority", "asterisk"}[r.Form]
	s := fmt.Sprintf("%s %s %s %s %s 1.%d body=%s keep=%t", r.Method, form, r.Authority, r.Path, q, r.Minor, framing, r.KeepAlive)
	if r.ExpectContinue {
		s += " expect"
	}
	if r.TETrailers {
		s += " trailers"
	}
	if r.Upgrade != nil {
		s += " upgrade=" + string(r.Upgrade)
	}
	return s
}

func TestRequestHead(t *testing.T) {
	const host = "Host: h\r\n"
	for _, c := range []struct{ name, in, want string }{
		{"plain GET", "GET / HTTP/1.1\r\n" + host + "\r\n", "GET origin h / - 1.1 body=none keep=true"},
		{"path and query", "GET /a/b?c=d?e HTTP/1.1\r\n" + host + "\r\n", "GET origin h /a/b ?c=d?e 1.1 body=none keep=true"},
		{"empty query stays", "GET /a? HTTP/1.1\r\n" + host + "\r\n", "GET origin h /a ? 1.1 body=none keep=true"},
		{"port in Host", "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "GET origin a.example:8080 / - 1.1 body=none keep=true"},
		{"IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET origin [::1]:80 / - 1.1 body=none keep=true"},
		{"empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", "GET origin h / - 1.1 body=none keep=true"},
		{"absolute form wins over Host", "GET http://a.example/x?y HTTP/1.1\r\nHost: other\r\n\r\n", "GET absolute a.example /x ?y 1.1 body=none keep=true"},
		{"absolute form without path", "GET http://a.example HTTP/1.1\r\n" + host + "\r\n", "GET absolute a.example / - 1.1 body=none keep=true"},
		{"absolute form, query only", "GET http://a.example?q HTTP/1.1\r\n" + host + "\r\n", "GET absolute a.example / ?q 1.1 body=none keep=true"},
		{"absolute form of OPTIONS *", "OPTIONS http://a.example HTTP/1.1\r\n" + host + "\r\n", "OPTIONS absolute a.example * - 1.1 body=none keep=true"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "OPTIONS asterisk h * - 1.1 body=none keep=true"},
		{"CONNECT is authority form", "CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", "CONNECT authority a:443  - 1.1 body=none keep=true"},
		{"length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n", "POST origin h / - 1.1 body=5 keep=true"},
		{"length 0", "POST / HTTP/1.1\r\n" + host + "content-length: 0\r\n\r\n", "POST origin h / - 1.1 body=0 keep=true"},
		{"agreeing lengths are one", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "POST origin h / - 1.1 body=5 keep=true"},
		{"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked \r\n\r\n", "POST origin h / - 1.1 body=chunked keep=true"},
		{"close", "GET / HTTP/1.1\r\n" + host + "Connection: x, CLOSE\r\n\r\n", "GET origin h / - 1.1 body=none keep=false"},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", "GET origin  / - 1.0 body=none keep=false"},
		{"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET origin  / - 1.0 body=none keep=true"},
		{"1.0 keep-alive and close", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET origin  / - 1.0 body=none keep=false"},
		{"expect", "PUT / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n", "PUT origin h / - 1.1 body=1 keep=true expect"},
		{"expect without a body", "PUT / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n\r\n", "PUT origin h / - 1.1 body=none keep=true"},
		{"expect in 1.0", "PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "PUT origin  / - 1.0 body=1 keep=false"},
		{"upgrade", "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET origin h / - 1.1 body=none keep=true upgrade=websocket"},
		{"upgrade that Connection does not list", "GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n", "GET origin h / - 1.1 body=none keep=true"},
		{"upgrade in 1.0", "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET origin  / - 1.0 body=none keep=false"},
		{"TE trailers", "GET / HTTP/1.1\r\n" + host + "TE: gzip;q=0.5, trailers\r\n\r\n", "GET origin h / - 1.1 body=none keep=true trailers"},
		{"dot segments", "GET /a/./b/%2e%2E/c?/../x HTTP/1.1\r\n" + host + "\r\n", "GET origin h /a/c ?/../x 1.1 body=none keep=true"},
		{"unregistered method", "M-SEARCH / HTTP/1.1\r\n" + host + "\r\n", "M-SEARCH origin h / - 1.1 body=none keep=true"},
		{"empty value, tab in value, obs-text", "GET / HTTP/1.1\r\n" + host + "A:\r\nB: x\ty\r\nC: \xfc\r\n\r\n", "GET origin h / - 1.1 body=none keep=true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, n := parseRequest(t, c.in)
			if got := summary(r); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if n != len(c.in) {
				t.Errorf("consumed %d of %d bytes", n, len(c.in))
			}
		})
	}
}

func TestRequestRefused(t *testing.T) {
	const get, host = "GET / HTTP/1.1\r\n", "Host: h\r\n"
	post := "POST / HTTP/1.1\r\n" + host
	for _, c := range []struct {
		name, in string
		status   int
	}{
		{"TE and CL", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"CL and TE, spelled in other cases", post + "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", 400},
		{"TE in 1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", 400},
		{"TE identity", post + "Transfer-Encoding: identity\r\n\r\n", 400},
		{"TE gzip, chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
		{"TE chunked, identity", post + "Transfer-Encoding: chunked, identity\r\n\r\n", 400},
		{"TE chunked twice in a list", post + "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
		{"TE chunked in two lines", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"TE xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n", 400},
		{"TE with a parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n", 400},
		{"TE quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
		{"TE with a vertical tab", post + "Transfer-Encoding: \vchunked\r\n\r\n", 400},
		{"TE with an empty member", post + "Transfer-Encoding: ,chunked\r\n\r\n", 400},
		{"TE empty", post + "Transfer-Encoding:\r\n\r\n", 400},
		{"TE with a space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n", 400},
		{"CL differs", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
		{"CL same number, other spelling", post + "Content-Length: 5\r\nContent-Length: 05\r\n\r\n", 400},
		{"CL list", post + "Content-Length: 5, 5\r\n\r\n", 400},
		{"CL plus sign", post + "Content-Length: +5\r\n\r\n", 400},
		{"CL minus sign", post + "Content-Length: -5\r\n\r\n", 400},
		{"CL hex", post + "Content-Length: 0x5\r\n\r\n", 400},
		{"CL empty", post + "Content-Length: \r\n\r\n", 400},
		{"CL with a space", post + "Content-Length: 5 5\r\n\r\n", 400},
		{"CL underscore", post + "Content-Length: 1_0\r\n\r\n", 400},
		{"CL beyond 63 bits", post + "Content-Length: 9223372036854775808\r\n\r\n", 413},
		{"obs-fold", get + host + "A: b\r\n c\r\n\r\n", 400},
		{"obs-fold with a tab", get + host + "A: b\r\n\tc\r\n\r\n", 400},
		{"white space before the first field", get + " " + host + "\r\n", 400},
		{"bare LF in the request line", "GET / HTTP/1.1\n" + host + "\r\n", 400},
		{"bare LF in a field line", get + "Host: h\n\r\n", 400},
		{"bare LF instead of the empty line", get + host + "\n", 400},
		{"bare CR in a value", get + host + "A: b\rc\r\n\r\n", 400},
		{"bare CR in the request line", "GET /\r HTTP/1.1\r\n" + host + "\r\n", 400},
		{"bare CR instead of a line", get + host + "\rA: b\r\n\r\n", 400},
		{"CR CR LF", get + host + "A: b\r\r\n\r\n", 400},
		{"NUL in a value", get + host + "A: b\x00c\r\n\r\n", 400},
		{"control in a value", get + host + "A: b\x01c\r\n\r\n", 400},
		{"DEL in a value", get + host + "A: b\x7fc\r\n\r\n", 400},
		{"NUL in a name", get + host + "A\x00: b\r\n\r\n", 400},
		{"empty name", get + host + ": b\r\n\r\n", 400},
		{"name with a space", get + host + "A b: c\r\n\r\n", 400},
		{"name with a slash", get + host + "A/b: c\r\n\r\n", 400},
		{"name beyond ASCII", get + host + "\xc3\x84: c\r\n\r\n", 400},
		{"space before the colon", get + "Host : h\r\n\r\n", 400},
		{"tab before the colon", get + "Host\t: h\r\n\r\n", 400},
		{"no colon", get + host + "Abc\r\n\r\n", 400},
		{"no Host", get + "\r\n", 400},
		{"two Hosts", get + host + host + "\r\n", 400},
		{"two Hosts in 1.0", "GET / HTTP/1.0\r\n" + host + host + "\r\n", 400},
		{"empty Host", get + "Host:\r\n\r\n", 400},
		{"Host with a user", get + "Host: a@b\r\n\r\n", 400},
		{"Host with a path", get + "Host: a/b\r\n\r\n", 400},
		{"Host with a space", get + "Host: a b\r\n\r\n", 400},
		{"Host list", get + "Host: a, b\r\n\r\n", 400},
		{"Host with a bad port", get + "Host: a:b\r\n\r\n", 400},
		{"Host with an empty port", get + "Host: a:\r\n\r\n", 400},
		{"Host with a port too large", get + "Host: a:65536\r\n\r\n", 400},
		{"Host with half an IPv6 address", get + "Host: [::1\r\n\r\n", 400},
		{"bad Host although absolute form", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"no Host although absolute form", "GET http://a/ HTTP/1.1\r\n\r\n", 400},
		{"absolute form with a user", "GET http://u@a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"absolute form without a host", "GET http:///x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"absolute form of another scheme", "GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"relative target", "GET a/b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"query only", "GET ?a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"asterisk form of GET", "GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"authority form of GET", "GET a:80 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"CONNECT with a path", "CONNECT /a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"CONNECT without a port", "CONNECT a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"CONNECT to an IPv6 address without a port", "CONNECT [::1] HTTP/1.1\r\n" + host + "\r\n", 400},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"control in the target", "GET /a\x01b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"DEL in the target", "GET /a\x7f HTTP/1.1\r\n" + host + "\r\n", 400},
		{"space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"target beyond ASCII", "GET /\xc3\xbc HTTP/1.1\r\n" + host + "\r\n", 400},
		{"%00 in the path", "GET /a%00 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"invalid percent-encoding", "GET /a%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"space after the version", "GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
		{"tab as separator", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"no version (0.9)", "GET /\r\n", 400},
		{"lower-case version", "GET / http/1.1\r\n" + host + "\r\n", 400},
		{"version 1", "GET / HTTP/1\r\n" + host + "\r\n", 400},
		{"version 1.10", "GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		{"version 1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", 505},
		{"version 0.9", "GET / HTTP/0.9\r\n" + host + "\r\n", 505},
		{"HTTP/2.0 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00", 400},
		{"method that is no token", "G@T / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"no method", " / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"long method", strings.Repeat("A", 33) + " / HTTP/1.1\r\n" + host + "\r\n", 501},
		{"long target", "GET /" + strings.Repeat("a", 8<<10) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		{"large head", get + host + "A: " + strings.Repeat("a", 32<<10) + "\r\n\r\n", 431},
		{"many fields", get + host + strings.Repeat("A: b\r\n", 100) + "\r\n", 431},
		{"unknown expectation", post + "Content-Length: 1\r\nExpect: 200-maybe\r\n\r\n", 417},
		{"many empty lines", strings.Repeat("\r\n", 5) + get + host + "\r\n", 400},
		{"empty line of a bare LF", "\n" + get + host + "\r\n", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, c.in, c.status, new(Request), 0)
			refused(t, c.in, c.status, new(Request), 1)
		})
	}
}

// refused feeds in to r, all at once or step bytes at a time, and expects a client's error with this status.
func refused(t *testing.T, in string, status int, r *Request, step int) {
	t.Helper()
	n, err := feed(r, []byte(in), step)
	var fe *fault.Error
	if !errors.As(err, &fe) {
		t.Fatalf("step %d: accepted %d bytes: %s", step, n, summary(r))
	}
	if fe.Status != status || fe.Source != fault.Client || n != 0 {
		t.Errorf("step %d: %v: status %d, source %s, n %d; want %d", step, err, fe.Status, fe.Source, n, status)
	}
}

// feed parses in, of which step more bytes are there at each call; 0 is all. Each call has the bytes at another address.
func feed(r *Request, in []byte, step int) (n int, err error) {
	if step == 0 {
		return r.Parse(in, nil)
	}
	for i := 0; i < len(in); i += step {
		if n, err = r.Parse(bytes.Clone(in[:min(i+step, len(in))]), nil); n != 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

func TestRequestByteByByte(t *testing.T) {
	in := []byte("\r\nPOST http://a.example/x/../y?z HTTP/1.1\r\nHost:  b\t\r\nX-Long-Name-Here: some value, longer\r\n" +
		"Content-Length: 3\r\nConnection: close\r\n\r\nabcGET / HTTP/1.1\r\n")
	var whole Request
	want, err := whole.Parse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step < 20; step++ {
		var r Request
		n, err := feed(&r, in, step)
		if n != want || err != nil || summary(&r) != summary(&whole) || fields(&r.Head) != fields(&whole.Head) {
			t.Errorf("step %d: n %d, %v: %s", step, n, err, summary(&r))
		}
	}
}

// fields is a head as text.
func fields(h *Head) string {
	var b strings.Builder
	for i := range h.Len() {
		fmt.Fprintf(&b, "%s=%s|", h.Name(i), h.Value(i))
	}
	return b.String()
}

func TestRequestPipelined(t *testing.T) {
	in := []byte("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\nGET /3 HTTP/1.0\r\n\r\n")
	var r Request
	var got []string
	for len(in) > 0 {
		n, err := r.Parse(in, nil)
		if n == 0 || err != nil {
			t.Fatal(n, err)
		}
		got = append(got, string(r.Method)+string(r.Path)+string(r.Authority))
		in = in[n:]
	}
	if s := strings.Join(got, " "); s != "GET/1a POST/2b GET/3" {
		t.Error(s)
	}
}

// What is known of a head that is refused, or not complete, can be looked at: by who answers it, and by the access log.
func TestRefusedRequestCanBeLookedAt(t *testing.T) {
	for _, c := range []struct{ name, in, method, target, fields string }{
		{"bad field", "HEAD /a HTTP/1.1\r\nA: b\r\nC : d\r\n\r\n", "HEAD", "/a", "A=b|"},
		{"no Host", "HEAD /a HTTP/1.1\r\nA: b\r\n\r\n", "HEAD", "/a", "A=b|"},
		{"not complete", "HEAD /a HTTP/1.1\r\nA: b\r\nHost: ", "HEAD", "/a", "A=b|"},
		{"bad target", "HEAD /a#b HTTP/1.1\r\n", "HEAD", "", ""},
		{"bad version", "HEAD /a HTTP/3.0\r\n", "HEAD", "", ""},
		{"bad method", "H@D /a HTTP/3.0\r\n", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := parseRequest(t, benchRequest)
			for step := range 3 {
				r.Reset()
				n, _ := feed(r, []byte(c.in), step)
				if n != 0 || string(r.Method) != c.method || string(r.Target) != c.target || fields(&r.Head) != c.fields {
					t.Errorf("step %d: %d, %s, %s, %s", step, n, r.Method, r.Target, fields(&r.Head))
				}
			}
		})
	}
}

// A head of 32 KiB that comes in single bytes must not cost the square of its length.
func TestSlowHeadIsLinear(t *testing.T) {
	line := "A: " + strings.Repeat("b", 30<<10)
	in := []byte("GET / HTTP/1.1\r\nHost: h\r\n" + line)
	var r Request
	for i := 1; i <= len(in); i++ {
		if n, err := r.Parse(in[:i], nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if r.scan.seen != i {
			t.Fatalf("%d bytes of %d would be looked at again", i-r.scan.seen, i)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	in := []byte(benchRequest)
	var r Request
	var out []byte
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := r.Parse(in, nil); err != nil {
			t.Fatal(err)
		}
		r.StripHopByHop()
		r.DelBytes([]byte("X-Forwarded-For"))
		r.Set("X-Forwarded-For", "192.0.2.1")
		r.SetID(FieldXForwardedProto, []byte("http"))
		r.SetPath(r.Path[1:])
		r.SetAuthority([]byte("upstream.internal:8080"))
		if _, ok := r.Get("Accept"); !ok {
			t.Fatal("no Accept")
		}
		out = AppendRequest(out[:0], &r, Outgoing{Framing: r.Framing})
	}); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}

const benchRequest = "GET /app/users/1234?view=full HTTP/1.1\r\nHost: gateway.example:8080\r\nUser-Agent: wrk/4.1.0\r\n" +
	"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"X-Tenant: acme\r\nConnection: keep-alive\r\n\r\n"

func BenchmarkRequestParse(b *testing.B) {
	in := []byte(benchRequest)
	var r Request
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Parse(in, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestForward(b *testing.B) {
	in := []byte(benchRequest)
	var r Request
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Parse(in, nil); err != nil {
			b.Fatal(err)
		}
		r.StripHopByHop()
		r.Set("X-Forwarded-For", "192.0.2.1")
		out = AppendRequest(out[:0], &r, Outgoing{Framing: r.Framing})
	}
}
