package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"wasmgate/runtime/internal/testkit"
)

// webCall is a call by a client of gRPC-Web, as PROTOCOL-WEB.md has it.
type webCall struct {
	answer *http.Response
	body   io.Reader
}

const (
	webBinary = "application/grpc-web+proto"
	webText   = "application/grpc-web-text+proto"
)

// webFrame is a message, framed.
func webFrame(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...) //nolint:gosec // small
}

// webAsk makes a call, and returns when the head of its answer is there.
func (p *plant) webAsk(path, kind string, body []byte, fields ...string) *webCall {
	p.Helper()
	if strings.Contains(kind, "-text") {
		body = []byte(base64.StdEncoding.EncodeToString(body))
	}
	r, err := http.NewRequestWithContext(p.Context(), "POST", p.url(path), bytes.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Accept", kind)
	r.Header.Set("X-Grpc-Web", "1")
	r.Header.Set("X-User-Agent", "grpc-web-javascript/0.1")
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { a.Body.Close() })
	c := &webCall{answer: a, body: a.Body}
	if strings.Contains(a.Header.Get("Content-Type"), "-text") {
		c.body = &webDecoder{from: bufio.NewReader(a.Body)}
	}
	return c
}

// webDecoder reads base64 that may be padded anywhere.
type webDecoder struct {
	from *bufio.Reader
	left []byte
}

func (d *webDecoder) Read(b []byte) (int, error) {
	if len(d.left) == 0 {
		var quad [4]byte
		if _, err := io.ReadFull(d.from, quad[:]); err != nil {
			return 0, err
		}
		var err error
		if d.left, err = base64.StdEncoding.DecodeString(string(quad[:])); err != nil {
			return 0, err
		}
	}
	n := copy(b, d.left)
	d.left = d.left[n:]
	return n, nil
}

// next reads a frame: a message, or the trailers.
func (c *webCall) next() (message string, trailers textproto.MIMEHeader, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(c.body, prefix[:]); err != nil {
		return "", nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(c.body, b); err != nil {
		return "", nil, err
	}
	switch prefix[0] {
	case 0:
		return string(b), nil, nil
	case 0x80:
		trailers, err = textproto.NewReader(bufio.NewReader(strings.NewReader(string(b) + "\r\n"))).ReadMIMEHeader()
		return "", trailers, err
	}
	return "", nil, fmt.Errorf("a frame %#x", prefix[0])
}

// all reads the answer to its end: the messages, and the status, which is in the last frame or in the head.
func (c *webCall) all(t *testing.T) (messages []string, code, text string, trailers textproto.MIMEHeader) {
	t.Helper()
	for {
		message, last, err := c.next()
		switch {
		case err == io.EOF && trailers == nil:
			h := textproto.MIMEHeader(c.answer.Header)
			return messages, h.Get("Grpc-Status"), h.Get("Grpc-Message"), h
		case err == io.EOF:
			return messages, trailers.Get("Grpc-Status"), trailers.Get("Grpc-Message"), trailers
		case err != nil:
			t.Fatal(err)
		case trailers != nil:
			t.Errorf("a frame behind the trailers: %q", message)
		case last != nil:
			trailers = last
		default:
			messages = append(messages, message)
		}
	}
}

// startWebServer starts a gRPC server with a call that greets, and one that counts as it is let.
func startWebServer(t *testing.T, let chan struct{}) (addr string) {
	t.Helper()
	return startGRPC(t, &grpc.ServiceDesc{
		ServiceName: "test.Web",
		Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := decode(&in); err != nil {
				return nil, err
			}
			if err := grpc.SetTrailer(ctx, metadata.Pairs("x-sum", "3", "x-raw-bin", "\x00\r\n\xff")); err != nil {
				return nil, err
			}
			return greet(ctx, string(in))
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Count", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var in []byte
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			for i := range 3 {
				select {
				case <-let:
				case <-s.Context().Done():
					return s.Context().Err()
				}
				out := fmt.Appendf(nil, "%s %d", in, i)
				if err := s.SendMsg(&out); err != nil {
					return err
				}
			}
			return status.Error(codes.DataLoss, "no more: 100 %")
		}}},
	})
}

func webConfig(server, more string) string {
	return fmt.Sprintf("loops: 1\nupstreams: { grpc: { targets: ['http://%s'], protocol: http2, grpc_web: true%s } }\nroutes: [{ upstream: grpc }]\n", server, more)
}

