package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// stream is a WebSocket on a stream of HTTP/2 (RFC 8441), which no library here speaks as a client: so its frames are made by
// hand.
type stream struct {
	*testing.T
	to   *io.PipeWriter
	from *bufio.Reader
	resp *http.Response
}

// frameOf is a frame as a client sends it.
func frameOf(opcode byte, payload string) []byte {
	b := []byte{0x80 | opcode, 0x80 | 126, 0, 0, 1, 2, 3, 4}
	binary.BigEndian.PutUint16(b[2:], uint16(len(payload)))
	for i := range len(payload) {
		b = append(b, payload[i]^byte(1+i&3))
	}
	return b
}

// next reads a frame.
func (s *stream) next() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.from, head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[1] & 0x7f)
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(s.from, long[:]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(s.from, payload)
	return head[0] & 0xf, payload, err
}

func (s *stream) says(text string) {
	s.Helper()
	if _, err := s.to.Write(frameOf(1, text)); err != nil {
		s.Fatal(err)
	}
	if op, back, err := s.next(); err != nil || op != 1 || string(back) != text {
		s.Fatalf("%d %.50q, %v; want %.50q", op, back, err, text)
	}
}

// http2Client speaks HTTP/2 without TLS, all on one connection. net/http itself sends no :protocol.
func http2Client(t *testing.T) *http.Client {
	t.Helper()
	//nolint:staticcheck // see above
	transport := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections) //nolint:staticcheck // see above
	return &http.Client{Transport: transport}
}

// open sends an extended CONNECT.
func open(t *testing.T, client *http.Client, addr, path, protocol string) *stream {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = w.Close() })
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, "http://"+addr+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(":protocol", protocol)
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Protocol", "chat")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{T: t, to: w, from: bufio.NewReader(resp.Body), resp: resp}
}

// TestWebSocketsOnHTTP2: many of them on one connection, to a server that speaks HTTP/1.1.
func TestWebSocketsOnHTTP2(t *testing.T) {
	e := startWebSockets(t)
	s := chatSite(t, e, "tunnel_grace: 100ms", "", "")
	client := http2Client(t)
	const many = 20
	var list []*stream
	for i := range many {
		c := open(t, client, s.at("test"), fmt.Sprint("/", i), "websocket")
		if h := c.resp.Header; c.resp.StatusCode != 200 || h.Get("Sec-WebSocket-Protocol") != "chat" || h.Get("Sec-WebSocket-Accept") != "" || h.Get("Upgrade") != "" {
			t.Fatalf("%s %v", c.resp.Status, h)
		}
		list = append(list, c)
	}
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() {
			for _, text := range []string{"hello", strings.Repeat("long ", 10_000), ""} {
				c.says(text)
			}
		})
	}
	wg.Wait()
	if !s.tunnels(fmt.Sprint(many)) {
		t.Error("not all of them are counted as tunnels")
	}
	// An ordinary request goes beside them.
	resp, err := client.Get("http://" + s.at("test") + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 426 { // what the server says to who does not ask for a WebSocket
		t.Error(resp.Status)
	}
	// The half of them is closed by the client.
	for _, c := range list[:many/2] {
		_, _ = c.to.Write(frameOf(8, "\x03\xe8"))
		if op, said, err := c.next(); op != 8 || string(said) != "\x03\xe8" || err != nil {
			t.Errorf("%d %q %v", op, said, err)
		}
		if _, _, err := c.next(); err != io.EOF {
			t.Errorf("the stream ends with %v", err)
		}
		_ = c.to.Close()
	}
	testkit.Eventually(t, "they have ended", func() bool { return s.endedTunnels("client_closed", fmt.Sprint(many/2)) })
	// The others are told to go.
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfChats)
	defer cancel()
	go func() { done <- s.Shutdown(ctx) }()
	for _, c := range list[many/2:] {
		wg.Go(func() {
			op, said, err := c.next()
			if op != 8 || string(said) != "\x03\xe9going away" || err != nil {
				t.Errorf("%d %q %v", op, said, err)
			}
			_, _ = c.to.Write(frameOf(8, "\x03\xe9"))
			if rest, err := io.ReadAll(c.from); len(rest) > 0 || err != nil {
				t.Errorf("the stream ends with %q, %v", rest, err)
			}
			_ = c.to.Close()
		})
	}
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	text, _ := os.ReadFile(s.access)
	if n := bytes.Count(text, []byte(`"protocol":"HTTP/2`)); n < many {
		t.Errorf("%d lines of HTTP/2:\n%s", n, text)
	}
}

// TestNoWebSocketOnHTTP2: whatever does not open a tunnel is not told as one, which any 2xx would be.
func TestNoWebSocketOnHTTP2(t *testing.T) {
	answers := map[string]string{
		"/ok":     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"/no":     "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
		"/accept": "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
		"/other":  "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
	}
	heads := make(chan string, 10)
	o := startOrigin(t, func(w io.Writer, r *originRequest) bool {
		heads <- r.head
		_, _ = io.WriteString(w, answers[r.URL.Path])
		return false
	})
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'], retries: { attempts: 1 } } }
routes: [{ match: { path: /own }, respond: { status: 200, body: "fine" } }, { upstream: app }]
`, o.addr))
	client := http2Client(t)
	for _, c := range []struct {
		path, protocol string
		status         int
		body           string
	}{
		{"/ok", "websocket", 502, ""}, {"/no", "websocket", 403, "no"}, {"/accept", "websocket", 502, ""}, {"/other", "websocket", 502, ""},
		{"/own", "websocket", 501, "fine"}, {"/ok", "connect-udp", 501, ""},
	} {
		one := open(t, client, s.at("test"), c.path, c.protocol)
		_, _ = one.to.Write(frameOf(1, "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"))
		body, err := io.ReadAll(one.from)
		if one.resp.StatusCode != c.status || c.body != "" && string(body) != c.body || err != nil {
			t.Errorf("%s %s: %s %q %v", c.path, c.protocol, one.resp.Status, body, err)
		}
		_ = one.to.Close()
	}
	if n := len(heads); n != 4 {
		t.Errorf("the upstream was asked %d times", n)
	}
	for range 4 {
		head := <-heads
		key := field(head, "Sec-WebSocket-Key")
		if !strings.HasPrefix(head, "GET /") || field(head, "Upgrade") != "websocket" || len(key) != 24 || strings.Contains(head, "smuggled") {
			t.Errorf("%q", head)
		}
	}
}
