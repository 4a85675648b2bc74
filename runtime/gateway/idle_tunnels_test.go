//go:build linux && !wasmgate_portable && !race

package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/testkit"
)

// tunnelsOf is set in a process that is both ends of tunnels: servers, and clients that have said something once.
const tunnelsOf = "WASMGATE_TEST_TUNNELS_OF"

// idleTunnels tells the addresses of a server of HTTP/1.1 and one of HTTP/2, reads by which version of HTTP to open how many tunnels
// through which gateway, and answers ok.
func idleTunnels() error {
	for _, serve := range []func(net.Conn){serveTunnel, func(c net.Conn) { serveFramePeer(c, []http2.Setting{takesTunnels}, echoTunnels) }} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
		fmt.Println(l.Addr())
	}
	for {
		var addr string
		var version, n int
		if _, err := fmt.Scan(&version, &n, &addr); err != nil {
			return nil // the test has ended
		}
		const streams = 100
		for ; n > 0; n -= streams {
			c, err := openTunnels(version, min(n, streams), addr)
			if err != nil {
				return err
			}
			defer runtime.KeepAlive(c) // they are open until the process ends
		}
		fmt.Println("ok")
	}
}

// serveTunnel is the other end of a tunnel of HTTP/1.1, which says what it hears.
func serveTunnel(c net.Conn) {
	defer c.Close()
	from := bufio.NewReaderSize(c, 1024)
	r, err := http.ReadRequest(from)
	if err != nil {
		return
	}
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:]))
	_, _ = io.Copy(c, from)
}

// echoTunnels are those of HTTP/2.
func echoTunnels(p *framePeer, f http2.Frame) {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		p.answer(f.StreamID, false, ":status", "200")
	case *http2.DataFrame:
		p.taken(f)
		p.say(f.StreamID, f.StreamEnded(), string(f.Data()))
	}
}

// openTunnels opens tunnels, on connections of their own or as streams of one, and has a frame go there and back in each.
func openTunnels(version, n int, addr string) (keep []net.Conn, err error) {
	frame := frameOf(1, "hello")
	if version == 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		return []net.Conn{c}, openStreams(c, n, frame)
	}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		keep = append(keep, c)
		fmt.Fprintf(c, rawUpgrade, "/")
		from := bufio.NewReaderSize(c, 1024)
		resp, err := http.ReadResponse(from, nil)
		if err != nil || resp.StatusCode != 101 {
			return nil, fmt.Errorf("%v, %w", resp, err)
		}
		_, _ = c.Write(frame)
		if _, err := io.ReadFull(from, make([]byte, len(frame))); err != nil {
			return nil, err
		}
	}
	return keep, nil
}

func openStreams(c net.Conn, n int, frame []byte) error {
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(c, http2.ClientPreface)
	_ = f.WriteSettings()
	_ = f.WriteSettingsAck()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range n {
		block.Reset()
		for _, field := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "h"}, {":path", "/"}, {"sec-websocket-version", "13"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true}) //nolint:gosec // at most 100
	}
	for left := n; left > 0; {
		got, err := f.ReadFrame()
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case *http2.MetaHeadersFrame:
			if got.PseudoValue("status") != "200" {
				return errors.New("not opened: " + got.PseudoValue("status"))
			}
			_ = f.WriteData(got.StreamID, false, frame)
		case *http2.DataFrame:
			if len(got.Data()) != len(frame) {
				return errors.New("the frame came in pieces")
			}
			left--
		case *http2.RSTStreamFrame:
			return errors.New("reset: " + got.ErrCode.String())
		}
	}
	return nil
}

// TestMemoryOfIdleTunnels: what a WebSocket costs that is open and silent, after something has gone through it both ways. RSS is the
// gateway's alone: clients and servers are another process.
func TestMemoryOfIdleTunnels(t *testing.T) {
	const tunnels = 2000
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < 2*tunnels+1000 {
		missing(t, fmt.Sprintf("the right to open %d files (ulimit -n); it is %d", 2*tunnels+1000, limit.Cur))
	}
	const most, mostHeap = 40 << 10, 18 << 10 // bytes for each: a buffer more would be too much for the heap
	for _, c := range []struct {
		name             string
		client, upstream int
	}{{"HTTP/1.1 to HTTP/1.1", 1, 1}, {"HTTP/2 to HTTP/1.1", 2, 1}, {"HTTP/1.1 to HTTP/2", 1, 2}, {"HTTP/2 to HTTP/2", 2, 2}} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), tunnelsOf+"=1")
			in, out := testkit.Child(t, cmd)
			says := func() string {
				line, err := out.ReadString('\n')
				if err != nil {
					t.Fatalf("the other process says nothing: %v", err)
				}
				return strings.TrimSuffix(line, "\n")
			}
			addrs := []string{says(), says()}
			protocol := []string{"http1.1", "http2"}[c.upstream-1]
			g := start(t, fmt.Sprintf(`
loops: 1
limits: { connections: 5000 }
upstreams: { app: { protocol: %s, targets: ['http://%s'], pool: { max_connections: 5000 } } }
routes: [{ upstream: app }]
`, protocol, addrs[c.upstream-1]))
			open := func(n int) {
				fmt.Fprintln(in, c.client, n, g.addr)
				if said := says(); said != "ok" {
					t.Fatalf("the clients say %s", said)
				}
			}
			measure := func() (rss, heap, stacks int64) {
				rss = resident(t) // after a collection
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return rss, int64(m.HeapAlloc), int64(m.StackInuse) //nolint:gosec // of a test
			}
			open(200)
			rss, heap, stacks := measure()
			open(tunnels)
			rss2, heap2, stacks2 := measure()
			rss, heap = (rss2-rss)/tunnels, (heap2-heap)/tunnels
			t.Logf("%d bytes of RSS for an idle tunnel; heap %d, stacks %d", rss, heap, (stacks2-stacks)/tunnels)
			if rss > most || heap > mostHeap {
				t.Errorf("more than %d bytes, or %d of heap", most, mostHeap)
			}
		})
	}
}