// TestGRPCWeb has a client of gRPC-Web speak over HTTP/1.1 to a server of gRPC.
func TestGRPCWeb(t *testing.T) {
	p := startPlant(t, webConfig(startWebServer(t, nil), ""))
	long := strings.Repeat("0123456789", 20_000)
	for _, kind := range []string{webBinary, webText} {
		for in, want := range map[string]string{"anna": "hi anna m", "": "hi  m", long: "hi " + long + " m"} {
			c := p.webAsk("/test.Web/Greet", kind, webFrame(in), "X-Meta", "m")
			messages, code, _, trailers := c.all(t)
			if c.answer.StatusCode != 200 || c.answer.Header.Get("Content-Type") != kind || len(messages) != 1 || messages[0] != want || code != "0" {
				t.Errorf("%s: %d %v: %.100q %s", kind, c.answer.StatusCode, c.answer.Header, messages, code)
			}
			if raw, _ := base64.RawStdEncoding.DecodeString(trailers.Get("X-Raw-Bin")); trailers.Get("X-Sum") != "3" || string(raw) != "\x00\r\n\xff" {
				t.Errorf("%s: trailers %v", kind, trailers)
			}
			if len(c.answer.Trailer) > 0 || c.answer.Header.Get("Trailer") != "" {
				t.Errorf("%s: trailers of HTTP: %v", kind, c.answer.Trailer)
			}
		}
		c := p.webAsk("/test.Web/Greet", kind, webFrame("fail"))
		if messages, code, text, trailers := c.all(t); len(messages) > 0 || code != "7" || text != "no way: 100 %25" || trailers.Get("X-Sum") != "3" {
			t.Errorf("%s: %q %s %q %v", kind, messages, code, text, trailers)
		}
		c = p.webAsk("/test.Web/Nothing", kind, webFrame("x"))
		if messages, code, _, _ := c.all(t); len(messages) > 0 || code != "12" || c.answer.Header.Get("Content-Type") != kind {
			t.Errorf("%s: a method that is not there: %q %s %v", kind, messages, code, c.answer.Header)
		}
	}
	if open := p.upstream("grpc").Members[0].Open; open != 1 {
		t.Errorf("%d connections", open)
	}
}

// TestGRPCWebFlows: each message of a stream is there as soon as the server has sent it.
func TestGRPCWebFlows(t *testing.T) {
	let := make(chan struct{}, 1)
	p := startPlant(t, webConfig(startWebServer(t, let), ""))
	for _, kind := range []string{webBinary, webText} {
		var c *webCall
		for i := range 3 {
			let <- struct{}{}
			if c == nil {
				c = p.webAsk("/test.Web/Count", kind, webFrame("n"))
			}
			if message, _, err := c.next(); message != fmt.Sprintf("n %d", i) || err != nil {
				t.Fatalf("%s: %q %v", kind, message, err)
			}
		}
		if messages, code, text, _ := c.all(t); len(messages) > 0 || code != "15" || text != "no more: 100 %25" {
			t.Errorf("%s: %q %s %q", kind, messages, code, text)
		}
	}
}

// TestGRPCWebClientsThatGo: the server's call ends with its client's connection.
func TestGRPCWebClientsThatGo(t *testing.T) {
	ended := make(chan struct{}, 1)
	server := startGRPC(t, &grpc.ServiceDesc{ServiceName: "test.Wait", Streams: []grpc.StreamDesc{{
		StreamName: "Wait", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			out := []byte("begun")
			if err := s.SendMsg(&out); err != nil {
				return err
			}
			<-s.Context().Done()
			ended <- struct{}{}
			return nil
		},
	}}})
	p := startPlant(t, webConfig(server, ""))
	c := p.webAsk("/test.Wait/Wait", webBinary, webFrame(""))
	if message, _, err := c.next(); message != "begun" || err != nil {
		t.Fatalf("%q %v", message, err)
	}
	c.answer.Body.Close()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the call goes on")
	}
	testkit.Eventually(t, "the connection to the server is kept", func() bool { return p.upstream("grpc").Members[0].Open == 1 })
}

// TestGRPCWebErrors: what the gateway answers itself is of gRPC-Web too.
func TestGRPCWebErrors(t *testing.T) {
	text := webConfig("127.0.0.1:1", ", health: { passive: { failures: 0 } }") + "limits: { body: 100 }\n"
	text = strings.Replace(text, "routes: [", "routes: [{ match: { path: /denied }, respond: { status: 403, body: \"no: 100 %\\n\", headers: { content-type: text/html, x-more: m } } }, { match: { path: /gone }, exclude: true }, ", 1)
	p := startPlant(t, text)
	for _, kind := range []string{webBinary, webText} {
		for path, want := range map[string]struct {
			code, text string
			body       []byte
		}{
			"/denied":         {"7", "no: 100 %25", nil},
			"/gone":           {"12", "404 Not Found", nil},
			"/test.Web/Greet": {"14", "502 Bad Gateway: connect", webFrame("x")},
			"/test.Web/Long":  {"8", "413 Content Too Large: body_too_large", make([]byte, 200)},
		} {
			c := p.webAsk(path, kind, want.body)
			messages, code, text, trailers := c.all(t)
			if c.answer.StatusCode != 200 || c.answer.Header.Get("Content-Type") != kind || len(messages) > 0 || code != want.code || !strings.HasPrefix(text, want.text) {
				t.Errorf("%s %s: %d %v %q %s %q", kind, path, c.answer.StatusCode, c.answer.Header, messages, code, text)
			}
			if path == "/denied" && trailers.Get("X-More") != "m" {
				t.Errorf("%v", trailers)
			}
		}
	}
	p2 := startPlant(t, webConfig(startWebServer(t, nil), ""))
	for _, body := range []string{"a", "!!!!", "AAAA\r\nAAAA", "AAAA===="} {
		r, err := http.Post(p2.url("/test.Web/Greet"), webText, strings.NewReader(body)) //nolint:noctx // it ends
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if code := r.Header.Get("Grpc-Status"); r.StatusCode != 200 || code != "13" || !strings.Contains(r.Header.Get("Grpc-Message"), "is not base64") {
			t.Errorf("%q: %d %v", body, r.StatusCode, r.Header)
		}
	}
}
