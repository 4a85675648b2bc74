package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

// FuzzAgainstNetHTTP reads one request after the other from the same bytes, as we do and as net/http does. Whatever we
// accept must be framed the same: if it were not, one of the two would take part of one message for the next.
func FuzzAgainstNetHTTP(f *testing.F) {
	for _, s := range seedRequests {
		f.Add([]byte(s))
		f.Add([]byte(s + s))
	}
	f.Fuzz(againstNetHTTP)
}

func againstNetHTTP(t *testing.T, in []byte) {
	theirs := bufio.NewReader(bytes.NewReader(in))
	for ours := in; len(ours) > 0; {
		var r Request
		n, err := r.Parse(ours, nil)
		if err != nil || n == 0 {
			return
		}
		for bytes.HasPrefix(ours, []byte("\r\n")) { // net/http does not skip empty lines
			ours, n = ours[2:], n-2
			_, _ = theirs.Discard(2)
		}
		var body BodyReader
		body.Init(r.Framing, nil, fault.Client)
		data, rest, err := readBody(&body, ours[n:], 0)
		req, theirErr := http.ReadRequest(theirs)
		if theirErr != nil {
			if onlyTheyRefuse(theirErr) {
				return
			}
			t.Fatalf("we accept what net/http refuses: %v: %q", theirErr, ours)
		}
		sameRequest(t, &r, req)
		theirData, theirErr := io.ReadAll(req.Body)
		if err != nil {
			return // cut off, or refused
		}
		left, _ := io.ReadAll(theirs)
		if theirErr != nil || string(theirData) != data || string(left) != rest {
			t.Fatalf("net/http: body %q, rest %q, %v\nwe: body %q, rest %q", theirData, left, theirErr, data, rest)
		}
		theirs.Reset(bytes.NewReader(left))
		ours = []byte(rest)
	}
}

// onlyTheyRefuse says whether an error of net/http is about something that has no part in framing and routing.
func onlyTheyRefuse(err error) bool {
	for _, known := range [...]string{
		"bad trailer key", // a Trailer field that announces what we would drop
	} {
		if strings.Contains(err.Error(), known) {
			return true
		}
	}
	return false
}

func sameRequest(t *testing.T, r *Request, req *http.Request) {
	t.Helper()
	if req.Method != string(r.Method) || req.RequestURI != string(r.Target) || req.Host != string(r.Authority) || req.ProtoMinor != r.Minor {
		t.Fatalf("net/http: %s %s %s 1.%d\nwe: %s", req.Method, req.Host, req.RequestURI, req.ProtoMinor, summary(r))
	}
	if req.Close == r.KeepAlive {
		t.Fatalf("net/http closes %t, we keep %t", req.Close, r.KeepAlive)
	}
	chunked := len(req.TransferEncoding) > 0
	want := map[FramingKind]int64{NoBody: 0, Length: r.Framing.Length, Chunked: -1}[r.Framing.Kind]
	if chunked != (r.Framing.Kind == Chunked) || req.ContentLength != want {
		t.Fatalf("net/http: %v %d, we: %v", req.TransferEncoding, req.ContentLength, r.Framing)
	}
}

// FuzzResponseAgainstNetHTTP is FuzzAgainstNetHTTP for the answers of an upstream.
func FuzzResponseAgainstNetHTTP(f *testing.F) {
	for _, s := range seedResponses {
		f.Add([]byte(s), false)
		f.Add([]byte(s+s), true)
	}
	f.Fuzz(responseAgainstNetHTTP)
}

func responseAgainstNetHTTP(t *testing.T, in []byte, head bool) {
	method := "GET"
	if head {
		method = "HEAD"
	}
	var r Response
	n, err := r.Parse(in, nil, []byte(method))
	if err != nil || n == 0 {
		return
	}
	theirs := bufio.NewReader(bytes.NewReader(in))
	resp, err := http.ReadResponse(theirs, &http.Request{Method: method})
	if err != nil && onlyTheyRefuse(err) {
		return
	}
	if err != nil {
		t.Fatalf("we accept what net/http refuses: %v: %q", err, in)
	}
	if resp.StatusCode != r.Status || resp.ProtoMinor != r.Minor || strings.TrimSpace(resp.Status[3:]) != strings.TrimSpace(string(r.Reason)) {
		t.Fatalf("net/http: %s, we: %s", resp.Status, responseSummary(&r))
	}
	if resp.Close && r.KeepAlive {
		t.Fatalf("net/http closes, we do not: %s", responseSummary(&r))
	}
	var body BodyReader
	body.Init(r.Framing, nil, fault.Upstream)
	data, rest, err := readBody(&body, in[n:], 0)
	if err != nil {
		return
	}
	theirData, theirErr := io.ReadAll(resp.Body)
	left, _ := io.ReadAll(theirs)
	if theirErr != nil && !errors.Is(theirErr, io.EOF) || string(theirData) != data || string(left) != rest {
		t.Fatalf("net/http: body %q, rest %q, %v\nwe: body %q, rest %q", theirData, left, theirErr, data, rest)
	}
}

