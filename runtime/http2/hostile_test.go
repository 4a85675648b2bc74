package http2

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// TestConnectionErrors has the peer do what ends a connection.
func TestConnectionErrors(t *testing.T) {
	for name, c := range map[string]struct {
		code http2.ErrCode
		do   func(*peer)
	}{
		"data for a stream that is idle":    {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteData(7, false, []byte("x")) }},
		"headers for a stream that is idle": {http2.ErrCodeProtocol, func(p *peer) { p.head(7, false, ":status", "200") }},
		"headers for an even stream":        {http2.ErrCodeProtocol, func(p *peer) { p.head(2, false, ":status", "200") }},
		"reset of a stream that is idle":    {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteRSTStream(9, 0) }},
		"window of a stream that is idle":   {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteWindowUpdate(9, 1) }},
		"push": {http2.ErrCodeProtocol, func(p *peer) {
			_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.block(":method", "GET"), EndHeaders: true})
		}},
		"push allowed":           {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }},
		"window too large":       {http2.ErrCodeFlowControl, func(p *peer) { _ = p.WriteWindowUpdate(0, 1<<31-1) }},
		"window of 0":            {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)) }},
		"initial window too big": {http2.ErrCodeFlowControl, func(p *peer) { _ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }},
		"frame size too small":   {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}) }},
		"frame too large":        {http2.ErrCodeFrameSize, func(p *peer) { _ = p.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1)) }},
		"goaway that grows": {http2.ErrCodeProtocol, func(p *peer) {
			_ = p.WriteGoAway(1, 0, nil)
			_ = p.WriteGoAway(3, 0, nil)
		}},
		"data behind the end": {http2.ErrCodeStreamClosed, func(p *peer) {
			p.head(1, true, ":status", "200")
			_ = p.WriteData(1, true, []byte("x"))
		}},
		"headers behind the end": {http2.ErrCodeStreamClosed, func(p *peer) {
			p.head(1, true, ":status", "200")
			p.head(1, true, "a", "b")
		}},
		"continuation of nothing": {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteContinuation(1, true, nil) }},
		"block cut by another frame": {http2.ErrCodeProtocol, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "200")})
			_ = p.WritePing(false, [8]byte{})
		}},
		"compression that is none": {http2.ErrCodeCompression, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		"table larger than allowed": {http2.ErrCodeCompression, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0xff, 0x03, 0x88}, EndHeaders: true})
		}},
		"padding beyond the frame": {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, []byte{200, 0x88}) }},
		"flood of PING":            {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WritePing(false, [8]byte{}) })},
		"flood of SETTINGS":        {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteSettings() })},
		"flood of empty DATA": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			p.head(1, false, ":status", "200")
			flood(func(p *peer) error { return p.WriteData(1, false, nil) })(p)
		}},
		"flood of windows":         {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteWindowUpdate(1, 1) })},
		"flood of interim answers": {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { p.head(1, false, ":status", "103"); return nil })},
		"flood of unknown frames":  {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteRawFrame(0xf0, 0, 0, nil) })},
		"flood of empty CONTINUATION": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "200")})
			flood(func(p *peer) error { return p.WriteContinuation(1, false, nil) })(p)
		}},
		"header block without end": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			b := p.block(":status", "200")
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b})
			for range 10 {
				var b []byte
				for len(b) < 16000 {
					b = append(b, p.block("a"+strings.Repeat("b", 100), strings.Repeat("c", 100))...)
				}
				_ = p.WriteContinuation(1, false, b[:16000])
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			codes := make(chan http2.ErrCode, 1)
			addr := listen(t, func(nc net.Conn) {
				p := newPeer(t, nc)
				p.await(http2.FrameHeaders)
				drained := make(chan struct{})
				go func() {
					defer close(drained)
					code, _ := p.drain()
					codes <- code
				}()
				c.do(p)
				<-drained // to close earlier would be a reset, which takes back what was sent
			})
			b.on(func(task *netloop.Task) {
				ended := 0
				conn, err := b.dial(task, addr, Options{Ended: func(Why) { ended++ }})
				if err != nil {
					t.Error(err)
					return
				}
				s, err := conn.Open(request(t, get), Outgoing{Scheme: "http"})
				if err != nil {
					t.Error(err)
					return
				}
				for conn.err == nil && task.Loop().Now()-conn.heard < int64(patience) {
					task.Sleep(time.Millisecond)
				}
				if conn.err == nil || conn.code != c.code || s.err == nil && !s.peerEnded {
					t.Errorf("%v, code %v; the stream: %v", conn.err, conn.code, s.err)
				}
				s.Close()
			})
			if got := <-codes; got != c.code && got != 0 { // a reset may overtake GOAWAY
				t.Errorf("GOAWAY says %v", got)
			}
		})
	}
}

