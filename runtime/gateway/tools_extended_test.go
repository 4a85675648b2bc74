package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bridgeTo is set in a process that is nothing but TestTheBridge: the WebSocket server of HTTP/1.1 that it leads to.
const bridgeTo = "WASMGATE_TEST_BRIDGE_TO"

// bridge starts Go's own server of HTTP/2, which takes WebSockets as GODEBUG says when its process starts, and leads to a server
// of HTTP/1.1. With files of a certificate and its key it speaks TLS.
func bridge(t *testing.T, to string, pair ...string) string {
	t.Helper()
	env := []string{"GODEBUG=http2xconnect=1", bridgeTo + "=" + to}
	if len(pair) > 0 {
		env = append(env, "CERT="+pair[0], "KEY="+pair[1])
	}
	return peer(t, env, os.Args[0], "-test.run=^TestTheBridge$")
}

// TestTheBridge is that server, in a process of its own.
func TestTheBridge(t *testing.T) {
	to := os.Getenv(bridgeTo)
	if to == "" {
		return // the tests that need it start it
	}
	s := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // its client is a test
		if r.Method != http.MethodConnect || r.Header.Get(":protocol") != "websocket" || r.Header.Get("Sec-WebSocket-Key") != "" {
			http.Error(w, "a plain request", http.StatusUpgradeRequired)
			return
		}
		if err := bridged(w, r, to); err != nil {
			panic(http.ErrAbortHandler)
		}
	})}
	s.Protocols.SetHTTP2(true)
	if os.Getenv("CERT") != "" {
		t.Fatal(s.ListenAndServeTLS(os.Getenv("CERT"), os.Getenv("KEY")))
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	t.Fatal(s.ListenAndServe())
}

// bridged makes a stream a WebSocket of HTTP/1.1.
func bridged(w http.ResponseWriter, r *http.Request, to string) error {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	var head strings.Builder
	fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", r.URL.RequestURI(), r.Host)
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			fmt.Fprintf(&head, "%s: %s\r\n", name, strings.Join(values, ", "))
		}
	}
	_, _ = io.WriteString(c, head.String()+"\r\n")
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		return err
	}
	for name, values := range resp.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") && name != "Sec-Websocket-Accept" {
			w.Header()[name] = values
		}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return nil
	}
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, r.Body)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if _, failed := w.Write(b[:n]); failed != nil {
			return failed
		}
		_ = control.Flush()
		if err != nil {
			return nil // that is its end
		}
	}
}

// framePeer is a connection of a server of HTTP/2 that a test writes by hand.
type framePeer struct {
	*http2.Framer
	conn net.Conn
	mu   sync.Mutex // of what is written
	buf  bytes.Buffer
	enc  *hpack.Encoder
}

// takesTunnels are the SETTINGS of a server that takes extended CONNECT.
var takesTunnels = http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}

// startFramePeer calls on for every frame of every connection, one after the other on each.
func startFramePeer(t *testing.T, settings []http2.Setting, on func(p *framePeer, f http2.Frame)) string {
	t.Helper()
	l, open := eachConn(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		serveFramePeer(c, settings, on)
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return l.Addr().String()
}

// serveFramePeer serves a connection to its end.
func serveFramePeer(c net.Conn, settings []http2.Setting, on func(p *framePeer, f http2.Frame)) {
	defer c.Close()
	p := &framePeer{Framer: http2.NewFramer(c, c), conn: c}
	p.AllowIllegalWrites, p.ReadMetaHeaders = true, hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.buf)
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	_ = p.WriteSettings(settings...)
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			p.locked(func() { _ = p.WriteSettingsAck() })
		}
		on(p, f)
	}
}

// locked writes while nobody else does.
func (p *framePeer) locked(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	write()
}

// answer sends a head: names and values in turn.
func (p *framePeer) answer(id uint32, end bool, fields ...string) {
	p.locked(func() {
		p.buf.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.buf.Bytes(), EndHeaders: true, EndStream: end})
	})
}

// say sends DATA.
func (p *framePeer) say(id uint32, end bool, data string) {
	p.locked(func() { _ = p.WriteData(id, end, []byte(data)) })
}

// taken gives the windows of a DATA frame back.
func (p *framePeer) taken(f *http2.DataFrame) {
	if n := f.Length; n > 0 {
		p.locked(func() {
			_ = p.WriteWindowUpdate(0, n)
			if !f.StreamEnded() {
				_ = p.WriteWindowUpdate(f.StreamID, n)
			}
		})
	}
}

// rawChat is a WebSocket of HTTP/1.1 whose bytes a test sees.
type rawChat struct {
	*testing.T
	net.Conn
	from *bufio.Reader
}

const rawUpgrade = "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// askRaw asks for a WebSocket, and returns the answer's head.
func askRaw(t *testing.T, addr, path string) (*rawChat, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patienceOfChats))
	fmt.Fprintf(c, rawUpgrade, path)
	r := &rawChat{t, c, bufio.NewReader(c)}
	resp, err := http.ReadResponse(r.from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, resp
}

// dialRaw opens one.
func dialRaw(t *testing.T, addr, path string) *rawChat {
	t.Helper()
	c, resp := askRaw(t, addr, path)
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	return c
}

// wants reads so much, which must be this.
func (c *rawChat) wants(text string) {
	c.Helper()
	_ = c.SetDeadline(time.Now().Add(patienceOfChats)) // of this, however long the connection has been there
	b := make([]byte, len(text))
	if n, err := io.ReadFull(c.from, b); err != nil || string(b) != text {
		c.Fatalf("%q, %v; want %q", b[:n], err, text)
	}
}

// rest reads to the end.
func (c *rawChat) rest() string {
	c.Helper()
	b, err := io.ReadAll(c.from)
	if n, ok := err.(net.Error); ok && n.Timeout() {
		c.Fatalf("it does not end: %q", b)
	}
	return string(b)
}

// tlsBackend is what a config says of an upstream of TLS whose certificate is for a.test.
func (a *issuer) tlsBackend(addr string) string {
	return fmt.Sprintf("targets: ['https://%s'], tls: { ca: %q, server_name: a.test }", addr, a.file("ca.pem"))
}
