package http2

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/netloop"
)

// FuzzServer sends whatever to a client that has two streams open, and asks for a tunnel, and closes: nothing panics, no stream waits for ever, and
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
	seed(func(p *peer) {
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		p.head(5, false, ":status", "200", "content-length", "1")
		_ = p.WriteData(5, false, []byte("\x81\x02hi"))
		_ = p.WriteDataPadded(5, true, []byte("\x88\x00"), make([]byte, 3))
	})
	seed(func(p *peer) {
		p.head(5, false, ":status", "103")
		p.head(5, false, ":status", "204")
		p.head(5, true, "trailer", "1")
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 0})
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
			third, _ := c.Open(request(t, get), Outgoing{Scheme: "http", Protocol: "websocket"})
			for _, s := range []*Stream{first, second, third} {
				if s == nil {
					continue
				}
				switch s {
				case second:
					_, _ = s.Write(task, []byte("piece"), true, task.Loop().Now()+1e6)
				case third:
					if status, _ := s.Head(task, task.Loop().Now()+int64(patience)); status/100 == 2 {
						pass(task, s.Tunnel(), len(data), t)
						s.Close()
						continue
					}
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

// FuzzClient sends whatever to a server, behind a preface, and closes: nothing panics, every request ends, and so does the connection.
func FuzzClient(f *testing.F) {
	seed := func(do func(v *visitor)) { f.Add(frames(f, func(p *peer) { do(&visitor{p}) })) }
	seed(func(v *visitor) {
		v.ask(1, true)
		v.ask(3, false, "content-length", "4", "cookie", "a=b", "cookie", "c=d")
		_ = v.WriteData(3, true, []byte("body"))
		v.ask(5, false)
		_ = v.WriteDataPadded(5, false, []byte("body"), make([]byte, 10))
		v.head(5, true, "x-last", "1")
	})
	seed(func(v *visitor) {
		_ = v.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = v.WriteSettingsAck()
		v.ask(1, true)
		_ = v.WriteWindowUpdate(0, 100)
		_ = v.WriteWindowUpdate(1, 100)
		_ = v.WritePing(false, [8]byte{1})
		_ = v.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = v.WriteGoAway(0, http2.ErrCodeNo, nil)
	})
	seed(func(v *visitor) {
		_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: v.block(":method", "CONNECT", ":authority", "h:1")})
		_ = v.WriteContinuation(1, true, v.block("a", "b"))
		_ = v.WritePriority(3, http2.PriorityParam{StreamDep: 1})
	})
	var begun, done atomic.Int64
	s := open(f, Options{}, func(task *netloop.Task, r *Request) {
		begun.Add(1)
		defer done.Add(1)
		mirror(task, r)
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(append([]byte(Preface), data...))
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		conn := <-s.conns
		<-<-s.ended
		if conn.Streams() != 0 || begun.Load() != done.Load() {
			t.Errorf("%d streams are left, %d of %d requests have ended", conn.Streams(), done.Load(), begun.Load())
		}
	})
}