// The pieces of which TestComposedAgainstNetHTTP makes messages: what a client sends, and what an attacker does.
var (
	methods    = []string{"GET", "GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT", "get", "G,T", ""}
	targets    = []string{"/", "/a/b?c", "/a/../b", "/%2e%2e/x", "//h/x", "*", "http://a/", "http://a", "HTTP://a:80/x?y", "https://[::1]/", "a:80", "[::1]:80", "/%zz", "/a#b", "/\xff", "/a b", "?x", "", "http:///", "http://u@a/", "/|{}\\^\"<>`"}
	versions   = []string{"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "}
	lineEnds   = []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n "}
	fieldLines = []string{"Content-Length: 3", "Content-Length: 3", "content-length:3 ", "Content-Length: 5", "Content-Length: 03", "Content-Length: 3, 3", "Content-Length: +3",
		"Content-Length:", "Content-Length: 0", "Content_Length: 9", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "transfer-encoding:\tChunked", "Transfer-Encoding: identity",
		"Transfer-Encoding: chunked, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding : chunked", "Transfer-Encoding: x\x0bchunked", "Transfer_Encoding: chunked",
		"Connection: close", "Connection: keep-alive", "Connection: Keep-Alive, Close", "Connection: close;x", "Connection: ,close,", "Connection: upgrade", "Upgrade: websocket", "Host: other", "Host:", "X:y", "X: ", ": x", "X", "X y: z",
		"X: \x00", "Expect: 100-continue", "Trailer: Content-Length", "Keep-Alive: 1", "Proxy-Connection: close"}
	bodies = []string{"", "abc", "abcde", "3\r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "0\r\n\n", "0\n\r\n", "03 \r\nabc\r\n0\r\n\r\n",
		"0x3\r\nabc\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n", "ffffffffffffffff\r\n", "3\r\nabc\r\n0;\"\r\n\r\n\r\n"}
)

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

// composeRequest makes a request that is often right but for one thing.
func composeRequest(r *rand.Rand) string {
	var b strings.Builder
	m, target, version := "GET", "/", "HTTP/1.1"
	switch r.IntN(4) {
	case 0:
		m = pick(r, methods)
	case 1:
		target = pick(r, targets)
	case 2:
		version = pick(r, versions)
	}
	b.WriteString(m + " " + target + " " + version + pick(r, lineEnds))
	if r.IntN(16) > 0 {
		b.WriteString("Host: h" + pick(r, lineEnds))
	}
	for range r.IntN(4) {
		b.WriteString(pick(r, fieldLines) + pick(r, lineEnds))
	}
	b.WriteString("\r\n" + pick(r, bodies))
	return b.String()
}

func composeResponse(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(r, versions) + " " + pick(r, []string{"200 OK", "200 OK", "200", "200 ", "204 No", "304 Not", "100 Go on", "101 Switch", "600 x", "20 x", "2000 x"}) + pick(r, lineEnds))
	for range r.IntN(4) {
		b.WriteString(pick(r, fieldLines) + pick(r, lineEnds))
	}
	b.WriteString("\r\n" + pick(r, bodies))
	return b.String()
}

// TestComposedAgainstNetHTTP does what the fuzz targets do with messages that a fuzzer takes long to come upon.
func TestComposedAgainstNetHTTP(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		req, resp, head := []byte(composeRequest(r)+composeRequest(r)), []byte(composeResponse(r)), r.IntN(4) == 0
		againstNetHTTP(t, req)
		responseAgainstNetHTTP(t, resp, head)
		checkRequest(t, req, r.Int())
		checkResponse(t, resp, r.Int(), head)
	}
}
