package http1

import (
	"bytes"
	"io"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

var seedRequests = []string{
	benchRequest,
	"\r\nPOST http://a.example:80/x/../y?z HTTP/1.1\r\nHost:  b\t\r\nContent-Length: 3\r\nContent-Length: 3\r\nConnection: close, X-A\r\nX-A:1\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
	"POST /a%2e/./..%41?b#c HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nTE: trailers\r\nTrailer: X\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\nrest",
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\nUpgrade: h2c\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\nContent-Length: 1, 1\r\n X: y\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"GET //a//b;c/%2F?%00 HTTP/1.1\r\nhost: h\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\n\r\n",
}

var seedResponses = []string{
	benchResponse,
	"HTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nabrest",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil close",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
	"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nrest",
}

func FuzzRequestHead(f *testing.F) {
	for _, s := range seedRequests {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(checkRequest)
}

// checkRequest demands that a head means the same in pieces, and when it is written and parsed again.
func checkRequest(t *testing.T, in []byte, step int) {
	var whole, slow, again Request
	n, err := whole.Parse(in, nil)
	m, slowErr := feed(&slow, in, stepOf(step, len(in)))
	sameOutcome(t, n, m, err, slowErr)
	if n == 0 {
		return
	}
	if summary(&whole) != summary(&slow) || fields(&whole.Head) != fields(&slow.Head) {
		t.Fatalf("in pieces: %s %s\nat once: %s %s", summary(&slow), fields(&slow.Head), summary(&whole), fields(&whole.Head))
	}
	if whole.Path != nil && whole.Form != Authority && string(whole.Path) != "*" && !ValidPath(whole.Path) {
		t.Fatalf("path %q is not a valid one", whole.Path)
	}
	whole.StripHopByHop()
	out := AppendRequest(nil, &whole, Outgoing{Framing: whole.Framing, Upgrade: whole.Upgrade, Trailers: whole.TETrailers, Close: !whole.KeepAlive})
	if len(whole.Authority) == 0 {
		return // a 1.0 request without Host becomes one with an empty Host, which we refuse ourselves
	}
	if n, err := again.Parse(out, &Limits{Head: 1 << 20, Target: 1 << 20, Fields: 200}); n != len(out) || err != nil {
		t.Fatalf("what was written is not parsed: %d of %d, %v: %q", n, len(out), err, out)
	}
	again.StripHopByHop()
	for _, id := range []FieldID{FieldHost, FieldContentLength, FieldExpect, FieldTrailer} {
		whole.DelID(id)
		again.DelID(id)
	}
	if string(again.Method)+string(again.Path)+string(again.Query())+string(again.Authority) !=
		string(whole.Method)+string(whole.Path)+string(whole.Query())+string(whole.Authority) ||
		again.HasQuery() != whole.HasQuery() || again.Framing != whole.Framing || again.KeepAlive != whole.KeepAlive ||
		again.TETrailers != whole.TETrailers || string(again.Upgrade) != string(whole.Upgrade) || fields(&again.Head) != fields(&whole.Head) {
		t.Fatalf("what was written says something else:\n%s\n%s\n%q", summary(&whole), summary(&again), out)
	}
}

// stepOf makes a step of whatever number, so that an input is fed in at most a few hundred pieces.
func stepOf(step, n int) int { return max(1+(step&0xff), n/256) }

// sameOutcome demands that a head that comes in pieces is taken or refused as one that is there at once. In pieces, a line
// is looked at when it is complete, so something that is wrong in the last one may go unnoticed.
func sameOutcome(t *testing.T, n, m int, err, slowErr error) {
	t.Helper()
	if err != nil && n != 0 || slowErr != nil && m != 0 {
		t.Fatal("an error, and bytes consumed")
	}
	switch {
	case err == nil && slowErr == nil && n == m:
	case n == 0 && m == 0 && err != nil: // refused, or refused later
	default:
		t.Fatalf("at once %d, %v; in pieces %d, %v", n, err, m, slowErr)
	}
}

func FuzzResponseHead(f *testing.F) {
	for _, s := range seedResponses {
		f.Add([]byte(s), 1, false)
	}
	f.Fuzz(checkResponse)
}

func checkResponse(t *testing.T, in []byte, step int, head bool) {
	method := "GET"
	if head {
		method = "HEAD"
	}
	var whole, slow, again Response
	n, err := whole.Parse(in, nil, []byte(method))
	m, slowErr := feedResponse(&slow, in, method, stepOf(step, len(in)))
	sameOutcome(t, n, m, err, slowErr)
	if n == 0 {
		return
	}
	if responseSummary(&whole) != responseSummary(&slow) || fields(&whole.Head) != fields(&slow.Head) {
		t.Fatalf("in pieces: %s\nat once: %s", responseSummary(&slow), responseSummary(&whole))
	}
	whole.StripHopByHop()
	out := AppendResponse(nil, &whole, ResponseOut{Minor: 1, Framing: whole.Framing, Close: !whole.KeepAlive, Upgrade: whole.Upgrade})
	if n, err := again.Parse(out, &Limits{Head: 1 << 20, Fields: 200}, []byte(method)); n != len(out) || err != nil {
		t.Fatalf("what was written is not parsed: %d of %d, %v: %q", n, len(out), err, out)
	}
	if again.Status != whole.Status || again.Framing != whole.Framing && whole.Status != 304 || again.KeepAlive != whole.KeepAlive && whole.Status >= 200 {
		t.Fatalf("what was written says something else:\n%s\n%s", responseSummary(&whole), responseSummary(&again))
	}
}

func FuzzChunkedBody(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nrest", "1;a=b\r\na\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n",
		"1 ;a\r\na\r\n00000\r\n\r\n", "1\na\n0\n\n", "7fffffffffffffff\r\n"} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		var r BodyReader
		r.Init(Framing{Kind: Chunked}, nil, fault.Client)
		data, rest, err := readBody(&r, in, 0)
		trailers := fields(r.Trailers())
		whole := append(AppendLastChunk(appendChunk(nil, data), r.Trailers()), rest...)
		r.Init(Framing{Kind: Chunked}, nil, fault.Client)
		slow, slowRest, slowErr := readBody(&r, in, stepOf(step, len(in)))
		if (err == nil) != (slowErr == nil) || err == nil && (slow != data || slowRest != rest || fields(r.Trailers()) != trailers) {
			t.Fatalf("at once %q, rest %q, %v; in pieces %q, rest %q, %v", data, rest, err, slow, slowRest, slowErr)
		}
		if err != nil {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if err != nil && (bytes.Contains(in, []byte(" ;")) || bytes.Contains(in, []byte("\t;"))) {
			return // RFC 9112 section 7.1.1 has white space before an extension accepted; net/http refuses it
		}
		if err != nil || string(theirs) != data {
			t.Fatalf("net/http reads %q, %v; we read %q", theirs, err, data)
		}
		r.Init(Framing{Kind: Chunked}, nil, fault.Client)
		if again, againRest, err := readBody(&r, whole, 0); again != data || againRest != rest || err != nil || fields(r.Trailers()) != trailers {
			t.Fatalf("what was written is read as %q, rest %q, %v", again, againRest, err)
		}
	})
}

func appendChunk(dst []byte, data string) []byte {
	if data == "" {
		return dst
	}
	return append(append(AppendChunkHeader(dst, len(data)), data...), "\r\n"...)
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"/a/./b/../c", "/%2e%2E/..;/x", "/a%2F..%5c//.", "/..", "/a/%", `/a\..\b`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		clean, err := CleanPath(nil, in)
		if err != nil {
			if ValidPath(in) {
				t.Fatalf("%q is valid, but: %v", in, err)
			}
			return
		}
		if !ValidPath(clean) || ValidPath(in) != bytes.Equal(in, clean) {
			t.Fatalf("%q became %q", in, clean)
		}
		// Whoever decodes what we keep, takes '\\' for '/', and cuts parameters off, must find no dot segment left.
		decoded, err := url.PathUnescape(string(clean))
		if err != nil {
			t.Fatalf("%q became %q: %v", in, clean, err)
		}
		for _, segment := range strings.FieldsFunc(decoded, func(c rune) bool { return c == '/' || c == '\\' }) {
			if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
				t.Fatalf("%q became %q, which has a dot segment for some", in, clean)
			}
		}
	})
}