// flood does something again and again, as long as the client takes it.
func flood(do func(*peer) error) func(*peer) {
	return func(p *peer) {
		for range 3000 {
			if do(p) != nil {
				return
			}
		}
	}
}

// TestStreamErrors has the peer do what ends a stream, and no more than that.
func TestStreamErrors(t *testing.T) {
	for name, c := range map[string]func(p *peer, id uint32){
		"upper case":           func(p *peer, id uint32) { p.head(id, true, ":status", "200", "Abc", "d") },
		"no status":            func(p *peer, id uint32) { p.head(id, true, "a", "b") },
		"two statuses":         func(p *peer, id uint32) { p.head(id, true, ":status", "200", ":status", "200") },
		"status behind":        func(p *peer, id uint32) { p.head(id, true, "a", "b", ":status", "200") },
		"status that is none":  func(p *peer, id uint32) { p.head(id, true, ":status", "+20") },
		"status 101":           func(p *peer, id uint32) { p.head(id, true, ":status", "101") },
		"other pseudo field":   func(p *peer, id uint32) { p.head(id, true, ":status", "200", ":path", "/") },
		"connection":           func(p *peer, id uint32) { p.head(id, true, ":status", "200", "connection", "x") },
		"transfer-encoding":    func(p *peer, id uint32) { p.head(id, true, ":status", "200", "transfer-encoding", "chunked") },
		"line break":           func(p *peer, id uint32) { p.head(id, true, ":status", "200", "a", "b\r\nc: d") },
		"NUL":                  func(p *peer, id uint32) { p.head(id, true, ":status", "200", "a", "b\x00") },
		"white space":          func(p *peer, id uint32) { p.head(id, true, ":status", "200", "a", " b") },
		"empty name":           func(p *peer, id uint32) { p.head(id, true, ":status", "200", "", "b") },
		"content-length, none": func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-length", "+1") },
		"content-length, two": func(p *peer, id uint32) {
			p.head(id, true, ":status", "200", "content-length", "1", "content-length", "2")
		},
		"too little data": func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-length", "1") },
		"too much data": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "1")
			_ = p.WriteData(id, true, []byte("xy"))
		},
		"data before a head":   func(p *peer, id uint32) { _ = p.WriteData(id, true, []byte("xy")) },
		"interim that ends":    func(p *peer, id uint32) { p.head(id, true, ":status", "100") },
		"trailers without end": func(p *peer, id uint32) { p.head(id, false, ":status", "200"); p.head(id, false, "a", "b") },
		"trailers with status": func(p *peer, id uint32) { p.head(id, false, ":status", "200"); p.head(id, true, ":status", "200") },
		"window of 0":          func(p *peer, id uint32) { _ = p.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) },
		"window too large":     func(p *peer, id uint32) { _ = p.WriteWindowUpdate(id, 1<<31-1) },
		"stream window": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			for range 17 {
				_ = p.WriteData(id, false, make([]byte, 16<<10))
			}
		},
		"too many fields": func(p *peer, id uint32) {
			fields := []string{":status", "200"}
			for i := range 200 {
				fields = append(fields, fmt.Sprint("a", i), "b")
			}
			p.head(id, true, fields...)
		},
		"too large a head": func(p *peer, id uint32) {
			fields := []string{":status", "200"}
			for i := range 60 {
				fields = append(fields, fmt.Sprint("a", i), strings.Repeat("b", 1000))
			}
			b := p.block(fields...)
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:10000], EndStream: true})
			for b = b[10000:]; len(b) > 0; b = b[min(len(b), 10000):] {
				_ = p.WriteContinuation(id, len(b) <= 10000, b[:min(len(b), 10000)])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := listen(t, func(nc net.Conn) {
				p := newPeer(t, nc)
				p.await(http2.FrameHeaders)
				c(p, 1)
				for f := p.await(http2.FrameRSTStream); f != nil && f.Header().StreamID != 1; {
				}
				p.await(http2.FrameHeaders)
				p.head(3, true, ":status", "200")
				p.drain()
			})
			b.on(func(task *netloop.Task) {
				conn, err := b.dial(task, addr, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				s, err := conn.Open(request(t, get), Outgoing{Scheme: "http"})
				if err != nil {
					t.Error(err)
					return
				}
				for s.err == nil && conn.err == nil {
					task.Sleep(time.Millisecond)
				}
				if s.err == nil || s.err.Kind != fault.Malformed || s.err.Retryable || conn.err != nil {
					t.Errorf("%v; the connection: %v", s.err, conn.err)
				}
				s.Close()
				if a := b.do(task, conn, request(t, get), ""); a.err != nil || a.status != 200 {
					t.Errorf("the stream after it: %v", a.err)
				}
			})
		})
	}
}

