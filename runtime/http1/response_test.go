package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

func responseSummary(r *Response) string {
	framing := fmt.Sprintf("%s %d", [...]string{"none", "length", "chunked", "close"}[r.Framing.Kind], r.Framing.Length)
	s := fmt.Sprintf("1.%d %d %s, %s, keep=%t", r.Minor, r.Status, r.Reason, framing, r.KeepAlive)
	if r.Upgrade != nil {
		s += " upgrade=" + string(r.Upgrade)
	}
	return s
}

func TestResponseHead(t *testing.T) {
	for _, c := range []struct{ name, method, in, want string }{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "1.1 200 OK, length 5, keep=true"},
		{"length 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "1.1 200 OK, length 0, keep=true"},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1.1 200 OK, chunked 0, keep=true"},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\n", "1.1 200 OK, close 0, keep=false"},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", "1.1 200 OK, length 1, keep=false"},
		{"1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "1.0 200 OK, length 1, keep=false"},
		{"1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", "1.0 200 OK, length 1, keep=true"},
		{"no reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", "1.1 200 , length 1, keep=true"},
		{"no reason and no space", "GET", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", "1.1 200 , length 1, keep=true"},
		{"long reason", "GET", "HTTP/1.1 404 Not \xfcberall Found\r\nContent-Length: 1\r\n\r\n", "1.1 404 Not \xfcberall Found, length 1, keep=true"},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "1.1 200 OK, none 5, keep=true"},
		{"HEAD chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1.1 200 OK, none -1, keep=true"},
		{"HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", "1.1 200 OK, none -1, keep=true"},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "1.1 204 No Content, none -1, keep=true"},
		{"204 that announces a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "1.1 204 No Content, none -1, keep=false"},
		{"204 chunked", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "1.1 204 No Content, none -1, keep=false"},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "1.1 304 Not Modified, none 5, keep=true"},
		{"100", "POST", "HTTP/1.1 100 Continue\r\n\r\n", "1.1 100 Continue, none -1, keep=true"},
		{"103", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "1.1 103 Early Hints, none -1, keep=true"},
		{"101", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"1.1 101 Switching Protocols, none -1, keep=false upgrade=websocket"},
		{"426", "GET", "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: TLS/1.3\r\nContent-Length: 0\r\n\r\n",
			"1.1 426 Upgrade Required, length 0, keep=true upgrade=TLS/1.3"},
		{"CONNECT", "CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "1.1 200 OK, none -1, keep=false"},
		{"CONNECT that fails", "CONNECT", "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", "1.1 403 No, length 5, keep=true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := range 3 {
				var r Response
				n, err := feedResponse(&r, []byte(c.in), c.method, step)
				if err != nil || n != len(c.in) {
					t.Fatal(n, err)
				}
				if got := responseSummary(&r); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

func feedResponse(r *Response, in []byte, method string, step int) (n int, err error) {
	if step == 0 {
		return r.Parse(in, nil, []byte(method))
	}
	for i := 0; i < len(in); i += step {
		if n, err = r.Parse(bytes.Clone(in[:min(i+step, len(in))]), nil, []byte(method)); n != 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

func TestResponseRefused(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct{ name, in string }{
		{"TE and CL", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"TE in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"TE gzip", ok + "Transfer-Encoding: gzip\r\n\r\n"},
		{"TE gzip, chunked", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n"},
		{"TE twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"CL differs", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"},
		{"CL list", ok + "Content-Length: 5,5\r\n\r\n"},
		{"CL beyond 63 bits", ok + "Content-Length: 99999999999999999999\r\n\r\n"},
		{"obs-fold", ok + "A: b\r\n c\r\n\r\n"},
		{"bare LF", ok + "A: b\n\r\n"},
		{"bare LF in the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n"},
		{"bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n"},
		{"NUL in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n"},
		{"space before the colon", ok + "A : b\r\n\r\n"},
		{"control in a value", ok + "A: \x1b\r\n\r\n"},
		{"version 2.0", "HTTP/2.0 200 OK\r\n\r\n"},
		{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2p1 Debian\r\n"},
		{"HTTP/0.9", "<html>hello, world</html>\r\n"},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n"},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n"},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n"},
		{"status 600", "HTTP/1.1 600 OK\r\n\r\n"},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n"},
		{"short line", "HTTP/1.1\r\n"},
		{"empty line before", "\r\nHTTP/1.1 200 OK\r\n\r\n"},
		{"101 without Upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		{"100 in 1.0", "HTTP/1.0 100 Continue\r\n\r\n"},
		{"100 chunked", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"large head", ok + "A: " + strings.Repeat("a", 32<<10) + "\r\n\r\n"},
		{"head without an end", ok + "A: " + strings.Repeat("a", 33<<10)},
		{"status line without an end", "HTTP/1.1 200 " + strings.Repeat("a", 33<<10)},
		{"many fields", ok + strings.Repeat("A: b\r\n", 101) + "\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := range 2 {
				var r Response
				n, err := feedResponse(&r, []byte(c.in), "GET", step)
				var fe *fault.Error
				if !errors.As(err, &fe) || fe.Status != 502 || fe.Source != fault.Upstream || n != 0 {
					t.Errorf("step %d: %d, %v: %s", step, n, err, responseSummary(&r))
				}
			}
		})
	}
}

func TestResponseInterimThenFinal(t *testing.T) {
	in := []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	var r Response
	var got []int
	for r.Status < 200 {
		n, err := r.Parse(in, nil, []byte("POST"))
		if n == 0 || err != nil {
			t.Fatal(n, err)
		}
		got = append(got, r.Status)
		in = in[n:]
	}
	if fmt.Sprint(got) != "[100 103 200]" || string(in) != "hi" || r.Len() != 1 {
		t.Error(got, string(in), r.Len())
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	in, method := []byte(benchResponse), []byte("GET")
	var r Response
	var body BodyReader
	var out []byte
	if n := testing.AllocsPerRun(1000, func() {
		n, err := r.Parse(in, nil, method)
		if err != nil {
			t.Fatal(err)
		}
		r.StripHopByHop()
		r.Set("Server", "wasmgate")
		out = AppendResponse(out[:0], &r, ResponseOut{Minor: 1, Framing: r.Framing})
		body.Init(r.Framing, nil, fault.Upstream)
		for rest := in[n:]; !body.Done(); {
			data, n, err := body.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			out = append(AppendChunkHeader(out, len(data)), data...)
			rest = rest[n:]
		}
		out = AppendLastChunk(out, body.Trailers())
	}); n != 0 {
		t.Errorf("%v allocations for each response", n)
	}
}

var benchResponse = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Fri, 21 Nov 2025 07:30:00 GMT\r\n" +
	"Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\nLast-Modified: Fri, 21 Nov 2025 07:00:00 GMT\r\n" +
	"Connection: keep-alive\r\nETag: \"69200000-1f4\"\r\nAccept-Ranges: bytes\r\n\r\n1f4\r\n" + strings.Repeat("x", 500) +
	"\r\n0\r\nX-Checksum: abc\r\n\r\n"

func BenchmarkResponseForward(b *testing.B) {
	in, method := []byte(benchResponse), []byte("GET")
	var r Response
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Parse(in, nil, method); err != nil {
			b.Fatal(err)
		}
		r.StripHopByHop()
		out = AppendResponse(out[:0], &r, ResponseOut{Minor: 1, Framing: r.Framing})
	}
}

// TestAnotherProtocol: who is spoken to in the wrong way answers in bytes that say so, and the error says what to write.
func TestAnotherProtocol(t *testing.T) {
	for in, want := range map[string]string{
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00": "protocol: http2",
		"\x00\x00\x00\x04":             "protocol: http2",
		"\x15\x03\x01\x00\x02\x02\x46": "https://",
		"\x00\x00\x06\x03\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00": "malformed status line",
	} {
		var r Response
		if _, err := feedResponse(&r, []byte(in), "GET", 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
	var r Request
	if _, err := r.Parse([]byte("\x16\x03\x01\x02\x00\x01"), &Limits{Head: 1 << 10, Fields: 10, Target: 100}); err == nil || !strings.Contains(err.Error(), "speaks TLS") {
		t.Errorf("a client that speaks TLS: %v", err)
	}
}
