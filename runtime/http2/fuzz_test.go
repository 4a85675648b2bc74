package http2

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/netloop"
)

// FuzzServer sends whatever to a client that has two streams open, and closes: nothing panics, no stream waits for ever, and
// what is held stays within its bounds.
func FuzzServer(f *testing.F) {
	seed := func(do func(*peer)) {
		var b bytes.Buffer
		p := &peer{t: f, Framer: http2.NewFramer(&b, nil)}
		p.AllowIllegalWrites = true
		p.enc = newEncoder(&p.buf)
		do(p)
		f.Add(b.Bytes())
	}
	seed(func(p *peer) {
		p.head(1, false, ":status", "200", "content-length", "4")
		_ = p.WriteData(1, true, []byte("body"))
		p.head(3, false, ":status", "103")
		p.head(3, false, ":status", "200", "a", "b")
		_ = p.WriteDataPadded(3, false, []byte("body"), make([]byte, 10))
		p.head(3, true, "grpc-status", "0")
	})
	seed(func(p *peer) {
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = p.WriteWindowUpdate(0, 100)
		_ = p.WriteWindowUpdate(3, 100)
		_ = p.WritePing(false, [8]byte{1})
		_ = p.WriteRSTStream(3, http2.ErrCodeRefusedStream)
		_ = p.WriteGoAway(1, http2.ErrCodeNo, nil)
	})
	inputs := make(chan []byte, 1)
	at := listen(f, func(nc net.Conn) {
		data := <-inputs
		newPeer(f, nc)
		_, _ = nc.Write(data)
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	})
	loops := newBench(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		inputs <- data
		b := &bench{t, loops.group}
		b.on(func(task *netloop.Task) {
			c, err := b.dial(task, at, Options{})
			if err != nil {
				return // the connection has ended at once
			}
			first, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
			second, _ := c.Open(request(t, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), Outgoing{Scheme: "http"})
			for _, s := range []*Stream{first, second} {
				if s == nil {
					continue
				}
				if s == second {
					_, _ = s.Write(task, []byte("piece"), true, task.Loop().Now()+1e6)
				}
				a := b.take(task, s, answer{})
				if len(a.body) > len(data) || s.head.Len() > 100 || s.trailers.Len() > 100 {
					t.Errorf("%d bytes of body out of %d", len(a.body), len(data))
				}
				s.Close()
			}
			_ = c.net.Close()
		})
	})
}