// TestNotHTTP2 connects to servers that speak something else.
func TestNotHTTP2(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(net.Conn)
		says string
	}{
		"HTTP/1.1": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1000))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "HTTP/1.1"},
		"silence": {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "no SETTINGS"},
		"closed":  {func(net.Conn) {}, ""},
		"ping first": {func(c net.Conn) {
			f := http2.NewFramer(c, c)
			_ = f.WritePing(false, [8]byte{})
			_, _ = io.Copy(io.Discard, c)
		}, "not SETTINGS"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := listen(t, c.do)
			b.on(func(task *netloop.Task) {
				nc, err := task.Loop().Dial(task, addr, 0, netloop.DialOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				limit := 5 * time.Second
				if name == "silence" {
					limit = 50 * time.Millisecond
				}
				_, fe := Start(task, nc, nc, Options{}, task.Loop().Now()+int64(limit))
				if fe == nil || !fe.Retryable || !strings.Contains(fe.Error(), c.says) || !nc.Closed() {
					t.Errorf("%v, closed: %v", fe, nc.Closed())
				}
			})
		})
	}
}

// TestKeepAlivePing gives up a peer that does not answer any more, and keeps one that does.
func TestKeepAlivePing(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprint(answers), func(t *testing.T) {
			b := newBench(t)
			addr := listen(t, func(nc net.Conn) {
				p := newPeer(t, nc)
				for n := 0; ; n++ {
					f := p.await(http2.FramePing)
					if f == nil {
						return
					}
					if answers {
						_ = p.WritePing(true, f.(*http2.PingFrame).Data)
					}
					if n == 3 {
						p.head(1, true, ":status", "200")
					}
				}
			})
			b.on(func(task *netloop.Task) {
				c, err := b.dial(task, addr, Options{KeepAlive: 20 * time.Millisecond, PingTimeout: 500 * time.Millisecond})
				if err != nil {
					t.Error(err)
					return
				}
				c.options.PingTimeout = 200 * time.Millisecond
				if answers {
					c.options.PingTimeout = patience // however long the machine stands still
				}
				c.keeping = task.Loop().AfterFunc(0, c.keepAlive)
				s, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
				defer s.Close()
				a := b.take(task, s, answer{})
				if answers && (a.err != nil || a.status != 200) || !answers && (a.err == nil || fault.From(a.err).Status != 504) {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

// TestLostConnection fails the streams of a connection that ends.
func TestLostConnection(t *testing.T) {
	b := newBench(t)
	addr := listen(t, func(nc net.Conn) {
		p := newPeer(t, nc)
		p.await(http2.FrameHeaders)
		p.await(http2.FrameHeaders)
		p.head(1, false, ":status", "200")
		_ = p.WriteData(1, false, []byte("so far"))
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		first, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
		second, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
		if a := b.take(task, second, answer{}); a.err == nil || !second.err.Retryable || a.refused {
			t.Errorf("%+v", a)
		}
		if a := b.take(task, first, answer{}); a.err == nil || first.err.Retryable || a.body != "so far" {
			t.Errorf("%+v", a)
		}
		first.Close()
		second.Close()
	})
}
