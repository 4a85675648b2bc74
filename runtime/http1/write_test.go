package http1

import (
	"strings"
	"testing"
)

// lines is a head with '|' for CRLF.
func lines(b []byte) string { return strings.ReplaceAll(string(b), "\r\n", "|") }

func TestAppendRequest(t *testing.T) {
	for _, c := range []struct {
		name, in string
		out      Outgoing
		want     string
	}{
		{"order and case are kept", "GET /a?b HTTP/1.1\r\nx-ONE: 1\r\nHost: h\r\nAccept: */*\r\nX-one:2\r\nY:  3 \r\n\r\n", Outgoing{},
			"GET /a?b HTTP/1.1|Host: h|x-ONE: 1|Accept: */*|X-one: 2|Y: 3||"},
		{"hop-by-hop fields", "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nConnection: keep-alive, B\r\nb: 2\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n" +
			"Proxy-Connection: x\r\nProxy-Authorization: y\r\nUpgrade: z\r\nC: 3\r\n\r\n", Outgoing{}, "GET / HTTP/1.1|Host: h|A: 1|C: 3||"},
		{"absolute form", "GET http://a.example:81/x HTTP/1.1\r\nHost: other\r\n\r\n", Outgoing{}, "GET /x HTTP/1.1|Host: a.example:81||"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Outgoing{}, "OPTIONS * HTTP/1.1|Host: h||"},
		{"1.0 without Host", "GET / HTTP/1.0\r\n\r\n", Outgoing{}, "GET / HTTP/1.1|Host: ||"},
		{"one length", "POST / HTTP/1.1\r\nContent-Length: 5\r\nHost: h\r\ncontent-length: 5\r\n\r\n", Outgoing{Framing: Framing{Length, 5}},
			"POST / HTTP/1.1|Host: h|Content-Length: 5||"},
		{"chunked, trailers announced", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X\r\n\r\n", Outgoing{Framing: Framing{Kind: Chunked}, Trailers: true},
			"POST / HTTP/1.1|Host: h|Trailer: X|Transfer-Encoding: chunked|TE: trailers|Connection: TE||"},
		{"chunked becomes a length", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", Outgoing{Framing: Framing{Length, 0}},
			"POST / HTTP/1.1|Host: h|Content-Length: 0||"},
		{"expect is ours", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", Outgoing{Framing: Framing{Length, 1}, Close: true},
			"POST / HTTP/1.1|Host: h|Content-Length: 1|Connection: close||"},
		{"upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", Outgoing{Upgrade: []byte("websocket")},
			"GET / HTTP/1.1|Host: h|Sec-WebSocket-Version: 13|Upgrade: websocket|Connection: upgrade||"},
		{"dot segments", "GET /a/../b?c HTTP/1.1\r\nHost: h\r\n\r\n", Outgoing{}, "GET /b?c HTTP/1.1|Host: h||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := parseRequest(t, c.in)
			r.StripHopByHop()
			if got := lines(AppendRequest(nil, r, c.out)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A client that lists the gateway's fields in Connection, in any letter case, must not have them removed (CVE-2024-45410,
// CVE-2026-29054).
func TestConnectionCannotRemoveOurFields(t *testing.T) {
	r, _ := parseRequest(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, x-forwarded-FOR, X-Real-Ip, x-our-own\r\nConnection: Forwarded\r\n"+
		"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Our-Own: 6\r\nx_forwarded_for: 6.6.6.6\r\nKept: yes\r\n\r\n")
	r.StripHopByHop()
	r.DelBytes([]byte("X-Forwarded-For"))
	r.Set("X-Forwarded-For", "192.0.2.1")
	r.SetID(FieldForwarded, []byte("for=192.0.2.1"))
	r.Add("X-Our-Own", "1")
	want := "GET / HTTP/1.1|Host: h|Kept: yes|X-Forwarded-For: 192.0.2.1|Forwarded: for=192.0.2.1|X-Our-Own: 1||"
	if got := lines(AppendRequest(nil, r, Outgoing{})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendRequestRewritten(t *testing.T) {
	r, _ := parseRequest(t, "GET /a?b HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n")
	path, host := r.Path, r.Authority
	r.SetMethod([]byte("PUT"))
	r.SetPath([]byte("/new/path"))
	r.SetQuery([]byte("q=1"))
	r.SetAuthority([]byte("up:1"))
	want := "PUT /new/path?q=1 HTTP/1.1|Host: up:1|X: 1||"
	if got := lines(AppendRequest(nil, r, Outgoing{})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if v, _ := r.GetID(FieldHost); string(v) != "up:1" {
		t.Errorf("Host is %s", v)
	}
	if string(path) != "/a" || string(host) != "h" {
		t.Errorf("views changed: %s %s", path, host)
	}
	r.DelQuery()
	if got := lines(AppendRequest(nil, r, Outgoing{})); !strings.HasPrefix(got, "PUT /new/path HTTP/1.1|") {
		t.Error(got)
	}
}

func TestAppendResponse(t *testing.T) {
	date := []byte("Fri, 21 Nov 2025 07:30:00 GMT")
	for _, c := range []struct {
		name, in, method string
		out              ResponseOut // without framing: the response's own
		want             string
	}{
		{"order and case are kept", "HTTP/1.1 200 Fine\r\nx-ONE: 1\r\nKeep-Alive: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\nZ: 1\r\n\r\n", "GET",
			ResponseOut{Minor: 1}, "HTTP/1.1 200 Fine|x-ONE: 1|Set-Cookie: a|Set-Cookie: b|Z: 1|Content-Length: 2||"},
		{"listed by Connection", "HTTP/1.1 200 OK\r\nConnection: close, A\r\nA: 1\r\nContent-Length: 0\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 200 OK|Content-Length: 0||"},
		{"close", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", ResponseOut{Minor: 1, Close: true}, "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||"},
		{"1.0 client that stays", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", ResponseOut{}, "HTTP/1.1 200 OK|Content-Length: 2|Connection: keep-alive||"},
		{"1.0 client that goes", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", ResponseOut{Close: true}, "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 200 OK|Trailer: X|Transfer-Encoding: chunked||"},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 200 OK|Connection: close||"},
		{"HEAD keeps its length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", ResponseOut{Minor: 1}, "HTTP/1.1 200 OK|Content-Length: 9||"},
		{"HEAD chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", ResponseOut{Minor: 1}, "HTTP/1.1 200 OK||"},
		{"304 keeps its length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 304 Not Modified|Content-Length: 9||"},
		{"204 has none", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 204 No Content||"},
		{"103 has no framing", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "GET", ResponseOut{Minor: 1, Close: true, Date: date}, "HTTP/1.1 103 Early Hints|Link: a||"},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nA: b\r\n\r\n", "GET", ResponseOut{Minor: 1, Upgrade: []byte("websocket")},
			"HTTP/1.1 101 Switching Protocols|A: b|Upgrade: websocket|Connection: upgrade||"},
		{"Date is added", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", ResponseOut{Minor: 1, Date: date}, "HTTP/1.1 200 OK|Date: Fri, 21 Nov 2025 07:30:00 GMT|Content-Length: 0||"},
		{"Date is kept", "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n", "GET", ResponseOut{Minor: 1, Date: date}, "HTTP/1.1 200 OK|Date: x|Content-Length: 0||"},
		{"no reason", "HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", "GET", ResponseOut{Minor: 1}, "HTTP/1.1 503 Service Unavailable|Content-Length: 0||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Response
			if _, err := r.Parse([]byte(c.in), nil, []byte(c.method)); err != nil {
				t.Fatal(err)
			}
			r.StripHopByHop()
			c.out.Framing = r.Framing
			if got := lines(AppendResponse(nil, &r, c.out)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAppendLocalResponse(t *testing.T) {
	r := Response{Status: 404}
	r.Add("Content-Type", "text/plain")
	want := "HTTP/1.1 404 Not Found|Content-Type: text/plain|Content-Length: 0||"
	if got := lines(AppendResponse(nil, &r, ResponseOut{Minor: 1})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var extra Head
	extra.Add("Retry-After", "1")
	want = "HTTP/1.1 503 Service Unavailable|Retry-After: 1|Content-Type: text/plain|Content-Length: 4|Connection: close||busy"
	if got := lines(AppendSimpleResponse(nil, 503, "text/plain", []byte("busy"), true, &extra)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendChunks(t *testing.T) {
	var trailers Head
	trailers.Add("X-Sum", "1")
	trailers.Add("Content-Length", "5")
	b := append(append(AppendChunkHeader(nil, 31), "..."...), "\r\n"...)
	if got := lines(AppendLastChunk(b, &trailers)); got != "1f|...|0|X-Sum: 1||" {
		t.Error(got)
	}
	if got := lines(AppendLastChunk(nil, nil)); got != "0||" {
		t.Error(got)
	}
}
